"""What has become decidable: confirm, wait, unmatched, revise."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from edge_app.associate import links
from edge_app.associate.classes import learn_confusion
from edge_app.associate.draft import Draft
from edge_app.associate.facts import Came, EffectiveLink, End, Match, Revision, Unmatched, WaitedFor
from edge_app.associate.state import Edge, Passage
from edge_app.associate.weigh import Verdict, weigh

NEGLIGIBLE = 0.02  # a candidate less probable than this is not waited for
COUNTS = 0.002  # a candidate less probable than this is counted nowhere
FORGOTTEN = 0.001  # a candidate less probable than this when the decision falls is not kept for revisions


def decide(draft: Draft) -> None:
    """Solve every open component and act on it; earlier entries first, since later ones may continue them."""
    rows = [passage for passage in draft.passages.values() if not draft.is_final(passage)]
    verdicts = weigh(draft, rows)
    for passage in sorted(rows, key=_order):
        if passage.decided != "pending" and passage.id in verdicts:
            _reconsider(draft, passage, verdicts[passage.id])
    for passage in sorted(rows, key=_order):
        if passage.decided == "pending":
            _conclude(draft, draft.passages[passage.id], verdicts[passage.id])


def _order(passage: Passage) -> tuple[float, str, float, str]:
    """By entry. Ids come last: they name the boot, and a restart must not change the order."""
    return passage.entry_time_s, passage.camera, passage.exit_time_s, passage.id


def _conclude(draft: Draft, passage: Passage, verdict: Verdict) -> None:
    """A pending tracklet: confirm, say provisionally, wait, or give up."""
    settings = draft.rules.settings
    partner = verdict.partner
    if partner is not None and partner.from_ in draft.children:
        partner = None  # somebody else continues it, and was not revised
    posterior = verdict.posterior(partner)
    complete = all(
        draft.seen_until(x.from_camera) >= passage.entry_time_s for x in draft.rules.into.get(passage.camera, ())
    )
    overdue = draft.now >= passage.entry_time_s + settings.max_wait_s
    settled = partner is None or draft.passages[partner.from_].decided != "pending"
    at_deadline = overdue or (complete and settled and draft.now >= _deadline(draft, passage, verdict))
    sure = posterior >= max(settings.confirm_posterior, settings.accept_posterior)
    if partner is not None and sure and complete and settled:
        _confirm(draft, passage, partner, verdict, _waited_for(passage))
    elif partner is None and sure and complete:
        _give_up(draft, passage, verdict)
    elif at_deadline and partner is not None and posterior >= settings.accept_posterior:
        _confirm(draft, passage, partner, verdict, "deadline")
    elif at_deadline:
        _give_up(draft, passage, verdict)
    else:
        passage = _wait(draft, passage, held_up=partner is not None and sure)
        if partner is not None and posterior >= settings.provisional_posterior and passage.provisional != partner.from_:
            _announce(draft, passage, partner, verdict)


def _wait(draft: Draft, passage: Passage, held_up: bool) -> Passage:
    """Remember whether only somebody open holds the decision up: the match will say so."""
    if held_up != passage.held_up:
        passage = draft.passages[passage.id] = replace(passage, held_up=held_up)
    return passage


def _waited_for(passage: Passage) -> WaitedFor:
    return "open_tracks" if passage.held_up else "evidence"


def _deadline(draft: Draft, passage: Passage, verdict: Verdict) -> float:
    """When the last worthwhile candidate can no longer be continued by somebody else: p99 of its links, plus slack."""
    last = passage.entry_time_s
    for edge, probability in zip(verdict.edges, verdict.probabilities, strict=True):
        if probability >= NEGLIGIBLE:
            from_ = draft.passages[edge.from_]
            for link in draft.rules.out_of[from_.camera]:
                last = max(last, from_.exit_time_s + draft.transit(link.id).p99_s)
    return last + draft.rules.settings.slack_s


def _announce(draft: Draft, passage: Passage, edge: Edge, verdict: Verdict) -> None:
    match = _match(draft, passage, edge, verdict, _waited_for(passage), state="provisional")
    draft.facts.append(match)
    draft.passages[passage.id] = replace(passage, event=match.event_id, provisional=edge.from_)


def _confirm(draft: Draft, passage: Passage, edge: Edge, verdict: Verdict, waited_for: WaitedFor) -> None:
    """`passage` continues `edge.from_` and takes over its global id."""
    match = _match(draft, passage, edge, verdict, waited_for)
    draft.facts.append(match)
    _settle(draft, passage, match.global_id, edge.from_, match.event_id)
    _learn(draft, passage, verdict)


def _learn(draft: Draft, passage: Passage, verdict: Verdict) -> None:
    """Every candidate of a tracklet just decided teaches by its posterior: online expectation maximisation.

    Learning from confirmed matches alone would feed back: what is doubtful is called unmatched, that raises the rate of
    newcomers and lowers the share of the link, which makes the next match doubtful.
    """
    for edge, probability in zip(verdict.edges, verdict.probabilities, strict=True):
        from_ = draft.passages[edge.from_]
        onward = {**from_.onward, edge.link: from_.onward.get(edge.link, 0.0) + probability}
        draft.passages[edge.from_] = replace(from_, onward=onward)
        draft.gallery.learn(from_, passage, edge.similarity, probability)
        link = draft.rules.by_id[edge.link]
        model = links.learn_transit(link, draft.links[edge.link], edge.transit_s, probability)
        confusion = learn_confusion(model.confusion, from_.class_name, passage.class_name, probability)
        draft.links[edge.link] = replace(model, confusion=confusion)
    kept = tuple(e for e, p in zip(verdict.edges, verdict.probabilities, strict=True) if p >= FORGOTTEN)
    draft.passages[passage.id] = replace(draft.passages[passage.id], edges=kept)
    if not len(passage.embeddings):
        return  # it could have continued nobody, and says nothing of how many of those that could are new
    camera = draft.gallery.cameras[passage.camera]
    draft.gallery.cameras[passage.camera] = links.learn_entry(
        camera, passage.entry_time_s, verdict.nobody, passage.class_name
    )


def _give_up(draft: Draft, passage: Passage, verdict: Verdict) -> None:
    """`passage` begins a new identity; a provisional fact about it is taken back."""
    global_id = passage.global_id or draft.new_identity()
    if passage.event is not None:
        reason = "no candidate was probable enough by the deadline"
        _revise(draft, "retract", (passage.event,), reason, (EffectiveLink(passage.id, None, global_id),))
    event = _event_id(draft, "unmatched", passage.id)
    delay = draft.now - passage.entry_time_s
    draft.facts.append(
        Unmatched(
            event, draft.now, global_id, _entry(passage), passage.class_name, verdict.nobody, delay, _came(verdict)
        )
    )
    _settle(draft, passage, global_id, None, event)
    _learn(draft, passage, verdict)


def _reconsider(draft: Draft, passage: Passage, verdict: Verdict) -> None:
    """A decided tracklet: revise it when the optimum has moved away by more than the margin, and clearly."""
    partner = verdict.partner
    parent = partner.from_ if partner is not None else None
    if parent == passage.parent or verdict.posterior(partner) < draft.rules.settings.confirm_posterior:
        return
    if parent is not None and (parent in draft.children or draft.passages[parent].decided == "pending"):
        return
    assert passage.event is not None  # a decided passage has the event that decided it
    draft.children.pop(passage.parent or "", None)
    draft.gallery.withdraw(passage)
    kind = "retract" if parent is None else ("split" if passage.decided == "matched" else "merge")
    global_id = draft.passages[parent].global_id if parent is not None else draft.new_identity()
    effective = (EffectiveLink(passage.id, parent, global_id), *_relabel(draft, passage.id, global_id))
    reason = (
        "later evidence makes another predecessor more probable" if parent else "later evidence leaves no predecessor"
    )
    revision = _revise(draft, kind, (passage.event,), reason, effective)
    if partner is None:
        _settle(draft, passage, global_id, None, revision.event_id)
    else:
        match = _match(draft, passage, partner, verdict, "evidence")
        draft.facts.append(match)
        _settle(draft, passage, global_id, parent, match.event_id)


def _relabel(draft: Draft, ancestor: str, global_id: str) -> list[EffectiveLink]:
    """Everything that continues `ancestor` follows it into another identity."""
    links_now = []
    parent, child = ancestor, draft.children.get(ancestor)
    while child is not None:
        passage = draft.passages[child]
        draft.gallery.withdraw(passage)
        draft.passages[child] = replace(passage, global_id=global_id)
        draft.gallery.enrol(draft.passages[child])
        links_now.append(EffectiveLink(child, parent, global_id))
        parent, child = child, draft.children.get(child)
    return links_now


def _settle(draft: Draft, passage: Passage, global_id: str, parent: str | None, event: str) -> None:
    """Write a decision down: passage, gallery, children."""
    passage = replace(
        passage,
        decided="unmatched" if parent is None else "matched",
        decided_at_s=draft.now,
        global_id=global_id,
        parent=parent,
        event=event,
        provisional=None,
        held_up=False,
    )
    draft.passages[passage.id] = passage
    draft.gallery.enrol(passage)
    if parent is not None:
        draft.children[parent] = passage.id


def _match(
    draft: Draft,
    passage: Passage,
    edge: Edge,
    verdict: Verdict,
    waited_for: WaitedFor,
    *,
    state: Literal["provisional", "confirmed"] = "confirmed",
) -> Match:
    from_ = draft.passages[edge.from_]
    if not from_.global_id:
        from_ = replace(from_, global_id=draft.new_identity())
        draft.passages[from_.id] = from_
    return Match(
        event_id=_event_id(draft, state, passage.id, edge.from_),
        observed_at_s=draft.now,
        state=state,
        global_id=from_.global_id,
        link=edge.link,
        from_=End(from_.camera, from_.id, from_.exit_time_s, from_.entry_time_s, from_.place),
        to=_entry(passage),
        class_name=passage.class_name,
        transit_s=edge.transit_s,
        posterior=verdict.posterior(edge),
        margin=verdict.margin(),
        runner_up=verdict.runner_up()[0],
        decision_delay_s=draft.now - passage.entry_time_s,
        supersedes=passage.event,
        embedding_version=passage.embedding_version,
        waited_for=waited_for,
        similarity=edge.similarity,
        came=_came(verdict),
    )


def _came(verdict: Verdict) -> Came:
    """Everybody who is worth counting."""
    pairs = zip(verdict.edges, verdict.probabilities, strict=True)
    return tuple((edge.from_, round(p, 4)) for edge, p in pairs if p >= COUNTS)


def _entry(passage: Passage) -> End:
    return End(passage.camera, passage.id, passage.entry_time_s, passage.exit_time_s, passage.place)


def _revise(
    draft: Draft, kind: str, revises: tuple[str, ...], reason: str, effective: tuple[EffectiveLink, ...]
) -> Revision:
    event = _event_id(draft, kind, *revises)
    revision = Revision(event, draft.now, kind, revises, reason, effective)  # type: ignore[arg-type]
    draft.facts.append(revision)
    return revision


def _event_id(draft: Draft, *content: str) -> str:
    return draft.rules.new_event_id(draft.now, "|".join((draft.rules.node, *content)))
