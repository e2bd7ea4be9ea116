"""What INT8 costs a detector, and what it saves: FP32, FP16, INT8 with every layer and without the worst ones.

    python tests/benchmarks/int8_detector.py DATA [--images 96] [--judges 180] [--json FILE]

YOLOX-nano (DATA/weights/yolox_nano.onnx) looks at the recordings of DATA/videos, which have no labels: its own FP32
boxes judge, at IoU 0.5. The demo's YOLO looks at drawn frames of worlds that its training never saw; the simulator
knows the truth. Engines are built for SM86 by TensorRT-RTX; `weights` is what of them is no program text.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from int8_cases import engine_bytes, search

from deploy.demo_detector import NAMES, labelled, pictures
from edge_app.contract.model import ModelManifest
from edge_app.contract.preprocess import InputSpec
from edge_app.perception.class_names import COCO_NAMES
from trainer.detector.labels import label_text
from trainer.export import detector as export
from trainer.onnx_graph.nodes import half, quantized_layers
from trainer.onnx_graph.weights import with_int8_weights

DEMO = Path(__file__).resolve().parents[2] / "configs" / "models" / "demo_detector.onnx"
RANGES_SEEDS, JUDGES_SEEDS = range(1900, 1904), range(2000, 2004)  # neither was trained on
CAMERAS = 4  # per world
YOLOX_INPUT = InputSpec(
    width_px=416, height_px=416, channel_order="BGR", scale=1, resize="letterbox", letterbox_align="top-left"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One network in one precision."""

    model: str
    precision: str
    float_layers: int
    layers: int  # that INT8 could have
    found_again: float
    labelled: bool
    mAP_float: float  # noqa: N815  in percent
    mAP: float  # noqa: N815
    passes: bool
    onnx_bytes: int
    engine_bytes: int
    program_bytes: int  # of the engine
    weights_ratio: float  # what is left of the engine's other bytes, to FP32


def yolox_request(data: Path, work: Path, images: int, judges: int) -> export.Request:
    """YOLOX-nano on real recordings."""
    described = ModelManifest(kind="detector", version="yolox-nano", input=YOLOX_INPUT, class_names=COCO_NAMES)
    manifest = work / "yolox.json"
    manifest.write_text(described.model_dump_json(by_alias=True), encoding="utf-8")
    path = data / "weights" / "yolox_nano.onnx"
    return export.Request(path, data / "videos", manifest, "int8", images, judges)


def demo_request(work: Path, images: int, judges: int) -> export.Request:
    """The demo's YOLO on drawn frames with their exact labels."""
    drawn = draw_frames(work / "drawn", {"train": (RANGES_SEEDS, images), "val": (JUDGES_SEEDS, judges)})
    return export.Request(DEMO, drawn, None, "int8", images, judges)


def draw_frames(folder: Path, parts: dict[str, tuple[range, int]]) -> Path:
    """Labelled pictures of the simulated site in YOLO's layout: part → seeds of the worlds, pictures; returns its
    data.yaml."""
    for part, (seeds, count) in parts.items():
        for number, picture in enumerate(pictures(seeds, -(-count // (CAMERAS * len(seeds))))):
            image, label = (folder / kind / part / f"{number:05d}" for kind in ("images", "labels"))
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image.with_suffix(".png")), picture.image)
            size = (picture.image.shape[1], picture.image.shape[0])
            label.with_suffix(".txt").write_text(label_text(labelled(picture), size))
    data = folder / "data.yaml"
    about = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(NAMES))}
    data.write_text(yaml.safe_dump(about))
    return data


def measure(name: str, request: export.Request) -> Iterator[Row]:
    """A row per precision; the last is what `trainer export --precision int8` would ship, if it passes."""
    bench = export.open_bench(request)
    searching, best = search(bench, lambda each: each.comparison.mAP)
    layers = len(quantized_layers(searching.seen[0].model))
    candidates = [
        ("FP32", bench.judge("fp32", bench.plain)),
        ("FP16", bench.judge("fp16", half(bench.plain))),
        ("INT8, every layer", searching.seen[0]),
    ]
    if len(searching.seen) > 1:
        candidates.append(("INT8, by entropy", searching.seen[1]))
    if len(searching.seen) > 2:
        candidates.append(("INT8, searched", best))
    whole = 0
    for precision, candidate in candidates:
        built = engine_bytes(with_int8_weights(candidate.model))
        weights = built["engine_bytes"] - built["program_bytes"]
        whole = whole or weights
        yield Row(
            model=name,
            precision=precision,
            float_layers=layers - len(quantized_layers(candidate.model)) if precision.startswith("INT8") else 0,
            layers=layers,
            found_again=candidate.comparison.found_again,
            labelled=candidate.comparison.labelled,
            mAP_float=candidate.comparison.mAP_float,
            mAP=candidate.comparison.mAP,
            passes=all(gate.passed for gate in candidate.gates),
            onnx_bytes=built["onnx_bytes"],
            engine_bytes=built["engine_bytes"],
            program_bytes=built["program_bytes"],
            weights_ratio=weights / whole,
        )


def line(row: Row) -> str:
    kind = "mAP 50–95" if row.labelled else "own AP 50"
    engine = f"  engine {row.engine_bytes / 1e6:.2f} MB, weights {row.weights_ratio:.2f}"
    return (
        f"{row.model:>11}  {row.precision:<22} {row.float_layers:>3}/{row.layers} left out  found again "
        f"{row.found_again:.3f}  {kind} {row.mAP_float:.1f} → {row.mAP:.1f}  "
        f"{'passes' if row.passes else 'misses'}{engine}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=96, help="frames for the INT8 ranges")
    parser.add_argument("--judges", type=int, default=180, help="other frames for the gate")
    parser.add_argument("--only", choices=["yolox", "demo"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work, begin = Path(folder), time.perf_counter()
        makers = {
            "yolox": lambda: yolox_request(options.data, work, options.images, options.judges),
            "demo": lambda: demo_request(work, options.images, options.judges),
        }
        names = {"yolox": "YOLOX-nano", "demo": "demo YOLO"}
        for name in [options.only] if options.only else makers:
            for row in measure(names[name], makers[name]()):
                print(line(row), flush=True)
                rows.append(asdict(row))
        print(f"{time.perf_counter() - begin:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "settings": vars(options)}, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
