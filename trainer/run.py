"""Puts the parts of a training run together from its settings. The only file of the trainer that wires."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_app.contract.yaml import plain
from trainer import checkpoint, config, optimiser, parallel
from trainer.checkpoint import Checkpoint, Model
from trainer.data import layouts
from trainer.data.cache import Cached, cached
from trainer.data.images import said_of
from trainer.data.loader import Chances, Loader
from trainer.data.records import Crops, FixedTest, RandomTest, spread
from trainer.data.summary import told
from trainer.data.transforms import AS_THEY_ARE, Transform, normalise
from trainer.errors import ConfigurationError, DataError
from trainer.evaluate import EvaluationSettings
from trainer.extract import features_of
from trainer.labels import clusters, without_effect
from trainer.measure import Embed, measure, with_network
from trainer.methods import table
from trainer.models.average import Average
from trainer.models.embedder import Embedder, blank_embedder, blueprint_of, new_embedder
from trainer.models.licence import licence_of
from trainer.parallel import Processes
from trainer.report.run import Finished, write_run
from trainer.runlog import RunLog, commit_of, progress, read_log
from trainer.train import Place, Run, train

CHECKPOINT, MODEL, BEST = "last.ckpt", "model.pt", "best.pt"
CALIBRATION_CROPS = 1024  # spread evenly over the crops
Show = Callable[[str, int], AbstractContextManager[Any]]  # what is done, and how much of it


def start(settings: config.TrainSettings, folder: Path, resume: bool = False, quiet: bool = False) -> Path:
    """Train as the settings say and leave everything in `folder`; returns the model file.

    With `resume` the run in `folder` goes on where its last checkpoint stands, or begins where there is none. Raises
    the errors of `trainer.errors`.
    """
    processes = parallel.join(settings.device)
    try:
        processes.need_even_shares(settings.method.batch, settings.accumulate, settings.model.ghost_group)
        before = _to_resume(settings, folder, resume)
        session = Session(settings, folder, processes, before, quiet=quiet or not processes.first)
        try:
            train(session.run, session.place)
            return session.finish()
        finally:
            session.log.close()
    finally:
        parallel.leave()


class Session:
    """One run: its data, network, method and files."""

    def __init__(
        self,
        settings: config.TrainSettings,
        folder: Path,
        processes: Processes,
        before: Checkpoint | None,
        *,
        quiet: bool,
    ) -> None:
        self.settings, self.folder, self.processes, self.quiet = settings, folder, processes, quiet
        self._said: set[str] = set()
        dataset = layouts.read(settings.data.root, settings.data.layout, settings.data.pattern)
        found = [*told(dataset), *without_effect(dataset.train, settings.method.labels)]
        self.say(*found)
        self.crops = _read_crops(dataset.train, settings.data, self.show)
        self.say(*said_of(self.crops.bad))
        self.test = dataset.test
        network = _network(settings, self.crops, before).to(processes.device)
        self.method = table.class_of(settings.method.name)(network, self.crops.crops, settings.method, settings.seed)
        self.optimiser = optimiser.build(self.method.trained(), settings.optimiser)
        self.average = None if settings.average is None else Average(network, settings.average)
        if settings.compile:
            network.trunk.compile()
        self.place = Place()
        self.best: float | None = None
        self.commit = commit_of(Path(__file__).parent)
        self.log = RunLog(folder if processes.first else None)
        self.log.start(self.plain_settings, self.commit)
        unreadable = [str(item.path) for item in self.crops.bad]
        self.log.write("data", crops=len(self.crops.crops), unreadable=unreadable, found=found)
        if before is not None:
            self._take_up(before)
        chances = Chances(self.method.views(), settings.data.input, settings.seed)
        self.run = Run(
            settings=settings,
            method=self.method,
            loader=Loader(self.crops, chances, processes, settings.accumulate, settings.model.ghost_group),
            optimiser=self.optimiser,
            average=self.average,
            extract=self.extract,
            processes=processes,
            log=self.log,
            save=self.save,
            after_epoch=self.after_epoch,
            show=self.show,
        )

    @property
    def plain_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    @property
    def network(self) -> Embedder:
        """What labels the crops and is exported: the running mean where there is one."""
        return self.method.embedder() if self.average is None else self.average.network

    @property
    def embed(self) -> Embed:
        """The network over crops of the test."""
        data, settings = self.settings.data, self.settings.extraction
        place = data.input, settings, data.cache, self.processes
        return with_network(self.network, *place, bad_limit=data.bad_limit, say=self.say)

    def say(self, *lines: str) -> None:
        """On the screen, each line once in a run."""
        for line in lines:
            if not self.quiet and line not in self._said:
                print(line)
            self._said.add(line)

    def show(self, what: str, total: int) -> AbstractContextManager[Any]:
        return progress(what, total, show=not self.quiet)

    def extract(self, view: Transform = AS_THEY_ARE, seed: int = 0) -> NDArray[np.float32]:
        """Unit rows (N, D) float32 of all training crops, see `trainer.methods.base.Extract`."""
        with self.show("extract", len(self.crops.crops)) as advance:
            data = self.crops.pixels, self.settings.data.input, self.settings.extraction
            return features_of(self.network, *data, self.processes, view=view, seed=seed, progress=advance)

    def save(self, place: Place) -> None:
        """Write a checkpoint (first process only)."""
        if self.processes.first:
            state = Checkpoint(
                settings=config.portable(self.plain_settings),
                commit=self.commit,
                network=self.method.trained().state_dict(),
                optimiser=self.optimiser.state_dict(),
                average=None if self.average is None else self.average.network.state_dict(),
                method=self.method.state(),
                epoch=place.epoch,
                step=place.step,
                steps=place.steps,
                plan=place.plan,
                best=self.best,
            )
            checkpoint.save(self.folder / CHECKPOINT, state)

    def after_epoch(self, epoch: int) -> None:
        """Scores of the network after `epoch` epochs: label-free for the choice of the model, on the test set for the
        log only."""
        if self.settings.keep == "silhouette":
            score = clusters(self.extract(), self.crops.crops, self.settings.method.labels).quality.silhouette
            self.log.write("choice", self.place.steps, silhouette=score)
            if self.best is None or score > self.best:
                self.best = score
                self._save_model(BEST)
        last = epoch == self.settings.epochs
        every = self.settings.evaluate_every
        if self.test is not None and self.processes.first and (last or (every and epoch % every == 0)):
            self._measure(epoch, self.test)

    def _measure(self, epoch: int, test: FixedTest | RandomTest) -> None:
        """A test set that cannot be used, such as one of a single camera, does not end the training."""
        try:
            scores = measure(self.embed, test, EvaluationSettings())
        except DataError as error:
            self.test = None
            self.log.write("not_tested", self.place.steps, epoch=epoch, reason=str(error))
            text = f"not measured: {error}"
        else:
            self.log.write("test", self.place.steps, epoch=epoch, **scores.as_dict())
            text = f"after epoch {epoch}: {scores.sentence()}"
        self.say(text)

    def finish(self) -> Path:
        """The model file of the finished run, and its report. Whatever ends it half-way, it can be done again: nothing
        that it needs is moved or removed."""
        if self.processes.first:
            self._keep_model()
        features = self.extract()
        if self.processes.first:
            found = clusters(features, self.crops.crops, self.settings.method.labels)
            name = f"{plain(self.settings.data.root.name)}: {self.settings.method.name}"
            test = self.test if isinstance(self.test, FixedTest) else None
            about = (name, self.commit, self.settings.epochs, self.crops.crops)
            write_run(self.folder, Finished(*about, features, found, test, self.embed))
        return self.folder / MODEL

    def _keep_model(self) -> None:
        best, model = self.folder / BEST, self.folder / MODEL
        if self.settings.keep == "last":
            self._save_model(MODEL)
        elif best.exists():
            checkpoint.copy(best, model)
        elif not model.exists():  # version 0.1 moved the best model there
            raise DataError(f"{best}: no such file; the run chose that network and cannot end without it: train anew")

    def _save_model(self, name: str) -> None:
        if self.processes.first:
            settings = self.settings
            plain, terms = config.portable(self.plain_settings), licence_of(settings.licence_note, settings.model)
            model = Model(self.network, settings.data.input, plain, self.commit, terms)
            checkpoint.save_model(self.folder / name, model)

    def _take_up(self, before: Checkpoint) -> None:
        self.method.trained().load_state_dict(before.network)
        self.optimiser.load_state_dict(before.optimiser)
        if self.average is not None and before.average is not None:
            self.average.network.load_state_dict(before.average)
        self.method.load_state(before.method)
        self.place = Place(before.epoch, before.step, before.steps, before.plan)
        self.best = before.best
        if self.processes.first and any(line["epoch"] <= before.epoch for line in read_log(self.folder, "not_tested")):
            self.test = None  # as in the run that was not broken off


def _read_crops(crops: Crops, data: config.DataSettings, show: Show) -> Cached:
    with show("decode", len(crops)) as advance:
        return cached(crops, data.input, data.cache.expanduser(), data.bad_limit, advance)


def _network(settings: config.TrainSettings, crops: Cached, before: Checkpoint | None) -> Embedder:
    torch.manual_seed(settings.seed)  # for layers that start at random
    spec = settings.data.input
    if settings.start is not None:
        return _earlier(settings)
    blueprint = blueprint_of(settings.model, (spec.height_px, spec.width_px))
    if before is not None:
        return blank_embedder(blueprint)
    return new_embedder(blueprint, _calibration(crops, settings.data))


def _earlier(settings: config.TrainSettings) -> Embedder:
    """The network of an earlier run. `ConfigurationError` where the settings say another one."""
    assert settings.start is not None
    loaded = checkpoint.load_model(settings.start)
    own = {"model": loaded.network.blueprint.settings, "data.input": loaded.spec}
    asked = {"model": settings.model, "data.input": settings.data.input}
    other = [f"{name}: expected that of {settings.start}, {own[name]!r}" for name in own if own[name] != asked[name]]
    if other:
        raise ConfigurationError(other, "start")
    return loaded.network


def _calibration(crops: Cached, data: config.DataSettings) -> list[Tensor]:
    rows = spread(len(crops.crops), CALIBRATION_CROPS)
    blocks = np.array_split(rows, max(1, len(rows) // 64))
    return [normalise(torch.from_numpy(crops.pixels[block]), data.input) for block in blocks]


def _to_resume(settings: config.TrainSettings, folder: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from; `ConfigurationError` when the folder or the settings do not allow it."""
    path = folder / CHECKPOINT
    if not resume:
        if path.exists() or (folder / MODEL).exists():
            raise ConfigurationError(
                [f"{folder} holds a run: go on with --resume, or choose another --out"], "command line"
            )
        return None
    if not path.exists():
        return None
    before = checkpoint.load(path)
    changed = config.differences(config.parse(before.settings, str(path)), settings)
    if changed:
        raise ConfigurationError([*changed, "a run goes on with the settings it began with"], f"{path} --resume")
    return before
