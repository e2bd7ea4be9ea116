"""What every camera looks like to the rest of the application."""

from __future__ import annotations

from typing import Protocol

from edge_app.types import Frame


class Source(Protocol):
    """A camera or a recording: frames in capture order.

    `read` blocks until the next frame, returns None at the end of a recording, and raises `SourceError` when the
    camera cannot be opened or read; after an error the caller closes the source and may open a new one. The thread
    that reads also closes. A source that can meet damaged data counts what it leaves out in an attribute `losses`.
    """

    def read(self) -> Frame | None: ...

    def close(self) -> None: ...
