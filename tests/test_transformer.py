"""VAETransformer by itself: that it is right, robust, and loses nothing to bad input."""

import copy
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.integrate
import torch
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale
from torch import nn
from torch.overrides import TorchFunctionMode

from skvae import VAEImputer, VAETransformer
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.networks import MLP, Conv
from skvae.priors import Prior, PriorModel


def small(n_components=3, **params):
    return VAETransformer(
        n_components, **({"max_iter": 30, "random_state": 0, "hidden_layer_sizes": (32,)} | params)
    )


@pytest.fixture(scope="module")
def fitted(cancer):
    """A model that has learned something; tests must leave it as it is."""
    return small(5, max_iter=200, prior="normal").fit(cancer[0])


@pytest.fixture(scope="module")
def single(cancer):
    return cancer[0].astype(np.float32)


# -- it is right -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 4])
def test_linear_gaussian_model_is_probabilistic_pca(diabetes, n_components):
    X = scale(diabetes)
    vae = VAETransformer(
        n_components,
        hidden_layer_sizes=(),
        likelihood=Gaussian(sigma="shared"),
        prior="normal",
        weight_decay=0,
        kl_warmup=0,
        max_iter=1500,
        random_state=0,
    ).fit(X)
    exact = PCA(n_components).fit(X).score(X)
    bound = vae.score_samples(X, n_draws=1).mean()
    assert abs(bound - exact) / X.shape[1] < 0.05
    assert abs(vae.score(X) - exact) / X.shape[1] < 0.05
    assert vae.score(X) < exact + 0.01  # probabilistic PCA is the best of these models


def test_score_with_one_draw_is_the_sampled_bound(fitted, cancer):
    X = cancer[0][:20]
    module, likelihood = fitted.module_, fitted.module_.likelihood
    noise = torch.randn((1, 1, 5), generator=torch.Generator().manual_seed(fitted._seed), dtype=torch.float64)
    with torch.no_grad():
        x = (torch.tensor(X) - likelihood.location) / likelihood.scale
        posterior = module.encode(x)
        z = (posterior.mean + posterior.std * noise[0]).numpy()
        decoded = module.decode(torch.tensor(z)).numpy()
        standard = (torch.tensor(decoded) - likelihood.location) / likelihood.scale
        peak = likelihood.log_prob(standard, module.decoder(torch.tensor(z))).numpy()
        sigma = np.exp(-peak) / math.sqrt(2 * math.pi)
    mean, std = posterior.mean.numpy(), posterior.std.numpy()
    log_px = stats.norm.logpdf(X, decoded, sigma).sum(axis=1)
    log_pz = stats.norm.logpdf(z).sum(axis=1)
    log_qz = stats.norm.logpdf(z, mean, std).sum(axis=1)
    np.testing.assert_allclose(fitted.score_samples(X, n_draws=1), log_px + log_pz - log_qz, rtol=1e-9)


def test_score_rises_with_draws(fitted, cancer):
    scores = [fitted.score_samples(cancer[0], n_draws=n).mean() for n in (1, 10, 300)]
    assert scores == sorted(scores)


def test_score_is_a_density_over_one_column():
    X = np.random.default_rng(0).gamma(2, 3, size=(60, 1))
    vae = small(1, max_iter=200).fit(X)
    grid = np.linspace(-150, 200, 4001)[:, None]
    density = np.exp(vae.score_samples(grid, n_draws=1000))
    assert scipy.integrate.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=0.15)


def test_samples_follow_the_data(diabetes):
    X = diabetes * 3 + 7
    new = small(max_iter=200).fit(X).sample(4000, random_state=0)
    assert np.abs((new.mean(axis=0) - X.mean(axis=0)) / X.std(axis=0)).max() < 0.25
    np.testing.assert_allclose(new.std(axis=0) / X.std(axis=0), 1, atol=0.3)


def test_few_rows_of_few_columns_tell_how_these_are_related():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-2, 2, size=(2, 700))
    X = np.column_stack((a, b, np.sin(2 * a), a * b, np.cos(a + b))) + 0.05 * rng.normal(size=(700, 5))
    vae = VAETransformer(4, random_state=0).fit(X[:200])
    independent = stats.norm.logpdf(X[200:], X[:200].mean(0), X[:200].std(0)).sum(1).mean()
    assert vae.score(X[200:]) > independent + 3.3  # 4.1; with a prior as strong as for many columns 2.6


def test_history_adds_up(diabetes):
    vae = small(beta=2.0, kl_warmup=0.5).fit(diabetes)
    history = vae.history_
    assert {"loss", "reconstruction", "kl", "learning_rate"} <= set(history)
    assert not any(key.startswith("validation") for key in history)
    assert {len(values) for values in history.values()} == {vae.n_iter_} == {30}
    assert all(np.isfinite(values).all() for values in history.values())
    last = {key: values[-1] for key, values in history.items()}
    assert last["loss"] == pytest.approx(2 * last["kl"] - last["reconstruction"])
    assert last["loss"] < history["loss"][0]


def test_seed_decides_every_bit(diabetes):
    a, b, other = (small(random_state=seed).fit(diabetes) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.transform(diabetes), b.transform(diabetes))
    np.testing.assert_array_equal(a.score_samples(diabetes), b.score_samples(diabetes))
    assert a.history_ == b.history_
    assert not np.array_equal(a.transform(diabetes), other.transform(diabetes))


def test_seed_may_be_a_generator(diabetes):
    a, b = (small(random_state=np.random.RandomState(3)).fit_transform(diabetes) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    state = np.random.RandomState(3)
    first, second = (small(random_state=state).fit_transform(diabetes) for _ in range(2))
    assert not np.array_equal(first, second)


def test_sampling_is_seeded(fitted):
    np.testing.assert_array_equal(fitted.sample(5, random_state=1), fitted.sample(5, random_state=1))
    assert not np.array_equal(fitted.sample(5, random_state=1), fitted.sample(5, random_state=2))
    assert not np.array_equal(fitted.sample(5), fitted.sample(5))
    assert fitted.sample().shape == (1, 30)


def test_sample_without_noise_gives_decoder_means(diabetes):
    vae = small(likelihood=Gaussian(min_sigma=10)).fit(diabetes)  # noise that drowns the means
    assert (
        vae.sample(100, noise=True, random_state=0).std()
        > 3 * vae.sample(100, noise=False, random_state=0).std()
    )


def test_transform_is_deterministic_and_changes_nothing(fitted, cancer):
    before = pickle.dumps(fitted)
    X = cancer[0]
    for method in (fitted.transform, fitted.score_samples, fitted.score, lambda X: fitted.posterior(X)[1]):
        np.testing.assert_array_equal(method(X), method(X))
    fitted.inverse_transform(fitted.transform(X))
    fitted.sample(3)
    assert pickle.dumps(fitted) == before


def global_state():
    return {
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002 - the old global generator is meant
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "errors": np.geterr(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    }


class Failing(nn.Module):
    """A network that works when it is tried out and raises in training."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x):
        if torch.is_grad_enabled():
            raise RuntimeError("out of order")
        return self.linear(x)


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_global_is_left_changed(diabetes, threads):
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        before = global_state()
        vae = small(random_state=None, max_iter=3, prior="mixture", early_stopping=True)
        vae.fit(diabetes)
        vae.partial_fit(diabetes)
        vae.inverse_transform(vae.transform(diabetes))
        vae.sample(3)
        vae.score(diabetes)
        assert global_state() == before
        with pytest.raises(RuntimeError, match="out of order"):
            small(decoder=Failing).fit(diabetes)
        with pytest.raises(ValueError):
            vae.fit(np.full_like(diabetes, np.inf))
        with pytest.raises(ValueError):
            vae.score(diabetes[:, :2])
        assert global_state() == before
    finally:
        torch.set_num_threads(threads_before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_or_off_as_the_caller_left_them(diabetes, mode):
    with mode():
        inside = small(max_iter=3).fit(diabetes)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(inside.transform(diabetes), small(max_iter=3).fit_transform(diabetes))


@pytest.mark.parametrize(
    "params", [{}, {"prior": "vamp"}, {"conditional": True}, {"likelihood": "student_t"}], ids=str
)
def test_products_in_bfloat16_change_little(digits, params):
    X, y = digits
    low, full = (small(precision=p, **params).fit(X, y) for p in ("bfloat16", "float32"))
    assert "autocast" not in vars(low.module_) or low.module_.autocast is None
    assert {p.dtype for p in low.module_.parameters()} == {torch.float64}
    assert not np.array_equal(low.transform(X), full.transform(X))
    assert low.score(X) == pytest.approx(full.score(X), abs=0.02 * X.shape[1])


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor"
)  # torch's own
def test_compiled_training(diabetes, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing is compiled as yet
    params = {"hidden_layer_sizes": (8,), "decoder": nn.Linear, "max_iter": 3}
    vae = small(compile=True, **params)
    before = dict(vars(vae))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(RuntimeError, match=r"Got compile=True.*C\+\+ compiler.*compile=False"):
            vae.fit(diabetes)
    assert vars(vae) == before
    vae.fit(diabetes)
    np.testing.assert_allclose(vae.transform(diabetes), small(**params).fit_transform(diabetes), rtol=1e-6)
    networks = [module for module in vae.module_.modules() if module._compiled_call_impl is not None]
    assert networks == []
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(vae)).transform(diabetes), vae.transform(diabetes)
    )


def test_default_dtype_of_torch_does_not_matter(diabetes):
    expected = small(max_iter=3).fit_transform(diabetes)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        Z = small(max_iter=3).fit_transform(diabetes)
    finally:
        torch.set_default_dtype(before)
    assert Z.dtype == expected.dtype
    assert np.isfinite(Z).all()


# -- components --------------------------------------------------------------------------------


def test_components_come_most_informative_first(fitted, cancer):
    kl = fitted.kl_per_component_
    assert kl.shape == (5,)
    assert (np.diff(kl) <= 0).all()
    mean, std = fitted.posterior(cancer[0])
    by_hand = 0.5 * (mean**2 + std**2 - 1).mean(axis=0) - np.log(std).mean(axis=0)
    np.testing.assert_allclose(by_hand, kl, rtol=1e-6, atol=1e-9)


def test_order_is_the_same_in_every_method(fitted, cancer):
    X = cancer[0]
    Z = fitted.transform(X)
    np.testing.assert_array_equal(Z, fitted.posterior(X)[0])
    assert (fitted.posterior(X)[1] > 0).all()

    def error(Z):
        return np.mean(((fitted.inverse_transform(Z) - X) / X.std(axis=0)) ** 2)

    assert error(Z) < 0.35  # the column means leave 1
    assert error(Z[:, ::-1]) > 2 * error(Z)
    without_first, without_last = Z.copy(), Z.copy()
    without_first[:, 0], without_last[:, -1] = 0, 0
    assert error(without_first) > error(without_last)


def test_feature_names_out(fitted):
    assert list(fitted.get_feature_names_out()) == [f"vaetransformer{i}" for i in range(5)]


# -- types and units ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params", [{}, {"precision": "float64"}, {"precision": "float32"}, {"batch_size": 50}], ids=str
)
def test_type_in_is_type_out(cancer, single, params):
    vae = small(max_iter=3, **params).fit(single)
    for X in (single, cancer[0]):
        assert vae.transform(X).dtype == X.dtype
        assert vae.score_samples(X).dtype == X.dtype
        assert vae.posterior(X)[1].dtype == X.dtype
        assert vae.inverse_transform(vae.transform(X)).dtype == X.dtype
    assert vae.sample(2).dtype == np.float32
    assert small(max_iter=3, **params).fit(cancer[0]).transform(cancer[0]).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_whole_numbers_and_booleans(dtype):
    X = np.random.default_rng(0).integers(0, 2, (40, 5)).astype(dtype)
    vae = small(max_iter=5).fit(X)
    assert vae.transform(X).dtype == np.float64
    assert isinstance(vae.likelihood_, Bernoulli if dtype is bool else Gaussian)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("params", [{}, {"batch_size": 50}, {"likelihood": "student_t"}], ids=str)
def test_power_of_two_keeps_every_bit(cancer, dtype, params):
    X = cancer[0].astype(dtype)
    vae, scaled = small(**params).fit(X), small(**params).fit(X * dtype(1024))
    np.testing.assert_array_equal(scaled.transform(X * dtype(1024)), vae.transform(X))
    shift = X.shape[1] * math.log(1024)
    np.testing.assert_allclose(
        scaled.score_samples(X * dtype(1024)), vae.score_samples(X) - shift, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_units_do_not_matter(cancer, precision):
    X = cancer[0]
    other = X * 1000 + 1e6
    a, b = small(precision=precision).fit(X), small(precision=precision).fit(other)
    np.testing.assert_allclose(b.transform(other), a.transform(X), atol=0.05)
    assert stats.spearmanr(b.score_samples(other), a.score_samples(X)).statistic > 0.999


def test_list_and_fortran_order(diabetes):
    X = diabetes[:30]
    Z = small(max_iter=3).fit_transform(X)
    np.testing.assert_array_equal(small(max_iter=3).fit_transform(X.tolist()), Z)
    np.testing.assert_allclose(
        small(max_iter=3).fit_transform(np.asfortranarray(X)), Z, rtol=1e-9, atol=1e-12
    )


# -- robustness --------------------------------------------------------------------------------


def odd_tables():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))

    def changed(column, value, row=slice(None)):
        changed = X.copy()
        changed[row, column] = value
        return changed

    return {
        "20 rows": X[:20],
        "2 rows": X[:2],
        "equal rows": np.ones((10, 3)),
        "one column": X[:, :1],
        "constant column": changed(2, 7.0),
        "constant zero": changed(2, 0.0),
        "huge constant": changed(2, 1e12),
        "all constant": np.full((20, 3), 5.0),
        "2,000 columns": rng.normal(size=(30, 2000)),
        "outlying cell": changed(3, 1e6, 5),
        "duplicated columns": np.hstack([X, X, X]),
        "missing column": changed(1, np.nan),
        "one value seen": changed(1, np.nan, slice(1, None)),
        "tiny numbers": X * 1e-150,
        "huge numbers": X * 1e100,
        "far offset": X + 1e9,
        "two values": np.sign(X),
        "mostly zero": X * (rng.random(X.shape) < 0.03),
        "missing rows": changed(slice(None), np.nan, slice(0, 50)),
    }


TABLES = odd_tables()


@pytest.mark.parametrize(
    "params", [{}, {"batch_size": 8}, {"likelihood": "student_t"}], ids=["full", "mini", "student_t"]
)
@pytest.mark.parametrize("table", TABLES)
def test_odd_tables_give_finite_results(table, params):
    X = TABLES[table]
    vae = small(hidden_layer_sizes="auto", **params).fit(X)
    Z = vae.transform(X)
    assert np.isfinite(Z).all()
    assert np.isfinite(vae.posterior(X)[1]).all()
    assert np.isfinite(vae.score_samples(X)).all()
    seen = ~np.isnan(X).all(axis=0)
    assert np.isfinite(vae.inverse_transform(Z)[:, seen]).all()
    assert np.isfinite(vae.sample(5, random_state=0)[:, seen]).all()
    assert np.isfinite(vae.kl_per_component_).all()


@pytest.mark.parametrize("X", [np.full((20, 3), 5.0), np.full((20, 3), np.nan)], ids=["constant", "missing"])
def test_values_never_seen_in_training_stay_finite(X):
    vae = small(max_iter=3).fit(X)
    new = np.random.default_rng(0).normal(size=(5, 3)) * 100
    assert np.isfinite(vae.transform(new)).all()
    assert np.isfinite(vae.score_samples(new)).all()


def test_outlying_rows_score_low_and_stay_finite(fitted, cancer):
    X = cancer[0]
    far = X.mean(axis=0) + 1e6 * X.std(axis=0) * np.ones((2, 1))
    assert np.isfinite(fitted.transform(far)).all()
    assert (fitted.score_samples(far) < fitted.score_samples(X).min()).all()


def test_constant_column_comes_back(diabetes):
    X = diabetes.copy()
    X[:, 4] = 7.5
    vae = small(max_iter=100).fit(X)
    np.testing.assert_allclose(vae.inverse_transform(vae.transform(X))[:, 4], 7.5, rtol=0.2)


# -- validation rows, stopping, warm starts ----------------------------------------------------


def test_validation_rows_are_watched(diabetes):
    vae = small().fit(diabetes[:150], X_val=diabetes[150:])
    for key in ("loss", "reconstruction", "kl"):
        assert len(vae.history_[f"validation_{key}"]) == vae.n_iter_ == 30
        assert np.isfinite(vae.history_[f"validation_{key}"]).all()
    np.testing.assert_array_equal(
        small(early_stopping=False).fit(diabetes[:150], X_val=diabetes[150:]).transform(diabetes),
        small(early_stopping=False).fit(diabetes[:150], X_val=diabetes[150:] + 1).transform(diabetes),
    )


def test_early_stopping_stops_and_keeps_the_best(diabetes):
    params = {"early_stopping": True, "n_iter_no_change": 5, "max_iter": 400, "learning_rate": 0.02}
    vae = small(**params, weight_decay=0, kl_warmup=0).fit(diabetes[:60], X_val=diabetes[60:])
    assert vae.n_iter_ < 400
    losses = vae.history_["validation_loss"]
    assert len(losses) == vae.n_iter_
    bound = vae.score_samples(diabetes[60:], n_draws=1).mean()
    assert bound == pytest.approx(-min(losses), abs=1.5)  # by other draws of the noise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_early_stopping_costs_little(seed):
    train, test = train_test_split(scale(load_wine().data), random_state=seed)
    full = VAETransformer(4, random_state=seed).fit(train)
    soon = VAETransformer(4, random_state=seed, early_stopping=True).fit(train)
    assert soon.n_iter_ < 0.6 * full.n_iter_
    assert soon.score(test) > full.score(test) - 0.35  # -14.8 of -14.3 without an end of the schedule


@pytest.mark.parametrize(
    "params", [{"beta": 0.1}, {"objective": "dip", "beta": 0.2}, {"objective": "mmd"}, {"beta": 2.0}], ids=str
)
def test_scores_are_log_px_whatever_the_weight_of_the_kl_term(diabetes, params):
    vae = VAETransformer(1, hidden_layer_sizes=(), prior="normal", max_iter=300, random_state=0, **params)
    vae.fit(diabetes[:200])
    mean = vae.inverse_transform(np.zeros((1, 1)))[0]
    W = vae.inverse_transform(np.ones((1, 1))) - mean
    observation = vae.module_.likelihood
    sigma = vae.likelihood_.log_sigma(torch.zeros(1, 1), observation.constants).exp().detach()
    exact = stats.multivariate_normal(mean, W.T @ W + np.diag(np.square((sigma * observation.scale).numpy())))
    difference = vae.score_samples(diabetes) - exact.logpdf(diabetes)
    assert np.abs(difference).mean() < 0.1
    assert abs(difference.mean()) < 0.05
    holed = diabetes.copy()
    holed[:, 3:] = np.nan
    exact = stats.multivariate_normal(mean[:3], exact.cov[:3, :3])
    assert abs(vae.score(holed) - exact.logpdf(diabetes[:, :3]).mean()) < 0.25


def test_early_stopping_sets_rows_aside(diabetes):
    vae = small(early_stopping=True, validation_fraction=0.25).fit(diabetes)
    assert len(vae.history_["validation_loss"]) == vae.n_iter_
    with pytest.raises(ValueError, match=re.escape("validation_fraction=0.9 with 2 distinct rows")):
        small(early_stopping=True, validation_fraction=0.9).fit(diabetes[:2])


def test_warm_start_goes_on(diabetes):
    vae = small(warm_start=True, max_iter=20).fit(diabetes)
    first, module = vae.history_["loss"][0], vae.module_
    vae.set_params(max_iter=40).fit(diabetes)
    assert vae.history_["loss"][-1] < first
    assert vae.module_ is not module
    assert {len(values) for values in vae.history_.values()} == {vae.n_iter_}


def test_a_plain_fit_starts_anew(diabetes):
    vae = small().fit(diabetes * 2 + 1)
    np.testing.assert_array_equal(vae.fit(diabetes).transform(diabetes), small().fit_transform(diabetes))
    assert vae.n_iter_ == 30


@pytest.mark.parametrize("first", [True, False])
def test_history_stays_rectangular_when_validation_comes_and_goes(diabetes, first):
    vae = small(warm_start=True, max_iter=5).fit(diabetes, X_val=diabetes if first else None)
    vae.set_params(max_iter=10).fit(diabetes, X_val=None if first else diabetes)
    assert {len(values) for values in vae.history_.values()} == {vae.n_iter_}


# -- partial_fit -------------------------------------------------------------------------------


def test_partial_fit_goes_on_learning(diabetes):
    vae = small().partial_fit(diabetes)
    assert vae.n_iter_ == 1
    first = vae.score(diabetes)
    location = vae.module_.likelihood.location.clone()
    for _ in range(40):
        vae.partial_fit(diabetes + 0.1)
    assert vae.n_iter_ == 41
    assert {len(values) for values in vae.history_.values()} == {41}
    assert vae.score(diabetes) > first
    assert torch.equal(vae.module_.likelihood.location, location)  # the first chunk fixes it


def test_partial_fit_takes_a_chunk_of_one_row(diabetes):
    vae = small().partial_fit(diabetes)
    before = vae.transform(diabetes)
    assert not np.array_equal(vae.partial_fit(diabetes[:1]).transform(diabetes), before)


def test_partial_fit_takes_weights(diabetes):
    weight = np.arange(len(diabetes)) % 3
    by_weight = small().partial_fit(diabetes, sample_weight=weight)
    by_repetition = small().partial_fit(np.repeat(diabetes, weight, axis=0))
    np.testing.assert_allclose(by_weight.transform(diabetes), by_repetition.transform(diabetes), rtol=1e-7)


@pytest.mark.parametrize(
    "fails",
    [
        lambda vae, X: vae.set_params(objective="iwae", beta=2.0).partial_fit(X),
        lambda vae, X: vae.set_params(warm_start=True).fit(X, X_val=X[:, 1:]),
    ],
)
def test_a_fit_that_fails_leaves_constant_columns(fails, diabetes):
    X = diabetes.copy()
    X[:, 2] = 5.0
    vae = small().fit(X)
    before = vae.get_params()
    with pytest.raises(ValueError, match=r"beta=2|has 9 features"):
        fails(vae, X)
    vae.set_params(**before)
    assert (vae.sample(20, random_state=0)[:, 2] == 5.0).all()
    assert (vae.inverse_transform(vae.transform(X))[:, 2] == 5.0).all()


def test_a_weight_of_both_networks_takes_one_step_at_a_time(diabetes):
    class Back(nn.Module):
        def __init__(self, n_in, first):
            super().__init__()
            self.inner, self.first = nn.Linear(n_in, 16), first

        def forward(self, z):
            return self.inner(z).tanh() @ self.first.weight

    class Tied:
        __call__ = None

        def build_encoder(self, n_in, n_out):
            self.first, self.last = nn.Linear(n_in, 16), nn.Linear(16, n_out)
            return nn.Sequential(self.first, nn.Tanh(), self.last)

        def build_decoder(self, n_in, n_out):
            return Back(n_in, self.first)

    def weights(**params):
        tied = Tied()
        params |= {"batch_size": 200, "weight_decay": 0.0, "precision": "float64", "random_state": 0}
        module = VAETransformer(2, encoder=tied, decoder=tied, **params).partial_fit(diabetes).module_
        assert module.encoder[0] is module.decoder.first
        return module.encoder[0].weight.detach(), module.encoder[2].weight.detach()

    before, after = weights(learning_rate=1e-12), weights(learning_rate=0.01)
    shared, own = ((b - a).abs().median().item() for a, b in zip(before, after, strict=True))
    assert shared == pytest.approx(own, rel=0.1)


def test_columns_that_get_values_late_are_named(diabetes):
    X = diabetes.copy()
    X[:100, 3] = np.nan
    vae = small().partial_fit(X[:100])
    with pytest.warns(UserWarning, match=r"^Columns \[3\] have values now, but had none when.*fit anew"):
        vae.partial_fit(X[100:])
    with pytest.warns(UserWarning, match=r"Columns \['d'\] have values"):
        small(warm_start=True).fit(frame := pd.DataFrame(X[:100, 2:4], columns=["c", "d"])).fit(
            frame.fillna(0)
        )


def test_arrays_of_objects_go_on_as_tables(diabetes):
    X = np.where(diabetes > 1, pd.NA, diabetes.astype(object))
    vae = small(max_iter=2, likelihood="mixed").partial_fit(X[:100]).partial_fit(X[100:])
    assert np.isfinite(vae.score_samples(X)).all()
    assert vae.sample_conditional(X[:3], random_state=0).shape == (3, X.shape[1])


def test_masked_cells_are_missing(diabetes):
    masked = np.ma.masked_array(diabetes, mask=diabetes > 1)
    holed = np.where(diabetes > 1, np.nan, diabetes)
    vae = small(max_iter=2)
    expected = vae.fit_transform(holed)
    np.testing.assert_array_equal(vae.fit_transform(masked), expected)
    assert np.isfinite(vae.fit_transform(np.ma.masked_array(np.arange(40).reshape(20, 2), mask=False))).all()


def test_partial_fit_refuses_levels_that_have_no_chance():
    X = np.tile([[0.0, 1.0], [2.0, 0.0], [np.nan, 1.0]], (20, 1))
    vae = small(likelihood="categorical").partial_fit(X)
    before = vae.score_samples(X)
    with pytest.raises(ValueError, match="code 2 in column 1 for a model that was built on codes up to 1"):
        vae.partial_fit(X[:, ::-1])
    np.testing.assert_array_equal(vae.score_samples(X), before)
    vae.partial_fit(X[::-1])


def test_partial_fit_refuses_other_columns(diabetes):
    vae = small().partial_fit(diabetes)
    with pytest.raises(ValueError, match="X has 9 features, but VAETransformer is expecting 10 features"):
        vae.partial_fit(diabetes[:, 1:])


def test_passes_over_chunks_are_as_good_as_a_fit():
    rng = np.random.default_rng(0)
    table = np.tanh(rng.normal(size=(1400, 2)) @ rng.normal(size=(2, 6))) + 0.3 * rng.normal(size=(1400, 6))
    X, X_test, n_passes = table[:1000], table[1000:], 25
    passing = VAETransformer(3, random_state=0)
    for _ in range(n_passes):
        for chunk in np.split(X, 4):
            passing.partial_fit(chunk)
    assert passing.n_iter_ == 4 * n_passes
    fitted = VAETransformer(3, max_iter=n_passes, random_state=0).fit(X)
    assert passing.score(X_test) > fitted.score(X_test) - 0.05 * 6


def test_passes_count_the_rows_of_all_chunks(diabetes):
    vae = small(batch_size=20).partial_fit(diabetes).partial_fit(diabetes[:50])
    assert vae._amount == 250
    assert vae.partial_fit(diabetes[:50], sample_weight=np.full(50, 3.0))._amount == 400
    assert vae.partial_fit(diabetes[:50], sample_weight=np.full(50, 0.1))._amount == 450


def test_copies_of_chunks_go_on_bit_by_bit(diabetes):
    one = small(batch_size=20, precision="float32")
    other = small(batch_size=20, precision="float32")
    for chunk in np.split(diabetes.astype(np.float32), 4):
        one.partial_fit(chunk)
        other = pickle.loads(pickle.dumps(other)).partial_fit(chunk)
    for a, b in zip(one.module_.state_dict().values(), other.module_.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_partial_fit_goes_on_from_fit_and_seeds_alike(diabetes):
    a, b = (small(max_iter=5).fit(diabetes).partial_fit(diabetes) for _ in range(2))
    np.testing.assert_array_equal(a.transform(diabetes), b.transform(diabetes))
    assert not np.array_equal(a.transform(diabetes), small(max_iter=5).fit_transform(diabetes))


# -- a fit that fails loses nothing ------------------------------------------------------------


class Switch(nn.Module):
    """A network that raises what the class attribute `error` holds after a number of training steps."""

    error, steps = None, 0

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x):
        if torch.is_grad_enabled() and Switch.error is not None:
            Switch.steps -= 1
            if Switch.steps < 0:
                raise Switch.error
        return self.linear(x)


@pytest.fixture
def fail():
    """Return a function that makes `Switch` raise from some training step on."""

    def arm(error, steps=3):
        Switch.error, Switch.steps = error, steps

    yield arm
    Switch.error = None


def state_of(vae):
    return {
        key: pickle.dumps(value) if not isinstance(value, np.ndarray) else value.tolist()
        for key, value in vars(vae).items()
    }


@pytest.mark.parametrize("method", ["fit", "warm fit", "partial_fit", "other columns"])
def test_a_failing_fit_leaves_the_estimator_as_it_was(diabetes, fail, method):
    vae = small(max_iter=5, encoder=Switch, warm_start=method == "warm fit").partial_fit(diabetes)
    before, Z = state_of(vae), vae.transform(diabetes)
    fail(RuntimeError("out of order"), 0 if method == "partial_fit" else 3)
    with pytest.raises(RuntimeError, match="out of order"):
        (vae.partial_fit if method == "partial_fit" else vae.fit)(
            diabetes[:, :4] if method == "other columns" else diabetes
        )
    fail(None)
    assert state_of(vae) == before
    np.testing.assert_array_equal(vae.transform(diabetes), Z)
    assert vae.n_features_in_ == 10


@pytest.mark.parametrize(
    "bad",
    [{"X": np.full((5, 10), np.inf)}, {"X": np.empty((0, 10))}, {"sample_weight": np.zeros(200)}],
    ids=str,
)
def test_bad_input_leaves_the_estimator_as_it_was(diabetes, bad):
    vae = small(max_iter=3).fit(diabetes)
    before = state_of(vae)
    for method in (vae.fit, vae.partial_fit):
        with pytest.raises(ValueError):
            method(**({"X": diabetes} | bad))
        assert state_of(vae) == before


def test_bad_parameters_leave_the_estimator_as_it_was(diabetes):
    vae = small(max_iter=3).fit(diabetes)
    Z = vae.transform(diabetes)
    for params in (
        {"likelihood": "bernoulli"},
        {"encoder": lambda i, o: nn.Linear(i, o + 1)},
        {"device": "nowhere"},
    ):
        before = vae.get_params()
        with pytest.raises(ValueError):
            vae.set_params(**params).fit(diabetes)
        vae.set_params(**before)
        np.testing.assert_array_equal(vae.transform(diabetes), Z)


def test_an_unfitted_estimator_that_fails_stays_unfitted(diabetes):
    vae = small(likelihood="bernoulli")
    before = dict(vars(vae))
    with pytest.raises(ValueError, match="bernoulli"):
        vae.fit(diabetes)
    assert vars(vae) == before


def test_a_failing_pass_leaves_the_next_one_as_it_would_have_been(diabetes, fail):
    vae = small(encoder=Switch, batch_size=20).partial_fit(diabetes)
    other = copy.deepcopy(vae)
    fail(RuntimeError("out of order"), 3)  # when three steps of the pass are done
    with pytest.raises(RuntimeError, match="out of order"):
        vae.partial_fit(diabetes)
    fail(None)
    np.testing.assert_array_equal(
        vae.partial_fit(diabetes).transform(diabetes), other.partial_fit(diabetes).transform(diabetes)
    )


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupt_in_the_first_epoch_leaves_the_estimator_as_it_was(diabetes, fail, warm_start):
    fail(None)
    vae = small(encoder=Switch, batch_size=20, max_iter=2, warm_start=warm_start).fit(diabetes)
    expected = vae.transform(diabetes)
    for steps in (0, 4):
        fail(KeyboardInterrupt(), steps)
        with pytest.raises(KeyboardInterrupt):
            vae.set_params(max_iter=30).fit(diabetes)
        with pytest.raises(KeyboardInterrupt):
            VAEImputer(vae).fit(diabetes)
        fail(None)
        assert vae.n_iter_ == 2
        np.testing.assert_array_equal(vae.transform(diabetes), expected)


@pytest.mark.parametrize("steps", [1, 12])
def test_interrupted_training_keeps_the_weights(diabetes, fail, steps):
    fail(KeyboardInterrupt(), steps)
    vae = small(encoder=Switch)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        vae.fit(diabetes)
    fail(None)
    assert vae.n_iter_ == steps
    assert all(len(values) == steps for values in vae.history_.values())
    assert np.isfinite(vae.transform(diabetes)).all()
    assert np.isfinite(vae.score(diabetes))


@pytest.mark.parametrize("n_passes", [0, 2])
@pytest.mark.parametrize("steps", [0, 4])
def test_an_interrupted_pass_leaves_a_sound_model(diabetes, fail, n_passes, steps):
    vae = small(encoder=Switch, batch_size=20)
    for _ in range(n_passes):
        vae.partial_fit(diabetes)
    fail(KeyboardInterrupt(), steps)
    with pytest.raises(KeyboardInterrupt):
        vae.partial_fit(diabetes)
    fail(None)
    assert getattr(vae, "n_iter_", 0) == n_passes
    expected = small(encoder=Switch, batch_size=20)
    for _ in range(n_passes):
        expected.partial_fit(diabetes)
    for _ in range(3):
        vae.partial_fit(diabetes)
        expected.partial_fit(diabetes)
    np.testing.assert_array_equal(vae.transform(diabetes), expected.transform(diabetes))


class Fragile(nn.Module):
    """A network whose output is not finite in some training steps."""

    bad_steps: range = range(0)
    step = 0

    def __init__(self, in_features, out_features):
        super().__init__()
        self.network = MLP((16,))(in_features, out_features)

    def forward(self, x):
        out = self.network(x)
        if torch.is_grad_enabled():
            Fragile.step += 1
            if Fragile.step in Fragile.bad_steps:
                return out * math.nan
        return out


def test_a_loss_that_is_not_finite_for_once_is_recovered(diabetes):
    Fragile.step, Fragile.bad_steps = 0, range(60, 62)
    vae = small(encoder=Fragile, max_iter=120).fit(diabetes)
    assert np.isfinite(vae.score(diabetes))
    assert {len(values) for values in vae.history_.values()} == {120}
    assert all(np.isfinite(values).all() for values in vae.history_.values())


def test_a_pass_recovers_from_a_loss_that_is_not_finite(diabetes):
    Fragile.step, Fragile.bad_steps = 0, range(27, 29)  # in the third of passes of ten steps
    vae = small(encoder=Fragile, batch_size=20)
    scores = []
    for _ in range(12):
        scores.append(vae.partial_fit(diabetes).score(diabetes))
        assert all(value.isfinite().all() for value in vae.module_.state_dict().values())
    assert np.isfinite(scores).all()
    assert scores[-1] > scores[0]
    assert np.isfinite(vae.history_["loss"]).all()


def test_a_loss_that_is_never_finite_is_an_error(diabetes):
    Fragile.step, Fragile.bad_steps = 0, range(60, 10**9)
    with pytest.raises(ValueError, match=r"loss was not finite.*learning_rate.*extreme values"):
        small(encoder=Fragile, max_iter=120).fit(diabetes)


def test_an_absurd_rate_is_survived_or_named(diabetes):
    try:
        score = small(learning_rate=1e6, max_iter=100).fit(diabetes).score(diabetes)
    except ValueError as error:
        assert "learning_rate=1000000.0" in str(error)  # noqa: PT017 - either way is fine
    else:
        assert np.isfinite(score)


# -- bad input ---------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(12, 4))

BAD_ROWS = {
    "infinity": (np.full((5, 4), np.inf), ValueError, "Input X contains infinity"),
    "strings": (np.array([["a", "b", "c", "d"]] * 5), ValueError, "dtype='numeric'|could not convert string"),
    "strings in objects": (
        np.array([[1, 2, 3, "d"]] * 5, dtype=object),
        ValueError,
        r"could not convert string to float: 'd'\. Outside of a pandas or polars DataFrame",
    ),
    "rows to be collected": (
        pl.DataFrame({"a": [1.0, 2.0]}).lazy(),
        TypeError,
        r"LazyFrame.*Call collect\(\)",
    ),
    "rows that are dictionaries": (
        [{"a": 1.0}, {"a": 2.0}],
        TypeError,
        "Got a list of dicts.*Pass a DataFrame of it",
    ),
    "dictionaries": (np.array([[{}] * 4] * 5), TypeError, "argument must be .* string.* number"),
    "complex": (X + 1j, ValueError, "Complex data not supported"),
    "sparse": (sparse.csr_array(np.eye(4)), TypeError, "[Ss]parse"),
    "no rows": (np.empty((0, 4)), ValueError, "0 sample"),
    "no columns": (np.empty((5, 0)), ValueError, "0 feature"),
    "one dimension": (np.arange(4.0), ValueError, "Expected 2D array, got 1D array instead"),
    "three dimensions": (np.zeros((5, 4, 2)), ValueError, "dim 3|3D"),
    "scalar": (3.0, ValueError, "Expected 2D array, got scalar array instead"),
    "nothing": (None, ValueError, "Expected 2D array|NoneType|None"),
}


@pytest.fixture(scope="module")
def tiny():
    return small(2, max_iter=3).fit(X)


@pytest.mark.parametrize(
    "method", ["fit", "partial_fit", "fit_transform", "transform", "posterior", "score_samples", "score"]
)
@pytest.mark.parametrize("rows", BAD_ROWS)
def test_bad_rows(tiny, method, rows):
    bad, error, match = BAD_ROWS[rows]
    vae = clone(tiny) if "fit" in method else tiny
    with pytest.raises(error, match=match):
        getattr(vae, method)(bad)


@pytest.mark.parametrize("method", ["transform", "posterior", "score_samples", "score", "partial_fit"])
def test_wrong_number_of_columns(tiny, method):
    vae = copy.deepcopy(tiny)
    with pytest.raises(
        ValueError, match="X has 3 features, but VAETransformer is expecting 4 features as input"
    ):
        getattr(vae, method)(X[:, :3])


def test_wrong_number_of_components(tiny):
    with pytest.raises(
        ValueError, match=re.escape("X has 3 components, but VAETransformer was fitted with n_components=2")
    ):
        tiny.inverse_transform(np.zeros((2, 3)))


@pytest.mark.parametrize(
    "call",
    [
        lambda vae: vae.transform(X),
        lambda vae: vae.posterior(X),
        lambda vae: vae.inverse_transform(X),
        lambda vae: vae.sample(),
        lambda vae: vae.score(X),
        lambda vae: vae.score_samples(X),
        lambda vae: vae.get_feature_names_out(),
    ],
)
def test_unfitted_use(call):
    with pytest.raises(NotFittedError, match="This VAETransformer instance is not fitted yet"):
        call(VAETransformer())


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None, True])
def test_bad_counts(tiny, n):
    with pytest.raises(
        ValueError, match=re.escape(f"Got n_samples={n!r}; expected a whole number of at least 1")
    ):
        tiny.sample(n)
    with pytest.raises(
        ValueError, match=re.escape(f"Got n_draws={n!r}; expected a whole number of at least 1")
    ):
        tiny.score_samples(X, n_draws=n)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_components": 0}, "'n_components' parameter .* must be an int in the range"),
        ({"n_components": -2}, "'n_components' parameter"),
        ({"n_components": 2.5}, "'n_components' parameter"),
        ({"hidden_layer_sizes": (0,)}, r"Got hidden_layer_sizes=\(0,\); expected positive whole numbers"),
        ({"hidden_layer_sizes": (-3, 2)}, "hidden_layer_sizes=.*positive whole numbers"),
        ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes=.*positive whole numbers"),
        ({"hidden_layer_sizes": ("a",)}, "hidden_layer_sizes=.*positive whole numbers"),
        ({"hidden_layer_sizes": ((2, 3), (4, 5))}, "hidden_layer_sizes=.*positive whole numbers"),
        ({"hidden_layer_sizes": "big"}, "'hidden_layer_sizes' parameter .* Got 'big'"),
        ({"activation": "sillu"}, "'activation' parameter .*'silu'.* Got 'sillu'"),
        ({"likelihood": "normal"}, "'likelihood' parameter .*'gaussian'.* Got 'normal'"),
        ({"likelihood": Gaussian(sigma="one")}, "Got sigma='one'; expected .*'shared'"),
        ({"likelihood": Gaussian(min_sigma=0)}, "Got min_sigma=0; expected a number above 0"),
        ({"likelihood": Gaussian}, "'likelihood' parameter"),
        ({"prior": "gauss"}, "'prior' parameter .*'normal'.* Got 'gauss'"),
        ({"objective": "mse"}, "'objective' parameter .*'elbo'.* Got 'mse'"),
        ({"beta": -1}, "'beta' parameter"),
        ({"beta": 4, "objective": "autoencoder"}, "Got beta=4 with objective='autoencoder'.*Leave beta out"),
        ({"kl_warmup": 1.5}, "'kl_warmup' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"beta": math.nan}, "beta"),
        ({"weight_decay": -1}, "'weight_decay' parameter"),
        ({"early_stopping": "yes"}, "'early_stopping' parameter"),
        ({"validation_fraction": 0.0}, "'validation_fraction' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter"),
        ({"tol": -1}, "'tol' parameter"),
        ({"precision": "float16"}, "'precision' parameter .* Got 'float16'"),
        ({"device": "gpu"}, "Got device='gpu'; expected 'auto' or a device that torch can compute on here"),
        ({"device": "cuda:99"}, "Got device='cuda:99'"),
        ({"random_state": "zero"}, "'random_state' parameter"),
        ({"encoder": "mlp"}, "'encoder' parameter"),
        ({"encoder": nn.Linear(4, 4)}, "encoder"),
        (
            {"encoder": lambda i, o: "a network"},
            "Got encoder=<function .*>, which returned 'a network'; expected a builder",
        ),
        (
            {"encoder": lambda i, o: nn.Linear(i, o + 1)},
            r"The encoder was built for 4 .* turned .* into \(2, 7\); expected \(2, 6\)",
        ),
        (
            {"decoder": lambda i, o: nn.Linear(i, 2)},
            r"The decoder was built for 3 .* turned .* into \(2, 2\); expected \(2, 4\)",
        ),
        ({"decoder": lambda i, o: nn.Linear(i + 1, o)}, "decoder"),
        ({"decoder": lambda i, o: nn.LSTM(i, o)}, "decoder"),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],  # processes of one run must agree
)
def test_bad_parameters(params, match):
    with pytest.raises((TypeError, ValueError), match=match):
        small(**({"max_iter": 2} | params)).fit(X)


@pytest.mark.parametrize("kind", ["M8[D]", "m8[s]"])
def test_arrays_of_moments(kind):
    with pytest.raises(ValueError, match=r"Got an array of dtype .* as X; expected numbers. Pass a pandas"):
        small().fit(np.zeros((4, 2), dtype=kind))


class WithoutDoubles(TorchFunctionMode):
    """A device as Apple's: torch can compute on it, but not in float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if (kwargs or {}).get("dtype") is torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return func(*args, **(kwargs or {}))


def test_device_without_float64():
    with WithoutDoubles(), pytest.raises(ValueError, match="in float64, such as 'cpu'"):
        small(device="cpu").fit(np.eye(4))


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.ones(5), r"sample_weight.shape == \(5,\), expected \(12,\)"),
        (np.ones((12, 2)), "Sample weights must be 1D array or scalar"),
        (-np.ones(12), "Negative values in data passed to `sample_weight`"),
        (np.zeros(12), "[Ss]ample.weight.*zero"),
        (np.full(12, np.nan), "Input sample_weight contains NaN"),
        (np.full(12, np.inf), "Input sample_weight contains infinity"),
        (["a"] * 12, "could not convert string"),
    ],
    ids=["short", "2-D", "negative", "zero", "nan", "infinite", "strings"],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
def test_bad_weights(tiny, method, weight, match):
    vae = tiny if method == "score" else clone(tiny)
    with pytest.raises(ValueError, match=match):
        getattr(vae, method)(X, sample_weight=weight)


@pytest.mark.parametrize("method", ["fit", "score"])
def test_weights_too_large_to_add(method):
    X = np.random.default_rng(0).normal(size=(40, 3))
    vae = small(1, max_iter=1).fit(X)
    with pytest.raises(ValueError, match="sample_weight whose sum is too large"):
        getattr(vae, method)(X, sample_weight=np.full(40, 1e307))


# -- support -----------------------------------------------------------------------------------

SUPPORTS = {
    "bernoulli": (np.eye(4), 0.5, "only 0 and 1"),
    "continuous_bernoulli": (np.eye(4) * 0.7, 1.5, r"values in \[0, 1\]"),
    "poisson": (np.eye(4) * 3, 0.5, "whole numbers from 0 on"),
    "negative_binomial": (np.eye(4) * 3, -1, "whole numbers from 0 on"),
    "categorical": (np.eye(4) * 2, -1, "whole numbers from 0 on"),
}


@pytest.mark.parametrize("method", ["fit", "warm fit", "partial_fit", "transform", "score_samples", "X_val"])
@pytest.mark.parametrize("likelihood", SUPPORTS)
def test_values_outside_the_support(likelihood, method):
    good, value, wish = SUPPORTS[likelihood]
    bad = good.copy()
    bad[1, 2] = value
    message = f"Got likelihood='{likelihood}' with X.* in .*; expected {wish}"
    vae = small(2, likelihood=likelihood, max_iter=2)
    if method == "fit":
        call = vae.fit
    elif method == "X_val":
        call = partial(vae.fit, good, None, None)  # the next argument is X_val
    elif method == "warm fit":
        call = vae.set_params(warm_start=True).fit(good).fit
    else:
        call = getattr(vae.fit(good), method)
    with pytest.raises(ValueError, match=message):
        call(bad)


def test_levels_never_seen_in_training():
    vae = small(2, likelihood="categorical", max_iter=2).fit(np.eye(4) * 2)
    assert np.isfinite(vae.transform(np.eye(4) * 5)).all()
    assert (vae.score_samples(np.eye(4) * 5) == -np.inf).all()


def test_categorical_codes_that_are_ids():
    with pytest.raises(ValueError, match="codes up to 2000000; expected at most 9999"):
        small(2, likelihood="categorical").fit([[0], [2_000_000]])


def test_a_missing_column_of_every_likelihood():
    for likelihood, (good, _, _) in SUPPORTS.items():
        holey = np.vstack([good, good])
        holey[:, 1] = np.nan
        vae = small(2, likelihood=likelihood, max_iter=2).fit(holey)
        assert np.isfinite(vae.transform(holey)).all()
        assert np.isfinite(vae.score_samples(holey)).all()


def test_validation_rows_meet_the_likelihood_of_this_fit():
    vae = small(2, likelihood="bernoulli", max_iter=2).fit(np.eye(4))
    vae.set_params(likelihood="gaussian").fit(X, X_val=X)
    assert len(vae.history_["validation_loss"]) == 2


def test_validation_rows_of_other_width(diabetes):
    with pytest.raises(ValueError, match=r"X(_val)? has 3 features"):
        small().fit(diabetes, X_val=diabetes[:, :3])


def test_likelihood_goes_by_type_never_by_values():
    zeros_and_ones = np.random.default_rng(0).integers(0, 2, (20, 4))
    assert isinstance(small(max_iter=2).fit(zeros_and_ones * 1.0).likelihood_, Gaussian)
    assert isinstance(small(max_iter=2).fit(zeros_and_ones == 1).likelihood_, Bernoulli)


# -- what a review found -------------------------------------------------------------------------


def test_repeated_rows_are_much_data():
    rng = np.random.default_rng(0)
    centres = rng.random((3, 8)).round() * 0.8 + 0.1
    table = (rng.random((4000, 8)) < centres[rng.integers(3, size=4000)]).astype(float)
    X, X_test = table[:3000], table[3000:]
    p = X.mean(axis=0)
    independent = np.mean(np.sum(np.log(np.where(X_test == 1, p, 1 - p)), axis=1))
    vae = VAETransformer(2, likelihood="bernoulli", random_state=0).fit(X)  # at most 256 distinct rows
    assert vae.score(X_test) > independent + 0.5


@pytest.mark.parametrize("sizes", [(200, 400, 100), (400, 100, 1, 300)])
def test_partial_fit_with_chunks_of_any_size(sizes):
    rng = np.random.default_rng(0)
    vae = small()
    for size in sizes:
        vae.partial_fit(rng.normal(size=(size, 4)))
    assert vae.n_iter_ == len(sizes)
    assert np.isfinite(vae.transform(rng.normal(size=(5, 4)))).all()


def test_ordinary_image_decoders_work():
    def encoder(i, o):
        return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, o))

    def decoder(i, o):
        return nn.Sequential(
            nn.Linear(i, 12),
            nn.BatchNorm1d(12),
            nn.Unflatten(1, (3, 2, 2)),
            nn.ConvTranspose2d(3, 1, 3),
            nn.Flatten(),
        )

    X = np.random.default_rng(0).normal(size=(60, 16))
    vae = VAETransformer(2, encoder=encoder, decoder=decoder, max_iter=3, random_state=0).fit(X)
    assert np.isfinite(vae.score(X))
    assert vae.inverse_transform(vae.transform(X)).shape == X.shape
    np.testing.assert_array_equal(vae.transform(X[:5]), vae.transform(X[:5]))


def test_early_stopping_takes_numpy_booleans():
    X = np.random.default_rng(0).normal(size=(60, 3))
    assert "validation_loss" in small(early_stopping=np.True_).fit(X).history_


def test_latents_as_a_list_after_a_pandas_fit():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=list("abc"))
    vae = small().fit(frame)
    Z = vae.transform(frame)
    pd.testing.assert_frame_equal(vae.inverse_transform(Z.tolist()), vae.inverse_transform(Z))
    labelled = pd.DataFrame(Z, index=np.arange(30) * 2)
    assert (vae.inverse_transform(labelled).index == labelled.index).all()


def test_columns_of_several_levels_come_back():
    columns = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=columns)
    assert small().fit(frame).sample(2).columns.equals(columns)


def wide(n_hidden):
    """Return a builder that looks like all others that this returns."""
    return lambda i, o: nn.Sequential(nn.Linear(i, n_hidden), nn.SiLU(), nn.Linear(n_hidden, o))


class Wide:
    """The same as an object."""

    def __init__(self, n_hidden):
        self.build = wide(n_hidden)

    def __call__(self, in_features, out_features):
        return self.build(in_features, out_features)


@pytest.mark.parametrize("make", [wide, Wide])
def test_a_fit_that_goes_on_cannot_change_a_builder(diabetes, make):
    builder = make(8)
    vae = small(encoder=builder, warm_start=True, max_iter=2).fit(diabetes)
    vae.set_params(max_iter=4).fit(diabetes)
    for other in (make(64), make(8)):
        vae.set_params(encoder=other)
        for again in (vae.set_params(max_iter=6).fit, vae.partial_fit):
            with pytest.raises(ValueError, match=r"Got encoder=.* was built with"):
                again(diabetes)
    assert vae.set_params(encoder=builder).fit(diabetes).n_iter_ == 6


class Few(VAETransformer):
    """A subclass that has parameters of its own only."""

    def __init__(self, extra=1):
        super().__init__(2, max_iter=2, hidden_layer_sizes=(8,), random_state=0)
        self.extra = extra


def test_a_subclass_need_not_take_all_parameters(diabetes):
    vae = Few().fit(diabetes)
    assert vae.sample(3).shape == (3, 10)
    assert VAEImputer(Few(2)).fit(diabetes).estimator_.extra == 2
    expected = VAETransformer(2, max_iter=2, hidden_layer_sizes=(8,), random_state=0).fit(diabetes)
    np.testing.assert_array_equal(vae.transform(diabetes), expected.transform(diabetes))


def test_a_warm_start_without_epochs_left_says_so(diabetes):
    vae = small(warm_start=True, max_iter=3)
    for _ in range(5):
        vae.partial_fit(diabetes)
    before = vae.transform(diabetes)
    with pytest.warns(ConvergenceWarning, match="max_iter=3 after 5 epochs and passes"):
        vae.fit(diabetes)
    np.testing.assert_array_equal(vae.transform(diabetes), before)


@pytest.mark.parametrize("far", [1e140, 1e200, -np.finfo(float).max])
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", "heterogeneous"])
def test_values_beyond_all_bounds_leave_no_hole_and_are_told(diabetes, far, likelihood):
    vae = small(likelihood=likelihood).fit(diabetes)
    rows = diabetes[:3].copy()
    rows[0, 0], rows[:, 1] = far, np.nan
    for filled in (
        vae.impute(rows),
        vae.impute(rows, draw=True, random_state=0),
        vae.sample_conditional(rows),
    ):
        assert np.isfinite(filled).all()
        assert filled[0, 0] == far
    cells = vae.score_cells(rows)
    assert np.isfinite(cells).all()
    if likelihood != "student_t":
        assert cells[0].argmin() == 0
        assert cells[0, 0] < 1e10 * cells[0, 2]


@pytest.mark.parametrize(
    "change",
    [{"likelihood": "student_t"}, {"prior": "normal"}, {"hidden_layer_sizes": (9,)}, {"n_components": 1}],
)
def test_a_warm_start_cannot_change_the_model(change):
    X = np.random.default_rng(0).normal(size=(30, 3))
    vae = small(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=f"{next(iter(change))}=.* was built with .* warm_start=False"):
        vae.set_params(**change).fit(X)


@pytest.mark.parametrize(
    "setting", [lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("meta")]
)
@pytest.mark.parametrize("kind", ["float64", "float32", "table"])
def test_what_is_set_outside_changes_nothing(setting, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    X[rng.random(X.shape) < 0.1] = np.nan
    X = pd.DataFrame(X, columns=[*"abcd"]).assign(e=[*"xyz"] * 100) if kind == "table" else X.astype(kind)

    def everything():
        vae = small(2, max_iter=2).fit(X)
        yield from (vae.transform(X), vae.score_cells(X, 10), vae.sample(5, random_state=0))
        yield from (vae.impute(X, n_draws=10), vae.sample_conditional(X[:3], random_state=0))
        yield from (vae.inverse_transform(np.zeros((2, 2))), vae.partial_fit(X).score(X[:9]))

    wanted = [*everything()]
    with setting():
        got = [*everything()]
    for a, b in zip(got, wanted, strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(np.atleast_2d(a)), pd.DataFrame(np.atleast_2d(b)), rtol=0)


def test_more_columns_than_rows_are_not_learned_by_heart():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 300))
    X, others = (rng.normal(size=(n, 3)) @ plane + 0.3 * rng.normal(size=(n, 300)) for n in (100, 300))
    score = VAETransformer(random_state=0).fit(X).score(others)
    assert score > -120  # FactorAnalysis(3) has -87; by the weight decay that suits 16 columns it was -196


@pytest.mark.parametrize("missing", [False, True])
def test_imputed_rows_are_no_view_of_those_given(missing):
    X = np.random.default_rng(0).normal(size=(40, 3))
    vae = small(1, max_iter=1).fit(X)
    X[1, 1] = np.nan if missing else 0.0
    assert not np.shares_memory(vae.impute(X), X)


def test_a_fit_without_an_epoch_leaves_constant_columns():
    X = np.random.default_rng(0).normal(size=(40, 3))
    X[:, 1] = 7.0
    vae = small(1, max_iter=3, warm_start=True).fit(X)
    for _ in range(2):
        assert (vae.sample(5)[:, 1] == 7).all()
        vae.fit(X)
    assert vae.n_iter_ == 3
    assert not (vae.set_params(max_iter=4).fit(X).sample(5)[:, 1] == 7).any()


def test_the_mean_of_huge_scores_is_finite():
    vae = small(1, max_iter=1).fit(np.random.default_rng(0).normal(size=(40, 6)))
    far = np.full((20, 6), 1e200)
    assert np.isfinite(vae.score_samples(far)).all()
    for weight in (None, np.arange(20)):
        assert -np.inf < vae.score(far, sample_weight=weight) < -1e299


@pytest.mark.parametrize("passing", [False, True])
def test_a_fit_that_goes_on_computes_where_and_how_it_is_told(passing, diabetes):
    def go_on(vae):
        return vae.partial_fit(diabetes) if passing else vae.set_params(warm_start=True).fit(diabetes)

    vae = go_on(small(max_iter=3, precision="float32"))
    same = go_on(clone(vae)).set_params(max_iter=6)
    vae.set_params(precision="float64", device="cpu:0", max_iter=6)
    assert go_on(vae).device_ == torch.device("cpu:0")
    assert not np.array_equal(vae.score_samples(diabetes), go_on(same).score_samples(diabetes))
    assert vae.score(diabetes) == pytest.approx(same.score(diabetes), abs=0.2)


def test_a_warm_start_goes_on_when_max_iter_rises():
    X = np.random.default_rng(0).normal(size=(300, 3))
    vae = small(warm_start=True, max_iter=3).fit(X)
    before = vae.score(X)
    assert vae.fit(X).n_iter_ == 3
    vae.set_params(max_iter=40).fit(X)
    assert vae.n_iter_ == len(vae.history_["loss"]) == 40
    assert vae.score(X) > before


def test_values_too_large_to_square_are_named():
    X = np.random.default_rng(0).normal(size=(30, 3))
    X[:, 1] *= 1e200
    with pytest.raises(ValueError, match=r"too large to square in columns \[1\]"):
        small().fit(X)


def test_validation_rows_are_named_in_errors():
    X = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="In X_val, y_val: X has 2 features"):
        small().fit(X, X_val=X[:, :2])


def test_validation_rows_of_probability_zero_are_told():
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    vae = small(likelihood="categorical", early_stopping=True, kl_warmup=0.0)
    with pytest.raises(ValueError, match="Validation rows have probability 0"):
        vae.fit(X, X_val=[[2.0, 1.0]])


def test_no_gradient_stays_behind():
    X = np.random.default_rng(0).normal(size=(30, 3))
    assert all(p.grad is None for p in small().fit(X).module_.parameters())


def test_overlapping_fits_leave_the_thread_count():
    X = np.random.default_rng(0).normal(size=(300, 3))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda seed: small(random_state=seed).fit(X).transform(X), range(9)))
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


# -- diagnostics -------------------------------------------------------------------------------


def test_components_in_use(diabetes):
    vae = small(3, max_iter=100).fit(diabetes)
    spread = vae.transform(diabetes).var(0)
    assert vae.n_active_components_ == (spread > 0.01).sum() > 0


def test_haste_is_told(diabetes):
    vae = VAETransformer(4, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter=10 is few for these rows"):
        vae.set_params(max_iter=10).fit(diabetes)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", ["auto", 400, 3])  # three epochs tell nothing
def test_no_haste_is_told_without_need(diabetes, max_iter):
    vae = VAETransformer(4, random_state=0, max_iter=max_iter).fit(diabetes)
    vae.partial_fit(diabetes)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_no_haste_is_told_of_a_fit_that_stopped_or_goes_on(diabetes):
    VAETransformer(4, random_state=0, max_iter=10, early_stopping=True, n_iter_no_change=1, tol=1e9).fit(
        diabetes
    )
    vae = VAETransformer(4, random_state=0, max_iter=3, warm_start=True).fit(diabetes)
    vae.set_params(max_iter=13).fit(diabetes)


@pytest.mark.filterwarnings("ignore:The loss was still falling")
def test_collapse_is_told_where_columns_depend(diabetes):
    with pytest.warns(ConvergenceWarning, match="beta=1000.0 is far too high"):
        vae = small(3, beta=1000.0, kl_warmup=0.0, max_iter=100).fit(diabetes)
    assert vae.n_active_components_ == 0
    noise = np.random.default_rng(0).normal(size=(200, 4))
    assert small(2, beta=1000.0, kl_warmup=0.0, max_iter=100).fit(noise).n_active_components_ == 0


# -- tables --------------------------------------------------------------------------------------


def test_tables_keep_an_index_of_any_labels():
    """Rows go by place: labels that are not 0, 1, 2 ... once left nothing but holes."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=60), "level": rng.choice(["a", "b"], 60)})
    vae = small(2, max_iter=2).fit(table)
    rows = table.set_axis([f"row {i}" for i in range(60)])[10:13].assign(level=[None, "a", None])
    drawn = vae.sample_conditional(rows, 2, random_state=0)
    assert drawn.index.tolist() == ["row 10", "row 10", "row 11", "row 11", "row 12", "row 12"]
    np.testing.assert_array_equal(drawn["x"], np.repeat(rows["x"], 2))
    assert (drawn["level"][2:4] == "a").all()
    assert not drawn.isna().to_numpy().any()
    Z = pd.DataFrame(vae.transform(table), index=table.index + 100)
    assert not vae.inverse_transform(Z).isna().to_numpy().any()
    assert vae.inverse_transform(Z).index.equals(Z.index)


# -- holes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_rows_and_columns_may_come_in_any_memory_layout(likelihood):
    X = np.random.default_rng(0).poisson(3.0, (40, 4)).astype(float)
    packed = np.zeros((40, 4), [("value", float), ("flag", np.int8)])["value"]
    packed[:] = X
    layouts = [X, X[::-1].copy()[::-1], X[:, ::-1].copy()[:, ::-1], np.asfortranarray(X), packed]
    fits = [VAETransformer(2, likelihood=likelihood, max_iter=5, random_state=0).fit(A) for A in layouts]
    for vae, A in zip(fits, layouts, strict=True):
        for method in ("transform", "score_samples"):
            np.testing.assert_allclose(getattr(vae, method)(A), getattr(fits[0], method)(X), rtol=1e-7)
        np.testing.assert_allclose(
            vae.inverse_transform(vae.transform(A)[::-1])[::-1],
            fits[0].inverse_transform(fits[0].transform(X)),
            rtol=1e-7,
        )
    np.testing.assert_array_equal(packed, X)


def test_the_encoder_sees_holes_where_training_rows_have_some():
    X = np.random.default_rng(0).normal(size=(60, 4))
    vae = VAETransformer(2, max_iter=20, random_state=0)
    assert vae.fit(X).module_.likelihood.in_features == 4
    average = np.where(np.arange(4) == 1, X.mean(0), X)
    hole = np.where(np.arange(4) == 1, np.nan, X)
    np.testing.assert_allclose(vae.transform(hole), vae.transform(average), rtol=1e-9)
    X[:20, 1] = np.nan
    assert vae.fit(X).module_.likelihood.in_features == 8
    average[:, 1] = np.nanmean(X[:, 1])
    assert abs(vae.transform(hole) - vae.transform(average)).max() > 0.01


def test_convolutions_see_holes_as_one_more_image():
    X = np.random.default_rng(0).normal(size=(30, 16))
    X[::3, 5] = np.nan
    conv = Conv((1, 4, 4), (2,), ())
    vae = VAETransformer(2, encoder=conv, decoder=conv, max_iter=3, random_state=0).fit(X)
    assert vae.transform(X).shape == (30, 2)


# -- rows so far off that squares overflow -------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
@pytest.mark.parametrize(
    ("dtype", "far"), [("float32", [1e10, 1e20, 3e38]), ("float64", [1e20, 1e100, 1e140])]
)
def test_rows_far_off(likelihood, dtype, far):
    X = np.random.default_rng(0).normal(size=(200, 3)).astype(dtype)
    vae = VAETransformer(2, likelihood=likelihood, max_iter=3, random_state=0).fit(X)
    rows = np.repeat(X[:1], len(far), axis=0)
    rows[:, 0] = far
    scores, cells = vae.score_samples(rows), vae.score_cells(rows)
    assert scores.dtype == dtype
    assert np.isfinite(scores).all()
    assert np.isfinite(cells).all()
    assert (scores < vae.score_samples(X).min()).all()
    if likelihood == "gaussian":
        assert (np.diff(scores) <= 0).all()
        assert scores[1] < scores[0]
    held = scores > (-1e37 if dtype == "float32" else -np.inf)
    np.testing.assert_allclose(cells[held].sum(1), scores[held], rtol=1e-3)
    rows[:, 1] = np.nan
    assert np.isfinite(vae.impute(rows)).all()
    assert np.isfinite(vae.impute(rows, draw=True, random_state=0)).all()
    assert np.isfinite(vae.sample_conditional({0: far[1]}, 2, random_state=0)).all()


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_large_counts_in_single_precision(likelihood):
    X = np.random.default_rng(0).poisson([1e5, 1e6, 3.0], size=(200, 3)).astype(float)
    vae = VAETransformer(2, likelihood=likelihood, max_iter=5, random_state=0).fit(X)
    scores = vae.score_samples(X.astype(np.float32))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, vae.score_samples(X), rtol=1e-6)


@pytest.mark.parametrize("layer", [nn.Hardtanh(-0.5, 0.5, inplace=True), nn.Dropout(0.5, inplace=True)])
def test_networks_that_write_into_their_input_are_refused(diabetes, layer):
    def build(first):
        return lambda n_in, n_out: nn.Sequential(
            first, nn.Linear(n_in, 8), nn.ReLU(True), nn.Linear(8, n_out)
        )

    state = torch.random.get_rng_state()
    for name in ("encoder", "decoder"):
        with pytest.raises(ValueError, match=f"The {name} changes its input in place"):
            small(**{name: build(layer)}).fit(diabetes)
    assert torch.equal(torch.random.get_rng_state(), state)
    small(encoder=build(nn.Identity()), max_iter=2).fit(diabetes)


def test_a_fit_with_dropout_lets_others_fit_between_epochs(diabetes):
    class Fit:
        max_propagation_depth = None

        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch":
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(small(max_iter=1).fit, diabetes).result(timeout=60)

    def network(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 8), nn.Dropout(0.2), nn.Linear(8, n_out))

    alone = small(encoder=network, max_iter=3).fit(diabetes)
    if not hasattr(alone, "set_callbacks"):
        return  # before scikit-learn 1.9 nothing runs between epochs
    beside = small(encoder=network, max_iter=3).set_callbacks(Fit()).fit(diabetes)
    np.testing.assert_array_equal(alone.transform(diabetes), beside.transform(diabetes))


def test_a_prior_without_tensors(diabetes):
    class Plain(PriorModel):
        def log_prob(self, z, y=None):
            return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

        def sample(self, n_samples, generator, y=None):
            return torch.randn((n_samples, 2), generator=generator)

        def kl_from(self, posterior, y=None):
            return None

    class Spec(Prior):
        name = "plain"

        def build(self, latent_dim, encode=None, rows=None):
            return Plain()

    for objective in ("elbo", "mmd"):
        vae = small(2, prior=Spec(), objective=objective, max_iter=2).fit(diabetes.astype(np.float64))
        assert np.isfinite(vae.sample(3)).all()
        assert np.isfinite(vae.score(diabetes))


def test_an_estimator_is_fitted_once_it_is_trained(diabetes):
    vae = small(max_iter=2)
    vae.fit(diabetes)
    assert vae.__sklearn_is_fitted__()
    del vae._order
    with pytest.raises(NotFittedError):
        vae.transform(diabetes)


@pytest.mark.parametrize("n_draws", [4, 100])
def test_scores_are_lower_bounds_on_average(n_draws):
    rng = np.random.default_rng(0)
    z = rng.normal(size=200)
    rows = np.c_[z, np.sin(2 * z), z**2] + 0.2 * rng.normal(size=(200, 3))
    vae = VAETransformer(1, prior="normal", max_iter=150, random_state=0).fit(rows)
    module, x = vae.module_.double(), vae.module_.likelihood.standardize(torch.tensor(rows[:40]))
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        log_px = module.likelihood.row_log_prob(x, module.decoder(grid)[:, None].expand(-1, 40, -1))
        truth = torch.logsumexp(log_px + module.prior.log_prob(grid)[:, None], 0) + math.log(16 / 4000)
        generator = torch.Generator().manual_seed(0)
        n_there = n_draws // 4
        error = []
        for _ in range(200):
            shape = (n_draws - n_there, 40, 1)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            there = module.prior.sample(40 * n_there, generator).view(n_there, 40, 1)
            error.append(module.log_marginal(x, noise, there) - truth)
    error = torch.stack(error)
    assert error.mean() < 0.002
    assert abs(error.exp().mean() - 1) < 0.01


def test_warnings_point_at_the_line_of_the_user(diabetes):
    with pytest.warns(ConvergenceWarning, match="still falling") as caught:
        make_pipeline(VAETransformer(2, max_iter=4, random_state=0)).fit_transform(diabetes)
    assert caught[0].filename == __file__
