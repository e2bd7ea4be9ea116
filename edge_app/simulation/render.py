"""The first fidelity: pictures. One renderer per camera; a frame is a pure function of the world and the time."""

from __future__ import annotations

import time
from functools import lru_cache

from edge_app.simulation.figures import draw_person, draw_vehicle
from edge_app.simulation.film import Film
from edge_app.simulation.scenery import background
from edge_app.simulation.world import World
from edge_app.types import Image

_BRAKING = 0.82  # of the speed half a second ago: below it the brake lights burn
_STEP_LENGTH_M = 0.75
_background = lru_cache(maxsize=16)(background)  # many worlds share a site


class Renderer:
    """Draws the pictures of one camera. Keeps its background and its noise, nothing about time."""

    def __init__(self, world: World, camera: str) -> None:
        spec = world.camera(camera)
        self._world = world
        self._camera = camera
        self._projection = world.views[camera].projection
        self._background = _background(spec, world.site.name)
        self._film = Film(world.site.name, camera, world.demand.difficulty, (spec.height_px, spec.width_px))

    def frame(self, time_s: float) -> Image:
        """(H, W, 3) uint8 BGR, a new array."""
        picture = self._background.copy()
        for passage in self._world.visible(self._camera, time_s).passages:
            position = passage.position_m(time_s)
            place = (position, passage.lateral_m)
            if passage.class_name == "person":
                phase = position / _STEP_LENGTH_M * 3.1416
                draw_person(picture, self._projection, passage.look, place, phase)
            else:
                speed = passage.speed_mps(time_s)
                braking = speed < 0.4 or speed < _BRAKING * passage.speed_mps(time_s - 0.5)
                draw_vehicle(picture, self._projection, passage.look, place, braking)
        developed = self._film.develop(picture, time_s)
        self._label(developed, time_s)
        return developed

    def _label(self, picture: Image, time_s: float) -> None:
        """The name and clock that such cameras burn into their pictures."""
        import cv2

        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_s))
        text = f"{self._camera.upper()}  {clock}.{int(time_s * 10) % 10}"
        cv2.putText(picture, text, (10, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)
        cv2.putText(picture, text, (9, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
