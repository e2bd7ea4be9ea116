"""The site configuration: what is right is read as meant, and what is wrong is said all at once and in words."""

import contextlib
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from edge_app.config import load, parse
from edge_app.errors import ConfigurationError

SECRET = "hunter2-S3cret"
SITE = {
    "site": "north-bridge",
    "node": "edge-1",
    "cameras": [{"id": "gate", "source": "clips/gate.mp4"}, {"id": "market", "source": "rtsp://10.0.0.7/live"}],
    "links": [{"from_camera": "gate", "to_camera": "market", "transit": {"min_s": 5, "typical_s": 20, "max_s": 90}}],
    "detector": {"path": "models/detector.onnx"},
    "embedder": {"path": "/opt/models/embedder.onnx"},
    "mqtt": {"host": "broker.example", "tls": {"ca": "tls/ca.pem"}},
}


@pytest.fixture
def write(tmp_path):
    def write(content: object):
        path = tmp_path / "site.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems(write):
    """`problems(changes)` sets values by their path in a sound configuration and returns what is objected to."""

    def problems(changes: dict[str, object]) -> list[str]:
        raw = deepcopy(SITE)
        for path, value in changes.items():
            *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
            place = raw
            for part in way:
                place = place[part]
            place[last] = value
        with pytest.raises(ConfigurationError) as caught:
            load(write(raw))
        return caught.value.problems

    return problems


def test_relative_paths_are_relative_to_the_file(write, tmp_path):
    config = load(write(SITE))
    assert config.cameras[0].source == str(tmp_path / "clips/gate.mp4")
    assert config.cameras[1].source == "rtsp://10.0.0.7/live"
    assert config.detector.path == tmp_path / "models/detector.onnx"
    assert str(config.embedder.path) == "/opt/models/embedder.onnx"
    assert config.mqtt.tls.ca == tmp_path / "tls/ca.pem"
    assert config.store.path == tmp_path / "state/crosslane.db"


def test_the_digest_names_what_is_configured(write):
    first, again = load(write(SITE)), load(write(dict(reversed(SITE.items()))))
    other = load(write(SITE | {"ticks": {"speed": 2.0}}))
    assert first.digest == again.digest != other.digest
    assert load(write(SITE | {"collection": {"enabled": True}})).digest == first.digest, "crops change no fact"


def test_crops_are_not_kept_unless_asked_for_and_need_pictures(write, problems, tmp_path):
    config = load(write(SITE))
    assert not config.collection.enabled
    assert config.collection.persons == "never"
    assert config.collection.folder == tmp_path / "state/spool"
    (said,) = problems({"collection": {"enabled": True, "spool_bytes": 10_000_000}})
    assert said.startswith("collection: spool_bytes: expected room for at least four shards")
    camera = {"id": "gate", "source": "sim://town/gate?fidelity=detections"}
    (said,) = problems({"collection": {"enabled": True}, "cameras": [camera], "links": []})
    assert said.startswith("collection.enabled: these cameras deliver detections")


def test_five_mistakes_are_named_at_once(problems):
    said = problems(
        {
            "site": "north bridge",
            "cameras.0.sourc": "x.mp4",
            "links.0.to_camera": "markt",
            "links.0.transit.max_s": -1,
            "mqtt.keepalive_s": "often",
        }
    )
    assert len(said) == 5
    assert said[0].startswith("site: ")
    assert "cameras.0.sourc: unknown key; did you mean `source`?" in said
    assert any(line.startswith("links.0.transit.max_s: ") and "-1" in line for line in said)
    assert any(line.startswith("mqtt.keepalive_s: ") and "'often'" in line for line in said)
    assert "links.0.to_camera: there is no camera 'markt'; did you mean 'market'?" in said


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("camras", "cameras"),
        ("detector.pth", "path"),
        ("detector.input.width", "width_px"),
        ("links.0.transit.typical", "typical_s"),
        ("mqtt.tls.cert", "certificate"),
        ("associate", "similarity"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(problems, path, near):
    changes = {path: 1}
    if path == "detector.input.width":
        changes = {"detector.input": {"width": 1, "width_px": 32, "height_px": 32}}
    if path == "associate":
        path, changes = "associate.similarty", {"associate": {"similarty": {}}}
    assert problems(changes) == [f"{path}: unknown key; did you mean `{near}`?"]


def test_a_key_like_no_other_is_answered_with_all_of_them(problems):
    (said,) = problems({"ticks": {"zzz": 1}})
    assert said == "ticks.zzz: unknown key; known are mode, speed, tick_s"


def test_names_that_contradict_each_other(problems):
    said = problems({"cameras.1.id": "gate", "links": [SITE["links"][0]] * 2})
    assert "cameras: the id 'gate' is used 2 times" in said
    assert "links: gate → market is given 2 times" in said
    assert any("there is no camera 'market'" in line for line in said)


def test_models_are_needed_unless_cameras_are_simulated_without_pictures():
    raw = {key: value for key, value in SITE.items() if key not in ("detector", "embedder")}
    with pytest.raises(ConfigurationError) as caught:
        parse(raw, Path("x.yaml"))
    assert [line.split(":")[0] for line in caught.value.problems] == ["detector", "embedder"]


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras.1.source": f"rtsp://user:{SECRET}@10.0.0.7/live"},
        {"cameras.1.password_env": f"{SECRET} with spaces"},
        {"cameras.1.password": SECRET},
        {"mqtt.password": SECRET},
        {"mqtt.password_env": [SECRET]},
        {"mqtt.tls": {"password": {"secret": SECRET}}},
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_never_shown(problems, changes):
    said = problems(changes)
    assert said
    assert SECRET not in "\n".join(said)


def test_a_secret_beside_a_syntax_error_is_not_shown(write):
    with pytest.raises(ConfigurationError) as caught:
        load(write(f"site: a\nmqtt: {{password: {SECRET}\ncameras: []\n"))
    assert "line 3, column" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty: expected settings"),
        ("- a\n- b\n", "found a list"),
        ("cameras: [\n", "is not YAML: line 2"),
        ("site: \x07\n", "U\\+0007 is no text"),
        ("site: !!python/object:os.system x\n", "asks for more than a plain value"),
        ("{}", "cameras: missing"),
        ("5: 6\n", "5: "),
    ],
)
def test_what_is_no_configuration(write, content, expected):
    with pytest.raises(ConfigurationError, match=expected):
        load(write(content))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        load(tmp_path / "binary.yaml")


@pytest.mark.parametrize("value", [None, 5, "text", [5], [None], {"a": 1}, [{"id": ["x"], "from_camera": {}}], True])
@pytest.mark.parametrize("key", ["site", "cameras", "links", "mqtt", "detector", "ticks"])
def test_any_value_in_any_place_gives_problems_or_a_configuration(key, value):
    with contextlib.suppress(ConfigurationError):  # anything else would be a traceback
        parse(SITE | {key: value}, Path("x.yaml"))
