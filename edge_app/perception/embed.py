"""Crops → one batch → unit rows, through the model's own input description."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
from pydantic import Field

from edge_app.contract.model import check_digest, file_sha256, read_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.runtime.engine import Engine, EngineSettings, check_input
from edge_app.settings import FilePath, Settings
from edge_app.types import Floats, Image, View

log = logging.getLogger(__name__)

_DISTINCT_FAILURES = 8  # more ways of failing than these are counted, not logged


class EmbedderSettings(Settings):
    """The embedder: a network in ONNX that turns a crop into a vector, described by the manifest beside it or here."""

    path: FilePath
    """The model file, or a signed bundle (`….bundle`) that holds it. `<name>.json` beside a file is its manifest."""
    input: InputSpec | None = None
    """How a crop becomes the network's input; needed where there is no manifest, else overrides it."""
    version: str | None = None
    """Name of these weights; overrides the manifest. Without either, the file's digest names them."""
    max_batch: int = Field(default=16, gt=0, le=1024)
    """Crops per run of the network; more are run in turns."""
    engine: EngineSettings = EngineSettings()
    """How the model is run."""


def open_embedder(settings: EmbedderSettings, clock: Callable[[], float] = time.perf_counter) -> OnnxEmbedder:
    """Load the embedder that the settings describe. Raises `ModelError` or `BundleError`."""
    from edge_app.runtime import open_engine

    manifest = read_manifest(settings.path)
    if manifest is not None:
        if manifest.kind != "embedder":
            raise ModelError(f"{settings.path}: expected an embedder, the manifest says {manifest.kind}")
        check_digest(settings.path, manifest)
        described = {"input": manifest.input, "version": manifest.version}
        chosen = {name: value for name, value in described.items() if getattr(settings, name) is None}
        settings = settings.model_copy(update=chosen)
    engine = open_engine(settings.path, settings.engine, clock)
    if settings.version is None:
        settings = settings.model_copy(update={"version": f"sha256:{file_sha256(settings.path)[:12]}"})
    return OnnxEmbedder(engine, settings, manifest.dimension if manifest else None)


class OnnxEmbedder:
    """An `Embedder` on any `Engine`."""

    def __init__(self, engine: Engine, settings: EmbedderSettings, dimension: int | None = None) -> None:
        """`settings.input` and `version` must be given; one blank crop is run to see the output. Raises `ModelError`
        when the model does not fit, or its embeddings do not have the `dimension` that its manifest promises."""
        from edge_app.perception.preprocess import Preprocessor

        self.where = str(settings.path)
        if settings.input is None:
            raise ModelError(f"{self.where} has no manifest: describe its `input` in the settings, or add a manifest")
        if settings.version is None:
            raise ModelError(f"{self.where}: the embedder needs a `version`")
        check_input(engine, settings.input, self.where)
        self.engine, self.version, self._max_batch = engine, settings.version, settings.max_batch
        try:
            self._preprocess = Preprocessor(settings.input, settings.max_batch, engine.inputs[0].dtype)
        except MemoryError:
            raise ModelError(f"{self.where}: no memory for batches of {settings.max_batch}; lower max_batch") from None
        self._said: set[str] = set()  # ways in which the network failed, each logged once
        blank = np.zeros((settings.input.height_px, settings.input.width_px, 3), np.uint8)
        self.dimension = self._run([blank]).shape[1]
        if dimension not in (None, self.dimension):
            raise ModelError(
                f"{self.where}: the manifest promises {dimension} values, the model makes {self.dimension}"
            )

    def embed(self, views: list[View]) -> Floats:
        """M views → (M, D) float32: unit rows, or nan where the network fails or gives no direction (zero, infinite,
        not a number). Raises `ModelError` for a view without a crop."""
        crops = [view.crop for view in views if view.crop is not None]
        if len(crops) != len(views):
            raise ModelError("a view without a crop reached the embedder; this camera delivers no pixels")
        return self.embed_crops(crops)

    def embed_crops(self, crops: list[Image]) -> Floats:
        """The same for pictures (h, w, 3) uint8 BGR of any sizes."""
        parts = [self._rows(crops[start : start + self._max_batch]) for start in range(0, len(crops), self._max_batch)]
        return unit_rows(np.concatenate(parts)) if parts else np.zeros((0, self.dimension), np.float32)

    def close(self) -> None:
        self.engine.close()

    def _rows(self, crops: list[Image]) -> Floats:
        """(M, D) as the network makes them. Where a batch fails each crop is tried alone: one must not take the others
        along."""
        try:
            rows = self._run(crops)
            if rows.shape[1] != self.dimension:
                raise ModelError(f"{self.where}: the model made {self.dimension} values at first, now {rows.shape[1]}")
        except ModelError as error:
            if len(crops) > 1:
                return np.concatenate([self._rows([crop]) for crop in crops])
            if str(error) not in self._said and len(self._said) < _DISTINCT_FAILURES:
                self._said.add(str(error))
                log.warning("a view is left out: %s", error)
            return np.full((1, self.dimension), np.nan, np.float32)
        return rows

    def _run(self, crops: list[Image]) -> Floats:
        batch, _ = self._preprocess(crops)
        outputs = self.engine.run(batch)
        shape = outputs[0].shape if outputs else ()
        if len(outputs) != 1 or not shape or int(np.prod(shape[1:])) != max(shape[1:], default=0):
            found = ", ".join(str(output.shape) for output in outputs)
            raise ModelError(f"{self.where}: expected one output (batch, dimension), this model makes {found}")
        return outputs[0].reshape(len(crops), -1).astype(np.float32)


def unit_rows(rows: Floats) -> Floats:
    """(M, D) float32 → (M, D) float32 of unit length; a row without a direction becomes nan."""
    with np.errstate(all="ignore"):  # what overflows here has no direction either
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.where(np.isfinite(lengths) & (lengths > 1e-12), rows / lengths, np.nan)
    return np.asarray(rows, np.float32)
