"""Puts the parts of a training run together from its settings. The only file of the trainer that wires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_app.contract.yaml import plain
from trainer import checkpoint, optimiser, parallel, resuming
from trainer.checkpoint import Checkpoint
from trainer.config import DataSettings, TrainSettings
from trainer.data import layouts
from trainer.data.cache import Cached, cached
from trainer.data.images import said_of
from trainer.data.loader import Chances, Loader
from trainer.data.records import FixedTest, RandomTest, spread
from trainer.data.summary import told
from trainer.data.transforms import AS_THEY_ARE, Transform, normalise
from trainer.errors import ConfigurationError, LabelsError, NothingLearnedError
from trainer.extract import features_of
from trainer.keeping import MODEL, Keeper
from trainer.labels import clusters, without_effect
from trainer.methods import table
from trainer.models.average import Average
from trainer.models.embedder import Embedder, ModelSettings, blank_embedder, blueprint_of, new_embedder
from trainer.parallel import Processes
from trainer.report.run import Finished, write_run
from trainer.runlog import RunLog, commit_of, read_log
from trainer.screen import Screen
from trainer.tested import TestSet
from trainer.train import Place, Run, train

CALIBRATION_CROPS = 1024  # spread evenly over the crops


def start(settings: TrainSettings, folder: Path, resume: bool = False, quiet: bool = False) -> Path:
    """Train as the settings say and leave everything in `folder`; returns the model file.

    With `resume` the run in `folder` goes on where its last checkpoint stands, or begins where there is none. Raises
    the errors of `trainer.errors`; `NothingLearnedError` where the start was kept as the model.
    """
    processes = parallel.join(settings.device)
    try:
        processes.need_even_shares(settings.method.batch, settings.accumulate, settings.model.ghost_group)
        before = resuming.before(settings, folder, resume)
        session = Session(settings, folder, processes, before, quiet=quiet or not processes.first)
        try:
            return session.go(fresh=before is None)
        finally:
            session.log.close()
    finally:
        parallel.leave()


class Session:
    """One run: its data, network, method and files."""

    def __init__(
        self, settings: TrainSettings, folder: Path, processes: Processes, before: Checkpoint | None, *, quiet: bool
    ) -> None:
        self.settings, self.folder, self.processes, self.screen = settings, folder, processes, Screen(quiet)
        self.commit = commit_of(Path(__file__).parent)
        self.crops, test, facts = _read(settings, self.screen)
        network = _network(settings, self.crops, before).to(processes.device)
        self.method = table.class_of(settings.method.name)(network, self.crops.crops, settings.method, settings.seed)
        self.log = RunLog(folder if processes.first else None)
        self.log.start(settings.model_dump(mode="json"), self.commit)
        self.log.write("data", **facts)
        mine = folder if processes.first else None
        self.keeper = Keeper(settings, self.crops.crops, mine, lambda: self.network, self.commit)
        self.test = TestSet(settings, test, lambda: self.network, processes, self.log)
        chances = Chances(self.method.views(), settings.data.input, settings.seed)
        self.run = Run(
            settings=settings,
            method=self.method,
            loader=Loader(self.crops, chances, processes, settings.accumulate, settings.model.ghost_group),
            optimiser=optimiser.build(self.method.trained(), settings.optimiser),
            average=None if settings.average is None else Average(network, settings.average),
            extract=self.extract,
            processes=processes,
            log=self.log,
            save=self.save,
            labelled=lambda facts, steps: self.keeper.compare(facts, steps, self.log, self.screen),
            after_epoch=self.after_epoch,
            screen=self.screen,
        )
        if settings.compile:
            network.trunk.compile()
        self.place = Place()
        self._rows: tuple[int, NDArray[np.float32]] | None = None  # plain features, and after how many steps
        if before is not None:
            self._take_up(before)

    @property
    def network(self) -> Embedder:
        """What labels the crops and is exported: the running mean where there is one."""
        average = self.run.average
        return self.method.embedder() if average is None else average.network

    def go(self, fresh: bool) -> Path:
        """Train to the end; returns the model file."""
        try:
            if fresh and self.keeper.judges:
                self.keeper.begin(self.extract(), self.log)
            self.screen.begin()
            train(self.run, self.place)
        except LabelsError as error:
            if not self.keeper.judges:
                raise
            raise NothingLearnedError(self.keeper.keep_start(str(error))) from None
        return self.finish()

    def extract(self, view: Transform = AS_THEY_ARE, seed: int = 0) -> NDArray[np.float32]:
        """Unit rows (N, D) float32 of all training crops, see `trainer.methods.base.Extract`."""
        unchanged = view is AS_THEY_ARE
        if unchanged and self._rows is not None and self._rows[0] == self.place.steps:
            return self._rows[1]
        with self.screen.show("extract", len(self.crops.crops)) as advance:
            data = self.crops.pixels, self.settings.data.input, self.settings.extraction
            rows = features_of(self.network, *data, self.processes, view=view, seed=seed, progress=advance)
        self._rows = (self.place.steps, rows) if unchanged else self._rows
        return rows

    def save(self, place: Place) -> None:
        """Write a checkpoint (first process only)."""
        if self.processes.first:
            state = resuming.state_of(self.run, place, self.keeper)
            checkpoint.save(self.folder / resuming.CHECKPOINT, state)

    def after_epoch(self, epoch: int) -> None:
        """Choose by what needs no labels; measure on the test set for the log."""
        self.keeper.after_epoch(self.extract, self.place.steps, self.log)
        self.test.after_epoch(epoch, self.place.steps, self.screen)

    def finish(self) -> Path:
        """The model file of the finished run, and its report. Whatever ends it half-way, it can be done again: nothing
        that it needs is moved or removed."""
        features = self.extract()
        verdict = self.keeper.settle(features, self.log)
        if self.processes.first:
            found = clusters(features, self.crops.crops, self.settings.method.labels)
            name = f"{plain(self.settings.data.root.name)}: {self.settings.method.name}"
            about = (name, self.commit, self.settings.epochs, self.crops.crops)
            write_run(self.folder, Finished(*about, features, found, self.test.shown, self.test.embed(self.screen)))
        if verdict is not None:
            raise NothingLearnedError(verdict)
        return self.folder / MODEL

    def _take_up(self, before: Checkpoint) -> None:
        self.place = resuming.take_up(self.run, before)
        self.keeper.take_up(before)
        tried = read_log(self.folder, "not_tested") if self.processes.first else []
        if any(line["epoch"] <= before.epoch for line in tried):
            self.test.give_up()  # as in the run that was not broken off


def _read(settings: TrainSettings, screen: Screen) -> tuple[Cached, FixedTest | RandomTest | None, dict[str, Any]]:
    """The crops, the test set, and for the log what was found and left out, which is said, too."""
    data = settings.data
    dataset = layouts.read(data.root, data.layout, data.pattern)
    found = [*told(dataset), *without_effect(dataset.train, settings.method.labels)]
    screen.say(*found)
    with screen.show("decode", len(dataset.train)) as advance:
        crops = cached(dataset.train, data.input, data.cache.expanduser(), data.bad_limit, advance)
    screen.say(*said_of(crops.bad))
    unreadable = [str(item.path) for item in crops.bad]
    return crops, dataset.test, {"crops": len(crops.crops), "unreadable": unreadable, "found": found}


def _network(settings: TrainSettings, crops: Cached, before: Checkpoint | None) -> Embedder:
    torch.manual_seed(settings.seed)  # for layers that start at random
    spec = settings.data.input
    if settings.start is not None:
        return _earlier(settings)
    blueprint = blueprint_of(settings.model, (spec.height_px, spec.width_px))
    if before is not None:
        return blank_embedder(blueprint)
    return new_embedder(blueprint, _calibration(crops, settings.data))


def _earlier(settings: TrainSettings) -> Embedder:
    """The network of an earlier run. `ConfigurationError` where the settings say another one."""
    assert settings.start is not None
    loaded = checkpoint.load_model(settings.start)
    own = {"model": _by_name(loaded.network.blueprint.settings), "data.input": loaded.spec}
    asked = {"model": _by_name(settings.model), "data.input": settings.data.input}
    other = [f"{name}: expected that of {settings.start}, {own[name]!r}" for name in own if own[name] != asked[name]]
    if other:
        raise ConfigurationError(other, "start")
    return loaded.network


def _by_name(model: ModelSettings) -> ModelSettings:
    """Where the first weights lay does not matter: a model knows their name alone."""
    return model if model.weights is None else model.model_copy(update={"weights": Path(model.weights.name)})


def _calibration(crops: Cached, data: DataSettings) -> list[Tensor]:
    rows = spread(len(crops.crops), CALIBRATION_CROPS)
    blocks = np.array_split(rows, max(1, len(rows) // 64))
    return [normalise(torch.from_numpy(crops.pixels[block]), data.input) for block in blocks]
