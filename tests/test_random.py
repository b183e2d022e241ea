"""No global generator is ever moved."""

import threading

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from skvae._random import draw_seed, global_seed, make_generator, spread, standard_gamma


@pytest.fixture(autouse=True)
def _global_state_stays():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def weights():
    return nn.Linear(4, 3).weight.detach()


def test_seeds_from_every_kind_of_random_state():
    assert draw_seed(3) == draw_seed(3) != draw_seed(4)
    assert draw_seed(np.int64(3)) == draw_seed(3)
    state = np.random.RandomState(3)
    assert [draw_seed(state), draw_seed(state)] == list(np.random.RandomState(3).randint(2**31 - 1, size=2))
    assert draw_seed(None) != draw_seed(None)
    for seed in (draw_seed(0), draw_seed(None)):
        assert type(seed) is int
        assert 0 <= seed < 2**31 - 1


def test_generators_of_one_seed_agree():
    first, second = (torch.rand(5, generator=make_generator(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(5, generator=make_generator(8)))


def test_global_seed_decides_weights():
    with global_seed(1):
        first, second = weights(), weights()
    with global_seed(1):
        assert torch.equal(weights(), first)
    assert not torch.equal(first, second)


def test_global_seed_decides_weights_whatever_the_default_type():
    with global_seed(1):
        first = weights()
    torch.set_default_dtype(torch.float64)
    try:
        with global_seed(1):
            assert torch.equal(weights(), first)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_global_seed_restores_after_an_error():
    with pytest.raises(KeyError), global_seed(1):
        _ = {}[weights()]


def test_global_seed_nests():
    done = []

    def nested():
        with global_seed(1):
            before = weights()
            with global_seed(2):
                inner = weights()
            done.extend([before, inner, weights()])

    thread = threading.Thread(target=nested, daemon=True)
    thread.start()
    thread.join(5)
    assert len(done) == 3, "the inner block waits for the outer one for ever"
    with global_seed(1):
        want = [weights(), weights()]
    assert torch.equal(done[0], want[0])
    assert torch.equal(done[2], want[1])
    with global_seed(2):
        assert torch.equal(done[1], weights())


def test_global_seed_in_threads():
    def build(seed, results):
        for _ in range(20):
            with global_seed(seed):
                results.append(torch.cat([weights(), weights()]))

    results = {seed: [] for seed in range(4)}
    threads = [threading.Thread(target=build, args=item) for item in results.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, got in results.items():
        want = []
        build(seed, want)
        assert len(got) == 20
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("concentration", [0.3, 1.0, 40.0])
def test_standard_gamma_against_scipy(concentration):
    shape = torch.full((20_000,), concentration, dtype=torch.float64)
    draws = standard_gamma(shape, make_generator(0))
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.gamma(concentration).cdf).pvalue > 1e-3
    assert torch.equal(draws, standard_gamma(shape, make_generator(0)))


@given(
    arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([-np.inf, -2.0, 0.0, 0.5, 3.0])),
    st.data(),
)
def test_numbers_of_keys_next_to_each_other_are_spread(keys, data):
    """Of each 16 in order, and of the rest, one is in each part."""
    u = spread(torch.from_numpy(keys), make_generator(data.draw(st.integers(0, 99)))).numpy()
    assert u.shape == keys.shape
    in_order = u[np.argsort(keys, kind="stable")]
    for part in np.split(in_order, range(16, len(u), 16)):
        assert sorted((part * len(part)).astype(int)) == list(range(len(part)))


def test_numbers_of_the_same_keys_are_independent():
    """Or columns that are told alike would depend on each other in all rows of one call."""
    keys, generator = torch.arange(4000), make_generator(0)
    first, second = spread(keys, generator), spread(keys, generator)
    counts = torch.histogramdd(torch.stack((first, second), 1), [8, 8], [0.0, 1.0, 0.0, 1.0]).hist
    assert abs(counts - 4000 / 64).max() < 4.5 * np.sqrt(4000 / 64)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_each_spread_number_alone_is_uniform():
    keys, generator = torch.tensor([[3.0, 1.0], [2.0, 1.0]]), make_generator(0)
    u = torch.stack([spread(keys, generator) for _ in range(2000)]).flatten(1)
    for column in u.T:
        assert scipy.stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
