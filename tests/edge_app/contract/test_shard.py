"""Shards: round trip, the bytes of version 1, and one clear error for each thing a stranger may send."""

import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_shard import MATCHED, crop, jpeg, record

from edge_app.contract import crop as crops_of
from edge_app.contract import shard
from edge_app.contract.archive import END, header, padding
from edge_app.contract.crop import Crop, CropRecord, Verdict, crop_key, jpeg_size
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import ShardName, encode, read_shard, samples, write_shard

GOLDEN = Path(__file__).parent / "golden" / "edge-1-a1b2c3.7-000012-d23306e9c61277fb.tar"
CROPS = [
    crop(0, 0, verdict=MATCHED),
    crop(0, 1, control=True, person="blurred"),
    Crop(record(1, camera="west", embedding_version=None, verdict=Verdict(state="undecided")), jpeg(7)),
]


def same(left: list[Crop], right: list[Crop]) -> bool:
    return len(left) == len(right) and all(
        a.record == b.record and a.jpeg == b.jpeg and np.array_equal(a.embedding, b.embedding)
        for a, b in zip(left, right, strict=True)
    )


def tar(path: Path, *members: tuple[str, bytes], end: bytes = END) -> Path:
    """A file that says it is a shard, of these members, under the name that its bytes ask for."""
    content = b"".join(header(name, len(body)) + body + padding(len(body)) for name, body in members) + end
    return named(path, content)


def named(folder: Path, content: bytes) -> Path:
    path = folder / str(ShardName("edge-1", "a.1", 1, hashlib.sha256(content).hexdigest()[:16]))
    path.write_bytes(content)
    return path


def members(one: Crop) -> dict[str, bytes]:
    return {one.record.key + ending: body for ending, body in crops_of.encoded(one).items()}


def test_round_trip(tmp_path: Path) -> None:
    path = write_shard(tmp_path, "edge-1", "a1b2c3.7", 12, CROPS)
    assert same(list(read_shard(path)), CROPS)
    assert same(list(read_shard(path, hashlib.sha256(path.read_bytes()).hexdigest())), CROPS)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [path.name]
    assert list(read_shard(write_shard(tmp_path, "edge-1", "a1b2c3.7", 13, []))) == []


def test_the_golden_file_of_version_1_is_read_for_ever(tmp_path: Path) -> None:
    found = list(read_shard(GOLDEN))
    assert [one.record for one in found] == [one.record for one in CROPS]
    again = write_shard(tmp_path, "edge-1", "a1b2c3.7", 12, found)
    assert (again.name, again.read_bytes()) == (GOLDEN.name, GOLDEN.read_bytes())


def test_other_readers_of_tar_and_npy_agree(tmp_path: Path) -> None:
    path = write_shard(tmp_path, "edge-1", "a1b2c3.7", 12, CROPS)
    with tarfile.open(path) as other:
        assert other.getnames() == [name for one in CROPS for name in members(one)]
        stored = other.extractfile(f"{CROPS[0].record.key}.npy")
        np.testing.assert_array_equal(np.load(io.BytesIO(stored.read())), CROPS[0].embedding)


def test_keys_are_unique_and_plain() -> None:
    passages = ["a/b/1.2/3", "a-b/1.2/3", "a/b/1-2/3", "日本/b/1/3", "a/" + "x" * 190, "b/" + "x" * 190]
    keys = [crop_key(passage, number) for passage in passages for number in (0, 10)]
    assert len(set(keys)) == len(keys)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for key in keys)
    assert max(map(len, keys)) <= 90


def test_names_say_what_they_are() -> None:
    name = ShardName("edge-1", "a1b2c3.7", 12, "0123456789abcdef")
    assert str(name) == "edge-1-a1b2c3.7-000012-0123456789abcdef.tar"
    assert ShardName.parse(str(name)) == name
    for wrong in (
        "",
        "x.tar",
        "../" + str(name),
        str(name).upper(),
        str(name) + ".part",
        str(name).replace("0000", "0"),
    ):
        with pytest.raises(ShardError, match="no name of a shard"):
            ShardName.parse(wrong)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_shard_that_was_cut_short_is_refused_as_a_whole(tmp_path: Path, share: float) -> None:
    path = tmp_path / GOLDEN.name
    path.write_bytes(GOLDEN.read_bytes()[: int(share * GOLDEN.stat().st_size)])
    with pytest.raises(ShardError, match="cut short or changed"):
        next(read_shard(path))


def test_a_byte_that_was_changed_is_refused_before_anything_is_used(tmp_path: Path) -> None:
    content = bytearray(GOLDEN.read_bytes())
    content[-1100] ^= 1
    path = tmp_path / GOLDEN.name
    path.write_bytes(content)
    with pytest.raises(ShardError, match="cut short or changed"):
        next(read_shard(path))
    shutil.copy(GOLDEN, path)
    with pytest.raises(ShardError, match="cut short or changed"):
        next(read_shard(path, "0" * 64))


JPG, JSON, NPY = members(CROPS[0]).items()
KEY = CROPS[0].record.key
BOMB = jpeg().replace(struct.pack(">HH", 32, 24), struct.pack(">HH", 65535, 65535))
DEEP = b'{"a": ' + b"[" * 8000 + b"]" * 8000 + b"}"
HOSTILE = {
    "a name that leads out": [("../../etc/passwd.jpg", JPG[1]), JSON],
    "an absolute name": [("/etc/passwd.jpg", JPG[1]), JSON],
    "no picture": [(JPG[0], b"GIF89a" + bytes(100)), JSON],
    "a picture that unpacks to gigabytes": [(JPG[0], BOMB), JSON],
    "a picture that is too large": [(JPG[0], JPG[1] + bytes(crops_of.LARGEST_JPEG_BYTES)), JSON],
    "a record without end": [JPG, (JSON[0], JSON[1] + b" " * crops_of.LARGEST_RECORD_BYTES)],
    "a deep record": [JPG, (JSON[0], DEEP)],
    "no record": [JPG, JPG],
    "no JSON": [JPG, (JSON[0], b"\xff\x00")],
    "numbers that are none": [JPG, (JSON[0], JSON[1].replace(b"0.875", b"NaN"))],
    "another format": [JPG, (JSON[0], JSON[1].replace(b"crop/1", b"crop/2"))],
    "the record of another crop": [JPG, (JSON[0], JSON[1].replace(b"a1b2c3.7/0", b"a1b2c3.7/9"))],
    "a name in control characters": [JPG, (JSON[0], JSON[1].replace(b'"car"', b'"\\u001b[2J' + b"x" * 400 + b'"'))],
    "objects in an array": [JPG, JSON, (NPY[0], NPY[1].replace(b"<f2", b"|O "))],
    "an array of another shape": [JPG, JSON, (NPY[0], NPY[1].replace(b"(16,)", b"(99,)"))],
    "an array without end": [JPG, JSON, (NPY[0], NPY[1][:128] + bytes(4 * crops_of.MOST_VALUES))],
    "an array that is infinite": [JPG, JSON, (NPY[0], NPY[1][:128] + b"\x00\x7c" * 16)],
    "one crop twice": [JPG, JSON, JPG, JSON],
    "members in another order": [JSON, JPG],
    "a stranger's file": [("README", b"hello")],
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_stranger_made_is_one_error(tmp_path: Path, what: str) -> None:
    path = tar(tmp_path, *HOSTILE[what])
    if what == "a name in control characters":  # a text is made one line and cut, as everywhere in the contract
        (found,) = read_shard(path)
        assert found.record.class_name.isprintable()
        assert len(found.record.class_name) == 300
        return
    with pytest.raises(ShardError, match=r"edge-1-a\.1-000001") as caught:
        list(read_shard(path))
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_headers_are_compared_not_interpreted(tmp_path: Path) -> None:
    good = b"".join(header(name, len(body)) + body + padding(len(body)) for name, body in (JPG, JSON)) + END
    assert len(list(read_shard(named(tmp_path, good)))) == 1
    for place, byte in ((156, b"1"), (156, b"2"), (345, b"x"), (257, b"U"), (100, b"7"), (148, b"1"), (124, b"-")):
        wrong = good[:place] + byte + good[place + 1 :]
        with pytest.raises(ShardError, match="expected the plain file"):
            list(read_shard(named(tmp_path, wrong)))
    for content in (good + b"x", good + END, good[:-1], good[:-512], good[: -len(END)], b"", good[:100], b"x" * 2000):
        with pytest.raises(ShardError):
            list(read_shard(named(tmp_path, content)))


def test_a_size_is_judged_before_its_bytes_are_read(tmp_path: Path) -> None:
    """A header may claim eight gigabytes."""
    path = named(tmp_path, header(JPG[0], 8**11 - 1) + b"x" * 512)
    tracemalloc.start()
    with pytest.raises(ShardError, match=r"claims 8589934591 bytes"):
        list(read_shard(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3_000_000


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    one = crop()
    many = write_shard(tmp_path, "edge-1", "a.1", 1, (Crop(record(n), one.jpeg, one.embedding) for n in range(2000)))
    reading = (
        "import sys, tracemalloc; from pathlib import Path; from edge_app.contract.shard import read_shard\n"
        "tracemalloc.start(); count = sum(1 for _ in read_shard(Path(sys.argv[1])))\n"
        "print(count, tracemalloc.get_traced_memory()[1])"
    )  # in a process of its own: threads of other tests need memory too
    said = subprocess.run([sys.executable, "-c", reading, str(many)], capture_output=True, text=True, check=True).stdout
    count, peak_bytes = map(int, said.split())
    assert count == 2000
    assert peak_bytes < 3_000_000 < many.stat().st_size / 2


def test_a_shard_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path, "edge-1", "a.1", 1, CROPS)
    monkeypatch.setattr(shard, "MOST_CROPS", 2)
    with pytest.raises(ShardError, match="more than 2 crops"):
        list(read_shard(path))
    monkeypatch.setattr(shard, "LARGEST_SHARD_BYTES", 1000)
    with pytest.raises(ShardError, match="larger than 1000 bytes"):
        list(read_shard(path))


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        path = tmp_path / GOLDEN.name
        make(path)
        with pytest.raises(ShardError, match=r"no plain file|cannot be read"):
            list(read_shard(path))
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(ShardError, match="cannot be read"):
        list(read_shard(path))


def test_nothing_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    for wrong in (
        Crop(record(), b"no picture"),
        Crop(record(), BOMB),
        Crop(record(), jpeg(), np.full(8, np.nan, np.float16)),
        Crop(record(), jpeg(), np.zeros(0, np.float16)),
    ):
        with pytest.raises(ShardError):
            encode(wrong)
        with pytest.raises(ShardError):
            write_shard(tmp_path, "edge-1", "a.1", 1, [CROPS[0], wrong])
    with pytest.raises(ShardError, match="cannot be written"):
        write_shard(tmp_path / "away", "edge-1", "a.1", 1, CROPS)
    assert os.listdir(tmp_path) == []


def test_a_record_keeps_its_bounds() -> None:
    for wrong in (
        {"passage": ""},
        {"passage": "a\nb"},
        {"number": -1},
        {"score": 2.0},
        {"site": "a/b"},
        {"box": (1, 2)},
    ):
        with pytest.raises(ValidationError):
            record(**wrong)
    later = record().model_dump() | {"seen_from": "above"}
    assert CropRecord.model_validate(later) == record()


def test_the_size_of_a_picture_is_read_without_decoding_it() -> None:
    assert jpeg_size(jpeg(width=24, height=32), "here") == (24, 32)
    for cut in range(0, 160, 7):
        with pytest.raises(ShardError, match="no JPEG"):
            jpeg_size(jpeg()[:cut], "here")


def test_what_was_written_before_the_power_went_can_be_told() -> None:
    written = [encode(one) for one in CROPS]
    offsets = [sum(map(len, written[: n + 1])) for n in range(3)]
    found: list[int] = []
    with pytest.raises(ShardError, match="cut short"):
        found.extend(offset for _, offset in samples(io.BytesIO(b"".join(written)[:-1]), "segment"))
    assert found == offsets[:2]
