"""Crops are taken out of the spool for good: a shard that holds one of them is replaced by the others in it."""

from __future__ import annotations

from collections.abc import Callable

from edge_app.collection.closed import ClosedShard
from edge_app.collection.spool import Spool
from edge_app.contract import forgetting
from edge_app.contract.crop import Crop, CropRecord
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import read_shard


def same_vehicle(spool: Spool, passages: frozenset[str]) -> frozenset[str]:
    """These passages, and those of the spool that continue one of them, or that one of them continues, and so on, as
    far as the association said when they were kept."""
    records = (crop.record for shard in spool.closed() for crop in _read(spool, shard))
    return forgetting.same_vehicle(
        passages, ((one.passage, other) for one in records if (other := forgetting.continued(one)) is not None)
    )


def forget_crops(spool: Spool, unwanted: Callable[[CropRecord], bool], commit: Callable[[], None]) -> int:
    """How many were erased. `commit` brings what the spool changed to the store; call `close_all` before.

    A shard that the disk has changed is given up as a whole. Raises `StoreError` when the disk fails; what was erased
    so far is.
    """
    erased = 0
    for shard in spool.closed():
        crops = _read(spool, shard)
        others = [crop for crop in crops if not unwanted(crop.record)]
        if len(others) < len(crops):
            spool.replace(shard.name, others)
            commit()
            erased += len(crops) - len(others)
    return erased


def close_all(spool: Spool, commit: Callable[[], None]) -> None:
    """The segment becomes a shard, and what was begun is ended."""
    commit()
    spool.seal()
    commit()


def _read(spool: Spool, shard: ClosedShard) -> list[Crop]:
    try:
        return list(read_shard(shard.path, shard.sha256))
    except ShardError:
        spool.damaged(shard.name)
        return []
