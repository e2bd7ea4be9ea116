from __future__ import annotations

from pathlib import Path

from edge_app.reference import reference

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_reference_is_what_the_models_say() -> None:
    committed = (ROOT / "configs" / "edge" / "README.md").read_text(encoding="utf-8")
    assert committed == reference(), "run: python -m edge_app.reference > configs/edge/README.md"


def test_every_setting_says_what_it_means() -> None:
    silent = [line for line in reference().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not silent
