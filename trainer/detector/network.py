"""A detector in ONNX: its file with the description beside it, made to take grey levels, and the boxes it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.errors import ContractError, HeadError
from edge_app.contract.heads import DECODERS, Candidates, recognise
from edge_app.contract.model import ModelManifest, check_digest, parse_manifest, read_manifest
from edge_app.contract.preprocess import InputSpec, LetterboxMap
from trainer.errors import DataError
from trainer.metrics.detection import MOST, Boxes, corner_and_size
from trainer.onnx_graph.nodes import copied, name_layers
from trainer.onnx_graph.session import grey_spec, planes, session_of

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 8
SAME_OBJECT_IOU = 0.6  # two boxes of one class above it are one object; the default of the roadside


@dataclass(frozen=True, slots=True)
class Detector:
    """A network that takes (B, 3, H, W) uint8 and what its output means."""

    model: ModelProto
    manifest: ModelManifest  # its head is named, its input is not normalised


def read_detector(path: Path, description: Path | None = None) -> Detector:
    """The detector of an ONNX file, described by the JSON beside it or by `description`. `DataError` when either cannot
    be used."""
    import onnx

    try:
        manifest = read_manifest(path) if description is None else parse_manifest(_bytes(description), str(description))
        if manifest is None:
            raise DataError(
                f"{path} has no description: put {path.with_suffix('.json').name} beside it (crosslane.model/1: kind, "
                "version, input, class_names), or name one with --detector-manifest"
            )
        if manifest.kind != "detector":
            raise DataError(f"{path}: expected a detector, its description says {manifest.kind}")
        check_digest(path, manifest)
        model = onnx.load_from_string(_bytes(path))
        onnx.checker.check_model(model)
    except ContractError as error:
        raise DataError(str(error)) from None
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a usable ONNX model: {str(error).splitlines()[0][:200]}") from None
    except Exception as error:
        if type(error).__name__ != "DecodeError":  # protobuf's, of whichever implementation is installed
            raise
        raise DataError(f"{path} is not an ONNX model, or damaged") from None
    return described(model, manifest, str(path))


def described(model: ModelProto, manifest: ModelManifest, where: str) -> Detector:
    """The detector with its head recognised and its normalisation made a part of the network. `DataError` when the
    description does not fit the model."""
    spec = manifest.input
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise DataError(
            f"{where}: expected one input and one output, got {len(model.graph.input)} and {len(model.graph.output)}; "
            "export the detector without extra outputs"
        )
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or any(
        size not in (0, want) for size, want in zip(shape[1:], (3, spec.height_px, spec.width_px), strict=True)
    ):
        raise DataError(
            f"{where}: its input is {shape}, its description says (batch, 3, {spec.height_px}, {spec.width_px})"
        )
    name_layers(model, "/")
    grey = take_grey_levels(model, spec)
    blank = np.zeros((1, spec.height_px, spec.width_px, 3), np.uint8)
    try:
        head, _ = recognise(
            _outputs(session_of(grey), grey, blank).shape, spec, len(manifest.class_names), manifest.head
        )
    except HeadError as error:
        raise DataError(f"{where}: {error}") from None
    return Detector(grey, manifest.model_copy(update={"head": head, "input": grey_spec(spec), "sha256": None}))


def take_grey_levels(model: ModelProto, spec: InputSpec) -> ModelProto:
    """The model with its normalisation inside: ·scale/std − mean/std behind an input of uint8, a quarter of the bytes.
    One that takes uint8 already comes back as it is."""
    from onnx import TensorProto, helper, numpy_helper

    images = model.graph.input[0]
    if images.type.tensor_type.elem_type == TensorProto.UINT8:
        return model
    changed = copied(model)
    graph, name = changed.graph, images.name
    wanted = graph.input[0].type.tensor_type.elem_type
    for node in graph.node:
        node.input[:] = [f"{name}_normalised" if each == name else each for each in node.input]
    std, mean = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (spec.std, spec.mean))
    steps = [("Mul", spec.scale / std, 1.0), ("Sub", mean / std, 0.0)]
    steps = [step for step in steps if not (step[1] == step[2]).all()]
    last = f"{name}_float" if steps else f"{name}_normalised"
    head = [helper.make_node("Cast", [name], [last], name="normalise_cast", to=wanted)]
    for number, (kind, values, _) in enumerate(steps, 1):
        values = values.astype(helper.tensor_dtype_to_np_dtype(wanted))
        values = values.reshape(-1)[:1].reshape(()) if len(np.unique(values)) == 1 else values
        graph.initializer.append(numpy_helper.from_array(values, f"normalise_{number}"))
        result = f"{name}_normalised" if number == len(steps) else f"{name}_{number}"
        head.append(helper.make_node(kind, [last, f"normalise_{number}"], [result], name=f"normalise_{kind.lower()}"))
        last = result
    nodes = [*head, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return changed


def boxes_of(
    model: ModelProto, manifest: ModelManifest, pixels: NDArray[np.uint8], places: Sequence[LetterboxMap], score: float
) -> list[Boxes]:
    """What a network finds in (N, H, W, 3) pictures of its size and channel order, boxes of at least this score, in
    pixels of the pictures that were placed so."""
    session = session_of(model)
    assert manifest.head is not None  # by `described`
    decode = DECODERS[manifest.head]
    found = []
    for first in range(0, len(pixels), BATCH):
        outputs = _outputs(session, model, pixels[first : first + BATCH])
        for output, place in zip(outputs, places[first : first + BATCH], strict=True):
            found.append(_objects(decode(output, score, manifest.input), place, manifest, score))
    return found


def _objects(found: Candidates, place: LetterboxMap, manifest: ModelManifest, score: float) -> Boxes:
    """Without duplicates, the strongest first."""
    import cv2

    boxes, usable = found.in_picture(place)
    usable &= (found.classes >= 0) & (found.classes < len(manifest.class_names))
    boxes, scores, classes = boxes[usable], np.clip(found.scores[usable], 0, 1), found.classes[usable]
    if manifest.head != "ultralytics-end2end" and len(boxes):
        suppress: Any = cv2.dnn.NMSBoxesBatched
        rows = np.array(suppress(corner_and_size(boxes), scores, classes, score, SAME_OBJECT_IOU), np.intp)
        boxes, scores, classes = boxes[rows], scores[rows], classes[rows]
    rows = np.argsort(-scores, kind="stable")[:MOST]
    return Boxes(boxes[rows], scores[rows], classes[rows])


def _outputs(session: Any, model: ModelProto, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """(N, …) of a network with a free batch size or one of 1."""
    images = model.graph.input[0]
    fixed = images.type.tensor_type.shape.dim[0].dim_value
    size = fixed or len(pixels)
    batch = planes(pixels)
    if short := -len(batch) % size:
        batch = np.concatenate([batch, np.zeros((short, *batch.shape[1:]), np.uint8)])
    parts = [session.run(None, {images.name: batch[first : first + size]})[0] for first in range(0, len(batch), size)]
    return np.concatenate(parts)[: len(pixels)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
