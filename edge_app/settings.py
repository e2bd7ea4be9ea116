"""The base of every configuration model, and the kinds of values that several share. Each model lives beside the code
that uses it; a path is a `FilePath`, and knows the folder of the file it stands in."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from edge_app.contract.envelope import SLUG_PATTERN
from edge_app.contract.yaml import FilePath, beside

__all__ = ["FilePath", "Name", "Polygon", "Settings", "Variable", "ZoneName", "beside"]

SMALLEST, LARGEST = 1e-6, 1e12  # of any number but 0: beyond them it is a slip, and arithmetic overflows
LONGEST_S = 1e9  # of any duration: 31 years, and what the system's calls take
SMALLEST_AREA = 1e-4  # of the picture: one per cent of its width by one per cent of its height

MOST_CORNERS = 200


class Settings(BaseModel):
    """A frozen group of settings; an unknown key is an error, a field's description becomes its documentation."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,  # a path that is not given is relative to the file too
        revalidate_instances="always",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Yes and no are no numbers, though Python counts with them."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and "bool" not in str(annotation) and annotation is not bool:
            raise ValueError("yes or no does not belong here")
        return value

    @field_validator("*")
    @classmethod
    def _of_some_size(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, int | float) and value:
            largest = LONGEST_S if (info.field_name or "").endswith("_s") else LARGEST
            if not SMALLEST <= abs(value) <= largest:
                raise ValueError(f"expected a number between {SMALLEST:g} and {largest:g} in size")
        return value


def _plainly(pattern: str, words: str) -> AfterValidator:
    """A text that follows the pattern, or words that a person understands."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {words}")
        return text

    return AfterValidator(check)


Name = Annotated[
    str,
    _plainly(SLUG_PATTERN, "only letters (a to z), digits, and single - or _ between them"),
    Field(max_length=32),
]
"""Of a site, a node or a camera: a part of topics and ids."""

ZoneName = Annotated[
    str,
    _plainly(
        r"[a-z0-9][a-z0-9_-]{0,31}", "at most 32 small letters (a to z), digits, - and _, a letter or digit first"
    ),
]

Variable = Annotated[
    str, _plainly(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable: letters, digits and _ only")
]


def _encloses(corners: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    problem = polygon_problem(corners)
    if problem is not None:
        raise ValueError(problem)
    return corners


def polygon_problem(corners: tuple[tuple[float, float], ...]) -> str | None:
    """Why corners enclose nothing that an object could stand in, None when they do. The first may be given again as the
    last."""
    if len(corners) > MOST_CORNERS:
        return f"has {len(corners)} corners, at most {MOST_CORNERS}"
    ring = [corner for corner, before in zip(corners, (*corners[-1:], *corners), strict=False) if corner != before]
    if len(ring) < 3:
        return "encloses nothing: at least three different corners are needed"
    sides = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    for first, side in enumerate(sides):
        for other in range(first + 1, len(sides)):
            neighbours = other == first + 1 or (first == 0 and other == len(sides) - 1)
            if not neighbours and _meet(side, sides[other]):
                return (
                    f"its border crosses itself: the side from corner {first + 1} meets that from corner {other + 1}; "
                    "give the corners in their order around it"
                )
    area = abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in sides)) / 2
    if area < SMALLEST_AREA:
        return f"encloses {100 * area:.2g} % of the picture, at least {100 * SMALLEST_AREA:g} % are needed"
    return None


Point = tuple[float, float]


def _meet(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two segments have a point in common."""
    (a, b), (c, d) = one, other
    turns = [_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)]
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _between(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(a: Point, b: Point, c: Point) -> float:
    """Above zero where the way a → b → c turns to one side, below where to the other, zero where it is straight."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _between(a: Point, b: Point, c: Point) -> bool:
    """Whether c, which lies on the line through a and b, lies between them."""
    return all(min(a[axis], b[axis]) <= c[axis] <= max(a[axis], b[axis]) for axis in (0, 1))


Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Polygon = Annotated[tuple[tuple[Fraction, Fraction], ...], AfterValidator(_encloses)]
"""Corners x, y as shares of the picture's width and height, in their order around it."""
