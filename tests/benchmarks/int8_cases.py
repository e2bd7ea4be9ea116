"""The cases of `int8.py` that need no GPU. Each returns plain numbers; what is measured is the product's own doing."""

from __future__ import annotations

import csv
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import int8_networks
import int8_student
import numpy as np

from edge_app.runtime.build import BuildRequest, build_engine
from trainer import checkpoint
from trainer.errors import DataError
from trainer.export import held_out, ladder, sensitivity
from trainer.export.onnx import check_against_torch, to_onnx
from trainer.export.quantize import choose, quantize
from trainer.export.run import Bench, Candidate
from trainer.export.verify import Limits, failures
from trainer.onnx_graph.nodes import half, quantized_layers
from trainer.onnx_graph.session import rows_of
from trainer.onnx_graph.weights import with_int8_weights

DEVICE, MAX_BATCH = "sm86", 16
IMAGES = 512  # for the ranges
CALIBRATION = 24  # pictures for the ranges of networks whose sizes alone are asked
PROGRAM = re.compile(rb"[\t\n\r\x20-\x7e]{1024,}")  # long text in an engine


@dataclass(frozen=True, slots=True)
class Asked:
    """A model and the crops that judge it."""

    model: Path
    data: Path
    crops: int
    cache: Path


def sizes(name: str, precision: str) -> dict[str, Any]:
    """Bytes of the ONNX file and of the engine for SM86 of a network of `int8_networks`."""
    return engine_bytes(of_precision(int8_networks.network(name, CALIBRATION), precision))


def of_precision(network: int8_networks.Network, precision: str) -> Any:
    """The ONNX model as it would ship."""
    if precision == "int8":
        return with_int8_weights(quantize(network.plain, network.pixels))
    return half(network.plain) if precision == "fp16" else network.plain


def engine_bytes(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model.SerializeToString())
        built = build_engine(BuildRequest(path, Path(folder), DEVICE, max_batch=MAX_BATCH))
        return {
            "onnx_bytes": path.stat().st_size,
            "engine_bytes": built.path.stat().st_size,
            "program_bytes": program_bytes(built.path.read_bytes()),
            "builder": f"{built.key.module} {built.key.version}",
            "build_s": round(built.seconds, 1),
        }


def program_bytes(engine: bytes) -> int:
    """How much of a TensorRT-RTX engine is program text: CUDA C++ of the kernels that it fused, up to 150 kB each and
    compiled on the GPU at the first run. It grows with the number of different kernels, not with the weights, and a
    small network's engine is mostly that."""
    return sum(len(text) for text in PROGRAM.findall(engine) if b"__myln" in text)


def student(teach: tuple[Path, Path, Path, Path], steps: int, cache: Path) -> dict[str, Any]:
    """Teacher, data, weights to start from, and where to put the plain network."""
    teacher, data, weights, target = teach
    return {"seconds": round(int8_student.distil(teacher, data, weights, target, steps, cache), 1), "steps": steps}


@dataclass(frozen=True, slots=True)
class Watched:
    """A bench of any kind that keeps what it judged, so that what `ladder.settle` tried on its way can be shown."""

    bench: Any
    seen: list[Any] = field(default_factory=list)

    @property
    def plain(self) -> Any:
        return self.bench.plain

    def judge(self, precision: Any, model: Any) -> Any:
        self.seen.append(self.bench.judge(precision, model))
        return self.seen[-1]

    def quantize(self, ranges: Any) -> Any:
        return self.bench.quantize(ranges)

    def loss(self, model: Any) -> float:
        return self.bench.loss(model)


def likeness(asked: Asked) -> dict[str, Any]:
    """FP32, FP16, INT8 with every layer, and INT8 as the search leaves it: what each says on held-out crops. These
    chose nothing but how many layers are left out."""
    source = checkpoint.load_model(asked.model)
    with layout_of(asked.data) as (data, layout):
        crops = held_out.gather(data, layout, asked.cache, source.spec, asked.crops)
    plain = to_onnx(source)
    check_against_torch(source, plain, crops.held[:8])
    float_rows = rows_of(plain, crops.held)
    chosen = choose(crops.spare, IMAGES)
    ranges = np.asarray(crops.spare_pixels[chosen])
    bench = Bench(plain, crops.held, float_rows, held_out.judges(crops, float_rows), Limits(), ranges)
    begin = time.perf_counter()
    searching, best = search(bench, lambda each: float(each.comparison.cosines.min()))
    seconds = time.perf_counter() - begin
    found = {"fp32": bench.judge("fp32", plain), "fp16": bench.judge("fp16", half(plain))}
    found["int8, every layer"] = searching.seen[0]
    if len(searching.seen) > 1:
        found["int8, by entropy"] = searching.seen[1]
    if len(searching.seen) > 2:
        found["int8, searched"] = best
    return {
        "held_out": len(crops.held),
        "ranges": len(chosen),
        "layers": len(quantized_layers(searching.seen[0].model)),
        "search_s": round(seconds, 1),
        "rows": {name: row(candidate) for name, candidate in found.items()},
    }


def search(bench: Any, likeness: Callable[[Any], float]) -> tuple[Watched, Any]:
    """What INT8 came to, and all that was tried; where nothing passes, what `likeness` puts first."""
    watched = Watched(bench)
    try:
        return watched, ladder.settle("network", watched, "int8", sensitivity.BUDGET, print).chosen
    except DataError as error:
        print(error)
        return watched, max(watched.seen, key=likeness)


def row(candidate: Candidate) -> dict[str, Any]:
    """The figures of one precision, and its engine."""
    found = candidate.comparison
    return {
        "cosine_min": float(found.cosines.min()),
        "cosine_median": float(np.median(found.cosines)),
        "mAP": found.mAP,
        "loss": None if found.mAP is None or found.mAP_float is None else found.mAP_float - found.mAP,
        "R1": found.R1,
        "R1_loss": None if found.R1 is None or found.R1_float is None else found.R1_float - found.R1,
        "threshold_shift": found.threshold_shift,
        "int8_layers": len(quantized_layers(candidate.model)),
        "missed": failures(candidate.gates),
        **engine_bytes(with_int8_weights(candidate.model)),
    }


@contextmanager
def layout_of(data: Path) -> Iterator[tuple[Path, str | None]]:
    """The data set and its layout. Pictures that are only query and gallery, one of each vehicle, become a table in
    which every other vehicle is for the ranges and the rest for the gate: nothing judges itself."""
    if data.name != "khoa_vehicles":
        yield data, None
        return
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "vehicles.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "split", "camera", "identity"))
            writer.writerows(vehicle_rows(data))
        yield table, "table"


def vehicle_rows(data: Path) -> Iterator[tuple[str, str, str, str]]:
    """`car_0003_cam1.jpg` is vehicle car_0003 under camera cam1."""
    pictures = sorted([*(data / "query").glob("*.jpg"), *(data / "gallery").glob("*.jpg")])
    vehicles = sorted({path.stem.rpartition("_")[0] for path in pictures})
    for path in pictures:
        vehicle, _, camera = path.stem.rpartition("_")
        split = "train" if vehicles.index(vehicle) % 2 else path.parent.name
        yield str(path.resolve()), split, camera, vehicle
