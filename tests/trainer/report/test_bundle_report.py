"""`trainer inspect-bundle`: a bundle in words and as a page."""

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("matplotlib", reason="the page has pictures")
pytest.importorskip("cryptography", reason="bundles are signed")

import tiny_bundle
from typer.testing import CliRunner

from edge_app.contract.signature import write_key_pair
from trainer.cli import app
from trainer.errors import DataError
from trainer.report.bundle import open_bundle


@pytest.fixture
def site(tmp_path):
    """A bundle signed by the key beside it."""
    from edge_app.contract.signature import read_private_key

    write_key_pair(tmp_path / "signing-key.pem", tmp_path / "signing-key.pub.pem")
    tiny_bundle.write(
        tmp_path / "a.bundle", b"a network", b"another", key=read_private_key(tmp_path / "signing-key.pem")
    )
    return tmp_path


def test_text_and_page(site):
    words = ["inspect-bundle", str(site / "a.bundle"), "--out", str(site / "page")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    for fact in (
        "crossroads 7, made 2026-01-01",
        "embedder.onnx: int8, because every gate passed",
        "cosine_min: 0.9910 (passes 0.98)",
        "terms: not said",
        "512 pictures, all cameras, every hour",
        "2 layers left out of INT8: gem, neck",
        "conv1 costs 2.00e-03",
        "detector.onnx: fp32, because asked for",
        "head costs 4.00e-01",
    ):
        assert fact in result.output
    page = (site / "page" / "index.html").read_text(encoding="utf-8")
    for picture in ("similarity.png", "sensitivity_embedder.png", "sensitivity_detector.png"):
        assert picture in page
        assert (site / "page" / picture).stat().st_size > 1000


def test_a_bundle_of_another_maker_is_refused(site):
    (site / "other").mkdir()
    write_key_pair(site / "other" / "key.pem", site / "other" / "key.pub.pem")
    with pytest.raises(DataError, match="foreign signature"):
        open_bundle(site / "a.bundle", [site / "other" / "key.pub.pem"])
    with pytest.raises(DataError, match="cannot be read"):
        open_bundle(site / "a.bundle", [site / "none.pem"])
    (site / "b.bundle").write_bytes((site / "a.bundle").read_bytes()[:-600])
    with pytest.raises(DataError, match="truncated"):
        open_bundle(site / "b.bundle", [site / "signing-key.pub.pem"])
