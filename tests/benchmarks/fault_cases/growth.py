"""Clocks that are set, messages that grow with the site, what nobody sends, and what a match says of itself."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from edge_app import app
from edge_app.__main__ import cli
from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.clock import Clock
from edge_app.contract import topics
from edge_app.contract.aggregates import OriginDestination
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Gap
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.journal import Journal
from edge_app.delivery.outgoing import Letterhead, birth_message, gap_row
from edge_app.demo.play import Play, raw_config, site_config
from edge_app.sources.clock import SteadyClock
from edge_app.store.rows import Row
from edge_app.store.store import Store, StoreSettings
from tests.benchmarks.fault_case import Case

YEARS_S = 25 * 365 * 86400.0
NOW_S = 1_790_000_000.0


class _Hands:
    """The wall clock of a node that somebody sets, and its monotonic clock."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s, self.monotonic_s = wall_s, 50.0

    def run(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_s, lambda: self.monotonic_s, lambda: True, "one boot")


class _Straight:
    """To the disk at once, on this thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, parts: Any, rows: Any, *_: Any) -> Any:
        self._store.commit(parts, rows)


def queued_in_2001(folder: Path) -> tuple[str, bool]:
    hands, letterhead = _Hands(NOW_S - YEARS_S), Letterhead("s", "n", "1")
    store = Store(folder / "s.db", hands.clock())
    rows = [Row(uuid7(number, b"%d" % number), "match", "t", b"x" * 900) for number in range(100)]
    store.commit({}, rows)
    hands.run(60)
    hands.wall_s += YEARS_S
    store.shed(StoreSettings(), lambda shed: gap_row(letterhead, shed, hands.wall_s))
    kinds, oldest_s = Counter(row.kind for row in store.pending(999)), store.oldest_unsent_s()
    store.close()
    return f"{kinds['match']} of 100 wait, {kinds['gap']} gaps, the oldest is {oldest_s:.0f} s old", kinds == {
        "match": 100
    }


def an_hour_ahead(_: Path) -> tuple[str, bool]:
    hands = _Hands(NOW_S)
    clock = SteadyClock(lambda: hands.wall_s, lambda: hands.monotonic_s)
    hands.wall_s -= 3600
    ahead_for_s = 0.0
    while clock() - hands.wall_s > 1 and ahead_for_s < 50 * 86400:
        step_s = 1.0 if ahead_for_s < 600 else 600.0
        hands.run(step_s)
        ahead_for_s += step_s
    return f"capture times are ahead for {ahead_for_s:.0f} s, and clock_suspect meanwhile", ahead_for_s <= 120


def clock_state_of_each_message(folder: Path) -> tuple[str, bool]:
    site = site_config(Play("town", 7, 0.3, 30.0), folder / "s.db")
    site = site.model_copy(update={"aggregate": AggregateSettings(interval_s=10, settle_s=1, republish_s=1)})
    hands = _Hands(NOW_S)
    with app.Node(site, hands.clock(), lineage="t") as node:
        for number, _ in enumerate(node.steps(threading.Event())):
            hands.run(0.1)
            hands.wall_s += 3600 if number == 150 else 0
        states = Counter(json.loads(row.payload)["clock_state"] for row in node.store.pending(9999))
    return f"{dict(states)} after a step in the middle", set(states) == {"ok", "suspect"}


def od_of_large_sites(folder: Path) -> tuple[str, bool]:
    said = []
    for cameras, most_links in ((20, 380), (64, 0), (200, 2000)):
        ids = [f"camera-{number:03}-{'x' * 20}" for number in range(cameras)]
        ways = itertools.islice(itertools.permutations(ids, 2), most_links)
        links = [LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=90)) for a, b in ways]
        store = Store(folder / f"{cameras}.db")
        letterhead = Letterhead("s", "n", store.boot_id)
        settings = AggregateSettings(interval_s=10, settle_s=0, republish_s=1)
        journal = Journal(_Straight(store), letterhead, Aggregates(settings, ids, links), lambda: NOW_S)
        for second in range(25):
            journal.note(NOW_S + second, [], [], ids)
            journal.write(NOW_S + second, {})
        rows = [row for row in store.pending(99999) if row.kind in ("od", "gap")]
        messages = [topics.decode(row.topic, row.payload) for row in rows]
        pages = sum(isinstance(message, OriginDestination) for message in messages)
        gaps = sum(isinstance(message, Gap) for message in messages)
        said.append((cameras, pages, max(len(row.payload) for row in rows), gaps))
        store.close()
    words = "; ".join(
        f"{c} cameras: {pages} pages of at most {size} bytes, {gaps} gaps" for c, pages, size, gaps in said
    )
    return words, all(pages and size <= topics.PAYLOAD_LIMIT_BYTES and not gaps for _, pages, size, gaps in said)


def births(_: Path) -> tuple[str, bool]:
    found = []
    for cameras, fully in ((12, True), (40, False), (200, True)):
        ids = [f"camera-{number:03}-{'x' * 20}" for number in range(cameras)]
        ways = itertools.permutations(ids, 2) if fully else itertools.pairwise(ids)
        links = [LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=90)) for a, b in ways]
        letterhead = Letterhead("s", "n", "1")
        pages = letterhead.pages(birth_message(letterhead, dict.fromkeys(ids, ("gate",)), links, ("d", ["car"]), NOW_S))
        found.append((cameras, len(pages), max(len(topics.encode(page)) for page in pages)))
    words = ", ".join(f"{cameras} cameras in {pages} pages of at most {size} bytes" for cameras, pages, size in found)
    return words, all(size <= topics.PAYLOAD_LIMIT_BYTES for _, _, size in found)


def check_says_it_before(folder: Path) -> tuple[str, bool]:
    raw = raw_config(Play("grid-20", 7, 0.3, 30.0), folder / "s.db", None)
    (folder / "site.yaml").write_text(yaml.safe_dump(raw))
    done = CliRunner().invoke(cli, ["check", "--config", str(folder / "site.yaml")])
    line = next((line for line in done.output.splitlines() if line.startswith("messages:")), done.output[-200:])
    return f"`check` of 20 cameras: {line}", "pages" in line


def one_bad_fact(folder: Path) -> tuple[str, bool]:
    """A recording that begins before 1970 gives capture times that no message can say."""
    site = site_config(Play("town", 7, 0.3, 30.0), folder / "s.db")
    with app.Node(site, lineage="t") as node:
        ticks = node.cameras.ticks(threading.Event())
        first = next(ticks)
        back_s = first[0] + 86400.0
        see = node.perception.see

        def before_1970(now: float, frames: list[Any]) -> Any:
            views, tracklets = see(now + back_s, [replace(one, time_s=one.time_s + back_s) for one in frames])
            times = ("entry_time_s", "exit_time_s")
            return views, [replace(one, **{name: getattr(one, name) - back_s for name in times}) for one in tracklets]

        node.perception.see = before_1970  # type: ignore[method-assign]
        node.pipeline.now = first[0] - back_s
        earlier = (
            (now - back_s, [replace(one, time_s=one.time_s - back_s) for one in frames]) for now, frames in ticks
        )
        for _ in node.pipeline.run(earlier):
            pass
        refused = node.letterhead.refusals.total
        gaps = [row for row in node.store.pending(9999) if row.kind == "gap"]
    told = sum(sum(json.loads(row.payload)["counts"].values()) for row in gaps)
    return f"{refused} facts of 1969 refused, {told} of them told in {len(gaps)} gaps, the node runs on", told > 0


def nobody_sends(_: Path) -> tuple[str, bool]:
    promised = {"sighting", "model_state", "command"}
    documents = Path(topics.__file__).parent / "schemas"
    texts = "".join(path.read_text() for path in documents.glob("*.json") if path.name != "bundle.schema.json")
    acl = (Path(__file__).parents[3] / "deploy" / "broker" / "acl").read_text()
    left = [word for word in ("sighting", "model_state", "updating", "cmd/") if word in texts or word in acl]
    kinds = ", ".join(sorted(promised & set(topics.RULES))) or "none"
    return f"kinds without a sender: {kinds}; words left in documents and ACL: {left or 'none'}", not left


def why_and_where(folder: Path) -> tuple[str, bool]:
    raw = raw_config(Play("town", 7, 0.5, 60.0), folder / "s.db", None)
    (folder / "site.yaml").write_text(yaml.safe_dump(raw))
    out = folder / "facts.jsonl"
    CliRunner().invoke(
        cli, ["replay", "--config", str(folder / "site.yaml"), "--out", str(out)], catch_exceptions=False
    )
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    matches = [line["payload"] for line in lines if line.get("payload", {}).get("state") == "confirmed"]
    alone = [line["unmatched"] for line in lines if "unmatched" in line]
    reasons = Counter(match["waited_for"] for match in matches)
    placed = sum(bool(match[end]["place"]["frame_width_px"]) for match in matches for end in ("from", "to"))
    left = sum(one["exit_time_s"] > one["entry_time_s"] for one in alone)
    words = (
        f"{len(matches)} matches waited for {dict(reasons)}, {placed} ends placed; {left} unmatched say when they left"
    )
    return words, placed == 2 * len(matches) > 0 and left == len(alone) > 0 and None not in reasons


CASES = [
    Case("A1", "facts queued in 2001, then NTP", "100 of 100 became one gap, 'too old'", queued_in_2001),
    Case(
        "A1", "capture times after a step of -1 h", "an hour ahead for 41 days, a thousandth at a time", an_hour_ahead
    ),
    Case("A1", "clock_state", "read once at the start: 'ok' or 'unknown' for ever", clock_state_of_each_message),
    Case("B3", "`agg/od` of large sites", "raised above 16 kB; the node left with 65 for good", od_of_large_sites),
    Case("B3", "`birth` of large sites", "18 to 24 kB, refused by its own encoder; connected anew for ever", births),
    Case("B3", "said beforehand", "`check` said nothing", check_says_it_before),
    Case("B3", "one fact that cannot be said", "raised in the journal and ended the node", one_bad_fact),
    Case(
        "H32",
        "promised kinds",
        "sighting, model_state, command, `updating`, cmd/forget: nobody sent them",
        nobody_sends,
    ),
    Case("P4", "why a match came late, and where", "nothing of it; unmatched had no exit time", why_and_where),
]
