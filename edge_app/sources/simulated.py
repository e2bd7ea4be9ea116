"""A simulated camera: `sim://town/gate?seed=7&difficulty=0.5&seconds=120&fidelity=frames`.

    sim://<site>/<camera>      site: town | grid-N
    seed=7                     another world of the same site
    difficulty=0.5             0 (easy) … 1 (hard): look-alikes, noise, traffic, drift
    seconds=120                length of the recording
    fidelity=frames            frames: pictures | detections: no pictures, for SimulatedDetector and SimulatedEmbedder
    persons=0                  1: pedestrians too
    start=1700000000           capture time of the first frame, seconds since the epoch
    fps=10                     frames per second
Pictures are drawn ahead in a process of their own, so that drawing is never the pipeline's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from edge_app.errors import SourceError
from edge_app.simulation.ahead import RenderAhead
from edge_app.simulation.world import START_S, World
from edge_app.types import Frame

Fidelity = Literal["frames", "detections"]


@dataclass(frozen=True, slots=True)
class SimulatedCameraUrl:
    """A parsed `sim://` address."""

    site: str
    camera: str
    seed: int = 7
    difficulty: float = 0.5
    seconds: float = 120.0
    fidelity: Fidelity = "frames"
    persons: bool = False
    start_s: float = START_S
    fps: float | None = None  # None: the camera's own


def parse_sim_url(url: str) -> SimulatedCameraUrl:
    """Raises SourceError that names the mistake and what is known. Builds the world (cached) to check it."""
    parts = urlsplit(url)
    camera = parts.path.strip("/")
    if parts.scheme != "sim" or not parts.netloc or not camera or "/" in camera:
        raise SourceError(f"{url!r} is no simulated camera: expected sim://<site>/<camera>, as in sim://town/gate")
    values: dict[str, object] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _PARAMETERS:
            raise SourceError(f"{url!r}: unknown parameter {key!r}, expected {', '.join(sorted(_PARAMETERS))}")
        field, convert, expected = _PARAMETERS[key]
        try:
            values[field] = convert(text)
        except ValueError:
            raise SourceError(f"{url!r}: {key} is {text!r}, expected {expected}") from None
    parsed = SimulatedCameraUrl(parts.netloc, camera, **values)  # type: ignore[arg-type]
    try:
        world_of(parsed).camera(camera)
    except ValueError as error:
        raise SourceError(f"{url!r}: {error}") from None
    return parsed


def world_of(url: SimulatedCameraUrl | str) -> World:
    """The world behind an address; built once per process. Raises SourceError (text) or ValueError (parsed)."""
    parsed = parse_sim_url(url) if isinstance(url, str) else url
    return _world(
        parsed.site,
        parsed.seed,
        parsed.difficulty,
        seconds=parsed.seconds,
        persons=parsed.persons,
        start_s=parsed.start_s,
    )


@lru_cache(maxsize=8)
def _world(site: str, seed: int, difficulty: float, *, seconds: float, persons: bool, start_s: float) -> World:
    return World(site, seed=seed, difficulty=difficulty, seconds=seconds, persons=persons, start_s=start_s)


class SimulatedSource:
    """Implements `Source`. Frame k of a recording has capture time start + k / fps, whenever it is read.

    `after_s` resumes strictly after that capture time. `pace` 1.0 delivers in real time (2.0: twice as fast), None as
    fast as frames are read.
    """

    def __init__(self, url: str, *, after_s: float | None = None, pace: float | None = None) -> None:
        self.url = parse_sim_url(url)
        self._spec = world_of(self.url).camera(self.url.camera)
        self._fps = self.url.fps or self._spec.fps
        self._count = int(self.url.seconds * self._fps)
        self._next = 0
        if after_s is not None:
            self._next = max(0, int((after_s - self.url.start_s) * self._fps + 1 + 1e-3))
        self._first = self._next
        self._pace = pace
        self._opened_s: float | None = None
        self._ahead: RenderAhead | None = None
        self._closed = False

    def read(self) -> Frame | None:
        """The next frame; None at the end of the recording, and after `close`."""
        if self._closed or self._next >= self._count:
            self.close()
            return None
        self._wait()
        index = self._next
        time_s = self.url.start_s + index / self._fps
        image = None
        if self.url.fidelity == "frames":
            if self._ahead is None:
                times = (self.url.start_s, index, self._count, self._fps)
                self._ahead = RenderAhead(world_of(self.url), self.url.camera, times)
            image = self._ahead.next()
            if image is None:
                return None  # closed while waiting
        self._next += 1
        width, height = self._spec.width_px, self._spec.height_px
        return Frame(self.url.camera, time_s, image, width, height, sequence=index - self._first, number=index)

    def close(self) -> None:
        """Ends the drawing process; safe to call twice, and from another thread than the reader's."""
        self._closed = True
        if self._ahead is not None:
            self._ahead.close()

    def _wait(self) -> None:
        if self._pace is None:
            return
        now = time.monotonic()
        if self._opened_s is None:
            self._opened_s = now
        due = self._opened_s + (self._next - self._first) / self._fps / self._pace
        if due > now:
            time.sleep(due - now)


def _number(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return convert


def _choice(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return convert


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def _switch(text: str) -> bool:
    return _choice("0", "1")(text) == "1"


# key in the address → (field, conversion, what is expected)
_PARAMETERS: dict[str, tuple[str, Callable[[str], object], str]] = {
    "seed": ("seed", _seed, "a whole number from 0"),
    "difficulty": ("difficulty", _number(0, 1), "a number from 0 (easy) to 1 (hard)"),
    "seconds": ("seconds", _number(0.1, 1e6), "a number of seconds from 0.1 to 1000000"),
    "fidelity": ("fidelity", _choice(*get_args(Fidelity)), "frames or detections"),
    "persons": ("persons", _switch, "0 or 1"),
    "start": ("start_s", _number(0, 1e11), "seconds since the epoch"),
    "fps": ("fps", _number(0.1, 120), "frames per second from 0.1 to 120"),
}
