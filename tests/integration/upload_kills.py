"""A world of kills: a process that spools crops and uploads them is killed at random moments, and so is its store.

The process is the real spool on the real database and the real uploader; only the crops are made up. It notes what it
is about to spool and what was accepted. At the end the witness reads every shard in the store.
"""

import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tiny_shard import crop

from edge_app.clock import Clock
from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.collection.upload import Uploader
from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.objects import ObjectStoreSettings, open_store
from edge_app.contract.shard import read_shard
from edge_app.store.parts import Parts
from edge_app.store.store import Store

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["s3fs", "cv2", "edge_app.collection.upload", "edge_app.collection.spool", "edge_app.store"]
)
CROPS = 3  # of a passage
LONGEST_LIFE = 20  # passages


def live(folder: Path, store: ObjectStoreSettings, is_last: bool) -> None:
    """Until killed; the last one spools nothing more and ends when everything is in the store."""
    database = Store(folder / "node.db", lineage="a1")
    settings = CollectionSettings(enabled=True, folder=folder / "spool", shard_s=0.05, keep_free_bytes=0)
    owner = ("edge-1", database.boot_id)
    parts = Parts(database.load())
    spool = Spool(settings, owner, parts, stored=database.part, time_s=database.time_s)
    upload = UploadSettings(store=store, audit=folder / "uploads.jsonl", away_min_s=0.05, away_max_s=0.5)
    uploader = Uploader(upload, ("town", "edge-1"), spool, Clock())
    uploader.start()
    with (folder / "attempted").open("a+") as attempted, (folder / "accepted").open("a") as accepted:
        attempted.seek(0)
        track = len(attempted.readlines())
        while not is_last:
            track += 1
            note(attempted, track)
            if spool.add([crop(track, number) for number in range(CROPS)]):
                commit(spool, database, folder / "told")
                note(accepted, track)
            spool.tend()
            commit(spool, database, folder / "told")
    spool.seal()
    while not spool.settled or spool.closed():
        commit(spool, database, folder / "told")
        spool.tend()
        time.sleep(0.01)
    uploader.close(9.0)
    spool.close()
    database.close()


def note(file, number: int) -> None:
    file.write(f"{number}\n")
    file.flush()


def commit(spool: Spool, database: Store, told: Path) -> None:
    parts, losses = spool.take()
    database.commit(parts)
    with told.open("a") as file:
        for loss in losses:
            note(file, loss.counts["crop"])


class World:
    """`kill(n)` lives that end so, then `finish()`; what came of it is `account()`."""

    def __init__(self, folder: Path, store: ObjectStoreSettings, seed: int) -> None:
        self.folder, self._store, self._chance = folder, store, random.Random(seed)
        self.kills = 0

    def kill(self, lives: int) -> None:
        for _ in range(lives):
            process = FORK.Process(target=live, args=(self.folder, self._store, False))
            process.start()
            if self.kills == 0 or self._chance.random() > 0.2:  # most lives are ended at work, some while they start
                wanted = self._lines() + self._chance.randint(1, LONGEST_LIFE)
                while self._lines() < wanted and process.is_alive():
                    time.sleep(0.005)
            process.join(self._chance.uniform(0.0, 0.2))
            assert process.is_alive(), f"ended by itself with {process.exitcode}"
            process.kill()
            process.join()
            self.kills += 1

    def _lines(self) -> int:
        path = self.folder / "accepted"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def finish(self, timeout_s: float = 120.0) -> None:
        process = FORK.Process(target=live, args=(self.folder, self._store, True))
        process.start()
        process.join(timeout_s)
        assert process.exitcode == 0, process.exitcode

    def account(self) -> dict[str, int]:
        """Crops accepted, arrived, lost, doubled; shards of which the log does not tell; files left in the spool.

        A spool tells as lost what it finds of a first life that was killed before it accepted anything.
        """
        arrived, shards = self._arrived()
        attempted, accepted = (self._keys(name) for name in ("attempted", "accepted"))
        logged = [json.loads(line) for line in (self.folder / "uploads.jsonl").read_text().splitlines() if line]
        told = {line["shard"] for line in logged if line["event"] in ("sent", "was there")}
        return {
            "kills": self.kills,
            "crops_accepted": len(accepted),
            "crops_arrived": len(arrived),
            "shards_arrived": len(shards),
            "shards_found_there": sum(line["event"] == "was there" for line in logged),
            "uploads_failed": sum(line["event"] == "failed" for line in logged),
            "crops_told_lost": sum(map(int, (self.folder / "told").read_text().split())),
            "crops_lost": len(accepted - arrived.keys()),
            "crops_doubled": sum(count > 1 for count in arrived.values()),
            "crops_of_nobody": len(arrived.keys() - attempted),
            "shards_not_logged": len(shards - told),
            "files_left": len(os.listdir(self.folder / "spool")),
        }

    def _arrived(self) -> tuple[Counter[str], set[str]]:
        store, keys, names = open_store(self._store), Counter(), set()
        with tempfile.TemporaryDirectory() as folder:
            for stored in store.list("town/crops/edge-1/"):
                path = Path(folder, stored.name.rpartition("/")[2])
                sha256 = store.get(stored.name, path)
                names.add(path.name)
                keys.update(one.record.key for one in read_shard(path, sha256))
        return keys, names

    def _keys(self, name: str) -> set[str]:
        tracks = map(int, (self.folder / name).read_text().split())
        return {crop(track, number).record.key for track in tracks for number in range(CROPS)}


def nothing_wrong(account: dict[str, int]) -> bool:
    wrong = ("crops_lost", "crops_doubled", "crops_of_nobody", "shards_not_logged", "files_left")
    return not any(account[name] for name in wrong)
