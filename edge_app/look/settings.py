"""Where a running node shows what its cameras see."""

from __future__ import annotations

from pydantic import Field

from edge_app.settings import Settings


class LookSettings(Settings):
    """A page of what the cameras see, made when somebody asks for it."""

    port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port of the page; 0 takes a free one. None: there is no page."""
    address: str = "127.0.0.1"
    """Address to listen on. Whoever can reach it sees pictures of the cameras: on another one than this machine's own
    let a proxy ask for a password."""
    seconds: float = Field(default=15.0, ge=1, le=300)
    """How long the cameras are looked at for one page; `?seconds=60` asks for another time."""
