"""A spool on a real store in a folder, whose process may die at any time."""

import os
from pathlib import Path

from tiny_shard import crop

from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.contract.shard import read_shard
from edge_app.store.parts import Parts
from edge_app.store.store import Store


class Disk:
    """A folder with a store and a spool. Leaving one without `commit` is what a kill does."""

    def __init__(self, folder: Path, **settings) -> None:
        self.settings = CollectionSettings(
            enabled=True, folder=folder / "spool", **{"keep_free_bytes": 0, "shard_bytes": 100_000, **settings}
        )
        self.path, self.now_s, self.told = folder / "node.db", 1000.0, []
        self.store, self.spool = None, None
        self.start()

    def start(self) -> Spool:
        """As after a kill: nothing of the last process is asked for anything."""
        if self.spool is not None:
            self.spool.close()
        if self.store is not None:
            self.store.close()
        self.spool = None
        self.store = Store(self.path, lineage="a1")
        self.parts = Parts(self.store.load())
        owner = ("edge-1", self.store.boot_id)
        stored = lambda key: self.store.part(key)  # noqa: E731, PLW0108  looked up each time: a test makes it fail
        self.spool = Spool(self.settings, owner, self.parts, stored=stored, time_s=lambda: self.now_s)
        return self.spool

    def commit(self) -> None:
        parts, losses = self.spool.take()
        self.store.commit(parts)
        self.told += losses

    def close_shard(self) -> str:
        """Everything up to a shard that can be uploaded; its name."""
        self.commit()
        self.spool.seal()
        self.commit()
        self.spool.tend()
        return self.spool.closed()[-1].name

    def keys(self) -> list[str]:
        """Every crop that an upload would bring, now and when the segment is closed."""
        self.spool.seal()
        self.commit()
        self.spool.tend()
        return [one.record.key for shard in self.spool.closed() for one in read_shard(shard.path, shard.sha256)]

    def files(self) -> list[str]:
        return sorted(os.listdir(self.settings.folder))


def keys_of(*tracks: int) -> list[str]:
    return [crop(track, number).record.key for track in tracks for number in range(3)]


def add(disk: Disk, track: int, **changes) -> bool:
    return disk.spool.add([crop(track, number, **changes) for number in range(3)])
