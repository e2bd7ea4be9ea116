"""A model bundle: everything one training run sends to a roadside node, in one signed file.

    manifest.json       what is in it, how it was made, what was measured; SHA-256 of every other member
    signature.ed25519   of the manifest (`signature.py`)
    embedder.onnx       the Re-ID network; in INT8 with explicit Q/DQ nodes
    detector.onnx       optional
    golden.npz          crops and the embeddings they must give (`golden.py`)
    cameras.json        optional: per-camera statistics, per-pair score calibration

The members stand in this order in a plain tar file (`archive.py`). Nothing is believed before the signature: first the
manifest and its signature, then the contract's version, then sizes and digests of all members.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_app.contract.archive import ArchiveReader, digest_of, length, write_archive
from edge_app.contract.bundle_manifest import (
    LIMIT_BYTES,
    MEMBER_LIMITS_BYTES,
    BundleManifest,
    Member,
    MemberName,
    embedding_version,
    parse_manifest,
)
from edge_app.contract.errors import BundleError
from edge_app.contract.golden import Golden, parse_golden
from edge_app.contract.signature import SIGNATURE_BYTES, PrivateKey, key_name, sign, verify

SUFFIX = ".bundle"
MANIFEST, SIGNATURE = "manifest.json", "signature.ed25519"
TOTAL_LIMIT_BYTES = length([LIMIT_BYTES, SIGNATURE_BYTES, *MEMBER_LIMITS_BYTES.values()])


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A bundle whose signature and digests were verified when it was opened; a member's digest is again when read."""

    path: Path
    manifest: BundleManifest
    digest: str  # `sha256:` of manifest.json, which names every byte of the other members
    signed_by: str
    manifest_bytes: int

    def chunks(self, name: MemberName) -> Iterator[bytes]:
        """A member in pieces. Raises `BundleError`, at the latest behind the last of them, when the file is no longer
        the one that was opened: believe the pieces when all of them have come."""
        sizes = {each: member.size_bytes for each, member in self.manifest.members.items()}
        before = [sizes[each] for each in list(sizes)[: list(sizes).index(name)]]
        with _opened(self.path) as file:
            file.seek(length([self.manifest_bytes, SIGNATURE_BYTES, *before]) - length([]))
            yield from _verified(ArchiveReader(file, str(self.path)), name, self.manifest.members[name])

    def content(self, name: MemberName) -> bytes:
        """A small member as a whole."""
        return b"".join(self.chunks(name))

    def golden(self) -> Golden:
        return parse_golden(self.content("golden.npz"), f"{self.path}, golden.npz")


def write_bundle(
    path: Path, manifest: BundleManifest, members: Mapping[MemberName, bytes | Path], key: PrivateKey
) -> BundleManifest:
    """Fill in digests, sign, and write the file, whole or not at all; returns the manifest as written.

    The same manifest, members and key give the same bytes. Raises `BundleError` when the members do not fit the
    manifest or the golden file does not fit the embedder.
    """
    where = str(path)
    sealed = _sealed(manifest, members)
    if problem := sealed.problem():
        raise BundleError(f"{where} would not be a bundle: {problem}")
    golden = members["golden.npz"]
    _check_golden(parse_golden(golden if isinstance(golden, bytes) else golden.read_bytes(), where), sealed, where)
    text = sealed.written().encode()
    if len(text) > LIMIT_BYTES:
        raise BundleError(f"{where}: its manifest would have {len(text)} bytes; at most {LIMIT_BYTES} are allowed")
    ordered: dict[str, bytes | Path] = {MANIFEST: text, SIGNATURE: sign(text, key)}
    for name in sealed.members:
        ordered[name] = members[name]
    write_archive(path, ordered)
    return sealed


def read_bundle(path: Path, trusted: Collection[bytes]) -> ModelBundle:
    """Verify every byte of a bundle against the public keys of `trusted`. Raises `BundleError`, which says which of
    these it is: compressed, truncated, damaged, foreign, of another contract, incomplete, too large."""
    where = str(path)
    with _opened(path) as file:
        total = file.seek(0, io.SEEK_END)
        file.seek(0)
        if total > TOTAL_LIMIT_BYTES:
            raise BundleError(f"{where} has {total} bytes; at most {TOTAL_LIMIT_BYTES} are allowed")
        reader = ArchiveReader(file, where)
        text = reader.unknown_size(MANIFEST, LIMIT_BYTES)
        signature = b"".join(reader.member(SIGNATURE, SIGNATURE_BYTES))
        signer = verify(text, signature, trusted, where)
        manifest = parse_manifest(text, where)
        if problem := manifest.problem():
            raise BundleError(f"{where} is not a usable bundle: {problem}")
        expected = length([len(text), SIGNATURE_BYTES, *(m.size_bytes for m in manifest.members.values())])
        if total != expected:
            word = "truncated" if total < expected else "too long"
            raise BundleError(f"{where} is {word}: {total} bytes, expected {expected}; fetch it again")
        for name, member in manifest.members.items():
            content = _verified(reader, name, member)
            if name == "golden.npz":
                _check_golden(parse_golden(b"".join(content), f"{where}, {name}"), manifest, where)
            else:
                for _ in content:
                    pass
        reader.end()
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    return ModelBundle(path, manifest, digest, key_name(signer), len(text))


def _sealed(manifest: BundleManifest, members: Mapping[MemberName, bytes | Path]) -> BundleManifest:
    """The manifest with the members' sizes and digests, which also name the embedder's version."""
    unknown = set(members) - set(MEMBER_LIMITS_BYTES)
    if unknown:
        raise BundleError(f"a bundle has no member {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {}
    for name in MEMBER_LIMITS_BYTES:
        if name in members:
            size, sha256 = digest_of(members[name])  # type: ignore[index]
            found[name] = Member(size_bytes=size, sha256=sha256)
    changes: dict[str, Any] = {"members": found}
    for name, bundled in manifest.models().items():
        if name in found:
            sha256 = found[name].sha256
            changed = {"sha256": sha256}
            if name == "embedder.onnx":
                changed["version"] = embedding_version(sha256)
            model = bundled.model.model_copy(update=changed)
            changes[name.removesuffix(".onnx")] = bundled.model_copy(update={"model": model})
    return manifest.model_copy(update=changes)


def _verified(reader: ArchiveReader, name: str, member: Member) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in reader.member(name, member.size_bytes):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != member.sha256:
        raise BundleError(f"{reader.where}: {name} is not the one that was signed (wrong digest): damaged or exchanged")


def _check_golden(golden: Golden, manifest: BundleManifest, where: str) -> None:
    model = manifest.embedder.model
    expected = ((model.input.height_px, model.input.width_px), model.dimension)
    found = (golden.crops.shape[1:3], golden.rows.shape[1])
    if found != expected:
        raise BundleError(
            f"{where}: the golden file does not match the embedder: crops {found[0]} and rows of {found[1]}, "
            f"expected {expected[0]} and {expected[1]}"
        )


def _opened(path: Path) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read for ever
            raise BundleError(f"bundle {path} is no plain file")
        return path.open("rb")
    except OSError as error:
        raise BundleError(f"bundle {path} cannot be read: {error.strerror or error}") from None
