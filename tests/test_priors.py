"""The contract of every prior: densities against scipy, draws against densities."""

import inspect

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from scipy.special import logsumexp
from sklearn.base import clone
from torch.distributions import Independent, Normal, kl_divergence

from skvae import priors
from skvae._random import global_seed
from skvae.model import Posterior
from skvae.priors import Mixture, Prior, StandardNormal

SPECIFICATIONS = [
    cls
    for cls in (getattr(priors, name) for name in priors.__all__)
    if issubclass(cls, Prior) and not inspect.isabstract(cls)
]
contract = pytest.mark.parametrize(
    "spec", [*(cls() for cls in SPECIFICATIONS), Mixture(1), Mixture(3)], ids=repr
)


def make(spec, latent_dim=2, seed=0):
    """A prior whose parameters are not at their start."""
    with global_seed(seed):
        model = spec.build(latent_dim)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.4 * torch.randn(parameter.shape)
    return model.double()


def points(latent_dim=2, n=30):
    return torch.tensor(np.random.RandomState(0).randn(4, n, latent_dim) * 2)


def standard_normal(model, z):
    return scipy.stats.multivariate_normal.logpdf(z, np.zeros(z.shape[-1]), np.eye(z.shape[-1]))


def mixture(model, z):
    logits = model.logits.detach().numpy()
    parts = [
        scipy.stats.multivariate_normal.logpdf(z, mean, np.diag(np.exp(log_std) ** 2))
        for mean, log_std in zip(model.means.detach().numpy(), model.log_stds.detach().numpy(), strict=True)
    ]
    return logsumexp(np.stack(parts, -1) + logits - logsumexp(logits), axis=-1)


REFERENCES = {StandardNormal: standard_normal, Mixture: mixture}


def test_every_prior_has_a_reference():
    assert set(REFERENCES) == set(SPECIFICATIONS)


@contract
def test_log_prob_against_scipy(spec):
    model, z = make(spec, 3), points(3)
    got = model.log_prob(z)
    assert got.shape == z.shape[:-1]
    np.testing.assert_allclose(got.detach(), REFERENCES[type(spec)](model, z.numpy()), rtol=1e-9)
    torch.testing.assert_close(model.log_prob(z[0, 0]), got[0, 0])


@contract
def test_density_integrates_to_one(spec):
    model = make(spec, 1)

    def density(z):
        return model.log_prob(torch.tensor([z], dtype=torch.float64)).exp().item()

    total = scipy.integrate.quad(density, -30, 30, points=np.linspace(-5, 5, 21), limit=200)[0]
    np.testing.assert_allclose(total, 1.0, rtol=1e-7)


@contract
def test_samples_follow_the_density(spec):
    n = 20_000
    model = make(spec, 1)
    z = model.sample(n, torch.Generator().manual_seed(0)).detach()
    assert z.shape == (n, 1)
    grid = np.linspace(-20, 20, 8001)
    density = np.exp(REFERENCES[type(spec)](model, grid[:, None]))
    cdf = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
    assert scipy.stats.kstest(z[:, 0].numpy(), lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3


@contract
def test_components_of_samples_hang_together(spec):
    """The mean log-density of draws is minus the entropy, which a grid knows."""
    model = make(spec, 2)
    grid = np.linspace(-12, 12, 401)
    log_density = REFERENCES[type(spec)](model, np.stack(np.meshgrid(grid, grid), -1))
    want = (np.exp(log_density) * log_density).sum() * (grid[1] - grid[0]) ** 2
    z = model.sample(20_000, torch.Generator().manual_seed(1))
    got = model.log_prob(z).detach()
    assert abs(got.mean() - want) < 4.5 * got.std() / len(got) ** 0.5


@contract
def test_kl_against_monte_carlo(spec):
    model = make(spec, 3)
    mean, log_std = points(3, 5)[0], 0.3 * points(3, 5)[1]
    q = Independent(Normal(mean, log_std.exp()), 1)
    closed = model.kl_from(Posterior(mean, log_std))
    if closed is None:  # the bound then averages over its draws
        return
    assert closed.shape == (5,)
    with global_seed(0):
        z = q.sample((20_000,))
    ratios = q.log_prob(z) - model.log_prob(z)
    assert ((closed - ratios.mean(0)).abs() < 4.5 * ratios.std(0) / 20_000**0.5).all()


def test_kl_from_the_standard_normal_against_torch():
    mean, log_std = points(3)[0], 0.5 * points(3)[1]
    want = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(make(StandardNormal(), 3).kl_from(Posterior(mean, log_std)), want)
    zero = torch.zeros(1, 3)
    assert make(StandardNormal(), 3).kl_from(Posterior(zero, zero)).item() == 0


@contract
def test_gradients(spec):
    model, z = make(spec), points()[0, :4].requires_grad_()
    assert torch.autograd.gradcheck(model.log_prob, (z,))
    model.log_prob(points().requires_grad_()).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        if parameter.numel() > 1:  # one weight alone is always 1
            assert (parameter.grad != 0).all(), name


@contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_far_points_stay_finite(spec, dtype):
    model = make(spec)
    z = points()
    want = model.log_prob(z)
    model.to(dtype)
    assert model.sample(2, torch.Generator()).dtype == dtype
    assert model.log_prob(z.to(dtype)).dtype == dtype
    torch.testing.assert_close(model.log_prob(z.to(dtype)).double(), want, rtol=1e-4, atol=1e-4)
    far = torch.full((1, 2), 1e4, dtype=dtype, requires_grad=True)
    log_prob = model.log_prob(far)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(far.grad).all()


@contract
def test_equal_seeds_give_equal_samples_and_leave_global_state(spec):
    model = make(spec)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (model.sample(50, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@contract
def test_is_a_specification_without_tensors(spec):
    assert vars(spec) == spec.get_params()
    assert clone(spec).get_params() == spec.get_params()
    assert eval(repr(spec)).get_params() == spec.get_params()
    assert set(spec.get_params()) == set(inspect.signature(type(spec)).parameters)


@contract
def test_everything_learned_lives_in_the_state(spec):
    model, fresh = make(spec, seed=0), make(spec, seed=1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.log_prob(points()), model.log_prob(points()))


def test_names_are_unique():
    names = [cls.name for cls in SPECIFICATIONS]
    assert len(set(names)) == len(names)
