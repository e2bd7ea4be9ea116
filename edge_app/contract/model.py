"""The manifest beside a model file: `detector.onnx` is described by `detector.json`.

Whoever trains a model writes it, whoever runs the model checks it. Example:

    {"schema": "crosslane.model/1", "kind": "embedder", "version": "site-a-7", "dimension": 128, "sha256": "9f0c…",
     "input": {"width_px": 128, "height_px": 128, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_app.contract.errors import BundleError
from edge_app.contract.preprocess import InputSpec

MANIFEST_LIMIT_BYTES = 1 << 20

Head = Literal["ultralytics-end2end", "ultralytics-raw", "yolox", "yolox-decoded"]


class ModelManifest(BaseModel):
    """What a model file is, what it wants to see and what comes out."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    schema_: Literal["crosslane.model/1"] = Field(default="crosslane.model/1", alias="schema")
    """Version of this description."""
    kind: Literal["detector", "embedder"]
    """What the model does."""
    version: str = Field(min_length=1, max_length=200)
    """Name of these weights. Embeddings of two versions are never compared."""
    input: InputSpec
    """How a picture becomes the network's input."""
    class_names: tuple[str, ...] = ()
    """Detector only: the name of each class, in the order of the outputs."""
    head: Head | None = None
    """Detector only: layout of the output; recognised from its shape where absent (`yolox-decoded` never is)."""
    dimension: int | None = Field(default=None, gt=0)
    """Embedder only: length of an embedding."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Digest of the model file; checked before the model is used."""
    made_by: str = ""
    """The command that made the model."""
    licence_note: str = ""
    """Terms of the weights and of the data behind them."""

    @model_validator(mode="after")
    def _kind_has_its_fields(self) -> ModelManifest:
        if self.kind == "detector" and not self.class_names:
            raise ValueError("a detector needs class_names")
        if self.kind == "detector" and self.dimension is not None:
            raise ValueError("dimension belongs to an embedder")
        if self.kind == "embedder" and self.dimension is None:
            raise ValueError("an embedder needs its dimension")
        if self.kind == "embedder" and (self.class_names or self.head):
            raise ValueError("class_names and head belong to a detector")
        return self


def manifest_path(model: Path) -> Path:
    """The manifest's place: the model file's name with the suffix `.json`."""
    return model.with_suffix(".json")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises `BundleError` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise BundleError(f"model file {path} cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def parse_manifest(text: str | bytes, where: str) -> ModelManifest:
    """JSON text → manifest. `where` names it in the `BundleError` that lists every mistake."""
    try:
        return ModelManifest.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'manifest'}: {problem['msg']}" for problem in error.errors()[:20]
        )
        raise BundleError(f"{where} is not a crosslane.model/1 manifest: {problems}") from None


def read_manifest(model: Path) -> ModelManifest | None:
    """The manifest beside a model file, None where there is none. Raises `BundleError` when it is unusable."""
    path = manifest_path(model)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read for ever
            raise BundleError(f"manifest {path} is no plain file")
        with path.open("rb") as file:
            text = file.read(MANIFEST_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"manifest {path} cannot be read: {error.strerror or error}") from None
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"manifest {path} is larger than {MANIFEST_LIMIT_BYTES} bytes; is it the right file?")
    return parse_manifest(text, str(path))


def write_manifest(model: Path, manifest: ModelManifest) -> Path:
    """Write the manifest beside the model file with that file's digest filled in; returns its path."""
    sealed = manifest.model_copy(update={"sha256": file_sha256(model)})
    path = manifest_path(model)
    path.write_text(sealed.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n", encoding="utf-8")
    return path


def check_digest(model: Path, manifest: ModelManifest) -> None:
    """Raise `BundleError` when the manifest gives a digest and the model file has another."""
    if manifest.sha256 is None:
        return
    found = file_sha256(model)
    if found != manifest.sha256:
        raise BundleError(
            f"model file {model} is not the one its manifest describes: expected sha256 {manifest.sha256[:12]}…, "
            f"found {found[:12]}…; fetch the model and its manifest again"
        )
