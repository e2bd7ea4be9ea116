"""A bundle comes back as it was written, and everything else is refused by its name."""

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import FOREIGN_KEY, KEY, TRUSTED, Mutants, put_together, reseal, take_apart

from edge_app.contract import bundle as bundle_module
from edge_app.contract.archive import BLOCK_BYTES, END, header
from edge_app.contract.bundle import read_bundle, write_bundle
from edge_app.contract.errors import BundleError
from edge_app.contract.golden import golden_bytes, parse_golden
from edge_app.contract.schemas import bundle_schema
from edge_app.contract.signature import public_bytes, read_private_key, read_public_key, write_key_pair

GOLDEN_FILE = Path(__file__).parent / "golden" / "bundle-1.bundle"
WEIGHTS = b"\x08\x09 stands for a network " * 40


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.bundle"
    tiny_bundle.write(path, WEIGHTS, WEIGHTS[::-1])
    return path


def refused(path: Path, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        read_bundle(path, TRUSTED)
    assert str(path) in str(caught.value)


def test_what_is_written_comes_back(sound: Path) -> None:
    found = read_bundle(sound, TRUSTED)
    assert found.content("embedder.onnx") == WEIGHTS
    assert found.content("detector.onnx") == WEIGHTS[::-1]
    assert found.manifest.embedding_version == f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()[:12]}"
    assert found.manifest.embedder.gates[0].value == 0.991
    assert found.manifest.config == {"method": "spcl", "epochs": 50, "eps": None}
    np.testing.assert_array_equal(found.golden().crops, tiny_bundle.golden().crops)
    with tarfile.open(sound) as archive:
        names = archive.getnames()
        text = archive.extractfile("manifest.json").read()
    assert names == ["manifest.json", "signature.ed25519", "embedder.onnx", "detector.onnx", "golden.npz"]
    assert found.digest == "sha256:" + hashlib.sha256(text).hexdigest()
    jsonschema.Draft202012Validator(bundle_schema()).validate(json.loads(text))


def test_the_same_content_gives_the_same_bytes(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(WEIGHTS)
    tiny_bundle.write(tmp_path / "again.bundle", tmp_path / "weights", WEIGHTS[::-1])
    assert (tmp_path / "again.bundle").read_bytes() == sound.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.bundle", "sound.bundle", "weights"]


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_tar_lists_it(sound: Path) -> None:
    done = subprocess.run(["tar", "tf", sound], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "manifest.json"
    assert done.stderr == ""


def test_the_golden_file_of_version_1_is_read_for_ever(tmp_path: Path) -> None:
    found = read_bundle(GOLDEN_FILE, TRUSTED)
    assert (found.manifest.schema_, found.manifest.serial) == ("crosslane.bundle/1", 7)
    assert found.manifest == tiny_bundle.manifest(True).model_copy(
        update={name: getattr(found.manifest, name) for name in ("embedder", "detector", "members")}
    )
    members = {name: found.content(name) for name in found.manifest.members}
    write_bundle(tmp_path / "again.bundle", found.manifest, members, KEY)
    assert (tmp_path / "again.bundle").read_bytes() == GOLDEN_FILE.read_bytes()


def test_truncated_at_every_per_cent(sound: Path) -> None:
    whole = sound.read_bytes()
    for percent in range(100):
        sound.write_bytes(whole[: len(whole) * percent // 100])
        refused(sound, "truncated")


def test_one_flipped_bit_anywhere(sound: Path) -> None:
    """Every byte of both headers, the signature and the paddings; every 97th of the rest."""
    whole = sound.read_bytes()
    places = {*range(0, len(whole), 97), *range(2 * BLOCK_BYTES), *range(len(whole) - len(END) - 600, len(whole))}
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        sound.write_bytes(flipped)
        refused(sound, "damaged|does not fit|foreign|wrong digest|not a usable bundle|truncated")


def test_a_foreign_signature_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "foreign.bundle"
    tiny_bundle.write(path, WEIGHTS, key=FOREIGN_KEY)
    refused(path, f"foreign signature: signed by ed25519:{public_bytes(FOREIGN_KEY).hex()[:16]}")
    with pytest.raises(BundleError, match="trusted are none"):
        read_bundle(path, [])


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("crosslane.bundle/2", "newer contract, crosslane.bundle/2; .*update this program"),
        ("crosslane.bundle/0", "older contract, crosslane.bundle/0; .*export the model again"),
        ("crosslane.model/1", "does not follow"),
        ("crosslane.bundle/1.5", "does not follow"),
        (None, "does not follow"),
    ],
)
def test_another_contract(sound: Path, schema: str | None, said: str) -> None:
    fields, members = take_apart(sound)
    put_together(sound, fields | {"schema": schema, "embedder": "of another shape"}, members)
    refused(sound, said)


def test_a_later_release_may_add_fields(sound: Path) -> None:
    fields, members = take_apart(sound)
    put_together(sound, fields | {"added_later": [1, 2]}, members)
    assert read_bundle(sound, TRUSTED).manifest.serial == 7
    fields["embedder"]["model"]["input"]["gamma"] = 2.2  # would have to be obeyed
    put_together(sound, fields, members)
    refused(sound, "embedder.model.input.gamma")


@pytest.mark.parametrize("name", ["../evil", "/etc/cron.d/evil", "a/../../evil", "..\\evil"])
def test_a_member_that_leads_out(sound: Path, name: str) -> None:
    fields, members = take_apart(sound)
    put_together(sound, fields, {name: b"x", **members})
    refused(sound, "truncated|too long")  # its length is already not the one the manifest gives
    whole = bytearray(b"".join(_members_with(sound, name)))
    sound.write_bytes(whole)
    refused(sound, "path traversal")
    reseal(fields, {**members, name: b"x"})
    put_together(sound, fields, {**members, name: b"x"})
    refused(sound, "members")


def _members_with(sound: Path, name: str) -> list[bytes]:
    """The sound archive with the embedder's header renamed."""
    tiny_bundle.write(sound, WEIGHTS, WEIGHTS[::-1])
    whole = sound.read_bytes()
    place = whole.index(header("embedder.onnx", len(WEIGHTS)))
    return [whole[:place], header(name, len(WEIGHTS)), whole[place + BLOCK_BYTES :]]


def test_links_and_other_types_are_named(sound: Path) -> None:
    whole = sound.read_bytes()
    for kind in b"125xLS":
        sound.write_bytes(whole[:156] + bytes([kind]) + whole[157:])
        refused(sound, "link or a special file")


def test_what_is_compressed_is_refused_before_it_is_unpacked(sound: Path, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(30_000_000))
    sound.write_bytes(bomb)
    refused(sound, r"compressed \(gzip\)")
    with zipfile.ZipFile(sound, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(10_000_000))
    refused(sound, r"compressed \(zip\)")


def test_a_golden_file_that_unpacks_to_more_is_refused(sound: Path, tmp_path: Path) -> None:
    fields, members = take_apart(sound)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("crops", "rows", "float_rows", "min_cosine"):
            archive.writestr(f"{name}.npy", bytes(20_000_000))
    members["golden.npz"] = (tmp_path / "bomb.npz").read_bytes()
    reseal(fields, members)
    put_together(sound, fields, members)
    refused(sound, "golden.npz is not a golden file: compressed arrays")


def test_a_shape_that_lies_allocates_nothing(sound: Path) -> None:
    content = golden_bytes(tiny_bundle.golden()).replace(b"(3, 32, 32, 3)", b"(9, 9**9,32,3)")
    with pytest.raises(BundleError, match="not a golden file"):
        parse_golden(content, "here")


def test_too_large_is_refused_by_its_size_alone(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "TOTAL_LIMIT_BYTES", 1000)
    refused(sound, "at most 1000 are allowed")
    monkeypatch.undo()
    fields, members = take_apart(sound)
    fields["members"]["embedder.onnx"]["size_bytes"] = 3 << 30
    put_together(sound, fields, members)
    refused(sound, "embedder.onnx has 3221225472 bytes; at most")
    put_together(sound, fields | {"config": {"x": "y" * (1 << 20)}}, members)
    refused(sound, "manifest.json claims")


@pytest.mark.parametrize("name", ["embedder.onnx", "detector.onnx", "golden.npz"])
def test_a_missing_member_is_named(sound: Path, name: str) -> None:
    fields, members = take_apart(sound)
    del members[name], fields["members"][name]
    put_together(sound, fields, members)
    refused(sound, f"members are missing: {name}")


def test_members_of_another_bundle(sound: Path) -> None:
    fields, members = take_apart(sound)
    put_together(sound, fields, {**members, "embedder.onnx": WEIGHTS[::-1]})
    refused(sound, "embedder.onnx is not the one that was signed")
    fields["embedder"]["model"]["version"] = "v7"
    put_together(sound, fields, members)
    refused(sound, "'v7' is not the digest of embedder.onnx")
    put_together(sound, take_apart_and(fields, detector=None), members)
    refused(sound, "nothing says what it is")


def take_apart_and(fields: dict, **changes: object) -> dict:
    return {**fields, **changes}


def test_nothing_may_follow(sound: Path) -> None:
    sound.write_bytes(sound.read_bytes() + b"\0")
    refused(sound, "too long")


def test_a_file_that_changes_after_it_was_verified(sound: Path) -> None:
    found = read_bundle(sound, TRUSTED)
    sound.write_bytes(sound.read_bytes().replace(WEIGHTS, WEIGHTS.upper()))
    with pytest.raises(BundleError, match="wrong digest"):
        found.content("embedder.onnx")
    sound.unlink()
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        found.content("embedder.onnx")


def test_what_cannot_become_a_bundle_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "never.bundle"
    other = tiny_bundle.golden(size=(16, 32))
    with pytest.raises(BundleError, match=r"does not match the embedder: crops \(16, 32\)"):
        tiny_bundle.write(path, WEIGHTS, golden=other)
    with pytest.raises(BundleError, match=r"members are missing: golden\.npz"):
        write_bundle(path, tiny_bundle.manifest(), {"embedder.onnx": WEIGHTS}, KEY)
    with pytest.raises(BundleError, match="has no member evil"):
        write_bundle(path, tiny_bundle.manifest(), {"evil": b""}, KEY)
    with pytest.raises(BundleError, match=r"nothing\.onnx cannot be read"):
        tiny_bundle.write(path, tmp_path / "nothing.onnx")
    with pytest.raises(BundleError, match="cannot be written"):
        tiny_bundle.write(tmp_path / "nowhere" / "x.bundle", WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_a_golden_file_holds_unit_rows_of_its_crops() -> None:
    good = tiny_bundle.golden()
    for wrong in (
        {"crops": good.crops[:2]},
        {"crops": good.crops[..., 0]},
        {"rows": good.rows * 2},
        {"rows": good.rows * np.nan},
        {"float_rows": good.rows[:, :2]},
        {"min_cosine": 0.0},
        {"min_cosine": float("nan")},
    ):
        with pytest.raises(BundleError):
            replace(good, **wrong)


def test_keys_are_pem_files(tmp_path: Path) -> None:
    private, public = tmp_path / "site.key", tmp_path / "site.pub"
    made = write_key_pair(private, public)
    assert made == read_public_key(public) == public_bytes(read_private_key(private))
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BundleError, match="never overwritten"):
        write_key_pair(private, public)
    with pytest.raises(BundleError, match="no public key"):
        read_public_key(private)
    with pytest.raises(BundleError, match="no unencrypted private key"):
        read_private_key(public)
    with pytest.raises(BundleError, match="cannot be read"):
        read_public_key(tmp_path / "none.pub")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mutants_are_refused_and_crash_nothing(mutants: Mutants, seed: int) -> None:
    assert mutants.try_one(seed) in ("refused", "read")


@pytest.fixture(scope="module")
def mutants(tmp_path_factory) -> Mutants:
    return Mutants(GOLDEN_FILE, tmp_path_factory.mktemp("mutants"))
