import random

from edge_app.errors import SourceError, SourceRefusedError
from edge_app.sources.retry import Retry

LOST, REFUSED = SourceError("lost"), SourceRefusedError("no such path")
LOGIN = SourceRefusedError("wrong password", login=True)


def tries(problem: Exception, seconds: float, seed: int = 3) -> int:
    """How often a camera that always fails so is tried."""
    retry, now_s, count = Retry(random.Random(seed)), 0.0, 0
    while now_s < seconds:
        count += 1
        now_s += retry.pause_s(problem)
    return count


def test_what_time_mends_is_tried_again_within_seconds_with_jitter():
    pauses = [[retry.pause_s(LOST) for _ in range(50)] for retry in (Retry(random.Random(k)) for k in range(200))]
    for failures in range(50):
        some = [one[failures] for one in pauses]
        limit_s = min(4.0, 2.0**failures)
        assert limit_s / 2 <= min(some) < max(some) <= limit_s
        assert max(some) - min(some) > limit_s / 3


def test_what_people_mend_is_tried_seldom():
    assert tries(LOST, 3600) > 1000
    assert tries(REFUSED, 3600) <= 10
    assert tries(LOGIN, 3600) <= 7
    assert 24 <= tries(LOGIN, 86400) <= 30
    first = [Retry(random.Random(k)).pause_s(LOGIN) for k in range(100)]
    assert 60 <= min(first) < max(first) <= 75


def test_a_lost_cable_does_not_make_a_refused_login_quick_again():
    retry = Retry(random.Random(1))
    before = [retry.pause_s(LOGIN) for _ in range(4)]
    assert retry.pause_s(LOST) < 2
    assert retry.pause_s(LOGIN) > before[-1]
    retry.settled()
    assert retry.pause_s(LOGIN) < 76
