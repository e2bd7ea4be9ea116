"""What a vehicle or person looks like: few shapes, few colours, small marks; and how often two look the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Paint as BGR in neutral light. The first ones are the most frequent; difficulty shortens the list from the end.
PAINT: dict[str, tuple[int, int, int]] = {
    "white": (226, 230, 230),
    "black": (38, 34, 32),
    "silver": (168, 166, 160),
    "grey": (98, 94, 90),
    "red": (38, 34, 168),
    "blue": (148, 78, 34),
    "green": (70, 104, 44),
    "yellow": (38, 184, 222),
    "orange": (32, 104, 214),
    "brown": (48, 72, 108),
}
_FREQUENCY = np.array([0.2, 0.16, 0.14, 0.12, 0.1, 0.1, 0.06, 0.05, 0.04, 0.03])
MARK_PAINT: dict[str, tuple[int, int, int]] = {
    "white": (235, 235, 235),
    "red": (40, 40, 200),
    "blue": (190, 110, 30),
    "yellow": (30, 200, 240),
    "black": (25, 25, 25),
}
# From where a mark can be seen; the roof of a low vehicle shows from every pole.
MARKS: dict[str, tuple[str, ...]] = {
    "roof_rack": ("front", "rear", "side"),
    "roof_sign": ("front", "rear", "side"),
    "two_tone": ("front", "rear", "side"),
    "bonnet_stripe": ("front",),
    "side_stripe": ("front", "rear", "side"),
    "door_sign": ("front", "rear", "side"),
    "rear_sticker": ("rear",),
}
_ROOF_MARKS = ("roof_rack", "roof_sign", "two_tone")
# Shapes of private traffic and their frequencies.
_PRIVATE = (("hatchback", 0.32), ("saloon", 0.26), ("estate", 0.14), ("van", 0.17), ("truck", 0.11))


@dataclass(frozen=True, slots=True)
class Look:
    """One appearance. Two vehicles with equal `key` cannot be told apart but for a faint tint."""

    shape: str
    paint: str
    marks: tuple[tuple[str, str], ...]  # (mark, colour), at most two
    tint: tuple[float, float, float]  # multiplies blue, green, red: age, dirt, batch of the paint

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        return (self.shape, self.paint, self.marks)


# Taxis, parcel vans, city buses, the builder's trucks, two popular private cars: everywhere, and all alike.
_FLEETS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("saloon", "yellow", (("roof_sign", "white"),)),
    ("van", "white", (("side_stripe", "blue"),)),
    ("bus", "red", ()),
    ("hatchback", "white", ()),
    ("saloon", "black", ()),
    ("truck", "white", ()),
)
_FLEET_SHARES = np.array([0.22, 0.2, 0.12, 0.2, 0.16, 0.1])


def fleet_share(difficulty: float) -> float:
    """Share of vehicles that belong to one of a few fleets of look-alikes."""
    return 0.05 + 0.35 * difficulty**3


def draw_look(rng: np.random.Generator, difficulty: float) -> Look:
    """One vehicle's look. The number of draws does not depend on the difficulty, so worlds stay comparable."""
    chances = rng.random(8)
    tint = 1.0 + rng.normal(0.0, 0.035 * (1.0 - 0.6 * difficulty), 3)
    tint_values = (float(tint[0]), float(tint[1]), float(tint[2]))
    if chances[0] < fleet_share(difficulty):
        shape, paint, livery = _FLEETS[_pick(_FLEET_SHARES, chances[1])]
        return Look(shape, paint, tuple(sorted([*livery, *_own_mark(livery, chances, difficulty)])), tint_values)
    shape = _PRIVATE[_pick(np.array([share for _, share in _PRIVATE]), chances[1])][0]
    paints = round(10 - 5 * difficulty**2)
    paint = list(PAINT)[_pick(_FREQUENCY[:paints], chances[2])]
    marks: list[tuple[str, str]] = []
    for chance, threshold in ((3, 0.9 - 0.35 * difficulty**2), (4, 0.45 - 0.2 * difficulty**2)):
        if chances[chance] < threshold:
            share = chances[chance] / threshold
            name = list(MARKS)[int(share * len(MARKS)) % len(MARKS)]
            colour = list(MARK_PAINT)[int(chances[chance + 2] * len(MARK_PAINT))]
            if all(_may_join(name, other) for other, _ in marks):
                marks.append((name, colour))
    return Look(shape, paint, tuple(sorted(marks)), tint_values)


def _own_mark(livery: tuple[tuple[str, str], ...], chances: np.ndarray, difficulty: float) -> list[tuple[str, str]]:
    """What sets one vehicle of a fleet apart, where it has such a thing at all: an advertisement, a repaired door."""
    threshold = 0.9 * (1.0 - difficulty)
    if chances[2] >= threshold:
        return []
    name = list(MARKS)[int(chances[3] * len(MARKS))]
    colour = list(MARK_PAINT)[int(chances[4] * len(MARK_PAINT))]
    return [(name, colour)] if all(_may_join(name, other) for other, _ in livery) else []


def draw_person_look(rng: np.random.Generator) -> Look:
    """A pedestrian: the paint is the jacket, the marks are a bag and a hat."""
    paint = list(PAINT)[_pick(_FREQUENCY, rng.random())]
    marks = [("trousers", str(rng.choice(["black", "blue", "white"])))]
    if rng.random() < 0.5:
        marks.append(("bag", str(rng.choice(["red", "black", "yellow"]))))
    return Look("person", paint, tuple(sorted(marks)), (1.0, 1.0, 1.0))


def _may_join(mark: str, other: str) -> bool:
    return mark != other and not (mark in _ROOF_MARKS and other in _ROOF_MARKS)


def _pick(shares: np.ndarray, chance: float) -> int:
    cumulative = np.cumsum(shares)
    return min(int(np.searchsorted(cumulative, chance * cumulative[-1], side="right")), len(shares) - 1)
