"""What the evidence says of every undecided tracklet: its best partner, and everybody's probability."""

from __future__ import annotations

import numpy as np

from edge_app.associate import assign
from edge_app.associate.draft import Draft
from edge_app.associate.state import Edge, Passage

NEWS_S = 5.0


class Verdict:
    """What the assignment says of one row: its partner in the best assignment, and everybody's probability."""

    __slots__ = ("edges", "nobody", "partner", "probabilities")

    def __init__(self, partner: Edge | None, edges: list[Edge], probabilities: list[float], nobody: float) -> None:
        self.partner = partner
        self.edges = edges
        self.probabilities = probabilities
        self.nobody = nobody

    def posterior(self, edge: Edge | None) -> float:
        return self.nobody if edge is None else self.probabilities[self.edges.index(edge)]

    def runner_up(self) -> tuple[str | None, float]:
        """The best alternative to the partner: its tracklet id, None for "no match", and its probability."""
        others = [(p, e.from_) for e, p in zip(self.edges, self.probabilities, strict=True) if e is not self.partner]
        if self.partner is not None:
            others.append((self.nobody, ""))
        probability, name = max(others, default=(0.0, ""))
        return name or None, probability

    def margin(self) -> float:
        """Log odds of the partner against the best alternative, nats."""
        return float(np.log(max(self.posterior(self.partner), 1e-12) / max(self.runner_up()[1], 1e-12)))


def weigh(draft: Draft, rows: list[Passage]) -> dict[str, Verdict]:
    """Best assignment and marginals of every component in which something happened lately."""
    edges = {passage.id: [e for e in passage.edges if _available(draft, e, passage)] for passage in rows}
    settings = draft.rules.settings
    threshold = min(settings.accept_posterior, settings.provisional_posterior)  # what may be said at all
    verdicts = {passage.id: Verdict(None, [], [], 1.0) for passage in rows if not edges[passage.id]}
    pairs = [(row, edge.from_) for row, candidates in edges.items() for edge in candidates]
    for names, columns in assign.components(pairs):
        if not any(_is_news(draft, draft.passages[name]) for name in (*names, *columns)):
            continue
        column_of = {name: index for index, name in enumerate(columns)}
        log_odds = np.full((len(names), len(columns)), -np.inf)
        sticky = np.zeros_like(log_odds)  # what is decided is held to be more probable than it is
        for i, name in enumerate(names):
            passage = draft.passages[name]
            for edge in edges[name]:
                log_odds[i, column_of[edge.from_]] = draft.log_odds(edge, passage)
            if passage.decided == "matched" and passage.parent in column_of:
                sticky[i, column_of[passage.parent]] = settings.revise_margin
            elif passage.decided == "unmatched":
                sticky[i] = -settings.revise_margin
        probabilities, nobody = assign.marginals(log_odds)
        held, _ = assign.marginals(log_odds + sticky) if sticky.any() else (probabilities, nobody)
        partners = assign.cheapest(held, threshold)
        for i, name in enumerate(names):
            chosen = columns[partners[i]] if partners[i] >= 0 else None
            verdicts[name] = Verdict(
                next((e for e in edges[name] if e.from_ == chosen), None),
                edges[name],
                [float(probabilities[i, column_of[e.from_]]) for e in edges[name]],
                float(nobody[i]),
            )
    return verdicts


def _is_news(draft: Draft, passage: Passage) -> bool:
    """Undecided, or decided so lately that the others have not had time to take notice."""
    return passage.decided == "pending" or draft.now - passage.decided_at_s <= NEWS_S


def _available(draft: Draft, edge: Edge, passage: Passage) -> bool:
    """The earlier tracklet is still in memory, and nobody else continues it for good."""
    if edge.from_ not in draft.passages or edge.link not in draft.links:
        return False
    child = draft.passages.get(draft.children.get(edge.from_, passage.id))
    return child is None or child.id == passage.id or not draft.is_final(child)
