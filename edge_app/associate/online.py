"""The association: finished tracklets in, facts out. Pure: the same code runs live, in replay and in the simulation.

One step admits the tracklets that finished, weighs who may have been whom, solves the small assignments, and says what
has become decidable (`decide.py`). Cost per step: O(A · N) for A arrivals and N open passages of the node (two float
comparisons each; only those on linked cameras and inside the gate are scored, and `STRANGERS` others), plus the
assignments of the components that are still open. Nothing grows with the age of the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_app.associate import links
from edge_app.associate.decide import decide
from edge_app.associate.draft import Draft, Rules
from edge_app.associate.facts import Fact, Place
from edge_app.associate.gallery import Gallery
from edge_app.associate.settings import LinkSettings
from edge_app.associate.state import Passage, State
from edge_app.types import Tracklet

STRANGERS = 8  # pairs that each arrival teaches by which cannot be one vehicle
DECIDE_EVERY_S = 0.5  # without arrivals only time changes, and nobody needs an answer sooner


def step(
    state: State, arrivals: Iterable[Tracklet], now: float, watermarks: Mapping[str, float], rules: Rules
) -> tuple[State, list[Fact]]:
    """Admit what finished, decide what has become decidable, forget what can no longer matter.

    Args:
        state: what the last step returned; `State()` at first.
        arrivals: tracklets that finished since then, in any order; one that is already known is ignored.
        now: capture time in seconds, never smaller than in the last step.
        watermarks: by camera, the capture time up to which all its finished tracklets have been delivered; `now` for a
            camera that is not named.
        rules: links, settings, ids.

    Returns:
        The new state and the facts that became decidable, in order.
    """
    arrivals = sorted(arrivals, key=lambda t: (t.exit_time_s, t.camera, t.entry_time_s, t.id))
    if not arrivals and 0 <= now - state.decided_at_s < DECIDE_EVERY_S:
        return state, []
    draft = Draft(
        rules=rules,
        now=now,
        watermarks=watermarks,
        passages=dict(state.passages),
        gallery=_gallery(state, rules),
        links={link.id: state.links.get(link.id) or links.new_link(link) for link in rules.links},
        identities=state.identities if state.boot == rules.boot else 0,
        children={passage.parent: passage.id for passage in state.passages.values() if passage.parent is not None},
    )
    for tracklet in arrivals:
        if tracklet.id not in draft.passages:
            _admit(draft, tracklet)
    decide(draft)
    _retire(draft)
    draft.gallery.forget_versions()
    return draft.state(), draft.facts


def _gallery(state: State, rules: Rules) -> Gallery:
    return Gallery(
        settings=rules.settings,
        identities=dict(state.gallery),
        cameras=dict(state.cameras),
        means=dict(state.means),
        calibrations=dict(state.calibrations),
        versions=dict(state.versions),
    )


def _admit(draft: Draft, tracklet: Tracklet) -> None:
    """Make a passage of a tracklet, with an edge to everybody it may have been and from everybody it may become."""
    passage = Passage(
        id=tracklet.id,
        camera=tracklet.camera,
        class_name=tracklet.class_name,
        entry_time_s=tracklet.entry_time_s,
        exit_time_s=tracklet.exit_time_s,
        embedding_version=tracklet.embedding_version,
        embeddings=tracklet.embeddings,
        arrived_at_s=draft.now,
        place=_place(tracklet),
    )
    draft.gallery.see(passage, draft.now)
    into = {link.from_camera: link for link in draft.rules.into.get(passage.camera, ())}
    out_of = {link.to_camera: link for link in draft.rules.out_of.get(passage.camera, ())}
    draft.passages[passage.id] = passage
    strangers: list[tuple[Passage, Passage]] = []
    for other in list(draft.passages.values()):
        if other.camera in into:
            link = into[other.camera]
            if _within(link, passage.entry_time_s - other.exit_time_s) and _still_open(draft, other):
                _consider(draft, link, other, passage)
            elif not _within(link, passage.entry_time_s - other.exit_time_s):
                strangers.append((other, passage))
        if other.camera in out_of:
            if _within(out_of[other.camera], other.entry_time_s - passage.exit_time_s):
                _consider(draft, out_of[other.camera], passage, other)
            else:
                strangers.append((passage, other))
    _learn_strangers(draft, strangers)


def _learn_strangers(draft: Draft, pairs: list[tuple[Passage, Passage]]) -> None:
    """Who cannot have been whom by time teaches what two vehicles of one class look like on these cameras: the latest
    few of such pairs, since they are far more than the candidates."""
    alike = [(from_, to) for from_, to in pairs if from_.class_name == to.class_name]
    for from_, to in alike[-STRANGERS:]:
        similarity = draft.gallery.similarity(from_, to)
        if similarity is not None:
            draft.gallery.learn(from_, to, similarity, genuine=0.0)


def _place(tracklet: Tracklet) -> Place | None:
    if len(tracklet.path_boxes) == 0:
        return None
    first, last = tracklet.path_boxes[0].tolist(), tracklet.path_boxes[-1].tolist()
    return Place(tracklet.entry_zone, tracklet.exit_zone, tuple(first), tuple(last), *tracklet.frame_px)


def _consider(draft: Draft, link: LinkSettings, from_: Passage, to: Passage) -> None:
    """Keep `from_` as a candidate for `to`, unless it is hopeless: then the pair teaches what impostors look like."""
    edge = draft.gallery.edge(link, from_, to)
    if edge is None:
        return
    if draft.is_hopeless(edge, to):
        draft.gallery.learn(from_, to, edge.similarity, genuine=0.0)
        return
    to = draft.passages[to.id]
    draft.passages[to.id] = replace(to, edges=(*to.edges, edge))


def _within(link: LinkSettings, transit_s: float) -> bool:
    return link.transit.min_s <= transit_s <= link.transit.max_s


def _still_open(draft: Draft, passage: Passage) -> bool:
    """Nobody continues it yet, or not for good."""
    child = draft.passages.get(draft.children.get(passage.id, ""))
    return child is None or not draft.is_final(child)


def _retire(draft: Draft) -> None:
    """Forget passages that are decided for good and can no longer be continued; their outcome teaches the links."""
    for passage in list(draft.passages.values()):
        if not draft.is_final(passage):
            continue
        child = draft.passages.get(draft.children.get(passage.id, ""))
        out_links = draft.rules.out_of.get(passage.camera, ())
        longest = max((link.transit.max_s for link in out_links), default=0.0) + draft.rules.settings.max_wait_s
        if child is not None and not draft.is_final(child):
            continue
        if child is None and draft.now <= passage.exit_time_s + longest:
            continue
        for link in out_links if len(passage.embeddings) else ():  # else nobody could have continued it
            draft.links[link.id] = links.learn_share(
                draft.links[link.id], min(passage.onward.get(link.id, 0.0), 1.0), passage.class_name
            )
        if child is None:
            draft.gallery.identities.pop(passage.global_id, None)
        del draft.passages[passage.id]
