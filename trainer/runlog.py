"""What a run leaves behind: resolved configuration, commit, a JSON-lines log, TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import WorldError


class RunLog:
    """The log of one run; a resumed run goes on in the same files. Only the first process has a folder."""

    def __init__(self, folder: Path | None, wall_clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.wall_clock = wall_clock
        self._lines = self._events = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            with self._told():
                folder.mkdir(parents=True, exist_ok=True)
                self._lines = (folder / "log.jsonl").open("a", encoding="utf-8", buffering=1)
                if cut_off(folder / "log.jsonl"):
                    self._lines.write("\n")
                self._events = SummaryWriter(str(folder / "events"))

    def start(self, settings: dict[str, Any], commit: str) -> None:
        """Write what the run is made of."""
        if self.folder is not None:
            with self._told():
                (self.folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
                (self.folder / "commit.txt").write_text(commit + "\n", encoding="utf-8")
            self.write("start", commit=commit)

    def write(self, event: str, step: int | None = None, **values: Any) -> None:
        """One line `{"event": …, "wall_s": …, …}`; numbers also become TensorBoard scalars where `step` is given."""
        if self._lines is None or self._events is None:
            return
        place = {} if step is None else {"step": step}
        line = {"event": event, "wall_s": round(self.wall_clock(), 3), **place, **values}
        with self._told():
            self._lines.write(json.dumps(line) + "\n")
            if step is not None:
                for name, value in values.items():
                    if isinstance(value, int | float):
                        self._events.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        """A full disk is not told again here: whatever ended the run has told it."""
        for file in (self._lines, self._events):
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The system's errors as a `WorldError`."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise WorldError(f"the log of the run in {self.folder} cannot be written: {reason}") from error


def cut_off(file: Path) -> bool:
    """Whether a crash has left half a line at the end; what is written next would be lost with it."""
    with file.open("rb") as lines:
        return lines.seek(0, 2) > 0 and (lines.seek(-1, 2), lines.read())[1] != b"\n"


def read_log(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of one kind of event, in order; a last line cut off by a crash is left out."""
    lines = []
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        if content["event"] == event:
            lines.append(content)
    return lines


def commit_of(package: Path) -> str:
    """The commit of the source tree, with `+changes` where files differ from it; `unknown` outside a checkout."""
    try:
        git = ["git", "-C", str(package), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
