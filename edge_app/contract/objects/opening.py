"""Which class serves which address. The libraries of S3 and of other stores are imported only for their own."""

from __future__ import annotations

import threading
from pathlib import Path

from edge_app.contract.errors import ObjectStoreRefusedError
from edge_app.contract.objects.folder import Folder
from edge_app.contract.objects.settings import ObjectStoreSettings, settings_problems
from edge_app.contract.objects.store import ObjectStore


def open_store(settings: ObjectStoreSettings, stop: threading.Event | None = None) -> ObjectStore:
    """Raises ObjectStoreRefusedError for settings that cannot work and libraries that are missing. Once `stop` is set,
    whatever waits ends with ObjectStoreAwayError."""
    if problems := settings_problems(settings):
        raise ObjectStoreRefusedError(f"{settings.where()}: {'; '.join(problems)}")
    stop = stop or threading.Event()
    if settings.is_folder:
        return Folder(Path(settings.url), stop, settings.silent_s)
    try:
        if settings.is_s3:
            from edge_app.contract.objects.s3 import S3

            return S3(settings, stop)
        from edge_app.contract.objects.other import Other

        return Other(settings, stop)
    except ImportError as error:
        extra = "crosslane[s3]" if settings.is_s3 else f"what fsspec needs for {settings.url.split(':')[0]}"
        raise ObjectStoreRefusedError(f"{settings.where()}: {error}; install {extra}") from None
