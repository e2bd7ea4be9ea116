"""The best picture of each track, and never more than were asked for."""

import numpy as np

from edge_app.pictures.album import LONGEST_SIDE_PX, Album
from edge_app.types import View


def view(track="a", quality=0.5, grey=100, size=(60, 80)):
    crop = None if grey is None else np.full((*size, 3), grey, np.uint8)
    return View(track, "gate", 1.0, np.array([0, 0, size[1], size[0]], np.float32), quality, crop)


def test_the_best_view_wins_whenever_it_comes():
    album = Album()
    album.add([view(quality=0.4, grey=50), view(quality=0.8, grey=200), view(quality=0.6, grey=90)])
    assert abs(int(album.picture("a").mean()) - 200) <= 2


def test_a_larger_picture_is_worth_more_than_a_small_one_of_equal_quality():
    album = Album()
    album.add([view(grey=200, size=(110, 110)), view(grey=50, size=(30, 30))])
    assert album.picture("a").shape == (110, 110, 3)


def test_large_pictures_are_made_smaller():
    album = Album()
    album.add([view(size=(400, 800))])
    assert album.picture("a").shape == (LONGEST_SIDE_PX // 2, LONGEST_SIDE_PX, 3)


def test_memory_is_bounded_and_the_oldest_track_goes_first():
    album = Album(capacity=3)
    album.add(view(track=str(number)) for number in range(5))
    assert len(album) == 3
    assert album.picture("1") is None
    assert album.picture("4") is not None


def test_views_without_pixels_are_passed_over():
    album = Album()
    album.add([view(grey=None), view(size=(0, 5))])
    assert len(album) == 0
