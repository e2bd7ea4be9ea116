"""The crops of one adaptation as files: a table to train on, and a list to judge by.

    crops.csv      what `trainer train` reads: path, camera, time, tracklet        pictures/ID.jpg
    judged.csv     the passages of held-out hours, with all that the gate asks     pictures/ID.jpg
    anchor.csv     the same of the anchor set                                      pictures/ID.jpg

Made from the shards as they lie, so it may be thrown away and made again at any time.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.shard import read_shard
from trainer.adapt.crops.index import About, Index
from trainer.adapt.crops.ingest import SHARDS
from trainer.adapt.rounds import PICTURES

CROPS, JUDGED, ANCHOR = "crops.csv", "judged.csv", "anchor.csv"


@dataclass(frozen=True, slots=True)
class Material:
    """What one adaptation is made of, for people."""

    crops: int
    passages: int
    cameras: dict[str, int]
    hours: int
    judged_crops: int
    judged_passages: int

    @classmethod
    def of(cls, trained: Sequence[About], judged: Sequence[About]) -> Material:
        names = sorted({one.camera for one in trained})
        return cls(
            crops=len(trained),
            passages=len({one.passage for one in trained}),
            cameras={name: sum(one.camera == name for one in trained) for name in names},
            hours=len({int(one.captured_s // 3600) for one in trained}),
            judged_crops=len(judged),
            judged_passages=len({one.passage for one in judged}),
        )


def lay_out(
    folder: Path,
    shards: Path,
    index: Index,
    trained: NDArray[np.int64],
    judged: NDArray[np.int64],
    *,
    anchor: NDArray[np.int64],
) -> Material:
    """Write tables and pictures of these crops, by their numbers, anew. Raises `ShardError`, OSError."""
    wanted = {one.id: one for one in index.about(np.concatenate([trained, judged, anchor]))}
    pictures = folder / PICTURES
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(mode=0o700, parents=True)
    for shard, crops in groupby(wanted.values(), key=lambda one: one.shard):
        names = {one.key: pictures / f"{one.id}.jpg" for one in crops}
        for crop in read_shard(shards / SHARDS / shard):
            if (path := names.get(crop.record.key)) is not None:
                path.write_bytes(crop.jpeg)
    one_side, other_side, third_side = (
        [wanted[number] for number in side.tolist() if number in wanted] for side in (trained, judged, anchor)
    )
    _write(folder / CROPS, ("path", "camera", "time", "tracklet"), map(_for_training, one_side))
    _write(folder / JUDGED, About._fields, other_side)
    _write(folder / ANCHOR, About._fields, third_side)
    return Material.of(one_side, other_side)


def read_about(table: Path) -> list[About]:
    """The crops to judge by, of JUDGED or ANCHOR; their pictures are `picture_of`."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [About(int(row[0]), *row[1:6], *map(float, row[6:])) for row in rows]  # type: ignore[arg-type]


def picture_of(folder: Path, number: int) -> Path:
    return folder / PICTURES / f"{number}.jpg"


def _for_training(one: About) -> tuple[Any, ...]:
    return f"{PICTURES}/{one.id}.jpg", one.camera, repr(one.captured_s), one.passage


def _write(path: Path, columns: Sequence[str], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
