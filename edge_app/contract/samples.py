"""One golden sample of every message, with fixed ids and times, for the documents and for the tests of readers."""

from __future__ import annotations

from typing import Any, Literal

from edge_app.contract.aggregates import Flow, FlowCount, LinkRate, OdPair, OriginDestination, TravelTime
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import (
    Birth,
    BirthCamera,
    BirthLink,
    CameraHealth,
    CameraState,
    EffectiveLink,
    Gap,
    Health,
    Match,
    MatchFrom,
    MatchTo,
    NodeState,
    Place,
    Revision,
    StageHealth,
)
from edge_app.contract.topics import Message

SITE = "demo"
_TIME_S = 1767225600.25
_NODE = "edge-1"
_EMBEDDING_VERSION = "crosslane-embedder-1"
_INTERVAL: dict[str, Any] = {"interval_start_s": 1767225300.0, "interval_s": 300.0}


def _envelope(content: str) -> dict[str, Any]:
    return {
        "event_id": uuid7(_TIME_S, content.encode()),
        "node": _NODE,
        "boot_id": "7",
        "seq": 42,
        "observed_at_s": _TIME_S,
        "published_at_s": _TIME_S + 0.125,
        "clock_state": "ok",
        "historical": False,
        "embedding_version": _EMBEDDING_VERSION,
        "bundle_digest": "sha256:" + "0123456789abcdef" * 4,
        "config_digest": "sha256:" + "fedcba9876543210" * 4,
    }


def _place(entry_zone: str, exit_zone: str) -> Place:
    return Place(
        entry_zone=entry_zone,
        exit_zone=exit_zone,
        entry_box=(12.5, 310.0, 84.0, 372.5),
        exit_box=(880.0, 302.5, 958.5, 371.0),
        frame_width_px=960,
        frame_height_px=540,
    )


def _match(state: Literal["provisional", "confirmed"], supersedes: str | None) -> Match:
    return Match(
        **_envelope(state),
        global_id="edge-1-7-12",
        link="north--south",
        from_=MatchFrom(
            camera="north",
            track="edge-1/north/7/31",
            exit_time_s=_TIME_S - 24.5,
            entry_time_s=_TIME_S - 28.0,
            place=_place("gate", "right"),
        ),
        to=MatchTo(
            camera="south",
            track="edge-1/south/7/19",
            entry_time_s=_TIME_S - 4.0,
            exit_time_s=_TIME_S - 1.0,
            place=_place("left", "bottom"),
        ),
        transit_s=20.5,
        posterior=0.97,
        margin=4.25,
        runner_up="edge-1/north/7/30",
        state=state,
        decision_delay_s=4.0,
        class_name="car",
        supersedes=supersedes,
        waited_for="open_tracks",
    )


def _life() -> dict[str, Message]:
    """Node and cameras."""
    return {
        "state": NodeState(**_envelope("state"), state="online"),
        "birth": Birth(
            **_envelope("birth"),
            software="crosslane 0.1.0",
            platform="Linux aarch64, Python 3.10.12",
            detector="yolo-demo",
            class_names=("car", "bus", "truck"),
            cameras=(BirthCamera(camera="north", zones=("gate",)), BirthCamera(camera="south")),
            links=(
                BirthLink(
                    link="north--south", from_camera="north", to_camera="south", transit_min_s=5.0, transit_max_s=90.0
                ),
            ),
        ),
        "birth_page": Birth(
            **_envelope("birth page 2"),
            software="crosslane 0.1.0",
            platform="Linux aarch64, Python 3.10.12",
            cameras=(BirthCamera(camera="east"),),
            links=(),
            page=2,
            pages=2,
        ),
        "health": Health(
            **_envelope("health"),
            uptime_s=3600.5,
            cameras=(CameraHealth(camera="north", state="ok", fps=14.9, frames=53640, frames_dropped=12),),
            stages=(StageHealth(stage="detect", n=450, p50_s=0.011, p95_s=0.019),),
            temperatures_celsius={"cpu-thermal": 54.5},
            disk_free_bytes=12_000_000_000,
            memory_rss_bytes=410_000_000,
            outbox_depth=0,
            outbox_bytes=0,
            outbox_oldest_unsent_s=None,
            counters={"health_unsent": 1},
        ),
        "camera_state": CameraState(
            **_envelope("camera_state"), camera="north", state="stalled", reason="no new picture for 5.0 s"
        ),
    }


def _facts() -> dict[str, Message]:
    provisional = _match("provisional", None)
    return {
        "match_provisional": provisional,
        "match": _match("confirmed", provisional.event_id),
        "revision": Revision(
            **_envelope("revision"),
            revises=(_match("confirmed", None).event_id,),
            kind="retract",
            reason="a later vehicle explains the entry better",
            effective_links=(EffectiveLink(to_track="edge-1/south/7/19", from_track=None, global_id="edge-1-7-13"),),
        ),
        "gap": Gap(
            **_envelope("gap"),
            reason="outbox above 64000000 bytes",
            counts={"match_provisional": 210, "match": 12},
            first_queued_at_s=_TIME_S - 7200,
            last_queued_at_s=_TIME_S - 3600,
        ),
    }


def _aggregates() -> dict[str, Message]:
    return {
        "flow": Flow(
            **_envelope("flow"),
            **_INTERVAL,
            revision=1,
            camera="north",
            coverage=1.0,
            counts=(FlowCount(class_name="car", entry_zone="left", exit_zone="right", n=57),),
        ),
        "traveltime": TravelTime(
            **_envelope("traveltime"),
            **_INTERVAL,
            revision=2,
            link="north--south",
            from_camera="north",
            to_camera="south",
            exits=61,
            eligible_exits=57,
            entries=49,
            n=44,
            match_rate=0.772,
            median_s=21.4,
            p10_s=17.9,
            p90_s=31.0,
            expected={"bus": (5.2, 4.1, 6.0), "car": (46.31, 42.8, 49.9)},
            expected_median_s=21.6,
            expected_p10_s=17.8,
            expected_p90_s=31.7,
        ),
        "od": OriginDestination(
            **_envelope("od"),
            **_INTERVAL,
            revision=1,
            pairs=(
                OdPair(origin="north", destination="north", counts={"car": 13}, expected={"car": (8.1, 5.0, 11.0)}),
                OdPair(
                    origin="north",
                    destination="south",
                    counts={"car": 40, "bus": 4},
                    expected={"car": (45.7, 42.0, 49.0), "bus": (5.2, 4.0, 6.0)},
                ),
            ),
            match_rates=(LinkRate(link="north--south", eligible_exits=57, n=44, match_rate=0.772),),
            missing_cameras=("east",),
        ),
    }


def golden_samples() -> dict[str, Message]:
    """Rule key → message, in the order of `RULES`' models."""
    return {**_life(), **_facts(), **_aggregates()}
