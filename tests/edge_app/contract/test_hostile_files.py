"""Manifests and keys are data from outside: deep, huge, endless or strange, each is one clear error in a moment."""

import os
from pathlib import Path

import pytest
import tiny_bundle
from tiny_bundle import TRUSTED, put_together, take_apart

from edge_app.contract.bundle import read_bundle
from edge_app.contract.errors import BundleError
from edge_app.contract.model import read_manifest
from edge_app.contract.signature import read_private_key, read_public_key

DEEP = b"[" * 100_000 + b"]" * 100_000
DIGITS = b"9" * 5000
STRANGE = [
    b"", b"null", b"[]", b"\xff\xfe\x00", DEEP, b'{"dimension": ' + DIGITS + b"}", b'{"a": ' + DEEP + b"}",
    b'{"kind": "embedder", "version": "' + b"x" * 2_000_000 + b'"}', b'{"dimension": 1e400}', b'{"dimension": NaN}',
    b'{"a\\u001b[2J\\nb": 1}', b'{"kind": "embedder", "input": {"width_px": ' + DIGITS + b', "height_px": 1e999}}',
    b"{" + b",".join(b'"k%d": 1' % k for k in range(60_000)) + b"}",
]  # fmt: skip


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_a_manifest_beside_a_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"m\.json") as caught:
        read_manifest(tmp_path / "m.onnx")
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_a_signed_manifest_of_a_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bundle"
    tiny_bundle.write(path, b"weights")
    _, members = take_apart(path)
    put_together(path, content, members)
    with pytest.raises(BundleError, match=r"x\.bundle"):
        read_bundle(path, TRUSTED)


@pytest.mark.parametrize("read", [read_private_key, read_public_key])
@pytest.mark.parametrize("content", [b"", b"x" * 1_000_000, b"-----BEGIN PUBLIC KEY-----\n" + b"A" * 60_000, b"\x00"])
def test_a_key(tmp_path: Path, read, content: bytes) -> None:
    (tmp_path / "a.pem").write_bytes(content)
    with pytest.raises(BundleError, match=r"a\.pem"):
        read(tmp_path / "a.pem")


@pytest.mark.parametrize("device", ["/dev/zero", "pipe"])
def test_what_never_ends_is_not_read(tmp_path: Path, device: str) -> None:
    for name in ("m.json", "a.pem", "x.bundle"):
        if device == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to(device)
    with pytest.raises(BundleError, match=r"m\.json is no plain file"):
        read_manifest(tmp_path / "m.onnx")
    with pytest.raises(BundleError, match=r"a\.pem is no plain file"):
        read_public_key(tmp_path / "a.pem")
    with pytest.raises(BundleError, match=r"x\.bundle is no plain file"):
        read_bundle(tmp_path / "x.bundle", TRUSTED)
