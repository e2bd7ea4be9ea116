"""What `associate.similarity` should say for an embedder: similarities of one object and of two, on two cameras.

    python tests/benchmarks/similarity_prior.py --model osnet_x0_25_msmt17.onnx --size 128 256 market_dev

A folder holds `query` and `gallery` (or `bounding_box_test`) with pictures named like Market-1501's
(0007_c1s6_028546_01.jpg) or like car_0003_cam1.jpg. All pictures of one object on one camera play one tracklet, and
two tracklets are compared as the association does: at most eight diverse embeddings each, made free of the camera's
mean, mean of the three best cosines.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from edge_app.contract.preprocess import InputSpec
from edge_app.contract.similarity import Track, debiased, similarity
from edge_app.perception.embed import EmbedderSettings, open_embedder
from edge_app.perception.finished import diverse
from edge_app.types import Floats, View

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FOLDERS = ("query", "gallery", "bounding_box_test")
NAMES = (re.compile(r"^(?P<object>\d{4})_c(?P<camera>\d)"), re.compile(r"^(?P<object>[a-z]+_\d+)_cam(?P<camera>\d)"))
PICTURES_AT_ONCE = 256

Tracklets = dict[tuple[str, str], Floats]  # (object, camera) → (M, D) float32 unit rows


def pictures(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Pictures by object and camera; distractors (`0000_…`, `-1_…`) and other files are left out."""
    found = defaultdict(list)
    for path in sorted(path for name in FOLDERS for path in folder.glob(f"{name}/*.jpg")):
        match = next((m for pattern in NAMES if (m := pattern.match(path.name))), None)
        if match and match["object"] != "0000":
            found[match["object"], match["camera"]].append(path)
    return dict(found)


def tracklets(embedder, found: dict[tuple[str, str], list[Path]]) -> Tracklets:
    """At most eight diverse embeddings of each object on each camera."""
    import cv2

    paths = [path for group in found.values() for path in group]
    rows = []
    for start in range(0, len(paths), PICTURES_AT_ONCE):
        crops = [cv2.imread(str(path)) for path in paths[start : start + PICTURES_AT_ONCE]]
        rows += list(embedder.embed([View("", "", 0.0, np.zeros(4, np.float32), 1.0, crop) for crop in crops]))
    remaining = iter(rows)
    groups = {key: [next(remaining) for _ in group] for key, group in found.items()}
    return {
        key: np.stack([group[row] for row in diverse(group, [1.0] * len(group), 8)]) for key, group in groups.items()
    }


def without_cameras(given: Tracklets) -> Tracklets:
    """As the association compares them when every camera's mean is known."""
    tracks = debiased([Track(camera, 0.0, 0.0, rows) for (_, camera), rows in given.items()])
    return {key: track.embeddings for key, track in zip(given, tracks, strict=True)}


def statistics(given: Tracklets) -> dict[str, float]:
    """Means and standard deviations over all pairs of tracklets of two cameras."""
    keys = sorted(given)
    genuine, impostor = [], []
    for index, left in enumerate(keys):
        for right in keys[index + 1 :]:
            if left[1] != right[1]:
                value = similarity(given[left], given[right])
                (genuine if left[0] == right[0] else impostor).append(value)
    return {
        "genuine_mean": float(np.mean(genuine)),
        "genuine_std": float(np.std(genuine)),
        "impostor_mean": float(np.mean(impostor)),
        "impostor_std": float(np.std(impostor)),
        "genuine_pairs": len(genuine),
        "impostor_pairs": len(impostor),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="embedder, ONNX")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="ImageNet-normalised RGB input")
    arguments = parser.parse_args()
    spec = None
    if arguments.size:
        spec = InputSpec(width_px=arguments.size[0], height_px=arguments.size[1], **IMAGENET)
    embedder = open_embedder(EmbedderSettings(path=arguments.model, input=spec))
    found = tracklets(embedder, pictures(arguments.folder))
    measured = {"as they are": statistics(found), "without the cameras' means": statistics(without_cameras(found))}
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
