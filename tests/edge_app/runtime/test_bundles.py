"""Models from a signed bundle: a site opens them as it opens loose files, and refuses what it cannot trust."""

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from tiny_bundle import FOREIGN_KEY, KEY

from edge_app.clock import Clock
from edge_app.config import load, parse
from edge_app.contract.bundle import read_bundle
from edge_app.contract.errors import BundleError
from edge_app.errors import ConfigurationError, ModelError, StoreError
from edge_app.networks import open_models
from edge_app.perception.models import open_site_detector
from edge_app.runtime.bundles import Today, unpack

SITE = {
    "site": "north-bridge",
    "node": "edge-1",
    "cameras": [{"id": "gate", "source": "gate.mp4"}],
    "detector": {"path": "site.bundle"},
    "embedder": {"path": "site.bundle"},
    "bundles": {"keys": ["site.pub"], "folder": "unpacked"},
}


def write_public(path: Path, key) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.fixture
def site(tmp_path: Path, tiny_onnx) -> Path:
    """The folder of a site whose detector and embedder come in one bundle."""
    car = tiny_onnx.constant(np.array([[8, 12, 24, 24, 0.9, 0]], np.float32))
    tiny_bundle.write(tmp_path / "site.bundle", tiny_onnx.mean_colour(), car)
    write_public(tmp_path / "site.pub", KEY)
    return tmp_path


def opened(folder: Path, **changes):
    return open_models(parse({**SITE, **changes}, folder / "site.yaml"), Clock())


def test_both_models_come_from_the_bundle(site: Path) -> None:
    detector, embedder, digest = opened(site)
    bundle = read_bundle(site / "site.bundle", tiny_bundle.TRUSTED)
    assert detector.class_names == ("car",)
    assert embedder.version == bundle.manifest.embedding_version
    assert digest == bundle.digest
    assert [path.name for path in (site / "unpacked").iterdir()] == [digest[7:23]]


def test_a_loose_detector_beside_a_bundled_embedder(site: Path) -> None:
    loose = {"path": str(site / "constant.onnx"), "input": {"width_px": 32, "height_px": 32}, "class_names": ["bus"]}
    detector, _, digest = opened(site, detector=loose | {"head": "ultralytics-end2end"})
    assert detector.class_names == ("bus",)
    assert digest


def test_what_is_unpacked_is_left_alone_unless_it_is_damaged(site: Path) -> None:
    bundle = read_bundle(site / "site.bundle", tiny_bundle.TRUSTED)
    place = unpack(bundle, site / "unpacked")
    model = place / "embedder.onnx"
    whole, first = model.read_bytes(), model.stat().st_ino
    assert unpack(bundle, site / "unpacked") == place
    assert model.stat().st_ino == first
    for damaged in (model, place / "detector.json"):
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-1] + b"?")
        unpack(bundle, site / "unpacked")
        assert damaged.read_bytes() == content
    assert model.read_bytes() == whole
    assert sorted(path.name for path in place.parent.iterdir()) == [place.name], "nothing is left behind"


def test_a_disk_that_fails(site: Path) -> None:
    (site / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be unpacked"):
        opened(site, bundles={"keys": ["site.pub"], "folder": "file"})


def test_a_bundle_needs_a_key_in_the_configuration(site: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bundles\.keys: missing; detector\.path is a bundle"):
        opened(site, bundles={})
    assert not parse(
        {**SITE, "detector": {"path": "a.onnx"}, "embedder": {"path": "b.onnx"}}, site
    ).bundles.folder.exists()


def test_paths_of_keys_are_relative_to_the_file(site: Path) -> None:
    import yaml

    (site / "site.yaml").write_text(yaml.safe_dump(SITE))
    config = load(site / "site.yaml")
    assert config.bundles.keys == (site / "site.pub",)
    assert config.bundles.folder == site / "unpacked"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "truncated"),
        (lambda path: tiny_bundle.write(path, b"x", b"x", key=FOREIGN_KEY), "foreign signature"),
    ],
)
def test_what_cannot_be_trusted_is_refused(site: Path, damage, said: str) -> None:
    damage(site / "site.bundle")
    with pytest.raises(BundleError, match=said):
        opened(site)


def test_keys_can_change_hands(site: Path) -> None:
    write_public(site / "next.pub", FOREIGN_KEY)
    both = {"keys": ["next.pub", "site.pub"], "folder": "unpacked"}
    assert opened(site, bundles=both)[2]
    with pytest.raises(BundleError, match="foreign signature"):
        opened(site, bundles=both | {"keys": ["next.pub"]})
    with pytest.raises(BundleError, match=r"none\.pub cannot be read"):
        opened(site, bundles=both | {"keys": ["none.pub"]})


def test_a_bundle_without_a_detector(site: Path, tiny_onnx) -> None:
    tiny_bundle.write(site / "site.bundle", tiny_onnx.mean_colour())
    config = parse(SITE, site / "site.yaml")
    with pytest.raises(ModelError, match=r"holds no detector\.onnx"):
        open_site_detector(config.detector, [], config.bundles, Today(0.0, True))


def test_golden_crops_that_come_out_differently_are_refused(site: Path, tiny_onnx) -> None:
    other = tiny_onnx.constant(np.array([1.0, 0.0, 0.0], np.float32))
    tiny_bundle.write(site / "site.bundle", other, other)
    with pytest.raises(ModelError, match="is not the network of the bundle"):
        opened(site)
    tiny_bundle.write(site / "site.bundle", tiny_onnx.mean_colour(), other)
    with pytest.raises(ModelError, match="too slow here"):
        opened(site, bundles=SITE["bundles"] | {"max_crop_s": 1e-6})


def test_an_engine_is_known_by_the_bundles_precision(site: Path) -> None:
    """So that `edge-app build-engine` and the first start look for the same file."""
    from edge_app.runtime.build import BuildRequest
    from edge_app.runtime.bundles import build_requests

    (embedder, detector) = build_requests(
        site / "site.bundle", [site / "site.pub"], BuildRequest(site / "site.bundle", site / "engines", "sm86")
    )
    assert (embedder.precision, detector.precision) == ("int8", "fp32")
    assert (embedder.onnx.name, embedder.tensorrt_from, embedder.tensorrt_below) == ("embedder.onnx", "10.0", "12.0")
    assert embedder.onnx.is_file()
    with pytest.raises(ModelError, match="maker's public key"):
        build_requests(site / "site.bundle", [], embedder)
