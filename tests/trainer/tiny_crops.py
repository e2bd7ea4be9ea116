"""A folder of small coloured crops: identities are patterns, cameras shift the brightness. For tests of whole runs."""

from pathlib import Path

import cv2
import numpy as np


def write_market(root: Path, identities: int = 6, cameras: int = 3, crops: int = 3, seed: int = 0) -> Path:
    """Market-1501 layout: `crops` crops of each identity and camera; other identities in query and gallery."""
    generator = np.random.default_rng(seed)
    for identity in range(1, 2 * identities + 1):
        train = identity <= identities
        for camera in range(1, cameras + 1):
            for number in range(crops):
                folder = "bounding_box_train" if train else "query" if number == 0 else "bounding_box_test"
                name = f"{identity:04d}_c{camera}s1_{number:06d}_00.png"
                (root / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / name), picture(identity, camera, generator))
    return root


def picture(identity: int, camera: int, generator: np.random.Generator) -> np.ndarray:
    """(32, 16, 3) uint8 BGR: an 8×4 checkerboard whose colours belong to the identity."""
    colours = np.random.default_rng(identity).integers(0, 256, (8, 4, 3))
    image = colours.repeat(4, axis=0).repeat(4, axis=1) + 6 * camera
    return np.clip(image + generator.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
