"""What a step of the association works with: the site, which does not change, and a draft of the state, which does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from edge_app.associate import links as transit_links
from edge_app.associate.facts import Fact
from edge_app.associate.gallery import Gallery
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.associate.state import LinkModel, Node, State


@dataclass(frozen=True)
class Site:
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

    site: Site
    now: float
    watermarks: Mapping[str, float]
    nodes: dict[str, Node]
    gallery: Gallery
    links: dict[str, LinkModel]
    identities: int
    children: dict[str, str]  # tracklet id → the tracklet that was decided to continue it
    facts: list[Fact] = field(default_factory=list)
    transits: dict[str, transit_links.Transit] = field(default_factory=dict)

    def transit(self, link_id: str) -> transit_links.Transit:
        if link_id not in self.transits:
            self.transits[link_id] = transit_links.transit(self.site.by_id[link_id], self.links[link_id])
        return self.transits[link_id]

    def share(self, link: LinkSettings) -> float:
        return transit_links.share_taken(link, self.links[link.id], len(self.site.out_of[link.from_camera]))

    def seen_until(self, camera: str) -> float:
        """Every tracklet that left `camera` before this capture time has been delivered."""
        return self.watermarks.get(camera, self.now)

    def new_identity(self) -> str:
        self.identities += 1
        return f"{self.site.node}-{self.site.boot}-{self.identities}"

    def is_final(self, node: Node) -> bool:
        """Its decision can no longer be revised."""
        horizon_s = self.site.settings.revision_horizon_s
        return node.decided != "pending" and self.now - node.decided_at_s > horizon_s

    def state(self) -> State:
        return State(
            nodes=self.nodes,
            gallery=self.gallery.identities,
            links=self.links,
            cameras=self.gallery.cameras,
            calibrations=self.gallery.calibrations,
            identities=self.identities,
            boot=self.site.boot,
        )
