"""What `check` says of the messages of a site before it runs."""

import itertools

import pytest

from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.delivery.outgoing import Letterhead
from edge_app.delivery.sizes import most_pages


def site(count, ways):
    ids = [f"camera-{number:03}" for number in range(count)]
    links = [LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=90)) for a, b in ways(ids)]
    return {camera: ["gate", "yard"] for camera in ids}, links


@pytest.mark.parametrize(
    ("count", "ways", "birth", "od"),
    [
        (4, itertools.pairwise, 1, 1),
        (12, lambda ids: itertools.permutations(ids, 2), (2, 3), (2, 5)),
        (40, itertools.pairwise, 1, (8, 16)),
        (200, itertools.pairwise, (2, 4), (200, 300)),
    ],
)
def test_pages_of_a_site(count, ways, birth, od):
    pages = most_pages(Letterhead("s", "n", "1"), *site(count, ways), ("car", "bus", "truck"))
    for kind, expected in (("birth", birth), ("od", od)):
        low, high = expected if isinstance(expected, tuple) else (expected, expected)
        assert low <= pages[kind] <= high, pages
