"""`trainer gate`: the gate of `trainer adapt` on any two models, by the crops that the site's folder holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from edge_app.contract.mistakes import mistakes
from edge_app.contract.yaml import plain
from trainer.adapt.crops import trained_on
from trainer.adapt.crops.choice import choose
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.ingest import COMING, own_folder
from trainer.adapt.crops.material import lay_out
from trainer.adapt.gate.verdict import Decision, GateSettings, Measure, Verdict
from trainer.adapt.hearing import anchor, judge
from trainer.adapt.rounds import CACHE
from trainer.adapt.settings import SiteSettings
from trainer.errors import ConfigurationError, DataError
from trainer.settings import read

STATUS: dict[Decision, int] = {"publish": 0, "refuse": 1, "not judged": 3}
HEARING = "hearing"
Say = Callable[[str], None]


def judge_two(settings: SiteSettings, old: Path, new: Path, gate_file: Path | None, say: Say) -> Verdict:
    """The verdict on `new` against `old`; the bounds are those of the file, or the site's. Their pictures lie, while it
    is at work, where `ingest` sweeps, so that none outlives a killed process for long. Raises `ConfigurationError`,
    `DataError`, and `WorldError` while another process works on the site."""
    if gate_file is not None:
        settings = settings.model_copy(update={"gate": load_gate(gate_file)})
    if missing := [f"{name}: no file {file}" for name, file in (("OLD", old), ("NEW", new)) if not file.is_file()]:
        raise ConfigurationError(missing, "command line")
    if not (settings.folder / "index.db").is_file():
        raise DataError(f"{settings.folder} holds no crops: take some in with `trainer adapt --dry-run`")
    with own_folder(settings) as own:
        folder = own / COMING / HEARING
        index = Index(own / "index.db")
        try:
            lay_hearing(settings, index, folder, say)
            known = anchor.read(own)
            best = anchor.best_model(own, settings.start, known)
            return judge.judge(judge.Hearing(settings, folder, folder / CACHE), old, new, best)
        finally:
            index.close()
            shutil.rmtree(folder, ignore_errors=True)


def lay_hearing(settings: SiteSettings, index: Index, folder: Path, say: Say) -> None:
    """What may be judged on now, as files; the anchor set as the last round left it."""
    known, _ = index.usable(index.newest())
    choice = choose(known, settings.keep, settings.site, trained_on.read(settings.folder))
    hours = set(anchor.read(settings.folder).hours) & set(choice.held_hours)
    anchored = known.ids[anchor.rows_in(known, sorted(hours), settings.keep.held_out_s)]
    nothing = np.zeros(0, np.int64)
    material = lay_out(folder, settings.folder, index, nothing, known.ids[choice.judged], anchor=anchored)
    for line in choice.sentences:
        say(f"{settings.site}: {line}")
    say(
        f"{settings.site}: judged on {material.judged_crops} crops of {material.judged_passages} passages of "
        f"{len(choice.held_hours)} held-out hours; the anchor set has {len(hours)} hours"
    )


def load_gate(path: Path) -> GateSettings:
    """`ConfigurationError` with every mistake."""
    try:
        return GateSettings.model_validate(read(path))
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, GateSettings), plain(path)) from None


def lines(verdict: Verdict) -> list[str]:
    """The verdict as a table, a measure a line, and the decision at the end."""
    rows = [("measure", "", "value", "95 %", "bound"), *map(_row, verdict.measures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"note: {note}" for note in verdict.notes]
    return [*table, *notes, f"{verdict.decision}: {judge.sentence(verdict)}"]


def _row(one: Measure) -> tuple[str, str, str, str, str]:
    spread = "" if one.interval is None else f"{one.interval[0]:.4f} … {one.interval[1]:.4f}"
    value, bound = ("" if figure is None else f"{figure:.4f}" for figure in (one.value, one.bound))
    return one.name, one.outcome, value, spread, bound
