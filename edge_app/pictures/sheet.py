"""The contact sheet: matched pairs side by side, for a person to judge.

With the truth at hand (a simulated site) each pair is framed by it, and the wrong and the missed ones come last under
headings of their own. Without it, the least certain matches come first: those are the ones worth a look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_app.associate.facts import Match
from edge_app.pictures import style
from edge_app.pictures.album import Album
from edge_app.types import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal["right", "wrong", "missed"]

COLUMNS, ROWS = 4, 6
MARGIN, GAP = 44, 22
CARD_WIDTH, CARD_HEIGHT = 384, 206
WELL_WIDTH, WELL_HEIGHT = 145, 116  # where a picture lies
PADDING = 16
TITLE_HEIGHT, HEADING_HEIGHT, LINE_HEIGHT = 118, 50, 26

COLOURS: dict[Verdict | None, str] = {
    "right": style.RIGHT,
    "wrong": style.WRONG,
    "missed": style.MISSED,
    None: style.NEUTRAL,
}
HEADINGS: dict[Verdict | None, str] = {
    "right": "Right",
    "wrong": "Wrong: two different vehicles",
    "missed": "Missed: the same vehicle, not matched",
    None: "Confirmed, the least certain first",
}


@dataclass(frozen=True, slots=True)
class Look:
    """One end of a pair. `picture` is (h, w, 3) uint8 BGR, None where there are no pixels."""

    camera: str
    time_s: float
    picture: Image | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two passages that were matched, or should have been. `verdict` is None where nobody knows the truth."""

    first: Look
    second: Look
    class_name: str
    verdict: Verdict | None = None
    posterior: float | None = None  # None for a pair that was not matched
    global_id: str | None = None

    @property
    def transit_s(self) -> float:
        return self.second.time_s - self.first.time_s


def pairs_of(
    matches: Iterable[Match], album: Album, verdicts: Mapping[tuple[str, str], Verdict] | None = None
) -> list[Pair]:
    """One pair per match; `verdicts` by (from track, to track)."""
    return [
        Pair(
            first=Look(match.from_.camera, match.from_.time_s, album.picture(match.from_.track)),
            second=Look(match.to.camera, match.to.time_s, album.picture(match.to.track)),
            class_name=match.class_name,
            verdict=None if verdicts is None else verdicts[match.from_.track, match.to.track],
            posterior=match.posterior,
            global_id=match.global_id,
        )
        for match in matches
    ]


def contact_sheet(
    pairs: Sequence[Pair],
    path: Path,
    title: str = "Seen again",
    subtitle: str = "",
    limit: int = COLUMNS * ROWS,
    *,
    why: Sequence[str] = (),
) -> None:
    """Draw at most `limit` pairs as a PNG; which ones, see `choose`. Raises StoreError when it cannot be written.

    `why`: lines that say why nothing was matched, drawn where there is no pair.
    """
    chosen = choose(pairs, limit)
    groups: dict[Verdict | None, list[Pair]] = {verdict: [] for verdict in ("right", None, "wrong", "missed")}
    for pair in chosen:
        groups[pair.verdict].append(pair)
    shown = [(verdict, group) for verdict, group in groups.items() if group]
    rows = sum(-(-len(group) // COLUMNS) for _, group in shown)
    height = TITLE_HEIGHT + len(shown) * HEADING_HEIGHT + rows * (CARD_HEIGHT + GAP) + MARGIN
    width = 2 * MARGIN + COLUMNS * CARD_WIDTH + (COLUMNS - 1) * GAP
    figure, axes = style.pixel_canvas(width, max(height, 300 if shown else 240 + LINE_HEIGHT * len(why)))
    style.write(axes, (MARGIN, 66), title, 34, weight="bold")
    style.write(axes, (MARGIN, 98), subtitle, 16, style.MUTED)
    if not shown:
        style.write(axes, (MARGIN, 180), "Nothing was matched.", 20, style.MUTED)
        for number, line in enumerate(why, start=1):
            style.write(axes, (MARGIN, 190 + LINE_HEIGHT * number), line, 16, style.MUTED)
    top = float(TITLE_HEIGHT)
    for verdict, group in shown:
        total = sum(pair.verdict == verdict for pair in pairs)
        top = _draw_group(axes, top, group, _heading(verdict, len(group), total))
    style.save(figure, path)


def choose(pairs: Sequence[Pair], limit: int) -> list[Pair]:
    """The most telling pairs: mistakes first (they get up to half the room), then the least certain of every link."""
    mistakes = [pair for pair in pairs if pair.verdict in ("wrong", "missed")]
    mistakes.sort(key=lambda pair: (pair.verdict == "missed", -(pair.posterior or 0.0), pair.second.time_s))
    others = [pair for pair in pairs if pair.verdict not in ("wrong", "missed")]
    kept = mistakes[: max(limit // 2, limit - len(others))]
    kept += sorted(_spread(others, limit - len(kept)), key=lambda pair: (pair.posterior or 0.0, pair.second.time_s))
    return kept


def _spread(pairs: Sequence[Pair], limit: int) -> list[Pair]:
    """Up to `limit` pairs, in turns from every link, the least certain of each first; pairs with pictures preferred."""
    links: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=_doubt):
        links[pair.first.camera, pair.second.camera].append(pair)
    taken: list[Pair] = []
    turn = 0
    while len(taken) < min(limit, len(pairs)):
        taken += [group[turn] for _, group in sorted(links.items()) if turn < len(group)]
        turn += 1
    return taken[:limit]


def _doubt(pair: Pair) -> tuple[bool, float, float]:
    return (pair.first.picture is None or pair.second.picture is None, pair.posterior or 0.0, pair.second.time_s)


def _heading(verdict: Verdict | None, shown: int, total: int) -> tuple[str, str, str]:
    count = f"{total}" if shown == total else f"{shown} of {total}"
    if shown < total and verdict in ("right", None):
        count += ", the least certain of every link"
    return HEADINGS[verdict], count, COLOURS[verdict]


def _draw_group(axes: Axes, top: float, pairs: list[Pair], heading: tuple[str, str, str]) -> float:
    """Draws a heading and its cards; returns where the next group begins."""
    text, count, colour = heading
    axes.plot([MARGIN + 5], [top + 22], "o", color=colour, markersize=7)
    name = style.write(axes, (MARGIN + 20, top + 28), text, 18, weight="bold")
    style.write_after(axes, name, count, 15)
    top += HEADING_HEIGHT
    for index, pair in enumerate(pairs):
        row, column = divmod(index, COLUMNS)
        _draw_card(axes, MARGIN + column * (CARD_WIDTH + GAP), top + row * (CARD_HEIGHT + GAP), pair)
    return top + -(-len(pairs) // COLUMNS) * (CARD_HEIGHT + GAP)


def _draw_card(axes: Axes, left: float, top: float, pair: Pair) -> None:
    colour = COLOURS[pair.verdict]
    _rounded(axes, (left, top, CARD_WIDTH, CARD_HEIGHT), 12, style.PANEL, colour)
    second = left + CARD_WIDTH - PADDING - WELL_WIDTH
    for x, look in ((left + PADDING, pair.first), (second, pair.second)):
        _draw_look(axes, x, top + PADDING, look)
    middle = left + CARD_WIDTH / 2
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 12}
    y = top + PADDING + WELL_HEIGHT / 2
    dashed = {"linestyle": (0, (2, 2))} if pair.verdict == "missed" else {}
    axes.annotate("", (middle + 15, y), (middle - 15, y), arrowprops={**arrow, **dashed})
    style.write(axes, (middle, y - 13), f"{pair.transit_s:.1f} s", 13, style.TEXT, ha="center", weight="bold")
    base = top + CARD_HEIGHT - PADDING
    name = style.write(axes, (left + PADDING + 1, base), pair.class_name, 13, style.MUTED)
    if pair.global_id is not None:
        style.write_after(
            axes, name, "#" + pair.global_id.rpartition("-")[2], 13, style.identity_colour(pair.global_id)
        )
    if pair.posterior is not None:
        _draw_posterior(axes, left + CARD_WIDTH - PADDING, base, pair)
    else:
        style.write(axes, (left + CARD_WIDTH - PADDING, base), "not matched", 13, colour, ha="right")


def _draw_look(axes: Axes, left: float, top: float, look: Look) -> None:
    """A picture in its well, and below it where and when."""
    well = _rounded(axes, (left, top, WELL_WIDTH, WELL_HEIGHT), 8, style.WELL, style.LINE)
    if look.picture is None:
        style.write(
            axes, (left + WELL_WIDTH / 2, top + WELL_HEIGHT / 2 + 4), "no picture", 12, style.FAINT, ha="center"
        )
    else:
        picture = axes.imshow(
            _fitted(look.picture),
            extent=(left, left + WELL_WIDTH, top + WELL_HEIGHT, top),
            interpolation="antialiased",
            aspect="auto",
            zorder=3,
        )
        picture.set_clip_path(well)
    style.write(axes, (left + 1, top + WELL_HEIGHT + 24), look.camera, 15, weight="bold")
    style.write(
        axes, (left + WELL_WIDTH - 1, top + WELL_HEIGHT + 24), style.clock(look.time_s), 12, style.MUTED, ha="right"
    )


def _fitted(picture: Image) -> Image:
    """(h, w, 3) BGR → RGB at twice the well's size: the whole picture, on a dark blur of itself."""
    import cv2

    width, height = 2 * WELL_WIDTH, 2 * WELL_HEIGHT
    thumbnail = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA)
    canvas = cv2.GaussianBlur(cv2.resize(thumbnail, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), 14)
    canvas = np.asarray(canvas * 0.3, np.uint8)
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    whole = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = whole
    return np.ascontiguousarray(canvas[..., ::-1])


def _draw_posterior(axes: Axes, right: float, base: float, pair: Pair) -> None:
    """A small bar with its number, ending at `right`."""
    assert pair.posterior is not None
    length, left, y = 96, right - 46 - 96, base - 5
    axes.plot([left, left + length], [y, y], color=style.LINE, lw=3.5, solid_capstyle="round", zorder=3)
    full = left + length * max(pair.posterior, 0.02)
    axes.plot([left, full], [y, y], color=COLOURS[pair.verdict], lw=3.5, solid_capstyle="round", zorder=4)
    style.write(axes, (right, base), f"{pair.posterior:.3f}"[:5], 13, style.TEXT, ha="right")


def _rounded(axes: Axes, box: tuple[float, float, float, float], radius: float, face: str, edge: str):  # type: ignore[no-untyped-def]
    from matplotlib.patches import FancyBboxPatch

    left, top, width, height = box
    patch = FancyBboxPatch(
        (left, top), width, height, boxstyle=f"round,pad=0,rounding_size={radius}", fc=face, ec=edge, lw=1.3, zorder=2
    )
    axes.add_patch(patch)
    return patch
