"""What a training changed in the clusters, as people can look at it: by passages, not by crops. Pure.

A passage belongs where most of its crops do. Passages that no cluster has (−1) are each alone, never together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import spread

Integers = NDArray[np.int64]
TRIED = 20  # passages of a cluster that a partner is looked for


def of_passages(labels: Integers, passages: Integers) -> Integers:
    """(P,) the label that most crops of each passage have; labels and passages (N,) of the crops, passages from 0."""
    found, best = np.full(passages.max(initial=-1) + 1, -1, np.int64), np.zeros(passages.max(initial=-1) + 1, np.int64)
    pairs, counts = np.unique(np.stack([passages, labels]), axis=1, return_counts=True)
    for (passage, label), count in zip(pairs.T, counts, strict=True):
        if count > best[passage]:
            found[passage], best[passage] = label, count
    return found


def pairs_within(*labels: Integers) -> int:
    """How many pairs of passages are together by all of these labels (P,)."""
    both = np.stack(labels)
    sizes = np.unique(both[:, (both >= 0).all(0)], axis=1, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def came_together(before: Integers, after: Integers, cameras: Integers, most: int) -> tuple[int, list[tuple[int, int]]]:
    """How many pairs are together after and were apart before, and at most so many of them: no two of one cluster, of
    two cameras where there are such. All (P,)."""
    count, found = pairs_within(after) - pairs_within(before, after), []
    for cluster in np.unique(after[after >= 0]):
        members = np.flatnonzero(after == cluster)
        pair = _apart(members, before, cameras)
        if pair is not None:
            found.append(pair)
    found.sort(key=lambda pair: cameras[pair[0]] == cameras[pair[1]])
    across = sum(cameras[a] != cameras[b] for a, b in found)
    chosen = found[:across] if across >= most else found
    return count, [chosen[row] for row in spread(len(chosen), most)]


def widest(labels: Integers, cameras: Integers, most: int) -> Integers:
    """The clusters of most cameras, larger ones first where they have equally many; labels and cameras (P,)."""
    there = labels >= 0
    pairs = np.unique(np.stack([labels[there], cameras[there]]), axis=1)
    sizes = np.bincount(labels[there], minlength=1)
    mix = np.bincount(pairs[0], minlength=len(sizes))
    order = np.lexsort((-sizes, -mix))
    return order[sizes[order] > 1][:most]


def said(labels: Integers, cameras: Integers) -> dict[str, str]:
    """Figures of a clustering of N crops, for people."""
    there = labels >= 0
    names, sizes = np.unique(labels[there], return_counts=True)
    pairs = np.unique(np.stack([labels[there], cameras[there]]), axis=1)[0]
    several = int((np.unique(pairs, return_counts=True)[1] > 1).sum())
    return {
        "groups": f"{len(names):,}",
        "of them seen by several cameras": f"{several / max(1, len(names)):.0%}",
        "crops in a group, in the middle": f"{np.median(sizes) if len(sizes) else 0:g}",
        "crops in no group": f"{1 - there.mean() if len(labels) else 1:.1%}",
    }


def _apart(members: Integers, before: Integers, cameras: Integers) -> tuple[int, int] | None:
    """Two of these that were apart, of two cameras where there are such."""
    fallback = None
    for one in members[spread(len(members), TRIED)]:
        apart = members[((before[members] != before[one]) | (before[members] < 0)) & (members != one)]
        others: Sequence[int] = apart[cameras[apart] != cameras[one]]
        if len(others):
            return int(one), int(others[0])
        if len(apart) and fallback is None:
            fallback = int(one), int(apart[0])
    return fallback
