"""What `edge-app check` says of the collection: what would be kept, where, and how much."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from edge_app.collection.settings import CollectionSettings
from edge_app.errors import StoreError
from edge_app.types import PERSON

PERSONS = {
    "never": "none in which a person is found",
    "blur": "persons in crops of vehicles made unrecognisable",
    "keep": "persons too",
}


def told(settings: CollectionSettings, classes: Sequence[str] | None) -> str:
    """`classes`: what the detector knows; None where that is not known. Raises `StoreError` when the folder cannot be
    written."""
    kept = f"of a passage at most {settings.crops_per_passage} crops, of {settings.control_share:.0%} of them all"
    much = f"at most {_mb(settings.daily_bytes)} in 24 hours and {_mb(settings.spool_bytes)} for "
    much += f"{settings.retention_days:g} days"
    unseen = None if classes is None else unseen_persons(settings, classes)
    said = [kept, PERSONS[settings.persons], much, _folder(settings.folder), *([unseen] if unseen else [])]
    return "; ".join(said)


def unseen_persons(settings: CollectionSettings, classes: Sequence[str]) -> str | None:
    """Why persons in crops cannot be told, of a detector that knows these classes; None when they can, or may be
    kept."""
    if settings.persons == "keep" or PERSON in classes:
        return None
    return "the detector does not know the class person, so whoever stands in a crop of a vehicle is not noticed"


def _folder(folder: Path) -> str:
    """What is in it, or where it would be made."""
    try:
        if not folder.exists():
            parent = next(one for one in folder.absolute().parents if one.exists())
            if not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(13, f"it would be made in {parent}, which cannot be written")
            return f"{folder} will be made, {_mb(shutil.disk_usage(parent).free)} are free"
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is no folder that can be written")
        sizes = [path.stat().st_size for path in folder.glob("*.tar")]
        return f"{folder} holds {len(sizes)} shards, {_mb(sum(sizes))}; {_mb(shutil.disk_usage(folder).free)} are free"
    except OSError as error:
        raise StoreError(f"collection.folder {folder}: {error.strerror or error}; choose another one") from error


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
