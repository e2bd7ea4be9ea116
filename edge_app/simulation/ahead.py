"""Drawing ahead in a process of its own.

Frames lie in a ring of shared memory (an unlinked temporary file, so nothing is left behind by a killed process).
The child writes one byte, the slot, to its stdout when a frame is drawn; the parent writes it back to the child's
stdin when it has copied the frame. Either side notices the other's end by the end of its pipe.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import Any

import numpy as np

from edge_app.errors import SourceError
from edge_app.simulation.world import World
from edge_app.types import Image

_SLOTS = 6


class RenderAhead:
    """Frames `times[1]` to `times[2]` of one camera, drawn by a child process up to six frames ahead."""

    def __init__(self, world: World, camera: str, times: tuple[float, int, int, float]) -> None:
        """`times` is (capture time of frame 0, first frame, end, frames per second)."""
        spec = world.camera(camera)
        self._shape = (spec.height_px, spec.width_px, 3)
        self._camera = camera
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this object)
        self._file.truncate(_SLOTS * int(np.prod(self._shape)))
        self._ring = _ring(self._file.fileno(), self._shape)
        job = {"site": world.site.name, **asdict(world.demand), "camera": camera, "times": times}
        command = [sys.executable, "-m", "edge_app.simulation.ahead", str(self._file.fileno()), json.dumps(job)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[self._file.fileno()], bufsize=0
        )
        self._closing = False

    def next(self) -> Image | None:
        """(H, W, 3) uint8, the next frame; None after `close`. Raises SourceError when the drawing process died."""
        assert self._child.stdout is not None
        assert self._child.stdin is not None
        try:
            slot = self._child.stdout.read(1)
            if slot:
                image: Image = self._ring[slot[0]].copy()
                self._child.stdin.write(slot)
                return image
        except (OSError, ValueError):  # the pipe was closed under us
            pass
        if self._closing:
            return None
        code = self._child.wait(timeout=5)
        raise SourceError(f"the process that draws simulated camera {self._camera!r} ended with exit code {code}")

    def close(self) -> None:
        """Ends the child. A `next` that waits in another thread returns None."""
        if self._closing:
            return
        self._closing = True
        self._child.kill()
        self._child.wait()
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_closing"):
            self.close()


def _ring(handle: int, shape: tuple[int, ...]) -> Image:
    """(slots, H, W, 3) uint8 in shared memory."""
    memory = mmap.mmap(handle, _SLOTS * int(np.prod(shape)))
    return np.frombuffer(memory, np.uint8).reshape(_SLOTS, *shape)


def _draw_all(handle: int, job: dict[str, Any]) -> None:
    """The child: draw every frame into the next free slot."""
    import cv2

    from edge_app.simulation.render import Renderer

    cv2.setNumThreads(1)
    start_s, first, end, fps = job.pop("times")
    camera = job.pop("camera")
    world = World(**job)
    spec = world.camera(camera)
    ring = _ring(handle, (spec.height_px, spec.width_px, 3))
    renderer = Renderer(world, camera)
    pipe_in, pipe_out = open(0, "rb", buffering=0), open(1, "wb", buffering=0)  # noqa: SIM115 (the child's whole life)
    free = list(range(_SLOTS))
    for index in range(first, end):
        if not free:
            given_back = pipe_in.read(_SLOTS)
            if not given_back:
                return  # the parent is gone
            free.extend(given_back)
        slot = free.pop(0)
        ring[slot] = renderer.frame(start_s + index / fps)
        pipe_out.write(bytes([slot]))
    while pipe_in.read(_SLOTS):  # stay until the parent has copied everything and closes
        pass


if __name__ == "__main__":
    import contextlib
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends this process
    with contextlib.suppress(BrokenPipeError):
        _draw_all(int(sys.argv[1]), json.loads(sys.argv[2]))
