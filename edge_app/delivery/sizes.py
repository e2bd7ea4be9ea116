"""How much a site will have to say at once, known before it runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from edge_app.associate.settings import LinkSettings
from edge_app.contract.aggregates import Expected, LinkRate, OdPair, OriginDestination
from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, birth_message

SOME = 10_000  # trips or exits in one interval: as many digits as a number has


def most_pages(
    letterhead: Letterhead, cameras: Mapping[str, Sequence[str]], links: Sequence[LinkSettings], classes: Sequence[str]
) -> dict[str, int]:
    """Kind → messages that its largest statement takes: everybody linked, every class on every trip.

    `cameras`: id → names of its zones.
    """
    birth = birth_message(letterhead, cameras, links, (None, classes), 0.0)
    counts = dict.fromkeys(classes, SOME)
    probable: dict[str, Expected] = dict.fromkeys(classes, (SOME + 0.25, SOME, SOME))
    trips = OriginDestination(
        **letterhead.envelope(uuid7(0.0, b"od"), 0.0, 0.0),
        interval_start_s=0.0,
        interval_s=300.0,
        revision=1,
        pairs=tuple(
            OdPair(origin=a, destination=b, counts=counts, expected=probable) for a, b in _trips(cameras, links)
        ),
        match_rates=tuple(LinkRate(link=link.id, eligible_exits=SOME, n=SOME, match_rate=0.9999) for link in links),
        missing_cameras=tuple(cameras),
    )
    said: dict[str, Any] = {"birth": birth, "od": trips}
    return {kind: len(letterhead.pages(message)) for kind, message in said.items()}


def _trips(cameras: Mapping[str, Any], links: Sequence[LinkSettings]) -> list[tuple[str, str]]:
    """Every first and last camera that the links allow."""
    onward: dict[str, set[str]] = {camera: {camera} for camera in cameras}
    ways = {camera: {link.to_camera for link in links if link.from_camera == camera} for camera in cameras}
    for _ in cameras:
        grown = {camera: seen.union(*(ways.get(one, set()) for one in seen)) for camera, seen in onward.items()}
        if grown == onward:
            break
        onward = grown
    return list(itertools.chain.from_iterable(((a, b) for b in sorted(reached)) for a, reached in onward.items()))
