"""The line cut into cells: intervals and points on which the density of one column is constant."""

from dataclasses import dataclass

import numpy as np

SHARED = 10  # rows that share a value before it may be drawn as such
MAX_CELLS_PER_CODE = 8  # finer steps of the density within one code
MAX_DECIMALS = 6  # of values that are taken for rounded
LATTICE_VALUES = 10  # distinct values that tell a common step beyond the decimals
TAIL = 2.0 ** np.arange(31) ** 2  # distances, in ranges of a column: they reach the largest floats


@dataclass(frozen=True)
class Cells:
    """A column's cells: M of them, points first, and the C codes that a network tells apart.

    A code is a set of cells with fixed shares. The cells that no training row fell in, between the
    values and beyond them, belong to no code: they have fixed masses, 1 / (n_rows + 1) together, so
    that a value never seen has a density, and are not drawn from.

    Attributes
    ----------
    points : ndarray of shape (n_points,)
        Values with a mass of their own, ascending.
    edges : ndarray of shape (M - n_points + 1,)
        Ends of the intervals, ascending.
    code : ndarray of int, shape (M,)
        The code of each cell; -1 for none.
    near : ndarray of int, shape (M,)
        The code of each cell, or the one beside it.
    log_density : ndarray of shape (M,)
        Log-density within a cell given its code; of a cell without code in itself.
    log_seen : float
        Log of the mass that all codes have together.
    share : ndarray of shape (M,)
        Mass of each cell given its code.
    mean : ndarray of shape (C,)
        Average training value of each code.
    mass : ndarray of shape (C,)
        Share of the training rows in each code.
    nominal : bool
        Whether the points are levels, which have no order and no mean.
    lattice : tuple of float, or None
        (origin, step, unit): values are (origin + step * whole number) / unit.
    """

    points: np.ndarray
    edges: np.ndarray
    code: np.ndarray
    near: np.ndarray
    log_density: np.ndarray
    log_seen: float
    share: np.ndarray
    mean: np.ndarray
    mass: np.ndarray
    lattice: tuple | None = None
    nominal: bool = False


def levels(codes, weight, n_levels):
    """Return the `Cells` of a column of codes 0 to n_levels - 1, NaN where missing: points alone."""
    seen = ~np.isnan(codes)
    weight = np.ones(len(codes)) if weight is None else weight
    mass = np.bincount(codes[seen].astype(int), weight[seen], minlength=n_levels)
    points = np.arange(n_levels, dtype=float)
    index = np.arange(n_levels)
    return Cells(
        points=points,
        edges=np.zeros(1),
        code=index,
        near=index,
        log_density=np.zeros(n_levels),
        log_seen=0.0,
        share=np.ones(n_levels),
        mean=points,
        mass=mass / max(mass.sum(), 1.0),
        nominal=True,
    )


def cut(values, weight, n_bins):
    """Return the `Cells` of a numeric column.

    A value that at least ten rows share, and more than an average code would hold, is a code of its
    own; the others are cut at their quantiles.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        NaN where missing.
    weight : ndarray of shape (n_rows,) or None
    n_bins : int
        Codes, about.
    """
    seen = ~np.isnan(values)
    value, inverse = np.unique(values[seen] + 0.0, return_inverse=True)
    count = np.bincount(inverse, None if weight is None else weight[seen]).astype(float)
    value, count = value[count > 0], count[count > 0]
    if len(value) == 0:
        return levels(np.zeros(0), None, 1)
    total = count.sum()
    least = max(SHARED, total / n_bins if len(value) > n_bins else 0.0)
    alone = (count >= least) | (len(value) == 1)
    lattice = find_lattice(value)
    code, fine = _group(count, alone, n_bins)
    mass = np.bincount(code, count)
    mean = np.clip(np.bincount(code, count * value) / mass, value[0], value[-1])
    is_point = alone if lattice is None or len(value) == 1 else np.zeros(len(value), dtype=bool)
    points = value[is_point]
    span = ~is_point
    ends, owner, share = _intervals(value[span], count[span], alone[span], code[span], fine[span], lattice)
    share = share / mass[owner]  # of -1 it is 0 in any case
    edges, owner, share = _fill_up(ends, owner, share, value[0], value[-1])
    edges, owner, share = _add_tails(edges, owner, share)
    seen, empty = owner >= 0, 1 / (total + 1)
    log_density = np.log(share) - np.log(np.diff(edges)) + np.where(seen, 0.0, np.log(empty))
    left = np.clip(np.searchsorted(value, edges[:-1], side="right") - 1, 0, len(value) - 1)
    alone_code = code[is_point]
    return Cells(
        points=points,
        edges=edges,
        code=np.concatenate((alone_code, owner)),
        near=np.concatenate((alone_code, np.where(seen, owner, code[left]))),
        log_density=np.concatenate((np.zeros(len(points)), log_density)),
        log_seen=float(np.log1p(-empty)),
        share=np.concatenate((np.ones(len(points)), np.where(seen, share, 0.0))),
        mean=mean,
        mass=mass / total,
        lattice=lattice,
    )


def find_lattice(value):
    """Return (origin, step, unit) of distinct values that are multiples of a decimal step, or None."""
    if np.abs(value).max() >= 2.0**53:
        return None
    single = bool((value == value.astype(np.float32)).all())
    eps = np.finfo(np.float32 if single else np.float64).eps
    for decimals in range(MAX_DECIMALS + 1):
        unit = 10.0**decimals
        whole = np.rint(value * unit)
        if np.abs(whole).max() >= 2.0**53:
            return None  # beyond what a float counts
        if (np.abs(whole / unit - value) <= 2 * eps * np.abs(value)).all():
            break
    else:
        return None
    step = 1
    if len(value) >= LATTICE_VALUES:
        step = int(np.gcd.reduce(np.diff(whole).astype(np.int64)))
    if step == 0:  # equal up to rounding
        return None
    return float(whole[0]), float(step), unit


def _group(count, alone, n_bins):
    """Return the code of each distinct value, and its finer group within the code."""
    code, fine = np.empty(len(count), dtype=int), np.zeros(len(count), dtype=int)
    code[alone] = np.arange(alone.sum())
    rest = np.where(alone, 0.0, count)
    amount = rest.sum()
    if amount == 0:
        return code, fine
    n_codes = max(1, min(max(n_bins - int(alone.sum()), n_bins // 4), int(amount // SHARED)))
    middle = (np.cumsum(rest) - rest / 2) / amount
    cut = np.minimum((middle * n_codes).astype(int), n_codes - 1)[~alone]
    cut = np.unique(cut, return_inverse=True)[1]
    code[~alone] = cut + alone.sum()
    per_code = np.bincount(cut, count[~alone])
    n_fine = np.clip(per_code // SHARED, 1, MAX_CELLS_PER_CODE)[cut]
    before = np.cumsum(per_code)[cut] - per_code[cut]
    within = (np.cumsum(rest)[~alone] - count[~alone] / 2 - before) / per_code[cut]
    fine[~alone] = np.clip((within * n_fine).astype(int), 0, n_fine - 1)
    return code, fine


def _intervals(value, count, alone, code, fine, lattice):
    """Return the ends of the intervals that hold the values, the code of each, -1 for none, and its rows."""
    if len(value) == 0:
        return np.zeros(0), np.zeros(0, dtype=int), np.zeros(0)
    new = (np.diff(code) != 0) | (np.diff(fine) != 0)
    start = np.r_[0, np.flatnonzero(new) + 1]
    last = np.r_[start[1:], len(value)] - 1
    rows, owner = np.add.reduceat(count, start), code[start]
    right, left = value[last[:-1]], value[start[1:]]  # of each border between two runs
    if lattice is None:
        spread = (value[-1] - value[0]) / (2 * len(value)) or 0.5 * max(abs(value[0]), 1.0)
        border = (right + left) / 2
        ends = np.r_[value[0] - spread, border, value[-1] + spread]
        return ends, owner, rows
    origin, step, unit = lattice
    whole = np.rint((value * unit - origin) / step)
    right, left = whole[last[:-1]] + 0.5, whole[start[1:]] - 0.5
    right_alone, left_alone = alone[last[:-1]], alone[start[1:]]
    middle = np.floor((right + left) / 2) + 0.5
    upper = np.where(right_alone, right, np.where(left_alone, left, middle))
    lower = np.where(left_alone, left, np.where(right_alone, right, middle))
    ends, owners, amounts = [whole[0] - 0.5], [], []
    for i in range(len(start)):
        owners.append(owner[i])
        amounts.append(rows[i])
        if i < len(upper):
            ends.append(upper[i])
            if lower[i] > upper[i]:  # nothing between two values
                owners.append(-1)
                amounts.append(0.0)
                ends.append(lower[i])
    ends.append(whole[-1] + 0.5)
    return (origin + step * np.array(ends)) / unit, np.array(owners), np.array(amounts)


def _fill_up(ends, owner, share, low, high):
    """Add what lies between the intervals and the outermost points."""
    if len(ends) == 0:
        ends = np.unique([low, high])
        return ends, np.full(len(ends) - 1, -1), np.zeros(len(ends) - 1)
    if low < ends[0]:
        ends, owner, share = np.r_[low, ends], np.r_[-1, owner], np.r_[0.0, share]
    if high > ends[-1]:
        ends, owner, share = np.r_[ends, high], np.r_[owner, -1], np.r_[share, 0.0]
    return ends, owner, share


def _add_tails(edges, owner, share):
    """Add intervals that grow outwards, and share out the mass of those that belong to no code.

    A quarter goes to each side, or half if there are no gaps: most of it next to the values.
    """
    low, high = edges[0], edges[-1]
    unit = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-12)
    largest = np.finfo(float).max
    with np.errstate(over="ignore"):
        below = np.unique(np.maximum(low - unit * TAIL, -largest))
        above = np.unique(np.minimum(high + unit * TAIL, largest))
    gaps = owner < 0
    sides = 0.25 if gaps.any() else 0.5
    falling = [sides * 0.5 ** np.arange(len(side)) for side in (below, above)]
    falling = [mass * sides / mass.sum() for mass in falling]
    mass = np.where(gaps, 0.5 / max(1, gaps.sum()), share)
    return (
        np.concatenate((below, edges, above)),
        np.concatenate((np.full(len(below), -1), owner, np.full(len(above), -1))),
        np.concatenate((falling[0][::-1], mass, falling[1])),
    )
