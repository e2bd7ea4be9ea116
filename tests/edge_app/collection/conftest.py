"""A spool on a real store, and shards that wait for a real folder."""

import shutil
import subprocess

import pytest
from spool_disk import Disk
from waiting_shards import Waiting


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


@pytest.fixture
def waiting(tmp_path):
    return Waiting(tmp_path / "spool")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(24)`: a file system of so many MB; asked again, it is made that large."""
    place = tmp_path / "disk"

    def of_size(megabytes):
        place.mkdir(exist_ok=True)
        options = f"{'remount,' if place.is_mount() else ''}size={megabytes}m"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        return place

    yield of_size
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)
