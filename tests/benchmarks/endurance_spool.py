"""kill -9 while crops are kept, closed and uploaded: every accepted crop arrives exactly once.

    python tests/benchmarks/endurance_spool.py --kills 100 --json endurance_spool.json

A process of its own lets vehicles pass, one after the other, through the real `Collector`, `Spool`, `Saver` and
`Store`, as `edge-app run` wires them: a step is given to the saver, then noted. How far it came is in the store with
its facts, so after a kill it goes on from there. Beside it an upload copies closed shards to the other end and confirms
them. It is killed at random moments from its start on; after every second kill what the store had not accepted is cut
off, or is noise, as a power cut may leave it. At the end all that is left is uploaded.

    accepted      crops that the store says were taken in
    arrived       crops at the other end, each shard once
    twice         keys that arrived in two shards, or twice in one: none
    passages      that should have been kept; `whole` arrived with all views, `partly` with some: none
    missing       views of passages that the store says have passed, and that did not arrive
    in_memory     of them, those that were in memory when a process died, as the next start counted them; the others are
                  the views of the step under way, of which the pipeline had not told
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "edge_app" / "collection")]

from tiny_passages import START_S, tracklet, unmatched, view  # noqa: E402, the paths above come first

from edge_app.collection import collector as collecting  # noqa: E402
from edge_app.collection.opening import open_collector  # noqa: E402
from edge_app.collection.recovery import OPEN  # noqa: E402
from edge_app.collection.segment import State, path_of  # noqa: E402
from edge_app.collection.settings import CollectionSettings  # noqa: E402
from edge_app.contract.shard import read_shard  # noqa: E402
from edge_app.delivery.outgoing import Letterhead, gap_row  # noqa: E402
from edge_app.store.parts import Parts  # noqa: E402
from edge_app.store.saver import Saver  # noqa: E402
from edge_app.store.store import Store, StoreSettings  # noqa: E402

VIEWS = 3
PACE_S = 0.004  # a passage takes so long
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["edge_app.collection.opening", "edge_app.delivery.outgoing", "cv2"])


def settings_in(folder: Path) -> CollectionSettings:
    return CollectionSettings(
        enabled=True, folder=folder / "spool", daily_bytes=10**11, shard_bytes=100_000, keep_free_bytes=0
    )


def live(folder: Path, passages: int) -> None:
    """One life of the node: goes on where the store says, until all have passed."""
    collecting.LOOK_S, collecting.SWEEP_S = 0.02, 0.2
    with closing(Store(folder / "node.db", lineage="a")) as store:
        letterhead = Letterhead("town", "edge-1", store.boot_id)
        saver = Saver(store, StoreSettings(), lambda shed: gap_row(letterhead, shed, START_S))
        saver.start()
        stored = store.load()
        names, stored_in = ("town", "edge-1"), (store, Parts(stored))
        options: dict[str, Any] = {"gap": lambda shed: gap_row(letterhead, shed, START_S), "open_tracks": set}
        collector = open_collector(settings_in(folder), names, stored_in, saver, **options, classes=("person",))
        lost = int(stored.get("lost", b"0")) + collector.counters()["crops_lost_with_the_process"]
        done = threading.Event()
        upload = threading.Thread(target=_upload, args=(collector.spool, folder / "other-end", done), daemon=True)
        upload.start()
        for track in range(int(stored.get("passed", b"0")), passages):
            saver.save({"passed": b"%d" % (track + 1), "lost": b"%d" % lost, **collector.parts()}, [])
            collector.note([view(track, number) for number in range(VIEWS)], [tracklet(track)], [unmatched(track)])
            time.sleep(PACE_S)
        collector.settle(60.0, over=threading.Event())
        saver.flush(60.0)
        for _ in range(2):  # the shards are there, and then they are gone
            while not collector.spool.settled:
                time.sleep(0.01)
            done.set()
            upload.join()
        collector.close()
        saver.close()


def _upload(spool: Any, other_end: Path, done: threading.Event) -> None:
    """As an upload does it: whole, then by another name, then confirmed."""
    while not done.is_set() or spool.closed():
        for shard in spool.closed():
            partial = other_end / f"{shard.name}.part"
            shutil.copyfile(shard.path, partial)
            partial.replace(other_end / shard.name)
            spool.confirmed(shard.name)
        done.wait(0.01)


def endure(folder: Path, kills: int, passages: int, seed: int = 1) -> dict[str, Any]:
    """Kill it so often, let it end, and count."""
    chance, ends = random.Random(seed), Counter[str]()
    (folder / "other-end").mkdir()
    for number in range(kills):
        process = FORK.Process(target=live, args=(folder, passages))
        process.start()
        before = _passed(folder)
        if number % 3:  # else it is killed wherever its start has come to
            until_s = time.monotonic() + 60
            while _passed(folder) == before and process.is_alive():
                assert time.monotonic() < until_s, "no step in a minute"
                time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.5))
        ends["over" if not process.is_alive() else "running" if number % 3 else "starting"] += 1
        process.kill()
        process.join()
        if number % 2:
            ends["power cuts"] += _cut_power(folder, chance)
    process = FORK.Process(target=live, args=(folder, passages))
    process.start()
    process.join()
    assert process.exitcode == 0
    return {"kills": kills, "ends": dict(ends), **_counted(folder, passages)}


def _passed(folder: Path) -> bytes:
    return _part(folder, "passed") or b"0"


def _part(folder: Path, key: str) -> bytes | None:
    """As another process may look at it."""
    import sqlite3

    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{folder / 'node.db'}?mode=ro", uri=True)) as store:
        found = store.execute("SELECT CAST(value AS BLOB) FROM parts WHERE key = ?", (key,)).fetchone()
        return bytes(found[0]) if found else None
    return None


def _cut_power(folder: Path, chance: random.Random) -> bool:
    """What was never accepted need not have reached the disk, or not as it was."""
    stored = _part(folder, OPEN)
    if stored is None:
        return False
    state = State.read(stored)
    path = path_of(folder / "spool", state.number)
    if not path.exists() or path.stat().st_size <= state.size_bytes:
        return False
    beyond = path.stat().st_size - state.size_bytes
    os.truncate(path, state.size_bytes + chance.randrange(beyond + 1))
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randrange(5000)))
    return True


def _counted(folder: Path, passages: int) -> dict[str, Any]:
    shards = sorted((folder / "other-end").glob("*.tar"))
    crops = [crop.record for path in shards for crop in read_shard(path)]
    keys = Counter(record.key for record in crops)
    views = Counter(record.passage for record in crops)
    state = State.read(_part(folder, OPEN) or b"")
    return {
        "passages": passages,
        "whole": sum(n == VIEWS for n in views.values()),
        "partly": sum(n != VIEWS for n in views.values()),
        "accepted": state.accepted,
        "arrived": len(crops),
        "twice": sum(n > 1 for n in keys.values()),
        "missing": VIEWS * passages - len(crops),
        "in_memory": int(_part(folder, "lost") or b"0"),
        "shards": len(shards),
        "left_in_the_spool": sorted(path.name for path in (folder / "spool").iterdir()),
    }


def holds(found: dict[str, Any]) -> bool:
    """What must be."""
    return (
        found["arrived"] == found["accepted"] == VIEWS * found["whole"] > 0
        and not found["twice"]
        and not found["partly"]
        and not found["left_in_the_spool"]
        and 0 <= found["missing"] - found["in_memory"] <= 2 * VIEWS * found["kills"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endurance-spool-") as folder:
        found = endure(Path(folder), arguments.kills, 100 * arguments.kills)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
