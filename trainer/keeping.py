"""Which network becomes the model of a run: the last one, the one of the best epoch, or the one it began with.

`start.pt`, `best.pt` and `model.pt` in the run's folder. The start is the model of a run that learned nothing: because
its crops teach nothing, which is judged before the first step, or because the trained network is no better by any
measure that needs no labels (`trainer.judge`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer import checkpoint, judge
from trainer.checkpoint import Checkpoint, Model
from trainer.config import TrainSettings
from trainer.data.records import Crops
from trainer.errors import DataError, NothingLearnedError
from trainer.judge import Evidence
from trainer.labels import clusters
from trainer.models.embedder import Embedder
from trainer.runlog import RunLog
from trainer.screen import Screen

START, BEST, MODEL = "start.pt", "best.pt", "model.pt"
ADVICE = (
    "give several looks at each passage, capture times or tracklets (`trainer inspect` counts them); "
    "when_in_doubt=train trains all the same"
)

Features = NDArray[np.float32]  # (N, D) unit rows of the training crops by the network as it is


class Keeper:
    """The models of one run, and what was said about them. Every process comes to the same decisions."""

    def __init__(
        self, settings: TrainSettings, crops: Crops, folder: Path | None, network: Callable[[], Embedder], commit: str
    ) -> None:
        """`folder`: None in all processes but the first. `network`: what would become the model now."""
        self.settings, self.crops, self.folder, self.network, self.commit = settings, crops, folder, network, commit
        self.best: float | None = None
        self.start: Evidence | None = None
        self._first: dict[str, float] = {}

    @property
    def judges(self) -> bool:
        return self.settings.when_in_doubt == "keep_start"

    def begin(self, features: Features, log: RunLog) -> None:
        """Keep the network that has learned nothing yet, and judge the crops by its features. `NothingLearnedError`
        where they teach nothing."""
        self._save(START)
        self.start = judge.evidence_of(features, self.crops)
        reasons = judge.doubts(self.start)
        log.write("judged", 0, **self.start.as_dict(), reasons=list(reasons))
        if reasons:
            raise NothingLearnedError(self.keep_start(f"these crops teach nothing: {'; '.join(reasons)}"))

    def take_up(self, before: Checkpoint) -> None:
        """Take back what a checkpoint knows."""
        self.best = before.best
        self.start = None if before.start is None else Evidence.of(before.start)

    def compare(self, facts: dict[str, float], steps: int, log: RunLog, screen: Screen) -> None:
        """Say where the labels of an epoch are worse than those of the first that this process has trained on."""
        self._first = self._first or facts
        if reasons := judge.worsened(self._first, facts):
            log.write("warning", steps, reasons=list(reasons))
            screen.say(f"warning: these labels are worse than the first ones: {', '.join(reasons)}")

    def after_epoch(self, extract: Callable[[], Features], steps: int, log: RunLog) -> None:
        """Keep the network with the best clusters of its own, where that is asked for. No labels."""
        if self.settings.keep == "silhouette":
            score = clusters(extract(), self.crops, self.settings.method.labels).quality.silhouette
            log.write("choice", steps, silhouette=score)
            if self.best is None or score > self.best:
                self.best = score
                self._save(BEST)

    def settle(self, features: Features, log: RunLog) -> str | None:
        """Write the model of the finished run, judged by the features of its last network; why it is the start, where
        it is."""
        model = self.settings.model
        if self.start is not None and (model.weights is not None or model.pretrained):  # random weights are no start
            end = judge.evidence_of(features, self.crops)
            reasons = judge.losses(self.start, end)
            log.write("judged", None, **end.as_dict(), reasons=list(reasons))
            if reasons:
                return self.keep_start(f"the trained network is no better than its start: {'; '.join(reasons)}")
        if self.folder is not None:
            self._write_model(self.folder / BEST, self.folder / MODEL)
        return None

    def keep_start(self, why: str) -> str:
        """The start becomes the model; returns what is to be said."""
        if self.folder is not None:
            checkpoint.copy(self.folder / START, self.folder / MODEL)
        return f"{why}. {MODEL} is the network the run began with; {ADVICE}"

    def _write_model(self, best: Path, model: Path) -> None:
        if self.settings.keep == "last":
            self._save(MODEL)
        elif best.exists():
            checkpoint.copy(best, model)
        elif not model.exists():  # version 0.1 moved the best model there
            raise DataError(f"{best}: no such file; the run chose that network and cannot end without it: train anew")

    def _save(self, name: str) -> None:
        if self.folder is not None:
            plain, spec = self.settings.model_dump(mode="json"), self.settings.data.input
            checkpoint.save_model(self.folder / name, Model(self.network(), spec, plain, self.commit))
