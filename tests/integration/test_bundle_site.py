"""`edge-app` with models in a signed bundle, as an operator starts it."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

import forked
import numpy as np
import pytest
import tiny_bundle
import yaml
from tiny_onnx import TinyOnnx

from edge_app.contract.archive import BLOCK_BYTES
from edge_app.runtime.build import BuildRequest
from edge_app.runtime.bundles import build_requests
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.trial import EndlessModelError


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A configuration of a site whose models come in a bundle."""
    pytest.importorskip("onnx")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    folder = tmp_path_factory.mktemp("site")
    models = TinyOnnx(folder)
    car = models.constant(np.array([[8, 12, 24, 24, 0.9, 0]], np.float32))
    tiny_bundle.write(folder / "site.bundle", models.mean_colour(), car)
    public = tiny_bundle.KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "site.pub").write_bytes(public)
    raw = {
        "site": "bundled",
        "node": "edge-1",
        "cameras": [{"id": "gate", "source": "sim://town/gate?seconds=3600"}],
        "detector": {"path": "site.bundle"},
        "embedder": {"path": "site.bundle"},
        "bundles": {"keys": ["site.pub"]},
        "store": {"path": "state/site.db"},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(raw))
    return folder / "site.yaml"


def edge_app(*arguments: object) -> CompletedProcess:
    command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
    return forked.run(command, timeout=120)


def test_check_says_what_is_in_the_bundle(site: Path) -> None:
    done = edge_app("check", "--config", site)
    assert done.returncode == 0, done.stderr
    detector, embedder, *_ = done.stdout.splitlines()
    assert detector.startswith("detector: site.bundle, ultralytics-end2end head, 1 classes")
    assert "int8, crossroads 7 signed by ed25519:" in embedder
    assert "3 golden crops, cosine at least 1.0000" in embedder


def test_run_refuses_a_damaged_bundle(site: Path) -> None:
    whole = (site.parent / "site.bundle").read_bytes()
    wrong = {"truncated": whole[:-BLOCK_BYTES], "wrong digest": whole.replace(b"mean_colour", b"Mean_colour")}
    for said, content in wrong.items():
        (site.parent / "wrong.bundle").write_bytes(content)
        (site.parent / "wrong.yaml").write_text(site.read_text().replace("site.bundle", "wrong.bundle"))
        for command in ("run", "check"):
            done = edge_app(command, "--config", site.parent / "wrong.yaml")
            assert done.returncode == 65, done.stderr
            assert said in done.stderr
            assert "Traceback" not in done.stderr


def with_bundle(site: Path, name: str, **changes) -> Path:
    """The site with another bundle in the same state folder."""
    models = TinyOnnx(site.parent)
    content = changes.pop("embedder", None) or models.mean_colour()
    car = models.constant(np.array([[8, 12, 24, 24, 0.9, 0]], np.float32))
    tiny_bundle.write(site.parent / f"{name}.bundle", content, car, **changes)
    raw = yaml.safe_load(site.read_text().replace("site.bundle", f"{name}.bundle"))
    raw["cameras"][0]["source"] = "sim://town/gate?seconds=1"
    raw["ticks"] = {"mode": "lockstep", "speed": None}
    for model in ("detector", "embedder"):
        raw[model]["engine"] = {"trial_s": 20}
    path = site.parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def refused(path: Path, *said: str, commands: tuple[str, ...] = ("run", "check")) -> None:
    for command in commands:
        done = edge_app(command, "--config", path)
        assert done.returncode == 65, done.stderr
        assert "Traceback" not in done.stderr
        for words in said:
            assert words in done.stderr


@pytest.mark.long
def test_a_node_never_goes_back_by_itself(site: Path) -> None:
    seven, three = with_bundle(site, "seven", serial=7), with_bundle(site, "three", serial=3)
    assert edge_app("check", "--config", three).returncode == 0, "to look at it is not to run it"
    assert edge_app("run", "--config", seven).returncode == 0
    refused(three, "three.bundle is older than what ran here: crossroads 3, and 7 was the highest so far")
    raw = yaml.safe_load(three.read_text())
    raw["bundles"]["allow_older"] = True
    three.write_text(yaml.safe_dump(raw))
    assert edge_app("run", "--config", three).returncode == 0
    state = site.parent / "state"
    assert (state / "bundles.json").stat().st_mode & 0o777 == 0o600
    assert not [path for path in (state / "bundles").rglob("*") if path.stat().st_mode & 0o077]


def test_a_collapsed_or_endless_bundle_is_refused(site: Path) -> None:
    models = TinyOnnx(site.parent)
    same = tiny_bundle.golden()
    rows = np.tile(same.rows[:1], (len(same.rows), 1))
    constant = models.constant(rows[0]).read_bytes()
    collapsed = with_bundle(
        site, "collapsed", embedder=constant, serial=8, golden=tiny_bundle.Golden(same.crops, rows, rows, 0.98)
    )
    refused(collapsed, "the bundle's embedder has collapsed: its 3 golden embeddings are all the same")
    sly = with_bundle(
        site, "sly", embedder=constant, serial=8, golden=tiny_bundle.Golden(same.crops, same.rows, same.rows, 0.01)
    )
    refused(sly, "gives the same embedding for all 3 golden crops", commands=("check",))
    endless = with_bundle(site, "endless", embedder=models.endless().read_bytes(), serial=8)
    endless.write_text(endless.read_text().replace("trial_s: 20", "trial_s: 5"))
    refused(endless, "embedder.onnx: the model did not end within 5 s (engine.trial_s)")


def test_build_engine_refuses_what_never_ends(site: Path, monkeypatch) -> None:
    path = TinyOnnx(site.parent).endless()
    monkeypatch.setattr("edge_app.runtime.bundles.EngineSettings", lambda: EngineSettings(trial_s=5))
    request = BuildRequest(path, site.parent / "engines", "sm86")
    with pytest.raises(EndlessModelError, match=r"endless\.onnx: the model did not end"):
        build_requests(path, [], request)
