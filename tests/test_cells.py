"""The density of one column against its definition: masses, integrals, and a search by NumPy."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skvae._cells import cut, find_lattice, levels
from skvae._heaps import divide, find_heaps, grades, members, ratios
from skvae._lookup import Lookup
from skvae.likelihoods import Mixed

LARGEST = np.finfo(float).max
RNG = np.random.RandomState(0)
NORMAL = RNG.randn(500)
COLUMNS = {
    "normal": NORMAL,
    "float32": NORMAL.astype(np.float32).astype(float),
    "float32_large": (1e5 + 30 * NORMAL).astype(np.float32).astype(float),
    "heavy_tails": np.sinh(3 * NORMAL) ** 3,
    "log_normal": np.exp(4 * NORMAL),
    "inflated_zero": np.maximum(NORMAL, 0.0),
    "inflated_both": np.clip(NORMAL, -1.0, 0.5),
    "spikes": np.where(RNG.rand(500) < 0.5, RNG.choice([-0.1234567891, 2.718281828], 500), NORMAL),
    "mostly_one": np.where(RNG.rand(500) < 0.99, 0.123456789, NORMAL),
    "one_stray": np.r_[np.full(99, 0.123456789), 0.2345678912],
    "stray_between": np.r_[np.full(50, 0.123456789), 0.2345678912, np.full(50, 0.3456789123)],
    "constant": np.full(100, 3.7),
    "constant_zero": np.zeros(20),
    "constant_pi": np.full(5, np.pi),
    "two_values": np.repeat([0.0, 1.0], [30, 70]),
    "two_spikes": np.repeat([np.pi, np.e], [30, 70]),
    "one_row": np.array([5.0]),
    "two_rows": np.array([5.0, 7.5]),
    "five_rows": NORMAL[:5],
    "whole": RNG.poisson(3, 500).astype(float),
    "whole_wide": RNG.randint(-5000, 5000, 500).astype(float),
    "whole_with_gaps": RNG.choice([1.0, 2, 3, 50, 51, 1000], 500),
    "capped_age": np.minimum(RNG.randint(17, 120, 500), 90).astype(float),
    "multiples_of_25": 25.0 * RNG.poisson(20, 500),
    "capital_gain": np.where(RNG.rand(500) < 0.9, 0.0, RNG.choice([7688.0, 15024.0, 99999.0], 500)),
    "prices": np.round(10 * np.exp(NORMAL), 2),
    "prices_float32": np.round(10 * np.exp(NORMAL), 2).astype(np.float32).astype(float),
    "heaped": np.where(RNG.rand(500) < 0.6, 100.0 * RNG.poisson(9, 500), RNG.randint(100, 2000, 500)),
    "heaped_around_zero": np.r_[5.0 * RNG.randint(-40, 40, 200), RNG.randint(-200, 200, 300)],
    "months": np.round(
        np.where(RNG.rand(500) < 0.9, 12 * RNG.randint(1, 60, 500), RNG.randint(1, 700, 500)) / 12, 4
    ),
    "tenths_computed": 0.1 * np.arange(200),
    "three_tenths": np.array([0.3, 0.1 + 0.2] * 30),
    "tenths_twice": np.r_[0.1 * np.arange(100), np.arange(100) / 10],
    "near_2_53": 2.0**53 - RNG.randint(1, 300, 500),
    "near_2_52": 2.0**52 - RNG.randint(1, 300, 500),
    "huge": 1e300 * NORMAL,
    "largest": np.array([-LARGEST, -1e308, 0.0, 1.0, 1e308, LARGEST]),
    "tiny": 1e-300 * NORMAL,
    "subnormal": 5e-324 * RNG.randint(-40, 40, 500),
    "neighbours": 1 + np.finfo(float).eps * RNG.randint(0, 300, 500),
    "offset": 1e15 + NORMAL,
    "holes": np.where(RNG.rand(500) < 0.3, np.nan, NORMAL),
}
every_column = pytest.mark.parametrize("x", COLUMNS.values(), ids=COLUMNS)


def find(cells, x):
    """Return the cell of one number by its definition."""
    here = np.flatnonzero(cells.points == x)
    if len(here):
        return here[0]
    inside = np.flatnonzero((cells.edges[:-1] <= x) & (x < cells.edges[1:]))
    interval = inside[0] if len(inside) else len(cells.edges) - 2
    grade = 0
    if len(cells.heaps) > 1:
        origin, step, unit = cells.lattice
        with np.errstate(over="ignore", invalid="ignore"):
            place = np.nan_to_num(np.rint((np.float64(x) * unit - origin) / step))
        grade = sum(int(place) % int(heap) == 0 for heap in cells.heaps[1:])
    return len(cells.points) + interval * len(cells.heaps) + grade


def log_density(cells, x):
    """Return the log-density of numbers when codes are as frequent as in training."""
    with np.errstate(divide="ignore"):
        log_mass = np.log(np.append(cells.mass, 1.0)) + cells.log_seen  # the last of no code
    log_mass[-1] = 0.0
    cell = np.array([find(cells, v) for v in np.atleast_1d(x)])
    return log_mass[cells.code[cell]] + cells.log_density[cell]


def log_widths(cells):
    edges = [Fraction(float(edge)) for edge in cells.edges]
    widths = [b - a for a, b in pairwise(edges)]
    widths = np.array([math.log(width.numerator) - math.log(width.denominator) for width in widths])
    if len(cells.heaps) == 1:
        return widths
    # a grade has the part of the interval that its whole numbers have, counted one by one
    origin, step, unit = cells.lattice
    places = []
    for a, b, used in zip(
        cells.edges[:-1], cells.edges[1:], cells.share.reshape(len(widths), -1), strict=True
    ):
        whole = (
            np.arange(np.rint((a * unit - origin) / step + 0.5), (b * unit - origin) / step)
            if used.any()
            else np.zeros(1)
        )
        grade = [sum(int(k) % int(heap) == 0 for heap in cells.heaps[1:]) for k in whole]
        places.append(np.bincount(grade, minlength=len(cells.heaps)) / len(whole))
    with np.errstate(divide="ignore"):
        return (widths[:, None] + np.log(places)).ravel()


def check(x, n_bins=20, weight=None):
    """Check all that holds for the cells of any column."""
    cells = cut(x, weight, n_bins)
    counts = ~np.isnan(x)
    if weight is not None:
        counts &= weight > 1e-12 * weight[counts].max()
    seen = x[counts]
    n_points, n_cells, n_codes = len(cells.points), len(cells.code), len(cells.mass)
    assert len(cells.near) == len(cells.log_density) == len(cells.share) == n_cells
    assert (len(cells.edges) - 1) * len(cells.heaps) == n_cells - n_points
    # the intervals tile all floats
    assert cells.edges[0] == -LARGEST
    assert cells.edges[-1] == LARGEST
    assert (cells.edges[1:] > cells.edges[:-1]).all()
    assert (np.diff(cells.points) > 0).all()
    # codes and shares
    owned = cells.code >= 0
    np.testing.assert_array_equal(np.unique(cells.code[owned]), np.arange(n_codes))
    np.testing.assert_array_equal(cells.near[owned], cells.code[owned])
    assert ((cells.near >= 0) & (cells.near < n_codes)).all()
    np.testing.assert_allclose(np.bincount(cells.code[owned], cells.share[owned]), 1.0)
    assert not cells.share[~owned].any()
    assert cells.mass.sum() == pytest.approx(1.0)
    assert (cells.mass > 0).all()
    assert n_codes <= n_bins + n_bins // 4 + 1
    # densities: mass over width, all of them together one
    assert np.isfinite(cells.log_density).all()
    assert not cells.log_density[:n_points].any()
    mass = np.exp(cells.log_density + np.r_[np.zeros(n_points), log_widths(cells)])
    np.testing.assert_allclose(mass[owned], cells.share[owned], rtol=1e-9)
    total = (mass[owned] * cells.mass[cells.code[owned]]).sum() * np.exp(cells.log_seen)
    assert total + mass[~owned].sum() == pytest.approx(1.0, abs=1e-12)
    # training rows are in cells with a code, drawn as often as they were seen
    code = cells.code[[find(cells, v) for v in seen]]
    assert (code >= 0).all()
    w = None if weight is None else weight[counts]
    np.testing.assert_allclose(np.bincount(code, w) / (len(code) if w is None else w.sum()), cells.mass)
    # of each code the mean is one of its values
    for c in range(n_codes):
        mine = seen[code == c]
        slack = 1e-6 * np.abs(mine / 2).max()  # values of float32 stand for decimals
        assert mine.min() / 2 - slack <= cells.mean[c] / 2 <= mine.max() / 2 + slack
    return cells


@every_column
@pytest.mark.parametrize("n_bins", [1, 10, 200])
def test_cells_are_a_density(x, n_bins):
    check(x, n_bins)


numbers = st.one_of(
    st.floats(-1e6, 1e6),
    st.integers(-50, 50).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-1000, 1000, places=2).map(float),
    st.just(np.nan),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(numbers, min_size=1, max_size=30).filter(lambda x: not np.isnan(x).all()),
    st.integers(1, 12),
    st.integers(1, 15),
)
def test_any_column_has_a_density(values, n_bins, repeats):
    x = np.repeat(values, [repeats if i % 3 == 0 else 1 for i in range(len(values))])
    check(x, n_bins)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(numbers, st.floats(0.0, 30.0)), min_size=1, max_size=25), st.integers(1, 12))
def test_any_weighted_column_has_a_density(rows, n_bins):
    x, weight = np.array(rows).T
    assume((weight[~np.isnan(x)] > 0).any())
    check(x, n_bins, weight)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_any_neighbours_have_a_density(base, steps, repeats):
    """Floats next to each other, between which no edge fits."""
    whole = np.array(base).view(np.int64) + np.array(steps)
    x = whole.view(float)
    check(np.repeat(x[np.isfinite(x)], repeats) if np.isfinite(x).any() else np.zeros(1), 5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_column_of_float32_has_a_density(values):
    check(np.array(values), 5)


@every_column
def test_any_number_has_a_density(x):
    cells = cut(x, None, 20)
    ends = np.r_[cells.edges, cells.points, 0.0, 5e-324, 1e-308, 1e308, LARGEST]
    probes = np.r_[ends, -ends, np.nextafter(ends, 0.0), (ends[:-1] / 2 + ends[1:] / 2)]
    assert np.isfinite(log_density(cells, probes)).all()


@pytest.mark.parametrize("name", ["normal", "whole", "prices", "inflated_zero", "five_rows", "log_normal"])
def test_density_integrates_to_one(name):
    cells = cut(COLUMNS[name], None, 20)
    # by Simpson's rule within each interval, in the units of the column
    a, b = cells.edges[:-1], cells.edges[1:]
    inside = a / 2 + b / 2
    integral = np.exp(log_density(cells, inside)) @ (b - a)
    points = np.exp(log_density(cells, cells.points)).sum() if len(cells.points) else 0.0
    assert integral + points == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["whole", "two_values", "whole_with_gaps", "capped_age"])
def test_whole_numbers_have_their_probability(name):
    x = COLUMNS[name]
    value, count = np.unique(x, return_counts=True)
    often = count >= max(10, len(x) / 200 if len(value) > 200 else 0)
    expected = np.log(count[often] / len(x)) + np.log1p(-1 / (len(x) + 1))
    np.testing.assert_allclose(log_density(cut(x, None, 200), value[often]), expected)


def test_a_value_becomes_an_atom_from_ten_rows_on():
    x = np.r_[NORMAL, np.full(9, np.pi), np.full(10, np.e)]
    np.testing.assert_array_equal(cut(x, None, 200).points, [np.e])


@pytest.mark.parametrize("name", ["normal", "heavy_tails", "inflated_zero", "five_rows", "holes", "spikes"])
@pytest.mark.parametrize(("scale", "shift"), [(2.0**20, 0.0), (2.0**-40, 0.0), (-1.0, 0.0), (1e-13, 0.0)])
def test_another_unit_changes_the_density_by_that_unit(name, scale, shift):
    x = COLUMNS[name]
    probes = np.r_[x[:50], 3 * x[:20]]
    probes = probes[~np.isnan(probes)]
    before, after = cut(x, None, 20), cut(scale * x + shift, None, 20)
    is_point = np.isin(probes, before.points)
    expected = log_density(before, probes) - np.where(is_point, 0.0, np.log(abs(scale)))
    if scale < 0:  # an edge belongs to the other side, so bins of ties may differ by a row
        assert np.mean(log_density(after, scale * probes)) == pytest.approx(expected.mean(), abs=0.2)
    else:
        np.testing.assert_allclose(log_density(after, scale * probes + shift), expected, atol=1e-6)


def test_decimal_units_of_a_lattice():
    cells, cents = cut(COLUMNS["prices"], None, 20), cut(np.rint(100 * COLUMNS["prices"]), None, 20)
    probes = np.r_[np.unique(COLUMNS["prices"]), 0.01, 500.0]
    np.testing.assert_allclose(
        log_density(cells, probes), log_density(cents, np.rint(100 * probes)) + np.log(100)
    )


@pytest.mark.parametrize("name", ["normal", "whole", "prices", "inflated_zero", "constant", "two_rows"])
def test_weights_are_repetition(name):
    x = COLUMNS[name]
    weight = np.random.RandomState(1).randint(0, 4, len(x)).astype(float)
    weight[0] = 2.0
    weighted, repeated = cut(x, weight, 20), cut(np.repeat(x, weight.astype(int)), None, 20)
    for field in ("points", "edges", "code", "near", "log_density", "share", "mean", "mass"):
        np.testing.assert_allclose(getattr(weighted, field), getattr(repeated, field), rtol=1e-12)


def test_small_weights_make_no_row_less_than_a_row():
    cells = check(NORMAL, 20, np.full(500, 1e-3))
    assert cells.log_seen == pytest.approx(np.log(500 / 501))
    assert levels(np.array([0.0, 1.0, 1.0]), np.full(3, 1e-3), 2).mass.tolist() == pytest.approx(
        [1 / 3, 2 / 3]
    )


def test_missing_cells_are_left_out():
    x = COLUMNS["holes"]
    for a, b in zip(
        vars(cut(x, None, 20)).values(), vars(cut(x[~np.isnan(x)], None, 20)).values(), strict=True
    ):
        np.testing.assert_array_equal(np.array(a, dtype=object), np.array(b, dtype=object))


def test_nothing_seen_is_one_level():
    cells = cut(np.full(5, np.nan), None, 20)
    assert cells.code.tolist() == [0]
    assert cells.mass.tolist() == [0.0]


def test_levels_are_points():
    cells = levels(np.array([0.0, 2.0, 2.0, np.nan]), None, 4)
    np.testing.assert_allclose(cells.mass, [1 / 3, 0, 2 / 3, 0])
    assert cells.points.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not cells.log_density.any()


# -- the outermost values ------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("decimals", [2, None])
def test_far_values_come_as_often_as_they_should(sign, decimals):
    """Were the ten rows from 10 to 59 drawn evenly, the column would have twice its deviation."""
    x = np.random.default_rng(0).normal(5.0, 1.0, 2000).clip(3.0, 9.0)
    x[-10:] = [9.1, 9.2, 9.3, 9.4, 9.6, 9.8, 9.9, 10.5, 31.8, 58.9]
    x = sign * (x if decimals is None else x.round(decimals))
    cells = cut(x, None, 100)
    column = Lookup(cells)
    code = np.random.default_rng(1).choice(len(cells.mass), 100_000, p=cells.mass)
    drawn = column.draw(torch.tensor(code), torch.Generator().manual_seed(0)).numpy()
    assert drawn.std() == pytest.approx(x.std(), rel=0.1)
    assert (np.abs(drawn) > 20).mean() == pytest.approx(2 / 2000, rel=0.3)


def test_an_even_column_stays_even():
    x = np.random.default_rng(0).random(5000)
    cells = cut(x, None, 100)
    low, high = (log_density(cells, np.linspace(*part, 50)).mean() for part in ((0.001, 0.01), (0.99, 0.999)))
    assert abs(low) < 0.3
    assert abs(high) < 0.3


# -- values just beyond the others --------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_the_next_value_is_not_unlikely(scale):
    """Of sorted values, a new one lies beyond the outermost with probability 2 / (n + 1)."""
    x = scale * np.linspace(0.0, 1.0, 201) ** 1.5
    cells = cut(x, None, 20)
    beyond = x[-1] + (x[-1] - x[-2]) * np.array([0.1, 0.9])
    inside = log_density(cells, x[-3:-2])
    assert (log_density(cells, beyond) > inside - 3.0).all()


def test_a_far_value_is_unlikely_but_possible():
    cells = cut(NORMAL, None, 20)
    scores = log_density(cells, np.array([0.0, 3.5, 10.0, 1e3, 1e10, 1e100, 1e308]))
    assert (np.diff(scores) < 0).all()
    assert np.isfinite(scores).all()


def test_unseen_values_have_the_mass_they_should():
    for name in ("normal", "whole_with_gaps", "inflated_both", "constant"):
        cells = cut(COLUMNS[name], None, 200)
        unseen = cells.code < 0
        assert len(cells.heaps) == 1
        density = np.exp(cells.log_density[len(cells.points) :])
        mass = (density * (cells.edges[1:] - cells.edges[:-1]))[unseen[len(cells.points) :]].sum()
        assert mass == pytest.approx(1 / (len(COLUMNS[name]) + 1))


# -- steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("whole", 1.0),
        ("whole_wide", 1.0),
        ("capped_age", 1.0),
        ("multiples_of_25", 25.0),
        ("prices", 0.01),
        ("prices_float32", 0.01),
        ("tenths_computed", 0.1),
        ("two_rows", 0.1),
        ("near_2_52", 1.0),
        ("normal", None),
        ("float32", None),
        ("float32_large", None),
        ("near_2_53", None),
        ("offset", None),
        ("huge", None),
        ("tiny", None),
        ("subnormal", None),
        ("neighbours", None),
    ],
)
def test_steps_are_found(name, step):
    lattice = find_lattice(np.unique(COLUMNS[name]))
    assert (lattice if step is None else lattice[1] / lattice[2]) == step


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9, 2e9, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_type_that_rounds_makes_no_decimals(size, dtype):
    """Numbers are not taken for decimals just because their type holds no more digits."""
    value = np.unique((size * (1 + RNG.rand(200))).astype(dtype).astype(float))
    lattice = find_lattice(value)
    assert lattice is None or lattice[2] == 1.0


# -- round numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "heaps"),
    [
        ("heaped", [1, 100]),
        ("heaped_around_zero", [1, 5]),
        ("whole", [1]),
        ("whole_wide", [1]),
        ("multiples_of_25", [1]),
        ("prices", [1]),
        ("capped_age", [1]),
        ("tenths_computed", [1]),
        ("normal", [1]),
    ],
)
def test_round_numbers_are_found(name, heaps):
    found = cut(COLUMNS[name], None, 20).heaps.tolist()
    assert {h for h in found if h in heaps} == set(heaps) if len(heaps) > 1 else found == heaps


def test_the_chain_of_steps_is_the_likeliest():
    """Tens, hundreds and 500, not the multiples of 5, 25, 125 and 250 that these are in part as well."""
    place = np.arange(1.0, 1001)
    count = 1.0 + 5 * (place % 10 == 0) + 5 * (place % 100 == 0) + 300 * (place % 500 == 0)
    assert {10, 100, 500} <= set(find_heaps(place, count))


def test_few_values_prefer_nothing():
    assert find_heaps(np.array([0.0, 50, 100]), np.array([30.0, 30, 30])).tolist() == [1]
    assert find_heaps(10.0 * np.arange(9), np.ones(9)).tolist() == [1]


whole = st.integers(-300, 300)
chains = st.lists(st.sampled_from([2, 3, 5]), max_size=4).map(lambda m: np.cumprod([1.0, *m]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(whole, st.integers(0, 400), chains)
def test_members_are_those_counted_one_by_one(first, length, heaps):
    numbers = np.arange(first, first + length + 1.0)
    grade = np.array([sum(int(k) % int(heap) == 0 for heap in heaps[1:]) for k in numbers])
    np.testing.assert_array_equal(grades(numbers, heaps), grade)
    lowest, n = members(numbers[:1], numbers[-1:], heaps)
    np.testing.assert_array_equal(n[0], np.bincount(grade, minlength=len(heaps)))
    for g, ratio in enumerate(ratios(heaps)):
        i = lowest[0, g] + np.arange(n[0, g])
        np.testing.assert_array_equal(heaps[g] * (i + 1 + np.floor(i / (ratio - 1))), numbers[grade == g])


def test_round_numbers_are_as_frequent_as_in_training():
    """Those of 100 and of 50 of every ten values, from all codes together."""
    x = COLUMNS["heaped"]
    cells, column = cut(x, None, 20), build(x)
    code = np.random.RandomState(0).choice(column.n_codes, 20_000, p=cells.mass)
    drawn = column.draw(torch.tensor(code), torch.Generator().manual_seed(0)).numpy()
    for step in (100, 50, 10, 5):
        assert np.mean(drawn % step == 0) == pytest.approx(np.mean(x % step == 0), abs=0.03)
    assert len(np.setdiff1d(drawn, x)) > 100


def test_a_round_number_never_seen_is_likelier_than_its_neighbour():
    x = COLUMNS["heaped"]
    x = x[x != 700]
    cells = cut(x, None, 10)
    round_one, other = log_density(cells, np.array([700.0, 701.0]))
    assert round_one > other + 1.5


def test_few_rows_of_a_run_are_told_by_all_others():
    counts, places = np.array([[900.0, 900.0], [0.0, 0.0]]), np.array([[90.0, 10.0], [9.0, 1.0]])
    share = divide(counts, places)
    np.testing.assert_allclose(share.sum(1), 1.0)
    np.testing.assert_allclose(share[1], [0.5, 0.5], atol=0.01)


def test_large_numbers_are_rounded_to_larger_steps():
    """Below 3,000 any number may occur, beyond thousands alone."""
    rng = np.random.RandomState(0)
    x = np.r_[rng.randint(1, 3000, 300), 1000 * rng.randint(3, 300, 700)].astype(float)
    column = build(x, 50)
    code = rng.choice(column.n_codes, 20_000, p=cut(x, None, 50).mass)
    drawn = column.draw(torch.tensor(code), torch.Generator().manual_seed(0)).numpy()
    assert np.mean(drawn[drawn > 20_000] % 1000 == 0) > 0.95
    assert np.mean(drawn[drawn < 2_500] % 10 == 0) == pytest.approx(0.1, abs=0.06)


# -- in torch -----------------------------------------------------------------------------------------


def build(x, n_bins=20):
    return Mixed(n_bins=n_bins).build(x[:, None]).columns[0]


@every_column
def test_find_is_a_search(x):
    cells, column = cut(x, None, 20), build(x)
    ends = np.r_[cells.edges, cells.points, x, 0.0, 5e-324, 1e308, LARGEST]
    probes = np.r_[ends, -ends, np.nextafter(ends, -LARGEST)]
    expected = [np.nan if np.isnan(v) else find(cells, v) for v in probes]
    np.testing.assert_array_equal(column.find(torch.tensor(probes)).numpy(), expected)


def draw(column, code, n=2000):
    return column.draw(torch.full((n,), code), torch.Generator().manual_seed(code)).numpy()


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "largest"])
def test_drawn_values_are_of_their_code(name):
    x = COLUMNS[name]
    cells, column = cut(x, None, 10), build(x, 10)
    for code in range(len(cells.mass)):
        drawn = draw(column, code, 200)
        assert (cells.code[[find(cells, v) for v in drawn]] == code).all()
        if name.endswith("float32"):
            drawn = drawn.astype(np.float32)
        assert drawn.min() >= np.nanmin(x)
        assert drawn.max() <= np.nanmax(x)


@pytest.mark.parametrize("name", ["normal", "whole_wide", "log_normal", "prices"])
def test_drawn_values_follow_the_shares(name):
    cells, column = cut(COLUMNS[name], None, 3), build(COLUMNS[name], 3)
    for code in range(len(cells.mass)):
        cell = [find(cells, v) for v in draw(column, code)]
        share = np.bincount(cell, minlength=len(cells.code)) / len(cell)
        np.testing.assert_allclose(share, np.where(cells.code == code, cells.share, 0.0), atol=0.05)


@pytest.mark.parametrize("name", ["whole", "whole_wide", "capped_age", "multiples_of_25", "prices"])
def test_drawn_values_are_rounded_as_those_of_training(name):
    x = COLUMNS[name]
    step = {"multiples_of_25": 25.0}.get(name, 1.0)
    column = build(x)
    drawn = np.concatenate([draw(column, code) for code in range(column.n_codes)])
    np.testing.assert_array_equal(
        drawn, np.round(drawn, 2) if name == "prices" else step * np.rint(drawn / step)
    )


def test_drawn_float32_decimals_are_those_of_training():
    x = COLUMNS["prices_float32"]
    drawn = np.concatenate([draw(build(x), code, 50) for code in range(5)]).astype(np.float32)
    np.testing.assert_array_equal(drawn, np.round(drawn.astype(float), 2).astype(np.float32))


def test_a_value_inside_a_bin_is_no_copied_cell():
    drawn = draw(build(NORMAL), 3)
    assert len(np.unique(drawn)) > 1900
    assert not np.isin(drawn, NORMAL).any()


def test_positive_values_stay_positive():
    x = COLUMNS["log_normal"]
    column = build(x)
    assert min(draw(column, code).min() for code in range(column.n_codes)) >= x.min() > 0


@pytest.mark.parametrize("hole", [False, True])
def test_the_model_integrates_to_one_given_the_column_before(hole):
    """Of two columns the second, whatever the first and whatever the decoder says."""
    x = np.column_stack((COLUMNS["whole"], COLUMNS["inflated_both"]))
    x[:3, 1] = np.nan if hole else x[:3, 1]
    cells = cut(x[:, 1], None, 20)
    model = Mixed(n_bins=20).build(x).eval().double()
    generator = torch.Generator().manual_seed(0)
    output = 3 * torch.randn(1, model.out_features, generator=generator, dtype=torch.float64)
    middle = cells.edges[:-1] / 2 + cells.edges[1:] / 2
    for first in (0.0, 3.0, 99.0):
        values = np.r_[cells.points, middle]
        rows = torch.tensor(np.column_stack((np.full(len(values), first), values)))
        with torch.no_grad():
            log_prob = model.log_prob(model.standardize(rows), output.expand(len(rows), -1))[:, 1].numpy()
        mass = np.exp(log_prob + np.r_[np.zeros(len(cells.points)), log_widths(cells)])
        assert mass.sum() == pytest.approx(1.0)


def gap_cases():
    rng = np.random.default_rng(0)
    spikes = rng.random(300) < 0.1
    return {
        "code_999": (np.where(spikes, 999.0, rng.integers(18, 90, 300)), 95, 990),
        "far_spike": (np.where(spikes, 99999.0, rng.gamma(3, 10, 300)), 300, 90000),
        "clusters": (np.r_[rng.normal(size=150), rng.normal(1000, 1, 150)], 10, 990),
        "whole_clusters": (np.r_[rng.integers(0, 50, 150), rng.integers(10**4, 10**4 + 50, 150)], 80, 9970),
        "zeros": (np.where(rng.random(300) < 0.7, 0, rng.uniform(5000, 6000, 300)), 100, 4800),
        "whole_zeros": (np.where(rng.random(300) < 0.7, 0, rng.integers(5000, 6000, 300)), 100, 4800),
    }


@pytest.mark.parametrize("name", gap_cases())
def test_nothing_is_drawn_in_a_gap(name):
    x, low, high = gap_cases()[name]
    column = build(x)
    drawn = np.concatenate([draw(column, code) for code in range(column.n_codes)])
    assert not ((drawn > low) & (drawn < high)).any()
    cells = cut(x.astype(float), None, 20)
    assert np.isfinite(cells.log_density).all()


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-300])
def test_chance_makes_no_gap(scale):
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=2000), rng.exponential(size=2000), rng.standard_t(2, 2000), rng.random(2000)):
        x = x * scale / np.abs(x).max()
        cells = cut(x, None, 100)
        inner = (cells.edges[:-1] >= x.min()) & (cells.edges[1:] <= x.max())
        assert (cells.code[len(cells.points) :][inner] >= 0).mean() > 0.98
