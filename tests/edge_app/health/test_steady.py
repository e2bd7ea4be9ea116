"""A camera that comes and goes is one piece of news; what is measured in a reason is none."""

from edge_app.health.steady import COMES_AND_GOES, Steady, same_reason


def told(history):
    """History is (seconds until the next, state, reason); returns what was news, and the camera."""
    camera, now_s, news = Steady(), 0.0, []
    for lasts_s, state, reason in history:
        for _ in range(int(lasts_s * 2)):
            now = camera.tell(state, reason, now_s)
            if not news or news[-1][0] != now[0] or not same_reason(news[-1][1], now[1]):
                news.append(now)
            now_s += 0.5
    return news, camera


def test_a_fault_and_its_end_are_told_at_once():
    news, camera = told([(30, "ok", None), (20, "offline", "refused"), (30, "ok", None)])
    assert news == [("ok", None), ("offline", "refused"), ("ok", None)]
    assert camera.changes == 2


def test_a_freezing_camera_is_told_a_few_times_not_hundreds():
    flaps = [(4.5, "ok", None), (4.5, "stalled", "the picture is frozen")] * 130
    news, camera = told([*flaps, (120, "ok", None)])
    assert camera.changes == 260
    assert len(news) == 8
    assert news[-2] == ("stalled", COMES_AND_GOES)
    assert news[-1] == ("ok", None)  # it has held for a minute


def test_a_camera_that_dies_while_it_comes_and_goes_is_told_dead_in_the_end():
    flaps = [(3, "ok", None), (3, "offline", "refused")] * 5
    news, _ = told([*flaps, (90, "offline", "unplugged")])
    assert news[-1] == ("offline", "unplugged")
    assert not any(state == "ok" for state, _ in news[-2:])


def test_slow_changes_are_told_each():
    news, _ = told([(150, "ok", None), (150, "offline", "refused")] * 6)
    assert len(news) == 12


def test_only_what_was_measured_makes_no_other_reason():
    assert same_reason("no frame for 3.2 s", "no frame for 417.9 s")
    assert same_reason("camera north: no answer within 4 s", "camera north: no answer within 5 s")
    assert not same_reason("the server answered 404", "the server answered 401")
    assert not same_reason("no frame for 3 s", None)
