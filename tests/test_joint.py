"""Tables whose columns are independent given z: numbers of one kind beside levels."""

import datetime
import itertools
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

import skvae
from skvae import VAEImputer, VAETransformer
from skvae._fitting import can_replay
from skvae.likelihoods import Gaussian, Heterogeneous, Mixed, Poisson, StudentT

NAN = float("nan")


def make_rows(n_levels, n_rows=30, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.integers(n, size=n_rows) + 0.0 if n else 3 * rng.normal(size=n_rows) + 7 for n in n_levels]
    )


def build(X, n_levels, **params):
    spec = Heterogeneous(levels=n_levels, **params)
    spec.check(X)
    return spec.build(X).double()


def output_of(model, shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((*shape, model.out_features), generator=generator, dtype=torch.float64)


# -- the density -----------------------------------------------------------------------------------


def test_probabilities_of_all_rows_sum_to_one():
    n_levels = (2, 5, 3)
    model = build(make_rows(n_levels), n_levels)
    rows = torch.tensor(list(itertools.product(*map(range, n_levels))), dtype=torch.float64)
    log_p = model.row_log_prob(model.standardize(rows), output_of(model, (1,)).expand(len(rows), -1))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_density_against_scipy():
    n_levels = (3, 0, 4, 0)
    X = make_rows(n_levels)
    model = build(X, n_levels, numbers=Gaussian(min_sigma=1e-9))
    output = output_of(model, (30,))
    numbers, levels = output[:, :2].numpy(), output[:, 2:].reshape(30, 4, 2).numpy()
    want = np.empty_like(X)
    for j, place in enumerate((1, 3)):
        mean = numbers[:, j] * X[:, place].std() + X[:, place].mean()
        want[:, place] = scipy.stats.norm.logpdf(X[:, place], mean, 0.5 * X[:, place].std())
    for j, (place, n) in enumerate(((0, 3), (2, 4))):
        share = (np.bincount(X[:, place].astype(int), minlength=n) + 0.5) / (30 + 0.5 * 4)
        logits = log_softmax(levels[:, :n, j] + np.log(share), axis=1)
        want[:, place] = logits[np.arange(30), X[:, place].astype(int)]
    x = model.standardize(torch.tensor(X))
    with torch.no_grad():
        np.testing.assert_allclose(model.log_prob(x, output), want, rtol=1e-6)
        np.testing.assert_allclose(model.row_log_prob(x, output, True), want.sum(1), rtol=1e-6)
        x[::3, 1], x[1::3, 2] = NAN, NAN
        want[::3, 1], want[1::3, 2] = 0, 0
        np.testing.assert_allclose(model.log_prob(x, output), want, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(n_levels=st.lists(st.integers(0, 70), min_size=1, max_size=8))
def test_columns_stay_in_their_places(n_levels):
    X = make_rows(n_levels)
    model = build(X, n_levels)
    x = model.standardize(torch.tensor(X))
    output = output_of(model, (2, 30))
    numeric = np.array(n_levels) == 0
    assert torch.equal(x[:, ~numeric], torch.tensor(X[:, ~numeric]))
    assert model.features(x).shape == (30, model.in_features)
    for values in (model.mean(output), model.sample(output, torch.Generator().manual_seed(0))):
        assert values.shape == (2, 30, len(n_levels))
        for j in np.flatnonzero(~numeric):
            assert torch.isin(values[..., j], torch.arange(float(n_levels[j]), dtype=values.dtype)).all()
    cells = model.log_prob(x, output)
    torch.testing.assert_close(cells.sum(-1), model.row_log_prob(x, output))
    for j in range(len(n_levels)):  # one cell changes its own term alone
        other = x.clone()
        other[:, j] = NAN
        left = model.log_prob(other, output)
        assert (left[..., j] == 0).all()
        keep = np.arange(len(n_levels)) != j
        assert torch.equal(left[..., keep], cells[..., keep])


def test_no_column_pays_for_a_wide_one():
    n_levels = (2,) * 9 + (1000,)
    model = build(make_rows(n_levels, 3000), n_levels)
    assert model.out_features == 9 * 2 + 1000


def test_a_level_without_a_row_has_a_probability():
    X = np.array([[0.0], [2.0], [0.0], [2.0]])
    model = build(X, (4,))
    log_p = model.log_prob(torch.arange(4.0).double()[:, None], torch.zeros(4, 4, dtype=torch.float64))
    np.testing.assert_allclose(log_p.exp()[:, 0], np.array([2.5, 0.5, 2.5, 0.5]) / 6)


# -- the specification -----------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", ["gaussian", Mixed(), 3])
def test_only_likelihoods_of_one_kind_of_numbers(numbers):
    with pytest.raises(ValueError, match=r"Got numbers=.*such as Gaussian\(\)"):
        Heterogeneous(numbers).check(np.zeros((3, 1)))


def test_values_that_cannot_be():
    with pytest.raises(ValueError, match="'heterogeneous' with values in column 1 that are not among its 2"):
        Heterogeneous(levels=(0, 2)).check(np.array([[0.5, 2.0]]))
    with pytest.raises(ValueError, match=r"do not suit numbers=Poisson\(\): Got likelihood='poisson'"):
        Heterogeneous(Poisson(), levels=(0, 2)).check(np.array([[0.5, 1.0]]))
    with pytest.raises(ValueError, match="one number each"):
        Heterogeneous(levels=(2,)).check(np.zeros((3, 2)))


# -- the estimator ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    wine = load_wine(as_frame=True)
    table = wine.data.iloc[:, 6:].assign(
        kind=wine.target_names[wine.target],
        strong=wine.data["alcohol"] > 13,
        grade=pd.Categorical(np.array(["a", "b", "c"])[wine.target], ["a", "b", "c", "d"], ordered=True),
        day=pd.Timestamp("2020-01-01") + pd.to_timedelta(100 * wine.target + np.arange(178) % 7, unit="D"),
    )
    return table.mask(np.random.default_rng(0).random(table.shape) < 0.1).astype({"strong": "boolean"})


@pytest.fixture(scope="module")
def fitted(table):
    return VAETransformer(4, likelihood="heterogeneous", max_iter=300, random_state=0).fit(table)


def test_draws_are_tables_like_those_of_fit(fitted, table):
    drawn = fitted.sample(2000, random_state=0)
    assert_frame_equal(drawn.iloc[:0], table.iloc[:0], check_index_type=False)
    assert not drawn.isna().any(axis=None)
    shares = table["kind"].value_counts(normalize=True)
    assert drawn["kind"].value_counts(normalize=True)[shares.index].to_numpy() == pytest.approx(
        shares, abs=0.08
    )
    wrong = (drawn["kind"].map({"class_0": "a", "class_1": "b", "class_2": "c"}) != drawn["grade"]).mean()
    assert wrong < 0.25  # they depend on each other through z
    given = fitted.sample_conditional({"kind": "class_1"}, n_samples=400, random_state=0)
    assert (given["kind"] == "class_1").all()
    assert (given["grade"] == "b").mean() > 0.7


def test_cells_sum_to_scores(fitted, table):
    scores = fitted.score_samples(table)
    np.testing.assert_allclose(fitted.score_cells(table).sum(axis=1), scores, rtol=1e-6)
    upset = table.assign(kind=table["kind"].map({"class_0": "class_2"}).fillna(table["kind"]))
    changed = (table["kind"] == "class_0").to_numpy()
    assert (fitted.score_samples(upset)[changed] < scores[changed] - 1).mean() > 0.9


def test_holes_are_filled_from_the_other_cells(table):
    hidden = table["kind"].notna().to_numpy() & (np.arange(len(table)) % 5 == 0)
    model = VAETransformer(4, likelihood="heterogeneous", max_iter=300)
    filled = VAEImputer(model, random_state=0).fit_transform(table.assign(kind=table["kind"].mask(hidden)))
    assert (filled["kind"][hidden] == table["kind"][hidden]).mean() > 0.85
    assert not filled.isna().any(axis=None)
    assert_frame_equal(filled.where(table.notna()), table.where(table.notna()), check_dtype=False)


def test_saved_and_pickled(fitted, table, tmp_path):
    skvae.save(fitted, tmp_path / "model.skvae")
    for copy in (skvae.load(tmp_path / "model.skvae"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(copy.score_samples(table), fitted.score_samples(table))
        assert_frame_equal(copy.sample(5, random_state=1), fitted.sample(5, random_state=1))


def test_numbers_of_another_kind(table):
    spec = Heterogeneous(StudentT(min_scale=0.1))
    grid = {"likelihood__numbers": [None, StudentT()]}
    vae = VAETransformer(2, likelihood=spec, max_iter=3, random_state=0)
    search = GridSearchCV(vae, grid, cv=2).fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    counts = pd.DataFrame({"n": np.arange(60) % 5, "kind": list("ab") * 30})
    drawn = VAETransformer(2, likelihood=Heterogeneous(Poisson()), max_iter=3, random_state=0).fit(counts)
    assert (drawn.sample(100)["n"] >= 0).all()
    assert clone(spec).numbers.min_scale == 0.1


def test_as_an_array_with_categorical_features():
    X = make_rows((0, 3, 0), 80)
    vae = VAETransformer(2, likelihood="heterogeneous", categorical_features=[1], max_iter=3, random_state=0)
    assert set(np.unique(vae.fit(X).sample(50)[:, 1])) <= {0.0, 1.0, 2.0}
    assert vae.likelihood_.levels == (0, 3, 0)
    with pytest.raises(ValueError, match="'auto', 'mixed' or 'heterogeneous'"):
        vae.set_params(likelihood="gaussian").fit(X)


def test_numbers_alone_are_those_of_the_gaussian():
    X = load_wine().data
    scores = [
        VAETransformer(2, likelihood=likelihood, max_iter=20, random_state=0).fit(X).score(X)
        for likelihood in ("heterogeneous", "gaussian")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_times_near_midnight_stay_within_the_day():
    random = np.random.default_rng(0)
    late = random.random(100) < 0.5
    minutes = np.where(late, random.integers(1410, 1440, 100), random.integers(0, 30, 100))
    table = pl.DataFrame(
        {"t": [datetime.time(m // 60, m % 60) for m in minutes], "s": np.where(late, "late", "early")}
    )
    holed = table.with_columns(pl.when(pl.Series(random.random(100) < 0.7)).then("t").alias("t"))
    vae = VAETransformer(2, likelihood="heterogeneous", max_iter=100, random_state=0).fit(holed)
    drawn = vae.sample(500, random_state=0)
    assert drawn.schema["t"] == pl.Time
    assert set(drawn["t"].dt.second()) == {0}  # at the steps of the data
    assert {datetime.time(0, 0), datetime.time(23, 59)} <= set(drawn["t"])  # where the rest went
    filled = VAEImputer(FrozenEstimator(vae), sample_posterior=True, random_state=0).fit_transform(holed)
    assert filled["t"].null_count() == 0


@pytest.mark.parametrize(("unit", "last"), [("ns", "2262-04-11"), ("us", "9999-12-31")])
def test_draws_stay_within_the_calendar(unit, last):
    random = np.random.default_rng(0)
    days = np.array(["2020-01-01"], dtype=f"M8[{unit}]") + random.integers(0, 300, 200).astype("m8[D]")
    table = pd.DataFrame({"day": np.where(random.random(200) < 0.3, np.datetime64(last, unit), days)})
    table["late"] = table["day"] > pd.Timestamp("2100-01-01")
    vae = VAETransformer(2, likelihood="heterogeneous", max_iter=50, random_state=0).fit(table)
    drawn = vae.sample(2000, random_state=0)["day"]
    assert drawn.dtype == table["day"].dtype
    assert (drawn == drawn.dt.normalize()).all()
    assert drawn.max().year == int(last[:4])  # what is beyond stops there
    beyond = vae._container.wrap(np.array([[1e12, 0.0], [-1e12, 0.0]]))["day"]
    assert beyond.dt.year.tolist() == ([2262, 1677] if unit == "ns" else [9999, 1])  # not wrapped around


def test_more_levels_than_a_categorical_array_may_have():
    names = [f"c{i % 10_500}" for i in range(21_500)]
    table = pd.DataFrame({"place": names, "x": np.arange(21_500.0)})
    spec = Heterogeneous(levels=(10_500, 0))
    codes = np.column_stack([pd.Categorical(table["place"]).codes, table["x"]]).astype(float)
    spec.check(codes)
    assert spec.build(codes).out_features == 10_501


def test_own_numbers_are_not_recorded_for_replay():
    class Own(Gaussian):
        name = "own"

    table = pd.DataFrame({"x": np.arange(20.0), "s": list("ab") * 10})
    for numbers, can in ((Gaussian(), True), (Own(), False)):
        vae = VAETransformer(2, likelihood=Heterogeneous(numbers), max_iter=1).fit(table)
        assert can_replay(vae) is can


def test_constants_stay_until_later_rows_vary():
    random = np.random.default_rng(0)
    first = pd.DataFrame({"x": random.normal(size=80), "year": 2020, "s": list("ab") * 40})
    holed = first.astype({"year": "Int64"}).mask(random.random(first.shape) < 0.3)
    for drawing in (False, True):
        filled = VAEImputer(sample_posterior=drawing, random_state=0).fit_transform(holed)
        assert (filled["year"] == 2020).all()
    vae = VAETransformer(2, likelihood="heterogeneous", random_state=0).partial_fit(first)
    assert (vae.sample(20)["year"] == 2020).all()
    later = first.assign(year=2020 + random.integers(-900, 900, 80))
    for _ in range(3):
        vae.partial_fit(later)
    assert vae.sample(20, random_state=0)["year"].std() > 1
