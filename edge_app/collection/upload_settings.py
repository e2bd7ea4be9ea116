"""Where shards go, when, how fast, and how patiently."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from edge_app.collection.pacing import Hours, zone_of
from edge_app.contract.objects import ObjectStoreSettings
from edge_app.settings import FilePath, Settings


class UploadSettings(Settings):
    """Shards of the spool on their way to the trainer's store."""

    store: ObjectStoreSettings
    """The store that this site's trainer reads. Every node writes below `{site}/crops/{node}/` only."""
    hours: tuple[str, ...] = Field(default=(), max_length=24)
    """When shards may be sent, as `["22:00-05:30"]` in `time_zone`; always when empty. What was begun is ended."""
    time_zone: str = Field(default="UTC", max_length=64)
    """Of `hours`, as `Europe/Berlin`."""
    bytes_per_s: float | None = Field(default=None, ge=1000)
    """Most that a transfer takes of the line; as much as there is when absent."""
    away_min_s: float = Field(default=2.0, gt=0)
    """Pause after the store was not reached; it doubles with each further time."""
    away_max_s: float = Field(default=300.0, gt=0)
    """Longest pause before the store is tried again."""
    refused_min_s: float = Field(default=60.0, gt=0)
    """Pause after the store refused this node (keys, rights, bucket); it doubles each time, so no key is locked."""
    refused_max_s: float = Field(default=3600.0, gt=0)
    """Longest pause after a refusal."""
    audit: FilePath = Path("state/uploads.jsonl")
    """Every upload, one JSON object a line; readable by its owner alone."""
    audit_bytes: int = Field(default=10_000_000, ge=10_000)
    """At this size the audit log moves to `….1`, which replaces the one before."""

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for each in hours:
            Hours.parse(each)
        return hours

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        zone_of(name)
        return name
