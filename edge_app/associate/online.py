"""The association: finished tracklets in, facts out. Pure: the same code runs live, in replay and in the simulation.

One step admits the tracklets that finished, weighs who may have been whom, solves the small assignments, and says what
has become decidable (`decide.py`). Cost per step: O(A · N) for A arrivals and N open tracklets of the node (two float
comparisons each; only those on linked cameras and inside the gate are scored), plus the assignments of the components
that are still open. Nothing grows with the age of the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_app.associate import links
from edge_app.associate.decide import decide
from edge_app.associate.draft import Draft, Site
from edge_app.associate.facts import Fact
from edge_app.associate.gallery import Gallery
from edge_app.associate.settings import LinkSettings
from edge_app.associate.state import Node, State
from edge_app.types import Tracklet

DECIDE_EVERY_S = 0.5  # without arrivals only time changes, and nobody needs an answer sooner


def step(
    state: State, arrivals: Iterable[Tracklet], now: float, watermarks: Mapping[str, float], site: Site
) -> tuple[State, list[Fact]]:
    """Admit what finished, decide what has become decidable, forget what can no longer matter.

    Args:
        state: what the last step returned; `State()` at first.
        arrivals: tracklets that finished since then, in any order; one that is already known is ignored.
        now: capture time in seconds, never smaller than in the last step.
        watermarks: by camera, the capture time up to which all its finished tracklets have been delivered; `now` for a
            camera that is not named.
        site: links, settings, ids.

    Returns:
        The new state and the facts that became decidable, in order.
    """
    arrivals = sorted(arrivals, key=lambda t: (t.exit_time_s, t.camera, t.entry_time_s, t.id))
    if not arrivals and 0 <= now - state.decided_at_s < DECIDE_EVERY_S:
        return state, []
    draft = Draft(
        site=site,
        now=now,
        watermarks=watermarks,
        nodes=dict(state.nodes),
        gallery=Gallery(site.settings, dict(state.gallery), dict(state.cameras), dict(state.calibrations)),
        links={link.id: state.links.get(link.id) or links.new_link(link) for link in site.links},
        identities=state.identities if state.boot == site.boot else 0,
        children={node.parent: node.id for node in state.nodes.values() if node.parent is not None},
    )
    for tracklet in arrivals:
        if tracklet.id not in draft.nodes:
            _admit(draft, tracklet)
    decide(draft)
    _retire(draft)
    return draft.state(), draft.facts


def _admit(draft: Draft, tracklet: Tracklet) -> None:
    """Make a node of a tracklet, with an edge to everybody it may have been and from everybody it may become."""
    node = Node(
        id=tracklet.id,
        camera=tracklet.camera,
        class_name=tracklet.class_name,
        entry_time_s=tracklet.entry_time_s,
        exit_time_s=tracklet.exit_time_s,
        embedding_version=tracklet.embedding_version,
        embeddings=tracklet.embeddings,
        arrived_at_s=draft.now,
    )
    draft.gallery.see(node)
    into = {link.from_camera: link for link in draft.site.into.get(node.camera, ())}
    out_of = {link.to_camera: link for link in draft.site.out_of.get(node.camera, ())}
    draft.nodes[node.id] = node
    for other in list(draft.nodes.values()):
        if other.camera in into:
            link = into[other.camera]
            if _within(link, node.entry_time_s - other.exit_time_s) and _still_open(draft, other):
                _consider(draft, link, other, node)
            elif _at_once(other, node) and len(other.embeddings) and len(node.embeddings):
                draft.gallery.learn(other.camera, node.camera, draft.gallery.similarity(other, node), genuine=0.0)
        if other.camera in out_of and _within(out_of[other.camera], other.entry_time_s - node.exit_time_s):
            _consider(draft, out_of[other.camera], node, other)


def _consider(draft: Draft, link: LinkSettings, from_: Node, to: Node) -> None:
    """Keep `from_` as a candidate for `to`, unless it is hopeless: then the pair teaches what impostors look like."""
    edge = draft.gallery.edge(link, from_, to)
    if edge is None:
        return
    if draft.is_hopeless(edge, to):
        draft.gallery.learn(from_.camera, to.camera, edge.similarity, genuine=0.0)
        return
    to = draft.nodes[to.id]
    draft.nodes[to.id] = replace(to, edges=(*to.edges, edge))


def _within(link: LinkSettings, transit_s: float) -> bool:
    return link.transit.min_s <= transit_s <= link.transit.max_s


def _at_once(left: Node, right: Node) -> bool:
    """Both were in view of two cameras at the same time: they cannot be one vehicle."""
    return left.entry_time_s < right.exit_time_s and right.entry_time_s < left.exit_time_s


def _still_open(draft: Draft, node: Node) -> bool:
    """Nobody continues it yet, or not for good."""
    child = draft.nodes.get(draft.children.get(node.id, ""))
    return child is None or not draft.is_final(child)


def _retire(draft: Draft) -> None:
    """Forget nodes that are decided for good and can no longer be continued; their outcome teaches the links."""
    for node in list(draft.nodes.values()):
        if not draft.is_final(node):
            continue
        child = draft.nodes.get(draft.children.get(node.id, ""))
        out_links = draft.site.out_of.get(node.camera, ())
        longest = max((link.transit.max_s for link in out_links), default=0.0) + draft.site.settings.max_wait_s
        if child is not None and not draft.is_final(child):
            continue
        if child is None and draft.now <= node.exit_time_s + longest:
            continue
        for link in out_links:
            draft.links[link.id] = links.learn_share(draft.links[link.id], min(node.onward.get(link.id, 0.0), 1.0))
        if child is None:
            draft.gallery.identities.pop(node.global_id, None)
        del draft.nodes[node.id]
