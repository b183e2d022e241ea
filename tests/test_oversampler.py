"""VAEOverSampler: both contracts, what is drawn, and tables that keep what they are."""

import pickle
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from unittest import SkipTest

import imblearn.pipeline
import numpy as np
import pandas as pd
import polars as pl
import pytest
from imblearn.base import is_sampler
from imblearn.over_sampling import RandomOverSampler
from imblearn.utils import estimator_checks as imblearn_checks
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

import skvae
from skvae import VAEOverSampler, VAETransformer
from skvae.oversampler import round_to

tiny = partial(VAETransformer, 2, max_iter=3, hidden_layer_sizes=(8,))

# both libraries run these on their own estimators, the generators do not yield them
FURTHER_CHECKS = [
    (estimator_checks, "check_dataframe_column_names_consistency"),
    (estimator_checks, "check_inplace_ensure_writeable"),
    (imblearn_checks, "check_dataframe_column_names_consistency"),
    (imblearn_checks, "check_param_validation"),
]


def list_checks():
    estimator = VAEOverSampler(tiny(), random_state=0)
    for suite in (estimator_checks, imblearn_checks):
        library = suite.__name__.split(".")[0]
        for i, (instance, check) in enumerate(suite.estimator_checks_generator(estimator)):
            yield pytest.param(instance, check, id=f"{library}-{i}-{check.func.__name__}")
    for suite, name in FURTHER_CHECKS:
        check = partial(getattr(suite, name), type(estimator).__name__)
        yield pytest.param(estimator, check, id=f"further-{suite.__name__.split('.')[0]}-{name}")


CHECKS = list(list_checks())


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_check(estimator, check):
    try:
        check(clone(estimator))
    except SkipTest as reason:  # pytest would count it as neither passed nor failed
        pytest.fail(f"skipped: {reason}")


def test_no_check_is_missing():
    names = [param.id for param in CHECKS]
    assert sum(name.startswith("sklearn-") for name in names) >= 41
    assert sum(name.startswith("imblearn-") for name in names) >= 15
    for wished in ("samplers_pandas_sparse", "samplers_nan", "samplers_preserve_dtype", "samplers_list"):
        assert any(name.endswith(f"check_{wished}") for name in names)


def test_tags_are_truthful():
    tags = get_tags(VAEOverSampler())
    assert is_sampler(VAEOverSampler())
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.target_tags.required
    assert tags.input_tags.allow_nan == get_tags(VAETransformer()).input_tags.allow_nan
    assert tags.input_tags.dataframe
    assert not tags.input_tags.sparse  # there is no sparse network to learn it
    assert not tags.sampler_tags.sample_indices


# -- data --------------------------------------------------------------------------------------


def unbalanced_iris(**kwargs):
    """Iris with 50, 20 and 12 rows of its classes, shuffled."""
    X, y = load_iris(return_X_y=True, **kwargs)
    index = np.random.default_rng(0).permutation(np.r_[0:50, 50:70, 100:112])
    return (X.iloc[index], y.iloc[index]) if kwargs else (X[index], y[index])


@pytest.fixture(scope="module")
def iris():
    return unbalanced_iris()


def resample(X, y, **params):
    return VAEOverSampler(tiny(), **{"random_state": 0, **params}).fit_resample(X, y)


# -- what is drawn -----------------------------------------------------------------------------


def test_new_rows_look_like_their_class(iris):
    X, y = iris
    sampler = VAEOverSampler(VAETransformer(4, beta=0.2, max_iter=300), random_state=0)
    X_new, y_new = (part[len(X) :] for part in sampler.fit_resample(X, y))
    assert Counter(y_new) == {1: 30, 2: 38}
    everything = load_iris(return_X_y=True)
    judge = LogisticRegression(max_iter=1000).fit(*everything)  # .97 on what it was trained on
    assert judge.score(X_new, y_new) > 0.7
    for label in (1, 2):
        real, new = everything[0][everything[1] == label], X_new[y_new == label]
        assert (np.abs(new.mean(axis=0) - real.mean(axis=0)) < real.std(axis=0)).all()
        assert (new.std(axis=0) < everything[0].std(axis=0)).all()
        assert (new.std(axis=0) > 0.4 * real.std(axis=0)).all()
    assert not (X_new[:, None] == X).all(axis=2).any()  # no copies


def test_rows_of_x_come_first_and_unchanged(iris):
    X, y = iris
    before = X.copy(), y.copy()
    X_res, y_res = resample(X, y)
    np.testing.assert_array_equal(X_res[: len(X)], X)
    np.testing.assert_array_equal(y_res[: len(y)], y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert X_res.shape == (150, 4)


@pytest.mark.parametrize(
    "strategy",
    ["auto", "all", "minority", "not minority", "not majority", {2: 30}, {0: 50, 1: 21}, lambda y: {1: 40}],
    ids=lambda value: str(value).split(" at 0x")[0],  # processes of one run must agree
)
def test_counts_are_those_of_the_neighbours(iris, strategy):
    X, y = iris
    _, y_res = resample(X, y, sampling_strategy=strategy)
    _, expected = RandomOverSampler(sampling_strategy=strategy, random_state=0).fit_resample(X, y)
    assert Counter(y_res.tolist()) == Counter(expected.tolist())


def test_ratio_of_two_classes(iris):
    X, y = iris
    X, y = X[y < 2], y[y < 2]
    _, y_res = resample(X, y, sampling_strategy=0.8)
    assert Counter(y_res.tolist()) == {0: 50, 1: 40}
    with pytest.raises(ValueError, match="ratio required to remove"):
        resample(X, y, sampling_strategy=0.1)


def test_balanced_data_stay_as_they_are(iris):
    X, y = np.r_[iris[0][:40], iris[0][:40]], np.repeat([0, 1], 40)
    X_res, y_res = resample(X, y)
    np.testing.assert_array_equal(X_res, X)
    np.testing.assert_array_equal(y_res, y)


@pytest.mark.parametrize("n_rows", [2, 3])
def test_a_class_of_few_rows(iris, n_rows):
    X, y = iris
    index = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:n_rows]]
    sampler = VAEOverSampler(VAETransformer(2, beta=0.2, max_iter=200), random_state=0)
    X_res, y_res = sampler.fit_resample(X[index], y[index])
    new, own = X_res[len(index) :], X[index[50:]]
    assert Counter(y_res.tolist()) == {0: 50, 1: 50}
    assert np.isfinite(new).all()
    other = X[y == 0].mean(axis=0)
    nearer = np.linalg.norm(new - own.mean(axis=0), axis=1) < np.linalg.norm(new - other, axis=1)
    assert nearer.mean() > 0.9


def test_equal_rows_of_a_class(iris):
    X, y = iris[0].copy(), iris[1]
    X[y == 2] = X[y == 2][0]
    X_res, _ = resample(X, y)
    assert np.isfinite(X_res).all()


def test_random_state_of_the_sampler_counts(iris):
    def new(own, inner):
        return VAEOverSampler(tiny(random_state=inner), random_state=own).fit_resample(*iris)[0]

    np.testing.assert_array_equal(new(3, 0), new(3, 1))
    np.testing.assert_array_equal(new(None, 3), new(3, 0))  # else that of the estimator does, for all
    assert not np.array_equal(new(4, 0), new(3, 0))
    assert not np.array_equal(new(None, None), new(None, None))
    np.testing.assert_array_equal(new(np.random.RandomState(3), 0), new(np.random.RandomState(3), 0))


# -- the wrapped estimator ---------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_estimator_is_made_conditional(iris, conditional):
    estimator = tiny(conditional=conditional)
    sampler = VAEOverSampler(estimator, random_state=0)
    sampler.fit_resample(*iris)
    assert sampler.estimator_.conditional
    assert sampler.estimator_.classes_.tolist() == [0, 1, 2]
    assert estimator.conditional == conditional
    assert not hasattr(estimator, "module_")


def test_fit_only_checks_and_counts(iris):
    sampler = VAEOverSampler(tiny(), random_state=0).fit(*iris)
    assert sampler.sampling_strategy_ == {1: 30, 2: 38}
    assert not hasattr(sampler, "estimator_")


def test_default_estimator(iris):
    X, y = iris
    sampler = VAEOverSampler(random_state=0)
    sampler.fit_resample(X[y > 0], y[y > 0])
    assert sampler.estimator is None
    assert isinstance(sampler.estimator_, VAETransformer)
    assert sampler.estimator_.conditional


def test_classes_weigh_the_same(iris):
    X, y = iris
    weights = []

    class Weighed(Bootstrap):
        def fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
            weights.append(sample_weight)
            return super().fit(X, y)

    VAEOverSampler(Weighed(), random_state=0).fit_resample(X, y)
    np.testing.assert_allclose(np.bincount(y, weights[0]), len(y) / 3)


def test_frozen_estimator_is_used_as_fitted(iris):
    X, y = iris
    frozen = FrozenEstimator(tiny(conditional=True, random_state=0).fit(X, y))
    before = pickle.dumps(frozen)
    sampler = VAEOverSampler(frozen, random_state=5)
    X_res, y_res = sampler.fit_resample(X, y)
    assert sampler.estimator_ is frozen
    assert pickle.dumps(frozen) == before
    np.testing.assert_array_equal(X_res[len(X) :], frozen.sample(68, y=y_res[len(X) :], random_state=5))
    few = VAEOverSampler(frozen, random_state=5).fit_resample(X[y < 2], y[y < 2])  # not all of its classes
    assert Counter(few[1].tolist()) == {0: 50, 1: 50}


def test_frozen_estimator_must_know_the_classes(iris):
    X, y = iris
    with pytest.raises(ValueError, match="fitted without classes; expected a conditional one"):
        VAEOverSampler(FrozenEstimator(tiny().fit(X))).fit_resample(X, y)
    frozen = FrozenEstimator(tiny(conditional=True).fit(X[y < 2], y[y < 2]))
    with pytest.raises(ValueError, match=r"classes \[2\] that the model was not trained with"):
        VAEOverSampler(frozen).fit_resample(X, y)


def test_frozen_estimator_of_other_columns(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        VAEOverSampler(FrozenEstimator(tiny(conditional=True).fit(X, y))).fit_resample(X[:, :3], y)
    X, y = unbalanced_iris(as_frame=True)
    frozen = FrozenEstimator(tiny(conditional=True).fit(X, y))
    with pytest.raises(ValueError, match="feature names should match"):
        VAEOverSampler(frozen).fit_resample(X[X.columns[::-1]], y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frozen_estimator_of_other_levels_or_with_holes(library):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=90), "n": np.arange(90) % 7})
    X["kind"] = pd.Categorical(list("abc") * 30)
    y = np.arange(90) < 30
    make = pl.from_pandas if library == "polars" else pd.DataFrame
    levels = X["kind"].cat.rename_categories({"c": "d"})
    n = X["n"].mask(X["n"] == 3).astype("Int64")
    for name, other in (("kind", X.assign(kind=levels)), ("n", X.assign(n=n))):
        fitted = make(other)
        if library == "polars":
            fitted = fitted.with_columns(pl.col("kind").cast(pl.Enum([*other["kind"].cat.categories])))
        given = make(X)
        if library == "polars":
            given = given.with_columns(pl.col("kind").cast(pl.Enum(["a", "b", "c"])))
        frozen = FrozenEstimator(tiny(conditional=True, random_state=0).fit(fitted, y))
        same, _ = VAEOverSampler(frozen, random_state=0).fit_resample(fitted, y)
        assert len(same) == 120
        if name == "kind":
            with pytest.raises(ValueError, match=r"'kind' of X with dtype .* no room for all that"):
                VAEOverSampler(frozen, random_state=0).fit_resample(given, y)
        elif library == "pandas":
            with pytest.raises(ValueError, match="'n' of X with dtype int64, which has no room"):
                VAEOverSampler(frozen, random_state=0).fit_resample(given, y)


def test_frozen_estimator_must_be_fitted_and_ours(iris):
    with pytest.raises(NotFittedError):
        VAEOverSampler(FrozenEstimator(tiny(conditional=True))).fit_resample(*iris)
    with pytest.raises(TypeError, match=re.escape("expected a fitted VAETransformer in FrozenEstimator")):
        VAEOverSampler(FrozenEstimator(PCA().fit(iris[0]))).fit_resample(*iris)


# -- kinds and dtypes --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_dtype_of_an_array(iris, dtype):
    X, y = iris
    X = X.mean(axis=0) < X if dtype is bool else np.rint(X).astype(dtype)
    X_res, _ = resample(X, y)
    assert X_res.dtype == dtype
    assert len(X_res) == 150
    if np.issubdtype(dtype, np.integer):
        assert abs(X_res[len(X) :].mean() - X.mean()) < 1


def test_classes_are_asked_for(iris):
    with pytest.raises(ValueError, match="Got y=None; expected the class of each row"):
        VAEOverSampler(tiny()).fit_resample(iris[0], None)


def test_whole_numbers_beyond_their_type_stop_at_its_ends():
    ends = np.iinfo(np.int64)
    far = round_to(np.array([1e19, -1e19, 2.5e18]), np.dtype("int64"))
    assert far[0] > 0.99 * ends.max
    assert far[1] == ends.min
    assert round_to(np.array([300.2, -7.0]), np.dtype("uint8")).tolist() == [255, 0]


@pytest.mark.parametrize("labels", [["a", "b", "c"], [True, False], [0.0, 1.0, 2.0], [-1, 5, 7]], ids=str)
@pytest.mark.parametrize("kind", ["array", "list", "series", "category", "polars", "frame"])
def test_kind_and_dtype_of_y(iris, labels, kind):
    if kind == "category":  # imbalanced-learn loses categories that are no strings
        labels = [str(label) for label in labels]
    X, codes = iris
    X, codes = X[codes < len(labels)], codes[codes < len(labels)]
    y = np.array(labels)[codes]
    make = {
        "array": np.asarray,
        "list": list,
        "series": partial(pd.Series, name="class", index=np.arange(len(y)) + 50),
        "category": lambda y: pd.Series(y, name="class", dtype="category"),
        "polars": partial(pl.Series, "class"),
        "frame": lambda y: pd.DataFrame({"class": y}),
    }
    y = make[kind](y.tolist() if kind == "polars" else y)
    _, y_res = resample(X, y)
    assert type(y_res) is type(y)
    assert set(Counter(np.asarray(y_res).ravel().tolist()).values()) == {50}
    if kind == "frame":
        assert y_res.dtypes.equals(y.dtypes)
    elif kind != "list":
        assert y_res.dtype == y.dtype
        assert getattr(y_res, "name", None) == getattr(y, "name", None)


class Bootstrap(VAETransformer):
    """A stand-in that takes and gives any table: its samples are rows of the class."""

    def fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        self.given_, self.classes_, self.y_ = X, np.unique(y), np.asarray(y)
        return self

    def sample(self, n_samples=1, *, y=None, noise=True, random_state=None):
        rng = np.random.RandomState(random_state)
        index = [rng.choice(np.flatnonzero(self.y_ == label)) for label in y]
        return self.given_.iloc[index] if hasattr(self.given_, "iloc") else self.given_[index]


def mixed_table(n=60):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "float": rng.normal(size=n),
            "small": rng.normal(size=n).astype(np.float32),
            "int": rng.integers(0, 9, n),
            "Int64": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "bool": rng.random(n) > 0.5,
            "boolean": pd.array(rng.random(n) > 0.5, dtype="boolean"),
            "category": pd.Categorical(rng.choice(["u", "v"], n), categories=["w", "v", "u"], ordered=True),
            "string": rng.choice(["x", "y"], n),
            "object": rng.choice(["x", "y"], n).astype(object),
            "time": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, n), unit="h"),
        },
        index=np.arange(n) + 1000,
    )
    for i, name in enumerate(("float", "Int64", "boolean", "category", "string", "object", "time")):
        table.iloc[i, table.columns.get_loc(name)] = None
    return table, pd.Series(np.where(np.arange(n) % 6 == 0, "few", "many"), name="class", index=table.index)


def check_mixed_pandas(estimator, table, y):
    sampler = VAEOverSampler(estimator, random_state=0)
    X_res, y_res = sampler.fit_resample(table, y)
    assert X_res.dtypes.equals(table.dtypes)
    assert len(X_res) == 2 * Counter(y)["many"]
    assert X_res.index.equals(pd.RangeIndex(len(X_res)))
    assert y_res.index.equals(X_res.index)
    assert y_res.dtype == y.dtype
    pd.testing.assert_frame_equal(X_res.iloc[: len(table)], table.reset_index(drop=True))
    assert sampler.feature_names_in_.tolist() == table.columns.tolist()
    return X_res.iloc[len(table) :]


def check_mixed_polars(estimator, table, y):
    sampler = VAEOverSampler(estimator, random_state=0)
    X_res, y_res = sampler.fit_resample(table, y)
    assert isinstance(X_res, pl.DataFrame)
    assert isinstance(y_res, pl.Series)
    assert X_res.schema == table.schema
    assert (y_res.name, y_res.dtype) == (y.name, y.dtype)
    assert len(X_res) == len(y_res) == 2 * Counter(y)["many"]
    assert X_res[: len(table)].equals(table)
    assert sampler.fit(table, y).feature_names_in_.tolist() == table.columns
    return X_res[len(table) :]


def to_polars(table, y):
    return pl.from_pandas(table), pl.Series("class", y.tolist())


def test_mixed_tables_keep_what_they_are():
    table, y = mixed_table()
    new = check_mixed_pandas(Bootstrap(), table, y)
    assert set(new["category"].dropna()) <= {"u", "v"}
    check_mixed_polars(Bootstrap(), *to_polars(table, y))


def test_mixed_tables_are_learned():
    table, y = mixed_table(120)
    table["string"] = np.where(y == "few", "x", "y")
    vae = VAETransformer(2, hidden_layer_sizes=(32,), max_iter=300)
    new = check_mixed_pandas(vae, table, y)
    assert new["time"].dropna().between(table["time"].min(), table["time"].max()).mean() > 0.8
    assert (new["string"].dropna() == "x").mean() > 0.65  # of 80 rows, learned from 20
    check_mixed_polars(tiny(), *to_polars(table, y))


def test_table_of_categories_alone():
    table, y = mixed_table()
    new = check_mixed_pandas(tiny(), table[["category", "string", "object", "bool"]], y)
    assert set(new["object"].dropna()) <= {"x", "y"}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_numeric_tables(library):
    X, y = unbalanced_iris(as_frame=True)
    X, y = X.astype({X.columns[0]: np.float32})[y < 2], y[y < 2].map({0: "many", 1: "few"})
    if library == "polars":
        X_res = check_mixed_polars(tiny(), pl.from_pandas(X), pl.Series("class", y.tolist()))
        X_array = X_res.to_numpy()
    else:
        X_array = check_mixed_pandas(tiny(), X, y).to_numpy()
    assert np.isfinite(X_array).all()


def test_holes_are_welcome(iris):
    X, y = iris[0].copy(), iris[1]
    X[::3, 1] = np.nan
    X_res, _ = resample(X, y)
    np.testing.assert_array_equal(X_res[: len(X)], X)
    table = pd.DataFrame(X, columns=list("abcd"))
    X_res, _ = resample(table, y)
    pd.testing.assert_frame_equal(X_res.iloc[: len(X)], table)


# -- the tools of both libraries ---------------------------------------------------------------


def test_pipeline_samples_in_training_alone(iris):
    X, y = iris
    pipeline = imblearn.pipeline.make_pipeline(
        StandardScaler(), VAEOverSampler(tiny(), random_state=0), LogisticRegression()
    ).fit(X, y)
    assert pipeline.predict(X).shape == y.shape
    Z = StandardScaler().fit_transform(X)
    by_hand = LogisticRegression().fit(*resample(Z, y))
    np.testing.assert_array_equal(pipeline.predict_proba(X), by_hand.predict_proba(Z))


def test_search(iris):
    pipeline = imblearn.pipeline.Pipeline(
        [
            ("sampler", VAEOverSampler(tiny(), random_state=0)),
            ("classifier", LogisticRegression(max_iter=500)),
        ]
    )
    grid = {"sampler__estimator__n_components": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="balanced_accuracy").fit(*iris)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    fitted = search.best_estimator_["sampler"].estimator_
    assert fitted.n_components == search.best_params_["sampler__estimator__n_components"]


def test_pickle_and_clone(iris):
    sampler = VAEOverSampler(tiny(), random_state=0)
    X_res, _ = sampler.fit_resample(*iris)
    again = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(
        again.estimator_.sample(3, random_state=0), sampler.estimator_.sample(3, random_state=0)
    )
    np.testing.assert_array_equal(clone(again).fit_resample(*iris)[0], X_res)
    assert not hasattr(clone(sampler), "estimator_")


def test_html_repr_links_to_the_docs():
    assert "reference/generated/skvae.VAEOverSampler.html" in VAEOverSampler()._repr_html_()


@pytest.mark.parametrize("kind", ["array", "bool", "boolean", "bool[pyarrow]", "polars"])
def test_truth_values_drawn_by_a_likelihood_of_numbers(kind):
    rng = np.random.default_rng(0)
    X, y = rng.random((80, 3)) < [0.1, 0.5, 0.9], np.arange(80) % 4 == 0
    names = ["a", "b", "c"]
    table = X if kind == "array" else pd.DataFrame(X, columns=names)
    table = pl.DataFrame(X, schema=names) if kind == "polars" else table
    table = table.astype(kind) if kind.startswith("bool") else table
    vae = VAETransformer(1, likelihood="gaussian", max_iter=100)
    new, _ = VAEOverSampler(vae, random_state=0).fit_resample(table, y)
    share = np.asarray(new[80:], dtype=float).mean(axis=0)
    assert (np.diff(share) > 0).all()
    assert share[0] < 0.3
    assert share[2] > 0.7


# -- bad input ---------------------------------------------------------------------------------


def test_one_class_alone(iris):
    X, _ = iris
    with pytest.raises(ValueError, match="needs to have more than 1 class"):
        resample(X, np.zeros(len(X)))


def test_too_few_rows_of_a_class(iris):
    X, y = iris
    index = np.r_[np.flatnonzero(y < 2), np.flatnonzero(y == 2)[:1]]
    with pytest.raises(ValueError, match=r"Got 1 row of class 2; expected at least 2 to learn from"):
        resample(X[index], y[index])
    _, y_res = resample(X[index], y[index], sampling_strategy={1: 50})  # the remedy
    assert Counter(y_res.tolist()) == {0: 50, 1: 50, 2: 1}


def test_rows_and_classes_of_other_numbers(iris):
    X, y = iris
    for table in (X, pd.DataFrame(X), pl.DataFrame(X)):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            resample(table, y[:-1])


@pytest.mark.parametrize("table", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_infinity_is_refused(iris, table):
    X = iris[0].copy()
    X[1, 1] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        resample(table(X), iris[1])


@pytest.mark.parametrize(
    "params", [{"estimator": PCA()}, {"sampling_strategy": "most"}, {"random_state": "a"}], ids=str
)
def test_bad_parameter(iris, params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of VAEOverSampler must be"):
        VAEOverSampler(**params).fit_resample(*iris)


@pytest.mark.parametrize(
    "y", [["a"] * 3 + ["b", None], pd.Series(["a"] * 3 + ["b", None]), [1, 1, 1, 2, np.nan]]
)
def test_missing_classes(y):
    with pytest.raises(ValueError, match="y with missing classes"):
        resample(np.eye(5), y)


def test_text_outside_of_a_table():
    with pytest.raises(ValueError, match="Outside of a pandas or polars DataFrame"):
        resample(np.array([["a", 1]] * 5, dtype=object), [0, 0, 0, 1, 1])


def test_unknown_class_in_the_strategy(iris):
    with pytest.raises(ValueError, match=r"\{9\} target class is/are not present"):
        resample(*iris, sampling_strategy={9: 50})


# -- imbalanced-learn is optional --------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["imblearn"] = None
import skvae
from skvae import *
assert "VAEOutlierDetector" in globals() and "VAEOverSampler" not in globals()
try:
    skvae.VAEOverSampler
except ImportError as error:
    assert "skvae[imblearn]" in str(error), error
else:
    raise SystemExit("no error")
"""


def test_package_without_imbalanced_learn():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


def test_public_name():
    assert "VAEOverSampler" in skvae.__all__
    with pytest.raises(AttributeError, match="has no attribute 'VAEUnderSampler'"):
        skvae.VAEUnderSampler
