"""What a run says into a file: a line per epoch, nothing else."""

from trainer.screen import Screen, duration


def test_an_epoch_is_one_line_with_losses_labels_and_time_left(capsys):
    now_s = iter([0.0, 100.0, 160.0, 240.0])
    screen = Screen(clock=lambda: next(now_s))
    screen.begin()
    for done in (3, 4):  # of a run that was taken up after two epochs
        with screen.show("epoch", 7) as advance:
            advance(7)
        screen.epoch(
            done, 20, {"offline": 2.5}, {"clusters": 31, "outlier_share": 0.125, "silhouette": 0.5, "eps": 0.3}
        )
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/20: offline 2.500, clusters 31, outliers 12%, silhouette 0.50; took 60 s, 17 min left",
        "epoch 4/20: offline 2.500, clusters 31, outliers 12%, silhouette 0.50; took 80 s, 19 min left",
    ]
    screen.say("left out: 1", "left out: 2")
    screen.say("left out: 1")  # once in a run
    assert capsys.readouterr().out.splitlines() == ["left out: 1", "left out: 2"]
    Screen(quiet=True).say("nothing")
    assert capsys.readouterr().out == ""


def test_durations_in_the_unit_people_use():
    assert [duration(seconds) for seconds in (5, 89, 120, 5399, 7200)] == ["5 s", "89 s", "2 min", "90 min", "2.0 h"]
