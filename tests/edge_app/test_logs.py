"""Whatever a text holds, a record is one line, and nothing in it moves the cursor."""

import io
import json
import logging

import pytest

from edge_app.errors import ConfigurationError, one_line
from edge_app.logs import LogSettings, configure

EVIL = "a.mp4\n2026-01-01T00:00:00.000Z ERROR   store: forged\r\x1b[2J\x9b31m\u2028\u202e\x00\udcff"


@pytest.fixture
def stream():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = before, level


def test_text(stream) -> None:
    configure(LogSettings(), stream)
    logging.getLogger("edge_app.sources").warning("camera %s: gone", EVIL)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert " WARNING sources: camera a.mp4\\n2026-01-01T00:00:00.000Z ERROR   store: forged\\r\\x1b[2J" in line
    assert line.endswith("\\x9b31m\\u2028\\u202e\\x00\\udcff: gone")


def test_the_lines_of_a_trace_stand_further_in(stream) -> None:
    configure(LogSettings(), stream)
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("edge_app.x").exception("%s", EVIL)
    first, *trace = stream.getvalue().splitlines()
    assert " ERROR   x: a.mp4\\n" in first
    assert all(line.startswith("    ") and line.isprintable() for line in trace)
    assert "ValueError" in "".join(trace)


def test_json_is_one_object_a_line(stream) -> None:
    configure(LogSettings(format="json"), stream)
    logging.getLogger("edge_app.x").warning("%s", EVIL, extra={"topic": EVIL})
    (line,) = stream.getvalue().split("\n")[:-1]
    assert json.loads(line)["topic"] == EVIL


def test_an_error_knows_its_lines() -> None:
    error = ConfigurationError(["one", EVIL], EVIL)
    assert len(error.lines) == 3
    assert all(one_line(line).isprintable() for line in error.lines)
    assert one_line("ähnlich → 30 %") == "ähnlich → 30 %"
