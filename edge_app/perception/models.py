"""The two networks of a site, each from a loose file or from a signed bundle that gives its golden embeddings here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from edge_app.contract.bundle import ModelBundle, read_bundle
from edge_app.contract.bundle_manifest import MemberName
from edge_app.contract.model import read_manifest
from edge_app.contract.signature import read_public_key
from edge_app.errors import ModelError
from edge_app.perception.detect import DetectorSettings, OnnxDetector, open_detector
from edge_app.perception.embed import EmbedderSettings, OnnxEmbedder, open_embedder
from edge_app.perception.examine import examine
from edge_app.perception.recorded import RecordedDetector, RecordedSettings, open_recorded
from edge_app.runtime import build_ahead
from edge_app.runtime.bundles import GOLDEN, BundleSettings, Today, admit, is_bundle, unpack
from edge_app.runtime.selfcheck import SelfCheck, self_check
from edge_app.runtime.trial import Trial, hold

AnyModel = TypeVar("AnyModel", DetectorSettings, EmbedderSettings)


class OpenedDetector(NamedTuple):
    """A detector, and the bundle it is from, None for a loose file or recorded boxes."""

    detector: OnnxDetector | RecordedDetector
    bundle: ModelBundle | None


class OpenedEmbedder(NamedTuple):
    """An embedder; what its golden crops said and which bundle it is from, None for a loose file; and the test pictures
    of which it makes no embedding."""

    embedder: OnnxEmbedder
    checked: SelfCheck | None
    bundle: ModelBundle | None
    unseen: tuple[str, ...]


def open_site_detector(
    settings: DetectorSettings | RecordedSettings, cameras: Sequence[str], bundles: BundleSettings, today: Today
) -> OpenedDetector:
    """The detector of a site, from its file or bundle, or its recorded boxes. Raises `ModelError`, `BundleError`,
    `StoreError` or, for boxes, `ConfigurationError`."""
    if isinstance(settings, RecordedSettings):
        return OpenedDetector(open_recorded(settings, cameras), None)
    settings, bundle = _located(settings, bundles, "detector.onnx", today)
    with _named(bundle):
        _try(settings, bundles, None)
        return OpenedDetector(open_detector(settings), bundle)


def open_site_embedder(settings: EmbedderSettings, bundles: BundleSettings, today: Today) -> OpenedEmbedder:
    """The embedder of a site, from its file or bundle; that of a bundle must give the golden embeddings here.
    Raises `ModelError`, `BundleError` or `StoreError`."""
    settings, bundle = _located(settings, bundles, "embedder.onnx", today)
    with _named(bundle):
        _try(settings, bundles, None if bundle is None else settings.path.with_name(GOLDEN))
        embedder = open_embedder(settings)
        try:
            checked = None
            if bundle is not None:
                spec = settings.input or bundle.manifest.embedder.model.input
                checked = self_check(embedder.engine, spec, bundle.golden(), bundles.max_crop_s)
            return OpenedEmbedder(embedder, checked, bundle, examine(embedder))
        except BaseException:
            embedder.close()
            raise


@contextmanager
def _named(bundle: ModelBundle | None) -> Iterator[None]:
    """What is wrong with a model out of a bundle names the bundle."""
    try:
        yield
    except ModelError as error:
        if bundle is None:
            raise
        raise type(error)(f"{bundle.path}: {error}") from None


def note_run(bundles: BundleSettings, *ran: ModelBundle | None) -> None:
    """Remember what runs here from now on, so that nothing older does by itself. Raises `StoreError`."""
    for bundle in ran:
        if bundle is not None:
            bundles.ledger.note_run(bundle)


def _try(settings: AnyModel, bundles: BundleSettings, golden: Path | None) -> None:
    """A model that is new here, in a process of its own."""
    build_ahead(settings.path, settings.engine)
    manifest = read_manifest(settings.path)
    spec = settings.input or (None if manifest is None else manifest.input)
    hold(Trial(settings.path, settings.engine, spec, golden), bundles.ledger)


def _located(
    settings: AnyModel, bundles: BundleSettings, name: MemberName, today: Today
) -> tuple[AnyModel, ModelBundle | None]:
    """The settings with the path of a loose file, and the bundle that file was in."""
    if not is_bundle(settings.path):
        return settings, None
    bundle = read_bundle(settings.path, [read_public_key(path) for path in bundles.keys])
    if name not in bundle.manifest.members:
        raise ModelError(f"bundle {settings.path} holds no {name}; give another path for this model")
    admit(bundle, bundles, today)
    engine = settings.engine.model_copy(update={"precision": bundle.manifest.models()[name].precision})
    place = unpack(bundle, bundles.folder)
    return settings.model_copy(update={"path": place / name, "engine": engine}), bundle
