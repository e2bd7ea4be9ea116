"""Tiny signed bundles, sound or mutated, made where they are needed."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_app.contract.archive import BLOCK_BYTES, write_archive
from edge_app.contract.bundle import MANIFEST, SIGNATURE, read_bundle, write_bundle
from edge_app.contract.bundle_manifest import MEMBER_LIMITS_BYTES, BundledModel, BundleManifest, Calibration, Gate
from edge_app.contract.errors import BundleError
from edge_app.contract.golden import Golden, golden_bytes
from edge_app.contract.model import ModelManifest
from edge_app.contract.preprocess import InputSpec
from edge_app.contract.signature import public_bytes, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = [public_bytes(KEY)]
INPUT = InputSpec(width_px=32, height_px=32)
LIMIT_NAMES = list(MEMBER_LIMITS_BYTES)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def golden(count: int = 3, size: tuple[int, int] = (32, 32), seed: int = 0) -> Golden:
    """Plain crops, and what `TinyOnnx.mean_colour` makes of them: the mean of red, green and blue."""
    colours = np.random.default_rng(seed).integers(20, 255, (count, 3), np.uint8)  # BGR
    crops = np.broadcast_to(colours[:, None, None], (count, *size, 3)).copy()
    rows = unit(colours[:, ::-1].astype(np.float64))
    return Golden(crops, rows, rows, 0.98)


def manifest(detector: bool = False, **changes: Any) -> BundleManifest:
    model = ModelManifest(kind="embedder", version="to be sealed", input=INPUT, dimension=3)
    gates = (Gate(name="cosine_min", passed=True, value=0.991, limit=0.98),)
    embedder = BundledModel(
        model=model,
        precision="int8",
        precision_reason="every gate passed",
        gates=gates,
        float_layers=("gem", "neck"),
        sensitivity={"conv1": 0.002},
        histograms={"int8_against_fp32": (0, 0, 1, 99)},
        calibration=Calibration(images=512, sha256="ab" * 32, chosen="all cameras, every hour"),
    )
    car = ModelManifest(kind="detector", version="d1", input=INPUT, class_names=("car",), head="ultralytics-end2end")
    found = BundledModel(model=car, precision="fp32", precision_reason="asked for", sensitivity={"head": 0.4})
    given = {
        "name": "crossroads",
        "serial": 7,
        "created_at_s": 1767225600.25,
        "commit": "0123abc",
        "embedder": embedder,
        "detector": found if detector else None,
        "config": {"method": "spcl", "epochs": 50, "eps": None},
        **changes,
    }
    return BundleManifest(**given)


def write(path: Path, embedder: Path | bytes, detector: Path | bytes | None = None, **changes: Any) -> BundleManifest:
    """A bundle signed with `KEY`; `key`, `golden` and any field of the manifest can be changed."""
    key, content = changes.pop("key", KEY), changes.pop("golden", golden())
    members: dict[Any, Path | bytes] = {"embedder.onnx": embedder, "golden.npz": golden_bytes(content)}
    if detector is not None:
        members["detector.onnx"] = detector
    return write_bundle(path, manifest(detector is not None, **changes), members, key)


def take_apart(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest as plain values, and the other members."""
    bundle = read_bundle(path, TRUSTED)
    return json.loads(bundle.manifest.model_dump_json(by_alias=True)), {
        name: bundle.content(name) for name in bundle.manifest.members
    }


def put_together(path: Path, fields: Any, members: dict[str, bytes], key: Ed25519PrivateKey = KEY) -> Path:
    """Sign whatever the manifest says."""
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    write_archive(path, {MANIFEST: text, SIGNATURE: sign(text, key), **members})
    return path


class Mutants:
    """Mutated bundles, one per seed: damaged archives, and well signed ones with a manifest or members gone wild."""

    def __init__(self, sound: Path, folder: Path) -> None:
        self.bytes, self._path = sound.read_bytes(), folder / "mutant.bundle"
        self._fields, self._members = take_apart(sound)

    def try_one(self, seed: int) -> str:
        """`refused`, or `read` where the mutant is still a bundle. Anything but `BundleError` goes through."""
        dice = random.Random(seed)
        signed = dice.random() < 0.5
        if signed:
            self._signed(dice)
        else:
            mutant = self._damaged(dice)
            self._path.write_bytes(mutant)
        try:
            bundle = read_bundle(self._path, TRUSTED)
            bundle.golden()
        except BundleError:
            return "refused"
        assert signed or mutant == self.bytes, "a changed archive was accepted"
        return "read"

    def _damaged(self, dice: random.Random) -> bytes:
        mutant = bytearray(self.bytes)
        for _ in range(dice.choice([1, 1, 2, 5])):
            block = dice.randrange(len(self.bytes) // BLOCK_BYTES) * BLOCK_BYTES
            place, end = dice.randrange(len(self.bytes)), dice.choice([1, 8, 512, 4096])
            kind = dice.randrange(7)
            if kind == 0:
                mutant[place : place + 1] = bytes([dice.randrange(256)])
            elif kind == 1:
                del mutant[place : place + end]
            elif kind == 2:
                mutant[place:place] = dice.randbytes(end)
            elif kind == 3:
                mutant[block : block + 512] = self.bytes[place : place + 512]
            elif kind == 4:
                mutant[block : block + 100] = dice.choice([b"../../x", b"/etc/x", b"evil"]).ljust(100, b"\0")
            elif kind == 5:
                mutant[block + 124 : block + 136] = dice.choice(
                    [b"77777777777\0", b"\x80" + b"\xff" * 11, b"-1 ".ljust(12)]
                )
            else:
                mutant[block + 156 : block + 157] = dice.choice([b"1", b"2", b"5", b"x", b"L", b"S"])
        return bytes(mutant)

    def _signed(self, dice: random.Random) -> None:
        fields, members = copy.deepcopy(self._fields), dict(self._members)
        for _ in range(dice.choice([1, 1, 3])):
            kind = dice.randrange(5)
            if kind == 0:
                members.pop(dice.choice(LIMIT_NAMES), None)
            elif kind == 1:
                name = dice.choice([*LIMIT_NAMES, "../evil", "/etc/passwd", "evil"])
                members[name] = self._junk(dice, members.get(name, b""))
            else:
                mutate(fields, dice)
        if dice.random() < 0.5:  # else sizes and digests stay those of the sound members
            reseal(fields, members)
        text = json.dumps(fields).encode()
        if dice.random() < 0.1:
            text = self._junk(dice, text)
        put_together(self._path, text, members)

    def _junk(self, dice: random.Random, content: bytes) -> bytes:
        cut = dice.randrange(len(content) + 1)
        replaced = content[:cut] + dice.randbytes(1) + content[cut + 1 :]
        return dice.choice([b"", b"PK", b"[" * 50_000, content[:cut], replaced, replaced, dice.randbytes(600)])


def reseal(fields: dict[str, Any], members: dict[str, bytes]) -> None:
    """Write the members' real sizes and digests into the fields, as far as these can still hold them."""
    import hashlib

    fields["members"] = {
        name: {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
    }
    for name in ("embedder", "detector"):
        model = fields[name].get("model") if isinstance(fields.get(name), dict) else None
        if isinstance(model, dict) and f"{name}.onnx" in members:
            model["sha256"] = fields["members"][f"{name}.onnx"]["sha256"]
            if name == "embedder":
                model["version"] = f"sha256:{model['sha256'][:12]}"


VALUES = [None, True, -1, 0, 1e308, 10**40, "", "x" * 5000, "../x", "crosslane.bundle/2", "crosslane.bundle/0",
          "\ud800", [], {}, [[]], {"": {}}, float("nan"), float("inf"), "1.0", "9" * 400]  # fmt: skip


def mutate(value: Any, dice: random.Random) -> None:
    """Change, drop or add one thing somewhere in nested values."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = dice.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and dice.random() < 0.8:
        mutate(value[key], dice)
    elif dice.random() < 0.2:
        del value[key]
    elif dice.random() < 0.2 and isinstance(value, dict):
        value[dice.choice(["new", "schema", "../x", "embedder"])] = copy.deepcopy(dice.choice(VALUES))
    else:
        value[key] = copy.deepcopy(dice.choice(VALUES))
