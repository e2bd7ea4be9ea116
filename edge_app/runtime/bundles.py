"""Models that come as signed bundles: verify, admit and unpack.

A setting `path: site-7.bundle` stands wherever a path of an ONNX file may stand. What is unpacked looks as loose files
do, a model and its manifest side by side, in a folder named after the bundle's digest.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from edge_app.contract.archive import digest_of
from edge_app.contract.bundle import SUFFIX, ModelBundle, read_bundle
from edge_app.contract.bundle_manifest import MemberName
from edge_app.contract.envelope import rfc3339
from edge_app.contract.model import manifest_path, read_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.contract.signature import read_public_key
from edge_app.contract.whole import sync_folder
from edge_app.errors import ModelError, StoreError
from edge_app.runtime import private
from edge_app.runtime.build import BuildRequest
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.ledger import Ledger
from edge_app.runtime.trial import EndlessModelError, Trial, hold
from edge_app.settings import FilePath, Settings

log = logging.getLogger(__name__)

GOLDEN: MemberName = "golden.npz"


class BundleSettings(Settings):
    """How models that come as signed bundles are taken in."""

    keys: tuple[FilePath, ...] = ()
    """Public keys, PEM files, of those whose bundles may run here. Needed when a model's path is a bundle."""
    folder: FilePath = Path("state/bundles")
    """Where verified bundles are unpacked. Made when it is missing."""
    max_crop_s: float = Field(default=1.0, gt=0)
    """A bundle whose golden crops take longer than this, each, is refused."""
    allow_older: bool = False
    """Run a bundle although one of the same name and maker with a higher serial ran here before: to go back on purpose.
    What ran is remembered beside `folder`, in a file of the same name with `.json`."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder.with_name(f"{self.folder.name}.json"))


@dataclass(frozen=True, slots=True)
class Today:
    """The time of day, and whether it can be believed."""

    time_s: float
    sure: bool


def admit(bundle: ModelBundle, settings: BundleSettings, today: Today) -> None:
    """Raises `ModelError` for a verified bundle that must not run here: older than one that did, or expired."""
    if (problem := refusal(bundle, settings.ledger.highest_serial(bundle), settings.allow_older, today)) is not None:
        raise ModelError(problem)
    expires_s = bundle.manifest.expires_at_s
    if expires_s is not None and expires_s <= today.time_s:
        log.warning("%s expired on %s, if this clock is right, which is not known", bundle.path, rfc3339(expires_s))


def refusal(bundle: ModelBundle, highest_serial: int | None, allow_older: bool, today: Today) -> str | None:
    """Why a verified bundle must not run; `highest_serial` is the highest of its name and maker that ran here."""
    made = bundle.manifest
    if highest_serial is not None and made.serial < highest_serial and not allow_older:
        return (
            f"{bundle.path} is older than what ran here: {made.name} {made.serial}, and {highest_serial} was "
            "the highest so far; fetch the newest bundle, or set `bundles.allow_older: true` to go back on purpose"
        )
    if made.expires_at_s is not None and today.sure and made.expires_at_s <= today.time_s:
        return (
            f"{bundle.path}, {made.name} {made.serial}, expired on {rfc3339(made.expires_at_s)}; it is "
            f"{rfc3339(today.time_s)} now: fetch a newer bundle"
        )
    return None


def is_bundle(path: Path) -> bool:
    return path.suffix == SUFFIX


def build_requests(path: Path, keys: Collection[Path], request: BuildRequest) -> list[BuildRequest]:
    """`request` for every ONNX file of a bundle, unpacked beside the engines, or for the loose file itself.
    Raises `ModelError`, `BundleError` or `StoreError`."""
    ledger = BundleSettings(folder=request.folder / "bundles").ledger
    if not is_bundle(path):
        _try_for_engine(Trial(path, EngineSettings(), _spec_beside(path)), ledger)
        return [replace(request, onnx=path)]
    if not keys:
        raise ModelError(f"{path} is a bundle, and only signed ones are opened: name its maker's public key (--key)")
    bundle = read_bundle(path, [read_public_key(key) for key in keys])
    place = unpack(bundle, request.folder / "bundles")
    made = bundle.manifest
    for name, model in made.models().items():
        golden = place / GOLDEN if name == "embedder.onnx" else None
        _try_for_engine(Trial(place / name, EngineSettings(), model.model.input, golden), ledger)
    request = replace(request, tensorrt_from=made.tensorrt_from, tensorrt_below=made.tensorrt_below)
    return [replace(request, onnx=place / name, precision=model.precision) for name, model in made.models().items()]


def _try_for_engine(trial: Trial, ledger: Ledger) -> None:
    """On ONNX Runtime, whatever it is built for. Only what never ends is refused here: TensorRT says itself, and in its
    own words, what it cannot take."""
    try:
        hold(trial, ledger)
    except EndlessModelError:
        raise
    except ModelError as error:
        log.info("%s", error)


def _spec_beside(model: Path) -> InputSpec | None:
    manifest = read_manifest(model)
    return None if manifest is None else manifest.input


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
        private.make_folder(partial)
        try:
            for name in _kept(bundle):
                _write(partial / name, bundle.chunks(name))
            for name, text in _manifests(bundle).items():
                _write(manifest_path(partial / name), [text.encode()])
            sync_folder(partial)
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
            sync_folder(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def _kept(bundle: ModelBundle) -> list[MemberName]:
    """The members that are unpacked."""
    return [*bundle.manifest.models(), GOLDEN]


def _manifests(bundle: ModelBundle) -> dict[MemberName, str]:
    """Model file → what stands beside it."""
    return {name: found.model.model_dump_json(by_alias=True) for name, found in bundle.manifest.models().items()}


def _is_whole(bundle: ModelBundle, place: Path) -> bool:
    """Whether every file that would be unpacked is there, byte for byte."""
    for name in _kept(bundle):
        if not (place / name).is_file() or digest_of(place / name)[1] != bundle.manifest.members[name].sha256:
            return False
    for name, text in _manifests(bundle).items():
        beside = manifest_path(place / name)
        if not beside.is_file() or beside.read_bytes() != text.encode():
            return False
    private.tighten(place)
    return True


def _write(path: Path, chunks: Iterator[bytes] | list[bytes]) -> None:
    with private.open_file(path) as file:
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
