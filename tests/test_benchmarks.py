"""The programs of tests/benchmarks start: no other test notices when something they import has moved."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("benchmarks")
PROGRAMS = [path.name for path in sorted(FOLDER.glob("*.py")) if '__name__ == "__main__"' in path.read_text()]


def ran(*command):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_benchmark_starts(program):
    done = ran(FOLDER / program, "--help")
    assert done.returncode == 0, done.stderr


def test_every_case_of_the_faults_is_found(tmp_path):
    """The table of faults is promised with every release, and its cases use the fixtures of the tests."""
    done = ran(FOLDER / "faults.py", "--json", tmp_path / "none.json", "--only", "none of them")
    assert done.returncode == 0, done.stderr
    assert "0 of 0 mended" in done.stdout
