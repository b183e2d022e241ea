"""Moments, distinct rows, chunks and containers."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skvae._arrays import (
    Container,
    apply_to_rows,
    are_dependent,
    choose_rows,
    distinct_rows,
    location_and_scale,
    moments,
    row_chunks,
    torch_dtype,
)

NAN = float("nan")
quick = settings(max_examples=40, deadline=None)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 4))
few_values = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0, NAN])


@quick
@given(n_rows=st.integers(0, 50), n_values=st.integers(0, 20), limit=st.integers(1, 60))
def test_row_chunks_cover_every_row_once(n_rows, n_values, limit):
    chunks = list(row_chunks(n_rows, n_values, limit))
    covered = [i for chunk in chunks for i in range(n_rows)[chunk]]
    assert covered == list(range(n_rows))
    assert all(1 <= c.stop - c.start <= max(1, limit // max(n_values, 1)) for c in chunks)


# -- moments ---------------------------------------------------------------------------------------


@quick
@given(
    X=arrays(float, shapes, elements=st.floats(-1e3, 1e3) | st.just(NAN)),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_moments_against_numpy(X, seed, offset):
    X = X + offset
    weight = np.random.RandomState(seed).randint(0, 4, len(X)).astype(float)
    mean, std = moments(X, weight)
    for j, column in enumerate(X.T):
        cells = np.repeat(column, weight.astype(int))
        cells = cells[~np.isnan(cells)]
        if not len(cells):
            assert np.isnan(mean[j])
            assert std[j] == 0
            continue
        np.testing.assert_allclose(mean[j], cells.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(std[j], cells.std(), rtol=1e-6, atol=1e-8 + 1e-13 * abs(offset))


def pixels(n_rows, seed=0):
    """Return columns of zeros and ones, of which ever fewer are ones, beside a normal column."""
    random = np.random.RandomState(seed)
    return np.column_stack((random.randn(n_rows), random.rand(n_rows, 3) < (0.5, 0.1, 0.002))).astype(float)


def test_scales_follow_the_eighth_moment():
    X = pixels(200_000)
    mean, scale = location_and_scale(X)
    np.testing.assert_allclose(mean, X.mean(axis=0))
    p = X.mean(axis=0)[1:]
    eighth = p * (1 - p) * ((1 - p) ** 7 + p**7)  # of a Bernoulli variable, about its mean
    tails = np.r_[1.0, np.maximum(1.0, (eighth / 105) ** 0.125 / np.sqrt(p * (1 - p)))]
    expected = X.std(axis=0) * tails
    np.testing.assert_allclose(scale / scale[0], expected / expected[0], rtol=1e-2)
    assert scale[3] / X[:, 3].std() > 3 * scale[0] / X[:, 0].std()
    np.testing.assert_allclose(np.mean(((X - mean) / scale).var(axis=0)), 1.0)


def test_few_rows_are_scaled_by_standard_deviations():
    X = pixels(999)
    np.testing.assert_array_equal(location_and_scale(X), moments(X))
    assert (location_and_scale(X, np.full(999, 1.01))[1] != moments(X)[1]).any()


def test_scales_leave_out_holes_and_constant_columns():
    X = np.column_stack((pixels(2000), np.ones(2000), np.full(2000, NAN)))
    X[::3, 1] = NAN
    mean, scale = location_and_scale(X)
    assert (scale[4:] == 0).all()
    assert np.isnan(mean[5])
    full = np.column_stack((X[:, 0], X[:, 2:4]))  # as if the holed column were not there
    of_full = location_and_scale(full)[1]
    np.testing.assert_allclose(scale[[0, 2, 3]] / scale[0], of_full / of_full[0])


def test_scales_know_weights_and_no_units():
    X, weight = pixels(700), np.random.RandomState(1).randint(0, 5, 700)
    mean, scale = location_and_scale(X, weight.astype(float))
    again = location_and_scale(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose((mean, scale), again, rtol=1e-12, atol=1e-15)
    shift, unit = np.arange(4) * 10.0, 2.0 ** np.arange(4)
    moved = location_and_scale(X * unit + shift, weight.astype(float))
    np.testing.assert_allclose(moved, (mean * unit + shift, scale * unit), rtol=1e-9)
    np.testing.assert_array_equal(
        location_and_scale(1024 * X, weight.astype(float)), (1024 * mean, 1024 * scale)
    )


def test_one_huge_cell_does_not_overflow():
    X = pixels(1500)
    X[7, 2] = 1e140
    assert np.isfinite(location_and_scale(X)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("offset", [0, 2**20])
def test_moments_are_computed_in_float64(dtype, offset):
    X = (np.random.RandomState(0).randint(0, 100, (5000, 3)) + offset).astype(dtype)
    mean, std = moments(X)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, np.mean(X.astype(np.longdouble), axis=0).astype(float), rtol=1e-14)
    np.testing.assert_allclose(std, np.std(X.astype(np.longdouble), axis=0).astype(float), rtol=1e-9)


def test_moments_keep_a_small_spread_on_a_large_offset():
    noise = np.random.RandomState(0).randn(4000, 1)
    mean, std = moments(1e9 + noise)
    np.testing.assert_allclose([mean[0] - 1e9, std[0]], [noise.mean(), noise.std()], rtol=1e-5)


def test_moments_of_a_column_that_starts_after_the_first_chunk():
    X = np.full((1 << 20, 2), NAN)  # two chunks
    X[-1000:, 0] = 1e9 + np.random.RandomState(0).randn(1000)
    X[:, 1] = 1.0
    mean, std = moments(X)
    np.testing.assert_allclose(mean[0], X[-1000:, 0].mean(), rtol=1e-12)
    np.testing.assert_allclose(std[0], X[-1000:, 0].std(), rtol=1e-6)
    assert (mean[1], std[1]) == (1.0, 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-5, 1e8 / 3])
def test_a_column_without_spread_has_none(dtype, value):
    X = np.full((1000, 1), value, dtype)
    assert moments(X)[1] == 0
    assert moments(X, np.linspace(0.1, 7, 1000))[1] == 0


def test_moments_leave_their_arguments_alone():
    X, weight = np.array([[1.0, NAN], [2.0, 3.0]]), np.array([1.0, 2.0])
    copies = X.copy(), weight.copy()
    moments(X, weight)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(weight, copies[1])


# -- distinct rows ---------------------------------------------------------------------------------


def count_rows(X, weight):
    total = {}
    for row, w in zip(X.tolist(), weight.tolist(), strict=True):
        key = tuple("missing" if v != v else v + 0.0 for v in row)
        total[key] = total.get(key, 0) + w
    return total


@quick
@given(X=arrays(float, shapes, elements=few_values), seed=st.integers(0, 99))
def test_distinct_rows_against_a_dictionary(X, seed):
    rng = np.random.RandomState(seed)
    weight = rng.randint(1, 5, len(X)).astype(float)
    rows, total = distinct_rows(X, weight)
    assert count_rows(rows, total) == count_rows(X, weight)
    assert len(rows) == len(count_rows(X, weight))
    order = rng.permutation(len(X))
    again, total_again = distinct_rows(X[order], weight[order])
    np.testing.assert_array_equal(again, rows)
    np.testing.assert_array_equal(total_again, total)
    repeated, total_repeated = distinct_rows(
        np.repeat(X, weight.astype(int), axis=0), np.ones(int(weight.sum()))
    )
    np.testing.assert_array_equal(repeated, rows)
    np.testing.assert_array_equal(total_repeated, total)


@quick
@given(
    X=arrays(float, shapes, elements=few_values), factor=st.sampled_from([0.5, 4.0]), shift=st.integers(-5, 5)
)
def test_a_change_of_units_keeps_the_order_of_rows(X, factor, shift):
    rows, _ = distinct_rows(X, np.ones(len(X)))
    moved, _ = distinct_rows(X * factor + shift, np.ones(len(X)))
    np.testing.assert_array_equal(moved, rows * factor + shift)


def test_distinct_rows_are_sorted_column_by_column():
    X = np.array([[1.0, 2.0], [NAN, 0.0], [1.0, -2.0], [-1.0, NAN], [-1.0, 5.0]])
    rows, _ = distinct_rows(X, np.ones(5))
    np.testing.assert_array_equal(rows, [[-1, 5], [-1, NAN], [1, -2], [1, 2], [NAN, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distinct_rows_keep_the_type(dtype):
    assert distinct_rows(np.array([[0.1], [NAN]], dtype), np.ones(2))[0].dtype == dtype


# -- containers ------------------------------------------------------------------------------------


def test_arrays_stay_arrays():
    values = np.ones((2, 2))
    assert Container([[1, 2]]).wrap(values) is values
    assert Container(values).kind is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (3, 3), (2, 3), (4, 3)])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_come_back_as_frames(library, shape, order):
    values = np.asarray(np.arange(shape[0] * shape[1], dtype=float).reshape(shape), order=order)
    columns = ["b", "a", "c"][: shape[1]]
    first = {column: [0.0] for column in columns}
    frame = pd.DataFrame(first) if library == "pandas" else pl.DataFrame(first)
    wrapped = Container(frame).wrap(values)
    assert type(wrapped) is type(frame)
    assert list(wrapped.columns) == columns
    np.testing.assert_array_equal(wrapped.to_numpy(), values)


def test_pandas_columns_need_not_be_strings():
    frame = pd.DataFrame([[1.0, 2.0]], columns=[0, ("a", 1)])
    assert list(Container(frame).wrap(np.ones((1, 2))).columns) == [0, ("a", 1)]


# -- rows through a module -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_apply_to_rows_in_bounded_batches(dtype):
    X = np.random.RandomState(0).randn(5000, 3).astype(dtype)
    X.setflags(write=False)
    module = torch.nn.Linear(3, 1000).to(torch_dtype(dtype))
    sizes = []

    def function(x):
        assert not torch.is_grad_enabled()
        sizes.append(len(x))
        return module(x)[:, :2].reshape(-1, 2, 1)

    out = apply_to_rows(function, X, module, copies=2)
    want = X @ module.weight.detach().numpy()[:2].T + module.bias.detach().numpy()[:2]
    assert out.dtype == dtype
    np.testing.assert_allclose(out, want[:, :, None], rtol=1e-4, atol=1e-5)
    assert sum(sizes) == 5000
    assert max(sizes) * 2 * 1000 <= 1 << 20
    assert len(sizes) > 1


@pytest.mark.parametrize(("n_hidden", "n_values"), [(100, 1 << 20), (1_300, 2_000_000), (10_000, 1 << 22)])
def test_apply_to_rows_takes_as_many_values_as_there_are_weights(n_hidden, n_values):
    module = torch.nn.Linear(1_500, n_hidden)
    sizes = []

    def function(x):
        sizes.append(len(x))
        return x[:, :1]

    apply_to_rows(function, np.zeros((5_000, 1)), module, copies=3)
    n_weights, width = 1_501 * n_hidden, max(1_500, n_hidden)
    limit = min(max(1 << 20, n_weights), 1 << 22)
    assert abs(limit - n_values) < 0.05 * n_values
    assert set(sizes[:-1]) == {limit // (3 * width)}


@pytest.mark.parametrize("writeable", [True, False])
def test_apply_to_rows_gives_a_view_on_request(writeable):
    X = np.random.RandomState(0).randn(50, 3)
    X.setflags(write=writeable)
    places = []

    def function(x):
        places.append(x.data_ptr())
        return x * 2

    module = torch.nn.Linear(3, 3)
    np.testing.assert_array_equal(apply_to_rows(function, X, module, view=True), 2 * X)
    assert (places == [X.ctypes.data]) == writeable


def test_apply_to_rows_gives_a_copy():
    X = np.ones((4, 1))
    out = apply_to_rows(lambda x: x.mul_(2), X, torch.nn.Linear(1, 1))
    np.testing.assert_array_equal(out, 2 * np.ones((4, 1)))
    np.testing.assert_array_equal(X, np.ones((4, 1)))


@quick
@given(n_rows=st.integers(2, 40), n=st.integers(1, 50), seed=st.integers(0, 9))
def test_chosen_rows_are_distinct_and_not_the_ones_set_aside(n_rows, n, seed):
    chosen = choose_rows(n_rows, n, seed)
    assert len(set(chosen)) == len(chosen) == min(n, n_rows)
    assert set(chosen) <= set(range(n_rows))
    assert np.array_equal(choose_rows(n_rows, n, seed), chosen)


def test_dependence_beyond_doubt():
    X = np.random.default_rng(0).normal(size=(500, 5))
    assert not are_dependent(X)
    X[:, 4] += X[:, 0]
    assert are_dependent(X)
    X[::2, 1] = np.nan
    X[:, 2] = 7.0
    assert are_dependent(X)
    assert not are_dependent(X[:, :3])
