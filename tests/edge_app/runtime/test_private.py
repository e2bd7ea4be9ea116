"""Nobody else on the machine reads what networks know, whatever the umask."""

import os
from pathlib import Path

import pytest
import tiny_bundle

from edge_app.contract.bundle import read_bundle
from edge_app.runtime import private
from edge_app.runtime.build import BuildRequest, build_engine
from edge_app.runtime.bundles import unpack


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777) for path in sorted(folder.rglob("*"))}


def test_unpacked_bundles(tmp_path, umask) -> None:
    os.umask(0o022)
    tiny_bundle.write(tmp_path / "x.bundle", b"weights")
    bundle = read_bundle(tmp_path / "x.bundle", tiny_bundle.TRUSTED)
    os.umask(umask)
    folder = tmp_path / "state" / "bundles"
    place = unpack(bundle, folder)
    found = rights(tmp_path / "state")
    assert set(found.values()) == {"0o600", "0o700"}
    assert found["bundles"] == "0o700"
    assert found[f"bundles/{place.name}/embedder.onnx"] == "0o600"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for path in (place, *place.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)  # as an earlier release left it
    assert unpack(bundle, folder) == place
    assert rights(tmp_path / "state") == found


def test_engines(tmp_path, tiny_onnx, umask) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed (extra dev)")
    os.umask(0o022)
    model = tiny_onnx.mean_colour()
    os.umask(umask)
    build_engine(BuildRequest(model, tmp_path / "state" / "engines", "sm86"))
    assert {rights for name, rights in rights_of_files(tmp_path / "state")} == {"0o600"}
    assert (tmp_path / "state" / "engines").stat().st_mode & 0o777 == 0o700


def rights_of_files(folder: Path) -> list[tuple[str, str]]:
    return [(name, found) for name, found in rights(folder).items() if (folder / name).is_file()]


def test_a_folder_that_others_use_keeps_its_rights(tmp_path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    private.make_folder(shared / "ours")
    assert shared.stat().st_mode & 0o777 == 0o755
    assert (shared / "ours").stat().st_mode & 0o777 == 0o700
    private.make_folder(shared)
    assert shared.stat().st_mode & 0o777 == 0o755


def test_a_file_is_whole_or_not_there(tmp_path) -> None:
    private.write_file(tmp_path / "a", b"first")
    with pytest.raises(TypeError):
        private.write_file(tmp_path / "a", "text")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
