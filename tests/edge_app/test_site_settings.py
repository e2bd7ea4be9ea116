"""What every setting has in common: hostile values are one clear line each, paths know their file, names and polygons
are said in plain words."""

import copy
import itertools
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from edge_app.config import Site, load
from edge_app.errors import ConfigurationError

SPEC = {"width_px": 32, "height_px": 32}
SITE: dict[str, Any] = {
    "site": "north",
    "node": "edge-1",
    "cameras": [{"id": "gate", "source": "gate.mp4"}, {"id": "market", "source": "rtsp://10.0.0.7/live"}],
    "links": [{"from_camera": "gate", "to_camera": "market", "transit": {"min_s": 5, "max_s": 90}}],
    "detector": {"path": "a.onnx", "input": dict(SPEC)},
    "embedder": {"path": "b.onnx", "input": dict(SPEC)},
    "mqtt": {"host": "broker.example", "tls": {}},
}
NUMBERS = [".nan", ".inf", "-.inf", "1e400", "-1e400", "1.0e+400", "-1", "0", "1.0e-300", "1.0e+300", "9" * 39]
HOSTILE = [
    *NUMBERS, "9" * 5000, "0x" + "f" * 38, "true", "null", "[]", "{}", "[1, 2]", "{a: 1}", '"text"', "''", "2001-01-01",
    '"\\u001b[2J\\nforged"', "1:30", "!!binary aGk=", "[" * 900 + "]" * 900,
]  # fmt: skip


def fields(model: type[BaseModel] = Site, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every setting."""
    for name, field in model.model_fields.items():
        inner = list(models_in(field.annotation))
        if not inner:
            yield (*place, name)
        for group in inner:
            index = (0,) if "tuple" in str(field.annotation) else ()
            yield from fields(group, (*place, name, *index))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


@cache
def text_around(place: tuple[str | int, ...]) -> tuple[str, str]:
    """The sound site as YAML, before and behind the value at this place."""
    raw = copy.deepcopy(SITE)
    if place == ("detector", "recorded"):
        raw["detector"] = {}
    group = raw
    for part, following in itertools.pairwise(place):
        if isinstance(group, dict):
            group = group.setdefault(part, [{}] if isinstance(following, int) else {})
        else:
            group = group[part]
    group[place[-1]] = "HOSTILE"
    before, behind = yaml.safe_dump(raw).split("HOSTILE")
    return before, behind


def text_with(place: tuple[str | int, ...], value: str) -> str:
    """The sound site with one value put in as it stands."""
    return value.join(text_around(place))


ALL = list(fields())


def test_every_setting_is_tried() -> None:
    assert len(ALL) > 110
    assert ("cameras", 0, "open_timeout_s") in ALL
    assert ("mqtt", "tls", "ca") in ALL
    assert ("detector", "engine", "trial_s") in ALL


@pytest.mark.parametrize("place", ALL, ids=lambda place: ".".join(map(str, place)))
def test_a_hostile_value_is_one_clear_line_or_a_setting(tmp_path: Path, place) -> None:
    path = tmp_path / "site.yaml"
    for value in HOSTILE:
        path.write_text(text_with(place, value))
        said = mistakes_in(path)
        assert len(said) <= 3, (
            value,
            said,
        )  # a list may hold several wrong things, an id leaves a way without its camera
        assert all(problem.isprintable() and len(problem) < 600 for problem in said), said


def mistakes_in(path: Path) -> list[str]:
    """What is objected to; where nothing is, the site can be told in messages."""
    try:
        config = load(path)
    except ConfigurationError as error:
        return error.problems
    assert config.digest
    return []


@pytest.mark.parametrize("value", [".nan", ".inf", "1e400", "-1.0e+300", "1.0e+300", "1.0e-300", "true", "9" * 5000])
def test_no_number_takes_what_is_none(tmp_path: Path, value) -> None:
    path = tmp_path / "site.yaml"
    for place in ALL:
        if number_at(place):
            path.write_text(text_with(place, value))
            with pytest.raises(ConfigurationError):
                load(path)


def number_at(place: tuple[str | int, ...]) -> bool:
    model: Any = Site
    names = [part for part in place if isinstance(part, str)]
    for part, below in itertools.pairwise(names):
        groups = models_in(model.model_fields[part].annotation)
        model = next(group for group in groups if below in group.model_fields)
    field = model.model_fields[place[-1]]
    kinds = (field.annotation, *get_args(field.annotation))
    return (float in kinds or int in kinds) and "input" not in place  # what a network wants has rules of its own


def problems(tmp_path: Path, **changes: Any) -> list[str]:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(SITE | changes))
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.problems


@pytest.mark.parametrize("name", ["north gate", "north--gate", "-gate", "nörd", "a\nb", "gate/", "gate\x1b[2J"])
def test_a_name_that_cannot_be_one_is_one_mistake_in_plain_words(tmp_path: Path, name) -> None:
    """Not a regular expression, no link that then finds no camera, no list that then is empty."""
    cameras = [{"id": name, "source": "gate.mp4"}]
    links = [{"from_camera": name, "to_camera": name, "transit": {"min_s": 5, "max_s": 90}}]
    (said,) = problems(tmp_path, cameras=cameras, links=links)
    assert said.startswith("cameras.0.id: expected only letters (a to z), digits, and single - or _ between them (got ")
    assert said.isprintable()
    (said,) = problems(tmp_path, node=name)
    assert said.startswith("node: expected only letters")


@pytest.mark.parametrize(
    "camera", [{"source": "x.mp4"}, {"id": 5, "source": "x.mp4"}, {"id": ["gate"], "source": "x"}, "gate", None]
)
def test_a_camera_without_a_name_brings_no_false_mistakes(tmp_path: Path, camera) -> None:
    (said,) = problems(tmp_path, cameras=[camera, SITE["cameras"][1]])
    assert said.startswith("cameras.0")


def test_other_names_are_said_in_plain_words(tmp_path: Path) -> None:
    whole = [[0, 0], [1, 0], [1, 1]]
    camera = {"id": "gate", "source": "gate.mp4", "zones": {"North side": whole}}
    (said,) = problems(tmp_path, cameras=[camera, SITE["cameras"][1]])
    assert "at most 32 small letters (a to z), digits, - and _" in said
    camera = SITE["cameras"][1] | {"username": "u", "password_env": "MY PASSWORD"}
    (said,) = problems(tmp_path, cameras=[SITE["cameras"][0], camera])
    assert "the name of an environment variable" in said
    assert "MY PASSWORD" not in said, "who knows what stands there"


WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ([[0.5, 0.5]] * 3, "encloses nothing"),
        ([], "encloses nothing"),
        ([[0, 0], [1, 1]], "encloses nothing"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "crosses itself|encloses"),
        ([[0.1, 0.1], [0.105, 0.1], [0.105, 0.105]], "encloses 0.0013 % of the picture|encloses 0.0012 %"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "crosses itself: the side from corner 1 meets that from corner 3"),
        ([[0, 0], [1, 0], [0.5, 0], [0.5, 1]], "crosses itself|encloses"),
        ([[0, 0], [1.5, 0], [1, 1]], "less than or equal to 1"),
        ([[0, 0], [-0.1, 0], [1, 1]], "greater than or equal to 0"),
        ([[0, 0], [float("nan"), 0], [1, 1]], "finite number"),
        ([[0, 0], [True, 0, 1], [1, 1]], "cameras.0"),
        ([[k / 1000, (k % 2) * 0.9] for k in range(900)], "has 900 corners"),
    ],
)
@pytest.mark.parametrize("key", ["area", "zone"])
def test_a_polygon_that_encloses_nothing_is_refused(tmp_path: Path, corners, said, key) -> None:
    camera = SITE["cameras"][0] | ({"area": corners} if key == "area" else {"zones": {"north": corners}})
    found = problems(tmp_path, cameras=[camera, SITE["cameras"][1]])
    assert len(found) == 1, found
    assert any(word in found[0] for word in said.split("|")), found


@pytest.mark.parametrize(
    "corners",
    [WHOLE, WHOLE[::-1], [*WHOLE, WHOLE[0]], [*WHOLE, WHOLE[-1]], [[0, 0.3], [1, 0.3], [1, 1], [0, 1]],
     [[0.1, 0.1], [0.9, 0.1], [0.5, 0.4], [0.9, 0.9]], [[0, 0], [0.5, 0], [1, 0], [1, 1]]],
)  # fmt: skip
def test_a_polygon_that_encloses_something_is_taken(tmp_path: Path, corners) -> None:
    path = tmp_path / "site.yaml"
    camera = SITE["cameras"][0] | {"area": corners, "zones": {"north": corners}}
    path.write_text(yaml.safe_dump(SITE | {"cameras": [camera, SITE["cameras"][1]]}))
    assert len(load(path).cameras[0].area) == len(corners)


def test_every_path_is_relative_to_the_file(tmp_path: Path) -> None:
    """Given or not, in whatever group: nobody keeps a list of them."""
    path = tmp_path / "site.yaml"
    raw = SITE | {"bundles": {"keys": ["a.pub", "../b.pub"]}, "mqtt": {"tls": {"ca": "ca.pem"}}}
    path.write_text(yaml.safe_dump(raw))
    config = load(path)
    found = dict(paths_in(config))
    assert len(found) == 10
    assert {name: value for name, value in found.items() if not value.is_absolute()} == {}
    assert found["store.path"] == tmp_path / "state/crosslane.db"
    assert found["detector.engine.engines"] == tmp_path / "state/engines"
    assert found["bundles.keys.1"] == tmp_path.parent / "b.pub"
    assert config.cameras[0].source == str(tmp_path / "gate.mp4")


def paths_in(value: Any, place: str = "") -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield place, value
    inner: Any = enumerate(value) if isinstance(value, tuple) else value if isinstance(value, BaseModel) else ()
    for name, each in inner:
        yield from paths_in(each, f"{place}.{name}" if place else str(name))


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/a.onnx", "loop/a.onnx", "x" * 5000])
def test_what_is_no_path_is_a_mistake_or_a_file_that_is_not_there(tmp_path: Path, path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE | {"detector": {"path": path, "input": SPEC}}))
    said = mistakes_in(tmp_path / "site.yaml")
    assert len(said) <= 1
    assert "".join(said).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "site: [" + "x, " * 7_000_000 + "]",
        "cameras:\n" + "- {id: a, sourc: b}\n" * 10_000,
        "cameras:\n" + "".join(f"- {{id: c{k}, source: s}}\n" for k in range(5_000))
        + "links:\n" + "".join(f"- {{from_camera: x{k}, to_camera: y{k}}}\n" for k in range(5_000)),
        "a: &a [" + "x," * 9 + "]\n" + "".join(f"{n}: &{n} [{','.join(['*' + p] * 9)}]\n"
                                              for p, n in itertools.pairwise("abcdefghi")),
        "a: " + "[" * 900 + "]" * 900,
        "a: " + "9" * 5000,
        "a: " + "1" * 900_000,
        "".join(f"key{k}: 1\n" for k in range(20_000)),
    ],
    ids=["20 MB", "10,000 mistakes", "10,000 unknown cameras", "aliases", "deep", "digits", "many digits", "keys"],
)  # fmt: skip
def test_big_and_deep_files_are_answered_in_seconds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    began_s = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert time.monotonic() - began_s < 15
    assert len(str(caught.value)) < 20_000, "nobody reads more"
