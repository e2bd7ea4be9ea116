"""`manifest.json` of a bundle: what its members are, how they were made and what was measured on them.

A later release may add fields, which older readers ignore. What a network wants to see (`ModelManifest`) is stricter:
an unknown field there is an error, because ignoring it could mean running the network on wrong input.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from edge_app.contract.envelope import Count, EpochSeconds, Part, Share, Text
from edge_app.contract.errors import BundleError
from edge_app.contract.golden import LIMIT_BYTES as GOLDEN_LIMIT_BYTES
from edge_app.contract.model import ModelManifest

CONTRACT, VERSION = "crosslane.bundle", 1
LIMIT_BYTES = 1 << 20
MEMBER_LIMITS_BYTES = {  # in the order in which they stand in the file
    "embedder.onnx": 2 << 30,
    "detector.onnx": 2 << 30,
    "golden.npz": GOLDEN_LIMIT_BYTES,
    "cameras.json": 4 << 20,
}
YOUNGER = ("expires_at_s", "judgement", "similarities")  # fields that bundles of version 1 may lack

MemberName: TypeAlias = Literal["embedder.onnx", "detector.onnx", "golden.npz", "cameras.json"]
Precision: TypeAlias = Literal["int8", "fp16", "fp32"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^\d{1,4}(\.\d{1,4}){0,3}$")]


class Member(Part):
    """Size and digest of one member."""

    size_bytes: Count
    sha256: Sha256


class Gate(Part):
    """One measure that a precision had to pass, and its limit."""

    name: Text
    passed: bool
    value: float
    limit: float


class Calibration(Part):
    """The crops, or a detector's frames, that the INT8 ranges were measured on."""

    images: Count
    sha256: Sha256
    """Of the sorted digests of the images, one per line."""
    chosen: Text = ""
    """How they were chosen: over which cameras and hours."""


class Judgement(Part):
    """What the gate looked at."""

    pictures: Count
    """Held-out crops, of a detector frames; none of them measured ranges."""
    by: Text
    """In words: how many pictures, and what told right from wrong on them."""
    enough: bool
    """Whether that is enough. Where it is not, the precision is not judged, though no gate was missed."""


def _may_be_absent(schema: dict[str, JsonValue]) -> None:
    """What is younger than version 1 is written only where it says something."""
    required = schema.get("required")
    if isinstance(required, list):
        schema["required"] = [name for name in required if name not in YOUNGER]


class BundledModel(Part):
    """One network of the bundle: what it is, how precise, and what the gate said."""

    model_config = ConfigDict(json_schema_extra=_may_be_absent)

    model: ModelManifest
    """Input, classes, dimension, digest: what stands beside a loose ONNX file."""
    precision: Precision
    """Of the ONNX file: `int8` has explicit Q/DQ nodes."""
    precision_reason: Annotated[str, Field(max_length=2000)]
    """Why this precision and no smaller one."""
    gates: tuple[Gate, ...] = ()
    """Every figure of the gate with its limit, of the precision that ships and of those that did not pass."""
    judgement: Judgement | None = None
    """What these figures are from; absent in bundles that did not say."""
    float_layers: tuple[Text, ...] = ()
    """Layers left out of INT8."""
    sensitivity: dict[str, float] = Field(default_factory=dict)
    """Layer → what quantizing it alone costs: 1 − cosine, of a detector 1 − likeness of its boxes."""
    histograms: dict[str, tuple[Count, ...]] = Field(default_factory=dict)
    """Name → counts in equal bins over cosines from −1 to 1."""
    calibration: Calibration | None = None


class Spread(Part):
    """Similarities of some pairs."""

    pairs: Annotated[int, Field(ge=1)]
    mean: float
    std: float
    p01: float
    p99: float


class Similarities(Part):
    """What the association compares (`similarity.py`), of pairs of held-out crops that are certain without a label, by
    the network that ships. Both kinds are of one camera: on a link one vehicle is less alike than `genuine` says."""

    genuine: Spread | None
    """First and last third of one track."""
    impostor: Spread | None
    """Two tracks that one camera saw at once."""
    not_known: Text = ""
    """Why one of them, or both, are null."""


class BundleManifest(Part):
    """`manifest.json`. `write_bundle` fills in digests; everything else is the exporter's."""

    model_config = ConfigDict(json_schema_extra=_may_be_absent)

    schema_: Literal["crosslane.bundle/1"] = Field(
        "crosslane.bundle/1", validation_alias="schema", serialization_alias="schema"
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Of the model family, for people and file names."""
    serial: Count
    """Grows with every bundle of this name; a node never goes back to a smaller one by itself."""
    created_at_s: EpochSeconds
    commit: Text
    """Of the code that trained and exported."""
    expires_at_s: EpochSeconds | None = None
    """From then on no node starts with it; absent where it is good until a newer one comes."""
    embedder: BundledModel
    """Its model's version is the digest of the ONNX file: embeddings of two versions are never compared."""
    detector: BundledModel | None = None
    threshold_shift: float = 0.0
    """How far the match threshold moved at an equal false-match rate, quantized minus float."""
    threshold_false_match_rate: Share | None = None
    """That rate; null when it was not measured."""
    similarities: Similarities | None = None
    """Absent in bundles of releases that did not measure them."""
    tensorrt_from: Version = "10.0"
    tensorrt_below: Version = "12.0"
    """Versions of TensorRT that are known to read the ONNX files; the upper one is not."""
    data_from_s: EpochSeconds | None = None
    data_until_s: EpochSeconds | None = None
    """Capture times of the first and last training crop."""
    config: dict[str, JsonValue] = Field(default_factory=dict)
    """The resolved configuration of the training run."""
    members: dict[MemberName, Member] = Field(default_factory=dict)
    """Everything else in the file. Filled in by `write_bundle`."""

    @model_validator(mode="after")
    def _kinds(self) -> BundleManifest:
        if self.embedder.model.kind != "embedder":
            raise ValueError("embedder: its model says it is a detector")
        if self.detector is not None and self.detector.model.kind != "detector":
            raise ValueError("detector: its model says it is an embedder")
        return self

    @property
    def embedding_version(self) -> str:
        return self.embedder.model.version

    def models(self) -> dict[MemberName, BundledModel]:
        """Member → the network that it holds."""
        found: dict[MemberName, BundledModel] = {"embedder.onnx": self.embedder}
        return found if self.detector is None else {**found, "detector.onnx": self.detector}

    def written(self) -> str:
        """As it stands in a file. Younger fields that say nothing are left out, so bundles without them keep their
        bytes."""
        unsaid: dict[str, Any] = {name: True for name in YOUNGER if getattr(self, name, ...) is None}
        for name, model in (("embedder", self.embedder), ("detector", self.detector)):
            if model is not None and model.judgement is None:
                unsaid[name] = {"judgement"}
        return self.model_dump_json(by_alias=True, indent=1, exclude=unsaid) + "\n"

    def problem(self) -> str | None:
        """Why these members cannot be those of a bundle, None when they can."""
        missing = [name for name in (*self.models(), "golden.npz") if name not in self.members]
        if missing:
            return f"members are missing: {', '.join(missing)}"
        if "detector.onnx" in self.members and self.detector is None:
            return "there is a detector.onnx, but nothing says what it is"
        for name, member in self.members.items():
            if member.size_bytes > MEMBER_LIMITS_BYTES[name]:
                return f"{name} has {member.size_bytes} bytes; at most {MEMBER_LIMITS_BYTES[name]} are allowed"
        for name, bundled in self.models().items():
            if bundled.model.sha256 != self.members[name].sha256:
                return f"the digest of {name} is not the one in its description"
        if self.embedding_version != embedding_version(self.members["embedder.onnx"].sha256):
            return f"the embedding version {self.embedding_version!r} is not the digest of embedder.onnx"
        return None


def embedding_version(sha256: str) -> str:
    """What an embedder is called in messages, from the digest of its file."""
    return f"sha256:{sha256[:12]}"


class _Contract(Part):
    schema_: Text = Field(validation_alias="schema")


def parse_manifest(content: bytes, where: str) -> BundleManifest:
    """The manifest, or a `BundleError` that lists every mistake."""
    try:
        contract, _, version = _Contract.model_validate_json(content).schema_.partition("/")
        if contract == CONTRACT and version.isascii() and version.isdigit() and int(version) != VERSION:
            newer = int(version) > VERSION
            todo = "update this program" if newer else "export the model again with the current trainer"
            raise BundleError(
                f"{where} follows {'a newer' if newer else 'an older'} contract, {CONTRACT}/{int(version)}; "
                f"this program reads {CONTRACT}/{VERSION}: {todo}"
            )
        return BundleManifest.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'manifest'}: {one['msg']}" for one in error.errors()[:20]
        )
        raise BundleError(f"{where}: its manifest does not follow {CONTRACT}/{VERSION}: {problems}") from None
