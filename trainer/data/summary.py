"""What was read, in numbers and in sentences: what every command says first, and the text of `trainer inspect`."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_app.contract.yaml import plain
from trainer.data.images import Checked, check_images
from trainer.data.records import Crops, Dataset, FixedTest, Labelled
from trainer.errors import shown

CAMERAS_SHOWN = 40
BAD_SHOWN = 20


def told(dataset: Dataset) -> list[str]:
    """What was found, one line for each part, and what was left out. Nothing is decoded."""
    parts = [_sentence(name, _known(part, dataset.camera_names)) for name, part in _parts(dataset).items()]
    return parts + [f"left out: {line}" for line in dataset.left_out]


def told_crops(name: str, crops: Crops) -> str:
    """What is known of crops whose cameras have numbers only."""
    return _sentence(name, _known(crops, ()))


def summarise(dataset: Dataset, limit: float = 1.0) -> dict[str, Any]:
    """Counts, cameras, sizes and bad files of every part, ready for JSON. Decodes every picture once.

    `limit` is the share of unreadable pictures above which a `DataError` is raised; by default only when all are.
    """
    parts = {name: _part(part, dataset.camera_names, limit) for name, part in _parts(dataset).items()}
    return {"name": dataset.name, "left_out": list(dataset.left_out), "parts": parts}


def described(facts: dict[str, Any]) -> list[str]:
    """The numbers of `summarise` for people; camera and file names are cut off after the first ones."""
    lines = [f"left out: {line}" for line in facts["left_out"]]
    for name, part in facts["parts"].items():
        width, height = (
            f"{side['smallest']:.0f}–{side['largest']:.0f} px (median {side['median']:.0f})"
            for side in (part["width_px"], part["height_px"])
        )
        bad = part["bad"]
        lines += [_sentence(name, part), f"  width {width}, height {height}, {len(bad)} bad files"]
        lines += [f"    {item['path']}: {item['reason']}" for item in bad[:BAD_SHOWN]]
        lines += [f"    … and {len(bad) - BAD_SHOWN} more"] * (len(bad) > BAD_SHOWN)
    return lines


def _parts(dataset: Dataset) -> dict[str, Crops | Labelled]:
    parts: dict[str, Crops | Labelled] = {"train": dataset.train} if len(dataset.train) else {}
    if isinstance(dataset.test, FixedTest):
        parts |= {"query": dataset.test.query, "gallery": dataset.test.gallery}
    elif dataset.test is not None:
        parts |= {"test": dataset.test.crops}
    return parts


def _known(part: Crops | Labelled, camera_names: tuple[str, ...]) -> dict[str, Any]:
    """What is known of the pictures without looking at them."""
    crops = part.crops if isinstance(part, Labelled) else part
    numbers, counts = np.unique(crops.cameras, return_counts=True)
    names = (_camera(int(number), camera_names) for number in numbers)
    facts: dict[str, Any] = {
        "pictures": len(crops),
        "cameras": dict(zip(names, counts.tolist(), strict=True)),
        "with_time": int(np.isfinite(crops.times_s).sum()),
        "tracklets": len(np.unique(crops.tracklets[crops.tracklets >= 0])),
    }
    if isinstance(part, Labelled):  # measured parts only: of training pictures nothing is known, or said
        facts["identities"] = len(np.unique(part.identities))
    return facts


def _part(part: Crops | Labelled, camera_names: tuple[str, ...], limit: float) -> dict[str, Any]:
    checked = check_images(part.crops if isinstance(part, Labelled) else part, limit)
    return {
        **_known(part, camera_names),
        "width_px": _range(checked, 0),
        "height_px": _range(checked, 1),
        "bad": [{"path": shown(one.path), "reason": one.reason} for one in checked.bad],
    }


def _sentence(name: str, known: dict[str, Any]) -> str:
    count, timed, tracklets = known["pictures"], known["with_time"], known["tracklets"]
    cameras = [f"{camera} ({crops})" for camera, crops in known["cameras"].items()]
    listed = ", ".join(cameras[:CAMERAS_SHOWN]) + f", … and {len(cameras) - CAMERAS_SHOWN} more" * (
        len(cameras) > CAMERAS_SHOWN
    )
    unknown = set(known["cameras"]) == {UNKNOWN_CAMERA}
    seen = len(set(known["cameras"]) - {UNKNOWN_CAMERA})
    facts = [
        "no cameras" if unknown else f"{seen} camera{'s' * (seen != 1)}: {listed}",
        f"{timed} with capture time" if timed else "no capture times",
        f"{tracklets} tracklets" if tracklets else "no tracklets",
    ]
    if "identities" in known:
        facts.append(f"{known['identities']} identities, for measuring only")
    return f"{name}: {count} crops; " + "; ".join(facts)


UNKNOWN_CAMERA = "unknown"


def _camera(number: int, names: tuple[str, ...]) -> str:
    return UNKNOWN_CAMERA if number < 0 else plain(names[number]) if names else str(number)


def _range(checked: Checked, side: int) -> dict[str, float]:
    low, middle, high = np.percentile(checked.sizes_px[:, side], (0, 50, 100))
    return {"smallest": float(low), "median": float(middle), "largest": float(high)}
