"""The collection of one node, put together; one that keeps nothing where crops are not asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from edge_app.associate.facts import Fact
from edge_app.clock import Clock
from edge_app.collection.collector import Collector, Saves, lost_before
from edge_app.collection.keeper import Keeper
from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.collection.told import unseen_persons
from edge_app.collection.upload import Uploader
from edge_app.collection.upload_settings import UploadSettings
from edge_app.errors import ConfigurationError
from edge_app.store.parts import Parts
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store
from edge_app.types import Tracklet, View

log = logging.getLogger(__name__)


class KeepsNothing:
    """A `Collector` where crops are not asked for."""

    problem: str | None = None

    def note(self, views: Sequence[View], tracklets: Sequence[Tracklet], facts: Sequence[Fact]) -> None: ...

    def parts(self) -> dict[str, bytes]:
        return {}

    def counters(self) -> dict[str, int]:
        return {}

    def gauges(self) -> dict[str, int]:
        return {}

    def wait_for_room(self, stop: threading.Event) -> None: ...

    def settle(self, timeout_s: float, over: threading.Event | None = None) -> bool:
        return True

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self, timeout_s: float = 0.0) -> None: ...


def open_collector(
    settings: CollectionSettings,
    names: tuple[str, str],
    stored: tuple[Store, Parts],
    saver: Saves,
    *,
    gap: Callable[[Shed], Row],
    open_tracks: Callable[[], Collection[str]],
    classes: Sequence[str],
    upload: tuple[UploadSettings, Clock] | None = None,
) -> Collector | KeepsNothing:
    """Opened and running.

    Args:
        names: of the site and of the node.
        stored: the store, and what it held when it was opened.
        classes: what the detector knows.
        upload: where shards go, and the node's clock; None where they stay.

    Raises `StoreError` when the spool's folder cannot be used, `ConfigurationError` for an upload that cannot be begun.
    """
    if not settings.enabled:
        return KeepsNothing()
    if unseen := unseen_persons(settings, classes):
        log.warning("collection: %s", unseen)
    store, parts = stored
    spool = Spool(settings, (names[1], store.boot_id), parts, stored=store.part, time_s=store.time_s)
    keeper = Keeper(settings, names[0], names[1], spool, parts)
    before = lost_before(parts)
    if before:
        log.warning("%d views that waited for their verdict were lost with the last process", before)
    try:
        uploader = Uploader(upload[0], names, spool, upload[1]) if upload is not None else None
    except ConfigurationError:
        spool.close()
        raise
    collector = Collector(
        keeper,
        spool,
        saver,
        gap=gap,
        time_s=store.time_s,
        open_tracks=open_tracks,
        uploader=uploader,
        lost_before=before,
    )
    collector.start()
    return collector
