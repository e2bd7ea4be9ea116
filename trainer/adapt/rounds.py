"""One adaptation on the disk: how far it has come, so that whatever ends it, it goes on where it was.

own/rounds/000007/round.json     stages that are done, with what each found
own/rounds/000007/report         the page for people, and the only place where a round that is over shows crops
own/models/000007.pt             a model that was accepted
own/current.json                 which one is in force
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from edge_app.contract.whole import OWN, whole
from trainer.errors import DataError, WorldError

FORMAT = "crosslane-round/1"
ROUNDS, MODELS, CURRENT, ROUND = "rounds", "models", "current.json", "round.json"
PICTURES, CACHE = "pictures", "cache"  # of a round under way
RUN, BEFORE, REPORT, BUNDLE = "run", "before.npz", "report", "site.bundle"


@dataclass(slots=True)
class Round:
    """An adaptation under way, or over."""

    number: int
    began_s: float
    until: int  # the newest crop it knows of; later ones are the next round's
    current: str  # the model it began from, relative to the own folder; empty = the start
    seen: dict[str, int]  # the shards it knows of, as others are told
    format: str = FORMAT
    done: dict[str, dict[str, Any]] = field(default_factory=dict)  # stage → what it found, in order
    decision: str = ""  # "" while it is under way, else accepted or kept
    reason: str = ""
    shown_from_s: float | None = None  # when the oldest crop of its page was taken
    forgotten: bool = False  # crops that it used were forgotten since
    overtaken: bool = False  # another process has decided this round or a later one, before this one was told


def folder_of(own: Path, number: int) -> Path:
    return own / ROUNDS / f"{number:06d}"


def latest(own: Path) -> Round | None:
    """The last round that began; None before the first."""
    numbers = sorted(int(path.name) for path in (own / ROUNDS).glob("[0-9]*") if (path / ROUND).is_file())
    return read(folder_of(own, numbers[-1])) if numbers else None


def every(own: Path) -> list[Round]:
    """In their order. Raises as `read`."""
    return [read(path) for path in sorted((own / ROUNDS).glob("[0-9]*")) if (path / ROUND).is_file()]


def read(folder: Path) -> Round:
    """Raises `DataError` for what is no round."""
    try:
        content = json.loads((folder / ROUND).read_text(encoding="utf-8"))
        found = Round(**content)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / ROUND} cannot be read: {error}; set the folder aside to begin anew") from None
    if found.format != FORMAT:
        raise DataError(f"{folder / ROUND}: expected {FORMAT}, found {found.format}")
    return found


def save(own: Path, one: Round) -> None:
    """Whole or not at all."""
    write_json(folder_of(own, one.number) / ROUND, asdict(one))


def current_model(own: Path) -> str:
    """The accepted model, relative to the own folder; empty before the first. Raises `DataError` when it is gone."""
    number = current_round(own)
    if not number:
        return ""
    if not (own / model_name(number)).is_file():
        raise DataError(f"{own / CURRENT} names {model_name(number)}, which is not there: put it back")
    return model_name(number)


def current_round(own: Path) -> int:
    """The round whose model is in force; 0 before the first."""
    path = own / CURRENT
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["round"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} cannot be read: {error}; expected {{"round": 7}} of a model in {MODELS}') from None


def model_name(number: int) -> str:
    return f"{MODELS}/{number:06d}.pt"


def number_of(model: str) -> int:
    """The round that made the model of this name."""
    return int(Path(model).stem)


def put_in_force(own: Path, number: int) -> None:
    """The model of a round, which is in its place."""
    write_json(own / CURRENT, {"round": number})


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, for the owner alone. Raises `WorldError`."""
    put(path, lambda file: file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()))


def put(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A file that `write` makes, under its name only when it is on the disk. Raises `WorldError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole(path, OWN) as file:
            write(file)
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from error


def accept(own: Path, number: int, model: Path) -> None:
    """Put a model in its place and in force. May be done again."""
    with model.open("rb") as source:
        put(own / model_name(number), lambda file: shutil.copyfileobj(source, file))
    put_in_force(own, number)


def close(own: Path, one: Round, decision: str) -> None:
    """A round is over: its crops lie in the shards, and some of them on its page."""
    for name in (PICTURES, CACHE, f"{RUN}/report"):
        shutil.rmtree(folder_of(own, one.number) / name, ignore_errors=True)
    one.decision = decision
    save(own, one)


def clear(own: Path, before_s: float) -> None:
    """Of rounds that began before that nothing stays but what was decided; no page that shows crops from before."""
    for path in (own / ROUNDS).glob("[0-9]*"):
        if not (path / ROUND).is_file() or not (one := read(path)).decision:
            continue
        if one.began_s < before_s:
            strip(path)
        elif one.shown_from_s is not None and one.shown_from_s < before_s:
            shutil.rmtree(path / REPORT, ignore_errors=True)


def strip(folder: Path, *kept: str) -> None:
    """Of a round nothing stays but what was decided, and what is named."""
    for item in folder.iterdir():
        if item.name not in (ROUND, *kept):
            shutil.rmtree(item) if item.is_dir() else item.unlink()
