"""Traffic made of real vehicle pictures on a drawn road: two recordings, and the truth of every box in them.

Each vehicle of a folder `query`, `gallery` (one picture each, `car_0003_cam1.jpg`, `car_0003_cam2.jpg`) drives away
from camera a in its first picture and later from camera b in its second. Three lanes that close up in the distance,
vehicles that follow each other and hide what is behind them, a mast in front of the road, brightness that drifts, noise
of the sensor and of the video's codec. Some vehicles turn off between the cameras, and others come from there.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 960, 540, 10
NEAR_Y, FAR_Y = 560.0, 130.0  # where the wheels stand at the beginning and at the end of the way through the picture
FAR_SCALE = 0.35  # of a vehicle's size at the end
LANES = 3
VISIBLE = 0.35  # a box of which less is to be seen is not in the truth
_ENDS = ((FAR_SCALE, FAR_Y), (1.0, NEAR_Y))
CAMERAS = ("a", "b")
HALVES = ("choose", "judge")

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """What is played: `transit` is `log-normal` (median 20 s) or `hcmc` (camera 2 to 3 there: some 12 s)."""

    seed: int
    half: str = "judge"
    transit: str = "log-normal"
    headway_s: float = 2.5
    leaves: float = 0.12  # share of vehicles that are seen by one of the cameras only, by either alike
    classes: tuple[str, ...] = ()  # all of them where empty


@dataclass(frozen=True)
class Visit:
    """One vehicle in front of one camera."""

    vehicle: int
    camera: str
    class_name: str
    picture: Picture
    lane: int
    begins_s: float
    lasts_s: float


def pictures(folder: Path, half: str) -> list[tuple[str, Picture, Picture]]:
    """(class, picture of camera a, of camera b) of every second vehicle of each class: those to choose settings by,
    or the others to judge by."""
    import cv2

    by_class: dict[str, list[str]] = defaultdict(list)
    for path in sorted((folder / "query").glob("*_cam1.jpg")):
        by_class[path.name.split("_")[0]].append(path.name)
    names = [name for ones in by_class.values() for name in ones[HALVES.index(half) :: 2]]
    found = []
    for name in names:
        both = (folder / "query" / name, folder / "gallery" / name.replace("_cam1", "_cam2"))
        first, second = (cv2.imread(str(path)) for path in both)
        found.append((name.split("_")[0], first, second))
    return found


def hcmc_transits(table: Path) -> NDArray[np.float64]:
    """Seconds from leaving camera 2 to entering camera 3 of Ho Chi Minh City's road, of those who took both."""
    times: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    with table.open() as file:
        for row in csv.DictReader(file):
            times[row["vehicle"]][row["camera"]] = float(row["entry_s"]), float(row["exit_s"])
    found = [one["3"][0] - one["2"][1] for one in times.values() if {"2", "3"} <= one.keys()]
    return np.array([seconds for seconds in found if seconds > 1.0])


def visits(data: Path, plan: Plan) -> list[Visit]:
    """The traffic of one plan; in a lane nobody drives through the one in front."""
    rng = np.random.default_rng([plan.seed, HALVES.index(plan.half)])
    known = [one for one in pictures(data / "khoa_vehicles", plan.half) if one[0] in (plan.classes or one[0])]
    order = rng.permutation(len(known))
    begins_s = np.cumsum(rng.exponential(plan.headway_s, len(known))) + 2.0
    if plan.transit == "hcmc":
        real_s = hcmc_transits(data / "hcmc_passages.csv")
        way_s = rng.choice(real_s, len(known)) * np.exp(rng.normal(0, 0.05, len(known)))
    else:
        way_s = np.exp(rng.normal(np.log(20.0), 0.25, len(known)))
    only = rng.random(len(known))  # below `leaves`: a alone; above 1 - `leaves`: b alone
    found = []
    free_s: dict[tuple[str, int], float] = defaultdict(float)  # by camera and lane: nobody enters, or leaves, before
    for vehicle, (index, begin_s, transit_s) in enumerate(zip(order, begins_s, way_s, strict=True)):
        class_name, *both = known[index]
        end_s = begin_s
        for camera, picture in zip(CAMERAS, both, strict=True):
            lasts_s = float(rng.uniform(3.5, 6.5)) * (1.3 if class_name in ("truck", "bus") else 1.0)
            lane = int(rng.integers(LANES))
            begin = end_s if camera == "a" else end_s + transit_s
            begin = max(begin, free_s[camera, lane] - 0.7 * lasts_s)
            free_s[camera, lane] = begin + lasts_s + 0.6
            end_s = begin + lasts_s
            if (camera == "a" and only[vehicle] <= 1 - plan.leaves) or (camera == "b" and only[vehicle] >= plan.leaves):
                found.append(Visit(vehicle, camera, class_name, picture, lane, begin, lasts_s))
    return found


def record(folder: Path, traffic: list[Visit], seed: int) -> int:
    """Write `a.mp4`, `b.mp4` and `truth.jsonl`; the number of boxes."""
    import av

    end_s = max(visit.begins_s + visit.lasts_s for visit in traffic) + 2.0
    count = 0
    with (folder / "truth.jsonl").open("w") as truth:
        for camera in CAMERAS:
            road = _Road(camera, [visit for visit in traffic if visit.camera == camera], seed)
            with av.open(str(folder / f"{camera}.mp4"), "w") as container:
                stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "21"})
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
                for frame in range(int(end_s * FPS)):
                    image, rows = road.draw(frame)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
                    for row in rows:
                        truth.write(json.dumps({"camera": camera, "frame": frame, **row}) + "\n")
                    count += len(rows)
                container.mux(stream.encode())
    return count


class _Road:
    """What one camera sees."""

    def __init__(self, camera: str, traffic: list[Visit], seed: int) -> None:
        self._traffic = sorted(traffic, key=lambda visit: visit.begins_s)
        self._rng = np.random.default_rng([seed, CAMERAS.index(camera), 7])
        self._phase = self._rng.uniform(0, 2 * np.pi)
        self._ground = self._background()
        self._noise = self._rng.normal(0, 3.0, (16, HEIGHT, WIDTH, 1)).astype(np.float32)
        self._mast = 560 if camera == "a" else 330

    def draw(self, frame: int) -> tuple[Picture, list[dict[str, Any]]]:
        """The picture, and the truth of what is to be seen of each vehicle in it."""
        time_s = frame / FPS
        image = self._ground.copy()
        shown: list[tuple[Visit, tuple[int, int, int, int]]] = []
        there = [visit for visit in self._traffic if visit.begins_s <= time_s < visit.begins_s + visit.lasts_s]
        owner = np.full((HEIGHT, WIDTH), -1, np.int16)
        for visit in sorted(there, key=lambda one: _way(one, time_s), reverse=True):  # the farthest first
            box = self._place(visit, time_s)
            self._paste(image, owner, visit.picture, box, len(shown))
            shown.append((visit, box))
        image[:, self._mast : self._mast + 9] = (70, 74, 78)
        owner[:, self._mast : self._mast + 9] = -1
        rows = []
        for index, (visit, box) in enumerate(shown):
            x1, y1, x2, y2 = max(box[0], 0), max(box[1], 0), min(box[2], WIDTH), min(box[3], HEIGHT)
            whole = (box[2] - box[0]) * (box[3] - box[1])
            if x2 - x1 < 4 or y2 - y1 < 4 or (owner[y1:y2, x1:x2] == index).sum() < VISIBLE * whole:
                continue
            rows.append({"box": [x1, y1, x2, y2], "class": visit.class_name, "id": visit.vehicle})
        gain = 1.0 + 0.18 * np.sin(2 * np.pi * time_s / 300.0 + self._phase)
        noisy = image * np.float32(gain) + self._noise[frame % len(self._noise)]
        return np.clip(noisy, 0, 255).astype(np.uint8), rows

    def _place(self, visit: Visit, time_s: float) -> tuple[int, int, int, int]:
        way = _way(visit, time_s)
        closeness = (1 - way) / (1 + way * (1 / FAR_SCALE - 1))  # of perspective: equal ways look shorter far off
        foot = FAR_Y + (NEAR_Y - FAR_Y) * closeness
        scale = FAR_SCALE + (1 - FAR_SCALE) * closeness
        height, width = visit.picture.shape[:2]
        fit = min(1.0, 300.0 / height, 330.0 / width) * scale
        middle = WIDTH / 2 + (visit.lane - (LANES - 1) / 2) * 290.0 * scale
        left, top = middle - width * fit / 2, foot - height * fit
        return round(left), round(top), round(left + width * fit), round(foot)

    def _paste(
        self, image: Picture, owner: NDArray[np.int16], picture: Picture, box: tuple[int, int, int, int], index: int
    ) -> None:
        import cv2

        width, height = box[2] - box[0], box[3] - box[1]
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        x1, y1, x2, y2 = max(box[0], 0), max(box[1], 0), min(box[2], WIDTH), min(box[3], HEIGHT)
        if x1 < x2 and y1 < y2:
            image[y1:y2, x1:x2] = small[y1 - box[1] : y2 - box[1], x1 - box[0] : x2 - box[0]]
            owner[y1:y2, x1:x2] = index

    def _background(self) -> Picture:
        import cv2

        shade = np.linspace(150, 105, HEIGHT)[:, None, None] + self._rng.normal(0, 5, (HEIGHT, WIDTH, 1))
        ground = np.clip(shade + np.array([2, 0, -2]), 0, 255).astype(np.uint8)
        ground[: int(FAR_Y) - 60] = (205, 190, 170)
        for lane in range(LANES + 1):  # their borders
            ends = [(round(WIDTH / 2 + (lane - LANES / 2) * 290.0 * scale), round(y)) for scale, y in _ENDS]
            cv2.line(ground, ends[0], ends[1], (215, 218, 220), 2, cv2.LINE_AA)
        return ground


def _way(visit: Visit, time_s: float) -> float:
    """Which share of its way through the picture it has made."""
    return (time_s - visit.begins_s) / visit.lasts_s
