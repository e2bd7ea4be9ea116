"""Models on the hours that no training saw: pictures in, the gate's verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Gate, Precision
from trainer.adapt.crops.index import About
from trainer.adapt.crops.material import ANCHOR, JUDGED, picture_of, read_about
from trainer.adapt.gate import gate
from trainer.adapt.gate.controls import Control, Way
from trainer.adapt.gate.verdict import GateSettings, Purpose, Verdict
from trainer.adapt.settings import SiteSettings
from trainer.commands import load_network
from trainer.data.cache import cached
from trainer.data.images import check_images
from trainer.data.records import Crops
from trainer.extract import ExtractSettings
from trainer.measure import with_network
from trainer.onnx_graph.session import rows_of
from trainer.parallel import join

if TYPE_CHECKING:
    from onnx import ModelProto

ALL_BAD = 1.0  # share of unreadable pictures that is left out: the gate says when too few are left
Rows = NDArray[np.float32]  # (N, D) unit rows of a hearing's crops


@dataclass(frozen=True)
class Hearing:
    """The judged passages and the anchor set of one round, whose tables and pictures lie in `folder`."""

    settings: SiteSettings
    folder: Path
    cache: Path

    @cached_property
    def sides(self) -> tuple[list[About], list[About]]:
        """Judged and anchor crops; one may be in both."""
        judged, anchor = (read_about(self.folder / name) for name in (JUDGED, ANCHOR))
        return judged, anchor

    @cached_property
    def _readable(self) -> tuple[Crops, dict[int, int]]:
        """Every crop once, and its row by its number."""
        about = list({one.id: one for side in self.sides for one in side}.values())
        paths = tuple(picture_of(self.folder, one.id) for one in about)
        unknown = np.full(len(about), -1)
        crops = Crops(paths, unknown, np.array([one.captured_s for one in about], np.float64), unknown)
        if not about:
            return crops, {}
        kept = check_images(crops, ALL_BAD).kept
        return crops.take(kept), {about[old].id: row for row, old in enumerate(kept.tolist())}

    def rows(self, model: Path) -> Rows:
        """All crops by a model.pt or an ONNX file."""
        crops, _ = self._readable
        if not len(crops):
            return np.zeros((0, 1), np.float32)
        network, spec = load_network(model)
        processes = join()
        embed = with_network(network.to(processes.device), spec, ExtractSettings(), self.cache, processes)
        return embed(crops)[0]

    def rows_as_shipped(self, model: Path, network: ModelProto) -> Rows:
        """All crops by a network that was exported from the model, on ONNX Runtime; of unit length, as a node makes
        them."""
        crops, _ = self._readable
        rows = rows_of(network, cached(crops, load_network(model)[1], self.cache).pixels)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))

    def verdict(self, old: Rows, new: Rows, best: Rows, settings: GateSettings) -> Verdict:
        """On `new` against `old`, and on the anchor set against `best`. The same values give the same verdict."""
        ways = [
            Way(one.from_camera, one.to_camera, one.transit.min_s, one.transit.max_s) for one in self.settings.links
        ]
        judged, anchor = self.sides
        controls = self._controls(judged, old, new)
        return gate.judge(controls, ways, settings, seed=0, anchor=self._controls(anchor, best, new))

    def _controls(self, side: Sequence[About], old: Rows, new: Rows) -> list[Control]:
        """One per passage, in order of their names."""
        place = self._readable[1]
        ordered = sorted((one for one in side if one.id in place), key=lambda one: (one.passage, one.captured_s))
        found = []
        for passage, group in groupby(ordered, key=lambda one: one.passage):
            crops = list(group)
            one, rows = crops[0], [place[each.id] for each in crops]
            about = passage, one.camera, one.class_name, one.entered_s, one.left_s
            times_s = np.array([each.captured_s for each in crops])
            found.append(Control(*about, times_s, old=old[rows], new=new[rows]))
        return found


def judge(hearing: Hearing, old: Path, new: Path, best: Path) -> Verdict:
    """The verdict on the files of three models; each is asked once, also where two are the same."""
    rows = {model: hearing.rows(model) for model in {old, new, best}}
    return hearing.verdict(rows[old], rows[new], rows[best], hearing.settings.gate)


class Refresh:
    """Is what ships as good as the accepted model? The same gate on the same passages, as a refresh: a little may be
    lost. For `export.Request.confirm`; `found` keeps what was said, by precision."""

    def __init__(self, hearing: Hearing, model: Path, best: Path) -> None:
        self.hearing, self.model, self.best = hearing, model, best
        self.found: dict[str, dict[str, Any]] = {}

    def __call__(self, precision: Precision, network: ModelProto) -> tuple[Gate, ...]:
        if precision == "fp32":  # the model that was judged; that the file computes the same is checked
            return ()
        rows = self.hearing.rows_as_shipped(self.model, network)
        settings = self.hearing.settings.gate.model_copy(update={"purpose": "refresh"})
        old, best = self._float_rows
        verdict = self.hearing.verdict(old, rows, best, settings)
        self.found[precision] = facts(verdict)
        return gates_of(verdict, f"{precision}_site_")

    @cached_property
    def _float_rows(self) -> tuple[Rows, Rows]:
        rows = {model: self.hearing.rows(model) for model in {self.model, self.best}}
        return rows[self.model], rows[self.best]


def gates_of(verdict: Verdict, prefix: str) -> tuple[Gate, ...]:
    """The measures for a bundle's manifest. Of a lift the figure is the interval's lower end, which the bound is for; a
    measure that could not be taken was not passed, but for drift, which has to wait for its set."""
    return tuple(
        Gate(
            name=prefix + one.name.replace(" ", "_"),
            value=(one.interval or (0.0,))[0] if one.name == "placebo lift" else one.value or 0.0,
            limit=one.bound or 0.0,
            passed=one.outcome == "passed",
        )
        for one in verdict.measures
        if (one.name, one.outcome) != ("drift", "not judged")
    )


PASSED: dict[Purpose, str] = {"adaptation": "is better", "refresh": "does no harm, which is all that was asked"}


def sentence(verdict: Verdict) -> str:
    """The decision for people."""
    if verdict.decision == "publish":
        return f"the new model {PASSED[verdict.purpose]}: {verdict.measures[0].sentence}"
    said = {one.name: one.sentence for one in verdict.measures}
    reasons = "; ".join(f"{name}: {said.get(name, '')}" for name in verdict.reasons)
    words = {"refuse": "the new model is refused", "not judged": "the new model cannot be judged"}
    return f"{words[verdict.decision]}: {reasons}"


def facts(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values."""
    return {**asdict(verdict), "sentence": sentence(verdict)}
