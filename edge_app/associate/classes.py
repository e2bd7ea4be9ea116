"""What a class says: how often it comes, and what one object is called at the next camera.

A detector errs: the truck of one camera is the bus of the next. How often is learned from each link's own matches,

    C(k' | k) = (n_kk' + κ · C⁰(k' | k)) / (n_k + κ), at least FLOOR      n by posterior, decayed

so a camera that takes lorries for buses costs little, and one that never errs tells strangers apart. C⁰ is what a
detector does before the site has taught better: classes of one group are mistaken for each other now and then, others
hardly ever, and none never.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edge_app.associate.settings import AssociateSettings
from edge_app.types import PERSON

CONSTANT = 0.9  # C⁰ of the same class
CONFUSED = 0.05  # C⁰ of another class of the same group
FLOOR = 0.005
WORTH = 10.0  # κ, matches that C⁰ is worth
DECAY = 0.995  # per match: the memory of a link's mistakes is two hundred vehicles

Confusion = Mapping[str, Mapping[str, float]]  # class where it left → class where it entered → expected matches


def alike(settings: AssociateSettings, left: str, right: str) -> bool:
    """A detector may be expected to take one of these classes for the other."""
    if left == right:
        return True
    if settings.class_groups:
        return any(left in group and right in group for group in settings.class_groups)
    return PERSON not in (left, right)


def log_confusion(settings: AssociateSettings, learned: Confusion, left: str, right: str) -> float:
    """log C(right | left), nats, for an object that was `left` when it left and is `right` where it entered."""
    seen = learned.get(left, {})
    prior = CONSTANT if left == right else CONFUSED if alike(settings, left, right) else FLOOR
    return math.log(max((seen.get(right, 0.0) + WORTH * prior) / (sum(seen.values()) + WORTH), FLOOR))


def learn_confusion(
    learned: dict[str, dict[str, float]], left: str, right: str, genuine: float
) -> dict[str, dict[str, float]]:
    """One decided pair that is one object with probability `genuine`."""
    seen = {name: count * DECAY**genuine for name, count in learned.get(left, {}).items()}
    seen[right] = seen.get(right, 0.0) + genuine
    return {**learned, left: seen}
