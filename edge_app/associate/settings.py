"""What an installer may say about links and decisions. Every number has a sound default except where links go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edge_app.settings import Settings

PREFERENCES = {"recall": 0.35, "balance": 0.5, "precision": 0.85}
Cost = Annotated[float, Field(gt=0, lt=1)]


class TransitSettings(Settings):
    """What is known beforehand of the time from leaving one camera to entering the next."""

    min_s: float = Field(gt=0)
    """Nobody is faster."""
    typical_s: float | None = Field(default=None, gt=0)
    """Half of the vehicles are faster; the geometric mean of both limits when not given."""
    max_s: float = Field(gt=0)
    """A vehicle that takes longer is not looked for."""

    @model_validator(mode="after")
    def _ordered(self) -> TransitSettings:
        if not self.min_s <= self.median_s <= self.max_s or self.min_s == self.max_s:
            raise ValueError(f"expected min_s ≤ typical_s ≤ max_s, got {self.min_s}, {self.median_s}, {self.max_s}")
        return self

    @property
    def median_s(self) -> float:
        return self.typical_s if self.typical_s is not None else float((self.min_s * self.max_s) ** 0.5)


class LinkSettings(Settings):
    """A directed way from one camera to another that passes no third camera."""

    from_camera: str
    """Camera that the vehicle leaves."""
    to_camera: str
    """Camera that it enters next."""
    transit: TransitSettings
    """How long that takes."""
    share: float | None = Field(default=None, gt=0, lt=1)
    """Share of the vehicles leaving `from_camera` that take this link; learned from an even split when not given."""

    @property
    def id(self) -> str:
        return f"{self.from_camera}--{self.to_camera}"


class SimilarityPrior(Settings):
    """Cosine similarities that the embedder gives before this site has taught us better."""

    genuine_mean: float = 0.75
    """Mean similarity of two tracklets of one vehicle on two cameras."""
    genuine_std: float = Field(default=0.15, gt=0)
    """Its standard deviation."""
    impostor_mean: float = 0.30
    """Mean similarity of tracklets of two vehicles."""
    impostor_std: float = Field(default=0.22, gt=0)
    """Its standard deviation."""
    observations: float = Field(default=4.0, gt=0)
    """Pairs of tracklets this prior is worth. Raise it where it was measured for this embedder and the site cannot
    teach better: few tracklets, or the same few objects again and again."""


class AssociateSettings(Settings):
    """When a match is called a match."""

    confirm_posterior: float = Field(default=0.97, gt=0.5, lt=1)
    """A match this probable is confirmed at once, when no unfinished track can still be a better candidate. It buys
    earliness only: which matches there are is said by `prefer`."""
    prefer: Literal["recall", "balance", "precision"] | Cost = "balance"
    """What an error costs: at the deadline a match is confirmed when it is at least this probable. `recall` is 0.35,
    `balance` 0.5, `precision` 0.85; a number is cost of a wrong match / (cost of a wrong + cost of a missed one)."""
    provisional_posterior: float = Field(default=0.50, gt=0, lt=1)
    """A candidate this probable is published as provisional while the decision waits."""
    revise_margin: float = Field(default=4.0, gt=0)
    """Log odds by which later evidence must beat a confirmed decision to revise it, in nats."""
    slack_s: float = Field(default=2.0, ge=0)
    """Waiting time beyond a link's 99th percentile before a decision falls."""
    max_wait_s: float = Field(default=60.0, gt=0)
    """No decision waits longer than this after the tracklet's entry."""
    revision_horizon_s: float = Field(default=60.0, ge=0)
    """A decision older than this is final."""
    class_groups: tuple[tuple[str, ...], ...] = ()
    """Classes that the detector is expected to confuse now and then; others hardly ever, until the site's own matches
    say otherwise. Empty: all classes but `person` are one group."""
    similarity: SimilarityPrior = SimilarityPrior()
    """Where the calibration starts."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "accept_posterior" in raw:
            raise ValueError("accept_posterior is now called prefer: recall, balance, precision, or a number below 1")
        return raw

    @property
    def accept_posterior(self) -> float:
        """From this probability on a match costs less than none does."""
        return PREFERENCES[self.prefer] if isinstance(self.prefer, str) else self.prefer
