"""The scores on the test set, for the log only: they choose nothing."""

from __future__ import annotations

from collections.abc import Callable

from trainer.config import TrainSettings
from trainer.data.records import FixedTest, RandomTest
from trainer.errors import DataError
from trainer.evaluate import EvaluationSettings
from trainer.measure import Embed, measure, with_network
from trainer.models.embedder import Embedder
from trainer.parallel import Processes
from trainer.runlog import RunLog
from trainer.screen import Screen


class TestSet:
    """The test part of a run's data, until it turns out that it cannot be used. Only the first process measures."""

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        settings: TrainSettings,
        test: FixedTest | RandomTest | None,
        network: Callable[[], Embedder],
        processes: Processes,
        log: RunLog,
    ) -> None:
        """`network` gives the network as it is at that moment."""
        self.settings, self.network, self.processes, self.log = settings, network, processes, log
        self.test = test if processes.first else None

    @property
    def embed(self) -> Embed:
        """The network over crops of the test."""
        data, how = self.settings.data, self.settings.extraction
        return with_network(self.network(), data.input, how, data.cache, self.processes, bad_limit=data.bad_limit)

    @property
    def shown(self) -> FixedTest | None:
        """The queries whose ranked lists the report shows."""
        return self.test if isinstance(self.test, FixedTest) else None

    def give_up(self) -> None:
        """Measure no more."""
        self.test = None

    def after_epoch(self, epoch: int, steps: int, screen: Screen) -> None:
        """Measure after every `evaluate_every` epochs and the last one. A test set that cannot be used, such as one of
        a single camera, does not end the training."""
        every = self.settings.evaluate_every
        due = epoch == self.settings.epochs or bool(every and epoch % every == 0)
        if self.test is None or not due:
            return
        try:
            scores = measure(self.embed, self.test, EvaluationSettings())
        except DataError as error:
            self.give_up()
            self.log.write("not_tested", steps, epoch=epoch, reason=str(error))
            screen.say(f"not measured: {error}")
        else:
            self.log.write("test", steps, epoch=epoch, **scores.as_dict())
            screen.say(f"after epoch {epoch}: {scores.sentence()}")
