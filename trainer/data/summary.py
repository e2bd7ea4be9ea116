"""What was read, in numbers: the text of `trainer inspect`."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.data.images import Checked, check_images
from trainer.data.records import Crops, Dataset, FixedTest, Labelled


def summarise(dataset: Dataset, limit: float = 1.0) -> dict[str, Any]:
    """Counts, cameras, sizes and bad files of every part, ready for JSON. Decodes every picture once.

    `limit` is the share of unreadable pictures above which a `DataError` is raised; by default only when all are.
    """
    parts: dict[str, Crops | Labelled] = {"train": dataset.train} if len(dataset.train) else {}
    if isinstance(dataset.test, FixedTest):
        parts |= {"query": dataset.test.query, "gallery": dataset.test.gallery}
    elif dataset.test is not None:
        parts |= {"test": dataset.test.crops}
    return {
        "name": dataset.name,
        "left_out": list(dataset.left_out),
        "parts": {name: _part(part, dataset.camera_names, limit) for name, part in parts.items()},
    }


def _part(part: Crops | Labelled, camera_names: tuple[str, ...], limit: float) -> dict[str, Any]:
    crops = part.crops if isinstance(part, Labelled) else part
    checked = check_images(crops, limit)
    numbers, counts = np.unique(crops.cameras, return_counts=True)
    facts: dict[str, Any] = {
        "pictures": len(crops),
        "cameras": {
            _camera(int(number), camera_names): int(count) for number, count in zip(numbers, counts, strict=True)
        },
        "with_time": int(np.isfinite(crops.times_s).sum()),
        "tracklets": len(np.unique(crops.tracklets[crops.tracklets >= 0])),
        "width_px": _range(checked, 0),
        "height_px": _range(checked, 1),
        "bad": [{"path": str(one.path), "reason": one.reason} for one in checked.bad],
    }
    if isinstance(part, Labelled):  # measured parts only: of training pictures nothing is known, or said
        facts["identities"] = len(np.unique(part.identities))
    return facts


def _camera(number: int, names: tuple[str, ...]) -> str:
    return "unknown" if number < 0 else names[number] if names else str(number)


def _range(checked: Checked, side: int) -> dict[str, float]:
    low, middle, high = np.percentile(checked.sizes_px[:, side], (0, 50, 100))
    return {"smallest": float(low), "median": float(middle), "largest": float(high)}
