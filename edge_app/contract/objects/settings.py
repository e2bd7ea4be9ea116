"""Where the site's store of objects is, and how to prove who asks. A key never stands in a file, only its variable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from edge_app.contract.yaml import FilePath, beside

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


class ObjectStoreSettings(BaseModel):
    """One store for a whole company or city: each site has a prefix of its own in it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        hide_input_in_errors=True,  # somebody may have written a password into the address
    )

    url: str = Field(min_length=1, max_length=1000)
    """A folder that is there already, or `s3://bucket/prefix`. Other addresses that fsspec knows work as far as they
    do: they are untested, and keep no locks."""
    endpoint: str | None = Field(default=None, max_length=1000)
    """Address of an S3 server that is not Amazon's, as `https://storage.example.org:8333`."""
    region: str | None = Field(default=None, max_length=64)
    """Region of the bucket, where the server asks for one."""
    key_env: str | None = Field(default=None, pattern=_VARIABLE, max_length=128)
    """Environment variable that holds the access key's id; AWS's own variables, files and roles when absent."""
    secret_env: str | None = Field(default=None, pattern=_VARIABLE, max_length=128)
    """Environment variable that holds the secret key. The key itself never stands in a file."""
    profile: str | None = Field(default=None, max_length=128)
    """Profile in AWS's own credentials file, instead of variables."""
    ca: FilePath | None = None
    """Certificates (PEM) that may sign the server's; the system's when absent."""
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """How long to wait for a connection."""
    silent_s: float = Field(default=60.0, gt=0, le=3600)
    """The store is away when nothing moved for so long."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str, info: ValidationInfo) -> str:
        """A folder becomes an absolute path, relative to the settings file."""
        if "://" not in url:
            return str(beside(Path(url), info))
        if url.startswith("file://"):
            return str(beside(Path(url.removeprefix("file://")), info))
        parts = urlsplit(url)
        if parts.password or (parts.scheme == "s3" and "@" in parts.netloc):
            raise ValueError("holds a password; name environment variables in key_env and secret_env instead")
        if parts.scheme == "s3" and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w-][\w.-]*)*/?", url):
            raise ValueError("expected s3://bucket/prefix: small letters, digits, dots and - in the bucket's name")
        return url.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _a_server(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/@\s]+/?", endpoint):
            raise ValueError("expected https://host:port, without a path or a password")
        return endpoint

    @model_validator(mode="after")
    def _together(self) -> ObjectStoreSettings:
        if (self.key_env is None) != (self.secret_env is None):
            raise ValueError("key_env and secret_env belong together: give both or neither")
        if self.key_env and self.profile:
            raise ValueError("give key_env and secret_env, or profile, not both")
        only_s3 = ("endpoint", "region", "key_env", "profile", "ca")
        foreign = [name for name in only_s3 if getattr(self, name) is not None and not self.is_s3]
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: only an s3:// address uses that")
        return self

    @property
    def is_s3(self) -> bool:
        return self.url.startswith("s3://")

    @property
    def is_folder(self) -> bool:
        return "://" not in self.url

    def where(self) -> str:
        """For messages; holds no secret."""
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url


def settings_problems(settings: ObjectStoreSettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What can be wrong without asking the store, one line each."""
    problems = [
        f"{name}: environment variable {variable} is not set"
        for name in ("key_env", "secret_env")
        if (variable := getattr(settings, name)) and not environment.get(variable)
    ]
    if settings.ca is not None and not settings.ca.is_file():
        problems.append(f"ca: no file {settings.ca}")
    return problems
