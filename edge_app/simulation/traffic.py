"""Who drives where and when: arrivals, routes, and car following inside each camera's view.

Everything is drawn from the seed, one stream per entry and one generator per vehicle, and events are worked off in
the order of time; a longer world therefore begins exactly like a shorter one.
Car following: G. F. Newell, "A simplified car-following theory: a lower order model", Transportation Research B 36
(2002): a follower repeats the path of its leader, shifted by a reaction time and a distance.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.looks import Look, draw_look, draw_person_look
from edge_app.simulation.shapes import SHAPES, Shape
from edge_app.simulation.sites import CameraSpec, Entry, Light, LinkSpec, SiteSpec
from edge_app.simulation.views import View

STEP_S = 0.2  # positions are stored this often, and are linear in between
_REACTION_S = 1.1
_GAP_M = 2.2
_PARK_SHARE = 0.025  # of transits that are interrupted by a stop at the kerb
_PERSON_TRANSIT = 1.6  # people take this much longer than vehicles from camera to camera
_PERSON_RATE = 0.04  # people per second at each entry


@dataclass(frozen=True, slots=True)
class Passage:
    """One vehicle in front of one camera. Times are seconds since the epoch."""

    vehicle: int
    camera: str
    entry_time_s: float
    exit_time_s: float
    class_name: str
    look: Look = field(repr=False, compare=False)
    lateral_m: float = field(repr=False, compare=False)
    grid_start_s: float = field(repr=False, compare=False)
    positions_m: NDArray[np.float64] = field(
        repr=False, compare=False
    )  # (T,) of the front bumper, every STEP_S from grid_start_s

    @property
    def shape(self) -> Shape:
        return SHAPES[self.look.shape]

    def position_m(self, time_s: float) -> float:
        """Where the front bumper is."""
        return float(self.positions_at(np.array([time_s]))[0])

    def positions_at(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(T,) positions of the front bumper."""
        places = (times_s - self.grid_start_s) / STEP_S
        return np.interp(places, np.arange(len(self.positions_m)), self.positions_m)

    def speed_mps(self, time_s: float) -> float:
        return (self.position_m(time_s + STEP_S) - self.position_m(time_s)) / STEP_S


@dataclass(frozen=True, slots=True)
class TrueLink:
    """One vehicle left `from_` and next entered `to`, and a road leads there."""

    from_: Passage
    to: Passage

    @property
    def link(self) -> str:
        return f"{self.from_.camera}--{self.to.camera}"

    @property
    def transit_s(self) -> float:
        return self.to.entry_time_s - self.from_.exit_time_s


@dataclass(frozen=True, slots=True)
class Demand:
    """What the traffic depends on besides the site."""

    seed: int
    difficulty: float
    seconds: float
    persons: bool
    start_s: float


@dataclass(slots=True)
class _Vehicle:
    number: int
    look: Look
    speed_factor: float
    rng: np.random.Generator


@dataclass(slots=True)
class _Lane:
    """The last path in a lane, as (grid start, positions, length); it constrains the next vehicle."""

    start_s: float
    positions_m: NDArray[np.float64]
    length_m: float


def simulate(site: SiteSpec, views: dict[str, View], demand: Demand) -> list[Passage]:
    """All passages that touch [start, start + seconds], ordered by entry time. Pure."""
    cameras = {camera.id: camera for camera in site.cameras}
    links = {camera.id: [link for link in site.links if link.from_ == camera.id] for camera in site.cameras}
    lanes: dict[tuple[str, float], _Lane] = {}
    passages: list[Passage] = []
    events: list[tuple[float, int, str, _Vehicle]] = []
    arrivals = _arrivals(site, demand)
    pending = next(arrivals)
    vehicles = order = 0
    while True:
        if not events or pending[0] < events[0][0]:
            time_s, camera, is_person, stream = pending
            vehicle = _new_vehicle(vehicles, [demand.seed, *stream], demand.difficulty, is_person)
            vehicles += 1
            pending = next(arrivals)
        else:
            time_s, _, camera, vehicle = heapq.heappop(events)
        if time_s >= demand.seconds:
            break
        passage = _pass(vehicle, cameras[camera], time_s, views[camera], lanes)
        if passage.exit_time_s > 0.0 and passage.entry_time_s < demand.seconds:
            passages.append(_shifted(passage, demand.start_s))
        onward = _next_camera(vehicle, links[camera], demand.difficulty)
        if onward is not None:
            order += 1
            heapq.heappush(events, (passage.exit_time_s + onward[1], order, onward[0], vehicle))
    return sorted(passages, key=lambda passage: (passage.entry_time_s, passage.vehicle))


def _arrivals(site: SiteSpec, demand: Demand) -> Iterator[tuple[float, str, bool, tuple[int, int]]]:
    """(time, camera, is a person, random stream) in order of time, without end."""
    traffic = 0.8 + 0.4 * demand.difficulty
    streams = [_stream(site, demand, entry, index, traffic) for index, entry in enumerate(site.entries)]
    if demand.persons:
        first = len(streams)
        walkers = [Entry(entry.camera, _PERSON_RATE, 0.0) for entry in site.entries]
        streams += [_stream(site, demand, entry, first + index, 1.0) for index, entry in enumerate(walkers)]
    vehicle_streams = len(site.entries)
    for time_s, index, number in heapq.merge(*streams):
        camera = site.entries[index % vehicle_streams].camera
        yield time_s, camera, index >= vehicle_streams, (index, number)


def _stream(
    site: SiteSpec, demand: Demand, entry: Entry, index: int, traffic: float
) -> Iterator[tuple[float, int, int]]:
    """Poisson arrivals of single vehicles and of platoons."""
    rng = np.random.default_rng([demand.seed, 11, index])
    platoon = 1.0 + 2.0 * entry.platoon_share  # mean size of an arrival
    time_s, number = -site.warm_up_s, 0
    while True:
        time_s += rng.exponential(platoon / (entry.rate_per_s * traffic))
        followers = int(rng.integers(1, 4)) if rng.random() < entry.platoon_share else 0
        for place in range(1 + followers):
            yield time_s + 2.0 * place, index, number
            number += 1
        time_s += 2.0 * followers


def _new_vehicle(number: int, stream: list[int], difficulty: float, is_person: bool) -> _Vehicle:
    rng = np.random.default_rng([13, *stream])
    look = draw_person_look(rng) if is_person else draw_look(rng, difficulty)
    factor = float(np.exp(rng.normal(0.0, 0.07)))
    return _Vehicle(number, look, factor * (0.16 if is_person else 1.0), rng)


def _next_camera(vehicle: _Vehicle, links: list[LinkSpec], difficulty: float) -> tuple[str, float] | None:
    """Where the vehicle turns up next and after how many seconds; None when it turns off for good."""
    chance, noise, parks, pause = vehicle.rng.random(), vehicle.rng.normal(), vehicle.rng.random(), vehicle.rng.random()
    for link in links:
        if chance < link.share:
            transit_s = link.median_s * float(np.exp(link.sigma * noise))
            if vehicle.look.shape == "person":
                transit_s *= _PERSON_TRANSIT
            if parks < 2.0 * _PARK_SHARE * difficulty**2:
                transit_s += 30.0 + 60.0 * pause
            return link.to, transit_s
        chance -= link.share
    return None


def _pass(
    vehicle: _Vehicle, camera: CameraSpec, time_s: float, view: View, lanes: dict[tuple[str, float], _Lane]
) -> Passage:
    """Drive one vehicle through one view, behind whoever is in its lane."""
    shape = SHAPES[vehicle.look.shape]
    speed = camera.speed_mps * vehicle.speed_factor
    if shape.class_name == "person":
        lateral = camera.footway_m + float(vehicle.rng.uniform(-0.7, 0.7))
        leader, light = None, None
    else:
        large = shape.class_name in ("truck", "bus")
        lateral = camera.lanes_m[0 if large else int(vehicle.rng.integers(len(camera.lanes_m)))]
        leader, light = lanes.get((camera.id, lateral)), camera.light
    begin, end = view.span_m(shape, lateral)
    positions = _drive(time_s, (begin, end), speed, leader, light)
    grid = time_s + STEP_S * np.arange(len(positions))
    # np.interp needs increasing positions: standing vehicles repeat them, a tiny slope breaks the ties.
    rising = positions + 1e-9 * np.arange(len(positions))
    entry_s, exit_s = np.interp([begin + 0.01, end], rising, grid)
    if shape.class_name != "person":
        lanes[camera.id, lateral] = _Lane(time_s, positions, shape.length_m)
    return Passage(
        vehicle.number,
        camera.id,
        float(entry_s),
        float(exit_s),
        shape.class_name,
        vehicle.look,
        lateral,
        time_s,
        positions,
    )


def _drive(
    time_s: float, span_m: tuple[float, float], speed: float, leader: _Lane | None, light: Light | None
) -> NDArray[np.float64]:
    """(T,) positions every STEP_S from time_s until past the end of the span."""
    begin, end = span_m
    seconds = (end - begin) / speed * 1.25 + 3.0
    while True:
        times: NDArray[np.float64] = time_s + STEP_S * np.arange(int(seconds / STEP_S) + 2, dtype=np.float64)
        positions: NDArray[np.float64] = begin + speed * (times - time_s)
        if leader is not None:
            positions = np.minimum(positions, _behind(leader, times))
        if light is not None:
            positions = _stop_at(light, times, positions, speed)
        # Drivers brake and start softly: a short moving average, padded with the ends' own slopes.
        head = positions[0] - speed * STEP_S * np.array([2.0, 1.0])
        tail = positions[-1] + (positions[-1] - positions[-2]) * np.array([1.0, 2.0])
        positions = np.convolve(np.concatenate([head, positions, tail]), np.full(5, 0.2), "valid").astype(np.float64)
        if positions[-1] > end:
            stop = int(np.argmax(positions > end)) + 1
            return positions[: stop + 8]  # a little beyond the end, for whoever follows
        seconds *= 2.0


def _behind(leader: _Lane, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Newell's bound: the leader's path, a reaction time later and a length behind."""
    places = (times - _REACTION_S - leader.start_s) / STEP_S
    bound = np.interp(places, np.arange(len(leader.positions_m)), leader.positions_m, right=np.inf)
    return bound - leader.length_m - _GAP_M


def _stop_at(
    light: Light, times: NDArray[np.float64], positions: NDArray[np.float64], speed: float
) -> NDArray[np.float64]:
    """Wait at the stop line while it is red. A driver who meets yellow (the last moment) drives on."""
    beyond = positions > light.stop_line_m
    if not beyond.any() or beyond[0]:
        return positions
    crossing_s = times[int(np.argmax(beyond))]
    into_cycle = crossing_s % light.cycle_s
    if into_cycle >= light.red_s:
        return positions
    green_s = crossing_s - into_cycle + light.red_s + 0.8
    released = light.stop_line_m + np.where(times < green_s, 0.0, speed * (times - green_s))
    return np.minimum(positions, released)


def _shifted(passage: Passage, start_s: float) -> Passage:
    return Passage(
        passage.vehicle,
        passage.camera,
        passage.entry_time_s + start_s,
        passage.exit_time_s + start_s,
        passage.class_name,
        passage.look,
        passage.lateral_m,
        passage.grid_start_s + start_s,
        passage.positions_m,
    )
