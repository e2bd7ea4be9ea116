"""What of a round goes onto its page, and the page as `report/index.html` of the round.

All of it comes from files of the round, so it may be made again; it must be made before the round's pictures go.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.adapt import rounds
from trainer.adapt.crops.material import CROPS, JUDGED, picture_of
from trainer.adapt.page import changes
from trainer.adapt.page.outcome import outcome_of
from trainer.adapt.rounds import BEFORE, REPORT, RUN, Round
from trainer.adapt.settings import DAY_S, SiteSettings
from trainer.data.records import spread
from trainer.features import load_labels_of_paths
from trainer.report.adaptation import Adaptation, Came, Changed, Learned, Picture, day, page_of
from trainer.report.run import LABELS

LINES, IN_LINE, PAIRS = 8, 12, 8
HOUR_S = 3600.0
PAGE = "index.html"


@dataclass(frozen=True, slots=True)
class Crops:
    """N crops that were trained on."""

    ids: NDArray[np.int64]  # (N,) ascending
    cameras: NDArray[np.int64]  # (N,) rows of `names`
    names: tuple[str, ...]
    passages: NDArray[np.int64]  # (N,) from 0
    times_s: NDArray[np.float64]  # (N,)


def write(settings: SiteSettings, one: Round, say: Callable[[str], None]) -> None:
    """The page of a round that is about to be closed. A page that cannot be made is said, and stops nothing."""
    path = rounds.folder_of(settings.folder, one.number) / REPORT / PAGE
    try:
        found, one.shown_from_s = adaptation_of(settings, one)
        page = page_of(found)
        rounds.put(path, lambda file: file.write(page.encode()))
    except Exception as error:  # of whatever kind: what was decided is worth more than its page
        say(f"round {one.number}: its page could not be made: {type(error).__name__}: {error}")
    else:
        say(f"round {one.number}: {path}")


def adaptation_of(settings: SiteSettings, one: Round) -> tuple[Adaptation, float | None]:
    """What the page says, and when the oldest crop was taken that it shows; None where it shows none."""
    folder = rounds.folder_of(settings.folder, one.number)
    crops = _crops(folder / CROPS) if (folder / CROPS).is_file() else None
    learned, shown_s = (None, []) if crops is None else _learned(folder, crops, settings.keep.window_days)
    said, chosen, judge = outcome_of(one), one.done.get("choose", {}), one.done.get("judge", {})
    facts = {
        "crops to learn from": f"{chosen.get('crops', 0):,}",
        "passages": f"{chosen.get('passages', 0):,}",
        "cameras": str(len(chosen.get("cameras", {}))),
        "hours": str(chosen.get("hours", 0)),
        "passages to judge by": f"{chosen.get('judged_passages', 0):,}",
        "begun from": f"round {rounds.number_of(one.current)}" if one.current else "the start",
    }
    if known := chosen.get("known_hours"):
        facts["hours trained on before, so not judged by"] = str(known)
    curves = folder / RUN / "report" / "curves.png"
    until = "" if not shown_s else day(min(shown_s) + settings.keep.days * DAY_S)
    page = Adaptation(
        title=f"{settings.site}, round {one.number}",
        when=day(one.began_s),
        outcome=said.colour,
        decision=said.decision,
        sentence=said.sentence,
        because=said.because,
        advice=said.advice,
        facts=facts,
        came=None if crops is None or not len(crops.ids) else _came(folder, crops),
        learned=learned,
        verdict=judge if "measures" in judge else {},
        bundle=one.done.get("export", {}) if not one.reason else {},
        curves=curves if curves.is_file() else None,
        kept_until=until,
    )
    return page, min(shown_s, default=None)


def _crops(table: Path) -> Crops:
    rows = sorted(((int(Path(row["path"]).stem), row) for row in _rows(table)), key=lambda one: one[0])
    names = sorted({row["camera"] for _, row in rows})
    passages: dict[str, int] = {}
    return Crops(
        np.array([number for number, _ in rows], np.int64),
        np.array([names.index(row["camera"]) for _, row in rows], np.int64),
        tuple(names),
        np.array([passages.setdefault(row["tracklet"], len(passages)) for _, row in rows], np.int64),
        np.array([float(row["time"]) for _, row in rows], np.float64),
    )


def _came(folder: Path, crops: Crops) -> Came:
    judged = [(row["camera"], float(row["captured_s"])) for row in _rows(folder / JUDGED)]
    names = sorted({*crops.names, *(camera for camera, _ in judged)})
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((2, len(names), 24), np.int64)
    own = np.array([place[name] for name in crops.names], np.int64)[crops.cameras]
    np.add.at(counts[0], (own, _hours(crops.times_s)), 1)
    there, times_s = np.array([place[camera] for camera, _ in judged], np.int64), np.array([at_s for _, at_s in judged])
    np.add.at(counts[1], (there, _hours(times_s)), 1)
    days = Counter((np.concatenate([crops.times_s, times_s]) // DAY_S).astype(int).tolist())
    every = range(min(days), max(days) + 1) if max(days) - min(days) < 400 else sorted(days)
    named = {datetime.fromtimestamp(one * DAY_S, tz=timezone.utc).strftime("%Y-%m-%d"): days[one] for one in every}
    return Came(names, counts[0], counts[1], named)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _hours(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return (times_s // HOUR_S % 24).astype(np.int64)


def _learned(folder: Path, crops: Crops, window_days: float) -> tuple[Learned | None, list[float]]:
    """Clusters before and after, and the capture times of the crops that are shown: all of them of the window, so that
    the page outlives it."""
    known = [_labels(folder / name, crops) for name in (BEFORE, f"{RUN}/{LABELS}")]
    labels = [one for one in known if one is not None]
    if not labels:
        return None, []
    counts: dict[str, list[str]] = {name: [] for name in changes.said(labels[0], crops.cameras)}
    for one in labels:
        for name, value in changes.said(one, crops.cameras).items():
            counts[name].append(value)
    passages = [changes.of_passages(one, crops.passages) for one in labels]
    first = np.unique(crops.passages, return_index=True)[1]
    show = _Show(folder, crops, crops.times_s.max() - window_days * DAY_S)
    there = show.there
    cameras = crops.cameras[first]
    before, after = passages[0], passages[-1]
    lines = [
        show.line(np.flatnonzero((after == one) & there), before)
        for one in changes.widest(np.where(there, after, -1), cameras, LINES)
    ]
    joined = parted = None
    if len(labels) > 1:
        joined, parted = (show.changed(*pair, cameras) for pair in ((before, after), (after, before)))
    return Learned(counts, lines, joined, parted), show.times_s


def _labels(file: Path, crops: Crops) -> NDArray[np.int64] | None:
    """(N,) of these crops, −1 also for those that the file does not know; None without the file."""
    if not file.is_file():
        return None
    labels, paths = load_labels_of_paths(file)
    known = dict(zip((int(Path(path).stem) for path in paths), labels.tolist(), strict=True))
    return np.array([known.get(number, -1) for number in crops.ids.tolist()], np.int64)


class _Show:
    """Pictures of passages, their middle crop each; remembers when they were taken."""

    def __init__(self, folder: Path, crops: Crops, since_s: float) -> None:
        self._folder, self._crops, self.times_s = folder, crops, list[float]()
        order = np.lexsort((crops.times_s, crops.passages))
        sizes = np.bincount(crops.passages)
        self._middle = order[np.cumsum(sizes) - sizes + sizes // 2]  # (P,)
        self.there = crops.times_s[self._middle] >= since_s  # (P,)

    def picture(self, passage: int, group: int = -1) -> Picture:
        row = int(self._middle[passage])
        self.times_s.append(float(self._crops.times_s[row]))
        camera = self._crops.names[int(self._crops.cameras[row])]
        return Picture(picture_of(self._folder, int(self._crops.ids[row])), camera, self.times_s[-1], group)

    def line(self, passages: NDArray[np.int64], before: NDArray[np.int64]) -> list[Picture]:
        """Some of one cluster in order of time, coloured by what they were in."""
        chosen = passages[spread(len(passages), IN_LINE)]
        chosen = chosen[np.argsort(self._crops.times_s[self._middle[chosen]], kind="stable")]
        groups = {label: place for place, label in enumerate(dict.fromkeys(before[chosen].tolist())) if label >= 0}
        return [self.picture(int(one), groups.get(int(before[one]), -1)) for one in chosen]

    def changed(self, before: NDArray[np.int64], after: NDArray[np.int64], cameras: NDArray[np.int64]) -> Changed:
        count, _ = changes.came_together(before, after, cameras, 0)
        _, some = changes.came_together(
            np.where(self.there, before, -1), np.where(self.there, after, -1), cameras, PAIRS
        )
        return Changed(count, [(self.picture(a), self.picture(b)) for a, b in some])
