"""One adaptation of one site, from crops to a decision. Every stage may be broken off and done again.

    choose    window and reservoir become files; hours that are held out do not
    cluster   their tracks, as the current model sees them: is there anything to learn, and what outlives the window
    train     the site's method, from the current model
    judge     old and new model on the hours that no training saw, and the best one on the anchor set
    export    an accepted model becomes a signed bundle, in a precision that loses nothing on those hours
    decide    the model in force, the anchor set, the reservoir, and the page that tells of it

What an adaptation knows of is fixed when it begins, and all chance is drawn from seeds, so one that was broken off ends
as it would have ended. A site of which nothing can be learned keeps its model: that is a decision, not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer import run
from trainer.adapt import rounds
from trainer.adapt.crops import trained_on
from trainer.adapt.crops.choice import choose, reservoir
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.material import CROPS, lay_out
from trainer.adapt.hearing import anchor, judge
from trainer.adapt.page import reporting
from trainer.adapt.rounds import BEFORE, BUNDLE, CACHE, RUN, Round
from trainer.adapt.settings import DAY_S, SiteSettings
from trainer.adapt.stages.bundling import bundle
from trainer.adapt.stages.training import training
from trainer.adapt.told.shared import seen_of
from trainer.commands import load_network
from trainer.data import layouts
from trainer.errors import ConfigurationError, DataError, TrainerError, WorldError
from trainer.features import load_labels_of_paths, save_labels
from trainer.keeping import MODEL
from trainer.labels import facts_of, pseudo_labels
from trainer.measure import with_network
from trainer.parallel import join
from trainer.report.run import LABELS

Say = Callable[[str], None]


@dataclass(slots=True)
class Work:
    """What every stage needs."""

    settings: SiteSettings
    index: Index
    round: Round
    say: Say

    @property
    def own(self) -> Path:
        return self.settings.folder

    @property
    def folder(self) -> Path:
        return rounds.folder_of(self.own, self.round.number)

    @property
    def current(self) -> Path:
        return self.own / self.round.current if self.round.current else self.settings.start

    @property
    def model(self) -> Path:
        return self.folder / RUN / MODEL

    @property
    def hearing(self) -> judge.Hearing:
        return judge.Hearing(self.settings, self.folder, self.folder / CACHE)

    @property
    def best(self) -> Path:
        return anchor.best_model(self.own, self.settings.start, anchor.read(self.own))

    def training(self) -> Any:
        return training(self.settings, self.current, self.folder / CROPS, self.folder / CACHE)


def adapt(
    settings: SiteSettings,
    index: Index,
    number: int,
    now_s: float,
    *,
    say: Say,
    still: Callable[[], None] = lambda: None,
) -> Round:
    """Begin the round of this number, or go on with it where it was broken off; returns it decided.

    `still` is called before every stage and before the decision, and raises when this process may not go on. Raises the
    errors of `trainer.errors` for what a person or time must mend.
    """
    own = settings.folder
    one = rounds.latest(own)
    if one is None or one.number < number:
        one = Round(number, now_s, index.newest(), rounds.current_model(own), seen_of(index.taken()))
        rounds.save(own, one)
    elif one.decision:  # and was not told
        return one
    else:
        say(f"round {one.number} goes on after {list(one.done)[-1] if one.done else 'its beginning'}")
    work = Work(settings, index, one, say)
    for name, stage in STAGES.items():
        if name not in one.done and not one.reason:
            still()
            say(f"round {one.number}: {name}")
            try:
                found = stage(work)
            except NothingGainedError as error:
                found, one.reason = error.facts, str(error)
            one.done[name] = found
            rounds.save(own, one)
    still()
    decide(work)
    return one


class NothingGainedError(Exception):
    """There is nothing to be learned, or nothing was: the model in force stays, for this reason."""

    def __init__(self, reason: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.facts = facts or {}


def chosen(work: Work) -> dict[str, Any]:
    keep, gate = work.settings.keep, work.settings.gate
    known, _ = work.index.usable(work.round.until)
    choice = choose(known, keep, work.settings.site, trained_on.read(work.own))
    for line in choice.sentences:
        work.say(f"round {work.round.number}: {line}")
    sides = known.ids[choice.trained], known.ids[choice.judged]
    if not len(choice.trained):
        raise NothingGainedError(f"none of {len(known)} crops may be trained on")
    grown = anchor.grow(known, choice.held_hours, anchor.read(work.own).hours, gate, keep.held_out_s)
    work.say(f"round {work.round.number}: {grown.sentence}")
    anchored = known.ids[anchor.rows_in(known, grown.hours, keep.held_out_s)]
    material = lay_out(work.folder, work.own, work.index, *sides, anchor=anchored)
    return {
        **asdict(material),
        "held_out_hours": len(choice.held_hours),
        "known_hours": choice.known_hours,
        "spans": choice.spans,
        "anchor": asdict(grown),
    }


def clustered(work: Work) -> dict[str, Any]:
    settings = work.training()
    crops = layouts.read(settings.data.root, "table").train
    processes = join(settings.device)
    network, spec = load_network(work.current)
    embed = with_network(network.to(processes.device), spec, settings.extraction, settings.data.cache, processes)
    features, kept = embed(crops)
    crops = crops.take(kept)
    try:
        found = pseudo_labels(features, crops, settings.method.labels)
    except DataError as error:
        raise NothingGainedError(str(error)) from None
    save_labels(work.folder / BEFORE, found.labels, np.array([str(path) for path in crops.paths]))
    return facts_of(found)


def trained(work: Work) -> dict[str, Any]:
    folder, one = work.folder / RUN, work.round
    trained_on.add(work.own, one.done["choose"]["spans"], one.began_s - work.settings.keep.days * DAY_S)
    try:
        run.start(work.training(), folder, resume=folder.exists(), quiet=True)
    except (ConfigurationError, WorldError):
        raise
    except TrainerError as error:  # no cluster in a later epoch, a loss that is no number: it would be so each time
        raise NothingGainedError(str(error)) from None
    return {"model": f"{RUN}/{MODEL}"}


def judged(work: Work) -> dict[str, Any]:
    verdict = judge.judge(work.hearing, work.current, work.model, work.best)
    if verdict.decision != "publish":
        raise NothingGainedError(judge.sentence(verdict), judge.facts(verdict))
    return judge.facts(verdict)


def exported(work: Work) -> dict[str, Any]:
    files = work.model, work.folder / CROPS, work.folder / BUNDLE
    refresh = judge.Refresh(work.hearing, work.model, work.best)
    try:
        made = bundle(work.settings, work.round, files, work.folder / CACHE, work.say, confirm=refresh)
    except DataError as error:
        raise NothingGainedError(str(error), {"refresh": refresh.found}) from None
    return {**made, "refresh": refresh.found}


STAGES: dict[str, Callable[[Work], dict[str, Any]]] = {
    "choose": chosen,
    "cluster": clustered,
    "train": trained,
    "judge": judged,
    "export": exported,
}


def decide(work: Work) -> None:
    """The last stage: what is in force, and which crops stay. All of it may be done again."""
    one = work.round
    keep_reservoir(work)
    accepted = not one.reason
    anchor.save(work.own, anchor.after(anchor.read(work.own), one.done, one.number, accepted=accepted))
    if accepted:
        rounds.accept(work.own, one.number, work.model)
    reporting.write(work.settings, one, work.say)
    rounds.close(work.own, one, "accepted" if accepted else "kept")


def keep_reservoir(work: Work) -> None:
    """By the clusters of the new model where there is one, else of the current; none where nothing was clustered."""
    files = [path for path in (work.folder / RUN / LABELS, work.folder / BEFORE) if path.is_file()]
    if not files:
        return
    labels, paths = load_labels_of_paths(files[0])
    ids = np.array([int(Path(path).stem) for path in paths], np.int64)
    known, _ = work.index.usable(work.round.until)
    there = np.isin(ids, known.ids)  # retention may have been faster
    rows = np.searchsorted(known.ids, ids[there])
    kept = reservoir(labels[there], known.cameras[rows], known.captured_s[rows], work.settings.keep.reservoir)
    work.index.keep_reservoir(known.ids[rows[kept]])
