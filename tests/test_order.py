"""Columns that keep an order, row by row."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skvae import VAETransformer
from skvae._cells import cut
from skvae._lookup import Lookup
from skvae._order import _ranges, find_order
from skvae.likelihoods import Mixed

NAN = float("nan")


def order_of(X, weight=None, n_bins=30, counts=1):
    """Return what is found in rows of values, NaN where missing, each of them so many times."""
    columns = [cut(x, None, n_bins) for x in X.T]
    codes = np.full(X.shape, -1)
    for j, (cells, x) in enumerate(zip(columns, X.T, strict=True)):
        seen = ~np.isnan(x)
        codes[seen, j] = cells.near[Lookup(cells).find(torch.tensor(x[seen])).long().numpy()]
    sizes = [len(cells.mass) + 1 for cells in columns]
    X, codes = (np.repeat(rows, counts, axis=0) for rows in (X, codes))
    return find_order(columns, sizes, X, codes, np.ones(len(X)) if weight is None else weight)


def pairs_of(order):
    return [(c.earlier, c.later) for comparisons in order.values() for c in comparisons]


def stays(n=600, seed=0):
    """Return when people came and when they left, whole numbers; a third leave at once."""
    rng = np.random.default_rng(seed)
    came = rng.integers(0, 30, n)
    return came, came + np.where(rng.random(n) < 0.3, 0, rng.poisson(6, n))


# -- what is found -------------------------------------------------------------------------------


@given(
    arrays(np.float64, st.integers(30, 80), elements=st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float)),
    st.integers(2, 20),
)
def test_all_that_a_code_may_be_is_in_its_range(values, n_bins):
    cells = cut(values, None, n_bins)
    least, most = _ranges(cells)
    column = Lookup(cells)
    code = cells.near[column.find(torch.tensor(values)).long().numpy()]
    assert (least[code] <= values).all()
    assert (values <= most[code]).all()
    drawn = torch.arange(len(cells.mass)).repeat(50)
    value = column.draw(drawn, torch.Generator().manual_seed(0)).numpy()
    assert (least[drawn] <= value).all()
    assert (value <= most[drawn]).all()


def test_a_rule_between_columns_is_found_with_what_each_code_may_be():
    came, left = stays()
    noise = np.random.default_rng(1).integers(0, 40, len(came))
    X = np.column_stack((came, noise, left)).astype(float)
    order = order_of(X)
    assert pairs_of(order) == [(0, 2)]
    [comparison] = order["2"]
    far_less, less, equal, greater, far = comparison.log_ratio.tolist()
    assert far_less < -4  # never less
    assert less == 0  # a less difference has never been seen, so all are far
    assert equal > 0.5
    assert far < -2 < greater
    assert (comparison.never_less, comparison.never_greater) == (True, False)
    differences = comparison.differences.numpy()
    assert set(differences) <= set(left - came)
    assert (np.diff(differences) >= 0).all()
    columns = [cut(x, None, 30) for x in X.T]
    for (a, first), (b, second) in itertools.product(
        *(enumerate(zip(*_ranges(columns[j]), strict=True)) for j in (0, 2))
    ):
        far_less, less, equal, greater, far = comparison.cases[:, a, b].tolist()
        assert far_less == (second[1] < first[0])
        assert (greater or far) == (second[0] > first[1])
        assert far == (second[0] - first[1] > np.quantile((left - came)[left > came], 0.99))
        assert not less
        assert [far_less, equal, greater, far].count(True) == 1
    assert not comparison.cases[:, -1].any()  # what is hidden, and missing cells, are none of it
    assert not comparison.cases[..., -1].any()


def test_no_rule_is_made_up():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 6))
    assert pairs_of(order_of(X)) == []
    X[:, 1] = X[:, 0] + 0.1 * rng.normal(size=500)  # alike, but either may be above
    assert pairs_of(order_of(X[:, :2], n_bins=200)) in ([], [(0, 1)])
    apart = np.column_stack((X[:, 0], X[:, 2] + 100))  # always above, as chance would have it
    assert pairs_of(order_of(apart)) == []


def test_a_few_rows_prove_no_rule():
    came, left = stays(12)
    assert pairs_of(order_of(np.column_stack((came, left)).astype(float))) == []


def test_missing_cells_and_weights_count():
    came, left = stays(400)
    X = np.column_stack((came, left)).astype(float)
    X[::2, 0], X[1::2, 1] = NAN, NAN  # never both
    assert pairs_of(order_of(X)) == []
    X = np.column_stack((came, left)).astype(float)
    wrong = np.arange(400) < 40
    X[wrong] = X[wrong, ::-1]
    X[wrong, 0] += 1
    assert not order_of(X)["1"][0].never_less  # only equal oftener than by chance
    assert order_of(X, np.where(wrong, 1e-9, 1.0))["1"][0].never_less


@pytest.mark.parametrize("unit", [1, 20])  # of differences all are kept, or some
def test_weights_are_repetitions(unit):
    rng = np.random.default_rng(0)
    came, left = stays(400)
    X = np.column_stack((came, left + rng.exponential(size=400) * (rng.random(400) < 0.1)))
    counts = unit * rng.integers(0, 4, 400)
    pairs = [order_of(X, weight=counts.astype(float)), order_of(X, counts=counts)]
    (weighted,), (repeated,) = ([*order["1"]] for order in pairs)
    np.testing.assert_array_equal(weighted.differences, repeated.differences)
    assert len(weighted.differences) > 100
    for (name, one), (_, other) in zip(weighted.named_buffers(), repeated.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_a_column_is_compared_with_three_at_most():
    rng = np.random.default_rng(0)
    X = np.cumsum(rng.poisson(2, size=(500, 6)), axis=1).astype(float)
    order = order_of(X)
    assert max(map(len, order.values())) == 3


# -- what it does to a density -------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    """A density of two whole numbers of which the second is never less, with wild weights."""
    rng = np.random.default_rng(0)
    came = rng.integers(0, 4, 300)
    X = np.column_stack((came, came + rng.integers(0, 3, 300))).astype(float)
    X[:20, 0] = NAN
    torch.manual_seed(0)
    model = Mixed().build(X).double().eval()
    assert pairs_of(model.order) == [(0, 1)]
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return model


def output_of(model, n_rows=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((n_rows, model.out_features), generator=generator, dtype=torch.float64)


def test_a_density_with_an_order_sums_to_one_and_is_drawn_from(model):
    rows = torch.tensor(list(itertools.product(range(-200, 200), repeat=2)), dtype=torch.float64)
    near = torch.tensor(list(itertools.product(range(4), range(6))), dtype=torch.float64)
    output = output_of(model)
    with torch.no_grad():
        p = model.row_log_prob(model.standardize(rows), output.expand(len(rows), -1)).exp()
        assert p.sum().item() == pytest.approx(1.0, abs=1e-3)
        p = model.row_log_prob(model.standardize(near), output.expand(len(near), -1)).exp()
        empty = torch.full((6000, 2), NAN, dtype=torch.float64)
        drawn = model.fill(empty, output.expand(6000, -1), torch.Generator().manual_seed(0))[0]
    counts = (drawn[:, None] == near).all(2).sum(0)
    assert counts.sum() == 6000
    expected = 6000 * p / p.sum()
    some = expected > 5
    assert (
        scipy.stats.chisquare(counts[some], expected[some] * counts[some].sum() / expected[some].sum()).pvalue
        > 1e-3
    )


def test_what_is_hidden_is_not_compared(model):
    comparison = model.order["1"][0]
    codes, shows = torch.tensor([0, 2, 2]), torch.tensor([True, True, False])
    told = comparison(codes, shows)
    assert (told[:2] == comparison(codes[:2])).all()
    assert (told[1] != 0).any()
    assert (told[2] == 0).all()


def test_draws_that_break_a_rule_with_what_is_given_are_next_to_impossible():
    came, left = stays()
    X = np.column_stack((came, left)).astype(float)
    model = Mixed(n_bins=3).build(X).double().eval()
    known = torch.tensor([[NAN, 6.0]], dtype=torch.float64).expand(2000, -1)
    output, generator = output_of(model).expand(2000, -1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn, log_p = model.fill(model.standardize(known), output, generator, known=known)
    broken = drawn[:, 0] > 6.0  # of one bin with 6, or of one above
    assert broken.any()
    assert log_p[broken].max() < log_p[~broken].min() - 5
    assert drawn[:, 1].isnan().all()


# -- tables --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["numbers", "dates"])
def table(request):
    came, left = stays(600)
    came, left = came[left > 8], left[left > 8]
    if request.param == "dates":  # the first of either are nine days apart
        came, left = (pd.Timestamp("2024-03-01") + pd.to_timedelta(days, "D") for days in (came, left))
    frame = pd.DataFrame({"came": came, "left": left, "kind": np.where(np.arange(len(came)) % 3, "a", "b")})
    return frame, VAETransformer(2, max_iter=60, random_state=0).fit(frame)


def test_draws_keep_the_order(table):
    frame, vae = table
    rows = vae.sample(1000, random_state=0)
    assert (rows["left"] < rows["came"]).mean() < 0.02
    equal = (frame["left"] == frame["came"]).mean()
    assert (rows["left"] == rows["came"]).mean() == pytest.approx(equal, abs=0.08)


def test_what_is_expected_keeps_the_order(table):
    frame, vae = table
    holed = frame.copy()
    holed["left"] = holed["left"].where(np.arange(len(frame)) % 3 > 0)
    holed["came"] = holed["came"].where(np.arange(len(frame)) % 3 != 1)
    filled = vae.impute(holed, n_draws=50)
    assert (filled["left"] >= filled["came"]).all()
    both = holed["left"].notna() & holed["came"].notna()
    assert filled[both].equals(vae.impute(frame)[both])
    moved = vae.module_.likelihood.order.keep(
        torch.tensor([[5.0, 3.0, 0], [5, 3, 0], [5, 3, 0], [5, NAN, 0], [3, 5, 0]]),
        torch.tensor([[0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]).bool(),
    )
    wanted = torch.tensor([[5.0, 5.0, 0], [3, 3, 0], [5, 5, 0], [5, NAN, 0], [3, 5, 0]])
    assert torch.equal(moved.nan_to_num(-1), wanted.nan_to_num(-1))


def test_a_difference_that_no_bin_can_hold_is_no_error():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 100, 400)
    frame = pd.DataFrame(
        {"a": start, "b": start + rng.integers(40, 60, 400), "k": rng.choice(list("xy"), 400)}
    )
    vae = VAETransformer(2, max_iter=3, random_state=0).fit(frame)
    [comparison] = vae.module_.likelihood.order.of(1)
    assert len(comparison.differences) == 0
    with torch.no_grad():
        comparison.log_ratio.zero_()
    rows = vae.sample(20_000, random_state=0)
    assert (rows["b"] < rows["a"]).any()  # bins that overlap come up, and have no differences


def test_a_column_with_holes_is_kept_to_where_it_is_known():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 100, 1000)
    b = a + rng.exponential(1, 1000)
    c = b + rng.exponential(0.2, 1000)
    frame = pd.DataFrame({"a": a, "b": np.where(rng.random(1000) < 0.5, NAN, b), "c": c, "k": "x"})
    rows = VAETransformer(2, max_iter=25, random_state=0).fit(frame).sample(2000, random_state=0)
    known = rows["b"].notna()
    assert (rows["c"] < rows["b"])[known].mean() < 0.03
    assert (rows["c"] < rows["a"]).mean() < 0.03


def test_round_numbers_are_filled_beside_others():
    rng = np.random.default_rng(0)
    a = np.where(rng.random(800) < 0.5, rng.integers(1, 100, 800) * 100, rng.integers(1, 10_000, 800))
    b = a + np.where(rng.random(800) < 0.6, 0, rng.integers(0, 20, 800) * 100)
    frame = pd.DataFrame({"a": a, "b": b, "k": rng.choice(list("xy"), 800)})
    vae = VAETransformer(2, max_iter=5, random_state=0).fit(frame)
    assert vae.module_.likelihood.columns[1].n_grades > 2
    holed = frame.astype({"b": float})
    holed.loc[::2, "b"] = NAN
    filled = vae.impute(holed, draw=True, n_draws=20, random_state=0)
    assert (filled["b"] < filled["a"]).mean() < 0.05


def test_draws_given_one_column_keep_the_order(table):
    frame, vae = table
    early = frame["left"].sort_values().iloc[60]
    rows = vae.sample_conditional({"left": early}, 300, random_state=0)
    assert (early < rows["came"]).mean() < 0.02
    assert (early < frame["came"]).mean() > 0.5
    late = frame["came"].sort_values().iloc[-60]
    rows = vae.sample_conditional({"came": late}, 300, random_state=0)
    assert (rows["left"] < late).mean() < 0.02
    equal = (frame["left"] == frame["came"]).mean()
    assert (rows["left"] == late).mean() == pytest.approx(equal, abs=0.15)
