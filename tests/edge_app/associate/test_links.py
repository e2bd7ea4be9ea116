from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_world import link

from edge_app.associate import links
from edge_app.associate.settings import TransitSettings
from edge_app.associate.state import CameraModel

LINK = link("a", "b", 10.0)


def camera(name: str = "a") -> CameraModel:
    return CameraModel(name)


def test_the_density_integrates_to_one() -> None:
    transit = links.transit(LINK, links.new_link(LINK))
    times = np.linspace(LINK.transit.min_s, LINK.transit.max_s, 20_000)
    densities = [np.exp(transit.log_density(time)) for time in times]
    assert np.trapezoid(densities, times) == pytest.approx(1.0, abs=0.01)


def test_the_gate_is_closed_outside_the_limits() -> None:
    transit = links.transit(LINK, links.new_link(LINK))
    assert transit.log_density(LINK.transit.min_s - 0.01) == -np.inf
    assert transit.log_density(LINK.transit.max_s + 0.01) == -np.inf
    assert np.isfinite(transit.log_density(LINK.transit.max_s))


def test_the_prior_peaks_near_the_typical_time() -> None:
    transit = links.transit(LINK, links.new_link(LINK))
    assert transit.log_density(7.0) > transit.log_density(2.6)  # the mode of a log-normal lies before its median
    assert transit.log_density(7.0) > transit.log_density(30.0)
    assert transit.arrived_by(10.0) == pytest.approx(0.5, abs=0.12)


def test_confirmed_transits_move_and_sharpen_the_density() -> None:
    model = links.new_link(LINK)
    rng = np.random.default_rng(0)
    for _ in range(100):
        model = links.learn_transit(LINK, model, float(20 * np.exp(0.1 * rng.normal())), 1.0)
    learned = links.transit(LINK, model)
    assert learned.log_density(20.0) > learned.log_density(10.0) + 1.5
    assert learned.p99_s < links.transit(LINK, links.new_link(LINK)).p99_s


def test_a_jam_cannot_kill_a_link() -> None:
    model = links.new_link(LINK)
    for _ in range(1000):
        model = links.learn_transit(LINK, model, 10.0, 1.0)
    assert links.transit(LINK, model).log_density(45.0) > np.log(1e-4)


def test_a_share_is_learned_from_its_prior() -> None:
    model = links.new_link(LINK)
    assert links.share_taken(LINK, model, 2, "car") == pytest.approx(links.ONWARD / 2)
    for _ in range(300):
        model = links.learn_share(model, 0.9, "car")
    assert links.share_taken(LINK, model, 2, "car") == pytest.approx(0.9, abs=0.05)
    assert links.share_taken(LINK, model, 2, "bus") == pytest.approx(0.9, abs=0.05), "it leans on what all do"


def test_each_class_has_a_share_of_its_own() -> None:
    model = links.new_link(LINK)
    for _ in range(200):
        model = links.learn_share(links.learn_share(model, 0.9, "car"), 0.1, "bus")
    assert links.share_taken(LINK, model, 2, "car") == pytest.approx(0.9, abs=0.08)
    assert links.share_taken(LINK, model, 2, "bus") == pytest.approx(0.1, abs=0.08)


def test_the_rate_of_newcomers_follows_the_traffic() -> None:
    busy = camera()
    for second in range(600):
        busy = links.learn_entry(busy, 1000.0 + second, 0.5, "car")
    assert links.rate_of_new(busy, "car") == pytest.approx(0.5, rel=0.1)
    assert links.rate_of_new(camera(), "car") > 0


def test_newcomers_of_each_class_come_as_often_as_they_do() -> None:
    """Nine cars in ten are no newcomers, of the buses half are; a class that was never seen is rare."""
    busy = camera()
    for second in range(1800):
        name, is_new = ("bus", 0.5) if second % 10 == 0 else ("car", 0.1)
        busy = links.learn_entry(busy, 1000.0 + second, is_new, name)
    assert links.rate_of_new(busy, "car") == pytest.approx(0.9 * 0.1, rel=0.1)
    assert links.rate_of_new(busy, "bus") == pytest.approx(0.1 * 0.5, rel=0.15)
    assert links.rate_of_new(busy, "tram") < 0.01


@pytest.mark.parametrize("values", [(5, 4, 10), (5, 11, 10), (5, None, 5), (0, 1, 2)])
def test_impossible_transit_times_are_refused(values: tuple[float, float | None, float]) -> None:
    with pytest.raises(ValidationError):
        TransitSettings(min_s=values[0], typical_s=values[1], max_s=values[2])
