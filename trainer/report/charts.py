"""Curves of a run and a map of the embeddings. PNG files, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.clustering.transit import EDGES_S, Transits
from trainer.data.records import spread
from trainer.errors import WorldError

INK, GRID, FAINT = "#30343b", "#e3e6ea", "#c9ced6"
COLOURS = ("#1f6feb", "#d9730d", "#2f9e6e", "#b0439a", "#7a6ff0", "#8a8f98")
SMOOTHED = 7  # logged losses that the strong line is the mean of
NOT_LOSSES = {"event", "wall_s", "step", "rate", "waited_s"}
Lines = list[dict[str, Any]]


def curves(path: Path, epochs: Lines, steps: Lines, tests: Lines) -> None:
    """Losses, clusters, label-free quality and test scores over the steps, from the run's log. What it does not hold
    has no panel; no file where it holds nothing."""
    from matplotlib.figure import Figure

    losses = {name: name for name in sorted({key for line in steps for key in line} - NOT_LOSSES)}
    quality = {"silhouette": "silhouette", "outlier_share": "outliers", "one_camera_share": "clusters of one camera"}
    panels = [
        ("Losses", steps, losses),
        ("Clusters", epochs, {"clusters": "clusters", "proxies": "proxies (cluster × camera)"}),
        ("Quality of the clusters, without labels", epochs, quality),
        ("Test set, %: for the log only", tests, {"mAP": "mAP", "R1": "R1", "mINP": "mINP"}),
    ]
    panels = [panel for panel in panels if any(_points(panel[1], name)[0] for name in panel[2])]
    if not panels:
        return
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    figure = Figure(figsize=(6 * columns, 3.7 * rows), layout="constrained", facecolor="white")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, lines, names) in zip(places, panels, strict=False):
        if lines is steps:
            _plot_noisy(axes, lines, names)
        else:
            _plot(axes, lines, names)
        _dress(axes, title)
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    _save(figure, path)


def embedding_map(path: Path, features: NDArray[np.float32], labels: NDArray[np.int64], limit: int = 2000) -> None:
    """A 2-D map (t-SNE, van der Maaten and Hinton 2008) of crops spread evenly over all, coloured by label; outliers
    grey."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    rows = spread(len(features), limit)
    if len(rows) < 5:
        return
    perplexity = min(30, (len(rows) - 1) // 3)
    places = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(features[rows])
    figure = Figure(figsize=(9, 9), layout="constrained", facecolor="white")
    axes = figure.subplots()
    clustered = labels[rows] >= 0
    across, down = places.T
    axes.scatter(across[~clustered], down[~clustered], s=7, c=FAINT, linewidths=0)
    axes.scatter(
        across[clustered], down[clustered], s=14, c=labels[rows][clustered] * 7 % 20, cmap="tab20", linewidths=0
    )
    axes.set(xticks=[], yticks=[], frame_on=False)
    axes.set_title(
        f"{len(rows):,} of {len(features):,} crops; one colour per cluster (colours repeat), outliers grey",
        loc="left", color=INK, fontsize=11,
    )  # fmt: skip
    _save(figure, path)


def ways(path: Path, transits: Transits, shown: int = 12) -> None:
    """How much likelier a wait is within one identity than by chance, for the pairs of cameras where time says most."""
    from matplotlib.figure import Figure

    count = len(transits.names)
    pairs = [(a, b) for a in range(count) for b in range(a, count)]  # the way back is the same curve, mirrored
    pairs = sorted(pairs, key=lambda pair: -float(np.abs(np.log(_above_zero(transits.ratios[pair]))).mean()))[:shown]
    figure = Figure(figsize=(12, 1 + 2.4 * -(-len(pairs) // 3)), layout="constrained", facecolor="white")
    panels = figure.subplots(-(-len(pairs) // 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
    marks = {"−1 h": -3600, "−1 min": -60, "0": 0, "1 min": 60, "1 h": 3600}
    for axes, (a, b) in zip(panels, pairs, strict=False):
        values = _above_zero(transits.ratios[a, b])
        edges = np.arange(len(values) + 1) - len(values) / 2
        axes.stairs(np.maximum(values, 1), edges, baseline=1, fill=True, color=COLOURS[0])
        axes.stairs(np.minimum(values, 1), edges, baseline=1, fill=True, color=COLOURS[1], alpha=0.6)
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xticks(np.interp(list(marks.values()), EDGES_S, edges[1:-1]), list(marks))
        one = "the same camera again" if a == b else f"camera {transits.names[a]} → camera {transits.names[b]}"
        _dress(axes, f"camera {transits.names[a]}: {one}" if a == b else one)
        axes.set_xlabel("")
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    figure.supylabel("times likelier than by chance", color=INK, fontsize=10)
    _save(figure, path)


def _above_zero(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratios, 0.01)


def similarities(path: Path, counts: dict[str, NDArray[np.int64]], limits: dict[str, float]) -> None:
    """Histograms (n,) of cosines from −1 to 1, each over the part where there are any, with vertical limits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    lowest = 1.0
    for colour, (name, values) in zip(COLOURS, counts.items(), strict=False):
        edges = np.linspace(-1, 1, len(values) + 1)
        axes.stairs(values, edges, fill=True, color=colour, alpha=0.8, label=name)
        lowest = min([lowest, *edges[:-1][values > 0]])
    for colour, (name, limit) in zip((INK, FAINT), limits.items(), strict=False):
        axes.axvline(limit, color=colour, linewidth=1.5, linestyle="--", label=f"{name} {limit:g}")
        lowest = min(lowest, limit)
    _dress(axes, "Held-out crops by the cosine between the float embedding and the one that ships")
    axes.set_xlabel("cosine", color=INK)
    axes.set_xlim(lowest - 0.05 * (1 - lowest) - 1e-4, 1 + 1e-4)
    axes.legend(frameon=False, labelcolor=INK)
    _save(figure, path)


def layer_costs(path: Path, costs: dict[str, float], left_out: set[str], unit: str, shown: int = 40) -> None:
    """The layers that suffer most when they alone are quantized, in `unit`; another colour for those left out."""
    from matplotlib.figure import Figure

    names = sorted(costs, key=lambda name: -costs[name])[:shown][::-1]
    figure = Figure(figsize=(11, 1.4 + 0.24 * len(names)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    colours = [COLOURS[1] if name in left_out else COLOURS[0] for name in names]
    axes.barh(range(len(names)), [costs[name] for name in names], color=colours, height=0.7)
    axes.set_yticks(range(len(names)), [name if len(name) <= 60 else f"…{name[-59:]}" for name in names], fontsize=8)
    _dress(axes, f"{len(names)} of {len(costs)} layers; orange ones were left out of INT8")
    axes.set_xlabel(f"{unit} when this layer alone is INT8", color=INK)
    _save(figure, path)


def _plot(axes: Any, lines: Lines, names: dict[str, str]) -> None:
    for colour, (name, text) in zip(COLOURS, names.items(), strict=False):
        places, values = _points(lines, name)
        if len(places):
            axes.plot(places, values, color=colour, linewidth=2, marker="o", markersize=4, label=text)


def _plot_noisy(axes: Any, lines: Lines, names: dict[str, str]) -> None:
    """Every value faintly, their running mean strongly."""
    for colour, (name, text) in zip(COLOURS, names.items(), strict=False):
        places, values = _points(lines, name)
        axes.plot(places, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(places, _running_mean(values, SMOOTHED), color=colour, linewidth=2, label=text)


def _points(lines: Lines, name: str) -> tuple[list[int], NDArray[np.float64]]:
    """Steps and values (n,) of the lines that hold the name."""
    there = [line for line in lines if line.get(name) is not None]
    return [line["step"] for line in there], np.array([line[name] for line in there], np.float64)


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(n,) mean of each value and the width − 1 before it; of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - width)
    return (sums[ends] - sums[begins]) / np.maximum(1, ends - begins)


def _dress(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel("steps", color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.margins(x=0.02)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color(FAINT)
    if axes.lines:
        axes.legend(frameon=False, labelcolor=INK)


def _save(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from error
