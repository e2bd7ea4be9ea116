"""Logging to stderr, as text for people or as one JSON object a line for machines. Called once, by the application."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal, TextIO

from edge_app.contract.envelope import rfc3339
from edge_app.errors import one_line
from edge_app.settings import Settings

STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LogSettings(Settings):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important messages that are shown."""
    format: Literal["text", "json"] = "text"
    """`json` writes one object a line."""


class JsonLines(logging.Formatter):
    """Fields passed as `extra=` become fields of the object."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        fields.update({name: value for name, value in record.__dict__.items() if name not in STANDARD_FIELDS})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


class PlainText(logging.Formatter):
    """`2026-01-31T12:00:00.250Z WARNING publish: …`: one line a record, whatever the text holds; the lines of a trace
    stand further in."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{rfc3339(record.created)} {record.levelname:7} {record.name.removeprefix('edge_app.')}: "
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([one_line(head + record.getMessage()), *(f"    {one_line(line)}" for line in trace)])


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Replaces whatever was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else PlainText())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
