"""`edge-app` with models in a signed bundle, as an operator starts it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import yaml
from tiny_onnx import TinyOnnx

from edge_app.contract.archive import BLOCK_BYTES


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


def edge_app(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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
