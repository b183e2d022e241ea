"""Densities of single columns: against scipy's, and what is missing, constant, coded or far away."""

import numpy as np
import pytest
import scipy.stats

from skvae._marginals import MOST_POINTS, MOST_ROWS, learn_marginals, log_marginals


def log_p(train, x, n_levels=0):
    """Return log p of the cells of one column."""
    marginals = learn_marginals(np.asarray(train)[:, None], [n_levels])
    return log_marginals(marginals, np.asarray(x)[:, None])[:, 0]


def test_kernels_are_those_of_scipy():
    rng = np.random.default_rng(0)
    train, x = rng.gamma(2.0, size=100), rng.gamma(2.0, size=50)
    width = 1.06 * train.std() * 100**-0.2
    want = scipy.stats.gaussian_kde(train, bw_method=width / train.std(ddof=1)).logpdf(x)
    np.testing.assert_allclose(log_p(train, x), want, rtol=1e-10)


def test_many_rows_are_few_quantiles():
    train = np.random.default_rng(0).normal(size=20_000)
    marginal = learn_marginals(train[:, None], [0])[0]
    assert len(marginal.points) == MOST_POINTS
    x = np.linspace(-2, 2, 9)
    want = scipy.stats.gaussian_kde(train, bw_method=marginal.width / train.std(ddof=1)).logpdf(x)
    np.testing.assert_allclose(marginal.log_prob(x), want, atol=0.02)


@pytest.mark.parametrize("n_rows", [30, 3000])
def test_integral_is_one(n_rows):
    train = np.random.default_rng(0).standard_t(3, size=n_rows).round(1)  # values come often
    x = np.linspace(-100, 100, 200_001)
    assert np.exp(log_p(train, x)).sum() * 0.001 == pytest.approx(1)


def test_units_and_order_of_rows_do_not_matter():
    rng = np.random.default_rng(0)
    train, x = rng.normal(size=300), rng.normal(size=20)
    plain = log_p(train, x)
    np.testing.assert_allclose(log_p(1e6 + 50 * train, 1e6 + 50 * x), plain - np.log(50), rtol=1e-6)
    np.testing.assert_array_equal(log_p(rng.permutation(train), x), plain)
    np.testing.assert_array_equal(log_p(train, x[:7]), plain[:7])


def test_levels_follow_laplaces_rule():
    np.testing.assert_allclose(
        np.exp(log_p([0, 0, 0, 2, np.nan], [0, 1, 2, 7], n_levels=3)), np.array([4, 1, 2, 1]) / 8
    )


@pytest.mark.parametrize("n_levels", [0, 4])
def test_missing_cells_tell_nothing(n_levels):
    train = [0.0, np.nan, 1.0, 3.0, 3.0]
    got = log_p(train, [np.nan, 1.0], n_levels)
    assert got[0] == 0
    assert got[1] == log_p([0.0, 1.0, 3.0, 3.0], [1.0], n_levels)[0]


@pytest.mark.parametrize("value", [0.1, np.nan, 1e9 + 0.1])
def test_constant_columns_tell_nothing(value):
    np.testing.assert_array_equal(log_p(np.full(50, value), [0.1, 5.0, np.nan]), 0)


def test_far_cells_have_a_density():
    got = log_p(np.arange(9.0), [1e3, 1e6, 1e300])
    assert np.isfinite(got).all()
    assert (np.diff(got) < 0).all()


def test_columns_are_apart_and_single_precision_is_close():
    X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 10, 100]
    X[:, 2] = np.arange(60) % 3
    levels = [0, 0, 3]
    got = log_marginals(learn_marginals(X, levels), X)
    for j in range(3):
        np.testing.assert_array_equal(got[:, j], log_p(X[:, j], X[:, j], levels[j]))
    single = X.astype(np.float32)
    np.testing.assert_allclose(log_marginals(learn_marginals(single, levels), single), got, atol=1e-4)


def test_so_many_rows_are_a_sample():
    X = np.arange(MOST_ROWS + 10.0)[:, None]
    marginal = learn_marginals(X, [0])[0]
    x = np.linspace(0.4, 0.6, 5) * len(X)  # beyond the reach of the ends
    np.testing.assert_allclose(marginal.log_prob(x), -np.log(len(X)), atol=0.02)
