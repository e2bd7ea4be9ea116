"""However large a site is, everything it has to say fits: sizes from one camera to two hundred, fully linked."""

import itertools
import json
from collections import defaultdict
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.contract.aggregates import Flow, OdPair, OriginDestination
from edge_app.contract.envelope import Paged, one_line, page_id, uuid7
from edge_app.contract.messages import Birth, BirthCamera, CameraHealth, EffectiveLink, Health, Revision, StageHealth
from edge_app.contract.paging import paginate
from edge_app.contract.samples import golden_samples
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES, Message, decode, encode, stamp, topic_of
from edge_app.delivery.outgoing import Letterhead, birth_message

NOW_S = 1_790_000_000.0
GROWS = (Birth, Health, Flow, OriginDestination, Revision)
LONGEST = st.sampled_from([3, 12, 32])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=400)


def letterhead():
    return Letterhead("demo", "edge-1", "7.3", "v1", "sha256:" + "0" * 64, "sha256:" + "f" * 64)


def name(number, length):
    return f"c{number}".ljust(length, "x")


def slugs(n, length):
    return [name(number, length) for number in range(n)]


def said(message, numbers=None):
    """The pages as a subscriber gets them, stamped; each fits, decodes, and has an id of its own."""
    got = []
    for page in paginate(message, numbers or itertools.count(1000)):
        payload = stamp(encode(page), 1_790_000_123.456, historical=True)
        assert len(payload) <= PAYLOAD_LIMIT_BYTES
        got.append(decode(topic_of(page, "demo"), payload))
    assert [page.page for page in got] == list(range(1, len(got) + 1))
    assert {page.pages for page in got} == {len(got)}
    assert len({page.event_id for page in got}) == len({page.seq for page in got}) == len(got)
    assert got[0].event_id == message.event_id
    return got


def together(pages, field):
    """One growing list of all pages. What was cut within a row is put together again."""
    rows = [getattr(page, field) for page in pages]
    if isinstance(rows[0], dict):
        return {key: value for page in rows for key, value in page.items()}
    return tuple(row for page in rows for row in page)


def envelope(content):
    return letterhead().envelope(uuid7(NOW_S, content.encode()), NOW_S, NOW_S)


sizes = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@sizes
@given(st.integers(1, 200), LONGEST, st.integers(0, 40), st.lists(TEXTS, max_size=90), st.integers(0, 2000))
def test_a_birth_of_any_site_fits_and_loses_nothing(cameras, length, zones, classes, links):
    ids = slugs(cameras, length)
    ways = [
        LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1e-5, max_s=1e9))
        for a, b in itertools.islice(itertools.permutations(ids, 2), links)
    ]
    site = {camera: slugs(zones, 32) for camera in ids}
    message = birth_message(letterhead(), site, ways, ("\udcff\n" * 200, classes), NOW_S)
    pages = said(message)
    assert tuple(link.link for link in together(pages, "links")) == tuple(way.id for way in ways)
    zones_of = defaultdict(list)
    for camera in together(pages, "cameras"):
        zones_of[camera.camera] += camera.zones
    assert dict(zones_of) == site
    assert together(pages, "class_names") == message.class_names


def test_two_hundred_cameras_fully_linked():
    ids = slugs(200, 32)
    ways = [
        LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=90))
        for a, b in itertools.permutations(ids, 2)
    ]
    pages = said(birth_message(letterhead(), {camera: ["gate"] for camera in ids}, ways, (None, ["car"]), NOW_S))
    assert len(together(pages, "links")) == 39_800
    assert {topic_of(page, "demo").removeprefix("crosslane/v1/demo/edge-1/") for page in pages} == {
        "birth",
        *(f"birth/{number}" for number in range(2, len(pages) + 1)),
    }
    rates = [{"link": way.id, "eligible_exits": 9, "n": 8, "match_rate": 0.8889} for way in ways]
    pairs = [{"origin": a, "destination": b, "counts": {"car": 7, "bus": 1}} for a in ids for b in ids]
    interval = {"interval_start_s": NOW_S, "interval_s": 300.0, "revision": 1, "missing_cameras": ids}
    message = OriginDestination(**envelope("od"), **interval, pairs=pairs, match_rates=rates)
    pages = said(message)
    assert together(pages, "pairs") == message.pairs
    assert together(pages, "match_rates") == message.match_rates
    assert together(pages, "missing_cameras") == message.missing_cameras


@sizes
@given(st.integers(1, 60), LONGEST, st.dictionaries(TEXTS, st.integers(0, 10**9), max_size=90))
def test_full_trips_of_any_number_of_classes(cameras, length, counts):
    ids = slugs(cameras, length)
    pairs = [OdPair(origin=a, destination=b, counts=counts) for a in ids[:8] for b in ids]
    interval = {"interval_start_s": NOW_S, "interval_s": 300.0, "revision": 3}
    message = OriginDestination(**envelope("od"), **interval, pairs=tuple(pairs), match_rates=())
    found = defaultdict(dict)
    for pair in together(said(message), "pairs"):
        found[pair.origin, pair.destination].update(pair.counts)
    assert dict(found) == {(pair.origin, pair.destination): pair.counts for pair in pairs}


@sizes
@given(st.integers(0, 200), st.integers(0, 300), st.dictionaries(TEXTS, st.floats(-50, 150), max_size=60))
def test_a_heartbeat_of_any_site_fits(cameras, stages, temperatures):
    message = Health(
        **envelope("health"),
        uptime_s=1e-7,
        cameras=tuple(
            CameraHealth(camera=camera, state="clock_suspect", fps=1e-7, frames=10**12, frames_dropped=10**12)
            for camera in slugs(cameras, 32)
        ),
        stages=tuple(StageHealth(stage=f"{i}" * 300, n=i, p50_s=1e-9, p95_s=1e22) for i in range(stages)),
        temperatures_celsius=temperatures,
        outbox_depth=0,
        outbox_bytes=0,
        outbox_oldest_unsent_s=None,
        counters={f"{i}".rjust(40, "c"): i for i in range(stages)},
    )
    pages = said(message)
    for field in ("cameras", "stages", "temperatures_celsius", "counters"):
        assert together(pages, field) == getattr(message, field)


@sizes
@given(st.integers(0, 200), TEXTS, TEXTS)
def test_flows_and_revisions_of_any_names_fit(rows, class_name, zone):
    counts = tuple(
        {"class": f"{class_name}{i}", "entry_zone": zone, "exit_zone": f"{i}{zone}", "n": i} for i in range(rows)
    )
    interval = {"interval_start_s": NOW_S, "interval_s": 300.0, "revision": 1}
    flow = Flow(**envelope("flow"), **interval, camera="a", coverage=1.0, counts=counts)
    assert together(said(flow), "counts") == flow.counts
    links = tuple(EffectiveLink(to_track=zone, from_track=None, global_id=class_name) for _ in range(rows))
    revision = Revision(**envelope("r"), revises=(uuid7(0, b"m"),), kind="split", reason=zone, effective_links=links)
    assert together(said(revision), "effective_links") == revision.effective_links


def test_what_fits_stays_as_it_was_and_takes_no_number():
    numbers = itertools.count(5)
    for message in golden_samples().values():
        if isinstance(message, Paged):
            assert paginate(message, numbers) == [message]
    assert next(numbers) == 5


def test_every_list_that_can_grow_is_paged():
    """A list or mapping in a message, or in a row of one, is either among its `grows` or has a bound."""
    bounded = {
        ("TravelTime", "expected"),  # the commonest classes
        ("Gap", "counts"),  # kinds of message
        ("Revision", "revises"),  # one event, or a few
        *(("Place", box) for box in ("entry_box", "exit_box")),  # four numbers
    }
    seen = set()
    models = [type(message) for message in golden_samples().values()]
    while models:
        model = models.pop()
        for field, info in model.model_fields.items():
            rows = [one for one in (info.annotation, *get_args(info.annotation)) if one is not None]
            growing = any(str(one).startswith(("tuple[", "dict[", "typing.Tuple", "typing.Dict")) for one in rows)
            inner = [part for one in rows for part in (one, *get_args(one)) if hasattr(part, "model_fields")]
            models += [part for part in inner if part.__name__ not in seen]
            seen.update(part.__name__ for part in inner)
            if growing:
                assert field in getattr(model, "grows", ()) or (model.__name__, field) in bounded, (model, field)
    assert {"BirthCamera", "OdPair", "Place", "FlowCount"} <= seen


def test_a_row_that_cannot_be_cut_is_refused_by_name_and_nothing_hangs():
    cameras = (BirthCamera(camera="a"),)
    birth = Birth(**envelope("b"), software="s", platform="p", cameras=cameras, links=())
    huge = birth.model_copy(update={"class_names": ("x" * 20_000,)})  # no validated text is as long
    pages = paginate(huge, itertools.count())
    with pytest.raises(Exception, match="birth message of"):
        [encode(page) for page in pages]


@given(TEXTS)
def test_any_text_becomes_one_line_that_can_be_said(text):
    line = one_line(text)
    assert len(line) <= 300
    assert len(json.dumps(line, ensure_ascii=False).encode()) <= 1210
    assert "\n" not in line
    assert one_line(line) == line
    assert one_line(None) is None


def test_a_page_of_an_event_has_the_same_id_whenever_it_is_said():
    event = uuid7(NOW_S, b"od of an interval")
    assert page_id(event, 2) == page_id(event, 2) != page_id(event, 3)
    assert page_id(event, 2)[:13] == event[:13]  # of the same time


def test_messages_and_samples_agree_on_what_is_paged():
    assert {type(m) for m in golden_samples().values() if isinstance(m, Paged)} == set(GROWS)
    assert set(GROWS) <= set(get_args(Message))
