"""What the association compares, and the pairs that are certain without a label."""

from __future__ import annotations

import numpy as np
import pytest

from edge_app.contract.similarity import (
    CameraMean,
    Track,
    at_once,
    certain,
    debias,
    debiased,
    learn_camera,
    similarity,
    site_mean,
)

DIMENSION = 32


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def look(seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(1, DIMENSION)))[0]


def track(camera: str, entered: float, left: float, *rows: np.ndarray) -> Track:
    return Track(camera, entered, left, np.stack(rows) if rows else np.zeros((0, DIMENSION), np.float32))


def test_similarity_is_the_mean_of_the_three_best_cosines() -> None:
    rng = np.random.default_rng(0)
    left, right = unit(rng.normal(size=(4, DIMENSION))), unit(rng.normal(size=(3, DIMENSION)))
    cosines = sorted((float(a @ b) for a in left for b in right), reverse=True)
    assert similarity(left, right) == pytest.approx(sum(cosines[:3]) / 3, abs=1e-6)
    assert similarity(left[:1], right[:1]) == pytest.approx(float(left[0] @ right[0]), abs=1e-6)


def test_similarity_ignores_one_bad_view() -> None:
    good = unit(look(1) + 0.02 * np.random.default_rng(0).normal(size=(6, DIMENSION)))
    with_bad = np.concatenate([good, look(2)[None]])
    assert similarity(good, with_bad) == pytest.approx(similarity(good, good), abs=0.02)


def test_debias_removes_what_a_camera_adds() -> None:
    rng = np.random.default_rng(3)
    vehicles = unit(rng.normal(size=(200, DIMENSION)))
    cast = 0.8 * look(5)
    models = {}
    for name, shift in (("plain", 0.0 * cast), ("tinted", cast)):
        model = CameraMean(name, "v1", np.zeros(DIMENSION, np.float32), 0.0)
        for row in vehicles:
            model = learn_camera(model, unit((row + shift)[None]))
        models[name] = model
    site = site_mean(models.values())
    np.testing.assert_allclose(site, np.mean([model.mean for model in models.values()], axis=0), atol=1e-6)
    plain, tinted = unit(vehicles[:1]), unit(vehicles[:1] + cast)
    after = similarity(debias(plain, models["plain"], site), debias(tinted, models["tinted"], site))
    assert after > similarity(plain, tinted) + 0.05


def test_a_new_camera_is_not_corrected() -> None:
    model = CameraMean("a", "v1", look(1), 0.0)
    np.testing.assert_allclose(debias(look(2)[None], model, look(3)), look(2)[None], atol=1e-6)


def test_tracks_are_freed_of_their_own_cameras_means() -> None:
    cast = 0.8 * look(5)
    faces = [look(10 + n) for n in range(200)]
    tracks = [track("plain", n, n + 1, face) for n, face in enumerate(faces)]
    tracks += [track("tinted", n, n + 1, unit((face + cast)[None])[0]) for n, face in enumerate(faces)]
    moved = debiased([*tracks, track("tinted", 0, 1)])
    assert similarity(moved[0].embeddings, moved[200].embeddings) > 0.95
    assert similarity(tracks[0].embeddings, tracks[200].embeddings) < 0.9
    assert len(moved[-1].embeddings) == 0
    assert debiased([]) == []


def test_at_once_is_in_view_of_one_camera_at_the_same_time() -> None:
    first, second, third = track("a", 0, 10), track("a", 9, 20), track("a", 10, 12)
    elsewhere = track("b", 0, 30)
    found = list(at_once([third, elsewhere, second, first]))
    assert found == [(first, second), (second, third)]  # one that left as another came was not there at once


def test_the_pairs_that_are_certain() -> None:
    """Genuine: the thirds of one track, not its middle. Impostors: a third of each, so that both have equally many."""
    a, b, c = (look(n) for n in range(3))
    turning = track("a", 0, 10, a, a, b, b, c, c)  # first third a, last third c
    other = track("a", 5, 15, c, b, a)
    short = track("a", 6, 15, c, c)  # no thirds: counts for nothing
    found = certain([turning, other, short, track("b", 5, 9, a, a, a)])
    np.testing.assert_allclose(sorted(found.genuine), sorted([float(a @ c), float(a @ c), 1.0]), atol=1e-6)
    np.testing.assert_allclose(found.impostor, [1.0], atol=1e-6)  # a of the first, a at the end of the second
    nothing = certain([])
    assert len(nothing.genuine) == len(nothing.impostor) == 0
