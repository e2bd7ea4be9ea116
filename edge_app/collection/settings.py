"""What an owner may say about crops that are kept for training: whether, how many, of whom, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edge_app.settings import FilePath, Settings


class CollectionSettings(Settings):
    """Crops kept for the trainer. Off unless asked for: nothing leaves the pictures that nobody wants."""

    enabled: bool = False
    """Keep crops of passages in the spool, from where they are uploaded."""
    folder: FilePath = Path("state/spool")
    """The spool. Its folder is made when it is missing, for its owner alone."""
    persons: Literal["never", "blur", "keep"] = "never"
    """`never`: no crop in which the detector found a person, however weakly. `blur`: persons in crops of vehicles are
    made unrecognisable. `keep`: crops of persons are kept too. Only a detector that knows the class `person` can
    tell. Riders are persons: where two-wheelers matter, `never` keeps hardly a crop of them."""
    daily_bytes: int = Field(default=200_000_000, ge=1_000_000)
    """Crops kept in any 24 hours, controls among them."""
    crops_per_passage: int = Field(default=4, ge=1, le=64)
    """Crops kept of a passage that is no control: the best, then those that look different."""
    control_share: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the passages that are drawn by lot, kept whole and never trained on: models are judged by them."""
    control_bytes_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of `daily_bytes` that belongs to them alone."""
    jpeg_quality: int = Field(default=90, ge=30, le=100)
    """Of the crops, as JPEG counts it."""
    hold_s: float = Field(default=600.0, gt=0)
    """A passage that the association has not decided for so long is kept as undecided."""
    hold_bytes: int = Field(default=64_000_000, ge=1_000_000)
    """Memory for crops of passages that are not decided."""
    shard_bytes: int = Field(default=16_000_000, ge=100_000, le=500_000_000)
    """A shard of this size is closed, and can be uploaded."""
    shard_s: float = Field(default=900.0, gt=0)
    """So is one of this age."""
    spool_bytes: int = Field(default=2_000_000_000, ge=1_000_000)
    """Above this the oldest shards are given up, counted, and the count is published."""
    retention_days: float = Field(default=7.0, gt=0, le=3650)
    """Shards that could not be uploaded for so long are given up in the same way."""
    keep_free_bytes: int = Field(default=500_000_000, ge=0)
    """Space on the disk that crops leave to facts: below it shards are given up, and no crops are kept."""

    @model_validator(mode="after")
    def _room_for_shards(self) -> CollectionSettings:
        if self.spool_bytes < 4 * self.shard_bytes:
            raise ValueError(
                f"spool_bytes: expected room for at least four shards of {self.shard_bytes} bytes (shard_bytes), "
                f"got {self.spool_bytes}"
            )
        return self
