"""Real pictures on a drawn road: the halves that choose and judge are strangers, and what is drawn is what is told."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import real_site
import real_traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def data(shared_data):
    if not (shared_data / "khoa_vehicles").is_dir():
        pytest.skip("no pictures of vehicles there")
    return shared_data


def test_no_vehicle_is_in_both_halves(data):
    choose, judge = (real_traffic.pictures(data / "khoa_vehicles", half) for half in real_traffic.HALVES)
    assert (len(choose), len(judge)) == (151, 149)
    seen = {picture.tobytes() for _, picture, _ in choose}
    assert not any(picture.tobytes() in seen for _, picture, _ in judge)


def test_a_few_vehicles_with_perfect_boxes_are_found(data, tmp_path):
    plan = real_traffic.Plan(seed=3, half="choose", headway_s=4.0, leaves=0.0)
    traffic = [visit for visit in real_traffic.visits(data, plan) if visit.vehicle < 8]
    assert real_traffic.record(tmp_path, traffic, plan.seed) > 200
    config = real_site.site(tmp_path, plan, {"recorded": str(tmp_path / "truth.jsonl")})
    row = real_site.played(config, tmp_path / "truth.jsonl")
    assert row["pairs"] == 8
    for camera in row["cameras"]:
        assert camera["seen"] == {"hits": 8, "count": 8}
    assert row["crosslane"][0] >= 5
    assert sum(row["lost"].values()) == 8 - row["crosslane"][2]
