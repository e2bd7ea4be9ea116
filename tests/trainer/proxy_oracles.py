"""CAP and O2CAP once more, one crop and one proxy at a time, and random problems to compare on. No line is shared."""

from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """A batch and its proxies, float64."""

    features: Tensor  # (B, D) unit rows
    labels: Tensor  # (B,) proxy of each crop
    rows: Tensor  # (M, D) unit rows
    clusters: Tensor  # (M,)
    cameras: Tensor  # (M,) from 0 without gaps

    @property
    def logits(self) -> Tensor:
        return self.features @ self.rows.T / 0.07


def random_problem(seed: int, clusters: int = 8, cameras: int = 4, batch: int = 12, dimension: int = 6) -> Problem:
    """Every cluster is seen by some of the cameras; a camera may be seen by no cluster at all."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(clusters, cameras, generator=generator) < 0.6
    seen[torch.arange(clusters), torch.randint(cameras, (clusters,), generator=generator)] = True
    cluster, camera = seen.nonzero(as_tuple=True)
    camera = camera.unique(return_inverse=True)[1]
    centres = torch.randn(clusters, dimension, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(cluster), dimension, generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.normalize(centres[cluster] + 0.7 * noise, dim=1)
    labels = torch.randint(len(cluster), (batch,), generator=generator)
    noise = torch.randn(batch, dimension, generator=generator, dtype=torch.float64)
    return Problem(torch.nn.functional.normalize(rows[labels] + 0.2 * noise, dim=1), labels, rows, cluster, camera)


def nce(scores: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    """−1/|P| Σ log( exp(s[p]) / Σ over P and Q ) of one crop."""
    total = torch.zeros((), dtype=scores.dtype)
    for proxy in [*positives, *negatives]:
        total = total + torch.exp(scores[proxy])
    return -sum(torch.log(torch.exp(scores[proxy]) / total) for proxy in positives) / len(positives)


def hardest(ranking: list[float], left_out: list[int], count: int) -> list[int]:
    """Q: the largest first."""
    others = [proxy for proxy in range(len(ranking)) if proxy not in left_out]
    return sorted(others, key=lambda proxy: -ranking[proxy])[:count]


def offline_sets(problem: Problem, crop: int, count: int) -> tuple[list[int], list[int]]:
    cluster = problem.clusters[problem.labels[crop]]
    positives = [proxy for proxy in range(len(problem.rows)) if problem.clusters[proxy] == cluster]
    return positives, hardest(problem.logits[crop].tolist(), positives, count)


def blend_of(problem: Problem, crop: int, weight: float) -> list[float]:
    """b of one crop, as cosines."""
    own = problem.rows[problem.labels[crop]]
    feature = problem.features[crop]
    return [float(weight * (row @ feature) + (1 - weight) * (row @ own)) for row in problem.rows]


def online_sets(
    problem: Problem, crop: int, count: int, *, weight: float = 0.15, k_pos: int = 3, exclude_siblings: bool = False
) -> tuple[list[int], list[int]]:
    blend = blend_of(problem, crop, weight)
    best = []
    for camera in sorted(set(problem.cameras.tolist())):
        members = [proxy for proxy in range(len(blend)) if problem.cameras[proxy] == camera]
        best.append(max(members, key=lambda proxy: blend[proxy]))
    positives = sorted(best, key=lambda proxy: -blend[proxy])[:k_pos]
    left_out = positives + (offline_sets(problem, crop, 0)[0] if exclude_siblings else [])
    return positives, hardest(blend, left_out, count)


def intra(problem: Problem, crop: int) -> Tensor:
    own = int(problem.labels[crop])
    same = [proxy for proxy in range(len(problem.rows)) if problem.cameras[proxy] == problem.cameras[own]]
    return nce(problem.logits[crop], [own], [proxy for proxy in same if proxy != own])


def over_cameras(losses: list[Tensor], cameras: list[int]) -> Tensor:
    """Σ over cameras of the mean over the camera's crops."""
    total = torch.zeros((), dtype=torch.float64)
    for camera in set(cameras):
        own = [loss for loss, other in zip(losses, cameras, strict=True) if other == camera]
        total = total + sum(own) / len(own)
    return total
