"""The spool as the last process left it: what the store says of it, and what lies in its folder, brought together.

the store says      the folder has                   becomes
open, so long       the segment, as long or longer   goes on, cut to that length
open, so long       nothing, less, other bytes       told as lost; a new segment
closed              the shard                        waits for its upload
closed              the segment that it was          renamed when the store is open
closed              `.gone`                          forgotten: it was confirmed
closed              `.lost`, or nothing              told as lost
nothing             a segment                        removed: what is in it was never accepted
nothing             a shard that is whole            taken up: the store was lost, the shard was not
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_app.collection import closed
from edge_app.collection.closed import ClosedShard, adopted
from edge_app.collection.segment import Contents, Segment, State, contents_of, path_of
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import ShardName
from edge_app.errors import StoreError
from edge_app.store.opening import make_folder
from edge_app.store.parts import Parts
from edge_app.store.rows import Shed

log = logging.getLogger(__name__)

OPEN, SHARDS = "collection/open", "collection/shard/"  # parts: a `State`, and a `ClosedShard` each
GONE, LOST = ".gone", ".lost"


@dataclass
class Found:
    """What a spool goes on with."""

    segment: Segment
    shards: dict[str, ClosedShard] = field(default_factory=dict)  # by name, the oldest first
    sealed: dict[str, Path] = field(default_factory=dict)  # of them, those that still have the name of a segment
    gone: set[str] = field(default_factory=set)  # whose empty files stay until the store has forgotten them
    changes: dict[str, bytes | None] = field(default_factory=dict)
    losses: list[Shed] = field(default_factory=list)


def recovered(folder: Path, parts: Parts, now_s: float) -> Found:
    """Bring them together. Raises OSError when the disk fails."""
    files = {path.name for path in folder.iterdir()}
    state = parts.read(OPEN, State.read)
    found = Found(Segment(folder, state or State(0, now_s)))
    known = [shard for key in parts.under(SHARDS) if (shard := parts.read(key, lambda at: closed.read(at, folder)))]
    for shard in sorted(known, key=lambda one: (one.closed_at_s, one.name)):
        _place(found, shard, files)
    _take_up_strangers(found, folder, files, now_s)
    if state is None:
        numbers = [ShardName.parse(name).number for name in found.shards]
        found.segment = Segment(folder, State(max(numbers, default=0) + 1, now_s))
        return found
    if not found.segment.resume():
        found.losses.append(loss_of(state.contents, "a segment was damaged"))
        found.segment.path.unlink(missing_ok=True)
        found.segment = Segment(folder, State(state.number + 1, now_s, accepted=state.accepted))
    found.changes[OPEN] = found.segment.state.stored()
    return found


def _place(found: Found, shard: ClosedShard, files: set[str]) -> None:
    """A shard that the store knows."""
    segment = path_of(shard.path.parent, ShardName.parse(shard.name).number)
    if shard.name in files or segment.name in files:
        found.shards[shard.name] = shard
        if shard.name not in files:
            found.sealed[shard.name] = segment
        return
    found.changes[SHARDS + shard.name] = None
    found.gone.add(shard.name)
    if shard.name + GONE not in files:
        found.losses.append(loss_of(shard.contents, "a shard was given up, or is missing"))


def _take_up_strangers(found: Found, folder: Path, files: set[str], now_s: float) -> None:
    """Files of which the store says nothing."""
    named = {path.name for path in found.sealed.values()} | {found.segment.path.name} | found.shards.keys()
    for name in sorted(files - named - {gone + ending for gone in found.gone for ending in (GONE, LOST)}):
        path = folder / name
        if name.endswith(".tar"):
            try:
                shard = adopted(path, now_s)
            except ShardError as error:
                log.warning("the spool leaves a file alone that is no shard: %s", error)
                continue
            found.shards[name] = shard
            found.changes[SHARDS + name] = closed.stored(shard)
        elif name.endswith((GONE, LOST)):
            path.unlink(missing_ok=True)
        elif name.startswith("segment-"):
            if not found.segment.state.number and (contents := contents_of(path)).crops:
                found.losses.append(loss_of(contents, "the store that knew them was lost"))
            path.unlink(missing_ok=True)


def private_folder(folder: Path) -> Callable[[], None]:
    """Make it, close it to others, and hold it for this process until the result is called."""
    make_folder(folder)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"collection.folder {folder}: another process is running on it; stop that one first"
        ) from error
    return lambda: os.close(handle)


def loss_of(contents: Contents, reason: str) -> Shed:
    """Said in the log, and the account that is published."""
    log.warning("%d crops of the spool are lost: %s", contents.crops, reason)
    return Shed({"crop": contents.crops}, contents.first_s, contents.last_s, reason)
