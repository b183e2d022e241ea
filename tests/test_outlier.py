"""VAEOutlierDetector: scikit-learn's contract, the threshold, and what is found and explained."""

import pickle
import re
from functools import partial
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
from sklearn.base import clone, is_outlier_detector
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from skvae import VAEOutlierDetector, VAETransformer, load, save
from skvae.outlier import default_estimator

tiny = partial(VAETransformer, 2, max_iter=4, hidden_layer_sizes=(8,))

CONFIGURATIONS = {
    "plain": VAEOutlierDetector(tiny()),
    "contamination": VAEOutlierDetector(tiny(prior="normal"), contamination=0.2, n_draws=5),
    "marginals": VAEOutlierDetector(tiny(), marginals=0.5),
    "novelty": VAEOutlierDetector(tiny(), novelty=True),
    "student_t": VAEOutlierDetector(tiny(likelihood="student_t", early_stopping=True)),
}
FURTHER_CHECKS = [  # scikit-learn runs these on its own estimators, check_estimator does not yield them
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
    "check_param_validation",
]


def list_checks():
    for name, estimator in CONFIGURATIONS.items():
        for i, (instance, check) in enumerate(estimator_checks.estimator_checks_generator(estimator)):
            yield pytest.param(instance, check, id=f"{name}-{i}-{check.func.__name__}")
        for check_name in FURTHER_CHECKS:
            check = partial(getattr(estimator_checks, check_name), type(estimator).__name__)
            yield pytest.param(estimator, check, id=f"{name}-{check_name}")


CHECKS = list(list_checks())


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_check(estimator, check):
    try:
        check(clone(estimator))
    except SkipTest as reason:  # pytest would count it as neither passed nor failed
        pytest.fail(f"skipped: {reason}")


def test_no_check_is_missing():
    names = {param.id for param in CHECKS if param.id.startswith("plain-")}
    assert len(names) >= 49
    for wished in ("outliers_train", "outliers_fit_predict", "outlier_contamination", "fit_idempotent"):
        assert any(name.endswith(f"check_{wished}") for name in names)


@pytest.mark.parametrize("estimator", [VAEOutlierDetector(), *CONFIGURATIONS.values()], ids=repr)
def test_tags_are_those_of_the_estimator(estimator):
    tags = get_tags(estimator)
    inner = get_tags(estimator.estimator or VAETransformer())
    assert is_outlier_detector(estimator)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.input_tags == inner.input_tags
    assert tags.input_tags.allow_nan
    assert not tags.target_tags.required


# -- data --------------------------------------------------------------------------------------


def one_factor(n, seed):
    """Four columns that say the same in other units, with a little noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 1))
    return (z * [1, -1, 1, 1] + 0.15 * rng.normal(size=(n, 4))) * [1, 20, 0.1, 3] + [0, 5, 100, -2]


UNIT = np.array([1, 20, 0.1, 3])


@pytest.fixture(scope="module", name="X")
def rows():
    return one_factor(250, 0)


@pytest.fixture(scope="module")
def broken():
    """Rows of which one cell, in turn, contradicts the others though its value is common."""
    rows = one_factor(40, 1)
    column = np.arange(40) % 4
    typical = (rows - [0, 5, 100, -2]) / UNIT
    shift = np.where(typical > 0, -2.0, 2.0)  # towards the other end, no further
    rows[np.arange(40), column] += (shift * UNIT)[np.arange(40), column]
    return rows, column


@pytest.fixture(scope="module")
def fitted(X):
    """A detector that has learned something; tests must leave it as it is."""
    return VAEOutlierDetector(VAETransformer(2, max_iter=300), random_state=0).fit(X)


@pytest.fixture(params=["pandas", "polars"])
def frame(request, X):
    columns = ["a", "b", "c", "d"]
    return pd.DataFrame(X, columns=columns) if request.param == "pandas" else pl.DataFrame(X, schema=columns)


# -- scores and threshold ----------------------------------------------------------------------


@pytest.mark.parametrize("n_draws", [3, 100])
def test_scores_are_log_densities_of_the_estimator(X, n_draws):
    detector = VAEOutlierDetector(tiny(), n_draws=n_draws, random_state=0).fit(X)
    vae = tiny(random_state=0).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), vae.score_samples(X, n_draws))


def test_threshold_of_auto_is_tukeys_fence(fitted, X):
    low, high = np.percentile(fitted.score_samples(X), [25, 75])
    assert fitted.offset_ == pytest.approx(low - 1.5 * (high - low))
    assert 0 < np.mean(fitted.predict(X) == -1) < 0.1


@pytest.mark.parametrize("contamination", [0.02, 0.1, 0.5])
def test_contamination_is_the_share_of_outliers(X, contamination):
    detector = VAEOutlierDetector(tiny(), contamination=contamination, random_state=0).fit(X)
    assert np.mean(detector.predict(X) == -1) == contamination
    assert detector.offset_ == pytest.approx(np.percentile(detector.score_samples(X), 100 * contamination))


def test_equal_rows_are_on_one_side_of_the_threshold():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.choice(list("xyz"), 150, p=[0.8, 0.15, 0.05]), "b": rng.random(150) < 0.1})
    detector = VAEOutlierDetector(VAETransformer(2, max_iter=10, random_state=0), contamination=0.05).fit(
        table
    )
    alone = np.concatenate([detector.predict(table[i : i + 1]) for i in range(150)])
    np.testing.assert_array_equal(detector.predict(table), alone)
    assert 0 < (alone < 0).sum() < 40


def test_decision_is_score_minus_offset(fitted, broken):
    rows, _ = broken
    decision = fitted.decision_function(rows)
    np.testing.assert_array_equal(decision, fitted.score_samples(rows) - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(rows), np.where(decision < 0, -1, 1))


def test_fit_predict_is_fit_and_predict(X):
    detector = VAEOutlierDetector(tiny(), random_state=0)
    labels = detector.fit_predict(X)
    np.testing.assert_array_equal(labels, clone(detector).fit(X).predict(X))


def test_contradictions_are_found_where_no_cell_is_unusual(fitted, broken):
    rows, _ = broken
    normal = one_factor(200, 2)
    assert np.mean(fitted.predict(rows) == -1) > 0.9
    assert np.mean(fitted.predict(normal) == -1) < 0.15
    scores = np.r_[fitted.score_samples(normal), fitted.score_samples(rows)]
    assert roc_auc_score(np.arange(240) < 200, scores) > 0.98


def test_single_precision_rows(X):
    detector = VAEOutlierDetector(tiny(), contamination=0.1, random_state=0)
    scores = detector.fit(X).score_samples(X)
    single = X.astype(np.float32)
    detector.fit(single)
    assert detector.score_samples(single).dtype == np.float64
    np.testing.assert_allclose(detector.score_samples(single), scores, atol=0.01)
    assert np.sum(detector.predict(single) == -1) == 25


# -- columns by themselves ---------------------------------------------------------------------


def densities(train, x):
    """Return log p of each cell in its column."""
    columns = zip(train.T, x.T, strict=True)
    width = 1.06 * len(train) ** -0.2
    kernels = [scipy.stats.gaussian_kde(t, width * t.std() / t.std(ddof=1)).logpdf(c) for t, c in columns]
    return np.column_stack(kernels)


def test_default_averages_the_model_and_independent_columns(X):
    X = X[:100]
    detector = VAEOutlierDetector(random_state=0).fit(X)
    joint, alone = detector.estimator_.score_samples(X, 100), densities(X, X)
    np.testing.assert_allclose(detector.score_samples(X), (joint + alone.sum(axis=1)) / 2, rtol=1e-9)
    surprise = detector.explain(X)
    np.testing.assert_allclose(surprise.sum(axis=1), -detector.score_samples(X), rtol=1e-9)
    cells = detector.estimator_.score_cells(X, 100)
    np.testing.assert_allclose(surprise[:, :4], -(cells[:, :4] + alone) / 2, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(surprise[:, 4], -cells[:, 4] / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0, 0.2])
def test_share_of_the_columns_beside_a_frozen_model(fitted, X, share):
    frozen = FrozenEstimator(fitted.estimator_)
    detector = VAEOutlierDetector(frozen, marginals=share).fit(X[:200])
    alone = densities(X[:200], X).sum(axis=1)
    want = (1 - share) * fitted.score_samples(X) + share * alone
    np.testing.assert_allclose(detector.score_samples(X), want, rtol=1e-9)
    before = detector.score_samples(X)
    detector.set_params(marginals=0.9)
    np.testing.assert_array_equal(detector.score_samples(X), before)  # that of fit counts


def test_outliers_that_lie_together_are_found(fitted, X):
    together = np.array([0, 5, 100, -2]) + UNIT * (3 + 0.05 * np.random.default_rng(0).normal(size=(25, 4)))
    rows, labels = np.r_[X, together], np.repeat([1, 0], [250, 25])
    vae = VAEOutlierDetector(VAETransformer(2, max_iter=150, beta=0.1), random_state=0).fit(rows)
    both = VAEOutlierDetector(FrozenEstimator(vae.estimator_), marginals=0.5).fit(rows)
    assert roc_auc_score(labels, both.score_samples(rows)) > roc_auc_score(labels, vae.score_samples(rows))


def test_columns_of_levels_and_holes(X):
    table = mixed_table()
    joint = VAEOutlierDetector(tiny(), random_state=0).fit(table)
    both = VAEOutlierDetector(tiny(), marginals=0.25, random_state=0).fit(table)
    alone = (both.explain(table) - 0.75 * joint.explain(table)) / 0.25
    np.testing.assert_allclose(both.explain(table).sum(axis=1), -both.score_samples(table), rtol=1e-6)
    for name, column in (("colour", 1), ("name", 2), ("open", 3)):
        count = table[name].map(table[name].value_counts()).to_numpy(float)
        total = table[name].count() + table[name].nunique() + 1
        want = np.nan_to_num(-np.log((count + 1) / total))  # a hole tells nothing
        np.testing.assert_allclose(alone[:, column], want, atol=1e-6)
    np.testing.assert_allclose(alone[:, 4], 0, atol=1e-6)
    assert alone[3, 0] == 0
    assert np.isfinite(alone).all()


def test_columns_of_codes():
    X = np.random.default_rng(0).integers(0, 3, (40, 2)).astype(float)
    detector = VAEOutlierDetector(tiny(likelihood="categorical"), marginals=0.5, random_state=0).fit(X)
    share = (np.bincount(X[:, 0].astype(int)) + 1) / 44
    cells = detector.estimator_.score_cells(X, 100)[:, 0]
    want = -(cells + np.log(share)[X[:, 0].astype(int)]) / 2
    np.testing.assert_allclose(detector.explain(X)[:, 0], want, rtol=1e-6)


# -- explanations ------------------------------------------------------------------------------


def test_explanation_sums_to_the_score(fitted, X, broken):
    for rows in (X, broken[0]):
        surprise = fitted.explain(rows)
        assert surprise.shape == (len(rows), 5)
        np.testing.assert_allclose(surprise.sum(axis=1), -fitted.score_samples(rows), rtol=1e-9)


def test_explanation_names_the_cell(fitted, X, broken):
    rows, column = broken
    excess = fitted.explain(rows) - fitted.explain(X).mean(axis=0)
    assert np.mean(excess[:, :4].argmax(axis=1) == column) > 0.9


def test_latent_term_tells_unusual_combinations(fitted, X):
    far = np.array([0, 5, 100, -2]) + 4 * UNIT * [1, -1, 1, 1]  # consistent, but far out
    excess = fitted.explain(far[None]) - fitted.explain(X).mean(axis=0)
    assert excess[0, 4] > 1
    assert fitted.predict(far[None]) == [-1]


@pytest.mark.parametrize("share", [0, 0.5])
def test_missing_cells_are_not_explained(X, share):
    holey = X.copy()
    holey[::3, 1] = np.nan
    holey[5] = np.nan
    detector = VAEOutlierDetector(tiny(), marginals=share, random_state=0).fit(holey)
    surprise = detector.explain(holey)
    assert (surprise[:, :4][np.isnan(holey)] == 0).all()
    np.testing.assert_allclose(surprise.sum(axis=1), -detector.score_samples(holey), rtol=1e-9, atol=1e-9)
    assert set(detector.predict(holey)) <= {-1, 1}


# -- the wrapped estimator ---------------------------------------------------------------------


def test_random_state_of_the_detector_counts(X):
    def scores(own, inner):
        return VAEOutlierDetector(tiny(random_state=inner), random_state=own).fit(X).score_samples(X)

    np.testing.assert_array_equal(scores(3, 0), scores(3, 1))
    np.testing.assert_array_equal(scores(None, 3), scores(3, 0))
    assert not np.array_equal(scores(4, 0), scores(3, 0))


def test_estimator_given_stays_unfitted(X):
    estimator = tiny()
    detector = VAEOutlierDetector(estimator, random_state=0).fit(X)
    assert not hasattr(estimator, "module_")
    assert estimator.random_state is None
    assert detector.estimator is estimator
    assert detector.estimator_.random_state == 0


def test_default_estimator():
    X = one_factor(30, 0)
    detector = VAEOutlierDetector(random_state=0).fit(X)
    assert detector.estimator is None
    assert isinstance(detector.estimator_, VAETransformer)
    assert detector.estimator_.random_state == 0


def test_novelty_chooses_another_default_model_and_leaves_out_the_columns():
    X = one_factor(30, 0)
    detector = VAEOutlierDetector(novelty=True, random_state=0).fit(X)
    params = detector.estimator_.get_params()
    assert (params["prior"].n_modes, params["objective"], params["max_iter"]) == (500, "iwae", "auto")
    np.testing.assert_array_equal(detector.score_samples(X), detector.estimator_.score_samples(X, 100))
    both = VAEOutlierDetector(novelty=True, marginals=0.5, random_state=0).fit(X)
    alone = densities(X, X).sum(axis=1)
    np.testing.assert_allclose(both.score_samples(X), (detector.score_samples(X) + alone) / 2, rtol=1e-9)
    own = VAEOutlierDetector(tiny(), novelty=True, random_state=0).fit(X)
    want = VAEOutlierDetector(tiny(), random_state=0).fit(X).score_samples(X)
    np.testing.assert_array_equal(own.score_samples(X), want)


def test_default_estimator_takes_few_steps_of_many_rows():
    for n_rows, n_epochs in ((999, "auto"), (1000, 128), (60_000, 2), (10**6, 1)):
        assert default_estimator(np.zeros((n_rows, 1))).max_iter == n_epochs
    assert default_estimator([[0.0]] * 2000).max_iter == 64
    assert default_estimator(pd.DataFrame({"a": np.zeros(2000)})).max_iter == 64
    assert default_estimator(pd.DataFrame({"a": ["x", "y"] * 1000})).max_iter == "auto"
    assert default_estimator(np.float64(1)).max_iter == "auto"  # no rows at all: fit refuses them
    X = one_factor(20_000, 0)
    detector = VAEOutlierDetector(n_draws=1, random_state=0).fit(X)  # without a warning of few epochs
    assert detector.estimator_.n_iter_ == 6
    with pytest.raises(ValueError, match="array"):
        VAEOutlierDetector().fit(np.float64(1))


def test_frozen_estimator_is_used_as_fitted(fitted, X):
    frozen = FrozenEstimator(fitted.estimator_)
    detector = VAEOutlierDetector(frozen, contamination=0.1, random_state=7).fit(X[:50])
    assert detector.estimator_ is frozen
    np.testing.assert_array_equal(detector.score_samples(X), fitted.score_samples(X))
    assert np.mean(detector.predict(X[:50]) == -1) == 0.1
    assert clone(detector).fit(X[:50]).offset_ == detector.offset_
    np.testing.assert_array_equal(detector.explain(X), fitted.explain(X))


def test_frozen_estimator_of_other_columns(X, frame):
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        VAEOutlierDetector(FrozenEstimator(tiny(random_state=0).fit(X))).fit(X[:, :3])
    frozen = FrozenEstimator(tiny(random_state=0).fit(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        VAEOutlierDetector(frozen).fit(frame[["b", "a", "c", "d"]])


def test_frozen_estimator_must_be_fitted_and_ours(X):
    with pytest.raises(NotFittedError):
        VAEOutlierDetector(FrozenEstimator(tiny())).fit(X)
    with pytest.raises(TypeError, match=re.escape("expected a fitted VAETransformer in FrozenEstimator")):
        VAEOutlierDetector(FrozenEstimator(PCA().fit(X))).fit(X)


def test_conditional_estimator_comes_frozen(X):
    y = X[:, 0] > 0
    with pytest.raises(ValueError, match=r"conditional=True.*FrozenEstimator"):
        VAEOutlierDetector(tiny(conditional=True)).fit(X, y)
    vae = tiny(conditional=True, random_state=0).fit(X, y)
    detector = VAEOutlierDetector(FrozenEstimator(vae)).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), vae.score_samples(X))  # over its classes


def test_y_does_not_leak(X):
    detector = VAEOutlierDetector(tiny(), random_state=0)
    with_y = clone(detector).fit(X, X[:, 0] > 0).score_samples(X)
    np.testing.assert_array_equal(with_y, detector.fit(X).score_samples(X))


# -- tables ------------------------------------------------------------------------------------


class Watched(VAETransformer):
    """Keeps what it was given."""

    def fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        self.given_ = X
        return super().fit(X, y, sample_weight, X_val, y_val)


def test_tables_go_through_untouched(frame, X):
    detector = VAEOutlierDetector(Watched(2, max_iter=4), random_state=0).fit(frame)
    assert detector.estimator_.given_ is frame
    assert detector.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    array = VAEOutlierDetector(VAETransformer(2, max_iter=4), random_state=0).fit(X)
    assert not hasattr(array, "feature_names_in_")
    np.testing.assert_allclose(detector.score_samples(frame), array.score_samples(X), rtol=1e-12)
    np.testing.assert_array_equal(detector.predict(frame), array.predict(X))
    np.testing.assert_allclose(detector.explain(frame), array.explain(X), rtol=1e-9, atol=1e-12)


def test_columns_of_a_table_are_checked(frame):
    detector = VAEOutlierDetector(tiny(), random_state=0).fit(frame)
    for method in (detector.predict, detector.decision_function, detector.score_samples, detector.explain):
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame[["d", "c", "b", "a"]])


def test_table_of_many_dtypes():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "int": rng.integers(0, 9, 60),
            "float32": rng.normal(size=60).astype(np.float32),
            "bool": rng.random(60) > 0.5,
            "Int64": pd.array([*range(59), pd.NA], dtype="Int64"),
        }
    )
    detector = VAEOutlierDetector(tiny(), contamination=0.1, random_state=0).fit(table)
    assert detector.explain(table).shape == (60, 5)
    assert np.sum(detector.predict(table) == -1) == 6


def mixed_table(n=120):
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], n)
    table = pd.DataFrame(
        {
            "size": np.where(colour == "red", 1.0, 5.0) + 0.1 * rng.normal(size=n),
            "colour": pd.Series(colour, dtype="category"),
            "name": rng.choice(["x", "y"], n),
            "open": rng.random(n) > 0.5,
        }
    )
    table.loc[3, "size"] = np.nan
    table.loc[4, "name"] = None
    return table


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_mixed_table(library):
    table = mixed_table()
    table = table if library == "pandas" else pl.from_pandas(table)
    detector = VAEOutlierDetector(VAETransformer(2, max_iter=250), random_state=0).fit(table)
    surprise = detector.explain(table)
    assert surprise.shape == (120, 5)
    np.testing.assert_allclose(surprise.sum(axis=1), -detector.score_samples(table), rtol=1e-6, atol=1e-6)
    assert surprise[3, 0] == 0
    assert surprise[4, 2] == 0
    odd = mixed_table()
    odd.loc[odd["colour"] == "red", "size"] = 5.0  # as common as any, but not among the red
    red = (odd["colour"] == "red").to_numpy()
    odd = odd if library == "pandas" else pl.from_pandas(odd)
    loss = detector.score_samples(table) - detector.score_samples(odd)
    assert np.nanmedian(loss[red]) > 1.0
    np.testing.assert_allclose(loss[~red], 0.0, atol=1e-6)
    worse = np.median(detector.explain(odd)[red] - surprise[red], axis=0)
    assert worse[:2].max() == worse.max()  # size or colour


# -- scikit-learn's tools ----------------------------------------------------------------------


def test_pipeline(X, broken):
    pipeline = make_pipeline(
        StandardScaler(), VAEOutlierDetector(VAETransformer(1, max_iter=100), random_state=0)
    )
    labels = pipeline.fit(X).predict(broken[0])
    assert np.mean(labels == -1) > 0.9
    np.testing.assert_array_equal(pipeline.decision_function(X) < 0, pipeline.predict(X) == -1)
    assert not hasattr(pipeline, "transform")


def test_search(X, broken):
    order = np.random.default_rng(0).permutation(120)
    rows = np.r_[X[:80], broken[0]][order]
    labels = np.r_[np.ones(80), -np.ones(40)][order]
    pipeline = make_pipeline(StandardScaler(), VAEOutlierDetector(tiny(), random_state=0))
    grid = {"vaeoutlierdetector__estimator__n_components": [1, 2], "vaeoutlierdetector__n_draws": [5]}
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=2).fit(rows, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    found = search.best_estimator_[-1]
    assert found.estimator_.n_components == search.best_params_["vaeoutlierdetector__estimator__n_components"]


def test_search_without_labels(X):
    def mean_score(detector, X, y=None):
        return detector.score_samples(X).mean()

    search = GridSearchCV(
        VAEOutlierDetector(tiny(), random_state=0),
        {"estimator__n_components": [1, 2]},
        scoring=mean_score,
        cv=2,
    )
    assert search.fit(X).predict(X).shape == (len(X),)


def test_pickle_and_clone(fitted, X):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    copy = clone(fitted)
    assert not hasattr(copy, "estimator_")
    assert repr(copy) == repr(fitted)


@pytest.mark.parametrize("X", [one_factor(40, 0), mixed_table(40)], ids=["array", "table"])
def test_files_keep_the_columns(X, tmp_path):
    detector = VAEOutlierDetector(tiny(), marginals=0.5, random_state=0).fit(X)
    save(detector, tmp_path / "detector.skvae")
    again = load(tmp_path / "detector.skvae")
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(again.explain(X), detector.explain(X))


def test_html_repr_links_to_the_docs(fitted):
    assert "reference/generated/skvae.VAEOutlierDetector.html" in fitted._repr_html_()


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("contamination", [-0.1, 0.0, 0.6, 1, "none", None])
def test_contamination_out_of_range(X, contamination):
    with pytest.raises(ValueError, match="'contamination' parameter of VAEOutlierDetector must be"):
        VAEOutlierDetector(tiny(), contamination=contamination).fit(X)


@pytest.mark.parametrize(
    "params",
    [
        {"marginals": 1.0},
        {"marginals": -0.1},
        {"marginals": "both"},
        {"n_draws": 0},
        {"n_draws": 2.5},
        {"estimator": PCA()},
        {"random_state": "a"},
    ],
    ids=str,
)
def test_bad_parameter(X, params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of VAEOutlierDetector must be"):
        VAEOutlierDetector(**params).fit(X)


def test_bad_parameter_of_the_estimator(X):
    with pytest.raises(ValueError, match="'n_components' parameter of VAETransformer must be"):
        VAEOutlierDetector(VAETransformer(0)).fit(X)


@pytest.mark.parametrize("method", ["predict", "decision_function", "score_samples", "explain"])
def test_not_fitted(X, method):
    with pytest.raises(NotFittedError, match="VAEOutlierDetector"):
        getattr(VAEOutlierDetector(tiny()), method)(X)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused(fitted, X, value):
    bad = X.copy()
    bad[1, 1] = value
    for method in (clone(fitted).fit, fitted.predict, fitted.explain):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            method(bad)


def test_failed_fit_loses_nothing(X):
    detector = VAEOutlierDetector(tiny(), random_state=0).fit(X)
    before = pickle.dumps(detector)
    with pytest.raises(ValueError, match="infinity"):
        detector.fit(np.full((5, 3), np.inf))
    assert pickle.dumps(detector) == before
    assert detector.fit(X[:, :2]).n_features_in_ == 2


def test_a_level_never_seen_is_less_normal_than_a_rare_one():
    rng = np.random.default_rng(0)
    levels = rng.choice(["common", "rare"], 300, p=[0.97, 0.03])
    detector = VAEOutlierDetector(random_state=0).fit(pd.DataFrame({"a": rng.normal(size=300), "c": levels}))
    rows = pd.DataFrame({"a": [0.0] * 4, "c": ["new", "rare", "common", None]})
    scores = detector.score_samples(rows)
    assert scores[0] < scores[1] < scores[2]
    assert scores[3] > scores[1]
    explained = detector.explain(rows)
    np.testing.assert_allclose(explained.sum(axis=1), -scores)
    assert explained[0, 1] > 5


def test_scores_of_the_default_are_densities():
    table = pd.DataFrame({"c": np.where(np.arange(300) < 60, "y", "x"), "b": np.arange(300) % 2 > 0})
    detector = VAEOutlierDetector(random_state=0, marginals=0, n_draws=500).fit(table)
    drawn = detector.estimator_.sample(20_000, random_state=1).value_counts(normalize=True)
    scores = detector.score_samples(drawn.index.to_frame(index=False))
    np.testing.assert_allclose(np.exp(scores), drawn, rtol=0.15)


@pytest.mark.parametrize("contamination", [0.005, 0.1, "auto"])
@pytest.mark.parametrize("n_impossible", [1, 30, 100])
def test_rows_of_probability_zero_are_outliers_and_leave_a_threshold(contamination, n_impossible):
    X = np.random.default_rng(0).integers(0, 3, (100, 4)).astype(float)
    vae = VAETransformer(1, likelihood="categorical", max_iter=2, random_state=0).fit(X)
    rows = X.copy()
    rows[:n_impossible, 0] = 3  # a code that the model has not seen
    detector = VAEOutlierDetector(FrozenEstimator(vae), contamination=contamination).fit(rows)
    assert np.isfinite(detector.offset_)
    labels = detector.predict(rows)
    assert (labels[:n_impossible] == -1).all()
    assert np.sum(labels == -1) <= max(n_impossible, 10)
