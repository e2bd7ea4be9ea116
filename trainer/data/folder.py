"""Your own crops: a folder of pictures, or a CSV table of them.

**Folder.** `train/`, `query/` and `gallery/` below it are what they say; without them every picture is for training.
Sub-folders of these that are called like a camera (`cam1`, `cam_north`, `camera 2`, `c001`) are cameras. A pattern
reads more: camera, time, tracklet and, for query and gallery, the identity. It is a regular expression, looked for in
the path below the folder, for example

    (?P<identity>[a-z]+_\\d+)_cam(?P<camera>\\d+)            car_0003_cam1.jpg
    (?P<camera>[^/]+)/[^/]+$                              north/0003.jpg: every sub-folder is a camera

**Table.** Columns: `path` (absolute, or relative to the table) and, each optional, `split` (train | query | gallery),
`camera`, `time` (seconds since the epoch), `tracklet`, `identity`. An empty cell is unknown. Identities of training
rows are not kept.

Cameras may have any names; they are numbered in natural order, the same in all splits. A tracklet's name counts within
its camera.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path

from edge_app.contract.yaml import plain
from trainer.data.listing import find_images, first_of, reasons_of
from trainer.data.naming import UNKNOWN, numbers_of
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import ConfigurationError, DataError, shown

SPLITS = ("train", "query", "gallery")
FIELDS = ("identity", "camera", "time", "tracklet")
COLUMNS = ("path", "split", *FIELDS)
CAMERA_FOLDER = re.compile(r"(?i)cam(?:era)?(?:\d.*|[-_. ].+)|c\d+")
EVERY_FOLDER = "(?P<camera>[^/]+)/[^/]+$"

Facts = dict[str, str]  # field → text; a missing or empty field is unknown


def read_folder(root: Path, pattern: str | None = None) -> Dataset:
    """The pictures below a folder; `DataError` without pictures or a match, `ConfigurationError` for a bad pattern."""
    expression = _compile(pattern)
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    left_out = _beside(root, folders) if folders else []
    found: dict[str, list[tuple[Path, Facts]]] = {split: [] for split in SPLITS}
    for split, folder in (folders or {"train": root}).items():
        listed = find_images(folder)
        left_out += reasons_of(listed.passed_over, root)
        found[split] = [(path, _facts(path, root, folder, expression)) for path in listed.pictures]
    if expression is None:
        left_out += _no_cameras(root, [path for split in SPLITS for path, facts in found[split] if not facts])
    else:
        _need_match(root, expression, [row for split in SPLITS for row in found[split]])
    return _dataset(root.name, found, left_out)


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
    unknown = sorted(set(expression.groupindex) - set(FIELDS))
    if unknown or not expression.groupindex:
        near = [difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5) for name in unknown]
        meant = ", ".join(f"did you mean `{each[0]}`?" for each in near if each)
        problem = f"expected named groups out of {', '.join(FIELDS)}, as (?P<camera>…), got {unknown or 'none'}"
        raise ConfigurationError([f"pattern {pattern!r}: {problem}{'; ' * bool(meant)}{meant}"])
    return expression


def _facts(path: Path, root: Path, folder: Path, expression: re.Pattern[str] | None) -> Facts:
    """What the path of a picture says; empty where it does not match."""
    if expression is not None:
        match = expression.search(path.relative_to(root).as_posix())
        return {key: text or "" for key, text in match.groupdict().items()} if match else {}
    names = path.relative_to(folder).parts[:-1]
    camera = next((name for name in names if CAMERA_FOLDER.fullmatch(name)), None)
    return {"camera": camera} if camera else {}


def _need_match(root: Path, expression: re.Pattern[str], rows: Sequence[tuple[Path, Facts]]) -> None:
    paths = [path for path, facts in rows if not facts]
    if paths:
        raise DataError(
            f"{shown(root)}: {len(paths)} of {len(rows)} names do not match the pattern {expression.pattern!r}: "
            f"{first_of(paths, root)}; it is looked for in the path below the folder, written as here"
        )


def _no_cameras(root: Path, paths: Sequence[Path]) -> list[str]:
    """A word on sub-folders that are not called like cameras, but may be some."""
    folders = list(
        dict.fromkeys(path.parent for path in paths if path.parent.relative_to(root).as_posix() not in SPLITS)
    )
    folders = [folder for folder in folders if folder != root]
    if not folders:
        return []
    return [
        f"the names of {len(folders)} sub-folders, not like cam1 and so not taken for cameras: "
        f"{first_of(folders, root)}; if they are cameras, give the pattern {EVERY_FOLDER!r}"
    ]


def _beside(root: Path, folders: dict[str, Path]) -> list[str]:
    """What lies beside the folders of the splits."""
    paths = [path for path in sorted(root.iterdir()) if path.name not in folders]
    return [f"{len(paths)} beside {', '.join(folders)}: {first_of(paths, root)}"] if paths else []


def _dataset(name: str, found: dict[str, list[tuple[Path, Facts]]], left_out: Sequence[str] = ()) -> Dataset:
    """Number cameras, tracklets and identities over all splits together."""
    everything = [facts for split in SPLITS for _, facts in found[split]]
    cameras, identities = (numbers_of(facts.get(key, "") for facts in everything) for key in ("camera", "identity"))
    tracklets = numbers_of(map(_tracklet, everything))
    rows: dict[str, list[Row]] = {}
    for split in SPLITS:
        rows[split] = []
        for path, facts in found[split]:
            identity = identities.get(facts.get("identity", ""), UNKNOWN)
            if split != "train" and identity < 0:
                raise DataError(
                    f"{shown(path)}: a {split} picture needs an identity to be measured: give a table with one, or a "
                    "pattern with a group (?P<identity>…)"
                )
            camera, tracklet = cameras.get(facts.get("camera", ""), UNKNOWN), tracklets.get(_tracklet(facts), UNKNOWN)
            rows[split].append(Row(path, identity, camera, _seconds(path, facts.get("time", "")), tracklet))
    if bool(rows["query"]) != bool(rows["gallery"]):
        raise DataError(f"{plain(name)}: query and gallery belong together, found only one of them")
    test = FixedTest(labelled_of(rows["query"]), labelled_of(rows["gallery"])) if rows["query"] else None
    return Dataset(name, crops_of(rows["train"]), test, tuple(cameras), tuple(left_out))


def _tracklet(facts: Facts) -> str:
    """A name for the tracklet that is unique over all cameras; empty where the picture has none."""
    return f"{facts.get('camera', '')}\n{facts['tracklet']}" if facts.get("tracklet") else ""


def _seconds(path: Path, text: str) -> float:
    if not text:
        return math.nan
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{shown(path)}: time {text!r}, expected seconds since the epoch, for example 1700000000.25")
    return seconds
