"""What a step of the association works with: the rules, which do not change, and a draft of the state, which does.

The log odds that `to` continues `from` against both being alone are, in the terms of multi-target tracking,

    log  share · f(Δt) · C · p(similarity | same)  -  log  rate_of_new · p(similarity | different) · open

share        probability that a vehicle of its class leaving the first camera takes this link
f(Δt)        transit density of the link, 1/s
C            probability that it is called what it is called there, see `classes`
rate_of_new  vehicles per second, of the class it has there, that enter the second camera from nowhere we watch
open         probability that `from` is still on its way or gone elsewhere: while it is large, a better continuation may
             still come, so the odds rise by themselves as time passes without one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from edge_app.associate import classes
from edge_app.associate import links as transit_links
from edge_app.associate.facts import Fact
from edge_app.associate.gallery import Gallery
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.associate.state import Edge, LinkModel, Passage, State

LEAST_OPEN = 0.02  # however long ago it left, a vehicle may have parked
HOPELESS = -1.0  # log odds, at their best, of a candidate not worth keeping


@dataclass(frozen=True)
class Rules:
    """What does not change between two steps."""

    node: str
    boot: str
    links: tuple[LinkSettings, ...]
    settings: AssociateSettings
    new_event_id: Callable[[float, str], str]  # capture time in seconds, content → UUIDv7, the same for the same input

    @cached_property
    def by_id(self) -> dict[str, LinkSettings]:
        return {link.id: link for link in self.links}

    @cached_property
    def into(self) -> dict[str, tuple[LinkSettings, ...]]:
        return {to: tuple(x for x in self.links if x.to_camera == to) for to in {x.to_camera for x in self.links}}

    @cached_property
    def out_of(self) -> dict[str, tuple[LinkSettings, ...]]:
        return {of: tuple(x for x in self.links if x.from_camera == of) for of in {x.from_camera for x in self.links}}


@dataclass
class Draft:
    """One step's working copy of the state; the state it came from is left as it was."""

    rules: Rules
    now: float
    watermarks: Mapping[str, float]
    passages: dict[str, Passage]
    gallery: Gallery
    links: dict[str, LinkModel]
    identities: int
    children: dict[str, str]  # tracklet id → the tracklet that was decided to continue it
    facts: list[Fact] = field(default_factory=list)
    transits: dict[str, transit_links.Transit] = field(default_factory=dict)
    log_open: dict[str, float] = field(default_factory=dict)  # by tracklet id

    def transit(self, link_id: str) -> transit_links.Transit:
        if link_id not in self.transits:
            self.transits[link_id] = transit_links.transit(self.rules.by_id[link_id], self.links[link_id])
        return self.transits[link_id]

    def share(self, link: LinkSettings, class_name: str) -> float:
        ways = len(self.rules.out_of[link.from_camera])
        return transit_links.share_taken(link, self.links[link.id], ways, class_name)

    def log_odds(self, edge: Edge, to: Passage) -> float:
        """Log odds of one candidate against both being alone; see the module."""
        return self._log_odds_when_closed(edge, to) - self._log_open(self.passages[edge.from_])

    def is_hopeless(self, edge: Edge, to: Passage) -> bool:
        """Not even time could make this candidate probable."""
        return self._log_odds_when_closed(edge, to) - math.log(LEAST_OPEN) < HOPELESS

    def _log_odds_when_closed(self, edge: Edge, to: Passage) -> float:
        left_as, confusion = self.passages[edge.from_].class_name, self.links[edge.link].confusion
        log_share = math.log(self.share(self.rules.by_id[edge.link], left_as))
        log_class = classes.log_confusion(self.rules.settings, confusion, left_as, to.class_name)
        log_newcomer = math.log(transit_links.rate_of_new(self.gallery.cameras[to.camera], to.class_name))
        log_transit = self.transit(edge.link).log_density(edge.transit_s)
        return log_share + log_transit + log_class + edge.appearance - log_newcomer

    def _log_open(self, from_: Passage) -> float:
        """Log of `open`: one minus the share of its ways that it should have arrived on by now."""
        if from_.id not in self.log_open:
            arrived = sum(
                self.share(link, from_.class_name)
                * self.transit(link.id).arrived_by(self.seen_until(link.to_camera) - from_.exit_time_s)
                for link in self.rules.out_of[from_.camera]
            )
            self.log_open[from_.id] = math.log(max(1.0 - arrived, LEAST_OPEN))
        return self.log_open[from_.id]

    def seen_until(self, camera: str) -> float:
        """Every tracklet that left `camera` before this capture time has been delivered."""
        return self.watermarks.get(camera, self.now)

    def new_identity(self) -> str:
        self.identities += 1
        return f"{self.rules.node}-{self.rules.boot}-{self.identities}"

    def is_final(self, passage: Passage) -> bool:
        """Its decision can no longer be revised."""
        horizon_s = self.rules.settings.revision_horizon_s
        return passage.decided != "pending" and self.now - passage.decided_at_s > horizon_s

    def state(self) -> State:
        return State(
            passages=self.passages,
            gallery=self.gallery.identities,
            links=self.links,
            cameras=self.gallery.cameras,
            means=self.gallery.means,
            calibrations=self.gallery.calibrations,
            versions=self.gallery.versions,
            identities=self.identities,
            boot=self.rules.boot,
            decided_at_s=self.now,
        )
