"""`edge-app` commands in processes of their own, and how they end. A group starts all its commands at once, and its
tests look at what became of them."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import forked
import yaml

from edge_app.demo.play import Play, raw_config

TIMEOUT_S = 240  # on a machine that is busy with other work, a drawn site took more than 120


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    error: str

    def assert_refused(self, code: int, *said: str) -> None:
        """This exit code, one error that says all this, and no traceback."""
        assert self.code == code, self.error
        assert "Traceback" not in self.error, self.error
        assert self.error.count("edge-app: ") == 1, self.error
        for words in said:
            assert words in self.error


class Group:
    """Commands that run at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, forked.Popen] = {}
        self._ended: dict[str, Outcome] = {}

    def start(self, name: str, *arguments: object, **environment: str) -> forked.Popen:
        command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
        self._running[name] = forked.Popen(command, PIPE, PIPE, text=True, env=os.environ | environment)
        return self._running[name]

    def write(self, name: str, raw: dict | str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
        return path

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._ended:
            out, error = self._running[name].communicate(timeout=TIMEOUT_S)
            self._ended[name] = Outcome(self._running[name].returncode, out, error)
        return self._ended[name]

    def kill(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


def simulated(group: Group, name: str, **changes: object) -> Path:
    """A simulated site of five seconds that needs no models."""
    raw = raw_config(Play(seconds=5.0, speed=None), group.folder / f"{name}.db", None)
    return group.write(name, raw | changes)
