"""What a run tells whoever waits for it: bars on a terminal; into a file, as under nohup or CI, one line per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

SHOWN = {"clusters": "clusters {:.0f}", "outlier_share": "outliers {:.0%}", "silhouette": "silhouette {:.2f}"}


class Screen:
    """Standard output of one run. `quiet` says nothing. Durations are monotonic time."""

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet = quiet
        self.clock = clock
        self._epochs = 0  # that this process has trained
        self._begin_s = self._last_s = clock()

    def say(self, text: str) -> None:
        """One line, at once: a file is not read at the end only."""
        if not self.quiet:
            print(text, flush=True)

    def show(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar where somebody can see it move."""
        return progress(what, total, show=not self.quiet and sys.stdout.isatty())

    def begin(self) -> None:
        """The first epoch begins: what has been done before does not count for the time left."""
        self._begin_s = self._last_s = self.clock()

    def epoch(self, done: int, epochs: int, losses: Mapping[str, float], facts: Mapping[str, float]) -> None:
        """The line of an epoch: the losses of its last step, its labels, how long it took and what is left."""
        self._epochs += 1
        now_s = self.clock()
        took_s, left_s = now_s - self._last_s, (now_s - self._begin_s) / self._epochs * (epochs - done)
        self._last_s = now_s
        words = [f"{name} {loss:.3f}" for name, loss in losses.items()]
        words += [form.format(facts[name]) for name, form in SHOWN.items() if name in facts]
        self.say(f"epoch {done}/{epochs}: {', '.join(words)}; took {duration(took_s)}, {duration(left_s)} left")


def duration(seconds: float) -> str:
    """In the unit that people would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(what: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; the value is a function that takes how many more are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, disable=not show, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
