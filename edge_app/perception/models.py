"""The two networks of a site, each from a loose file or from a signed bundle that gives its golden embeddings here."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from edge_app.contract.bundle import ModelBundle, read_bundle
from edge_app.contract.bundle_manifest import MemberName
from edge_app.contract.signature import read_public_key
from edge_app.errors import ModelError
from edge_app.perception.detect import DetectorSettings, OnnxDetector, open_detector
from edge_app.perception.embed import EmbedderSettings, OnnxEmbedder, open_embedder
from edge_app.runtime.bundles import BundleSettings, is_bundle, unpack
from edge_app.runtime.selfcheck import SelfCheck, self_check

AnyModel = TypeVar("AnyModel", DetectorSettings, EmbedderSettings)


class OpenedEmbedder(NamedTuple):
    """An embedder; what its golden crops said and which bundle it is from, None for a loose file."""

    embedder: OnnxEmbedder
    checked: SelfCheck | None
    bundle: ModelBundle | None


def open_site_detector(settings: DetectorSettings, bundles: BundleSettings) -> OnnxDetector:
    """The detector of a site, from its file or bundle. Raises `ModelError`, `BundleError` or `StoreError`."""
    return open_detector(_located(settings, bundles, "detector.onnx")[0])


def open_site_embedder(settings: EmbedderSettings, bundles: BundleSettings) -> OpenedEmbedder:
    """The embedder of a site, from its file or bundle; that of a bundle must give the golden embeddings here.
    Raises `ModelError`, `BundleError` or `StoreError`."""
    settings, bundle = _located(settings, bundles, "embedder.onnx")
    embedder = open_embedder(settings)
    if bundle is None:
        return OpenedEmbedder(embedder, None, None)
    try:
        spec = settings.input or bundle.manifest.embedder.model.input
        checked = self_check(embedder.engine, spec, bundle.golden(), bundles.max_crop_s)
    except BaseException:
        embedder.close()
        raise
    return OpenedEmbedder(embedder, checked, bundle)


def _located(settings: AnyModel, bundles: BundleSettings, name: MemberName) -> tuple[AnyModel, ModelBundle | None]:
    """The settings with the path of a loose file, and the bundle that file was in."""
    if not is_bundle(settings.path):
        return settings, None
    bundle = read_bundle(settings.path, [read_public_key(path) for path in bundles.keys])
    if name not in bundle.manifest.members:
        raise ModelError(f"bundle {settings.path} holds no {name}; give another path for this model")
    engine = settings.engine.model_copy(update={"precision": bundle.manifest.models()[name].precision})
    place = unpack(bundle, bundles.folder)
    return settings.model_copy(update={"path": place / name, "engine": engine}), bundle
