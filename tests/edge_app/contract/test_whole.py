"""A file is there as a whole or, as before, not at all; nothing else stays beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_app.contract.whole import OWN, beside, settle, whole

BEFORE, AFTER = b"before", b"after"


def test_the_content_is_under_its_name_when_the_block_ends(tmp_path: Path) -> None:
    with whole(tmp_path / "a") as file:
        file.write(AFTER)
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == AFTER


def test_a_block_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(BEFORE)
    with pytest.raises(ZeroDivisionError), whole(path) as file:
        file.write(AFTER + bytes(1 // 0))
    assert path.read_bytes() == BEFORE
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_can_come_last(tmp_path: Path) -> None:
    with beside(tmp_path / "unnamed") as file:
        file.write(AFTER)
        settle(file, tmp_path / "named")
    with beside(tmp_path / "unnamed") as file:
        file.write(AFTER)
    assert [path.name for path in tmp_path.iterdir()] == ["named"]


@pytest.mark.parametrize(("mode", "mask", "found"), [(0o666, 0o022, 0o644), (0o666, 0o077, 0o600), (OWN, 0o777, OWN)])
def test_rights(tmp_path: Path, mode: int, mask: int, found: int) -> None:
    before = os.umask(mask)
    try:
        with whole(tmp_path / "a", mode):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == found


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a[1]"
    program = (
        "import os, signal; from pathlib import Path; from edge_app.contract.whole import whole\n"
        f"with whole(Path({str(path)!r})) as file: file.write(b'half'); file.flush(); os.kill(0, signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", program], start_new_session=True, check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    with whole(path) as file:
        file.write(AFTER)
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole(path) as first:
        first.write(BEFORE)
        first.flush()
        with whole(path) as second:
            second.write(AFTER)
        assert path.read_bytes() == AFTER
    assert path.read_bytes() == BEFORE
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "nowhere" / "a"):
        pass
