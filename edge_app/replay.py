"""Recorded clips through the same pipeline, as fast as it can."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from edge_app import app
from edge_app.associate import decoys
from edge_app.associate.facts import Fact, Unmatched, standing_matches
from edge_app.associate.why import Seen, reasons, seen, told
from edge_app.boxes import read_boxes
from edge_app.clock import Clock
from edge_app.config import Site
from edge_app.contract.topics import Message, encode, topic_of
from edge_app.contract.whole import whole
from edge_app.delivery.outgoing import Letterhead, fact_messages
from edge_app.errors import ConfigurationError, StoreError
from edge_app.eyes import subject_of
from edge_app.judge.truth import Truth, Watched
from edge_app.judge.verdict import Standard, Verdict, judge
from edge_app.look.look import Look, attach
from edge_app.perception.recorded import RecordedDetector
from edge_app.pictures.album import Album
from edge_app.pipeline import Step
from edge_app.types import Tracklet

FEW = 10  # passages of a recording
POOR = 0.4  # matched, of the passages that a link leads to
CLOCK = Clock(wall=time.monotonic, synchronised=lambda: True)  # a recording has times of its own; ours says nothing


def replay_site(config: Site, out: Path, pictures: Path | None = None, truth: Path | None = None) -> str:
    """Play every recording, write one JSON line per fact and aggregate to `out`, return what was found and lost.

    `pictures` gets `matches.png`, the confirmed pairs to look at, and `timeline.png`. `truth`: boxes with ids over all
    cameras, see `edge_app.boxes`, beside which it is judged.

    A line is `{"topic": …, "payload": …}` as on MQTT, or `{"unmatched": …}` for a tracklet that began an identity. The
    same recordings give the same bytes: ids count from the boot `replay`, and times are capture times. Raises
    `ConfigurationError` for live cameras, and `SourceError` after the others were played when a recording was bad.
    """
    beside = None if truth is None else true_passages(config, truth)
    account = Account(config, Gathered() if pictures is not None else None, beside)
    seen: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, on_disk(out), whole(out) as file:
        with app.Node(offline(config, Path(scratch)), CLOCK, lineage="replay") as node:
            look = Look(subject_of(config, node.detector), pictures=False)
            attach(node.perception, look)
            if beside is not None:
                node.perception.detector = Watched(node.detector, beside)
            for step in node.steps(threading.Event()):
                account.add(step)
                look.add(step.tracklets)
                for line in fact_lines(node.letterhead, step):
                    file.write(f"{line}\n".encode())
            failed, lost = node.failed_cameras(), list(_lost(node))
        if account.is_poor():
            seen = [*look.told(), "`edge-app look` shows it"]
        if failed and not account.frames:
            app.raise_for(failed)  # nothing was played: there is no result, not even an empty one
    why = account.why()
    if pictures is not None and account.gathered is not None:
        account.gathered.draw(pictures, [camera.id for camera in config.cameras], why)
    app.raise_for(failed)
    verdict = account.verdict()
    judged = [] if verdict is None else verdict.told(str(truth))
    return "\n".join([*why, *seen, *account.precision(), *lost, *judged, f"{account.summary()} → {out}"])


def true_passages(config: Site, truth: Path) -> Truth:
    """Nothing seen yet. Raises `ConfigurationError` for a live camera, and for boxes without id or not readable."""
    live = [f"camera {camera.id} is live: a truth is of recordings" for camera in config.cameras if camera.is_live]
    if live:
        raise ConfigurationError(live, "the truth")
    boxes = read_boxes(truth, [camera.id for camera in config.cameras])
    return Truth(boxes, config.areas, (config.detector and config.detector.classes) or ())


def offline(config: Site, scratch: Path) -> Site:
    """The same site without anybody who listens, every frame in order, and a store of its own."""
    return config.model_copy(
        update={
            "mqtt": None,
            "health": config.health.model_copy(update={"prometheus_port": None}),
            "ticks": config.ticks.model_copy(update={"mode": "lockstep", "speed": None}),
            "collection": config.collection.model_copy(update={"enabled": False}),
            "store": config.store.model_copy(update={"path": scratch / "replay.db"}),
        }
    )


def _lost(node: app.Node) -> Iterator[str]:
    """What came and was not used, a line each."""
    for camera, status in node.cameras.states().items():
        yield from (f"camera {camera}: {lost}" for lost in status.losses)
    if node.perception.builder.dropped:
        limits = "tracklets.minimum_observations, tracklets.minimum_duration_s"
        yield f"{node.perception.builder.dropped} tracks were too short to count ({limits})"
    if isinstance(node.detector, RecordedDetector):
        yield from node.detector.told()


class Account:
    """What a replay came to, for its last words."""

    def __init__(self, config: Site, gathered: Gathered | None = None, beside: Truth | None = None) -> None:
        self.gathered = gathered
        self._config, self._beside = config, beside
        self._counts: Counter[str] = Counter()
        self._seen: list[Seen] = []
        self.facts: list[Fact] = []
        self.tracklets: list[Tracklet] = []

    def add(self, step: Step) -> None:
        for what in ("frames", "tracklets", "aggregates", "facts"):
            self._counts[what] += len(getattr(step, what))
        self._seen += map(seen, step.tracklets)
        self.facts += [fact for fact in step.facts if not isinstance(fact, Unmatched)]
        self.tracklets += step.tracklets if self._beside else map(without_path, step.tracklets)
        if self.gathered is not None:
            self.gathered.add(step)

    @property
    def frames(self) -> int:
        return self._counts["frames"]

    def why(self) -> list[str]:
        """How many passages were matched, and why the others were not."""
        config = self._config
        parents = {match.to.track: match.from_.track for match in standing_matches(self.facts)}
        counts = reasons(self._seen, parents, config.links, config.associate, config.crops.minimum_side_px)
        return list(told(self._seen, len(parents), counts))

    def is_poor(self) -> bool:
        """So few passages, or so few of those that could be matched, that what the cameras see is to be looked at."""
        entered = {link.to_camera for link in self._config.links}
        could = sum(one.camera in entered for one in self._seen)
        return len(self._seen) < FEW or len(standing_matches(self.facts)) < POOR * could

    def verdict(self) -> Verdict | None:
        """Beside the truth, where there is one."""
        if self._beside is None:
            return None
        config = self._config
        standard = Standard(config.links, config.associate, config.tracklets.minimum_observations)
        return judge(self._beside, self.tracklets, standing_matches(self.facts), standard)

    def precision(self) -> list[str]:
        """How many matches may be wrong: the association is asked about meetings that cannot have happened."""
        return decoys.told(self.tracklets, self._config.links, self._config.associate)

    def summary(self) -> str:
        return ", ".join(f"{self._counts[what]} {what}" for what in ("frames", "tracklets", "aggregates", "facts"))


def without_path(tracklet: Tracklet) -> Tracklet:
    """Paths are most of a tracklet, and asked for only by a truth."""
    return replace(tracklet, path_times_s=np.zeros(0), path_boxes=np.zeros((0, 4), np.float32))


def make_folder(folder: Path) -> None:
    """Raises `StoreError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; choose a folder that can be written") from error


@contextmanager
def on_disk(out: Path) -> Iterator[None]:
    """Raises `StoreError` where the disk fails."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror}; is the folder there and writable?") from error


class Gathered:
    """What the pictures of a replay are made of."""

    def __init__(self) -> None:
        self._album, self.tracklets, self.facts = Album(), list[Tracklet](), list[Fact]()

    def add(self, step: Step) -> None:
        self._album.add(step.views)
        self.tracklets += step.tracklets
        self.facts += step.facts

    def draw(self, folder: Path, cameras: list[str], why: list[str]) -> None:
        """Write both pictures. Raises `StoreError` when they cannot be written."""
        from edge_app.pictures.sheet import contact_sheet, pairs_of
        from edge_app.pictures.timeline import timeline

        matches = standing_matches(self.facts)
        said = f"{len(matches)} confirmed matches among {len(self.tracklets)} passages"
        make_folder(folder)
        contact_sheet(pairs_of(matches, self._album), folder / "matches.png", "Seen again", said, why=why)
        lanes = folder / "timeline.png"
        timeline(lanes, cameras, self.tracklets, matches, title="Who went where", subtitle=said)


def fact_lines(letterhead: Letterhead, step: Step) -> Iterator[str]:
    """The facts of one step and the aggregates that became due with it as JSON, in order."""
    for fact in step.facts:
        if isinstance(fact, Unmatched):
            yield json.dumps({"unmatched": _unmatched(fact)})
        for message in fact_messages(letterhead, [fact], step.now):
            yield _line(letterhead, message)
    for aggregate in step.aggregates:  # was stamped with the time of day, which is another in each replay
        for page in letterhead.pages(aggregate.model_copy(update={"published_at_s": step.now})):
            yield _line(letterhead, page)


def _line(letterhead: Letterhead, message: Message) -> str:
    return json.dumps({"topic": topic_of(message, letterhead.site), "payload": json.loads(encode(message))})


def _unmatched(fact: Fact) -> dict[str, object]:
    assert isinstance(fact, Unmatched)
    return {
        "global_id": fact.global_id,
        "camera": fact.to.camera,
        "track": fact.to.track,
        "entry_time_s": fact.to.time_s,
        "exit_time_s": fact.to.other_time_s,
        "place": asdict(fact.to.place) if fact.to.place else None,
        "class": fact.class_name,
        "posterior": fact.posterior,
    }
