"""Frames in, finished tracklets out: detect, track, choose crops, embed, collect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from edge_app.meter import Meter
from edge_app.perception.area import within
from edge_app.perception.crops import CropSelector
from edge_app.perception.losses import Losses
from edge_app.perception.persons import beside, persons_in
from edge_app.perception.track import TrackerBank
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.perception.witness import Sight, Witness
from edge_app.settings import Polygon
from edge_app.store.parts import Parts
from edge_app.types import Detections, Detector, Embedder, Floats, Frame, Tracklet, View

TRACKS, LOOKS, TRACKLETS = "perception/tracks", "perception/looks", "perception/tracklets"


@dataclass
class Perception:
    """The eyes of one node. `snapshot` and `restore` carry every open track over a restart, bit for bit."""

    detector: Detector
    bank: TrackerBank
    selector: CropSelector
    embedder: Embedder
    builder: TrackletBuilder
    meter: Meter
    areas: Mapping[str, Polygon]  # camera → the part of its picture that counts; all of it when not named
    losses: Losses = field(default_factory=Losses)
    _follows: NDArray[np.bool_] = field(init=False)  # (C,) by class: is it tracked?

    def __post_init__(self) -> None:
        self._follows = np.array([self.builder.asked.follows(name) for name in self.detector.class_names], bool)

    def watch(self, witness: Witness) -> None:
        """Somebody looks from now on; who looked before does no longer."""
        self.builder.witness = witness

    def see(self, now: float, frames: list[Frame]) -> tuple[list[View], list[Tracklet]]:
        """One tick: the views that were embedded, and the tracklets of the tracks that ended. What the networks made
        that cannot be is left out and counted in `losses`. Raises `ModelError` when that is nearly all."""
        with self.meter.stage("detect"):
            found = self.detector.detect(frames) if frames else []
        views: list[View] = []
        ended: list[str] = []
        for frame, detections in zip(frames, found, strict=True):
            self.losses.judge_frame(detections)
            persons = persons_in(detections, self.detector.class_names)
            with self.meter.stage("track"):
                followed = self._followed(frame, detections)
                tracks = self.bank.update(frame.camera, frame.time_s, followed)
                self.builder.observe(frame, tracks)
            with self.meter.stage("crops"):
                unasked = self.builder.unasked_of(tracks.ids)
                taken = [beside(view, persons) for view in self.selector.select(frame, tracks, unasked)]
            if self.builder.witness is not None:
                self.builder.witness.saw(Sight(frame, detections, followed, tracks, unasked, taken))
            views += taken
            ended += tracks.ended
        with self.meter.stage("embed"):
            rows = self.embedder.embed(views)
            good = self.losses.judge_views(rows)
            views, rows = list(compress(views, good)), rows[good]
        with self.meter.stage("tracklets"):
            self.builder.add_views(views, rows)
            views = [self._embedded(view, row) for view, row in zip(views, rows, strict=True)]
            expired = self.bank.expire(now)
            self.selector.forget(expired)
            tracklets = self.builder.close([*ended, *expired]) + self.builder.give_up(now)
        return views, tracklets

    def _followed(self, frame: Frame, found: Detections) -> Detections:
        """Those that are tracked: in the area, and of a class that is followed. A detector finds persons whether they
        are asked for or not."""
        if frame.camera in self.areas:
            found = within(self.areas[frame.camera], frame, found)
        if self._follows.all():
            return found
        kept = self._follows[found.classes]
        return Detections(found.boxes[kept], found.scores[kept], found.classes[kept], found.lost)

    def _embedded(self, view: View, row: Floats) -> View:
        """A view with its embedding, of the passage that its track turned out to be."""
        passage = self.builder.passage_of(view.track)
        return replace(view, track=passage, embedding=row, embedding_version=self.embedder.version)

    def end(self) -> list[Tracklet]:
        """Nothing more will come: close every open track."""
        return self.builder.flush()

    def seen_until(self, now: float) -> dict[str, float]:
        """By camera, the capture time before which every track that left has been delivered."""
        return self.builder.seen_until(now)

    def snapshot(self) -> dict[str, bytes | None]:
        return {
            TRACKS: self.bank.snapshot(),
            LOOKS: self.selector.snapshot(),
            TRACKLETS: self.builder.snapshot(),
        }

    def restore(self, parts: Parts) -> list[Tracklet]:
        """Go on where the last process stopped. Returns tracklets of tracks that cannot be continued."""
        self.builder.use_embedder(self.embedder.version, self.embedder.dimension)
        parts.read(TRACKLETS, self.builder.restore)
        if TRACKLETS in parts.unreadable:  # a track without its beginning is not gone on with
            return []
        lost = parts.read(TRACKS, self.bank.restore)
        if lost is None:
            return self.builder.flush()
        parts.read(LOOKS, self.selector.restore)  # without them an open track is looked at once more
        return self.builder.close(lost)
