"""Who can follow whom, and how long it takes.

A link's transit time has a density over logarithmic bins: a log-normal prior from the configuration, worth
`PRIOR_WEIGHT` transits, plus the decayed histogram of transits, each weighted by its posterior, plus a uniform floor,
so that neither a traffic jam nor a wrong guess can kill a link. Cost: O(BINS) per query, independent of the site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.associate.state import CameraModel, LinkModel

BINS = 48
PRIOR_WEIGHT = 2.0  # transits that the prior is worth: it is a guess, a few vehicles know better
FLOOR = 0.05  # probability mass spread evenly over [min_s, max_s]
DECAY = 0.99  # per confirmed transit: the memory of a link is about a hundred vehicles
SHARE_WEIGHT = 6.0  # exits that the prior share is worth
RATE_MEMORY_S = 1800.0
ONWARD = 0.6  # share of the vehicles leaving a camera that take any of its links, before anything is known
NEW_SHARE = (0.5, 6.0)  # share of a camera's tracklets that begin an identity, and the tracklets that guess is worth
CLASS_WORTH = 6.0  # entries of a class before it is believed to be another case than all classes together
NONE = (0.0, 0.0)
ARRIVALS = (0.05, 20.0)  # tracklets per second and camera, and the seconds that guess is worth


@dataclass(frozen=True)
class Grid:
    """The bins of one link and its prior."""

    edges: NDArray[np.float64]  # (BINS + 1,) seconds, log-spaced from min_s to max_s
    widths: NDArray[np.float64]  # (BINS,) seconds
    prior: NDArray[np.float64]  # (BINS,) sums to one
    even: NDArray[np.float64]  # (BINS,) sums to one; the same density everywhere


@lru_cache(maxsize=1024)
def grid(transit: TransitSettings) -> Grid:
    """The bins and the log-normal prior: median `typical_s`, both limits about two standard deviations away."""
    edges = np.geomspace(transit.min_s, transit.max_s, BINS + 1)
    centres = np.log(np.sqrt(edges[:-1] * edges[1:]))
    median = np.log(transit.median_s)
    below = max(median - np.log(transit.min_s), 0.1) / 2
    above = max(np.log(transit.max_s) - median, 0.1) / 2
    sigma = np.where(centres < median, below, above)
    prior = np.exp(-0.5 * ((centres - median) / sigma) ** 2)
    widths = np.diff(edges)
    return Grid(edges, widths, prior / prior.sum(), widths / widths.sum())


def new_link(link: LinkSettings) -> LinkModel:
    return LinkModel(link.id, np.zeros(BINS), 0.0, 0.0)


@dataclass(frozen=True)
class Transit:
    """The transit time distribution of one link as it is believed now."""

    edges: NDArray[np.float64]  # (BINS + 1,) seconds
    log_densities: NDArray[np.float64]  # (BINS,) log of 1/s
    cumulative: NDArray[np.float64]  # (BINS + 1,) from 0 to 1
    p99_s: float  # the 99th percentile of what is usual: without the floor, which would make everybody wait for nobody

    def log_density(self, transit_s: float) -> float:
        """Log probability density in 1/s; -inf outside [min_s, max_s]: the gate of the candidates."""
        if not self.edges[0] <= transit_s <= self.edges[-1]:
            return -np.inf
        place = math.log(transit_s / self.edges[0]) / math.log(self.edges[-1] / self.edges[0]) * BINS
        return float(self.log_densities[min(int(place), BINS - 1)])

    def arrived_by(self, elapsed_s: float) -> float:
        """Probability that a vehicle on this link has arrived `elapsed_s` after leaving."""
        return float(np.interp(elapsed_s, self.edges, self.cumulative))


def transit(link: LinkSettings, model: LinkModel) -> Transit:
    """Prior, confirmed transits and floor as one distribution."""
    bins = grid(link.transit)
    learned = (model.counts + PRIOR_WEIGHT * bins.prior) / (model.counts.sum() + PRIOR_WEIGHT)
    masses = (1 - FLOOR) * learned + FLOOR * bins.even
    p99_s = float(np.interp(0.99, np.cumsum(learned), bins.edges[1:]))
    return Transit(bins.edges, np.log(masses / bins.widths), np.concatenate([[0.0], np.cumsum(masses)]), p99_s)


def share_taken(link: LinkSettings, model: LinkModel, out_links: int, class_name: str) -> float:
    """Probability that a vehicle of a class leaving `from_camera` takes this link, in (0, 1)."""
    prior = link.share if link.share is not None else ONWARD / max(out_links, 1)
    of_all = (model.taken + SHARE_WEIGHT * prior) / (model.exits + SHARE_WEIGHT)
    taken, exits = model.by_class.get(class_name, NONE)
    return (taken + SHARE_WEIGHT * of_all) / (exits + SHARE_WEIGHT)


def learn_transit(link: LinkSettings, model: LinkModel, transit_s: float, weight: float) -> LinkModel:
    """One transit that is true with probability `weight`, spread over the neighbouring bins: a few draw a curve."""
    bins = grid(link.transit)
    centres = np.log(np.sqrt(bins.edges[:-1] * bins.edges[1:]))
    kernel = np.exp(-0.5 * ((centres - np.log(transit_s)) / 0.08) ** 2)
    kernel = kernel / kernel.sum() if kernel.sum() > 0 else bins.prior
    return replace(model, counts=model.counts * DECAY**weight + weight * kernel)


def learn_share(model: LinkModel, taken: float, class_name: str) -> LinkModel:
    """One exit of a class whose outcome is final: it took this link with probability `taken`."""
    taken_of, exits_of = model.by_class.get(class_name, NONE)
    return replace(
        model,
        taken=model.taken * DECAY + taken,
        exits=model.exits * DECAY + 1.0,
        by_class={**model.by_class, class_name: (taken_of * DECAY + taken, exits_of * DECAY + 1.0)},
    )


def rate_of_new(camera: CameraModel, class_name: str) -> float:
    """Vehicles of a class per second that enter this camera and were at no linked camera before, > 0.

    Both the share of a class among the entries and that of newcomers in it lean on what is true of all classes.
    """
    share, worth = NEW_SHARE
    new_share = (camera.new + share * worth) / (camera.entries + worth)
    rate, worth_s = ARRIVALS
    arrivals = (camera.entries + rate * worth_s) / (camera.watched_s + worth_s)
    entries, new = camera.by_class.get(class_name, NONE)
    of_class = (entries + CLASS_WORTH) / (camera.entries + CLASS_WORTH)
    return of_class * (new + CLASS_WORTH * new_share) / (entries + CLASS_WORTH) * arrivals


def learn_entry(camera: CameraModel, entry_time_s: float, is_new: float, class_name: str) -> CameraModel:
    """One decided tracklet of a class: `is_new` is the probability that it began an identity."""
    elapsed = max(entry_time_s - camera.until_s, 0.0) if camera.until_s is not None else 0.0
    fade = float(np.exp(-elapsed / RATE_MEMORY_S))
    by_class = {name: (entries * fade, new * fade) for name, (entries, new) in camera.by_class.items()}
    entries, new = by_class.get(class_name, NONE)
    return replace(
        camera,
        entries=camera.entries * fade + 1.0,
        new=camera.new * fade + is_new,
        watched_s=camera.watched_s * fade + elapsed,
        until_s=max(entry_time_s, camera.until_s or entry_time_s),
        by_class={**by_class, class_name: (entries + 1.0, new + is_new)},
    )
