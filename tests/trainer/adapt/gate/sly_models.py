"""Five more models that should not pass the gate, each half honest: they keep something that is true of the model in
force, or of a better one, and add or leave out something that a careless judge would not miss."""

from __future__ import annotations

import numpy as np
from gate_world import CROPS, FEATURE, HOUR_S, ROADS, START_S, Scene, matrix, noisy, unit

GOOD_LINK = ("gate", "market")
TIME_WEIGHTS = (0.1, 0.2, 0.3, 0.4)  # of the code, against a row of length one
LATE_S = {"gate": 0.0, "market": 22.5, "bridge": 29.5, "harbour": 49.0}  # the median way there from the gate


def sly(of: Scene, seed: int) -> dict[str, np.ndarray]:
    """Name → rows (N, CROPS, D) of the judged passages."""
    rng, here = np.random.default_rng([seed, 7]), of.judged
    old, adapted = (matrix(weights)(here) for weights in (of.generic, of.adapted))
    turn = np.linalg.qr(rng.normal(size=(FEATURE, FEATURE)))[0]
    on_link = np.isin(here.cameras, GOOD_LINK)[:, None, None]
    return {
        "class in half the dimensions": beside(old, unit(of.town.nature.classes[here.classes])[:, None]),
        "better on one link, constant elsewhere": unit(np.where(on_link, adapted, FEATURE**-0.5)),
        "better on one link, old elsewhere": np.where(on_link, adapted, old),
        "old model turned, a little noise": unit(old @ turn + 0.1 * rng.normal(size=old.shape) / FEATURE**0.5),
        **{f"old model and {name}": made for name, made in with_clock(of, old, seed).items()},
        "training tracks by heart": by_heart(of, rng),
    }


def half_trained(of: Scene, seed: int) -> np.ndarray:
    """Rows of a model in force that keeps every bound but could still be better: the adapted one, with some noise."""
    return noisy(matrix(of.adapted)(of.judged), 0.6, seed)


def with_clock(of: Scene, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """A model in force, and what it becomes with a clock beside it, that of the entry, or one that every camera reads
    late by the way there: then whoever comes as late as most is alike. The nearest thing to a gain that tells no
    vehicles apart; a network could read it off a picture where the camera writes the time into it."""
    rng = np.random.default_rng([seed, 8])
    late_s = np.array([LATE_S[camera] for camera in of.judged.cameras])
    clocks = {"the time": seconds(of, rng), "the time of the way": seconds(of, rng, late_s, 40.0)}
    return {f"{name}, weight {w:g}": beside(rows, w * code) for name, code in clocks.items() for w in TIME_WEIGHTS}


def beside(rows: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Unit rows in which both stand side by side."""
    return unit(np.concatenate([rows, np.broadcast_to(more, (*rows.shape[:2], more.shape[-1]))], axis=-1))


def seconds(of: Scene, rng: np.random.Generator, late_s: np.ndarray | float = 0.0, turns: float = 10.0) -> np.ndarray:
    """(N, 1, FEATURE): a code of the time of entry, less what a camera is late; alike within a minute or two, as long
    as a link takes, or a few seconds, with more turns an hour."""
    time = ((of.judged.entered_s - late_s)[:, None] - START_S) / HOUR_S
    waves = rng.normal(size=FEATURE // 2) * 2 * np.pi * turns
    code = np.concatenate([np.cos(time * waves), np.sin(time * waves)], axis=1)
    return code[:, None] / np.linalg.norm(code, axis=1)[:, None, None]


def by_heart(of: Scene, rng: np.random.Generator) -> np.ndarray:
    """Every training vehicle has a code of its own, without fault; whoever is new gets that of the nearest one, by the
    model in force as it sees that camera."""
    known, here = of.training, of.judged
    codes = unit(rng.normal(size=(known.vehicles.max() + 1, FEATURE)))
    rows = np.empty((len(here), CROPS, FEATURE), np.float32)
    means = unit(matrix(of.generic)(known).mean(1))
    asked = matrix(of.generic)(here)
    for camera in ROADS:
        mine, theirs = known.cameras == camera, here.cameras == camera
        nearest = (asked[theirs] @ means[mine].T).argmax(-1)
        rows[theirs] = codes[known.vehicles[mine][nearest]]
    return rows
