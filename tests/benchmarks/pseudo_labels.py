"""How good the clusters of a model's features are, against identities that training never sees.

    PYTHONPATH=. python tests/benchmarks/pseudo_labels.py MODEL DATA [--k1 20 30] [--size 128 64] [--json FILE]

DATA has the layout of Market-1501. One line per k1, eps and what the clusters may know beside the pictures: clusters,
the largest one, share of outliers, silhouette (label-free, what `eps_candidates` chooses by) and adjusted Rand index
(with labels, and therefore only here). Of an ONNX file, the features are those of the trunk that would be trained.

The data has no tracklets. Those used here are made up from what a tracker could have known: crops of one camera, at
most two seconds apart, that look alike; the first line says how pure they are. The second is about what SCL draws to a
crop and pushes away from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from trainer.clustering.quality import adjusted_rand
from trainer.commands import load_network
from trainer.config import PERSON_INPUT
from trainer.data import market1501
from trainer.data.cache import cached
from trainer.data.records import Crops
from trainer.extract import ExtractSettings, features_of
from trainer.labels import LabelSettings, clusters
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder
from trainer.parallel import join

EPS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
GAP_S, ALIKE = 2.0, 0.9
NEAREST, NEXT = 7, 500  # SCL's positives and negatives
CENTRED = {"camera_centred": True}
TRACKS = {"track_weight": 0.25, "keep_apart": True}
TIME = {"transits": True}
KNOWN = {
    "pictures": {},
    "cameras": CENTRED,
    "cameras, tracks": CENTRED | TRACKS,
    "cameras, time": CENTRED | TIME,
    "cameras, tracks, time": CENTRED | TRACKS | TIME,
}


def features_and_truth(
    model: Path, data: Path, cache: Path, size: tuple[int, int] | None
) -> tuple[np.ndarray, Crops, np.ndarray]:
    """Unit rows (N, D) float32, and the training crops with their identities (N,). `size` is the height and width that
    an ONNX file is to see."""
    labelled = market1501.labelled_train(data)
    if model.suffix == ".onnx":
        settings = ModelSettings(backbone="onnx", weights=model, pooling="average", unfold_batch_norm=False)
        height, width = size or (PERSON_INPUT.height_px, PERSON_INPUT.width_px)
        network = new_embedder(blueprint_of(settings, (height, width)))
        spec = PERSON_INPUT.model_copy(update={"height_px": height, "width_px": width})
    else:
        network, spec = load_network(model)
    pictures = cached(labelled.crops, spec, cache, 0.01)
    processes = join()
    rows = features_of(network.to(processes.device), pictures.pixels, spec, ExtractSettings(), processes)
    kept = labelled.take(pictures.kept)
    return rows, kept.crops, kept.identities


def with_tracklets(crops: Crops, features: np.ndarray) -> Crops:
    """The crops with made-up tracklets: each crop goes on with the most similar crop that its camera saw in the
    GAP_S seconds before, if that is similar enough, else begins one."""
    order = np.lexsort((crops.times_s, crops.cameras))
    tracklets = np.full(len(crops), -1)
    for place, crop in enumerate(order):
        before = order[max(0, place - 50) : place]
        near = before[crops.cameras[before] == crops.cameras[crop]]
        near = near[crops.times_s[crop] - crops.times_s[near] <= GAP_S]
        similarities = features[near] @ features[crop]
        follows = len(near) and similarities.max() >= ALIKE
        tracklets[crop] = tracklets[near[similarities.argmax()]] if follows else tracklets.max() + 1
    return dataclasses.replace(crops, tracklets=tracklets)


def purity(tracklets: np.ndarray, identities: np.ndarray) -> float:
    """Share of the crops that show the identity most of their tracklet's crops show."""
    _, pairs = np.unique(np.stack([tracklets, identities]), axis=1, return_counts=True)
    groups = np.unique(np.stack([tracklets, identities]), axis=1)[0]
    best = np.zeros(tracklets.max() + 1, np.int64)
    np.maximum.at(best, groups, pairs)
    return float(best.sum() / len(tracklets))


def nearest_alike(features: np.ndarray, crops: Crops, identities: np.ndarray) -> tuple[float, float, float]:
    """Share of the NEAREST crops of all crops that show the same identity; and, of the same identity's crops in other
    cameras, the shares that are among the NEAREST and among the NEXT."""
    similarities = features @ features.T
    np.fill_diagonal(similarities, -2)
    order = np.argsort(-similarities, axis=1)[:, : NEAREST + NEXT]
    same, apart = identities[:, None] == identities, crops.cameras[:, None] != crops.cameras
    wanted = np.take_along_axis(same & apart, order, axis=1)
    parts = wanted[:, :NEAREST].sum(), wanted[:, NEAREST:].sum()
    right = np.take_along_axis(same, order[:, :NEAREST], axis=1).mean()
    return float(right), *(float(part / (same & apart).sum()) for part in parts)


def line(features: np.ndarray, crops: Crops, identities: np.ndarray, settings: LabelSettings) -> dict[str, Any]:
    """One clustering, without labels and against them."""
    result = clusters(features, crops, settings)
    labels = result.labels
    return {
        "k1": settings.clustering.jaccard.k1,
        "eps": result.eps,
        "clusters": int(labels.max()) + 1,
        "largest": int(np.bincount(labels[labels >= 0], minlength=1).max()),
        "outliers": float((labels < 0).mean()),
        "silhouette": result.quality.silhouette,
        "adjusted_rand": adjusted_rand(labels, identities),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.pt of a run, or the ONNX file of a start")
    parser.add_argument("data", type=Path)
    parser.add_argument("--k1", type=int, nargs="+", default=[30])
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the pictures, for an ONNX file"
    )
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/crosslane").expanduser())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = tuple(arguments.size) if arguments.size else None
    features, crops, identities = features_and_truth(arguments.model, arguments.data, arguments.cache, size)
    crops = with_tracklets(crops, features)
    print(f"{len(features)} crops, {len(np.unique(identities))} identities, {len(np.unique(crops.cameras))} cameras,",
          f"{crops.tracklets.max() + 1} made-up tracklets, {purity(crops.tracklets, identities):.1%} pure")  # fmt: skip
    right, near, after = nearest_alike(features, crops, identities)
    print(f"the {NEAREST} nearest crops: {right:.0%} show the same person; of the person's crops in other cameras,",
          f"{near:.0%} are among these and {after:.0%} among the next {NEXT}")  # fmt: skip
    lines = []
    for (known, chosen), k1, eps in product(KNOWN.items(), arguments.k1, EPS):
        clustering = {"jaccard": {"k1": k1}, "dbscan": {"eps": eps}}
        settings = LabelSettings.model_validate({**chosen, "clustering": clustering})
        found = {"known": known, **line(features, crops, identities, settings)}
        lines.append(found)
        print("  ".join(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in found.items()), flush=True)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
