"""What a network made and nobody can use: left out, counted, said now and then; and when to stop believing it."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import numpy as np

from edge_app.errors import ModelError
from edge_app.types import Detections, Floats

log = logging.getLogger(__name__)

WINDOW = 300  # verdicts that decide whether a network is still believed
HOPELESS = 0.95  # at this share of useless ones among them it is not
SAY_EVERY_S = 300.0

REFUSED_BOXES = "boxes_refused"  # not a number, infinite, or a score above 1
UNKNOWN_BOXES = "boxes_of_unknown_class"
EMPTY_BOXES = "strong_boxes_without_size"
REFUSED_VIEWS = "views_refused"

_MEANING = {
    REFUSED_BOXES: "boxes whose numbers cannot be (not finite, or a score above 1)",
    UNKNOWN_BOXES: "boxes of a class that `class_names` does not name",
    EMPTY_BOXES: "strong boxes smaller than a pixel or outside the picture (does the detector give fractions, where "
    "pixels of its input are expected?)",
    REFUSED_VIEWS: "views whose embedding is zero or not finite",
}


class Losses:
    """Counts until `take`. One bad output is left out, a network of which nearly all are bad is given up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total: Counter[str] = Counter()  # since the start
        self._new: Counter[str] = Counter()
        self._clock = clock
        self._said_s: dict[str, float] = {}
        self._good = {name: deque[bool](maxlen=WINDOW) for name in ("detector", "embedder")}

    def take(self) -> dict[str, int]:
        """What was lost since the last call, by name."""
        taken, self._new = self._new, Counter()
        return dict(taken)

    def judge_frame(self, found: Detections) -> None:
        """One frame's detections. Raises `ModelError` when nearly every frame with boxes has useless ones only."""
        self._add(found.lost)
        if len(found) or found.lost.get(REFUSED_BOXES):
            self._judge("detector", bool(len(found)))

    def judge_views(self, rows: Floats) -> list[bool]:
        """(M, D) embeddings → which of them can be used. Raises `ModelError` when nearly none of the last could."""
        good: list[bool] = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
        self._add({REFUSED_VIEWS: good.count(False)})
        for each in good:
            self._judge("embedder", each)
        return good

    def _judge(self, network: str, good: bool) -> None:
        verdicts = self._good[network]
        verdicts.append(good)
        bad = verdicts.count(False) if not good else 0  # a good one never is the last straw
        if len(verdicts) == WINDOW and bad >= HOPELESS * WINDOW:
            raise ModelError(
                f"the {network} gave useless numbers {bad} times of the last {WINDOW}; "
                "the model or its engine is damaged or does not suit this input: export it again, or try another engine"
            )

    def _add(self, lost: Mapping[str, int]) -> None:
        for name, n in lost.items():
            if not n:
                continue
            self._new[name] += n
            self.total[name] += n
            now_s = self._clock()
            if now_s - self._said_s.get(name, -SAY_EVERY_S) >= SAY_EVERY_S:
                self._said_s[name] = now_s
                log.warning("left out, %d so far: %s", self.total[name], _MEANING.get(name, name))
