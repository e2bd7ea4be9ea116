"""What becomes of every view: held until the association has spoken, judged, and given to the spool. No thread here.

Each view ends in one counter: kept, or why it is not.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict

from pydantic import ValidationError

from edge_app.associate.facts import Fact, Match, Unmatched
from edge_app.collection import policy
from edge_app.collection.hold import Hold, Passage
from edge_app.collection.pixels import Look, look_of
from edge_app.collection.policy import Bucket, Candidate, Ledger
from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.contract.crop import Crop, CropRecord, Verdict
from edge_app.contract.errors import ShardError
from edge_app.errors import one_line
from edge_app.store.parts import Parts, sealed, unsealed
from edge_app.types import PERSON, Tracklet, View

log = logging.getLogger(__name__)

LEDGER = "collection/ledger"  # part: what was spent, and on what
AT_ONCE = 64  # crops written together
RECORD_BYTES = 4 * 512 + 1024  # of headers and record beside the pixels: what a crop takes, about, and not less
_FORMAT = "crosslane.ledger/1"


class Keeper:
    """`see` views, then `over` their tracklets, then `hear` what was decided; `flush` brings it to the disk."""

    def __init__(self, settings: CollectionSettings, site: str, node: str, spool: Spool, parts: Parts) -> None:
        self._settings, self._site, self._node, self._spool = settings, site, node, spool
        self.counters: Counter[str] = Counter()  # since the start
        self.hold = Hold(settings.hold_s, settings.hold_bytes)
        self._ledger = parts.read(LEDGER, _ledger) or Ledger()
        self._batch: list[Crop] = []

    @property
    def accounted(self) -> int:
        """Views of which it is known what became of them."""
        return sum(self.counters.values()) - self.counters["crops_kept_control"]

    def see(self, view: View) -> None:
        look = look_of(view, self._settings.persons, self._settings.jpeg_quality)
        if isinstance(look, str):
            self.counters["crops_left_out_person" if look == "person" else "crops_unfit"] += 1
        elif not self.hold.add(view.track, look):
            self.counters["crops_over_memory"] += 1

    def over(self, tracklet: Tracklet, now_s: float) -> None:
        """The track has ended as a passage; `now_s` is monotonic."""
        self.hold.close(tracklet, now_s)

    def hear(self, fact: Fact, at_s: float) -> None:
        """What the association decided; `at_s` is the store's time. Provisional matches and revisions teach nothing:
        what they are about is not decided, or was kept already."""
        verdict = verdict_of(fact)
        if verdict is not None and (passage := self.hold.decide(fact.to.track, verdict)) is not None:  # type: ignore[union-attr]
            self._judge(passage, at_s)

    def tidy(self, now_s: float, at_s: float, still_open: Collection[str] | None = None) -> None:
        """What waits for too long or takes too much; `still_open`: the tracks that have not ended, where known."""
        if still_open is not None:
            self.counters["crops_of_noise"] += self.hold.noise(still_open)
        for passage in self.hold.overdue(now_s):
            self._judge(passage, at_s)
        for let_go in self.hold.crowded():
            self._let_go(let_go, at_s, "crops_over_memory")

    def end(self, at_s: float) -> None:
        """Nothing more comes: passages that are over are kept as undecided, the views of the others are lost."""
        for let_go in self.hold.end():
            self._let_go(let_go, at_s, "crops_lost_at_the_end")

    def flush(self) -> None:
        """Give the spool what was chosen."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        try:
            taken = self._spool.add(batch)
        except ShardError as error:
            self._unfit(len(batch), error)
            return
        if taken:
            self.counters["crops_kept"] += len(batch)
            self.counters["crops_kept_control"] += sum(crop.record.control for crop in batch)
        else:
            self.counters["crops_lost_to_the_disk"] += len(batch)

    def stored(self) -> Mapping[str, bytes]:
        """What of this a restart needs."""
        spent = {part: asdict(bucket) for part, bucket in self._ledger.buckets.items()}
        body = {"buckets": spent, "day": self._ledger.day, "kept": dict(self._ledger.kept)}
        return {LEDGER: sealed(_FORMAT, json.dumps(body).encode())}

    def _let_go(self, what: Passage | int, at_s: float, counter: str) -> None:
        if isinstance(what, int):
            self.counters[counter] += what
        else:
            self._judge(what, at_s)

    def _judge(self, passage: Passage, at_s: float) -> None:
        if passage.tracklet.class_name == PERSON and self._settings.persons != "keep":
            self.counters["crops_left_out_person"] += len(passage.looks)
            return
        self._ledger, views, part, why = policy.decide(
            self._ledger, candidate_of(passage), self._site, at_s, self._settings
        )
        try:
            self._batch += [self._crop(passage, view, part == "control") for view in views]
        except ValidationError as error:
            self._unfit(len(passage.looks), error)
            return
        if why == "kept":
            self.counters["crops_not_chosen"] += len(passage.looks) - len(views)
        else:
            self.counters[f"crops_over_{why}{'_control' if part == 'control' else ''}"] += len(passage.looks)
        if len(self._batch) >= AT_ONCE:
            self.flush()

    def _unfit(self, looks: int, error: Exception) -> None:
        """One passage that breaks the contract must not stop the others."""
        log.error("%d crops break the contract and are left out: %s", looks, one_line(error))
        self.counters["crops_unfit"] += looks

    def _crop(self, passage: Passage, number: int, control: bool) -> Crop:
        look, tracklet = passage.looks[number], passage.tracklet
        is_person = tracklet.class_name == PERSON
        record = CropRecord(
            site=self._site,
            node=self._node,
            camera=tracklet.camera,
            passage=tracklet.id,
            number=number,
            class_name=tracklet.class_name,
            captured_at_s=look.captured_at_s,
            box=look.box,
            frame_px=tracklet.frame_px,
            score=min(max(look.score, 0.0), 1.0),
            quality=min(max(look.quality, 0.0), 1.0),
            embedding_version=look.embedding_version if look.embedding is not None else None,
            entered_at_s=tracklet.entry_time_s,
            left_at_s=tracklet.exit_time_s,
            control=control,
            person="kept" if is_person else look.person,
            verdict=passage.verdict,
            views=len(passage.looks),
        )
        return Crop(record, look.jpeg, look.embedding)


def verdict_of(fact: Fact) -> Verdict | None:
    """What it says of the passage at its `to`, once that is decided."""
    if isinstance(fact, Match) and fact.state == "confirmed":
        posterior = min(max(fact.posterior, 0.0), 1.0)
        return Verdict(
            state="matched",
            camera=fact.from_.camera,
            passage=fact.from_.track,
            posterior=posterior,
            runner_up=min(posterior * math.exp(-min(max(fact.margin, 0.0), 100.0)), 1.0),
            similarity=None if fact.similarity is None else min(max(fact.similarity, -1.0), 1.0),
        )
    if isinstance(fact, Unmatched):
        return Verdict(state="unmatched", posterior=min(max(fact.posterior, 0.0), 1.0))
    return None


def candidate_of(passage: Passage) -> Candidate:
    """What the policy may know. Embeddings of another version than the tracklet's are not compared with the others."""
    tracklet = passage.tracklet
    return Candidate(
        passage=tracklet.id,
        camera=tracklet.camera,
        class_name=tracklet.class_name,
        entered_at_s=tracklet.entry_time_s,
        verdict=passage.verdict,
        qualities=[look.quality for look in passage.looks],
        embeddings=[
            None
            if look.embedding is None or look.embedding_version != tracklet.embedding_version
            else look.embedding.astype("float32")
            for look in passage.looks
        ],
        bytes=[_size_bytes(look) for look in passage.looks],
        embedding_version=tracklet.embedding_version,
    )


def _size_bytes(look: Look) -> int:
    return len(look.jpeg) + (0 if look.embedding is None else look.embedding.nbytes + 512 + 128) + RECORD_BYTES


def _ledger(stored: bytes) -> Ledger:
    values = json.loads(unsealed(stored, _FORMAT))
    buckets = {part: Bucket(float(one["level_bytes"]), float(one["at_s"])) for part, one in values["buckets"].items()}
    kept = {str(cell): int(count) for cell, count in values["kept"].items()}
    if not all(math.isfinite(one.level_bytes + one.at_s) for one in buckets.values()):
        raise ValueError(f"a budget of {buckets}")
    return Ledger(buckets, int(values["day"]), kept)
