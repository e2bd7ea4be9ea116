"""Hours, rates and pauses, as tables."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from edge_app.collection.pacing import Hours, Patience, Rate, may_send, zone_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("hours", "utc", "expected"),
    [
        ([], "2026-01-31T12:00", True),
        (["22:00-05:30"], "2026-01-31T20:59", False),  # 21:59 in Berlin
        (["22:00-05:30"], "2026-01-31T21:00", True),
        (["22:00-05:30"], "2026-01-31T04:29", True),
        (["22:00-05:30"], "2026-01-31T04:30", False),
        (["22:00-05:30"], "2026-07-31T20:00", True),  # summer time
        (["22:00-05:30"], "2026-07-31T03:30", False),
        (["01:00-02:00", "12:00-13:00"], "2026-01-31T11:30", True),
        (["01:00-02:00", "12:00-13:00"], "2026-01-31T10:30", False),
        (["00:00-24:00"], "2026-01-31T23:00", True),
        (["02:00-03:00"], "2026-03-29T01:30", False),  # an hour that this day does not have
    ],
)
def test_hours_are_local_and_go_over_midnight(hours: list[str], utc: str, expected: bool) -> None:
    assert may_send([Hours.parse(each) for each in hours], BERLIN, at(utc)) is expected


def test_utc_needs_no_list_of_zones_and_what_is_no_zone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_app.collection.pacing.ZoneInfo", None)
    assert zone_of("UTC").utcoffset(None) == timedelta(0)
    monkeypatch.undo()
    assert zone_of("Europe/Berlin") == BERLIN
    for name in ("Berlin", "../../etc/passwd", "", "/etc/localtime"):
        with pytest.raises(ValueError, match="knows no such time zone"):
            zone_of(name)


@pytest.mark.parametrize("text", ["", "22-05", "22:00", "24:00-01:00", "12:60-13:00", "12:00-12:00", "23:00-24:30"])
def test_what_are_no_hours_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="expected hours as 22:00-05:30"):
        Hours.parse(text)


def test_a_rate_is_kept_without_bursts_after_an_idle_hour() -> None:
    now = [100.0]
    rate = Rate(1000.0, lambda: now[0])
    assert rate(500) == 0.0
    assert rate(500) == pytest.approx(0.5)
    now[0] += 1.0
    assert rate(500) == 0.0
    now[0] += 3600
    assert [rate(1000) for _ in range(3)] == pytest.approx([0.0, 1.0, 2.0])
    assert Rate(None, lambda: now[0])(10**9) == 0.0


def test_patience_doubles_to_its_longest_and_begins_anew_after_success() -> None:
    patience = Patience({"away": (2.0, 10.0), "refused": (60.0, 100.0)}, lambda a, b: 1.0)
    assert [patience.pause_s("away") for _ in range(4)] == [2.0, 4.0, 8.0, 10.0]
    assert [patience.pause_s("refused") for _ in range(2)] == [60.0, 100.0]
    assert patience.pause_s("away") == 2.0
    patience.pause_s("away")
    patience.succeeded()
    assert patience.pause_s("away") == 2.0
    assert Patience({"away": (2.0, 10.0), "refused": (1, 1)}, lambda a, b: b).pause_s("away") == pytest.approx(2.4)
