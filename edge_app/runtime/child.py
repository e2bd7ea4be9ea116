"""A Python module run in a process of its own, so that neither its memory nor its crash nor its endless loop is ours.

The child gets its task as JSON in its only argument and says what it has to say on stdout, one JSON object per line;
what libraries print beside is noise, of which the last lines are kept. A child does not outlive its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended."""

    code: int  # of its exit; below zero the signal
    late: bool  # it was stopped because its time was over
    last_words: str

    def __str__(self) -> str:
        how = f"crashed ({signal.Signals(-self.code).name})" if self.code < 0 else f"ended with code {self.code}"
        return how + (f"; its last words: {self.last_words}" if self.last_words else "")


def run_child(module: str, task: Mapping[str, Any], timeout_s: float, hear: Callable[[dict[str, str]], None]) -> Ending:
    """Run `python -m module TASK` to its end, or until the time is over. `hear` gets each object that it says; when
    that raises, the child is ended."""
    root = str(Path(__file__).resolve().parents[2])  # so that the child finds this package from any folder
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", module, json.dumps(task)]
    noise: deque[str] = deque(maxlen=5)
    late = False
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as child:

        def stop() -> None:
            nonlocal late
            late = True
            child.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                said = _message(line)
                if said:
                    hear(said)
                elif line.strip():
                    noise.append(line.strip()[:300])
            child.wait()
        finally:
            timer.cancel()
            child.kill()
    return Ending(child.returncode, late, " | ".join(noise))


def _message(line: str) -> dict[str, str]:
    """What the child says on purpose."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def say(kind: str, text: str) -> bool:
    """In the child: one object for the parent. False when that is gone."""
    try:
        print(json.dumps({kind: text}), flush=True)
    except BrokenPipeError:
        return False
    return True


def die_with_parent() -> None:
    """In the child: a loop inside a library hears of nothing, so the kernel ends it with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
