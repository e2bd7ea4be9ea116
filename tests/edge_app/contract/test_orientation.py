from fractions import Fraction

import numpy as np
import pytest

from edge_app.contract.orientation import Orientation, orientation

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
