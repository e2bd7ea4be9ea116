"""Which crops of one passage show the same picture: a hash that compression and a step of a pixel do not move."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 8


def picture_hash(jpeg: bytes) -> int | None:
    """64 bits: whether each of 8 × 8 places is brighter than its right neighbour (dHash); None for no picture."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        return None
    small = cv2.resize(image, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def first_of_each(hashes: Sequence[int], bits: int) -> NDArray[np.int64]:
    """For each hash (n,), in order of preference, the first kept one within so many bits, itself where it is kept."""
    result, kept = np.arange(len(hashes)), list[int]()
    for number, own in enumerate(hashes):
        near = next((other for other in kept if (own ^ hashes[other]).bit_count() <= bits), number)
        result[number] = near
        if near == number:
            kept.append(number)
    return result
