"""What a step adds to the health of its node."""

from dataclasses import replace

import pytest
from counted_world import match, tracklet, unmatched

from edge_app.health.health import Health
from edge_app.health.steps import count_step
from edge_app.pipeline import Step
from edge_app.types import Frame

FRAMES = [Frame(camera, 1.0, None, 640, 360) for camera in ("a", "b")]
WAITED = replace(match("a1", "b1"), waited_for="deadline")


@pytest.mark.parametrize(
    ("passages", "facts", "found"),
    [
        ([], [], {}),
        ([tracklet("a1", 0, 5)], [], {"tracklets": 1}),
        ([], [WAITED], {"tracklets": 0, "confirmed_matches": 1, "waited_for_deadline": 1}),
        ([], [replace(WAITED, state="provisional")], {"tracklets": 0, "provisional_matches": 1}),
        ([tracklet("b1", 0, 5)], [unmatched("b1")], {"tracklets": 1, "unmatched": 1}),
    ],
)
def test_facts_and_passages_are_counted_by_what_they_are(passages, facts, found) -> None:
    health = Health(["a", "b", "c"])
    count_step(health, Step(1.0, FRAMES, [], passages, facts, [], {"detect": 0.5, "track": 0.0}), {"short_tracks": 2})
    assert health.counters == {"camera_state_changes": 0, "short_tracks": 2, **found}
    assert [health.cameras[camera].frames for camera in "abc"] == [1, 1, 0]
    assert list(health.stages) == ["detect"]
