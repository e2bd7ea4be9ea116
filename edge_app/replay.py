"""Recorded clips through the same pipeline, as fast as it can, and synthetic sites for dashboards without cameras."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edge_app import app
from edge_app.associate.facts import Fact, Unmatched, standing_matches
from edge_app.associate.why import Seen, reasons, seen, told
from edge_app.bus import DEFAULT_PORT, DEFAULT_TLS_PORT, MqttSettings, configuration_problems
from edge_app.config import Site, parse
from edge_app.contract.topics import Message, encode, topic_of
from edge_app.delivery.outgoing import Letterhead, fact_messages
from edge_app.demo.play import Play, raw_config
from edge_app.demo.watch import parse_address
from edge_app.errors import ConfigurationError, StoreError
from edge_app.pictures.album import Album
from edge_app.pipeline import Step
from edge_app.types import Tracklet

_T = TypeVar("_T")


def replay_site(config: Site, out: Path, pictures: Path | None = None) -> str:
    """Play every recording, write one JSON line per fact and aggregate to `out`, return what was found and lost.

    `pictures` gets `matches.png`, the confirmed pairs to look at, and `timeline.png`.

    A line is `{"topic": …, "payload": …}` as on MQTT, or `{"unmatched": …}` for a tracklet that began an identity. The
    same recordings give the same bytes: ids count from the boot `replay`, and times are capture times. Raises
    `ConfigurationError` for live cameras, and `SourceError` after the others were played when a recording was bad.
    """
    account = Account(config, Gathered() if pictures is not None else None)
    partial = out.with_name(out.name + ".partial")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with app.Node(_offline(config, Path(scratch)), lineage="replay") as node:
                with partial.open("w", encoding="utf-8") as file:
                    for step in node.steps(threading.Event()):
                        account.add(step)
                        for line in fact_lines(node.letterhead, step):
                            file.write(line + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                failed, lost = node.failed_cameras(), list(_lost(node))
        except OSError as error:
            raise StoreError(f"{out}: {error.strerror}; is the folder there and writable?") from error
        os.replace(partial, out)
    why = account.why()
    if pictures is not None and account.gathered is not None:
        account.gathered.draw(pictures, [camera.id for camera in config.cameras], why)
    app.raise_for(failed)
    return "\n".join([*why, *lost, f"{account.summary()} → {out}"])


def _offline(config: Site, scratch: Path) -> Site:
    """The same site without anybody who listens, every frame in order, and a store of its own."""
    return config.model_copy(
        update={
            "mqtt": None,
            "health": config.health.model_copy(update={"prometheus_port": None}),
            "ticks": config.ticks.model_copy(update={"mode": "lockstep", "speed": None}),
            "store": config.store.model_copy(update={"path": scratch / "replay.db"}),
        }
    )


def _lost(node: app.Node) -> Iterator[str]:
    """What came and was not used, a line each."""
    for camera, status in node.cameras.states().items():
        if status.corrupt:
            yield f"camera {camera}: {status.corrupt} damaged packets or pictures were skipped"
    if node.perception.builder.dropped:
        limits = "tracklets.minimum_observations, tracklets.minimum_duration_s"
        yield f"{node.perception.builder.dropped} tracks were too short to count ({limits})"


class Account:
    """What a replay came to, for its last words."""

    def __init__(self, config: Site, gathered: Gathered | None) -> None:
        self.gathered = gathered
        self._config = config
        self._counts: Counter[str] = Counter()
        self._seen: list[Seen] = []
        self._facts: list[Fact] = []

    def add(self, step: Step) -> None:
        for what in ("frames", "tracklets", "aggregates", "facts"):
            self._counts[what] += len(getattr(step, what))
        self._seen += map(seen, step.tracklets)
        self._facts += [fact for fact in step.facts if not isinstance(fact, Unmatched)]
        if self.gathered is not None:
            self.gathered.add(step)

    def why(self) -> list[str]:
        """How many passages were matched, and why the others were not."""
        config = self._config
        parents = {match.to.track: match.from_.track for match in standing_matches(self._facts)}
        counts = reasons(self._seen, parents, config.links, config.associate, config.crops.minimum_side_px)
        return list(told(self._seen, len(parents), counts))

    def summary(self) -> str:
        return ", ".join(f"{self._counts[what]} {what}" for what in ("frames", "tracklets", "aggregates", "facts"))


class Gathered:
    """What the pictures of a replay are made of."""

    def __init__(self) -> None:
        self._album, self._tracklets, self._facts = Album(), list[Tracklet](), list[Fact]()

    def add(self, step: Step) -> None:
        self._album.add(step.views)
        self._tracklets += step.tracklets
        self._facts += step.facts

    def draw(self, folder: Path, cameras: list[str], why: list[str]) -> None:
        """Write both pictures. Raises `StoreError` when they cannot be written."""
        from edge_app.pictures.sheet import contact_sheet, pairs_of
        from edge_app.pictures.timeline import timeline

        matches = standing_matches(self._facts)
        said = f"{len(matches)} confirmed matches among {len(self._tracklets)} passages"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
        contact_sheet(pairs_of(matches, self._album), folder / "matches.png", "Seen again", said, why=why)
        lanes = folder / "timeline.png"
        timeline(lanes, cameras, self._tracklets, matches, title="Who went where", subtitle=said)


def fact_lines(letterhead: Letterhead, step: Step) -> Iterator[str]:
    """The facts of one step and the aggregates that became due with it as JSON, in order."""
    for fact in step.facts:
        if isinstance(fact, Unmatched):
            yield json.dumps({"unmatched": _unmatched(fact)})
        for message in fact_messages(letterhead, [fact], step.now):
            yield _line(letterhead, message)
    for aggregate in step.aggregates:  # was stamped with the time of day, which is another in each replay
        yield _line(letterhead, aggregate.model_copy(update={"published_at_s": step.now}))


def _line(letterhead: Letterhead, message: Message) -> str:
    return json.dumps({"topic": topic_of(message, letterhead.site), "payload": json.loads(encode(message))})


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


@dataclass(frozen=True)
class Destination:
    """Where a simulated site speaks, and as whom."""

    broker: str = "localhost:1883"  # host, host:port or [IPv6]:port
    node: str = "edge-1"
    username: str | None = None
    password_env: str | None = None  # name of the variable that holds the password
    tls: dict[str, Path] | None = None  # as `mqtt.tls` of a configuration; None without TLS

    def address(self) -> tuple[str, int]:
        """Host and port. Raises ConfigurationError."""
        return parse_address(self.broker, port=DEFAULT_PORT if self.tls is None else DEFAULT_TLS_PORT)

    def mqtt(self, host: str, port: int) -> dict[str, Any]:
        """The group `mqtt` of a configuration."""
        login = {"username": self.username, "password_env": self.password_env}
        given: dict[str, Any] = {name: value for name, value in login.items() if value is not None}
        if self.tls is not None:
            given["tls"] = {name: str(path.resolve()) for name, path in self.tls.items()}
        return {"host": host, "port": port, **given}


def simulate_site(
    play: Play, to: Destination, write_config: Path | None, clock: Callable[[], float] = time.time
) -> bool:
    """Play a synthetic site to a broker until it ends or is stopped (True); or write its configuration instead.

    What happens there happens now by `clock`: in real time from the first frame on, else so that the last one is now.
    """
    play = replace(play, start_s=math.floor(clock()))
    raw, config = _configured(play, to)
    if play.speed and play.speed > 1:  # it would run ahead of the clock, so it begins so much earlier
        longest_s = play.seconds + max(
            (link.transit.max_s for link in config.links), default=0.0
        )  # until the last one is decided
        ahead_s = math.ceil(longest_s * (1 - 1 / play.speed))
        raw, config = _configured(replace(play, start_s=play.start_s - ahead_s), to)
    if write_config is not None:
        _write_whole(write_config, yaml.safe_dump(raw, sort_keys=False))
        return False
    with tempfile.TemporaryDirectory() as scratch:
        store = config.store.model_copy(update={"path": Path(scratch) / "simulate.db"})
        return app.run(config.model_copy(update={"store": store}))


def _configured(play: Play, to: Destination) -> tuple[dict[str, Any], Site]:
    """As plain values and checked. Raises ConfigurationError with all mistakes at once."""
    problems: list[str] = []

    def tried(make: Callable[[], _T]) -> _T | None:
        try:
            return make()
        except ConfigurationError as error:
            problems.extend(error.problems)
            return None

    store = Path("state") / f"{play.site}-{to.node}.db"
    mqtt = to.mqtt(*(tried(to.address) or ("localhost", DEFAULT_PORT)))
    raw = tried(lambda: raw_config(play, store, mqtt)) or raw_config(Play(), store, mqtt)  # else the rest is unchecked
    raw["node"] = to.node
    config = tried(lambda: parse(raw, Path("simulate")))
    problems += configuration_problems(MqttSettings(**mqtt))
    if to.password_env is not None and to.username is None:
        problems.append(f"--password-env {to.password_env}: a password needs --user, the name to log in with")
    if problems or config is None:
        raise ConfigurationError(problems, "simulate")
    return raw, config


def _write_whole(path: Path, text: str) -> None:
    """Raises StoreError. The file is there as a whole or, as before, not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; choose a file in a folder that is there and writable") from error
