"""deploy/demo.sh without the network: what it refuses, and that a second run installs nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path):
    """The parts of a clone that the script looks at, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    (folder / "deploy" / "lock").mkdir(parents=True)
    for name in ("demo.sh", "environment.sh"):
        shutil.copy(ROOT / "deploy" / name, folder / "deploy")
    for name in ("edge", "dev", "trainer"):
        (folder / "deploy" / "lock" / f"{name}.txt").write_text("# nothing\n")
    (folder / "pyproject.toml").write_text("# nothing\n")
    return folder


def script(folder, text):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("#!/bin/sh\n" + text)
    folder.chmod(0o755)


def run(clone, *arguments, path="/usr/bin:/bin", **environment):
    command = ["bash", str(clone / "deploy" / "demo.sh"), *arguments]
    env = {"PATH": path, "HOME": str(clone), **environment}
    return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=60, check=False)


def prepared(clone, lock):
    """An environment that was made for this lock; its `edge-app` says what it was asked for."""
    script(clone / ".venv" / "bin" / "edge-app", 'printf "%s|" "$@"')
    os.symlink(sys.executable, clone / ".venv" / "bin" / "python")
    contents = b"".join((clone / name).read_bytes() for name in (f"deploy/lock/{lock}.txt", "pyproject.toml"))
    digest = hashlib.sha256(contents + str(clone).encode()).hexdigest()
    (clone / ".venv" / f".lock-{lock}").write_text(digest + "\n")


@pytest.mark.parametrize(("lock", "options"), [("edge", []), ("trainer", []), ("trainer", ["--loop"])])
def test_a_second_run_starts_at_once_with_every_option(clone, lock, options):
    prepared(clone, lock)
    done = run(clone, *options, "--seconds", "20", "--out", "a folder")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "|".join(["demo", *options, "--seconds", "20", "--out", "a folder", ""])


def test_the_loop_wants_the_trainers_packages(clone):
    prepared(clone, "edge")
    done = run(clone, "--loop", PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is not a Python 3.10 or newer" in done.stderr  # it would have made another environment


def test_an_old_python_is_refused_with_a_way_out(clone):
    script(clone / "bin" / "python3", '[ "$1" = --version ] && echo "Python 3.8.10"; exit 1')
    for name in ("cat", "sha256sum", "cut", "dirname", "bash"):
        os.symlink(shutil.which(name), clone / "bin" / name)
    done = run(clone, path=str(clone / "bin"))
    assert done.returncode == 1
    assert "no Python 3.10 or newer found (python3 is Python 3.8.10)" in done.stderr
    assert "PYTHON=" in done.stderr


def test_a_named_python_must_be_new_enough(clone):
    done = run(clone, PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is not a Python 3.10 or newer" in done.stderr


def test_a_python_without_venv_and_pip_names_the_package(clone):
    """As on a bare Debian, for a user who may not install anything."""
    script(
        clone / "bin" / "python3",
        'case "$*" in *ensurepip*|*"-m pip"*) exit 1;; *venv*) echo python3.11-venv;; esac; exit 0',
    )
    script(clone / "bin" / "id", "echo 1000")
    script(clone / "bin" / "uv", "exit 1")
    done = run(clone, path=f"{clone}/bin:/usr/bin:/bin")
    assert done.returncode == 1
    assert "sudo apt-get install -y python3.11-venv" in done.stderr


def test_a_clone_without_its_lock_is_refused(clone):
    (clone / "deploy" / "lock" / "edge.txt").unlink()
    done = run(clone)
    assert done.returncode == 1
    assert "is missing; clone the repository anew" in done.stderr
