"""deploy/environment.sh finds the shared libraries that packages want and a bare system lacks, as root or not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
WANTS = 'raise ImportError("{library}: cannot open shared object file: No such file or directory")\n'
# apt knows the packages by the rule of Debian's policy; installing one brings its library
APT = """
case "$*" in
    *--simulate*libxcb1|*--simulate*libfoo-bar2.0-0|*--simulate*libglib2.0-0) exit 0;;
    *--simulate*) exit 100;;
    "install "*) for name; do :; done; echo "$name" >>"$STATE/installed"; [ "$name" = apt-file ] || : >"$STATE/$name";;
esac
"""
APT_FILE = 'case "$*" in *libgthread-2.0.so.0*) echo "libglib2.0-0: /usr/lib/x/libgthread-2.0.so.0";; esac'


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def system(tmp_path):
    """A system whose OpenCV wants libraries, one after the other, until their packages are there."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    os.symlink(sys.executable, tmp_path / "venv" / "bin" / "python")
    script(tmp_path / "bin" / "apt-get", APT)
    script(tmp_path / "bin" / "apt-file", APT_FILE)
    return tmp_path


def complete(system, wanted, user):
    """`complete_libraries` where cv2 wants `wanted`: library → package."""
    packages = system / "packages"
    packages.mkdir()
    lines = ["import os", "here = os.path.exists"]
    for library, package in wanted.items():
        lines += [f"if not here({str(system / 'state' / package)!r}):", f"    {WANTS.format(library=library)}"]
    (packages / "cv2.py").write_text("\n".join(lines))
    for name in ("av", "onnxruntime", "scipy", "PIL", "torch", "faiss", "sklearn", "cysystemd"):
        (packages / f"{name}.py").write_text("")  # the real ones would take seconds
    (packages / "scipy.py").write_text("__path__ = []\n")
    return run(system, user)


def run(system, user):
    script(system / "bin" / "id", f"echo {user}")
    code = f"set -euo pipefail; source {ROOT}/deploy/environment.sh; venv={system}/venv; complete_libraries"
    env = {
        "PATH": f"{system}/bin:/usr/bin:/bin",
        "PYTHONPATH": str(system / "packages"),
        "STATE": str(system / "state"),
        "HOME": str(system),
    }
    return subprocess.run(["bash", "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)


def installed(system):
    file = system / "state" / "installed"
    return file.read_text().split() if file.exists() else []


def test_root_gets_every_library_that_is_missing(system):
    done = complete(system, {"libxcb.so.1": "libxcb1", "libfoo_bar-2.0.so.0": "libfoo-bar2.0-0"}, user=0)
    assert done.returncode == 0, done.stderr
    assert installed(system) == ["libxcb1", "libfoo-bar2.0-0"]


def test_a_library_that_the_rule_does_not_name_is_looked_for(system):
    done = complete(system, {"libgthread-2.0.so.0": "libglib2.0-0"}, user=0)
    assert done.returncode == 0, done.stderr
    assert installed(system) == ["apt-file", "libglib2.0-0"]


def test_another_user_is_told_what_to_type(system):
    done = complete(system, {"libxcb.so.1": "libxcb1"}, user=1000)
    assert done.returncode == 1
    assert "sudo apt-get install -y libxcb1" in done.stderr
    assert not installed(system)


def test_another_user_is_told_how_to_find_an_unknown_one(system):
    done = complete(system, {"libgthread-2.0.so.0": "libglib2.0-0"}, user=1000)
    assert done.returncode == 1
    assert "libgthread-2.0.so.0 is missing" in done.stderr
    assert "apt-file search libgthread-2.0.so.0" in done.stderr


def test_a_library_that_no_package_brings_ends_with_its_name(system):
    done = complete(system, {"libxcb.so.1": "never"}, user=0)
    assert done.returncode == 1
    assert "libxcb.so.1 is still missing" in done.stderr


def test_a_package_that_is_broken_otherwise_is_no_success(system):
    assert complete(system, {}, user=0).returncode == 0
    (system / "packages" / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    done = run(system, user=0)
    assert done.returncode == 1
    assert "multiarray" in done.stderr
    assert "does not load" in done.stderr


@pytest.mark.parametrize("lock", ["edge", "dev", "trainer", "trainer-gpu"])
def test_no_lock_brings_the_opencv_that_opens_windows(lock):
    names = [line.split("==")[0] for line in (ROOT / "deploy" / "lock" / f"{lock}.txt").read_text().splitlines()]
    assert "opencv-python-headless" in names
    assert not {"opencv-python", "opencv-contrib-python"} & set(names)


@pytest.mark.parametrize(
    ("lock", "machine", "build"),
    [
        ("trainer", "x86_64", "faiss-cpu"),
        ("trainer-gpu", "x86_64", "faiss-gpu"),
        ("trainer-gpu", "aarch64", "faiss-cpu"),  # there is no wheel for its GPUs
    ],
)
def test_a_lock_brings_one_faiss(lock, machine, build):
    """Two would lie in one folder, and the one that came last would win."""
    lines = (ROOT / "deploy" / "lock" / f"{lock}.txt").read_text().splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line.startswith("faiss")]
    linux = {"sys_platform": "linux", "platform_machine": machine}
    assert [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(linux)] == [build]
