"""scikit-learn's own checks of VAETransformer, without an exemption."""

from functools import partial
from unittest import SkipTest

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags

from skvae import VAETransformer

# scikit-learn runs these on its own estimators, check_estimator does not yield them. They are about
# what surrounds a model, whatever that is: two configurations run them
FURTHER_CHECKS = [
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


class Mapped(VAETransformer):
    """The estimator on data of another kind: every cell that it is given is mapped first.

    The checks make up data of their own, real numbers without a hole; this is how they come to
    try what such data does not reach. Whatever is no table of real numbers passes unchanged, so
    that it meets the estimator's own refusal. The maps are idempotent, since methods call others.
    """

    def _map(self, X):
        values = np.asarray(X)
        if values.ndim != 2 or values.dtype.kind not in "fiubO":
            return X
        if values.dtype.kind != "f":
            try:
                values = values.astype(float)
            except (TypeError, ValueError):
                return X
        if not np.isfinite(values[~np.isnan(values)]).all():
            return X
        mapped = self._map_cells(values).astype(values.dtype)
        if not hasattr(X, "columns"):
            return mapped
        index = {"index": X.index} if hasattr(X, "index") else {}
        columns = {"columns": X.columns} if index else {"schema": X.columns}
        return type(X)(mapped, **columns, **index)

    def fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        return super().fit(self._map(X), y, sample_weight, X_val, y_val)

    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(self._map(X), y, sample_weight)

    def transform(self, X):
        return super().transform(self._map(X))

    def posterior(self, X):
        return super().posterior(self._map(X))

    def score_samples(self, X, n_draws=100, *, y=None):
        return super().score_samples(self._map(X), n_draws, y=y)


class WithHoles(Mapped):
    def _map_cells(self, values):
        return np.where(values > 1.2, np.nan, values)


class ZerosAndOnes(Mapped):
    def _map_cells(self, values):
        return values > 0.5


class GreyValues(Mapped):
    def _map_cells(self, values):
        return np.clip(values, 0, 1)


class Counts(Mapped):
    def _map_cells(self, values):
        return np.clip(np.rint(np.abs(values)), 0, 9)


class Levels(Mapped):
    def _map_cells(self, values):
        return np.clip(np.rint(np.abs(values)), 0, 2)


CONFIGURATIONS = {
    "default": VAETransformer(),
    "nan": WithHoles(max_iter=5),
    "float32": VAETransformer(max_iter=5, precision="float32"),
    "early_stopping": VAETransformer(max_iter=12, early_stopping=True, n_iter_no_change=2),
    "warm_start": VAETransformer(max_iter=5, warm_start=True),
    "mini_batches": VAETransformer(max_iter=5, batch_size=8),
    "student_t": VAETransformer(max_iter=5, likelihood="student_t"),
    "normal": VAETransformer(max_iter=5, prior="normal"),
    "vamp": VAETransformer(max_iter=5, prior="vamp"),
    "flow": VAETransformer(max_iter=5, prior="flow"),
    "autoencoder": VAETransformer(max_iter=5, objective="autoencoder"),
    "iwae": VAETransformer(max_iter=5, objective="iwae"),
    "beta_tc": VAETransformer(max_iter=5, objective="beta_tc", beta=4.0),
    "dip": VAETransformer(max_iter=5, objective="dip", beta=0.2),
    "mmd": VAETransformer(max_iter=5, objective="mmd"),
    "conditional": VAETransformer(max_iter=5, conditional=True),
    "conditional_nan": WithHoles(max_iter=5, conditional=True, prior="vamp", early_stopping=True),
    "linear": VAETransformer(max_iter=5, hidden_layer_sizes=(), kl_warmup=0),
    "bernoulli": ZerosAndOnes(max_iter=5, likelihood="bernoulli"),
    "continuous_bernoulli": GreyValues(max_iter=5, likelihood="continuous_bernoulli"),
    "poisson": Counts(max_iter=5, likelihood="poisson"),
    "negative_binomial": Counts(max_iter=5, likelihood="negative_binomial"),
    "categorical": Levels(max_iter=5, likelihood="categorical"),
}


def list_checks():
    """List (estimator, check) of every configuration, named after both."""
    for name, estimator in CONFIGURATIONS.items():
        seen = {}
        for instance, check in estimator_checks.estimator_checks_generator(estimator):
            check_name = check.func.__name__
            seen[check_name] = seen.get(check_name, 0) + 1
            number = f"-{seen[check_name]}" if seen[check_name] > 1 else ""
            yield pytest.param(instance, check, id=f"{name}-{check_name}{number}")
        for check_name in FURTHER_CHECKS if name in ("normal", "conditional") else ():
            check = getattr(estimator_checks, check_name)
            # these fit a DataFrame and transform an array, or the reverse: scikit-learn rightly warns
            mark = pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
            marks = [mark] if check_name.endswith(("pandas", "polars")) else []
            yield pytest.param(
                estimator, partial(check, type(estimator).__name__), marks=marks, id=f"{name}-{check_name}"
            )


CHECKS = list(list_checks())


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_check(estimator, check):
    try:
        check(clone(estimator))
    except SkipTest as reason:  # pytest would count it as neither passed nor failed
        pytest.fail(f"skipped: {reason}")


def test_no_check_is_missing():
    names = [param.id.removeprefix("normal-") for param in CHECKS if param.id.startswith("normal-")]
    assert len(names) >= 60
    assert {
        "check_dict_unchanged",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_sample_weight_equivalence_on_dense_data",
        "check_transformer_preserve_dtypes",
        *FURTHER_CHECKS,
    } <= set(names)


@pytest.mark.parametrize("estimator", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_no_tag_silences_a_check(estimator):
    tags = get_tags(estimator)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.requires_fit
    assert tags.target_tags.required == estimator.conditional
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


def test_array_api_checks_are_on():
    with sklearn.config_context(array_api_dispatch=True):  # raises if SCIPY_ARRAY_API came too late
        assert sklearn.get_config()["array_api_dispatch"]


# -- what the truthful tag allow_nan drops: check_estimators_nan_inf ---------------------------

METHODS = ["fit", "fit_transform", "partial_fit", "transform", "posterior", "score_samples", "score"]


@pytest.fixture(scope="module")
def holey():
    X = np.random.default_rng(0).normal(size=(40, 4))
    X[::3, 1] = np.nan
    X[0] = np.nan
    return X


@pytest.fixture(scope="module")
def fitted(holey):
    return VAETransformer(2, prior="normal", max_iter=5, random_state=0).fit(holey)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_infinity_is_refused(fitted, holey, method, value):
    X = holey.copy()
    X[2, 2] = value
    with pytest.raises(ValueError, match="Input X contains infinity"):
        getattr(clone(fitted) if "fit" in method else fitted, method)(X)


def test_infinity_is_refused_in_validation_rows_and_latents(fitted, holey):
    with pytest.raises(ValueError, match="contains infinity"):
        clone(fitted).fit(holey, X_val=np.full((2, 4), np.inf))
    for value in (np.inf, np.nan):
        with pytest.raises(ValueError, match="Input X contains"):
            fitted.inverse_transform([[0.0, value]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_is_welcome_in_every_method(fitted, holey, method, dtype):
    result = getattr(clone(fitted) if "fit" in method else fitted, method)(holey.astype(dtype))
    if "fit" in method and method != "fit_transform":
        result = result.transform(holey)
    assert np.isfinite(result).all()


def test_missing_cells_leave_the_score(fitted, holey):
    assert fitted.score_samples(holey)[0] == pytest.approx(0, abs=0.2)  # p of nothing is 1, by sampling
    alone = np.full((1, 4), np.nan)
    alone[0, 3] = 0.2
    both = alone.copy()
    both[0, 2] = 0.1
    assert fitted.score_samples(alone)[0] != fitted.score_samples(both)[0]


# -- sample_weight equals repetition -----------------------------------------------------------


@pytest.fixture(scope="module")
def weighted():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 5)) * [1, 10, 0.1, 3, 1] + 2
    X[3, 2] = np.nan
    return X, rng.integers(0, 4, 30), rng.permutation(30)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"precision": "float32"},
        {"likelihood": "student_t", "prior": "mixture"},
        {"prior": "vamp"},
        {"prior": "flow"},
        {"early_stopping": True},
        {"objective": "autoencoder"},
        {"batch_size": 8},
        {"conditional": True},
        {"conditional": True, "prior": "vamp", "early_stopping": True},
    ],
    ids=str,
)
def test_weight_equals_repetition(weighted, params):
    X, weight, order = weighted
    y = np.arange(30) % 3
    est = VAETransformer(3, max_iter=10, random_state=0, **params)
    by_weight = clone(est).fit(X[order], y[order], sample_weight=weight[order])
    by_repetition = clone(est).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(by_weight.transform(X), by_repetition.transform(X), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(by_weight.score_samples(X), by_repetition.score_samples(X), rtol=1e-7)


def test_weighted_batches_average_to_the_weighted_loss():
    X = np.random.default_rng(0).normal(size=(240, 5))
    weight = np.where(np.arange(240) % 4, 1, 6)
    X[weight > 1] *= 4

    def loss(X, weight, batch_size):  # of an epoch in which nothing is learned
        est = VAETransformer(2, objective="autoencoder", learning_rate=1e-12, max_iter=1, random_state=0)
        return est.set_params(batch_size=batch_size).fit(X, sample_weight=weight).history_["loss"][0]

    full = loss(X, weight, 240)
    assert abs(full / loss(X, None, 240) - 1) > 0.1
    assert loss(X, weight, 8) == pytest.approx(full, rel=0.02)
    assert loss(np.repeat(X, weight, axis=0), None, 8) == pytest.approx(full, rel=0.02)


def test_weights_are_relative_and_zero_removes(weighted):
    X, weight, _ = weighted
    est = VAETransformer(3, max_iter=10, weight_decay=0.1, random_state=0)
    Z = clone(est).fit(X, sample_weight=weight).transform(X)
    np.testing.assert_allclose(clone(est).fit(X, sample_weight=weight * 8.0).transform(X), Z, rtol=1e-7)
    np.testing.assert_array_equal(
        clone(est).fit(X[weight > 0], sample_weight=weight[weight > 0]).transform(X), Z
    )
    ones = clone(est).fit(X, sample_weight=np.ones(30)).transform(X)
    np.testing.assert_allclose(ones, clone(est).fit(X).transform(X), rtol=1e-7)


def test_score_is_the_weighted_mean(fitted, holey):
    weight = np.arange(40.0)
    expected = np.average(fitted.score_samples(holey), weights=weight)
    assert fitted.score(holey, sample_weight=weight) == pytest.approx(expected)
    assert fitted.score(holey) == pytest.approx(fitted.score_samples(holey).mean())
