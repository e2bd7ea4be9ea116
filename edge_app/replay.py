"""Recorded clips through the same pipeline, as fast as it can, and synthetic sites for dashboards without cameras."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from edge_app import app
from edge_app.associate.facts import Fact, Unmatched, standing_matches
from edge_app.config import Site
from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.outgoing import Letterhead, fact_messages
from edge_app.demo.play import Play, raw_config, site_config
from edge_app.errors import ConfigurationError, SourceError, StoreError
from edge_app.pictures.album import Album
from edge_app.pipeline import Step
from edge_app.types import Tracklet


def replay_site(config: Site, out: Path, pictures: Path | None = None) -> str:
    """Play every recording, write one JSON line per fact to `out`, return a line of summary.

    `pictures` gets `matches.png`, the confirmed pairs to look at, and `timeline.png`.

    A line is `{"topic": …, "payload": …}` as on MQTT, or `{"unmatched": …}` for a tracklet that began an identity. The
    same recordings give the same bytes: ids count from the boot `replay`, and times are capture times. Raises
    `ConfigurationError` for live cameras, and `SourceError` after the others were played when a recording was bad.
    """
    counts: Counter[str] = Counter()
    gathered = Gathered()
    partial = out.with_name(out.name + ".partial")
    with _said_at_the_end(), tempfile.TemporaryDirectory() as scratch, _removed(partial):
        config = config.model_copy(
            update={
                "mqtt": None,
                "ticks": config.ticks.model_copy(update={"mode": "lockstep", "speed": None}),
                "store": config.store.model_copy(update={"path": Path(scratch) / "replay.db"}),
            }
        )
        try:
            with app.Node(config, lineage="replay") as node, partial.open("w", encoding="utf-8") as file:
                for step in node.steps(threading.Event()):
                    counts.update(["frames"] * len(step.frames) + ["tracklets"] * len(step.tracklets))
                    if pictures is not None:
                        gathered.add(step)
                    for line in fact_lines(node.letterhead, step):
                        file.write(line + "\n")
                        counts["facts"] += 1
                file.flush()
                os.fsync(file.fileno())
                failed = node.failed_cameras()
        except OSError as error:
            raise StoreError(f"{out}: {error.strerror}; is the folder there and writable?") from error
        if failed and not counts["frames"]:
            app.raise_for(failed)  # nothing was played: there is no result, not even an empty one
        os.replace(partial, out)
    if pictures is not None:
        gathered.draw(pictures, [camera.id for camera in config.cameras])
    app.raise_for(failed)
    return f"{counts['frames']} frames, {counts['tracklets']} tracklets, {counts['facts']} facts → {out}"


@contextmanager
def _said_at_the_end() -> Iterator[None]:
    """What is wrong with a recording is the replay's own last word; the camera need not say it before."""

    def others(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and record.args and isinstance(record.args[0], SourceError))

    logger = logging.getLogger("edge_app.sources.lockstep")
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


@contextmanager
def _removed(partial: Path) -> Iterator[None]:
    """Nothing half-written is left, however it ends."""
    try:
        yield
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


class Gathered:
    """What the pictures of a replay are made of."""

    def __init__(self) -> None:
        self._album, self._tracklets, self._facts = Album(), list[Tracklet](), list[Fact]()

    def add(self, step: Step) -> None:
        self._album.add(step.views)
        self._tracklets += step.tracklets
        self._facts += step.facts

    def draw(self, folder: Path, cameras: list[str]) -> None:
        """Write both pictures. Raises `StoreError` when they cannot be written."""
        from edge_app.pictures.sheet import contact_sheet, pairs_of
        from edge_app.pictures.timeline import timeline

        matches = standing_matches(self._facts)
        said = f"{len(matches)} confirmed matches among {len(self._tracklets)} passages"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
        contact_sheet(pairs_of(matches, self._album), folder / "matches.png", "Seen again", said)
        lanes = folder / "timeline.png"
        timeline(lanes, cameras, self._tracklets, matches, title="Who went where", subtitle=said)


def fact_lines(letterhead: Letterhead, step: Step) -> Iterator[str]:
    """The facts of one step as JSON, in order."""
    for fact in step.facts:
        if isinstance(fact, Unmatched):
            yield json.dumps({"unmatched": _unmatched(fact)})
        for message in fact_messages(letterhead, [fact], step.now):
            payload = json.loads(encode(message))
            yield json.dumps({"topic": topic_of(message, letterhead.site), "payload": payload})


def _unmatched(fact: Fact) -> dict[str, object]:
    assert isinstance(fact, Unmatched)
    return {
        "global_id": fact.global_id,
        "camera": fact.to.camera,
        "track": fact.to.track,
        "entry_time_s": fact.to.time_s,
        "class": fact.class_name,
        "posterior": fact.posterior,
    }


def simulate_site(play: Play, broker: str, write_config: Path | None) -> None:
    """Play a synthetic site to a broker until it ends or is stopped; or write its configuration for `edge-app run`."""
    host, _, port = broker.partition(":")
    if not host or (port and not port.isdigit()):
        raise ConfigurationError([f"expected host or host:port, got {broker!r}"], "--broker")
    mqtt = {"host": host, **({"port": int(port)} if port else {})}
    if write_config is not None:
        raw = raw_config(play, Path("state") / f"{play.site}.db", mqtt)
        write_config.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        app.run(site_config(play, Path(scratch) / "simulate.db", mqtt))
