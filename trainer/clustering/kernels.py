"""The inner loops of the Jaccard distance and DBSCAN, compiled with numba; `jaccard.py` and `dbscan.py` explain them.

All release the interpreter lock and handle the rows first..last, so that plain threads can share the work. Sparse
rows are (starts (N + 1,) int64, columns (nnz,) int32, values (nnz,) float32); a kernel returns (sizes (last - first,)
int64, columns, values) of the rows it made.

Columns ascend in every row of V and sums are float32 in that order, as in the public dense code: with k2 = 6 two
crops that share 4 of their 6 neighbours lie at exactly d = 0.5, which sums in another order make 0.5 ± 1e-7:
`jaccard.inclusive` keeps them together.
"""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def mutual(neighbours, mask, first, last):
    """mask[i, c] = "i is among the first `width` neighbours of its c-th neighbour", width = mask.shape[1]."""
    width = mask.shape[1]
    for i in range(first, last):
        for c in range(width):
            j = neighbours[i, c]
            found = False
            for e in range(width):
                if neighbours[j, e] == i:
                    found = True
                    break
            mask[i, c] = found


@njit(nogil=True, cache=True, fastmath=True)
def _dot(a, b):
    total = np.float32(0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@njit(nogil=True, cache=True)
def _room(array, used, extra):
    """The array, or a copy twice as long (or more) when `extra` entries do not fit behind the `used` ones."""
    if used + extra <= len(array):
        return array
    longer = np.empty(max(2 * len(array), used + extra), array.dtype)
    longer[:used] = array[:used]
    return longer


@njit(nogil=True, cache=True)
def _expanded_set(lists, i, in_a, in_e, members):
    """Write E_i into `members` and return its size. `in_a`, `in_e` (N,) hold i + 1 where a crop is in A_i, E_i."""
    neighbours, full_mask, half_mask = lists
    size, stamp = 0, i + 1
    for c in range(neighbours.shape[1]):
        if full_mask[i, c]:
            j = neighbours[i, c]
            in_a[j], in_e[j], members[size] = stamp, stamp, j
            size += 1
    for a in range(size):  # size grows below; this range is fixed, so only A_i is expanded
        j = members[a]
        count, shared = 0, 0
        for c in range(half_mask.shape[1]):
            if half_mask[j, c]:
                count += 1
                if in_a[neighbours[j, c]] == stamp:
                    shared += 1
        if 3 * shared <= 2 * count:
            continue
        for c in range(half_mask.shape[1]):
            member = neighbours[j, c]
            if half_mask[j, c] and in_e[member] != stamp:
                in_e[member], members[size] = stamp, member
                size += 1
    return size


@njit(nogil=True, cache=True)
def expanded_sets(lists, features, scales, first, last):
    """Columns E_i, ascending, and in place of values the exponents -scales[i]·(2 - 2 f_i·f_j).

    `lists`: the neighbour lists (N, k) int32 and the masks that `mutual` made of them for R(i, k1) and the half sets.
    """
    neighbours, _, half_mask = lists
    count, k = neighbours.shape
    in_a, in_e = np.zeros(count, np.int32), np.zeros(count, np.int32)
    members = np.empty(k * (half_mask.shape[1] + 1), np.int32)
    sizes = np.empty(last - first, np.int64)
    columns, exponents = np.empty((last - first) * k, np.int32), np.empty((last - first) * k, np.float32)
    used = 0
    for i in range(first, last):
        size = _expanded_set(lists, i, in_a, in_e, members)
        members[:size].sort()
        columns, exponents = _room(columns, used, size), _room(exponents, used, size)
        for e in range(size):
            squared = np.float32(2) - np.float32(2) * _dot(features[i], features[members[e]])
            columns[used + e], exponents[used + e] = members[e], -scales[i] * squared
        sizes[i - first] = size
        used += size
    return sizes, columns[:used].copy(), exponents[:used].copy()


@njit(nogil=True, cache=True)
def average(v, neighbours, first, last):
    """Rows i: mean of the sparse rows r ∈ neighbours[i] of `v`."""
    starts, columns, values = v
    count = len(starts) - 1
    k = np.float32(neighbours.shape[1])
    sums, touched = np.zeros(count, np.float32), np.empty(count, np.int32)
    sizes = np.empty(last - first, np.int64)
    guess = 2 * (starts[last] - starts[first]) + 1
    made_columns, made_values = np.empty(guess, np.int32), np.empty(guess, np.float32)
    used = 0
    for i in range(first, last):
        size = 0
        for r in neighbours[i]:
            for e in range(starts[r], starts[r + 1]):
                j = columns[e]
                if sums[j] == 0:
                    touched[size] = j
                    size += 1
                sums[j] += values[e]
        touched[:size].sort()
        made_columns, made_values = _room(made_columns, used, size), _room(made_values, used, size)
        for e in range(size):
            j = touched[e]
            made_columns[used + e], made_values[used + e] = j, sums[j] / k
            sums[j] = 0
        sizes[i - first] = size
        used += size
    return sizes, made_columns[:used].copy(), made_values[:used].copy()


@njit(nogil=True, cache=True)
def invert(starts, columns, values):
    """The transpose: for each column the rows that hold it, ascending, and their values."""
    list_starts = np.zeros(len(starts), np.int64)
    for j in columns:
        list_starts[j + 1] += 1
    list_starts = np.cumsum(list_starts)
    ends = list_starts[:-1].copy()
    rows, weights = np.empty(len(columns), np.int32), np.empty(len(columns), np.float32)
    for i in range(len(starts) - 1):
        for e in range(starts[i], starts[i + 1]):
            place = ends[columns[e]]
            rows[place], weights[place] = i, values[e]
            ends[columns[e]] = place + 1
    return list_starts, rows, weights


@njit(nogil=True, cache=True)
def overlaps(v, lists, reach, first, last):
    """Rows i of the half graph: every j < i with d(i, j) ≤ reach, and d. `v`: V as sparse rows; `lists`: V inverted."""
    starts, columns, values = v
    list_starts, rows, weights = lists
    sums, touched = np.zeros(len(starts) - 1, np.float32), np.empty(len(starts) - 1, np.int32)
    sizes = np.empty(last - first, np.int64)
    guess = 16 * (last - first)
    made_columns, made_values = np.empty(guess, np.int32), np.empty(guess, np.float32)
    used = 0
    for i in range(first, last):
        size = 0
        for e in range(starts[i], starts[i + 1]):
            own = values[e]
            for place in range(list_starts[columns[e]], list_starts[columns[e] + 1]):
                j = rows[place]
                if j >= i:
                    break
                if sums[j] == 0:
                    touched[size] = j
                    size += 1
                sums[j] += min(own, weights[place])
        made_columns, made_values = _room(made_columns, used, size), _room(made_values, used, size)
        begin = used
        for t in range(size):
            j = touched[t]
            shared = sums[j]
            sums[j] = 0
            distance = max(np.float32(0), np.float32(1) - shared / (np.float32(2) - shared))
            if distance <= reach:
                made_columns[used], made_values[used] = j, distance
                used += 1
        sizes[i - first] = used - begin
    return sizes, made_columns[:used].copy(), made_values[:used].copy()


@njit(nogil=True, cache=True)
def both_directions(starts, columns, values):
    """Sparse rows with every entry (i, j) also as (j, i); columns ascend in each row when they do not repeat."""
    count = len(starts) - 1
    full_starts = np.zeros(count + 1, np.int64)
    for i in range(count):
        full_starts[i + 1] += starts[i + 1] - starts[i]
        for e in range(starts[i], starts[i + 1]):
            full_starts[columns[e] + 1] += 1
    full_starts = np.cumsum(full_starts)
    ends = full_starts[:-1].copy()
    full_columns, full_values = np.empty(2 * len(columns), np.int32), np.empty(2 * len(columns), np.float32)
    for i in range(count):
        # all larger partners of i come from later rows, so sorting i's own smaller ones keeps the whole row ascending
        order = np.argsort(columns[starts[i] : starts[i + 1]])
        for o in order:
            e = starts[i] + o
            j = columns[e]
            full_columns[ends[i]], full_values[ends[i]] = j, values[e]
            ends[i] += 1
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            full_columns[ends[j]], full_values[ends[j]] = i, values[e]
            ends[j] += 1
    return full_starts, full_columns, full_values


@njit(nogil=True, cache=True)
def overlaps_with(dense, starts, columns, values, first):
    """(B, N - first) float32: Σ_l min(dense[b, l], V[j, l]) for all sparse rows j ≥ first; dense is (B, N) float32."""
    count = len(starts) - 1
    shared = np.zeros((len(dense), count - first), np.float32)
    for b in range(len(dense)):
        for j in range(first, count):
            total = np.float32(0)
            for e in range(starts[j], starts[j + 1]):
                total += min(dense[b, columns[e]], values[e])
            shared[b, j - first] = total
    return shared
