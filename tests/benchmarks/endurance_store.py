"""Copies of a store that is being written, taken at random moments and cut at random lengths: do they open?

    python tests/benchmarks/endurance_store.py --copies 1000 --json endurance_store.json

A process of its own commits a step at a time through `Store` (a part and its messages, marks of what was sent) and
notes every step that was acknowledged. It is frozen at a random moment, and database, log and shared memory are copied
as they are: what a kill leaves. Of every three copies,

    one is opened as it is                           what a kill leaves
    one has its log cut behind the last acknowledged step, and noise for shared memory     what a power cut may leave
    one has any of its files cut anywhere            a disk that lost what it had promised to hold

The first two must open with every acknowledged step, and with no half of one. The third must open too; what it cost is
counted, and a database that had to be salvaged must say so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.store.parts import sealed, unsealed
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store

ENDS = ("", "-wal", "-shm")
FRAME_BYTES, LOG_HEAD_BYTES = 4096 + 24, 32
ROWS_A_STEP = 2
RENEW_AFTER = 150  # copies; then the writer begins a new file, so that files of all sizes are met


def write_for_ever(path: Path, journal: Path) -> None:
    """Each line of the journal: an acknowledged step, and how many frames of the log were valid then."""
    store, chance, step = Store(path), random.Random(1), 0
    with journal.open("w") as notes:
        while True:
            step += 1
            store.commit({"step": _step(step), f"about/{step % 50}": os.urandom(chance.randrange(4000))}, _rows(step))
            frames = int.from_bytes(path.with_name(path.name + "-shm").read_bytes()[16:20], sys.byteorder)
            notes.write(f"{step} {frames}\n")
            notes.flush()
            if step % 7 == 0:
                store.mark_sent([one.id for one in store.pending(20)][:-2])


def _step(step: int) -> bytes:
    return sealed("endurance.step/1", str(step).encode())


def _rows(step: int) -> list[Row]:
    return [Row(uuid7(step, f"{step} {i}".encode()), "match", f"t/{step}/{i}", b"{}") for i in range(ROWS_A_STEP)]


def thousand_copies(folder: Path, copies: int, seed: int = 3) -> dict[str, Any]:
    """Take and try so many copies in the empty folder given. The counts, by kind of cut; see the module."""
    chance, began_s = random.Random(seed), time.monotonic()
    results = {kind: {"copies": 0, "opened": 0, "steps_lost_max": 0, "salvaged": 0, "losses_said": 0, "torn": 0}
               for kind in ("kill", "power_cut", "beyond")}  # fmt: skip
    for first in range(0, copies, RENEW_AFTER):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source, journal = Path(place) / "s.db", Path(place) / "journal"
            writer = subprocess.Popen([sys.executable, __file__, "--write", str(source), str(journal)])
            try:
                for number in range(first, min(first + RENEW_AFTER, copies)):
                    kind = ("kill", "power_cut", "beyond")[number % 3]
                    target = Path(place) / "copy" / "s.db"
                    acknowledged = _take(writer, source, journal, target, chance, kind)
                    _try(target, acknowledged, results[kind])
                    shutil.rmtree(target.parent)
            finally:
                writer.kill()
                writer.wait()
    tried = {name: sum(result[name] for result in results.values()) for name in ("copies", "opened", "torn")}
    lost = max(results[kind]["steps_lost_max"] for kind in ("kill", "power_cut"))
    seconds = round(time.monotonic() - began_s, 1)
    return {**tried, "steps_lost_max": lost, "seconds": seconds, **results}


def _take(
    writer: subprocess.Popen[bytes], source: Path, journal: Path, target: Path, chance: random.Random, kind: str
) -> int:
    """Freeze the writer, copy its files, cut them. The last step that it had acknowledged."""
    until_s = time.monotonic() + 60
    while not journal.exists() or not journal.stat().st_size:
        if writer.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError("the writer wrote nothing")
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.03))
    target.parent.mkdir()
    writer.send_signal(signal.SIGSTOP)
    try:
        while Path(f"/proc/{writer.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.001)
        for end in ENDS:
            shutil.copyfile(f"{source}{end}", f"{target}{end}")
        step, frames = journal.read_text().rsplit("\n", 2)[-2].split()
    finally:
        writer.send_signal(signal.SIGCONT)
    if kind == "power_cut":
        held = LOG_HEAD_BYTES + int(frames) * FRAME_BYTES
        size = max(os.path.getsize(f"{target}-wal"), held)
        os.truncate(f"{target}-wal", min(chance.randint(held, size), size))
        Path(f"{target}-shm").write_bytes(chance.randbytes(chance.choice([0, 100, 32_768])))
    elif kind == "beyond":
        for end in chance.sample(ENDS, chance.randint(1, 3)):
            os.truncate(f"{target}{end}", chance.randint(0, os.path.getsize(f"{target}{end}")))
    return int(step)


def _try(path: Path, acknowledged: int, result: dict[str, int]) -> None:
    """Open a copy as the node would, and hold it against what had been acknowledged."""
    result["copies"] += 1
    store = Store(path)
    with closing(store):
        stored = store.load().get("step")
        step = int(unsealed(stored, "endurance.step/1")) if stored else 0
        topics = {one.topic for one in store.pending(100_000)}
        last = {row.topic for row in _rows(step)} if step else set()
        salvaged = bool(list(path.parent.glob("*.damaged-*")))
        following = {row.topic for row in _rows(step + 1)}
        torn = (last & topics not in (set(), last)) or following & topics
        result["torn"] += bool(step and torn and not salvaged)
        result["salvaged"] += salvaged
        result["losses_said"] += bool(store.say_losses(_gap))
        result["steps_lost_max"] = max(result["steps_lost_max"], acknowledged - step)
        store.commit({"step": _step(step + 1)}, _rows(10**6))
    result["opened"] += 1


def _gap(shed: Shed) -> Row:
    return gap_row(Letterhead("endurance", "edge-1", "1"), shed, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--write", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_for_ever(*arguments.write)
    with tempfile.TemporaryDirectory(prefix="endurance-store-") as folder:
        counts = thousand_copies(Path(folder), arguments.copies)
    text = json.dumps(counts, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0 if counts["opened"] == arguments.copies and not counts["steps_lost_max"] and not counts["torn"] else 1


if __name__ == "__main__":
    sys.exit(main())
