"""One camera of the site, as the configuration describes it."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from pydantic import AwareDatetime, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from edge_app.errors import SourceError, SourceRefusedError
from edge_app.settings import Name, Polygon, Settings, Variable, ZoneName, beside

Seconds = Annotated[float, Field(gt=0, le=3600)]

SCHEMES = ("file", "rtsp", "rtsps", "sim", "gst", "csi")
LIVE_SCHEMES = ("rtsp", "rtsps", "gst", "csi")

# Recordings without a `start_time` all begin here: replay is the same on every machine, two clips of one scene stay
# aligned, and nobody takes the times for real ones. A file's modification time would change with every copy.
RECORDING_START = datetime(2000, 1, 1, tzinfo=timezone.utc)

REFUSED_LOGIN = "the camera refuses user name or password; check `username` and the variable named by `password_env`"
REFUSED_USER = "the camera does not let this user see the stream"
NO_SUCH_STREAM = "the camera answers, but has no stream of this path"

CSI_DEFAULTS = {"width": 1920, "height": 1080, "fps": 30, "flip": 0}

_CREDENTIALS = re.compile(r"://[^/?#\s@]*@")


class CameraSettings(Settings):
    """One camera or recording."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a rejected address may hold a password

    id: Name
    """Name of the camera in every message: up to 32 letters, digits and single - or _ between them."""
    source: str = Field(min_length=1)
    """A file, rtsp://…, rtsps://…, sim://…, gst://<GStreamer pipeline> or csi://<sensor>?width=…&height=…&fps=…"""
    fps: float | None = Field(default=None, gt=0, le=240)
    """Frames per second to work on, picked by capture time; empty takes every frame."""
    start_time: AwareDatetime | None = None
    """Capture time of a recording's first frame, with its time zone; empty means 2000-01-01T00:00:00Z, or now for a
    recording that plays beside live cameras."""
    username: str | None = Field(default=None, min_length=1)
    """User name at an RTSP camera."""
    password_env: Variable | None = None
    """Name of the environment variable with the RTSP password; the password itself never stands in a file."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How an RTSP camera sends its packets."""
    decoder: Literal["auto", "software", "nvdec"] = "auto"
    """Who decodes RTSP: the processor, Jetson's NVDEC through GStreamer, or auto: NVDEC where this is a Jetson."""
    open_timeout_s: Seconds = 4.0
    """How long a camera may take to answer when it is opened."""
    read_timeout_s: Seconds = 4.0
    """A connected camera that sends nothing for this long is closed and opened again."""
    stall_after_s: Seconds = 3.0
    """A connected camera without a new frame for this long is reported as stalled."""
    frozen_after_s: Seconds | None = 4.0
    """A live camera whose picture does not change at all for this long is reported as stalled; empty: never."""
    area: Polygon | None = None
    """The part of the picture that counts, as a polygon in fractions: leave out what is too far to be recognised."""
    zones: dict[ZoneName, Polygon] = Field(default_factory=dict)
    """Named polygons in fractions of width and height, where vehicles enter and leave."""

    @field_validator("source")
    @classmethod
    def _known_scheme(cls, source: str) -> str:
        if _CREDENTIALS.search(source):
            raise ValueError(
                "expected an address without user name and password; "
                "put the name into `username` and name the password's environment variable in `password_env`"
            )
        scheme = _scheme(source)
        if scheme not in SCHEMES:
            raise ValueError(f"expected a file or one of {', '.join(SCHEMES[1:])}://…, not {scheme}://")
        if scheme in ("rtsp", "rtsps") and not urlsplit(source).hostname:
            raise ValueError("expected rtsp://host[:port]/path, the host is missing")
        if scheme == "csi":
            csi_numbers(source)
        return source

    @field_validator("source")
    @classmethod
    def _beside_the_file(cls, source: str, info: ValidationInfo) -> str:
        plain_path = _scheme(source) == "file" and not source.lower().startswith("file://")
        return str(beside(Path(source), info)) if plain_path and (info.context or {}).get("folder") else source

    @model_validator(mode="after")
    def _consistent(self) -> CameraSettings:
        rtsp = self.scheme in ("rtsp", "rtsps")
        if self.password_env is not None and self.username is None:
            raise ValueError("`password_env` is set but `username` is not")
        if self.username is not None and not rtsp:
            raise ValueError(f"`username` is for rtsp cameras, this source is {self.scheme}")
        if self.decoder == "nvdec" and not rtsp:
            raise ValueError("`decoder: nvdec` is for rtsp cameras; a gst:// pipeline names its own decoder")
        if self.start_time is not None and self.scheme != "file":
            raise ValueError(f"`start_time` is for recordings, this source is {self.scheme}")
        if self.fps is not None and self.scheme == "sim":
            raise ValueError("`fps` of a simulated camera stands in its address: sim://…?fps=10")
        return self

    @property
    def scheme(self) -> str:
        return _scheme(self.source)

    @property
    def is_live(self) -> bool:
        """A live camera is opened again when it fails; a recording ends."""
        return self.scheme in LIVE_SCHEMES

    @property
    def start_time_s(self) -> float:
        """Capture time of a recording's first frame, seconds since the epoch."""
        return (self.start_time or RECORDING_START).timestamp()

    @property
    def wants_nvdec(self) -> bool:
        on_jetson = Path("/etc/nv_tegra_release").exists()
        return self.decoder == "nvdec" or (self.decoder == "auto" and on_jetson)

    def failure(self, what: str) -> SourceError:
        """A SourceError that names the camera and its address, which never holds a password."""
        return SourceError(f"camera {self.id} ({self.source}): {what}")

    def refusal(self, what: str, login: bool = False) -> SourceRefusedError:
        """A SourceRefusedError in the same words; `login`: it refuses who asks."""
        return SourceRefusedError(f"camera {self.id} ({self.source}): refused: {what}", login)

    def password(self) -> str | None:
        """The password from the environment; SourceError when its variable is not set."""
        if self.password_env is None:
            return None
        if self.password_env not in os.environ:
            raise self.refusal(f"the environment variable {self.password_env} (`password_env`) is not set")
        return os.environ[self.password_env]

    def address(self) -> str:
        """The RTSP address with user name and password: for the library that connects, never for a message."""
        if self.username is None:
            return self.source
        parts = urlsplit(self.source)
        login = quote(self.username, safe="") + ":" + quote(self.password() or "", safe="")
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def _scheme(source: str) -> str:
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return match.group(1).lower() if match else "file"


def csi_numbers(source: str) -> dict[str, int]:
    """`sensor`, `width`, `height`, `fps` and `flip` of a csi:// address. ValueError when it is not one."""
    parts = urlsplit(source)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    numbers = {**CSI_DEFAULTS, **{key: int(value) if value.isdigit() else -1 for key, value in given.items()}}
    if set(numbers) != set(CSI_DEFAULTS) or min(numbers.values()) < 0 or not parts.netloc.isdigit():
        raise ValueError("expected csi://<sensor number>?width=1920&height=1080&fps=30&flip=0, whole numbers")
    return {"sensor": int(parts.netloc), **numbers}


def file_path(settings: CameraSettings) -> Path:
    """Where a recording lies: a plain path as it stands, or file://… with %20 for a space and so on."""
    stands = re.sub(r"^file://(localhost(?=/))?", "", settings.source, flags=re.IGNORECASE)
    literal = Path(stands).expanduser()
    if stands == settings.source:
        return literal
    meant = Path(unquote(stands)).expanduser()
    return literal if literal.exists() and not meant.exists() else meant  # file:// before a path as it stands
