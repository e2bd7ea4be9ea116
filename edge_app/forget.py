"""`edge-app forget`: what this node has of an identity, a camera or a time is erased, and a receipt says what was.

The node must be stopped: its memory is erased from its store. What left the node already is not here to be erased; the
receipt names where it may be.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_app.associate import codec
from edge_app.associate.state import Identity, Passage, State
from edge_app.collection.forget import close_all, forget_crops, same_vehicle
from edge_app.collection.spool import Spool
from edge_app.config import Site
from edge_app.contract.crop import CropRecord
from edge_app.contract.envelope import rfc3339
from edge_app.contract.forgetting import Selection
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.perception.perception import LOOKS, TRACKLETS, TRACKS
from edge_app.store.parts import Parts
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store

COUNTED = "aggregate/passage/"  # parts: passages that are still counted in an open interval


@dataclass
class Receipt:
    """What was erased, and what is not ours to erase."""

    selection: dict[str, Any]
    forgotten_at: str
    passages_in_memory: int = 0
    proxies_in_the_gallery: int = 0
    open_tracks: str = "untouched"
    messages: dict[str, int] = field(default_factory=dict)
    crops_in_the_spool: int = 0
    passages: list[str] = field(default_factory=list)
    """Of an identity: by these names the trainer knows it."""
    may_still_hold: list[str] = field(default_factory=list)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def forget(config: Site, selection: Selection, now_s: float) -> Receipt:
    """Raises `StoreError` while the node runs, or when the disk fails."""
    with closing(Store(config.store.path)) as store:
        letterhead = Letterhead(config.site, config.node, store.boot_id, config_digest=config.digest)

        def gap(shed: Shed) -> Row:
            return gap_row(letterhead, shed, now_s)

        parts = Parts(store.load())
        state = codec.load(parts)
        names = _names(selection, state)
        receipt = Receipt(selection.told(), rfc3339(now_s), may_still_hold=_elsewhere(config))
        if config.collection.folder.is_dir():
            names, receipt.crops_in_the_spool = _crops(config, selection, (store, parts), names, gap)
        receipt.passages = sorted(name for name in names if "/" in name) if selection.identity else []
        without = _without(state, selection, names)
        receipt.passages_in_memory = len(state.passages) - len(without.passages)
        receipt.proxies_in_the_gallery = _proxies(state) - _proxies(without)
        gone = dict.fromkeys(key for key in parts.under(COUNTED) if key.removeprefix(COUNTED) in names)
        if selection.identity is None or any(name in _open_tracks(parts) for name in names):
            gone |= dict.fromkeys((TRACKS, LOOKS, TRACKLETS))
            receipt.open_tracks = "all of this node begin anew"
        store.commit(codec.changes(state, without))
        receipt.messages = dict(store.erase(gone, lambda _, payload: _speaks_of(payload, selection, names), gap))
    return receipt


def _crops(
    config: Site,
    selection: Selection,
    stored: tuple[Store, Parts],
    names: frozenset[str],
    gap: Callable[[Shed], Row],
) -> tuple[frozenset[str], int]:
    """Erase them: the passages, with those that the spool knows to be the same vehicle, and how many crops."""
    store, parts = stored
    settings = config.collection.model_copy(update={"keep_free_bytes": 0, "shard_s": 1e9})
    spool = Spool(settings, (config.node, store.boot_id), parts, stored=store.part, time_s=store.time_s)

    def commit() -> None:
        changes, losses = spool.take()
        store.commit(changes, [gap(loss) for loss in losses])
        spool.tend()

    def unwanted(record: CropRecord) -> bool:
        return record.passage in names or selection.met(record.camera, record.entered_at_s, record.left_at_s)

    with closing(spool):
        close_all(spool, commit)
        if selection.identity is not None:
            names = same_vehicle(spool, names)
        erased = forget_crops(spool, unwanted, commit)
        close_all(spool, commit)
    return names, erased


def _names(selection: Selection, state: State) -> frozenset[str]:
    """Passages that belong to it, as far as the association's memory tells."""
    wanted = selection.identity
    if wanted is None:
        return frozenset(
            one.id for one in state.passages.values() if selection.met(one.camera, one.entry_time_s, one.exit_time_s)
        )
    ids = {wanted} | {one.global_id for one in state.passages.values() if one.id == wanted and one.global_id}
    ids |= {one.global_id for one in state.gallery.values() if any(p.track == wanted for p in one.proxies.values())}
    tracks = {one.id for one in state.passages.values() if one.global_id in ids}
    tracks |= {proxy.track for name in ids & state.gallery.keys() for proxy in state.gallery[name].proxies.values()}
    return frozenset(ids | tracks)


def _without(state: State, selection: Selection, names: frozenset[str]) -> State:
    """A proxy says which track it is of, not when that was seen: of a camera in a time, those of passages that are not
    remembered any more go as well."""

    def stays(passage: Passage) -> bool:
        return passage.id not in names and not selection.met(passage.camera, passage.entry_time_s, passage.exit_time_s)

    passages = {name: one for name, one in state.passages.items() if stays(one)}
    for name, one in passages.items():
        edges = tuple(edge for edge in one.edges if edge.from_ not in names)
        passages[name] = one if len(edges) == len(one.edges) else replace(one, edges=edges)
    gallery = {}
    for name, identity in state.gallery.items():
        proxies = {
            camera: proxy
            for camera, proxy in identity.proxies.items()
            if name not in names
            and proxy.track not in names
            and (proxy.track in passages or not selection.met(camera, selection.since_s, selection.until_s))
        }
        if proxies:
            gallery[name] = identity if len(proxies) == len(identity.proxies) else Identity(name, proxies)
    return replace(state, passages=passages, gallery=gallery)


def _proxies(state: State) -> int:
    return sum(len(identity.proxies) for identity in state.gallery.values())


def _open_tracks(parts: Parts) -> str:
    """The stored open tracks as text, to look for names in."""
    return parts.read(TRACKLETS, lambda stored: stored.decode("utf-8", "replace")) or ""


def _speaks_of(payload: bytes, selection: Selection, names: frozenset[str]) -> bool:
    """Does a message name one of these passages or identities, or what was seen there and then?"""
    message = json.loads(payload)
    ends = [message[end] for end in ("from", "to") if isinstance(message.get(end), dict)]
    links = message.get("effective_links") or []
    said = {message.get("global_id"), *(end.get("track") for end in ends)}
    said |= {link.get(key) for link in links for key in ("to_track", "from_track", "global_id")}
    if names & said:
        return True
    times = [
        (end["camera"], [t for key, t in end.items() if key.endswith("_time_s") and t is not None]) for end in ends
    ]
    times += [(_camera_of(link["to_track"]), [message["observed_at_s"]]) for link in links]
    return any(selection.met(camera, min(at_s), max(at_s)) for camera, at_s in times if at_s)


def _camera_of(track: str) -> str:
    """Of `{node}/{camera}/{boot}/{number}`."""
    return [*track.split("/"), ""][1]


def _elsewhere(config: Site) -> list[str]:
    """Where what has left this node, or was never only of one vehicle, may still be."""
    damaged = sorted(path.name for path in Path(config.store.path).parent.glob(f"{config.store.path.name}.damaged-*"))
    return [
        *(f"{name}: a damaged store that was set aside; delete it" for name in damaged),
        "messages that were published: the broker, the site server and every subscriber",
        "shards that were uploaded, and what a trainer made of them: `trainer forget`; models are not untrained",
        "neighbouring nodes",
        "counts, travel times and means over many vehicles, in which nobody can be told",
    ]
