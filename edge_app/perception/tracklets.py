"""A finished track → one `Tracklet`: what the association may know about one passage of one camera.

Kept per open track: its path (thinned as it grows), score-weighted votes for its class, and its embeddings. Nothing
here reads a clock, a file or a random number, and `snapshot` followed by `restore` continues bit for bit.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from edge_app.errors import StoreError
from edge_app.perception.finished import TrackletSettings, Zone, finished
from edge_app.perception.hidden import Hidden
from edge_app.perception.open_track import OpenTrack, joined, packed, parted, unpacked
from edge_app.perception.pieces import goes_on, same_object
from edge_app.perception.riders import EVERYTHING, Asked
from edge_app.perception.traffic import Traffic, motion_of
from edge_app.perception.traffic import read as traffic_of
from edge_app.perception.witness import Ending, Witness
from edge_app.store.parts import sealed, unsealed
from edge_app.types import PERSON, Floats, Frame, Tracklet, Tracks, View

_FORMAT = "crosslane.tracklets/4"
_ASKED_EVERY = 5  # observations of a person, between two looks at how they move


class TrackletBuilder:
    """Collects what is seen of open tracks and closes them to tracklets."""

    def __init__(
        self,
        node: str,
        class_names: tuple[str, ...],
        zones: Mapping[str, Mapping[str, Zone]],
        settings: TrackletSettings,
        asked: Asked = EVERYTHING,
    ) -> None:
        """`zones`: camera → zone name → area. Call `use_embedder` before the first `add_views`."""
        self._node, self._class_names, self._zones, self._settings = node, class_names, zones, settings
        self.asked = asked
        self._open: dict[str, OpenTrack] = {}  # by track
        self._hidden = Hidden(settings.hidden)
        self._traffic: dict[str, Traffic] = defaultdict(Traffic)  # by camera
        self._embedder = ("none", 0)
        self.witness: Witness | None = None  # whoever looks
        self.dropped = 0  # tracks that were too short, since the start
        self.found_again = 0  # tracks that went on with a hidden one
        self.pieces = 0  # tracks of an object that another track followed too, or went on with
        self.unasked = 0  # tracks of persons that were followed because they might have been riders

    def use_embedder(self, version: str, dimension: int) -> None:
        """Views are embedded by this version from now on. A track that has views of another one ends as a passage of
        that one: views of two versions are never mixed, and which it was seen by first is what it can be found by."""
        self._embedder = (version, dimension)

    @property
    def open_tracks(self) -> int:
        return len(self._open)

    def unasked_of(self, tracks: Iterable[str]) -> frozenset[str]:
        """Those of these tracks that are no passages as far as is known: nobody need look at them."""
        return frozenset(track for track in tracks if not self._wants(self._open[track]))

    def names(self) -> frozenset[str]:
        """The tracks that have not ended, and the passages that they and those who are waited for become."""
        passages = (track.passage for track in self._open.values())
        return frozenset({*self._open, *passages, *self._hidden.all()})

    def observe(self, frame: Frame, tracks: Tracks) -> None:
        """One frame's tracks. Tracks that ended with it stay open until `close`."""
        rows = zip(tracks.ids, tracks.boxes.tolist(), tracks.scores.tolist(), tracks.classes.tolist(), strict=True)
        for track, box, score, index in rows:
            seen = (tracks.time_s, *box)
            if track not in self._open:
                self._open[track] = OpenTrack(track, tracks.camera, (frame.width_px, frame.height_px), seen, seen)
            one = self._open[track]
            one.observe(seen, self._class_names[index], score, 2 * self._settings.maximum_path)
            if one.count % _ASKED_EVERY == 0:
                self._look_whether_it_rides(one)

    def add_views(self, views: list[View], embeddings: Floats) -> None:
        """M views and their embeddings (M, D) float32, unit rows. Views of tracks already closed are ignored, and
        those of tracks that another embedder has seen."""
        for view, embedding in zip(views, embeddings, strict=True):
            track = self._open.get(view.track)
            if track is None or track.embedder not in (None, self._embedder):
                continue
            track.embedder = self._embedder
            track.look(view.quality, embedding)
            before = self._hidden.find(track) if track.passage == view.track else None
            if before is not None:
                self._join(before, track)
                self._open[view.track] = before
                self.found_again += 1

    def passage_of(self, track: str) -> str:
        """The id of the tracklet that this track becomes."""
        return self._open[track].passage if track in self._open else track

    def close(self, ended: Iterable[str]) -> list[Tracklet]:
        """The tracklets of tracks that ended, in the order given: without those too short, and without those of hidden
        vehicles, see `give_up`."""
        tracks = [self._open.pop(name) for name in ended if name in self._open and not self._is_a_piece(name)]
        return self._finished(track for track in tracks if not (self._is_long(track) and self._hidden.take(track)))

    def give_up(self, now_s: float) -> list[Tracklet]:
        """The tracklets of vehicles that were hidden and have not come back; call it with every tick."""
        return self._finished(self._hidden.give_up(now_s))

    def seen_until(self, now: float) -> dict[str, float]:
        """By camera with open tracks, the capture time before which every track that left it has been closed. Those of
        hidden vehicles may come later: nobody else is to wait for them."""
        until: dict[str, float] = {}
        for track in self._open.values():
            until[track.camera] = min(track.last[0], until.get(track.camera, now))
        return until

    def flush(self) -> list[Tracklet]:
        """Close every open track: at the end of a recording, or when tracking begins anew."""
        tracks = [*self._hidden.all().values()]
        tracks += [self._open.pop(name) for name in [*self._open] if not self._is_a_piece(name)]
        self._hidden.begin_anew()
        return self._finished(tracks)

    def snapshot(self) -> bytes:
        """Everything needed to go on exactly here."""
        traffic = json.dumps({camera: one.motions for camera, one in self._traffic.items()}).encode()
        return sealed(_FORMAT, joined([traffic, packed(self._open), packed(self._hidden.all())]))

    def restore(self, snapshot: bytes) -> None:
        """Go on where `snapshot` was taken; tracks stay with the embedder that saw them.

        Raises `StoreError` when it is damaged or of another format; nothing has changed then.
        """
        try:
            motions, open_ones, hidden_ones = parted(unsealed(snapshot, _FORMAT))
            traffic = {camera: traffic_of(each) for camera, each in json.loads(motions).items()}
            tracks, hidden = unpacked(open_ones), unpacked(hidden_ones)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise StoreError(f"the stored tracklets are unusable ({error}); they begin anew") from None
        self._open = tracks
        self._traffic = defaultdict(Traffic, traffic)
        self._hidden.begin_anew(hidden.values())

    def _finished(self, tracks: Iterable[OpenTrack]) -> list[Tracklet]:
        found = []
        for track in tracks:
            self._look_whether_it_rides(track)
            if not self._wants(track):
                self.unasked += 1
                self._told(track, "unasked")
            elif self._is_long(track):
                self._learn_traffic(track)
                self._told(track, "passage")
                found.append(self._tracklet(track))
            else:
                self.dropped += 1
                self._told(track, "short")
        return found

    def _is_a_piece(self, ended: str) -> bool:
        """Does another open track follow the same object, or go on with it? They are one passage then, and `ended` is
        gone."""
        track = self._open[ended]
        for name, other in self._open.items() if self._settings.pieces else ():
            if other is track or len({track.embedder, other.embedder} - {None}) > 1:
                continue
            walk = all(self.asked.class_of(one.votes, one.rides) == PERSON for one in (track, other))
            if goes_on(track, other) or (not walk and same_object(track, other)):
                earlier, later = sorted((track, other), key=lambda one: one.first)
                earlier.embedder = earlier.embedder or later.embedder
                self._join(earlier, later)
                self._open[name] = earlier
                del self._open[ended]
                self.pieces += 1
                return True
        return False

    def _join(self, earlier: OpenTrack, later: OpenTrack) -> None:
        earlier.go_on(later, 2 * self._settings.maximum_path)
        if self.witness is not None:
            self.witness.joined(earlier.camera, later.passage, earlier.passage)

    def _tracklet(self, track: OpenTrack) -> Tracklet:
        track.embedder = track.embedder or self._embedder
        class_name = self.asked.class_of(track.votes, track.rides)
        return finished(track, class_name, self._node, self._zones.get(track.camera, {}), self._settings)

    def _told(self, track: OpenTrack, how: Ending) -> None:
        if self.witness is not None:
            self.witness.ended(track, how)

    def _wants(self, track: OpenTrack) -> bool:
        return self.asked.wants(track.votes, track.rides)

    def _look_whether_it_rides(self, track: OpenTrack) -> None:
        """A person who moves as the vehicles of this camera do is a rider, and remains one."""
        if track.rides or not self.asked.by_motion or self.asked.class_of(track.votes) != PERSON:
            return
        motion = motion_of(track.rows)
        track.rides = motion is not None and self._traffic[track.camera].moves_so(motion)

    def _learn_traffic(self, track: OpenTrack) -> None:
        motion = None if self.asked.class_of(track.votes) == PERSON else motion_of(track.rows)
        if motion is not None:
            self._traffic[track.camera].learn(motion)

    def _is_long(self, track: OpenTrack) -> bool:
        settings = self._settings
        lasted_s = track.last[0] - track.first[0]
        return track.count >= settings.minimum_observations and lasted_s >= settings.minimum_duration_s
