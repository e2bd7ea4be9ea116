"""`edge-app upload`: what waits in the spool goes to the store of crops, once, without a node that runs."""

from __future__ import annotations

from contextlib import ExitStack

from edge_app.clock import Clock
from edge_app.collection.spool import Spool
from edge_app.collection.store_check import edge_error
from edge_app.collection.upload import Uploader
from edge_app.config import Site
from edge_app.contract.errors import ObjectStoreError
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import ConfigurationError
from edge_app.store.parts import Parts
from edge_app.store.store import Store


def upload_once(config: Site, at_any_hour: bool) -> str:
    """What was sent, in one line. Crops that are not in a closed shard yet are closed into one.

    Raises UploadError or UploadRefusedError at the first shard that fails, StoreError while a node runs or when the
    disk fails, ConfigurationError without `upload` and `collection`.
    """
    if config.upload is None or not config.collection.enabled:
        raise ConfigurationError(["upload: nothing to send: set collection.enabled and upload.store"])
    clock = Clock()
    with ExitStack() as opened:
        store = Store(config.store.path, clock)
        opened.callback(store.close)
        letterhead = Letterhead(config.site, config.node, store.boot_id, config_digest=config.digest)
        owner, parts = (config.node, store.boot_id), Parts(store.load())
        spool = Spool(config.collection, owner, parts, stored=store.part, time_s=store.time_s)
        opened.callback(spool.close)
        uploader = Uploader(config.upload, (config.site, config.node), spool, clock)
        opened.callback(uploader.close, 0.0)
        if not (at_any_hour or uploader.may_send):
            hours = ", ".join(config.upload.hours)
            return f"nothing sent: it is not within {hours} {config.upload.time_zone}; --now sends whatever the hour"

        def commit() -> None:
            changes, losses = spool.take()
            store.commit(changes, [gap_row(letterhead, loss, clock.wall()) for loss in losses])
            spool.tend()

        spool.seal()
        commit()
        try:
            uploader.send_all()
        except ObjectStoreError as error:
            raise edge_error(error) from error
        finally:
            commit()
            commit()
    counts = uploader.counters
    return (
        f"{counts['shards_sent']} shards sent, {counts['shard_bytes_sent']} bytes; "
        f"{counts['shards_there_already']} were there already; "
        f"{counts['shards_damaged_here']} damaged on this disk and given up"
    )
