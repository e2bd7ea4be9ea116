"""Asks the store of crops once, as `edge-app check` does: put, confirm, delete a small object where shards go."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.errors import ObjectStoreError, ObjectStoreRefusedError
from edge_app.contract.objects import ObjectStore, open_store, sha256_of
from edge_app.contract.objects.settings import settings_problems
from edge_app.errors import ConfigurationError, UploadError, UploadRefusedError


def check_upload(settings: UploadSettings, site: str, node: str) -> str:
    """What was found, in one line. Raises ConfigurationError, UploadError or UploadRefusedError."""
    if problems := settings_problems(settings.store):
        raise ConfigurationError([f"upload.store.{problem}" for problem in problems])
    name = f"{site}/crops/{node}/check-{secrets.token_hex(8)}"
    try:
        store = open_store(settings.store)
        began_s = time.monotonic()
        done = _put_and_delete(store, name)
        store.close()
    except ObjectStoreError as error:
        raise edge_error(error) from error
    found = [f"{store.where}: {done} {name} in {time.monotonic() - began_s:.1f} s"]
    if (settings.store.endpoint or "").startswith("http://"):
        found.append("crops travel unencrypted: use an https:// endpoint outside a network of your own")
    if settings.hours:
        found.append(f"sends {', '.join(settings.hours)} {settings.time_zone}")
    return "; ".join(found)


def _put_and_delete(store: ObjectStore, name: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder, "check")
        path.write_bytes(secrets.token_bytes(64))
        digest = sha256_of(path)
        store.put(name, path, digest)
    store.confirm(name, digest)
    try:
        store.delete(name)
    except ObjectStoreRefusedError as error:
        return f"put and confirmed, but must not delete ({error}): what a store damages cannot be sent again;"
    return "put, confirmed and deleted"


def edge_error(error: ObjectStoreError) -> UploadError:
    """As the node's own error, with its exit code."""
    kind = UploadRefusedError if isinstance(error, ObjectStoreRefusedError) else UploadError
    return kind(str(error))
