"""What lies in a folder: found, or passed over by name."""

import os

import pytest

from trainer.data.listing import find_images, list_images, reasons_of
from trainer.errors import DataError


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_linked_folders_are_read_and_circles_end(tmp_path):
    files(tmp_path / "elsewhere", "b.png")
    root = files(tmp_path / "root", "a.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    found = find_images(root)
    assert [path.name for path in found.pictures] == ["a.png", "b.png"]
    assert [one.reason for one in found.passed_over] == ["a link to a folder that is read already"]


def test_a_folder_without_pictures_says_what_lies_there(tmp_path):
    with pytest.raises(
        DataError, match=r"no pictures below it (.|\n)*4 not named as a picture .*a.tif, b.tif, c.tif, … and 1"
    ):
        list_images(files(tmp_path, *(f"{letter}.tif" for letter in "abcd")))
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "none")


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    files(tmp_path, "a.png")
    odd = os.fsencode(tmp_path) + b"/caf\xe9\n.txt"
    with open(odd, "wb"):
        pass
    (line,) = reasons_of(find_images(tmp_path).passed_over, tmp_path)
    assert line.endswith(r": caf\udce9\n.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    root = files(tmp_path, "a.png", "closed/b.png")
    (root / "closed").chmod(0)
    assert reasons_of(find_images(root).passed_over, root) == [
        "1 a folder that cannot be read: Permission denied: closed"
    ]
