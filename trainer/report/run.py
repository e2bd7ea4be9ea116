"""What a finished run leaves for people: the labels of its crops, pictures, and a page with its facts.

It may be written again and again: a run that ended in the middle of it is taken up where its training stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.clustering.recluster import Clustering
from trainer.data.records import Crops, FixedTest, spread
from trainer.features import save_labels
from trainer.measure import Embed
from trainer.report import charts, page, sheets
from trainer.runlog import read_log

LABELS = "labels.npz"
RANKED_QUERIES = 24


@dataclass(frozen=True, slots=True)
class Finished:
    """A run at its end."""

    name: str  # of the data and the method
    commit: str
    epochs: int
    crops: Crops
    features: NDArray[np.float32]  # (N, D) unit rows of the last network
    found: Clustering  # the last network's own clusters
    test: FixedTest | None  # whose ranked lists are shown
    embed: Embed


def write_run(folder: Path, run: Finished) -> None:
    """`labels.npz` and `report/` in the run's folder. Raises `WorldError` when the disk refuses, `DataError` when crops
    can no longer be read."""
    crops, labels, report = run.crops, run.found.labels, folder / "report"
    save_labels(folder / LABELS, labels, np.array([str(path) for path in crops.paths]))
    for name, chosen in sheets.notable_clusters(labels, crops.cameras).items():
        sheets.write_picture(report / f"clusters_{name}.png", sheets.cluster_sheet(crops, labels, chosen))
    sheets.write_picture(report / "outliers.png", sheets.outlier_sheet(crops, labels))
    charts.embedding_map(report / "map.png", run.features, labels)
    if run.found.transits is not None:
        charts.ways(report / "ways.png", run.found.transits)
    epochs, steps, tests = (once(read_log(folder, event)) for event in ("epoch", "step", "test"))
    charts.curves(report / "curves.png", epochs, steps, tests)
    if run.test is not None:
        sheets.write_picture(report / "ranked.png", ranked_lists(run.test, run.embed))
    page.write_page(report, run.name, facts_of(run, tests))


def once(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for every step: a run that was taken up has gone some steps twice, the second time counts."""
    return list({line["step"]: line for line in lines}.values())


def facts_of(run: Finished, tests: list[dict[str, Any]]) -> dict[str, str]:
    """The head of the page."""
    labels = run.found.labels
    facts = {
        "crops": f"{len(labels):,}",
        "epochs": str(run.epochs),
        "clusters": f"{labels.max(initial=-1) + 1:,}",
        "outliers": f"{(labels < 0).mean():.1%}",
    }
    if tests:
        facts |= {name: f"{tests[-1][name]:.1f} %" for name in ("mAP", "R1")}
        facts["camera policy"] = tests[-1]["camera_policy"]
    return facts | {"commit": run.commit[:7]}


def ranked_lists(test: FixedTest, embed: Embed) -> NDArray[np.uint8]:
    """A picture of some queries and what was found for them."""
    (query_features, query_kept), (gallery_features, kept) = embed(test.query.crops), embed(test.gallery.crops)
    query, gallery = test.query.take(query_kept), test.gallery.take(kept)
    rows = spread(len(query), RANKED_QUERIES)
    return sheets.ranked_lists(query, gallery, (query_features, gallery_features), rows)
