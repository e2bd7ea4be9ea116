"""The timeline: cameras as lanes, passages as bars, matches as curves in the colour of their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_app.associate.facts import Match
from edge_app.pictures import style
from edge_app.pictures.sheet import Verdict
from edge_app.types import Tracklet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW_S = 150.0  # more would not be readable
PIXELS_PER_S = 13.0
BAR_PX, ROW_PX = 9.0, 14.0
LANE_PADDING, LANE_GAP = 16.0, 30.0
LEFT, RIGHT, TOP, BOTTOM = 150.0, 48.0, 138.0, 74.0
LEAST_BAR_S = 0.4
BETWEEN_BARS_S = 0.8


@dataclass
class _Lane:
    """One camera: where its rows are, and which row each tracklet lies in."""

    top: float
    height: float
    rows: dict[str, int] = field(default_factory=dict)

    def y(self, track: str) -> float:
        return self.top + LANE_PADDING + (self.rows[track] + 0.5) * ROW_PX


def timeline(
    path: Path,
    cameras: Sequence[str],
    tracklets: Sequence[Tracklet],
    matches: Sequence[Match],
    *,
    verdicts: Mapping[tuple[str, str], Verdict] | None = None,
    missed: Iterable[tuple[str, str]] = (),
    title: str = "Timeline",
    subtitle: str = "",
) -> None:
    """Draw the last `WINDOW_S` seconds as a PNG. Raises StoreError when it cannot be written.

    `matches` are those that stand; `verdicts` says of each (from track, to track) whether it is right, where that is
    known; `missed` are pairs of tracks that should have been matched.
    """
    end_s = max((t.exit_time_s for t in tracklets), default=0.0)
    begin_s = max(min((t.entry_time_s for t in tracklets), default=0.0), end_s - WINDOW_S)
    drawn = {t.id: t for t in tracklets if t.exit_time_s >= begin_s}
    lanes, bottom = _layout(cameras, list(drawn.values()))
    width = LEFT + max(end_s - begin_s, 40.0) * PIXELS_PER_S + RIGHT
    figure, axes = style.pixel_canvas(round(width), round(bottom + BOTTOM))
    style.write(axes, (44, 62), title, 32, weight="bold")
    style.write(axes, (44, 94), subtitle, 16, style.MUTED)
    chart = _Chart(axes, lanes, begin_s)
    chart.draw_lanes(width)
    chart.draw_ticks(end_s, bottom)
    for ends in missed:
        if set(ends) <= drawn.keys():
            chart.draw_curve((drawn[ends[0]], drawn[ends[1]]), style.MISSED, "missed")
    for match in matches:
        ends = (match.from_.track, match.to.track)
        if set(ends) <= drawn.keys():
            verdict = verdicts[ends] if verdicts is not None else None
            colour = style.WRONG if verdict == "wrong" else style.identity_colour(match.global_id)
            chart.draw_curve((drawn[ends[0]], drawn[ends[1]]), colour, verdict)
    identities = {track: m.global_id for m in matches for track in (m.from_.track, m.to.track)}
    for tracklet in drawn.values():
        chart.draw_bar(tracklet, identities.get(tracklet.id))
    _draw_legend(axes, width, verdicts is not None)
    style.save(figure, path)


def _layout(cameras: Sequence[str], tracklets: Sequence[Tracklet]) -> tuple[dict[str, _Lane], float]:
    """Lanes from top to bottom, each with as many rows as bars lie over one another; and where the last one ends."""
    lanes: dict[str, _Lane] = {}
    top = TOP
    for camera in cameras:
        free_s: list[float] = []  # per row, when its last bar ends
        rows: dict[str, int] = {}
        for tracklet in sorted((t for t in tracklets if t.camera == camera), key=lambda t: (t.entry_time_s, t.id)):
            row = next((i for i, end_s in enumerate(free_s) if end_s <= tracklet.entry_time_s), len(free_s))
            free_s[row : row + 1] = [max(tracklet.exit_time_s, tracklet.entry_time_s + LEAST_BAR_S) + BETWEEN_BARS_S]
            rows[tracklet.id] = row
        height = 2 * LANE_PADDING + max(len(free_s), 2) * ROW_PX
        lanes[camera] = _Lane(top, height, rows)
        top += height + LANE_GAP
    return lanes, top - LANE_GAP


@dataclass(frozen=True)
class _Chart:
    """Where things lie, and how they are drawn."""

    axes: Axes
    lanes: Mapping[str, _Lane]
    begin_s: float

    def x(self, time_s: float) -> float:
        return LEFT + max(time_s - self.begin_s, 0.0) * PIXELS_PER_S

    def draw_lanes(self, width: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        for camera, lane in self.lanes.items():
            box = FancyBboxPatch(
                (44, lane.top),
                width - 44 - RIGHT + 14,
                lane.height,
                boxstyle="round,pad=0,rounding_size=10",
                fc=style.PANEL,
                ec="none",
                zorder=1,
            )
            self.axes.add_patch(box)
            style.write(self.axes, (62, lane.top + lane.height / 2 - 4), camera, 17, weight="bold", va="baseline")
            passages = f"{len(lane.rows)} passage" + ("" if len(lane.rows) == 1 else "s")
            style.write(self.axes, (62, lane.top + lane.height / 2 + 15), passages, 12, style.MUTED)

    def draw_ticks(self, end_s: float, bottom: float) -> None:
        first = int(-(-self.begin_s // 10)) * 10
        for time_s in range(first, int(end_s) + 1, 10):
            x = self.x(time_s)
            for lane in self.lanes.values():
                self.axes.plot(
                    [x, x], [lane.top, lane.top + lane.height], color=style.LINE, lw=0.7, alpha=0.6, zorder=1.5
                )
            style.write(self.axes, (x, bottom + 26), style.clock(time_s, 0), 12, style.MUTED, ha="center")

    def draw_bar(self, tracklet: Tracklet, global_id: str | None) -> None:
        from matplotlib.patches import FancyBboxPatch

        left = self.x(tracklet.entry_time_s)
        length = max(self.x(tracklet.exit_time_s) - left, LEAST_BAR_S * PIXELS_PER_S)
        colour = style.FAINT if global_id is None else style.identity_colour(global_id)
        bar = FancyBboxPatch(
            (left, self.lanes[tracklet.camera].y(tracklet.id) - BAR_PX / 2),
            length,
            BAR_PX,
            boxstyle=f"round,pad=0,rounding_size={BAR_PX / 2 - 0.5}",
            fc=colour,
            ec=style.PANEL,
            lw=0.8,
            zorder=4,
        )
        self.axes.add_patch(bar)

    def draw_curve(self, ends: tuple[Tracklet, Tracklet], colour: style.Colour, verdict: Verdict | None) -> None:
        """An S from where the first passage ends to where the second begins."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Curve

        first, second = ends
        x1, y1 = self.x(first.exit_time_s), self.lanes[first.camera].y(first.id)
        x2, y2 = self.x(second.entry_time_s), self.lanes[second.camera].y(second.id)
        bend = max(abs(x2 - x1) * 0.5, 24.0)
        points = [(x1, y1), (x1 + bend, y1), (x2 - bend, y2), (x2, y2)]
        curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
        width, alpha = {"wrong": (2.6, 1.0), "missed": (1.5, 0.9)}.get(verdict or "", (1.6, 0.9))
        dashes = (0, (4, 3)) if verdict == "missed" else "solid"
        gap = PathPatch(curve, fc="none", ec=style.BACKGROUND, lw=width + 2.2, alpha=0.55, zorder=2.9)  # at crossings
        self.axes.add_patch(gap)
        self.axes.add_patch(PathPatch(curve, fc="none", ec=colour, lw=width, alpha=alpha, linestyle=dashes, zorder=3))


def _draw_legend(axes: Axes, width: float, with_truth: bool) -> None:
    """Right-aligned, in the title's line."""
    entries = [("one identity", "identity", "solid")]
    if with_truth:
        entries += [("wrong", style.WRONG, "solid"), ("missed", style.MISSED, "dashed")]
    entries.append(("not matched", style.FAINT, "bar"))
    x = width - RIGHT
    for text, colour, kind in reversed(entries):
        label = style.write(axes, (x, 62), text, 13, style.MUTED, ha="right")
        x = label.get_window_extent().x0 - 10  # the figure's pixels are layout pixels
        if colour == "identity":
            for step in range(3):
                left = x - 30 + step * 11
                shade = style.identity_colour(f"-{step}")
                axes.plot([left, left + 8], [58, 58], color=shade, lw=4, solid_capstyle="round")
        else:
            dashes = (0, (2, 1.4)) if kind == "dashed" else "solid"
            axes.plot([x - 28, x], [58, 58], color=colour, lw=4 if kind == "bar" else 2.2, linestyle=dashes)
        x -= 60
