"""The reader of settings files: what is a file of settings, and everything that is sent instead."""

import time
from pathlib import Path

import pytest
import yaml as pyyaml
from pydantic import BaseModel

from edge_app.contract import yaml
from edge_app.contract.yaml import FilePath, YamlError, plain, read, read_value

SITE = """\
# a site
site: bridge            # plain
cameras: &all
  - {id: gate, area: [0.5, 1.0e-3, -2], from: 2024-13-45, on: yes}
  - id: "mar\\tket"
links: *all
usual: &usual {speed: 1, tick_s: 0.1}
ticks: {<<: *usual, speed: null}
1: one
"""


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "site.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refused(path: Path) -> str:
    """The one problem of a file, told within two seconds."""
    before_s = time.monotonic()
    with pytest.raises(YamlError) as caught:
        read(path)
    assert time.monotonic() - before_s < 2
    (problem,) = caught.value.problems
    assert len(problem) < 200
    assert problem.isprintable()
    return problem


def test_plain_values(file):
    cameras = [{"id": "gate", "area": [0.5, 0.001, -2], "from": "2024-13-45", "on": True}, {"id": "mar\tket"}]
    assert read(file(SITE)) == {
        "site": "bridge",
        "cameras": cameras,
        "links": cameras,
        "usual": {"speed": 1, "tick_s": 0.1},
        "ticks": {"speed": None, "tick_s": 0.1},
        "1": "one",
    }


@pytest.mark.parametrize("path", sorted((Path(__file__).resolve().parents[3] / "configs").rglob("*.yaml")), ids=str)
def test_shipped_files_mean_what_they_meant(path):
    assert read(path) == pyyaml.safe_load(path.read_text(encoding="utf-8"))


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("a: " + "[" * 900 + "]" * 900, "line 1: more than 32 groups", id="lists 900 deep"),
        pytest.param("a:\n" + "".join(" " * n + "- \n" for n in range(1, 950)), "line 33: more than 32", id="blocks"),
        pytest.param("[" * 500_000, "line 1: more than 32", id="500,000 deep, never closed"),
        pytest.param("{a: " * 200_000, "line 1: more than 32", id="groups 200,000 deep"),
        pytest.param("- " * 400_000, "line 1: more than 32", id="dashes"),
        pytest.param(
            "a:\n- 1\nb: " + "7" * 5000, "line 3: a number of 5,000 characters", id="a number of 5,000 digits"
        ),
        pytest.param("b: 0x" + "f" * 9000, "line 1: a number of 9,002 characters", id="hexadecimal"),
        pytest.param("b: 1" + ":59" * 300_000, "line 1: a number of 900,001 characters", id="base 60"),
        pytest.param("b: 1." + "5" * 5000, "line 1: a number of", id="a fraction"),
        pytest.param("a: " + "x" * 20_000_000, "larger than 1,024 kB", id="20 MB"),
        pytest.param("- a\n" * 250_000, "line 50000: more than 50,000 values", id="250,000 values"),
        pytest.param(BOMB, "more than 50,000 values", id="billion laughs"),
        pytest.param(MERGES, "more than 50,000 values", id="billion merges"),
        pytest.param(
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)),
            "line 32: more than 32 groups",
            id="deep by aliases",
        ),
        pytest.param("a: &a\n  - *a", "line 2: the anchor a stands inside itself", id="itself"),
        pytest.param("a: 1\nb: *c", "line 2: the anchor c is not known before this line", id="unknown anchor"),
        pytest.param("a: 1\nb: 2\n'a': 3", "line 3: `a` is given twice, first in line 1", id="twice"),
        pytest.param("a:\n  - {b: 1, b: 2}", "line 2: `b` is given twice", id="twice, below"),
        pytest.param("[a, b]: 1", "line 1: a key must be a name", id="a list for a key"),
        pytest.param("{x: 1}: 1", "line 1: a key must be a name", id="a group for a key"),
        pytest.param(b"a: 1\nb: \xff\xfe", "line 2: expected UTF-8 text, found the byte 0xff", id="not UTF-8"),
        pytest.param("a: 1".encode("utf-16"), "line 1: expected UTF-8 text", id="UTF-16"),
        pytest.param(b"a: 1\nbc: \0x", "line 2, column 5: the character U+0000", id="NUL"),
        pytest.param(b"a: 1\nb: \x1b[31m", "line 2, column 4: the character U+001B", id="escape"),
        pytest.param(b"\x7fELF\x02\x01", "line 1, column 1: the character U+007F", id="a program"),
        pytest.param("a:\n\tb: 1", "line 2, column 1: a tab; indent with spaces", id="tab"),
        pytest.param("- a\n- b", "line 1: expected settings, `key: value`, found a list", id="list"),
        pytest.param("# so\nhello", "line 2: expected settings, `key: value`, found a single value", id="text"),
        pytest.param("", "is empty", id="empty"),
        pytest.param("# nothing\n---\n...\n", "is empty", id="a comment"),
        pytest.param("a: 1\n---\nb: 2", "line 2: a second document", id="two documents"),
        pytest.param("a: [1, 2", "line 2, column 1: ", id="never closed"),
        pytest.param("a: 'x", "line 1, column", id="never quoted"),
        pytest.param("a: 1\n  b: 2", "line 2, column 4: mapping values are not allowed", id="indented"),
        pytest.param("%YAML 7.0\n---\na: 1", "line 1", id="a version to come"),
        pytest.param("a: !!python/object/apply:os.system [id]", "line 1: the tag tag:yaml.org", id="code"),
        pytest.param("a: !!set {x, y}", "asks for more than a plain value", id="a set"),
        pytest.param("a: !!int x", "is not YAML", id="no integer"),
        pytest.param("a: {<<: 5}", "line 1, column", id="a number merged"),
        pytest.param("a: &" + "n" * 900 + " 1\nb: *" + "m" * 900, "line 2: the anchor mmm", id="endless names"),
    ],
)
def test_what_is_no_settings_file(file, content, problem):
    assert problem in refused(file(content))


def test_all_keys_that_are_given_twice_are_named(file):
    with pytest.raises(YamlError) as caught:
        read(file("a: 1\na: 2\nb: {c: 1, c: 2, d: 3}\na: 4\ne: " + "9" * 99))
    assert caught.value.problems == [
        "line 2: `a` is given twice, first in line 1",
        "line 4: `a` is given twice, first in line 1",
        "line 3: `c` is given twice, first in line 3",
        "line 5: a number of 99 characters, at most 40",
    ]


@pytest.mark.parametrize(("name", "reason"), [("none.yaml", "No such file"), (".", "Is a directory"), ("\0", "null")])
def test_what_cannot_be_read(tmp_path, name, reason):
    assert reason in refused(tmp_path / name)


def test_an_endless_file():
    assert "larger than" in refused(Path("/dev/zero"))


def test_a_file_with_a_byte_order_mark(file):
    assert read(file(b"\xef\xbb\xbfa: 1")) == {"a": 1}


def test_the_same_is_refused_without_libyaml(monkeypatch, file):
    class Slow(pyyaml.SafeLoader):
        yaml_implicit_resolvers = yaml._Loader.yaml_implicit_resolvers

    monkeypatch.setattr(yaml, "_Loader", Slow)
    assert read(file(SITE))["ticks"] == {"speed": None, "tick_s": 0.1}
    assert "more than 32" in refused(file("[" * 500_000))
    assert "more than 50,000" in refused(file(BOMB))
    assert "a tab" in refused(file("a:\n\tb: 1"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("null", None), ("[1, {a: b}]", [1, {"a": "b"}]), ("", None), ("a b", "a b")],
)
def test_values_of_a_command_line(text, value):
    assert read_value(text) == value


@pytest.mark.parametrize("text", ["[" * 5000, "9" * 5000, "[1", "{a: 1, a: 2}", "x\0", "\udcff", "a" * 2_000_000])
def test_values_that_are_none(text):
    with pytest.raises(YamlError):
        read_value(text)


def test_a_text_in_a_line_of_a_message():
    assert plain("a\nb\x1b[31m\u202e\udcff") == r"a\nb\x1b[31m\u202e\udcff"
    assert plain("ä € 日") == "ä € 日"
    assert len(plain("x" * 1000)) == 81


def test_paths_are_relative_to_their_file(tmp_path, monkeypatch):
    class Settings(BaseModel):
        path: FilePath = Path("default")

    monkeypatch.setenv("HOME", "/home/somebody")
    for given, expected in (("a/../b", tmp_path / "b"), ("/x", Path("/x")), ("~/c", Path("/home/somebody/c"))):
        assert Settings.model_validate({"path": given}, context={"folder": tmp_path}).path == expected
    assert Settings.model_validate({"path": "a"}).path == Path("a")
