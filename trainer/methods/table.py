"""The table of methods: the settings, class and card of each. A new paper is its file, and an entry here.

It imports nothing heavy, so that `trainer methods` is instant: `settings_of` and `class_of` fetch what an entry names.
Tests hold the cards to the code.

Symbols: N crops, K clusters, M proxies (cluster × camera; in our own method also
crops without a cluster), B crops per batch, D length of a feature. Costs are
multiply-adds of a step above the network's own pass, gradients included; memories are float32 rows, in bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trainer.methods.base import MethodClass, MethodSettings


@dataclass(frozen=True, slots=True)
class Card:
    """One method at a glance."""

    title: str
    line: str  # what it does
    paper: str
    code: Literal["exact", "reading", "ours"]  # held to released code, a reading of a paper without any, or our own
    needs_cameras: bool  # every crop must have a camera number
    cameras: str  # what camera numbers are used for
    passes: int  # pictures through the network for every crop of a batch
    cost: str
    memory: str


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a method is: names in its file, `trainer/methods/<name of the method>.py`."""

    settings: str  # a `trainer.methods.base.MethodSettings`
    method: str  # a `trainer.methods.base.Method`
    card: Card


BY_THE_SAMPLER = "optional: a batch takes a cluster's crops from other cameras; clustering can centre each camera"

METHODS = {
    "cluster_contrast": Entry(
        "ClusterContrastSettings",
        "ClusterContrast",
        Card(
            title="Cluster-Contrast",
            line="Cluster every epoch; a crop is drawn to the one memory row of its cluster, away from all others.",
            paper="Dai et al., ACCV 2022, arXiv 2103.11568",
            code="exact",
            needs_cameras=False,
            cameras=BY_THE_SAMPLER,
            passes=1,
            cost="2·B·K·D",
            memory="4·K·D",
        ),
    ),
    "spcl": Entry(
        "SpclSettings",
        "SpCL",
        Card(
            title="SpCL",
            line="A memory row for every crop; clusters that other thresholds do not confirm are dissolved.",
            paper="Ge et al., NeurIPS 2020, arXiv 2006.02713",
            code="exact",
            needs_cameras=False,
            cameras="optional: a batch takes a cluster's crops from other cameras",
            passes=1,
            cost="2·B·N·D",
            memory="4·N·D",
        ),
    ),
    "gracl": Entry(
        "GraclSettings",
        "Gracl",
        Card(
            title="GRACL",
            line=(
                "Two rows per cluster: its crop least related to other clusters, and its crop least related to its own."
            ),
            paper="TCSVT 2022, doi 10.1109/TCSVT.2022.3194084",
            code="reading",
            needs_cameras=False,
            cameras=BY_THE_SAMPLER,
            passes=1,
            cost="5·B·K·D",
            memory="8·K·D",
        ),
    ),
    "scl": Entry(
        "SclSettings",
        "SCL",
        Card(
            title="SCL",
            line=(
                "No clustering: every crop ranks all crops in every step, whole and by stripes, and draws the nearest."
            ),
            paper="Pang et al., ACM TOMM 2022, arXiv 2010.07608",
            code="exact",
            needs_cameras=False,
            cameras="optional: crops of the same camera rank as farther apart",
            passes=1,
            cost="6·B·N·D",
            memory="12·N·D",
        ),
    ),
    "cap": Entry(
        "CapSettings",
        "CAP",
        Card(
            title="CAP",
            line=(
                "One row per cluster and camera; contrast inside the camera, later across the "
                "cluster's cameras as well."
            ),
            paper="Wang et al., AAAI 2021, arXiv 2012.10674",
            code="exact",
            needs_cameras=True,
            cameras=(
                "required: clusters are split by camera, batches are balanced by it, the loss is a sum over cameras"
            ),
            passes=1,
            cost="2·B·M·D",
            memory="4·M·D",
        ),
    ),
    "o2cap": Entry(
        "O2capSettings",
        "O2CAP",
        Card(
            title="O2CAP",
            line="CAP's rows; across cameras by the clusters, and online by the nearest rows of the nearest cameras.",
            paper="Wang et al., IEEE TIP 2022, arXiv 2201.05820",
            code="exact",
            needs_cameras=True,
            cameras="required: as CAP, and at most one online positive per camera",
            passes=1,
            cost="3·B·M·D",
            memory="4·M·D",
        ),
    ),
    "tcrl": Entry(
        "TcrlSettings",
        "TCRL",
        Card(
            title="TCRL",
            line="Whole and masked pictures meet in the clusters: rows per crop and per cluster; far crops weigh less.",
            paper="arXiv 2301.09498",
            code="reading",
            needs_cameras=False,
            cameras=BY_THE_SAMPLER,
            passes=2,
            cost="6·B·K·D + 4·B·N·D",
            memory="4·K·D + 8·N·D",
        ),
    ),
    "crosslane": Entry(
        "CrosslaneSettings",
        "Crosslane",
        Card(
            title="Crosslane",
            line=(
                "O2CAP's two associations without their quarrel, rows for single crops, and "
                "clusters that know the site."
            ),
            paper="ours",
            code="ours",
            needs_cameras=False,
            cameras=(
                "optional, used where known: to centre and split clusters, and one online positive per camera at most"
            ),
            passes=1,
            cost="3·B·M·D",
            memory="4·M·D",
        ),
    ),
}

CARDS = {name: entry.card for name, entry in METHODS.items()}


def settings_of(name: str) -> type[Any]:
    """The settings of a method; a pydantic model that is a `trainer.methods.base.MethodSettings`."""
    kind: type[MethodSettings] = getattr(import_module(f"trainer.methods.{name}"), METHODS[name].settings)
    return kind


def class_of(name: str) -> MethodClass:
    """The class of a method."""
    kind: MethodClass = getattr(import_module(f"trainer.methods.{name}"), METHODS[name].method)
    return kind


def show(cards: dict[str, Card]) -> None:
    """A table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "method", "what it does · paper · cameras", "per step", "memory", box=box.HORIZONTALS, show_lines=True
    )
    for name, card in cards.items():
        source = ", a reading: no code was released" if card.code == "reading" else ""
        about = f"{card.line}\n[dim]{card.paper}{source}[/dim]\ncameras {card.cameras}"
        cost = f"{card.cost}\n[dim]{card.passes} pass{'es' * (card.passes > 1)}[/dim]"
        table.add_row(f"[bold]{name}[/bold]", about, cost, card.memory)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    console.print(
        "N crops, K clusters, M proxies (cluster × camera), B crops per batch, D length of a feature; multiply-adds\n"
        "above the network, passes of each crop through the network, bytes. Choose: trainer/methods/README.md"
    )
