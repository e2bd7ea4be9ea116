"""What one step of the pipeline adds to the node's health."""

from __future__ import annotations

from collections.abc import Mapping

from edge_app.associate.facts import Match
from edge_app.health.health import Health
from edge_app.pipeline import Step


def count_step(health: Health, step: Step, losses: Mapping[str, int]) -> None:
    """`losses`: what perception gave up since the last step, by name."""
    health.processed(frame.camera for frame in step.frames)
    for stage, seconds in step.seconds.items():
        if seconds:
            health.took(stage, seconds)
    for name, n in losses.items():
        health.count(name, n)
    if step.tracklets or step.facts:
        health.count("tracklets", len(step.tracklets))
    for fact in step.facts:
        health.count(f"{fact.state}_matches" if isinstance(fact, Match) else type(fact).__name__.lower())
        if isinstance(fact, Match) and fact.state == "confirmed":
            health.count(f"waited_for_{fact.waited_for}")
