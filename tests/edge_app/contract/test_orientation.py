from fractions import Fraction

import numpy as np
import pytest

from edge_app.contract.orientation import Orientation, of_exif, orientation, quarter_turned

ONE = 1 << 16
PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (2, 3, 3)


def shown(picture, matrix):
    """An independent oracle: every pixel is put where ISO 14496-12 says that its point is shown."""
    a, b, _, c, d = [value / ONE for value in matrix[:5]]
    height, width = picture.shape[:2]
    where = {(x, y): (round(a * x + c * y), round(b * x + d * y)) for x in range(width) for y in range(height)}
    left, top = (min(point[axis] for point in where.values()) for axis in (0, 1))
    size = [1 + max(point[axis] for point in where.values()) - (left, top)[axis] for axis in (0, 1)]
    out = np.zeros((size[1], size[0], 3), np.uint8)
    for (x, y), (to_x, to_y) in where.items():
        out[to_y - top, to_x - left] = picture[y, x]
    return out


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_turn_and_mirroring_is_as_the_standard_shows_it(signs, transposed):
    first, second = (sign * ONE for sign in signs)
    matrix = (0, first, 0, second, 0, 0, 0, 0, 1 << 30) if transposed else (first, 0, 0, 0, second, 0, 0, 0, 1 << 30)
    seen = orientation(matrix)
    turned = seen.turned(PICTURE)
    assert np.array_equal(turned, shown(PICTURE, matrix))
    assert turned.flags.c_contiguous


def test_an_odd_angle_is_the_nearest_quarter_turn():
    cos, sin = int(0.98 * ONE), int(0.17 * ONE)
    assert orientation((cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)) == Orientation()


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (None, (160, 90)),
        (0, (160, 90)),
        (Fraction(2), (320, 90)),
        (Fraction(12, 11), (175, 90)),
        (0.5, (160, 180)),
        (Fraction(1000, 1), (160, 90)),
        (float("nan"), (160, 90)),
    ],
)
def test_pixels_are_made_square_by_enlarging(aspect, size):
    assert orientation(None, aspect).square(160, 90) == size


SIDES = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"} | {  # EXIF 2.3, 4.6.4 A, tag 274
    5: "left top",
    6: "right top",
    7: "right bottom",
    8: "left bottom",
}


@pytest.mark.parametrize("number", SIDES)
def test_exif_says_on_which_side_the_first_row_and_column_are_seen(number):
    stored = np.zeros((4, 6), np.uint8)
    stored[0], stored[1:, 0] = 1, 2
    seen = of_exif(number).turned(stored)
    sides = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
    row, column = SIDES[number].split()
    assert (sides[row] == 1).all()
    assert np.bincount(sides[column]).tolist() == [0, 1, 3]


@pytest.mark.parametrize("number", [None, 0, 1, 9, 65535])
def test_exif_without_a_meaning_leaves_the_picture(number):
    assert of_exif(number) == Orientation()


@pytest.mark.parametrize(("degrees", "number"), [(0, 1), (90, 8), (-90, 6), (180, 3), (-180, 3), (88, 8)])
def test_an_angle_alone_is_a_quarter_turn_to_the_left(degrees, number):
    assert orientation(quarter_turned(degrees)) == of_exif(number)
