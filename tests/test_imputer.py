"""VAEImputer: scikit-learn's contract, exact conditional moments, tables, and whatever goes wrong."""

import copy
import datetime
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from skvae import VAEImputer, VAETransformer, load, save
from skvae._holes import find_holes
from skvae.imputer import default_estimator
from skvae.networks import Conv

tiny = partial(VAETransformer, 2, max_iter=4, hidden_layer_sizes=(8,))
CONFIGURATIONS = {
    "plain": VAEImputer(tiny()),
    "keeping": VAEImputer(tiny(prior="normal"), keep_empty_features=True, n_draws=10),
    "indicator": VAEImputer(tiny(), add_indicator=True, n_draws=10),
    "marked": VAEImputer(tiny(), missing_values=-1, n_draws=10),
}
FURTHER_CHECKS = [  # scikit-learn runs these on its own estimators, check_estimator does not yield them
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


def list_checks():
    for name, estimator in CONFIGURATIONS.items():
        for i, (instance, check) in enumerate(estimator_checks.estimator_checks_generator(estimator)):
            yield pytest.param(instance, check, id=f"{name}-{i}-{check.func.__name__}")
        for check_name in FURTHER_CHECKS:
            if name == "marked" and check_name == "check_inplace_ensure_writeable":
                continue  # it puts in NaN, whatever marks a missing cell
            check = partial(getattr(estimator_checks, check_name), type(estimator).__name__)
            # these fit a DataFrame and transform an array, or the reverse: scikit-learn rightly warns
            mark = pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
            marks = [mark] if check_name.endswith(("pandas", "polars")) else []
            yield pytest.param(estimator, check, marks=marks, id=f"{name}-{check_name}")


CHECKS = list(list_checks())


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_check(estimator, check):
    try:
        check(clone(estimator))
    except SkipTest as reason:  # pytest would count it as neither passed nor failed
        pytest.fail(f"skipped: {reason}")


def test_no_check_is_missing():
    names = {param.id for param in CHECKS if param.id.startswith("plain-")}
    assert len(names) >= 55
    for wished in (
        "transformer_general",
        "transformer_preserve_dtypes",
        "fit_idempotent",
        "set_output_transform",
    ):
        assert any(name.endswith(f"check_{wished}") for name in names)


@pytest.mark.parametrize("imputer", [VAEImputer(), *CONFIGURATIONS.values()], ids=repr)
def test_tags(imputer):
    tags = get_tags(imputer)
    assert tags.input_tags.allow_nan == (imputer.missing_values != -1)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.target_tags.required


# -- an outside truth ----------------------------------------------------------------------------


@pytest.fixture(scope="module", name="linear")
def linear_model():
    """A linear model, whose joint distribution is normal, its mean and covariance."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 5)) + 0.4 * rng.normal(size=(400, 5))
    X = X * [1, 10, 0.1, 2, 1] + [0, 50, 3, -1, 0]
    vae = VAETransformer(2, hidden_layer_sizes=(), prior="normal", max_iter=200, random_state=0).fit(X)
    zero, one = vae.inverse_transform(np.zeros((1, 2))), vae.inverse_transform(np.eye(2))
    loadings = one - zero
    scale = vae.module_.likelihood.scale.numpy()
    likelihood = vae.module_.likelihood
    sigma = np.exp(likelihood.likelihood.log_sigma(None, likelihood.constants).detach().numpy()) * scale
    return X, vae, zero[0], loadings.T @ loadings + np.diag(sigma**2)


def condition(x, mean, covariance):
    """Return the exact moments of the missing cells of a row given the others."""
    gap = np.isnan(x)
    gain = covariance[np.ix_(gap, ~gap)] @ np.linalg.inv(covariance[np.ix_(~gap, ~gap)])
    expected = mean[gap] + gain @ (x - mean)[~gap]
    return expected, covariance[np.ix_(gap, gap)] - gain @ covariance[np.ix_(~gap, gap)]


@pytest.mark.parametrize("gaps", [[0], [1, 3], [0, 2, 4], [0, 1, 2, 3], [0, 1, 2, 3, 4]], ids=str)
def test_point_is_the_conditional_mean(linear, gaps):
    X, vae, mean, covariance = linear
    rows = X[:20].copy()
    rows[:, gaps] = np.nan
    filled = VAEImputer(FrozenEstimator(vae), n_draws=20_000).fit(X).transform(rows)
    for row, full in zip(rows, filled, strict=True):
        expected, spread = condition(row, mean, covariance)
        assert (np.abs(full[gaps] - expected) < 0.06 * np.sqrt(np.diag(spread))).all()


def test_draws_find_a_posterior_that_the_encoder_misses(linear):
    X, vae, mean, covariance = linear
    astray = copy.deepcopy(vae)
    with torch.no_grad():  # q(z given x) is N(0, 1) whatever x is
        for parameter in astray.module_.encoder.parameters():
            parameter.zero_()
    rows = X[:100].copy()
    rows[:, 3:] = np.nan
    filled = VAEImputer(FrozenEstimator(astray), n_draws=400).fit(X).transform(rows)
    off = []
    for row, full in zip(rows, filled, strict=True):
        expected, spread = condition(row, mean, covariance)
        off.append((full[3:] - expected) / np.sqrt(np.diag(spread)))
    assert np.sqrt(np.mean(np.square(off))) < 0.08


def test_values_far_from_zero_keep_their_digits(linear):
    X, vae, *_ = linear
    shift = np.array([0, 0, 1.7e9, 0, 0])  # seconds of the day, say, since 1970
    far = copy.deepcopy(vae)
    far.module_.likelihood.location += torch.tensor(shift)
    rows = X[:20].copy()
    rows[:, 2:4] = np.nan
    near, filled = vae.impute(rows), far.impute(rows + shift)
    np.testing.assert_allclose(filled - shift, near, atol=1e-6)


def test_draws_have_the_conditional_moments(linear):
    X, vae, mean, covariance = linear
    row = X[3].copy()
    row[[1, 3]] = np.nan
    imputer = VAEImputer(FrozenEstimator(vae), sample_posterior=True, n_draws=300, random_state=0).fit(X)
    draws = imputer.transform(np.tile(row, (4000, 1)))
    expected, spread = condition(row, mean, covariance)
    deviation = np.sqrt(np.diag(spread))
    assert (np.abs(draws[:, [1, 3]].mean(axis=0) - expected) < 0.08 * deviation).all()
    np.testing.assert_allclose(
        np.cov(draws[:, [1, 3]].T) / np.outer(deviation, deviation),
        spread / np.outer(deviation, deviation),
        atol=0.08,
    )
    np.testing.assert_array_equal(draws[:, [0, 2, 4]], np.tile(row[[0, 2, 4]], (4000, 1)))


@pytest.mark.parametrize("likelihood", ["auto", "student_t", "mixed"])
def test_better_than_means(likelihood):
    X = load_iris().data
    holes = np.random.default_rng(0).random(X.shape) < 0.2
    holed = np.where(holes, np.nan, X)
    estimator = VAETransformer(2, likelihood=likelihood, beta=0.3, max_iter=200)
    filled = VAEImputer(estimator, random_state=0).fit_transform(holed)
    by_mean = SimpleImputer().fit_transform(holed)
    assert np.square((filled - X) / X.std(0)).sum() < 0.5 * np.square((by_mean - X) / X.std(0)).sum()


def test_levels_of_a_likelihood_of_levels():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.integers(0, 3, (200, 1)), 8, axis=1).astype(float)
    holed = X.copy()
    holed[:40, 1] = np.nan
    filled = VAEImputer(VAETransformer(2, likelihood="categorical", beta=0.3), random_state=0).fit_transform(
        holed
    )
    np.testing.assert_array_equal(filled, X)
    X = np.minimum(X, 1)
    holed = np.where(np.isnan(holed), np.nan, X)
    filled = VAEImputer(VAETransformer(2, likelihood="bernoulli", beta=0.3), random_state=0).fit_transform(
        holed
    )
    np.testing.assert_array_equal(filled, X)


# -- scikit-learn's own tests of imputers --------------------------------------------------------


@pytest.mark.parametrize("marker", [np.nan, -1, 0])
def test_indicator(marker):
    X = np.array(
        [
            [marker, 1, 5, marker, 1],
            [2, marker, 1, marker, 2],
            [6, 3, marker, marker, 3],
            [1, 2, 9, marker, 4],
        ]
    )
    imputer = VAEImputer(tiny(), missing_values=marker, add_indicator=True, random_state=0)
    with pytest.warns(UserWarning, match=r"Skipping features without any observed values: \[3\]"):
        filled = imputer.fit_transform(X)
    truth = [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    np.testing.assert_array_equal(filled[:, -4:], truth)
    np.testing.assert_array_equal(imputer.indicator_.features_, [0, 1, 2, 3])
    imputer.set_params(add_indicator=False)
    with pytest.warns(UserWarning, match="Skipping"):
        np.testing.assert_array_equal(filled[:, :-4], imputer.fit_transform(X))
    assert imputer.indicator_ is None


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("method", ["fit_transform", "transform"])
@pytest.mark.filterwarnings("ignore:Skipping features")
def test_empty_features(keep, method):
    X = np.array([[1, np.nan, 2], [3, np.nan, np.nan], [2, np.nan, 1]])
    imputer = VAEImputer(tiny(), keep_empty_features=keep).fit(X)
    filled = getattr(imputer, method)(X)
    assert filled.shape == (3, 3 if keep else 2)
    if keep:
        np.testing.assert_array_equal(filled[:, 1], 0)
        np.testing.assert_array_equal(imputer.transform([[1, 7, 2]]), [[1, 7, 2]])  # what is seen stays
    assert imputer.get_feature_names_out().tolist() == (["x0", "x1", "x2"] if keep else ["x0", "x2"])


@pytest.mark.parametrize("add_indicator", [True, False])
@pytest.mark.filterwarnings("ignore:Skipping features")
def test_feature_names_out(add_indicator):
    gap = np.nan
    X = pd.DataFrame(
        [[gap, 1, 5, 3, gap, 1], [2, gap, 1, 4, gap, 2], [6, 3, 7, gap, gap, 3], [1, 2, 9, 8, gap, 4]],
        columns=list("abcdef"),
    )
    imputer = VAEImputer(tiny(), add_indicator=add_indicator).fit(X)
    flags = ["missingindicator_" + name for name in "abde"] if add_indicator else []
    assert imputer.get_feature_names_out().tolist() == [*"abcdf", *flags]
    assert imputer.transform(X).columns.tolist() == [*"abcdf", *flags]
    names = [f"in{i}" for i in range(6)]
    assert VAEImputer(tiny()).fit(X.to_numpy()).get_feature_names_out(names).tolist() == [*names[:4], "in5"]


def test_missing_cells_in_transform_alone():
    imputer = VAEImputer(tiny(), add_indicator=True).fit([[1], [2]])
    assert np.isfinite(imputer.transform([[3], [np.nan]])).all()
    imputer = VAEImputer(tiny(), add_indicator=True).fit([[0, np.nan], [1, 2]])
    assert imputer.transform([[0, np.nan], [1, 2]])[:, -1].tolist() == [1, 0]
    assert imputer.transform([[0, 1], [1, 2]])[:, -1].tolist() == [0, 0]


def test_pandas_integers_with_na():
    marks = np.array([[np.nan, 1, 5, 1], [2, np.nan, 1, 2], [6, 3, np.nan, 3], [1, 2, 9, 4]])
    table = pd.DataFrame(marks, dtype="Int16", columns=list("abcd"))
    filled = VAEImputer(tiny(), random_state=0).fit_transform(table)
    assert (filled.dtypes == "Int16").all()
    expected = VAEImputer(tiny(), random_state=0).fit_transform(marks)
    np.testing.assert_array_equal(filled.to_numpy(float), np.rint(expected))


@pytest.mark.parametrize("marker", [np.nan, None, pd.NA, -1], ids=repr)
def test_markers_in_tables(marker):
    table = pd.DataFrame({"a": [1.0, 2, 3, 4] * 10, "b": [2, 4, 6, 8] * 10})
    truth = VAEImputer(tiny(), random_state=0).fit_transform(table.mask(table == 3))
    marked = (
        table.mask(table == 3, np.nan if marker != -1 or marker is pd.NA else -1)
        if marker is not pd.NA
        else table.mask(table == 3)
    )
    filled = VAEImputer(tiny(), missing_values=marker, random_state=0).fit_transform(marked)
    pd.testing.assert_frame_equal(filled, truth)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_text_marker(library):
    table = pd.DataFrame(
        {
            "a": ["x", "y", "?", "y"] * 20,
            "b": pd.Categorical(["u", "v", "u", "?"] * 20),
            "n": [1, 2, 1, 2] * 20,
        }
    )
    table = table if library == "pandas" else pl.from_pandas(table)
    imputer = VAEImputer(VAETransformer(2, max_iter=200), missing_values="?", random_state=0)
    filled = imputer.fit_transform(table)
    assert filled["a"].to_list()[:4] == ["x", "y", "x", "y"]
    assert filled["b"].to_list()[:4] == ["u", "v", "u", "v"]
    assert dict(zip(filled.columns, filled.dtypes, strict=True)) == dict(
        zip(table.columns, table.dtypes, strict=True)
    )


def test_marked_whole_numbers_keep_their_type():
    table = pd.DataFrame({"n": [1, -1, 3, 5] * 10, "m": [1, 2, 3, 5] * 10, "t": list("abcd") * 10})
    filled = VAEImputer(VAETransformer(2, max_iter=20), missing_values=-1).fit_transform(table)
    assert filled["n"].dtype == table["n"].dtype
    assert (filled["n"] > 0).all()


def test_missing_cells_without_the_mark():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        VAEImputer(tiny(), missing_values=-1).fit([[1, np.nan], [-1, 2]])
    with pytest.raises(ValueError, match=r"Input X contains NaN: column 'b'.*missing_values='\?'"):
        VAEImputer(tiny(), missing_values="?").fit(pd.DataFrame({"a": ["x", "?"], "b": [1.0, np.nan]}))
    with pytest.raises(ValueError, match=r"missing_values='\?' with X of numbers"):
        VAEImputer(tiny(), missing_values="?").fit([[1.0], [2.0]])


def test_input_stays_as_it_is():
    X = load_iris().data.copy()
    X[::7, 2] = np.nan
    before = X.copy()
    VAEImputer(tiny()).fit_transform(X)
    np.testing.assert_array_equal(X, before)
    table = pd.DataFrame(X)
    VAEImputer(tiny()).fit_transform(table)
    pd.testing.assert_frame_equal(table, pd.DataFrame(before))


@pytest.mark.parametrize(
    ("likelihood", "n_rows", "n_draws"),
    [
        *(("auto", 50, 500), ("auto", 5000, 500), ("auto", 10_000, 250), ("auto", 40_000, 100)),
        *(("mixed", 50, 100), ("mixed", 20_000, 60), ("mixed", 40_000, 50)),
    ],
)
def test_as_many_draws_as_time_allows(likelihood, n_rows, n_draws, monkeypatch):
    asked = []
    vae = tiny(likelihood=likelihood).fit(np.random.default_rng(0).normal(size=(60, 2)))
    X = np.zeros((n_rows, 2))
    X[0, 1] = np.nan
    imputer = VAEImputer(FrozenEstimator(vae)).fit(X)
    monkeypatch.setattr(VAETransformer, "impute", lambda self, X, n_draws, **_: asked.append(n_draws) or X)
    imputer.transform(X[:3])
    assert asked == [n_draws]


def test_draws_differ_by_call_and_agree_by_seed():
    X = load_iris().data.copy()
    X[::3, 1] = np.nan
    make = partial(VAEImputer, tiny(), sample_posterior=True, n_draws=20)
    one, other = make(random_state=3).fit(X), make(random_state=3).fit(X)
    first = one.transform(X)
    np.testing.assert_array_equal(first, other.transform(X))
    assert not np.array_equal(first, one.transform(X))
    assert not np.array_equal(first, make(random_state=4).fit(X).transform(X))
    state = np.random.get_state()[1].copy()  # noqa: NPY002 -- the global generator
    make().fit_transform(X)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("rs_imputer", [None, 1, np.random.RandomState(1)])
def test_random_state_of_the_estimator_is_left(rs_imputer):
    estimator = tiny(random_state=5)
    imputer = VAEImputer(estimator, random_state=rs_imputer).fit(load_iris().data)
    assert estimator.random_state == 5
    assert not hasattr(estimator, "module_")
    assert imputer.estimator_.random_state is (5 if rs_imputer is None else imputer.estimator_.random_state)


# -- any rows ------------------------------------------------------------------------------------

cells = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32))


@settings(max_examples=25, deadline=None)
@given(rows=arrays(np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=cells))
def test_any_rows(iris_imputer, rows):
    filled = iris_imputer.transform(rows)
    seen = ~np.isnan(rows)
    assert np.isfinite(filled).all()
    assert filled[seen].tobytes() == rows[seen].tobytes()
    one_by_one = np.vstack([iris_imputer.transform(row[None]) for row in rows])
    np.testing.assert_allclose(filled, one_by_one, rtol=5e-3, atol=1e-3)  # weights in float32, of far values


@pytest.fixture(scope="module")
def iris_imputer():
    return VAEImputer(VAETransformer(2, max_iter=50), random_state=0, n_draws=30).fit(load_iris().data)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dtype(dtype):
    X = load_iris().data.astype(dtype)
    X[::5, 0] = np.nan
    filled = VAEImputer(tiny(), add_indicator=True).fit_transform(X)
    assert filled.dtype == dtype
    seen = ~np.isnan(X)
    assert filled[:, :4][seen].tobytes() == X[seen].tobytes()


def test_rows_of_a_file(tmp_path):
    X = load_iris().data.copy()
    X[::5, 0] = np.nan
    file = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="w+", shape=X.shape)
    file[:] = X
    file = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="r", shape=X.shape)
    imputer = VAEImputer(tiny(), random_state=0)
    np.testing.assert_array_equal(imputer.fit_transform(file), imputer.fit_transform(X))


def test_threads(iris_imputer):
    X = load_iris().data.copy()
    X[::2, 1] = np.nan
    expected = iris_imputer.transform(X)
    with ThreadPoolExecutor(4) as pool:
        for filled in pool.map(iris_imputer.transform, [X] * 8):
            np.testing.assert_array_equal(filled, expected)


# -- tables --------------------------------------------------------------------------------------


def mixed_table(n=120):
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], n)
    table = pd.DataFrame(
        {
            "size": (np.where(colour == "red", 1.0, 5.0) + 0.1 * rng.normal(size=n)).astype(np.float32),
            "colour": pd.Categorical(colour),
            "twin": np.where(colour == "red", "r", "other"),
            "open": rng.random(n) > 0.5,
            "count": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "moment": pd.date_range("2020-01-01", periods=n).as_unit("us"),
        },
        index=2 * np.arange(n) + 7,
    )
    full = table.copy()
    for j in (0, 1, 2, 4, 5):
        table.iloc[j * 10 : j * 10 + 8, j] = pd.NA if j == 4 else None
    return table, full


@pytest.fixture(scope="module")
def mixed_imputer():
    return VAEImputer(VAETransformer(2, max_iter=350), random_state=0, n_draws=50).fit(mixed_table()[0])


def test_mixed_pandas(mixed_imputer):
    table, full = mixed_table()
    filled = mixed_imputer.transform(table)
    pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
    pd.testing.assert_index_equal(filled.index, table.index)
    assert not filled.isna().any().any()
    for name in table:
        seen = table[name].notna()
        pd.testing.assert_series_equal(filled.loc[seen, name], table.loc[seen, name])
    np.testing.assert_allclose(filled["size"][:8], full["size"][:8], atol=1.0)
    assert (filled["twin"] == full["twin"]).mean() > 0.97
    subset = mixed_imputer.transform(table.iloc[3:30:4])
    pd.testing.assert_frame_equal(subset, filled.iloc[3:30:4])


def test_mixed_polars(mixed_imputer):
    table = pl.from_pandas(mixed_table()[0])
    imputer = VAEImputer(VAETransformer(2, max_iter=350), random_state=0, n_draws=50).fit(table)
    filled = imputer.transform(table)
    assert filled.schema == table.schema
    assert sum(filled.null_count().row(0)) == 0
    for name in table.columns:
        seen = table[name].is_not_null() & (
            table[name].is_not_nan() if table[name].dtype.is_float() else table[name].is_not_null()
        )
        assert filled[name].filter(seen).to_list() == table[name].filter(seen).to_list()
    expected = mixed_imputer.transform(mixed_table()[0])
    assert filled["twin"].to_list() == expected["twin"].to_list()


def test_mixed_draws():
    table, _ = mixed_table()
    imputer = VAEImputer(VAETransformer(2, max_iter=100), sample_posterior=True, random_state=0).fit(table)
    one, other = imputer.transform(table), imputer.transform(table)
    assert not one.isna().any().any()
    assert (one["count"] != other["count"]).any()
    assert (one[table.notna()].dropna() == table.dropna()).all().all()


def test_level_never_seen(mixed_imputer):
    table, _ = mixed_table()
    table = table.astype({"colour": object})
    table.iloc[0, 1] = "pink"  # while its size is missing
    filled = mixed_imputer.transform(table)
    assert filled.iloc[0, 1] == "pink"
    assert filled["size"].notna().all()


def test_fewer_categories_in_transform(mixed_imputer):
    table = mixed_table()[0].iloc[10:18]  # no colours at all
    table["colour"] = table["colour"].cat.remove_unused_categories()
    filled = mixed_imputer.transform(table)
    assert filled["colour"].notna().all()
    assert isinstance(filled["colour"].dtype, pd.CategoricalDtype)


def test_polars_adds_categories_too():
    table = pl.DataFrame({"a": ["u", "v", "w"] * 50, "b": np.tile([0.0, 1, 2], 50)})
    table = table.cast({"a": pl.Enum(["u", "v", "w"])})
    imputer = VAEImputer(VAETransformer(2, max_iter=150, random_state=0)).fit(table)
    rows = pl.DataFrame({"a": ["u", None], "b": [0.0, 2]}, schema={"a": pl.Enum(["u"]), "b": pl.Float64})
    filled = imputer.transform(rows)
    assert filled["a"].to_list() == ["u", "w"]
    assert filled.schema["a"] == pl.Enum(["u", "w"])
    assert imputer.transform(table[:2]).schema == table.schema


def test_few_epochs_of_many_rows_are_meant(monkeypatch):
    monkeypatch.setattr("skvae.imputer.FEW_ROWS", 50)
    monkeypatch.setattr("skvae.imputer.MANY_ROWS", 100)
    monkeypatch.setattr("skvae.imputer.MANY_EPOCHS", 3)
    monkeypatch.setattr("skvae._fitting.falls_fast", lambda losses: True)
    X = load_iris().data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imputer = VAEImputer(random_state=0).fit(X)
    assert imputer.estimator_.max_iter < 10
    with pytest.warns(ConvergenceWarning, match="The loss was still falling"):
        VAEImputer(VAETransformer(max_iter=3), random_state=0).fit(X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.filterwarnings("ignore:Skipping features")
def test_empty_columns_of_a_table(library):
    table = mixed_table()[0].assign(nothing=np.nan, text=pd.Series(dtype="str")).reset_index(drop=True)
    table = table if library == "pandas" else pl.from_pandas(table)
    imputer = VAEImputer(VAETransformer(2, max_iter=10), add_indicator=True, n_draws=10).fit(table)
    filled = imputer.transform(table)
    assert "nothing" not in filled.columns
    assert "text" not in filled.columns
    assert "missingindicator_nothing" in filled.columns
    assert filled["missingindicator_size"].to_list()[:10] == [True] * 8 + [False] * 2
    imputer.set_params(keep_empty_features=True, add_indicator=False).fit(table)
    filled = imputer.transform(table)
    assert set(filled["nothing"].to_list()) == {0.0}
    assert read_missing(filled["text"]).all()
    assert list(filled.columns) == list(table.columns)


def read_missing(series):
    return np.array(series.isna() if hasattr(series, "isna") else series.is_null())


@pytest.mark.parametrize("container", ["pandas", "polars", "default"])
def test_set_output(container):
    table, _ = mixed_table()
    imputer = VAEImputer(VAETransformer(2, max_iter=10), n_draws=10).set_output(transform=container)
    kind = pl.DataFrame if container == "polars" else pd.DataFrame
    assert isinstance(imputer.fit_transform(table), kind)
    X = load_iris().data
    kind = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "default": np.ndarray}[container]
    assert isinstance(imputer.fit_transform(X), kind)


@pytest.mark.parametrize("everywhere", [True, False])
def test_polars_in_and_pandas_out(everywhere):
    X = pl.DataFrame(
        {"a": [1, 2, None] * 20, "kind": ["a", "b"] * 30, "day": [datetime.date(2020, 1, 1)] * 60}
    )
    imputer = VAEImputer(VAETransformer(2, max_iter=2), n_draws=10, add_indicator=True)
    if everywhere:
        with config_context(transform_output="pandas"):
            filled = imputer.fit_transform(X)
    else:
        filled = imputer.set_output(transform="pandas").fit_transform(X)
    assert filled["a"].dtype == np.int64
    assert filled["kind"].tolist() == ["a", "b"] * 30
    assert filled["day"].dtype.kind == "M"
    assert filled["missingindicator_a"].tolist() == [False, False, True] * 20


# -- the wrapped estimator -----------------------------------------------------------------------


def test_frozen_estimator_is_used_as_fitted(linear):
    X, vae, *_ = linear
    frozen = FrozenEstimator(vae)
    holed = X[:50].copy()
    holed[:, 0] = np.nan  # which the model knows
    imputer = VAEImputer(frozen).fit(holed)
    assert imputer.estimator_ is frozen
    filled = imputer.transform(holed)
    assert filled.shape == (50, 5)
    np.testing.assert_array_equal(filled, vae.impute(holed))
    assert np.corrcoef(filled[:, 0], X[:50, 0])[0, 1] > 0.5


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_frozen_estimator_with_an_empty_column():
    X = np.column_stack((load_iris().data, np.full(150, np.nan)))
    imputer = VAEImputer(FrozenEstimator(tiny().fit(X))).fit(X)
    assert imputer.transform(X).shape == (150, 4)
    table = pd.DataFrame(X).rename(columns=str).assign(level="a")
    imputer = VAEImputer(FrozenEstimator(tiny().fit(table)), keep_empty_features=True).fit(table)
    assert (imputer.transform(table)["4"] == 0).all()


def test_frozen_estimator_of_other_columns(linear):
    X, vae, *_ = linear
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 5"):
        VAEImputer(FrozenEstimator(vae)).fit(X[:, :3])
    table = pd.DataFrame(X, columns=list("abcde"))
    frozen = FrozenEstimator(tiny().fit(table))
    with pytest.raises(ValueError, match="feature names should match"):
        VAEImputer(frozen).fit(table[list("bacde")])


def test_frozen_estimator_must_be_fitted_and_ours(linear):
    X = linear[0]
    with pytest.raises(NotFittedError):
        VAEImputer(FrozenEstimator(tiny())).fit(X)
    with pytest.raises(TypeError, match=re.escape("expected a fitted VAETransformer in FrozenEstimator")):
        VAEImputer(FrozenEstimator(PCA().fit(X))).fit(X)


def test_conditional_estimator_comes_frozen():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"conditional=True.*FrozenEstimator"):
        VAEImputer(tiny(conditional=True)).fit(X, y)
    vae = tiny(conditional=True, random_state=0).fit(X, y)
    X = np.where(np.arange(4) == 1, np.nan, X)
    assert np.isfinite(VAEImputer(FrozenEstimator(vae), n_draws=10).fit(X).transform(X)).all()


def test_default_estimator():
    X = load_iris().data[:40].copy()
    X[0, 0] = np.nan
    imputer = VAEImputer(random_state=0).fit(X)
    assert imputer.estimator is None
    assert isinstance(imputer.estimator_, VAETransformer)
    assert imputer.estimator_.random_state == 0


def test_default_estimator_is_smaller_for_many_rows():
    few, many, more = (default_estimator(np.zeros((n, 1))) for n in (9999, 10_000, 1_000_000))
    assert few.hidden_layer_sizes == few.max_iter == "auto"
    assert [default_estimator(np.zeros((n, 1))).max_iter for n in (449, 450)] == [350, "auto"]
    assert (many.hidden_layer_sizes, many.max_iter, more.max_iter) == ((128, 128), 74, 10)
    assert few.weight_decay == 1 / 9999
    few, many = (default_estimator(pd.DataFrame({"a": ["x"] * n})) for n in (9999, 10_000))
    assert few.likelihood == many.likelihood == "heterogeneous"
    assert (few.batch_size, many.batch_size, many.hidden_layer_sizes) == ("auto", 256, (128, 128))
    assert (few.objective.n_draws, many.objective.n_draws, more.objective.n_draws) == (5, 3, 5)


# -- scikit-learn's tools ------------------------------------------------------------------------


def test_pipeline_and_search():
    X, y = load_wine(return_X_y=True)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    pipeline = make_pipeline(
        VAEImputer(VAETransformer(max_iter=60), random_state=0), StandardScaler(), LogisticRegression()
    )
    search = GridSearchCV(pipeline, {"vaeimputer__estimator__n_components": [1, 4]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.8
    assert search.best_estimator_[0].estimator_.n_components in (1, 4)


@pytest.mark.parametrize("copied", [lambda x, _: pickle.loads(pickle.dumps(x)), None], ids=["pickle", "save"])
@pytest.mark.parametrize("table", [False, True])
def test_copies(copied, table, tmp_path):
    def through_a_file(imputer, path):
        save(imputer, path)
        return load(path)

    X = mixed_table()[0] if table else np.where(np.eye(4)[np.arange(150) % 4] > 0, np.nan, load_iris().data)
    imputer = VAEImputer(VAETransformer(2, max_iter=5), add_indicator=True, n_draws=10, random_state=0).fit(X)
    copy = (copied or through_a_file)(imputer, tmp_path / "file")
    np.testing.assert_array_equal(np.asarray(copy.transform(X)), np.asarray(imputer.transform(X)))
    for each in (copy, imputer):
        each.set_params(sample_posterior=True)
    np.testing.assert_array_equal(np.asarray(copy.transform(X)), np.asarray(imputer.transform(X)))
    clone(copy).fit(X)


@pytest.mark.parametrize(
    "as_table",
    [
        lambda M: pd.DataFrame(M),
        lambda M: pd.DataFrame(M.astype("f2")),
        lambda M: pd.DataFrame(M).astype("Float32"),
        lambda M: pd.DataFrame(M).astype("float[pyarrow]"),
        lambda M: pl.DataFrame(M),
        pytest.param(
            lambda M: pl.DataFrame(M).cast(pl.Float16),
            marks=pytest.mark.skipif(not hasattr(pl, "Float16"), reason="polars has none before 1.36"),
        ),
    ],
)
def test_a_mark_is_found_as_a_narrow_type_holds_it(as_table):
    M = np.random.default_rng(0).normal(size=(40, 2)).astype("f4")
    M[::5, 0] = -99.9
    filled = VAEImputer(tiny(), missing_values=-99.9, random_state=0).fit_transform(as_table(M))
    assert np.asarray(filled, dtype=float).min() > -10


def test_columns_of_levels_keep_their_places_beside_empty_ones():
    rng = np.random.default_rng(0)
    codes = np.where(np.arange(60) % 4, rng.integers(0, 3, 60), np.nan)
    X = np.c_[np.full(60, np.nan), codes, rng.normal(size=60)]
    for categorical in ([1], [False, True, False]):
        imputer = VAEImputer(tiny(categorical_features=categorical), keep_empty_features=True, random_state=0)
        filled = imputer.fit(X).transform(X)
        assert set(filled[:, 1]) == {0.0, 1.0, 2.0}
        assert (filled[:, 0] == 0).all()


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_networks_that_need_all_columns_have_them(recwarn):
    X = np.random.default_rng(0).random((30, 16))
    X[:, 3], X[::2, 0] = np.nan, np.nan
    conv = Conv((1, 4, 4), (4,))
    assert VAEImputer(tiny(encoder=conv, decoder=conv), random_state=0).fit_transform(X).shape == (30, 15)


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", object, "polars"])
def test_truth_values_filled_by_a_likelihood_of_numbers(dtype):
    rng = np.random.default_rng(0)
    z = rng.normal(size=120)
    table = pl.DataFrame({"z": z, "b": [None if i % 3 == 0 else bool(v > 0) for i, v in enumerate(z)]})
    if dtype != "polars":
        table = table.to_pandas().astype({"b": dtype})
    imputer = VAEImputer(VAETransformer(1, likelihood="gaussian", max_iter=200), random_state=0)
    filled = imputer.fit_transform(table)["b"]
    assert filled.dtype == table["b"].dtype
    assert {type(value) for value in filled.to_list()} == {bool}
    assert np.mean(np.array(filled.to_list()) == (z > 0)) > 0.9


@pytest.mark.parametrize("mark", [pd.NA, np.nan])
def test_na_among_the_objects_of_an_array(mark):
    X = np.array([[1, pd.NA], [2, 3]] * 9, dtype=object)
    filled = VAEImputer(tiny(), missing_values=mark, random_state=0).fit_transform(X)
    assert np.isfinite(filled).all()


def test_tables_of_the_other_library_than_in_fit():
    X = pd.DataFrame(
        {
            "number": np.random.default_rng(0).normal(size=80),
            "moment": pd.date_range("2020", periods=80, tz="Europe/Vienna").as_unit("us"),
            "truth": pd.Series([True, False] * 40, dtype=object),
            "span": pd.to_timedelta(np.arange(80), unit="s").astype("timedelta64[us]"),
            "text": ["u", "v"] * 40,
        }
    )
    X.loc[::5, ["moment", "truth", "span", "text"]] = None
    other = pl.from_pandas(X)
    fit = [VAEImputer(tiny(), random_state=0).fit(table) for table in (X, other)]
    for table in (X, other):
        a, b = (imputer.transform(table) for imputer in fit)
        assert a.equals(b)
        assert list(a.dtypes) == list(table.dtypes)
        assert not find_holes(a, np.nan).any()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_column_with_the_name_of_an_indicator(make):
    X = make({"a": [1.0, None] * 20, "missingindicator_a": [1.0, 2.0] * 20})
    imputer = VAEImputer(tiny(), add_indicator=True).fit(X)
    with pytest.raises(
        ValueError, match="'missingindicator_a', the name of one that add_indicator=True adds"
    ):
        imputer.transform(X)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X", [np.full((5, 2), np.nan), pd.DataFrame({"a": [None] * 5}, dtype=object)], ids=["array", "table"]
)
def test_nothing_but_missing_cells(X):
    with pytest.raises(ValueError, match="nothing but missing cells to learn from"):
        VAEImputer(tiny()).fit(X)


def test_other_columns_in_transform(mixed_imputer, iris_imputer):
    table, _ = mixed_table()
    with pytest.raises(ValueError, match="feature names should match"):
        mixed_imputer.transform(table[table.columns[::-1]])
    with pytest.raises(ValueError, match="X has 3 features"):
        iris_imputer.transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="infinity"):
        iris_imputer.transform([[1, 2, np.inf, np.nan]])
    with pytest.raises(NotFittedError):
        VAEImputer().transform(table)
    with pytest.raises(NotFittedError):
        VAEImputer().get_feature_names_out()


def test_a_failed_fit_changes_nothing():
    imputer = VAEImputer(tiny(), random_state=0).fit(load_iris().data)
    before = pickle.dumps(imputer)
    for bad in (np.full((5, 3), np.inf), np.full((5, 3), np.nan)):
        with pytest.raises(ValueError):
            imputer.fit(bad)
        assert pickle.dumps(imputer) == before
