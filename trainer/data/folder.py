"""Your own crops: a folder of pictures, or a CSV table of them.

**Folder.** `train/`, `query/` and `gallery/` below it are what they say; without them every picture is for training.
A pattern reads the camera, time, tracklet and, for query and gallery, the identity from the path below the folder,
for example

    (?P<identity>[a-z]+_\\d+)_cam(?P<camera>\\d+)            car_0003_cam1.jpg

**Table.** Columns: `path` (absolute, or relative to the table) and, each optional, `split` (train | query | gallery),
`camera`, `time` (seconds since the epoch), `tracklet`, `identity`. An empty cell is unknown. Identities of training
rows are not kept.

Cameras may have any names; they are numbered in alphabetical order, the same in all splits. A tracklet's name counts
within its camera.
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from trainer.data.images import list_images
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import ConfigurationError, DataError

SPLITS = ("train", "query", "gallery")
FIELDS = ("identity", "camera", "time", "tracklet")
COLUMNS = ("path", "split", *FIELDS)

Facts = dict[str, str]  # field → text; a missing or empty field is unknown


def read_folder(root: Path, pattern: str | None = None) -> Dataset:
    """The pictures below a folder; `DataError` without pictures or a match, `ConfigurationError` for a bad pattern."""
    expression = _compile(pattern)
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()} or {"train": root}
    found: dict[str, list[tuple[Path, Facts]]] = {split: [] for split in SPLITS}
    for split, folder in folders.items():
        for path in list_images(folder):
            below = path.relative_to(root).as_posix()
            match = expression.search(below) if expression else None
            if expression and not match:
                raise DataError(f"{path}: the name does not match the pattern {pattern!r}")
            found[split].append((path, {key: text or "" for key, text in match.groupdict().items()} if match else {}))
    return _dataset(root.name, found)


def read_table(file: Path) -> Dataset:
    """The pictures of a CSV table; `DataError` names the line that is wrong."""
    found: dict[str, list[tuple[Path, Facts]]] = {split: [] for split in SPLITS}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            columns = table.fieldnames or []
            if "path" not in columns or not set(columns) <= set(COLUMNS):
                raise DataError(f"{file}: expected columns out of {', '.join(COLUMNS)}, at least `path`, got {columns}")
            for line in table:
                where = f"{file}, line {table.line_num}"
                if None in line or not line["path"]:
                    raise DataError(f"{where}: expected {len(columns)} cells and a path, got {line}")
                split = line.get("split") or "train"
                if split not in SPLITS:
                    raise DataError(f"{where}: split {split!r}, expected one of {', '.join(SPLITS)}")
                found[split].append((file.parent / line["path"], {key: line.get(key) or "" for key in FIELDS}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a CSV table: {error}") from error
    return _dataset(file.stem, found)


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError([f"pattern {pattern!r} is not a regular expression: {error}"]) from error
    unknown = set(expression.groupindex) - set(FIELDS)
    if unknown or not expression.groupindex:
        raise ConfigurationError(
            [f"pattern {pattern!r}: expected named groups out of {', '.join(FIELDS)}, got {sorted(unknown) or 'none'}"]
        )
    return expression


def _dataset(name: str, found: dict[str, list[tuple[Path, Facts]]]) -> Dataset:
    """Number cameras, tracklets and identities over all splits together."""
    everything = [facts for split in SPLITS for _, facts in found[split]]
    cameras = _numbers({facts["camera"] for facts in everything if facts.get("camera")})
    identities = _numbers({facts["identity"] for facts in everything if facts.get("identity")})
    tracklets = _numbers({_tracklet(facts) for facts in everything if facts.get("tracklet")})
    rows: dict[str, list[Row]] = {}
    for split in SPLITS:
        rows[split] = []
        for path, facts in found[split]:
            identity = identities.get(facts.get("identity", ""), -1)
            if split != "train" and identity < 0:
                raise DataError(f"{path}: a {split} picture needs an identity to be measured: give it one")
            camera, tracklet = cameras.get(facts.get("camera", ""), -1), tracklets.get(_tracklet(facts), -1)
            rows[split].append(Row(path, identity, camera, _seconds(path, facts.get("time", "")), tracklet))
    if bool(rows["query"]) != bool(rows["gallery"]):
        raise DataError(f"{name}: query and gallery belong together, found only one of them")
    test = FixedTest(labelled_of(rows["query"]), labelled_of(rows["gallery"])) if rows["query"] else None
    return Dataset(name, crops_of(rows["train"]), test, camera_names=tuple(cameras))


def _numbers(names: set[str]) -> dict[str, int]:
    """0, 1, … in order; numbers by value, so that camera 10 comes after camera 2."""
    ordered = sorted(names, key=lambda name: [(not part.isdigit(), int(part) if part.isdigit() else 0, part)
                                              for part in re.split(r"(\d+)", name) if part])  # fmt: skip
    return {name: number for number, name in enumerate(ordered)}


def _tracklet(facts: Facts) -> str:
    """A name for the tracklet that is unique over all cameras; not in `_numbers` where the picture has none."""
    return f"{facts.get('camera', '')}\n{facts['tracklet']}" if facts.get("tracklet") else ""


def _seconds(path: Path, text: str) -> float:
    if not text:
        return math.nan
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{path}: time {text!r}, expected seconds since the epoch, for example 1700000000.25")
    return seconds
