"""A street of two cameras whose pictures are real files, and networks of which it is known who is better.

A picture is eight rows of four coloured cells. In one half they are the vehicle's own, in the other they are chance.
Which half is which may change with the day, as light does. A network weighs the lower half against the upper one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from tiny_site import TRAINING, Site, crop, site_file

from edge_app.contract.crop import Crop
from trainer.adapt.crops.choice import Known, choose
from trainer.adapt.settings import KeepSettings, SiteSettings

ROWS, COLUMNS, CELL_PX = 8, 4, 8
HEIGHT, WIDTH = 16, 8  # of the network's input: two pixels a cell
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
Half = Literal["upper", "lower"]
GATE = {  # smaller than the defaults, which every verdict says
    "minimum_exits": 60,
    "minimum_units": 4,
    "unit_s": 300,
    "decoy_share": 0.6,
    "impostor_rise": 0.1,
}


def street(
    seed: int, start_s: float, minutes: float, own: Half, *, alike: float = 0.42, steady: bool = True
) -> list[Crop]:
    """Traffic from west to east, a vehicle every twelve seconds, three crops a passage. `alike`: share of a vehicle's
    own half that is the same on both cameras. The chance of the other half stays for a whole passage (`steady`), or is
    new in every crop."""
    rng = np.random.default_rng([seed, int(start_s)])
    crops, at_s, vehicle = list[Crop](), start_s, int(start_s) % 10**8
    half, other = (0, 1) if own == "upper" else (1, 0)
    while at_s < start_s + minutes * MINUTE_S:
        self_ = rng.normal(size=(ROWS // 2, COLUMNS, 3))
        for camera, wait_s in (("west", 0.0), ("east", rng.uniform(45, 75))):
            entered_s = at_s + wait_s
            seen = np.empty((3, 2, ROWS // 2, COLUMNS, 3))
            seen[:, half] = alike**0.5 * self_ + (1 - alike) ** 0.5 * rng.normal(size=self_.shape)
            seen[:, other] = rng.normal(size=self_.shape if steady else (3, *self_.shape))
            seen = seen + 0.3 * rng.normal(size=seen.shape)
            seen[:, other] += 0.3 * (camera == "east")  # its cast
            crops += _passage(vehicle, camera, entered_s, seen.reshape(3, ROWS, COLUMNS, 3))
        vehicle += 1
        at_s += rng.exponential(12.0)
    return crops


def _passage(vehicle: int, camera: str, entered_s: float, seen: np.ndarray) -> Iterator[Crop]:
    for number, cells in enumerate(np.clip(118 + 45 * seen, 0, 255).astype(np.uint8)):
        pixels = cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
        yield crop(
            vehicle,
            number,
            pixels=cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes(),
            camera=camera,
            passage=f"edge-1/{camera}/b.7/{vehicle}",
            captured_at_s=entered_s + 1.4 * number,
            entered_at_s=entered_s,
            left_at_s=entered_s + 3,
        )


def network(path: Path, lower: float, upper: float = 1.0) -> Path:
    """An ONNX file: the mean of every cell and colour, those of the lower half weighed against those of the upper."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((ROWS, COLUMNS, 3, 3, ROWS, COLUMNS), np.float32)
    for row, column, colour in np.ndindex(ROWS, COLUMNS, 3):
        weights[row, column, colour, colour, row, column] = upper if row < ROWS // 2 else lower
    each = numpy_helper.from_array(weights.reshape(-1, 3, ROWS, COLUMNS), "w")
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["means", "w"], ["map"], name="/cells/conv", kernel_shape=[ROWS, COLUMNS]),
        helper.make_node("GlobalAveragePool", ["map"], ["rows"]),
    ]
    shapes = {"image": ["batch", 3, HEIGHT, WIDTH], "rows": ["batch", ROWS * COLUMNS * 3, 1, 1]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "cells", ends[:1], ends[1:], [each])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def model_file(onnx: Path, path: Path) -> None:
    """The same network as a run would leave it."""
    from trainer import checkpoint
    from trainer.commands import load_network
    from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder

    settings = ModelSettings(**TRAINING["model"], weights=onnx)
    made = new_embedder(blueprint_of(settings, (HEIGHT, WIDTH))).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(path, checkpoint.Model(made, load_network(onnx)[1], {}, "unknown"))


def hours_of(day: int, share: float) -> tuple[list[float], list[float]]:
    """Begins of a day's hours: those that are held out of training, and the others."""
    begins = [day * DAY_S + hour * HOUR_S for hour in range(24)]
    numbers, none = np.arange(24), np.zeros(24, np.bool_)
    times = np.array(begins)
    known = Known(numbers, numbers, numbers, times, times, times + 1, control=none, reservoir=none)
    held = choose(known, KeepSettings(held_out=share), "town", ()).held_hours
    sides = [[begin for begin in begins if (int(begin // HOUR_S) in held) == side] for side in (True, False)]
    return sides[0], sides[1]


def town(root: Path, lower: float, **changes: Any) -> tuple[Site, SiteSettings]:
    """The site's file, with a start that weighs the lower half like that."""
    site = Site(root)
    network(root / "start.onnx", lower)
    training = TRAINING | changes.pop("training", {})
    changes["gate"] = {**GATE, **changes.get("gate", {})}
    changes["keep"] = {"held_out": 0.3, **changes.get("keep", {})}
    return site, site_file(root, training, max_s=80, **changes)
