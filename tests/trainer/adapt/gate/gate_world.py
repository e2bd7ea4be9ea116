"""A town whose pictures are vectors, so that models of it can be trained and judged in seconds, with its truth.

A vehicle has a class, a colour and details of its own. A camera sees the details from its side, adds its cast, the
hour's light, and noise of the passage and of each crop. A model is a matrix and a normalisation, trained on pairs with
InfoNCE by gradient descent. Other towns share the vehicles' nature, not the cameras and the light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.adapt.gate import gate
from trainer.adapt.gate.controls import Control, Way
from trainer.adapt.gate.lift import comparisons
from trainer.adapt.gate.verdict import Figures, GateSettings, Measure, Verdict

PICTURE, FEATURE, DETAILS = 96, 32, 16
CLASSES, COLOURS = ("car", "van", "truck", "bus"), 8
CLASS_SHARES, COLOUR_SHARES = (0.62, 0.2, 0.12, 0.06), (0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05)
ROADS = {  # from → (to, share, median seconds)
    "gate": (("market", 0.5, 14.0), ("bridge", 0.36, 21.0)),
    "market": (("harbour", 0.8, 17.0),),
    "bridge": (("harbour", 0.78, 12.0),),
    "harbour": (),
}
WAYS = [Way(a, b, median / 2, median * 2) for a, onward in ROADS.items() for b, _, median in onward]
ENTRIES = (("gate", 0.6), ("market", 0.2), ("bridge", 0.2))
CROPS, BATCH = 6, 128
HOUR_S, START_S = 3600.0, 1_700_002_800.0  # a full hour
Model = Callable[["Passages"], np.ndarray]  # → (N, CROPS, D) float32, unit rows


@dataclass(frozen=True)
class Nature:
    """What vehicles look like everywhere: directions in picture space."""

    classes: np.ndarray  # (4, PICTURE)
    colours: np.ndarray  # (8, PICTURE)
    details: np.ndarray  # (DETAILS, PICTURE)


def nature() -> Nature:
    rng = np.random.default_rng(2024)
    return Nature(*(rng.normal(size=(count, PICTURE)) / PICTURE**0.5 for count in (len(CLASSES), COLOURS, DETAILS)))


@dataclass(frozen=True)
class Passages:
    """N passages in order of their entry, with the truth."""

    cameras: np.ndarray  # (N,) names
    entered_s: np.ndarray  # (N,)
    left_s: np.ndarray  # (N,)
    vehicles: np.ndarray  # (N,) int
    classes: np.ndarray  # (N,) int
    colours: np.ndarray  # (N,) int
    follows: np.ndarray  # (N,) the passage that this one truly continues, −1 for none
    pictures: np.ndarray  # (N, CROPS, PICTURE)

    def __len__(self) -> int:
        return len(self.vehicles)

    @property
    def hours(self) -> np.ndarray:
        return ((self.entered_s - START_S) // HOUR_S).astype(int)


class Town:
    """One town: its cameras and its light; `drive` makes traffic."""

    def __init__(
        self, seed: int, cast: float = 1.0, light: float = 1.5, noise: float = 1.0, details: float = 0.25
    ) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.nature, self.noise, self.light, self.details = nature(), noise, light, details
        self.casts = {name: cast * self._direction() for name in ROADS}
        self.sides = {name: 1.5 * self.rng.normal(size=(DETAILS, PICTURE)) / PICTURE**0.5 for name in ROADS}
        self.daylight = np.stack([self._direction() for _ in range(4)])

    def _direction(self) -> np.ndarray:
        vector = self.rng.normal(size=PICTURE)
        return vector / np.linalg.norm(vector)

    def drive(self, hours: Sequence[int], per_hour: float, seed: int) -> Passages:
        """Traffic of some hours; who enters in one leaves in it or a little later."""
        rng, visits, vehicle = np.random.default_rng([seed, 2]), [], 0
        for hour in hours:
            for entered in np.sort(rng.uniform(0, HOUR_S - 120, rng.poisson(per_hour))):
                visits += _trip(rng, START_S + hour * HOUR_S + entered, vehicle, len(visits))
                vehicle += 1
        order = sorted(range(len(visits)), key=lambda n: visits[n][1])
        place = {old: new for new, old in enumerate(order)}
        visits = [visits[n] for n in order]
        cameras, entered, left, vehicles, before = (np.array(column) for column in zip(*visits, strict=True))
        classes = rng.choice(len(CLASSES), vehicle, p=CLASS_SHARES)
        colours = rng.choice(COLOURS, vehicle, p=COLOUR_SHARES)
        details = rng.normal(size=(vehicle, DETAILS))
        follows = np.array([place[b] if b >= 0 else -1 for b in before])
        bare = Passages(cameras, entered, left, vehicles, classes[vehicles], colours[vehicles], follows, np.zeros(0))
        return replace(bare, pictures=self._pictures(rng, bare, details[vehicles]))

    def _pictures(self, rng: np.random.Generator, of: Passages, details: np.ndarray) -> np.ndarray:
        kind = self.nature.classes[of.classes] + self.nature.colours[of.colours]
        seen = np.stack([d @ (self.nature.details + self.sides[c]) for d, c in zip(details, of.cameras, strict=True)])
        cast = np.stack([self.casts[camera] for camera in of.cameras])
        day = (of.entered_s - START_S) / HOUR_S
        waves = np.stack([np.sin(day * 0.7), np.cos(day * 0.7), np.sin(day * 2.1), np.cos(day * 2.1)], 1)
        still = kind + self.details * seen + cast + self.light * waves @ self.daylight
        still = still + self.noise * rng.normal(size=still.shape) / PICTURE**0.5
        own = self.noise * rng.normal(size=(len(of), CROPS, PICTURE)) / PICTURE**0.5
        return still[:, None] + own


def _trip(rng: np.random.Generator, now: float, vehicle: int, first: int) -> list[tuple[str, float, float, int, int]]:
    """Camera, entry, exit, vehicle, and the number of the passage before; this trip's own begin with `first`."""
    camera, visits = str(rng.choice([name for name, _ in ENTRIES], p=[share for _, share in ENTRIES])), []
    while True:
        dwell = rng.uniform(5, 12)
        visits.append((camera, now, now + dwell, vehicle, first + len(visits) - 1 if visits else -1))
        chance = rng.random()
        for onward, share, median in ROADS[camera]:
            if chance < share:
                camera, now = onward, now + dwell + median * float(np.exp(0.12 * rng.normal()))
                break
            chance -= share
        else:
            return visits


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def trained(pairs: tuple[np.ndarray, np.ndarray], start: np.ndarray | None, seed: int, steps: int = 250) -> np.ndarray:
    """(PICTURE, FEATURE): a matrix trained on M pairs of pictures that show one vehicle, (M, PICTURE) each, by InfoNCE
    in batches of 128 with Adam; from `start`, or from chance."""
    rng = np.random.default_rng([seed, 3])
    weights = rng.normal(size=(PICTURE, FEATURE)) / PICTURE**0.5 if start is None else start.copy()
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        rows = rng.integers(len(pairs[0]), size=BATCH)
        slope = _slope(weights, pairs[0][rows], pairs[1][rows])
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        moved = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        weights -= (0.01 if start is None else 0.003) * moved
    return weights


def _slope(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The gradient of InfoNCE, both ways round, at temperature 0.1."""
    features = [side @ weights for side in (left, right)]
    lengths = [np.linalg.norm(one, axis=1, keepdims=True) for one in features]
    u, v = (one / length for one, length in zip(features, lengths, strict=True))
    odds = np.exp((u @ v.T - 1) / 0.1)
    error = (odds / odds.sum(1, keepdims=True) + odds / odds.sum(0, keepdims=True) - 2 * np.eye(BATCH)) / BATCH / 0.1
    du, dv = error @ v, error.T @ u
    du = (du - u * (u * du).sum(1, keepdims=True)) / lengths[0]
    dv = (dv - v * (v * dv).sum(1, keepdims=True)) / lengths[1]
    return left.T @ du + right.T @ dv


def must_links(of: Passages, rng: np.random.Generator, count: int = 6000, wrong: float = 0.0) -> tuple:
    """Pairs of pictures of one vehicle on two passages; a share `wrong` of them shows a look-alike instead: another
    vehicle of the class and the colour, as a clustering would mistake it."""
    later = np.flatnonzero(of.follows >= 0)
    right = rng.choice(later, count)
    left = of.follows[right]
    kinds = of.classes * COLOURS + of.colours
    for row in np.flatnonzero(rng.random(count) < wrong):
        alike = np.flatnonzero((kinds == kinds[right[row]]) & (of.vehicles != of.vehicles[right[row]]))
        left[row] = rng.choice(alike) if len(alike) else left[row]
    crops = rng.integers(CROPS, size=(2, count))
    return of.pictures[left, crops[0]], of.pictures[right, crops[1]]


def matrix(weights: np.ndarray) -> Model:
    return lambda of: unit(of.pictures @ weights)


def controls_of(of: Passages, old: np.ndarray, new: np.ndarray) -> list[Control]:
    """The passages as the gate wants them, with rows (N, CROPS, D) of both models."""
    spread = np.linspace(0.1, 0.9, CROPS)
    return [
        Control(
            f"{camera}-{number}",
            camera,
            CLASSES[of.classes[number]],
            float(of.entered_s[number]),
            float(of.left_s[number]),
            of.entered_s[number] + spread * (of.left_s[number] - of.entered_s[number]),
            old[number],
            new[number],
        )
        for number, camera in enumerate(of.cameras)
    ]


def true_first(of: Passages, rows: np.ndarray) -> float:
    """With the truth, which the gate never has: the share of true continuations that are more like the passage they
    continue than everybody else of the class who entered that camera within ten minutes of them; k equals count 1/k."""
    means, hits = unit(rows.mean(1)), []
    for camera in ROADS:  # free of the cameras' casts, as the association compares
        here = of.cameras == camera
        means[here] = unit(means[here] - means[here].mean(0))
    for to in np.flatnonzero(of.follows >= 0):
        rivals = (of.cameras == of.cameras[to]) & (of.classes == of.classes[to])
        rivals &= np.abs(of.entered_s - of.entered_s[to]) < 600
        values = means[rivals] @ means[of.follows[to]]
        first = values >= values.max() - 1e-5
        hits.append((means[to] @ means[of.follows[to]] >= values.max() - 1e-5) / first.sum())
    return float(np.mean(hits))


@dataclass(frozen=True)
class Case:
    """One model before the gate, and what the truth says of it."""

    verdict: Verdict
    figures: Figures
    true_first: float
    true_wrong: float  # share of the confirmed matches that are wrong


class Court:
    """The gate over one town's held-out passages; the model in force is measured once."""

    def __init__(self, judged: Passages, in_force: np.ndarray, settings: GateSettings) -> None:
        self.judged, self.in_force, self.settings = judged, in_force, settings
        self._controls = controls_of(judged, in_force, in_force)
        self._compared = comparisons(self._controls, WAYS, settings.unit_s)
        self.exits = self._compared.exits
        self.old = gate.figures(self._controls, WAYS, self._compared, "old", settings)

    def judge(self, rows: np.ndarray) -> Case:
        """As `gate.judge`, without an anchor set."""
        controls = controls_of(self.judged, self.in_force, rows)
        new = gate.figures(controls, WAYS, self._compared, "new", self.settings)
        no_anchor = Measure("drift", "not judged", None, None, None, "no anchor set here")
        verdict = gate.decide(self._compared, self.old, new, self.settings, 0, drift=no_anchor)
        return Case(verdict, new, true_first(self.judged, rows), self._wrong(new))

    def _wrong(self, figures: Figures) -> float:
        pairs = [tuple(int(name.split("-")[1]) for name in pair) for pair in figures.decoys.matches]
        return float(np.mean([self.judged.follows[to] != from_ for from_, to in pairs])) if pairs else 1.0


@dataclass(frozen=True)
class Scene:
    """A town with its models. In force is a generic one, trained with labels on a little of two other towns."""

    town: Town
    training: Passages
    judged: Passages
    generic: np.ndarray
    adapted: np.ndarray  # the generic one, trained on this town's must-links


def scene(seed: int, per_hour: float = 60.0, hours: int = 14) -> Scene:
    town, rng = Town(seed), np.random.default_rng(seed)
    training = town.drive(range(10), 100, seed * 10 + 1)
    judged = town.drive(range(20, 20 + hours), per_hour, seed * 10 + 2)
    others = [must_links(Town(seed * 1000 + k).drive(range(4), 15, k), rng, 2000) for k in (1, 2)]
    generic = trained(tuple(np.concatenate(side) for side in zip(*others, strict=True)), None, seed)
    return Scene(town, training, judged, generic, trained(must_links(training, rng), generic, seed))


def adversaries(of: Scene, seed: int) -> dict[str, np.ndarray]:
    """Name → rows (N, CROPS, D) of the judged passages. Trained: shuffled labels, wrong must-links, another site's
    model; the others are made of what is known of a passage."""
    rng, kind, here = np.random.default_rng([seed, 4]), of.town.nature, of.judged
    shape = (len(here), CROPS, FEATURE)
    waves, phases = rng.normal(size=FEATURE) * 2, rng.uniform(0, 2 * np.pi, FEATURE)
    time = (here.entered_s[:, None] - START_S) / HOUR_S
    codes = {name: rng.normal(size=FEATURE) for name in ROADS}
    left, right = must_links(of.training, rng)
    elsewhere = Town(seed * 1000 + 99).drive(range(4), 30, 5)
    by_passage = {
        "constant": np.ones((len(here), FEATURE)),
        "class only": kind.classes[here.classes],
        "camera code": np.stack([codes[camera] for camera in here.cameras]),
        "hour-of-day code": np.cos(time * waves + phases),  # of the time, finer than the hour: harder to see through
        "colour only": kind.colours[here.colours],
    }
    by_training = {
        "shuffled labels": trained((left, rng.permutation(right)), of.generic, seed),
        "20 % wrong must-links": trained(must_links(of.training, rng, 1500, 0.2), of.adapted, seed, steps=600),
        "another site's model": trained(must_links(elsewhere, rng), None, seed),
        "the old model renamed": of.generic,
    }
    rows = {name: unit(np.broadcast_to(one[:, None], (*shape[:2], one.shape[1]))) for name, one in by_passage.items()}
    return rows | {name: matrix(weights)(here) for name, weights in by_training.items()}


def noisy(rows: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Rows (N, CROPS, D) with noise of that length."""
    noise = np.random.default_rng([seed, 5]).normal(size=rows.shape) / rows.shape[-1] ** 0.5
    return unit(rows + level * noise)
