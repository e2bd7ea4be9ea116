"""The look of all pictures: one dark palette, one colour per identity, DejaVu Sans (it comes with matplotlib)."""

from __future__ import annotations

import colorsys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

from edge_app.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

RGB: TypeAlias = tuple[float, float, float]  # in [0, 1]
Colour: TypeAlias = str | RGB

BACKGROUND, PANEL, WELL, LINE = "#0d1117", "#161b22", "#0a0d12", "#30363d"
TEXT, MUTED, FAINT = "#e6edf3", "#8b949e", "#484f58"
RIGHT, WRONG, MISSED, NEUTRAL = "#3fb950", "#f85149", "#d29922", "#58a6ff"
FONT = "DejaVu Sans"
PIXELS_PER_INCH = 100  # of layout; saved with half as many again
_SAVED_PIXELS_PER_INCH = 150
_GOLDEN = 0.618034  # of the colour circle: neighbours in number are far apart in hue
_LEAST_BRIGHTNESS = 0.5
_HUES = (0.10, 0.92)  # red is kept for what is wrong


def identity_colour(global_id: str) -> RGB:
    """The same identity has the same colour everywhere, and is bright enough for the dark background."""
    counter = global_id.rpartition("-")[2]
    number = int(counter) if counter.isascii() and counter.isdigit() else crc32(global_id.encode())
    low, high = _HUES
    hue = low + (number * _GOLDEN % 1.0) * (high - low)
    red, green, blue = colorsys.hls_to_rgb(hue, 0.62 + 0.08 * (number % 3 - 1), 0.62)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    white = max(0.0, (_LEAST_BRIGHTNESS - brightness) / (1.0 - brightness))  # blues need some
    return red + white * (1 - red), green + white * (1 - green), blue + white * (1 - blue)


def clock(time_s: float, digits: int = 1) -> str:
    """Seconds since the epoch → `22:13:41.2`, UTC."""
    scale = 10**digits
    ticks = round(time_s * scale)
    whole = datetime.fromtimestamp(ticks // scale, tz=timezone.utc)
    return f"{whole:%H:%M:%S}" + (f".{ticks % scale:0{digits}d}" if digits else "")


def pixel_canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure with one axes in layout pixels, y down."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH, facecolor=BACKGROUND
    )
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


def write(
    axes: Axes, place: tuple[float, float], text: str, size_px: float, colour: Colour = TEXT, **options: Any
) -> Text:
    """Text with its baseline at `place`, in layout pixels."""
    return axes.text(*place, text, fontsize=_points(size_px), color=colour, family=FONT, zorder=6, **options)


def write_after(axes: Axes, before: Text, text: str, size_px: float, colour: Colour = MUTED) -> Text:
    """Text on the same baseline, a little to the right of `before`."""
    right = before.get_window_extent().x1  # the figure's pixels are layout pixels
    return write(axes, (right + 0.7 * size_px, before.get_position()[1]), text, size_px, colour)


def _points(size_px: float) -> float:
    return size_px * 72 / PIXELS_PER_INCH


def save(figure: Figure, path: Path) -> None:
    """Write a PNG. Raises StoreError."""
    try:
        figure.savefig(path, dpi=_SAVED_PIXELS_PER_INCH, facecolor=BACKGROUND, format="png")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; is the folder there and writable?") from error
