"""The page of an adaptation: whole by itself, honest about what is missing, and drawn where the figures lie."""

from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from trainer.report import figures
from trainer.report.adaptation import Adaptation, Came, Changed, Learned, Picture, page_of

BARE = Adaptation(
    title="town, round 7", when="2026-01-31 12:00 UTC", outcome="unjudged", decision="nothing to learn from",
    sentence="No crops have come.", because="None of 0 crops may be trained on", advice="See whether they upload.",
    facts={"crops to learn from": "0"}, came=None, learned=None, verdict={}, bundle={}, curves=None, kept_until="",
)  # fmt: skip
LIFT = {
    "name": "placebo lift", "outcome": "refused", "value": -0.1, "interval": (-0.2, 0.1), "bound": 0.0,
    "sentence": "H goes down",
}  # fmt: skip
DRIFT = {
    "name": "drift", "outcome": "not judged", "value": None, "interval": None, "bound": None, "sentence": "too few",
}  # fmt: skip


@pytest.fixture
def whole(tmp_path):
    """Every section, and one picture that is none."""
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, file in enumerate(files[:2]):
        cv2.imwrite(str(file), np.full((40, 20, 3), 90 * number, np.uint8))
    files[2].write_bytes(b"no picture")
    one, other, broken = (Picture(file, f"cam-{number}", 0.0, 0) for number, file in enumerate(files))
    counts = np.zeros((2, 24), np.int64)
    counts[0, 3] = 9
    (tmp_path / "curves.png").write_bytes(b"\x89PNG")
    learned = Learned({"groups": ("3", "2")}, [[one, other, broken]], Changed(4, [(one, other)]), Changed(0, []))
    bundle = {
        "bundle": "site.bundle", "bytes": 10, "serial": 1, "precision": "int8", "precision_reason": "it passes",
        "threshold_shift": 0.01, "gates": [{"name": "int8_cosine_min", "passed": False, "value": 0.9, "limit": 0.95}],
    }  # fmt: skip
    return replace(
        BARE, came=Came(("cam-0", "<cam>"), counts, np.roll(counts, 1), {"2026-01-31": 9}), learned=learned,
        verdict={"measures": (LIFT, DRIFT), "notes": ("fewer exits than usual", "too few")}, bundle=bundle,
        curves=tmp_path / "curves.png", kept_until="2026-05-01",
    )  # fmt: skip


def test_it_needs_no_other_file(whole):
    page = page_of(whole)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 5  # two in the line, two in the pair, the curves
    assert all(one.startswith("data:image/") for one in sources)
    assert "http" not in page
    assert "url(" not in page


def test_everything_is_said(whole):
    page = page_of(whole)
    for said in ("4 pairs of passages were apart before, together now", "0 pairs of passages", "fewer exits than usual",
                 "int8 cosine min", "missed", "deleted with them on 2026-05-01", "&lt;cam&gt;",
                 "cam-0, 03:00 to 03:59 UTC: 9 to learn from, 0 to judge by"):  # fmt: skip
        assert said in page, said
    assert page.count("too few") == 1, "a note that a figure says already"


def test_what_is_missing_has_no_section():
    page = page_of(BARE)
    assert "<h2>" not in page
    assert "This page shows no crop." in page
    assert "No crops have come." in page


def places(drawn: str) -> dict[str, float]:
    return {name: float(left) for name, left in re.findall(r'class="(\w+)" style="left: ([\d.]+)%', drawn)}


def test_a_value_lies_on_its_side_of_the_bound():
    below = places(figures.scale(-0.1, (-0.2, 0.1), 0.0, "least"))
    assert below["range"] < below["value"] < below["bound"] < 100
    assert below["fine"] == below["bound"], "good begins at the bound"
    above = figures.scale(0.5, None, 0.2, "most")
    assert places(above)["value"] > places(above)["bound"]
    assert 'class="fine" style="left: 0; width:' in above, "good ends at the bound"
    alone = places(figures.scale(0.0, None, None, ""))
    assert alone == {"value": 50.0}
