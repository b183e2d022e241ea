"""The line cut into cells: intervals and points on which the density of one column is constant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ._heaps import divide, find_heaps, grades, members
from ._typing import Array

Lattice: TypeAlias = tuple[float, float, float]

SHARED = 10  # rows that share a value before it may be drawn as such
MAX_CELLS_PER_CODE = 8  # finer steps of the density within one code
GAP = 30  # times as far apart as the values beside: no chance, but nothing in between
LEAST_OUTSIDE = 2  # rows in the outermost cells
NEGLIGIBLE = 1e-12  # weight of a row beside the largest one
MAX_DECIMALS = 6  # of values that are taken for rounded
LATTICE_VALUES = 10  # distinct values that tell a common step beyond the decimals
GROWTH = 2.0 ** np.arange(31) ** 2  # of the intervals in a tail: soon as wide as numbers can be
LARGEST = np.finfo(float).max


@dataclass(frozen=True)
class Cells:
    """A column's cells: M of them, points first, and the C codes that a network tells apart.

    The intervals tile all floats. Where round numbers are more frequent than others, an interval is
    R cells, one for each grade of roundness. A code is a set of cells with fixed shares. The cells
    that no training row fell in, between the values and beyond them, belong to no code: they have fixed
    masses, 1 / (n_rows + 1) together, so that a value never seen has a density, and are not drawn
    from. The density is one in the unit of the column, and in points with respect to the count.

    Attributes
    ----------
    points : ndarray of shape (n_points,)
        Values with a mass of their own, ascending.
    edges : ndarray of shape ((M - n_points) / R + 1,)
        Ends of the intervals, ascending; the upper one belongs to the next.
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
    heaps : ndarray of shape (R,)
        Multiples that the whole numbers prefer, from 1 on; an interval has a cell for those of
        `heaps[0]` that are not of `heaps[1]`, then one for those of `heaps[1]`, and so on.
    """

    points: Array
    edges: Array
    code: Array
    near: Array
    log_density: Array
    log_seen: float
    share: Array
    mean: Array
    mass: Array
    lattice: Lattice | None = None
    heaps: Array = field(default_factory=lambda: np.ones(1))
    nominal: bool = False


def levels(codes: Array, weight: Array | None, n_levels: int) -> Cells:
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
        mass=mass / (mass.sum() or 1.0),
        nominal=True,
    )


def cut(values: Array, weight: Array | None, n_bins: int) -> Cells:
    """Return the `Cells` of a numeric column.

    A value that at least ten rows share, and more than an average code would hold, is a code of its
    own; the others are cut at their quantiles, from the lowest to the highest.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        NaN where missing.
    weight : ndarray of shape (n_rows,) or None
    n_bins : int
        Codes, about.
    """
    seen = ~np.isnan(values)
    if weight is not None:
        seen &= weight > NEGLIGIBLE * weight[seen].max(initial=0.0)
    if not seen.any():
        return levels(np.zeros(0), None, 1)
    value, count, lattice = _distinct(values[seen] + 0.0, None if weight is None else weight[seen])
    total = count.sum()
    least = max(SHARED, total / n_bins if len(value) > n_bins else 0.0)
    alone = (count >= least) | (len(value) == 1)
    is_point = alone & (lattice is None)
    points, span = value[is_point], np.flatnonzero(~is_point)
    code, fine = _group(count, alone, n_bins)
    mass = np.bincount(code, count)
    part = count / mass[code]
    above, below = _reach(value, count)
    start = _starts(code[span], fine[span])
    start = np.union1d(
        start, np.flatnonzero(np.isfinite(below[span[1:]]) | np.isfinite(above[span[:-1]])) + 1
    )
    start = _taper(value[span], count[span], start)
    low, high = _intervals(value, span, start, alone, lattice, above, below)
    edges, run, rest = _tile(low, high, value, is_point)
    is_run = run >= 0
    empty = (~is_run).any() / (max(total, len(value)) + 1)  # weights below 1 make no row less than one
    share, owner = np.zeros(len(run)), np.full(len(run), -1)
    if len(span):
        share[is_run] = np.add.reduceat(part[span], start)
        owner[is_run] = code[span[start]]
    left = np.clip(np.searchsorted(value, edges[:-1], side="right") - 1, 0, len(value) - 1)
    near = np.where(is_run, owner, code[left])
    log_density = np.log(np.where(is_run, share, rest * empty)) - _log_widths(edges)
    heaps, divided, rise = _heap(lattice, value[span], count[span], alone[span], start, low, high)
    n_grades = len(heaps)
    share, log_density = (np.repeat(v[:, None], n_grades, 1) for v in (share, log_density))
    share[is_run] *= divided
    log_density[is_run] += rise
    return Cells(
        points=points,
        edges=edges,
        code=np.r_[code[is_point], np.repeat(owner, n_grades)],
        near=np.r_[code[is_point], np.repeat(near, n_grades)],
        log_density=np.r_[np.zeros(len(points)), log_density.ravel()],
        log_seen=float(np.log1p(-empty)),
        share=np.r_[np.ones(len(points)), share.ravel()],
        mean=np.clip(np.bincount(code, part * value), value[0], value[-1]),
        mass=mass / total,
        lattice=lattice,
        heaps=heaps,
    )


def _distinct(x: Array, weight: Array | None) -> tuple[Array, Array, Lattice | None]:
    """Return the distinct values, how many rows each stands for, and the lattice that they lie on."""
    lattice = find_lattice(np.unique(x))
    if lattice is not None:  # 0.3 and 0.1 + 0.2 are one value
        x = _value(lattice, _place(lattice, x))
    value, inverse = np.unique(x, return_inverse=True)
    return value, np.bincount(inverse, weight).astype(float), lattice


def _heap(
    lattice: Lattice | None, value: Array, count: Array, alone: Array, start: Array, low: Array, high: Array
) -> tuple[Array, Array, Array]:
    """Return the steps that values prefer, and how each run is divided among the grades.

    Returns
    -------
    heaps : ndarray of shape (R,)
    share, rise : ndarray of shape (n_runs, R)
        Parts of the mass of a run, and what its log-density rises by in each grade.
    """
    if lattice is None:
        return np.ones(1), np.ones((len(start), 1)), np.zeros((len(start), 1))
    place = _place(lattice, value)
    heaps = find_heaps(place[~alone], count[~alone]) if lattice[0] == 0 else np.ones(1)
    run = np.cumsum(np.isin(np.arange(len(value)), start)) - 1
    cell = run * len(heaps) + grades(place, heaps)
    counts = np.bincount(cell, count, len(start) * len(heaps)).reshape(len(start), -1)
    places = members(*ends(lattice, low, high), heaps)[1]
    share = divide(counts, places)
    part = places / places.sum(1, keepdims=True)
    rise = np.log(np.divide(share, part, out=np.ones_like(share), where=part > 0))
    return heaps, share, rise


def find_lattice(value: Array) -> Lattice | None:
    """Return (origin, step, unit) of distinct values that are multiples of a decimal step, or None."""
    if len(value) == 1:
        return None
    with np.errstate(over="ignore"):
        single = (value == value.astype(np.float32)).all()
    size, eps = np.abs(value), np.finfo(np.float32).eps if single else 2 * np.finfo(float).eps
    for decimals in range(MAX_DECIMALS + 1):
        unit = 10.0**decimals
        noise = eps * size if decimals else np.zeros(len(size))  # of a rounded number
        if size.max() * unit >= 2.0**52 or noise.max() * unit > 0.25:
            return None  # any number would do
        whole = np.rint(value * unit)
        if (np.abs(whole / unit - value) <= noise).all():
            break
    else:
        return None
    step = float(np.gcd.reduce(np.diff(whole).astype(np.int64)) if len(value) >= LATTICE_VALUES else 1)
    return float(whole[0] % (step or 1)), step or 1.0, unit


def _place(lattice: Lattice, x: Array) -> Array:
    """Return the number of steps from the origin of a lattice to each value."""
    origin, step, unit = lattice
    return np.rint((np.rint(x * unit) - origin) / step)


def ends(lattice: Lattice, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the first and the last place between edges of intervals, which lie half a step beside them."""
    origin, step, unit = lattice
    return np.rint((low * unit - origin) / step + 0.5), np.rint((high * unit - origin) / step - 0.5)


def _value(lattice: Lattice, place: Array) -> Array:
    origin, step, unit = lattice
    return (origin + step * place) / unit


def _group(count: Array, alone: Array, n_bins: int) -> tuple[Array, Array]:
    """Return the code of each distinct value, and its finer group within the code."""
    n_alone = int(alone.sum())
    code, fine = np.empty(len(count), dtype=int), np.zeros(len(count), dtype=int)
    code[alone] = np.arange(n_alone)
    rest = count[~alone]
    if len(rest) == 0:
        return code, fine
    n_codes = max(1, min(max(n_bins - n_alone, n_bins // 4), int(rest.sum() // SHARED)))
    middle = np.cumsum(rest) - rest / 2
    cut = np.minimum((middle / rest.sum() * n_codes).astype(int), n_codes - 1)
    cut = np.unique(cut, return_inverse=True)[1]
    code[~alone] = n_alone + cut
    per_code = np.bincount(cut, rest)
    n_fine = np.clip(per_code // SHARED, 1, MAX_CELLS_PER_CODE)[cut]
    within = (middle - (np.cumsum(per_code) - per_code)[cut]) / per_code[cut]
    fine[~alone] = np.clip((within * n_fine).astype(int), 0, n_fine - 1)
    return code, fine


def _starts(code: Array, fine: Array) -> Array:
    """Return the places where a run of values of one code and finer group begins."""
    new = (np.diff(code, prepend=-1) != 0) | (np.diff(fine, prepend=-1) != 0)
    return np.flatnonzero(new)


def _taper(value: Array, count: Array, start: Array) -> Array:
    """Return where runs begin, the outermost two of several values cut so that the density falls."""
    stop = np.append(start[1:], len(value))
    several = np.flatnonzero(stop - start > 1)
    if len(several) == 0:
        return start
    top, bottom = (slice(start[i], stop[i]) for i in several[[-1, 0]])
    above = top.start + _thinning(value[top], count[top])
    below = bottom.stop - _thinning(-value[bottom][::-1], count[bottom][::-1])
    return np.unique(np.r_[start, above, below])


def _thinning(value: Array, count: Array) -> Array:
    """Return where to cut a run of rising values: its outer half is halved while it is the sparser one."""
    cuts, first, half = [], 0, value / 2  # differences may be too large
    while count[first:].sum() > LEAST_OUTSIDE:
        rows = np.cumsum(count[first:])
        n_inner = int(np.searchsorted(rows, rows[-1] / 2, side="right"))
        if n_inner == 0 or rows[-1] - rows[n_inner - 1] < LEAST_OUTSIDE:
            break
        inner, middle = rows[n_inner - 1] / rows[-1], first + n_inner
        border = half[middle - 1] / 2 + half[middle] / 2
        if (half[-1] - border) * inner <= (border - half[first]) * (1 - inner):
            break
        cuts.append(middle)
        first = middle
    return np.array(cuts, dtype=int)


def _reach(value: Array, count: Array) -> tuple[Array, Array]:
    """Return how far above and below each value others like it may lie: infinity, but at gaps.

    A gap has rows on both sides that are far nearer to each other; beyond the last of them
    there is room for one more.
    """
    half, n = value / 2, len(value)  # differences may be too large
    rows, gap, index = np.cumsum(count), np.diff(half), np.arange(n)
    first, last = np.maximum(index - SHARED, 0), np.minimum(index + SHARED, n - 1)
    before = np.divide(half - half[first], index - first, out=np.full(n, np.inf), where=index > first)
    after = np.divide(half[last] - half, last - index, out=np.full(n, np.inf), where=last > index)
    several = (rows[:-1] >= SHARED) & (rows[-1] - rows[:-1] >= SHARED)
    is_gap = several & (gap / GAP > np.minimum(before[:-1], after[1:]))
    above, below = np.full(n, np.inf), np.full(n, np.inf)
    above[:-1][is_gap], below[1:][is_gap] = 2 * before[:-1][is_gap], 2 * after[1:][is_gap]
    return above, below


def _intervals(
    value: Array,
    span: Array,
    start: Array,
    alone: Array,
    lattice: Lattice | None,
    above: Array,
    below: Array,
) -> tuple[Array, Array]:
    """Return the lower and the upper end of the interval of each run of values.

    Unrounded values: it meets its neighbours half-way, and the outermost two end with the column.
    On a lattice: half a step around the values, and half-way if neither run is a value alone. No
    interval goes further `above` and `below` its values than others like them may lie.
    """
    if len(span) == 0:
        return np.zeros(0), np.zeros(0)
    x, last = value[span], np.r_[start[1:], len(span)] - 1
    above, below = above[span[last]], below[span[start]]
    if lattice is None:
        border = _between(x[last[:-1]], x[start[1:]])
        bottom, top = span[0], span[-1]
        lowest = value[0] if bottom == 0 else _between(value[bottom - 1], value[bottom])
        beyond = np.nextafter(value[-1], LARGEST)
        highest = beyond if top == len(value) - 1 else _between(value[top], value[top + 1])
        low, high = np.r_[lowest, border], np.r_[border, highest]
        with np.errstate(over="ignore"):
            low = np.maximum(low, x[start] - below)
            return low, np.minimum(high, np.maximum(x[last] + above, np.nextafter(x[last], np.inf)))
    place, single = _place(lattice, x), alone[span[start]]
    left, right = place[start] - 0.5, place[last] + 0.5
    middle = np.floor((right[:-1] + left[1:]) / 2) + 0.5
    high = np.where(single[:-1], right[:-1], np.where(single[1:], left[1:], middle))
    low = np.where(single[1:], left[1:], np.where(single[:-1], right[:-1], middle))
    low, high = np.r_[left[0], low], np.r_[high, right[-1]]
    steps = lattice[2] / lattice[1]  # of the lattice, in one unit of the values
    low = np.maximum(low, left - np.maximum(np.floor(below * steps) - 1, 0))
    high = np.minimum(high, right + np.maximum(np.floor(above * steps) - 1, 0))
    return _value(lattice, low), _value(lattice, high)


def _between(left: Array, right: Array) -> Array:
    """Return the middle of two numbers, always above the left one."""
    middle = left / 2 + right / 2  # their sum may be too large
    return np.where(middle > left, middle, right)


def _tile(low: Array, high: Array, value: Array, is_point: Array) -> tuple[Array, Array, Array]:
    """Return edges that tile all floats, the run of each interval, -1 for none, and the share of the rest.

    Of the mass of what belongs to no run, a quarter goes to each tail, most of it next to the values,
    and the other half to the gaps, if there are any. A tail begins with steps as wide as the
    outermost values are apart.
    """
    inner = np.unique(np.r_[low, high, value[[0, -1]][is_point[[0, -1]]]])
    n = min(SHARED, len(value) - 1)
    with np.errstate(over="ignore"):
        apart = (
            [(value[n] - value[0]) / n, (value[-1] - value[-1 - n]) / n] if n else [abs(value[0]) or 1.0] * 2
        )
        below, above = inner[0] - apart[0] * GROWTH, inner[-1] + apart[1] * GROWTH
    edges = np.unique(np.r_[-LARGEST, below, inner, above, LARGEST].clip(-LARGEST, LARGEST))
    first, last = np.searchsorted(edges, inner[[0, -1]])
    run = np.full(len(edges) - 1, -1)
    run[np.searchsorted(edges, low)] = np.arange(len(low))
    rest = np.where(run < 0, 0.5 / max(1, (run[first:last] < 0).sum()), 0.0)
    rest[:first] = 0.25 * _falling(first)[::-1]
    rest[last:] = 0.25 * _falling(len(run) - last)
    return edges, run, rest / (rest.sum() or 1.0)


def _falling(n: int) -> Array:
    share = 0.5 ** np.arange(n)
    return share / share.sum()


def _log_widths(edges: Array) -> Array:
    with np.errstate(over="ignore"):
        width = np.diff(edges)
    wide = np.isinf(width)
    return np.log(np.where(wide, np.diff(edges / 2), width)) + np.log(2) * wide


def waves(cells: Cells, size: int, n_waves: int) -> Array:
    """Return smooth functions of the codes of a numeric column, by rank, shape (size, n_waves); 0 for levels.

    Cosines of rising frequency and falling height, as of a smooth random function.
    """
    wave = np.zeros((size, n_waves))
    if len(cells.mass) > 2 and not cells.nominal:
        order = np.argsort(cells.mean, kind="stable")
        rank = np.empty(len(order))
        rank[order] = np.cumsum(cells.mass[order]) - cells.mass[order] / 2
        k = np.arange(1, n_waves + 1)
        wave[: len(order)] = math.sqrt(2) * np.cos(np.pi * k * rank[:, None]) / np.sqrt(k)
    return wave


def flatten(columns: Sequence[Cells], missing: Array, sizes: Sequence[int]) -> dict[str, list[Array]]:
    """Return what is known of the cells of each column, its codes counted on from those before."""
    flat: dict[str, list[Array]] = {"target": [], "near": [], "log_density": [], "mass": []}
    start = 0
    for cells, gap, size in zip(columns, missing, sizes, strict=True):
        target = np.where(cells.code < 0, -1, start + cells.code)
        density = cells.log_density + np.where(cells.code < 0, 0.0, cells.log_seen)
        near, mass = start + cells.near, (1 - gap) * cells.mass
        if gap > 0:  # one more cell and code: missing
            target, near = np.append(target, start + size - 1), np.append(near, start + size - 1)
            density, mass = np.append(density, 0.0), np.append(mass, gap)
        parts = {"target": target, "near": near, "log_density": density, "mass": np.maximum(mass, 1e-6)}
        for name, value in parts.items():
            flat[name].append(value)
        start += size
    return flat
