"""Log lines that come again and again: the first is written, the others are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

QUIET_S = 300.0


@dataclass(slots=True)
class _Said:
    at_s: float
    level: int
    unwritten: int = 0


class Damped:
    """`write` is `Logger.log`. Texts that differ are different lines, so they hold no measured numbers."""

    def __init__(self, write: Callable[[int, str], None]) -> None:
        self._write = write
        self._said: dict[str, _Said] = {}

    def say(self, level: int, text: str, now_s: float) -> None:
        self.look(now_s)
        if text in self._said:
            self._said[text].unwritten += 1
        else:
            self._said[text] = _Said(now_s, level)
            self._write(level, text)

    def look(self, now_s: float, end: bool = False) -> None:
        """Write how often the lines came that were kept back long enough; all of them at the `end`."""
        for text, said in list(self._said.items()):
            if not end and now_s - said.at_s < QUIET_S:
                continue
            if said.unwritten:
                self._write(said.level, f"{text} (and {said.unwritten} times more in {now_s - said.at_s:.0f} s)")
                self._said[text] = _Said(now_s, said.level)
            else:
                del self._said[text]
