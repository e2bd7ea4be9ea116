"""Models that come as signed bundles: verify and unpack.

A setting `path: site-7.bundle` stands wherever a path of an ONNX file may stand. What is unpacked looks as loose files
do, a model and its manifest side by side, in a folder named after the bundle's digest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from edge_app.contract.archive import digest_of, sync_folder
from edge_app.contract.bundle import SUFFIX, ModelBundle, read_bundle
from edge_app.contract.bundle_manifest import MemberName
from edge_app.contract.model import manifest_path
from edge_app.contract.signature import read_public_key
from edge_app.errors import ModelError, StoreError
from edge_app.runtime.build import BuildRequest
from edge_app.settings import Settings


class BundleSettings(Settings):
    """How models that come as signed bundles are taken in."""

    keys: tuple[Path, ...] = ()
    """Public keys, PEM files, of those whose bundles may run here. Needed when a model's path is a bundle."""
    folder: Path = Path("state/bundles")
    """Where verified bundles are unpacked. Made when it is missing."""
    max_crop_s: float = Field(default=1.0, gt=0)
    """A bundle whose golden crops take longer than this, each, is refused."""


def is_bundle(path: Path) -> bool:
    return path.suffix == SUFFIX


def build_requests(path: Path, keys: Collection[Path], request: BuildRequest) -> list[BuildRequest]:
    """`request` for every ONNX file of a bundle, unpacked beside the engines, or for the loose file itself.
    Raises `ModelError`, `BundleError` or `StoreError`."""
    if not is_bundle(path):
        return [replace(request, onnx=path)]
    if not keys:
        raise ModelError(f"{path} is a bundle, and only signed ones are opened: name its maker's public key (--key)")
    bundle = read_bundle(path, [read_public_key(key) for key in keys])
    place = unpack(bundle, request.folder / "bundles")
    made = bundle.manifest
    request = replace(request, tensorrt_from=made.tensorrt_from, tensorrt_below=made.tensorrt_below)
    return [replace(request, onnx=place / name, precision=model.precision) for name, model in made.models().items()]


def unpack(bundle: ModelBundle, folder: Path) -> Path:
    """Every model of a verified bundle with its manifest beside it; what is there already and whole is left alone.

    Returns the bundle's own folder. Raises `StoreError` when the disk fails, `BundleError` when the bundle changed.
    """
    place = folder / bundle.digest.removeprefix("sha256:")[:16]
    with _disk_errors(place):
        if _is_whole(bundle, place):
            return place
        partial = folder / f".{place.name}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for name, text in _manifests(bundle).items():
                _write(partial / name, bundle.chunks(name))
                _write(manifest_path(partial / name), [text.encode()])
            sync_folder(partial)
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
            sync_folder(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def _manifests(bundle: ModelBundle) -> dict[MemberName, str]:
    """Model file → what stands beside it."""
    return {name: found.model.model_dump_json(by_alias=True) for name, found in bundle.manifest.models().items()}


def _is_whole(bundle: ModelBundle, place: Path) -> bool:
    """Whether every file that would be unpacked is there, byte for byte."""
    for name, text in _manifests(bundle).items():
        if not (place / name).is_file() or digest_of(place / name)[1] != bundle.manifest.members[name].sha256:
            return False
        beside = manifest_path(place / name)
        if not beside.is_file() or beside.read_bytes() != text.encode():
            return False
    return True


def _write(path: Path, chunks: Iterator[bytes] | list[bytes]) -> None:
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"bundle cannot be unpacked into {place}: {error.strerror or error}") from None
