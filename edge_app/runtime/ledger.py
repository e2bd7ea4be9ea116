"""What this machine remembers of models: the highest serial of every bundle that ran, and what passed its trial.

One small file beside the folder of unpacked bundles, written whole or not at all. A file that cannot be read is set
aside under its name with `.unreadable`, and said: from then on older bundles are accepted again.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_app.contract.bundle import ModelBundle
from edge_app.errors import StoreError
from edge_app.runtime import private

log = logging.getLogger(__name__)

LIMIT_BYTES = 1 << 20
TRIALS = 64  # digests kept; a network that comes back after so many others is tried again


class _Pages(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["crosslane.ledger/1"] = "crosslane.ledger/1"
    serials: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """`name signer` → the highest serial that ran here."""
    passed: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list)
    """Digests of what passed a trial, the latest last."""


class Ledger:
    """Reads and writes the file anew each time: `check` may look while a node runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def highest_serial(self, bundle: ModelBundle) -> int | None:
        """Of this name and signer, among all that ran here. Raises `StoreError` when the file cannot be opened."""
        return self._read().serials.get(_name(bundle))

    def note_run(self, bundle: ModelBundle) -> None:
        """Remember that it ran. Raises `StoreError` when that cannot be written down."""
        pages = self._read()
        if pages.serials.get(_name(bundle), -1) < bundle.manifest.serial:
            pages.serials[_name(bundle)] = bundle.manifest.serial
            self._write(pages)

    def has_passed(self, digest: str) -> bool:
        try:
            return digest in self._read().passed
        except StoreError:
            return False

    def note_passed(self, digest: str) -> None:
        """Spares the next start a trial, where there is a folder for it; no folder is made for that alone."""
        if not self.path.parent.is_dir():
            return
        try:
            pages = self._read()
            pages.passed = [*(each for each in pages.passed if each != digest), digest][-TRIALS:]
            self._write(pages)
        except StoreError as error:
            log.info("the next start will try this model again: %s", error)

    def _read(self) -> _Pages:
        try:
            with self.path.open("rb") as file:
                content = file.read(LIMIT_BYTES + 1)
        except FileNotFoundError:
            return _Pages()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from None
        try:
            return _Pages.model_validate_json(content)
        except ValidationError:
            return self._set_aside()

    def _set_aside(self) -> _Pages:
        aside = self.path.with_name(f"{self.path.name}.unreadable")
        try:
            self.path.replace(aside)
        except OSError as error:
            raise StoreError(f"{self.path} is damaged and cannot be set aside: {error.strerror or error}") from None
        log.warning("%s was damaged and is now %s; older bundles are accepted until newer ones ran", self.path, aside)
        return _Pages()

    def _write(self, pages: _Pages) -> None:
        try:
            private.make_folder(self.path.parent)
            private.write_file(self.path, pages.model_dump_json(indent=1).encode() + b"\n")
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror or error}") from None


def _name(bundle: ModelBundle) -> str:
    return f"{bundle.manifest.name} {bundle.signed_by}"
