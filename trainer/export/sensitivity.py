"""Which layers suffer from INT8, and the fewest of them to leave out so that the gate passes.

A layer's cost is measured alone: every Q/DQ pair of the network is taken out but those before this layer, and the cost
is what the bench calls its loss: 1 − the cosine with the float rows, of the worst crops, or 1 − the likeness of boxes.
Then layers are left out of INT8 in the order of their costs, 1, 2, 4, … (where there are few, 1, 2, 3, …), until the
network passes or the budget is spent. Costs do not simply add up; a measured order is still a good one. The order comes
from calibration data; only its length is chosen on the data of the gate, among ten lengths or so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trainer.onnx_graph.nodes import quantized_layers, unquantized

if TYPE_CHECKING:
    from onnx import ModelProto

BUDGET = 0.3  # of the quantized layers may be left out; beyond, FP16 is the better choice
TOLD_S = 10.0  # between two lines about the time left
FEW = 12  # lengths that are all tried; the lowest cosine of a network of few layers goes up and down with each of them


class Trial(NamedTuple):
    """A network with some layers left out of INT8."""

    model: ModelProto
    float_layers: tuple[str, ...]


def costs(
    quantized: ModelProto,
    loss: Callable[[ModelProto], float],
    report: Callable[[str], None] = lambda line: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Layer → what `loss` says when it alone is quantized. As many runs as layers; `report` hears how long it takes."""
    layers = quantized_layers(quantized)
    found: dict[str, float] = {}
    begin = told = monotonic()
    for done, layer in enumerate(layers, start=1):
        found[layer] = loss(unquantized(quantized, set(layers) - {layer}))
        now = monotonic()
        if now - told >= TOLD_S and done < len(layers):
            report(f"layer {done} of {len(layers)}, {time_left(now - begin, done, len(layers))}")
            told = now
    return found


def most_trials(layers: int, budget: float) -> int:
    """How many networks `search` tries at most."""
    limit = int(budget * layers)
    return (
        limit if limit <= FEW else limit.bit_length() + 4
    )  # powers of two, the limit, and three halvings to an eighth


def time_left(spent_s: float, done: int, total: int) -> str:
    """In words, when all take as long as those that are done."""
    left_s = spent_s / done * (total - done)
    return f"about {left_s:.0f} s left" if left_s < 100 else f"about {left_s / 60:.0f} min left"


def search(
    quantized: ModelProto, cost: dict[str, float], passes: Callable[[ModelProto], bool], budget: float = BUDGET
) -> Trial | None:
    """The first network that `passes`, with as few float layers as the steps 1, 2, 4, … and a bisection find, of few
    lengths the shortest; None when there is none within the budget."""
    order = sorted(cost, key=lambda layer: -cost[layer])
    limit = int(budget * len(order))
    tried: dict[int, ModelProto] = {}

    def good(count: int) -> bool:
        tried[count] = unquantized(quantized, set(order[:count]))
        return passes(tried[count])

    if limit <= FEW:
        count = next((count for count in range(1, limit + 1) if good(count)), None)
        return None if count is None else Trial(tried[count], tuple(order[:count]))
    low, high = 0, 1
    while high <= limit and not good(high):
        low, high = high, high * 2 if high * 2 <= limit or high == limit else limit
    if high > limit:
        return None
    while high - low > max(1, high // 8):  # an eighth more layers than needed do not matter
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return Trial(tried[high], tuple(order[:high]))
