"""A signal ends the process within its bound, whatever hangs; in processes of their own, with real signals."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from edge_app.stopping import Closing

PROCESS = """
    import logging, sys, threading, time
    from edge_app.stopping import Stopped, StopSignals
    logging.basicConfig(level=logging.INFO)

    def hang():  # as a library does: neither the signal's handler nor an exception gets through
        import ctypes
        for _ in range(9):  # a signal cuts each short
            ctypes.CDLL(None).sleep(60)

    def wait():
        signals.stop.wait(60)

    def stubborn():
        while True:
            time.sleep(0.1)

    try:
        with StopSignals(within_s=1.0) as signals:
            if sys.argv[2] == "running":
                signals.started()
            print("ready", flush=True)
            {"hang": hang, "wait": wait, "stubborn": stubborn}[sys.argv[1]]()
            time.sleep(float(sys.argv[3]))  # closing takes its time
    except Stopped:
        print("stopped while starting", flush=True)
    print("the end", flush=True)
"""


@pytest.fixture
def process():
    made = []

    def start(what, phase="running", closing_s=0.0):
        command = [sys.executable, "-c", textwrap.dedent(PROCESS), what, phase, str(closing_s)]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert made[-1].stdout.readline() == "ready\n"
        return made[-1]

    yield start
    for one in made:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_listens_ends_by_itself(process, number):
    one = process("wait", closing_s=0.3)
    one.send_signal(number)
    out, error = one.communicate(timeout=20)
    assert (one.returncode, out, error) == (0, "the end\n", "")


@pytest.mark.parametrize("what", ["hang", "stubborn"])
def test_who_hangs_is_ended_and_its_stacks_are_written(process, what):
    one = process(what)
    time.sleep(0.2)
    began_s = time.monotonic()
    one.terminate()
    out, error = one.communicate(timeout=20)
    assert one.returncode == 70
    assert 0.8 < time.monotonic() - began_s < 6
    assert "the end" not in out
    assert "not ended 1 s after the signal" in error
    assert f"in {what}" in error


def test_a_second_signal_ends_at_once(process):
    one = process("hang")
    time.sleep(0.2)
    one.terminate()
    time.sleep(0.1)
    one.send_signal(signal.SIGINT)
    one.communicate(timeout=20)
    assert one.returncode == 128 + signal.SIGINT, "not at once: it lost patience, or came to its end"


def test_a_start_is_broken_off(process):
    one = process("stubborn", "starting")
    one.terminate()
    out, _ = one.communicate(timeout=20)
    assert (one.returncode, out) == (0, "stopped while starting\nthe end\n")


def test_closing_something_that_hangs_is_bounded_and_said(caplog):
    closing = Closing(0.2)
    disk, other = closing.expect("the disk", 1.0), closing.expect("the other", 1.0)
    began_s = time.monotonic()
    disk.leave_behind(threading.Event().wait)
    assert time.monotonic() - began_s < 1.0
    assert "the disk: not closed within 0.1 s" in caplog.text
    with pytest.raises(ZeroDivisionError):
        other.leave_behind(lambda: 1 // 0)


@pytest.mark.parametrize(("takes", "given_s"), [(1.0, [3.0, 2.0, 1.0]), (0.0, [3.0, 4.0, 6.0]), (9.0, [3.0, 0.0, 0.0])])
def test_what_hangs_costs_the_others_nothing_and_what_is_quick_leaves_them_its_time(takes, given_s):
    now_s = [100.0]
    closing = Closing(6.0, lambda: now_s[0])
    turns = [closing.expect(what, share) for what, share in (("first", 1.0), ("second", 2.0), ("third", 3.0))]

    def close(limit_s):
        now_s[0] += takes * limit_s
        return limit_s

    now_s[0] += 50.0  # the time begins with the first to close
    assert [turn.within(close) for turn in reversed(turns)] == pytest.approx(given_s)
    assert now_s[0] <= 150.0 + max(6.0, takes * 3.0)
