"""The contract of every prior: densities against scipy, draws against densities."""

import copy
import inspect
import math
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from scipy.special import logsumexp
from sklearn.base import clone
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from skvae import VAETransformer, priors
from skvae._arrays import split_rows
from skvae._flow import BOUND, N_PARAMS, spline
from skvae._mixture import MixtureLogProb
from skvae._posterior import Posterior
from skvae._random import global_seed
from skvae.model import posterior_of
from skvae.priors import (
    MIN_LOG_STD,
    ByClass,
    Flow,
    Mixture,
    Prior,
    PriorModel,
    StandardNormal,
    VampPrior,
    by_class,
)
from skvae.training import Plan, make_optimizer

IN_FEATURES = 5  # what the encoder of a VampPrior sees
SHARES = [0.5, 0.2, 0.3]

SPECIFICATIONS = [
    cls
    for cls in (getattr(priors, name) for name in priors.__all__)
    if isinstance(cls, type) and issubclass(cls, Prior) and not inspect.isabstract(cls)
]


class OneForEachClass:
    """Builds `ByClass` as a specification builds its model."""

    def __init__(self, spec):
        self.spec = spec

    def __repr__(self):
        return f"{self.spec!r} by class"

    def build(self, latent_dim, encode, rows):
        return by_class(self.spec, SHARES, latent_dim, encode, [rows] * len(SHARES))


LEARNED = [Mixture(3), Mixture(3, "full"), VampPrior(4), Flow(2, 8)]
BY_CLASS = [OneForEachClass(spec) for spec in LEARNED]
specifications = pytest.mark.parametrize("spec", [*(cls() for cls in SPECIFICATIONS), *LEARNED], ids=repr)
contract = pytest.mark.parametrize(
    "spec", [*(cls() for cls in SPECIFICATIONS), Mixture(1), *LEARNED, *BY_CLASS], ids=repr
)
of_classes = pytest.mark.parametrize("spec", BY_CLASS, ids=repr)


def draw_rows(n):
    return torch.randn(min(n, 30), IN_FEATURES)


def build(spec, latent_dim=2, seed=0):
    """A prior at its start, and the encoder that it may be made of."""
    with global_seed(seed):
        encoder = nn.Sequential(nn.Linear(IN_FEATURES, 6), nn.Tanh(), nn.Linear(6, 2 * latent_dim)).double()
        model = spec.build(latent_dim, partial(posterior_of, encoder), draw_rows).double()
    return model, encoder


def make(spec, latent_dim=2, seed=0):
    """A prior whose parameters are not at their start."""
    model, _ = build(spec, latent_dim, seed)
    with global_seed(seed + 100), torch.no_grad():
        for part in model.modules():
            if hasattr(part, "lower"):
                part.lower.normal_()
                part.is_full = True
        for parameter in model.parameters():
            fan_in = parameter.shape[-1] if is_weight(parameter) else 1
            parameter += 0.4 * torch.randn(parameter.shape) / math.sqrt(fan_in)
    return model


def is_weight(parameter):
    """Whether it is a matrix of a network, rather than one vector for each mode."""
    return parameter.ndim == 2 and parameter.shape[-1] in (8, 64)


def encoders(model):
    return [part.encode.args[0] for part in model.modules() if hasattr(part, "encode")]


def cast(model, dtype):
    for module in (model, *encoders(model)):
        module.to(dtype)
    return model


def points(latent_dim=2, n=30):
    return torch.tensor(np.random.RandomState(0).randn(4, n, latent_dim) * 2)


def standard_normal(model, z):
    return scipy.stats.multivariate_normal.logpdf(z, np.zeros(z.shape[-1]), np.eye(z.shape[-1]))


def gaussians(means, log_stds, logits, z, lower=None):
    means, log_stds, logits = (t.detach().numpy() for t in (means, log_stds, logits))
    whitening = np.broadcast_to(np.eye(means.shape[1]), (*means.shape, means.shape[1])).copy()
    if lower is not None:
        whitening[:, *np.tril_indices(means.shape[1], -1)] = lower.detach().numpy()
    whitening /= np.exp(log_stds)[:, None]
    covariances = np.linalg.inv(np.swapaxes(whitening, 1, 2) @ whitening)
    parts = [
        scipy.stats.multivariate_normal.logpdf(z, mean, covariance)
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    return logsumexp(np.stack(parts, -1) + logits - logsumexp(logits), axis=-1)


def mixture(model, z):
    return gaussians(model.means, model.log_stds, model.logits, z, getattr(model, "lower", None))


def vamp(model, z):
    """Equation 9 of the paper, with weights: sum of w_k q(z given u_k)."""
    (encoder,) = encoders(model)
    means, log_stds = encoder(model.inputs).chunk(2, -1)
    return gaussians(means, log_stds, model.logits, z)


def flow(model, z):
    """The change of variables, its Jacobian by automatic differentiation."""
    out = []
    for part in torch.tensor(z.reshape(-1, z.shape[-1])).split(5000):
        start = moved = part.requires_grad_()
        for coupling in model.couplings:
            moved, _ = coupling(moved)
        columns = [torch.autograd.grad(m.sum(), start, retain_graph=True)[0] for m in moved.unbind(-1)]
        log_determinant = np.linalg.slogdet(torch.stack(columns, -2).numpy())[1]
        out.append(standard_normal(model, moved.detach().numpy()) + log_determinant)
    return np.concatenate(out).reshape(z.shape[:-1])


def one_for_each_class(model, z, spec):
    parts = [REFERENCES[type(spec)](part, z) for part in model.models]
    return logsumexp(np.stack(parts, -1) + np.log(SHARES), axis=-1)


REFERENCES = {StandardNormal: standard_normal, Mixture: mixture, VampPrior: vamp, Flow: flow}


def reference(spec, model, z):
    if isinstance(spec, OneForEachClass):
        return one_for_each_class(model, z, spec.spec)
    return REFERENCES[type(spec)](model, z)


def test_every_prior_has_a_reference():
    assert set(REFERENCES) == set(SPECIFICATIONS)


@contract
def test_log_prob_against_scipy(spec):
    model, z = make(spec, 3), points(3)
    got = model.log_prob(z)
    assert got.shape == z.shape[:-1]
    np.testing.assert_allclose(got.detach(), reference(spec, model, z.numpy()), rtol=1e-9)
    torch.testing.assert_close(model.log_prob(z[0, 0]), got[0, 0])


@contract
def test_density_integrates_to_one(spec):
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    density = make(spec, 1).log_prob(grid[:, None]).detach().exp()
    np.testing.assert_allclose(scipy.integrate.trapezoid(density, grid), 1.0, rtol=1e-6)


@contract
def test_samples_follow_the_density(spec):
    n = 20_000
    model = make(spec, 1)
    z = model.sample(n, torch.Generator().manual_seed(0)).detach()
    assert z.shape == (n, 1)
    grid = np.linspace(-20, 20, 8001)
    density = np.exp(reference(spec, model, grid[:, None]))
    cdf = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
    assert scipy.stats.kstest(z[:, 0].numpy(), lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3


@contract
def test_components_of_samples_hang_together(spec):
    """The mean log-density of draws is minus the entropy, which a grid knows."""
    model = make(spec, 2)
    grid = np.linspace(-12, 12, 201)
    log_density = reference(spec, model, np.stack(np.meshgrid(grid, grid), -1))
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
    model.log_prob(points(n=200).requires_grad_()).sum().backward()
    of_encoders = [named for encoder in encoders(model) for named in encoder.named_parameters()]
    for name, parameter in [*model.named_parameters(), *of_encoders]:
        assert torch.isfinite(parameter.grad).all(), name
        if parameter.numel() > 1:  # one weight alone is always 1
            assert (parameter.grad != 0).all(), name


@contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_far_points_stay_finite(spec, dtype):
    model = make(spec)
    z = points()
    want = model.log_prob(z)
    cast(model, dtype)
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


@specifications
def test_is_a_specification_without_tensors(spec):
    assert vars(spec) == spec.get_params()
    assert clone(spec).get_params() == spec.get_params()
    assert eval(repr(spec)).get_params() == spec.get_params()
    assert set(spec.get_params()) == set(inspect.signature(type(spec)).parameters)


@contract
def test_everything_learned_lives_in_the_state(spec):
    model, fresh = make(spec, seed=0), make(spec, seed=1)
    for theirs, ours in zip(encoders(fresh), encoders(model), strict=True):  # the VAE's, not the prior's
        theirs.load_state_dict(ours.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.log_prob(points()), model.log_prob(points()))


def test_names_are_unique():
    names = [cls.name for cls in SPECIFICATIONS]
    assert len(set(names)) == len(names)


@contract
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_apart(spec, clone):
    model = make(spec)
    want = model.log_prob(points())
    copied = clone(model)
    with torch.no_grad():
        for part in (model, *encoders(model)):
            for parameter in part.parameters():
                parameter.zero_()
    assert torch.equal(copied.log_prob(points()), want)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (cls(**{name: value}), name)
        for cls, names in [
            (Mixture, ["n_modes"]),
            (VampPrior, ["n_modes"]),
            (Flow, ["n_transforms", "hidden_features"]),
        ]
        for name in names
        for value in (0, 2.5, True)
    ],
    ids=repr,
)
def test_counts_are_checked(spec, name):
    value = getattr(spec, name)
    with pytest.raises(ValueError, match=f"^Got {name}={value!r}; expected a whole number of at least 1"):
        build(spec)


def test_the_covariance_type_is_checked():
    with pytest.raises(ValueError, match="Got covariance_type='tied'; expected one of"):
        build(Mixture(2, covariance_type="tied"))


# -- VampPrior -------------------------------------------------------------------------------------


def test_vamp_follows_the_encoder():
    model, encoder = build(VampPrior(4))
    before = model.log_prob(points())
    with torch.no_grad():
        encoder[0].bias += 1
    after = model.log_prob(points())
    assert not torch.allclose(after, before)
    np.testing.assert_allclose(after.detach(), vamp(model, points().numpy()), rtol=1e-9)


def test_vamp_starts_from_rows_and_takes_no_more_than_there_are():
    X = torch.randn(3, IN_FEATURES)
    model = VampPrior(10).build(2, partial(posterior_of, nn.Linear(IN_FEATURES, 4)), lambda n: X[:n])
    assert torch.equal(model.inputs, X)
    assert set(model.state_dict()) == {"inputs", "logits"}


def test_vamp_needs_an_encoder():
    with pytest.raises(ValueError, match="build it with both"):
        VampPrior().build(2)


def fit(X, prior, **params):
    return VAETransformer(3, prior=prior, random_state=0, **({"max_iter": 3} | params)).fit(X)


def pseudo_inputs(X, **params):
    """Where they start: after a fit that learns nothing."""
    return fit(X, VampPrior(8), learning_rate=1e-14, **params).module_.prior.inputs.detach().numpy()


def test_vamp_of_an_estimator_starts_from_standardised_rows(digits):
    X = digits[0][:200].astype(float)
    visible = X.std(0) > 0
    standardised = (X - X.mean(0))[:, visible] / X.std(0)[visible]
    got = pseudo_inputs(X)
    distances = ((got[:, None, visible] - standardised) ** 2).sum(-1)
    assert (distances.min(1) < 1e-12).all()
    assert len(set(distances.argmin(1))) == 8
    order = np.random.RandomState(0).permutation(200)
    np.testing.assert_allclose(pseudo_inputs(X[order]), got, atol=1e-9)
    np.testing.assert_allclose(pseudo_inputs(np.r_[X[order], X]), got, atol=1e-9)


def test_vamp_does_not_start_from_validation_rows(digits):
    X = np.unique(digits[0][:200].astype(float), axis=0)
    vae = VAETransformer(2, prior=VampPrior(300), early_stopping=True, learning_rate=1e-14, max_iter=2)
    vae.set_params(random_state=0).fit(X)
    _, aside = split_rows(len(X), 0.1, vae._seed)
    module = vae.module_
    with torch.no_grad():
        features = module.likelihood.features(module.likelihood.standardize(torch.tensor(X[aside])))
        distances = torch.cdist(features, module.prior.inputs)
    assert distances.min() > 1e-3


@pytest.mark.parametrize("prior", ["vamp", "flow"])
def test_estimator_with_a_learned_prior(digits, prior):
    X = digits[0][:200].astype(float)
    vae = fit(X, prior)
    again = clone(vae).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), vae.score_samples(X))
    assert np.isfinite(vae.score_samples(X)).all()
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(loaded.sample(5, random_state=0), vae.sample(5, random_state=0))
    if prior == "vamp":
        assert loaded.module_.prior.encode.args[0] is loaded.module_.encoder
        assert not any("encode" in name for name in vae.module_.prior.state_dict())
    if prior == "mixture":
        changed = clone(vae).set_params(prior=Mixture(5), warm_start=True).fit(X)
        with pytest.raises(ValueError, match="built with prior=Mixture"):
            changed.set_params(prior__n_modes=3).fit(X)
    before = vae.module_.prior.state_dict()
    vae.set_params(warm_start=True, max_iter=5).fit(X)
    assert vae.n_iter_ == 5
    moved = vae.partial_fit(X).module_.prior.state_dict()
    assert any(not torch.equal(moved[name], before[name]) for name in before)
    assert vae.transform(X.astype(np.float32)).shape == (200, 3)
    assert vae.score_samples(X.astype(np.float32)).dtype == np.float32


# -- Flow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_flow_starts_as_the_standard_normal(latent_dim):
    model, z = build(Flow(), latent_dim)[0], points(latent_dim)
    np.testing.assert_allclose(model.log_prob(z).detach(), standard_normal(model, z.numpy()), rtol=1e-12)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_flow_inverts(latent_dim):
    model, z = make(Flow(), latent_dim), points(latent_dim)
    for coupling in model.couplings:
        moved, log_determinant = coupling(z)
        back, minus = coupling(moved, inverse=True)
        torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(minus, -log_determinant, rtol=1e-7, atol=1e-7)
        assert not torch.allclose(moved, z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_splines_rise_from_end_to_end_whatever_their_params(dtype):
    x = torch.linspace(-BOUND - 1, BOUND + 1, 5001, dtype=dtype).requires_grad_()
    for seed in range(5):
        params = 20 * torch.randn(N_PARAMS, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        y, log_slope = spline(x, params)
        assert (y.diff() >= -10 * torch.finfo(dtype).eps).all()
        assert torch.isfinite(log_slope).all()
        outside = x.abs() >= BOUND
        assert torch.equal(y[outside], x[outside])
        if dtype == torch.float64:
            (slope,) = torch.autograd.grad(y.sum(), x)
            torch.testing.assert_close(log_slope.exp(), slope)
            torch.testing.assert_close(spline(y, params, inverse=True)[0], x, rtol=0, atol=1e-6)


def test_flow_learns_what_a_normal_cannot():
    """Two clusters and a curve; the entropy is known."""
    rng = np.random.RandomState(0)
    first = np.where(rng.rand(2000) < 0.5, -1, 1) + 0.2 * rng.randn(2000)
    z = torch.tensor(np.stack([first, first**2 - 1 + 0.2 * rng.randn(2000)], 1))
    model, _ = build(Flow(3, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(150):
        loss = -model.log_prob(z[step % 8 :: 8]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.2)) + math.log(2)
    assert -model.log_prob(z).mean() < entropy + 0.15
    with torch.no_grad():
        drawn = model.sample(2000, torch.Generator().manual_seed(0))
    assert (drawn[:, 0].abs() < 0.3).double().mean() < 0.05


# -- ByClass ---------------------------------------------------------------------------------------

Y = torch.tensor(np.random.RandomState(1).randint(3, size=30))


@of_classes
@pytest.mark.parametrize("y", [Y, torch.full((30,), 1)], ids=["three classes", "one class"])
def test_known_classes_pick_their_density(spec, y):
    model, z = make(spec, 3), points(3)
    got = model.log_prob(z, y)
    assert got.shape == z.shape[:-1]
    for code in range(3):
        want = REFERENCES[type(spec.spec)](model.models[code], z.numpy())
        np.testing.assert_allclose(got.detach()[:, y == code], want[:, y.numpy() == code], rtol=1e-9)
    torch.testing.assert_close(model.log_prob(z[0], y), got[0])


@of_classes
def test_classes_are_told_apart_and_their_shares_add_up(spec):
    model, z = make(spec, 3), points(3)
    joint = torch.stack([model.log_prob(z, torch.full_like(Y, code)).exp() for code in range(3)], -1)
    assert not torch.allclose(joint[..., 0], joint[..., 1])
    torch.testing.assert_close(model.log_prob(z).exp(), joint @ torch.tensor(SHARES, dtype=torch.float64))


@of_classes
def test_draws_of_a_class_follow_its_density(spec):
    model, n = make(spec, 1), 6000
    y = torch.arange(n) % 3
    z = model.sample(n, torch.Generator().manual_seed(0), y).detach()
    grid = np.linspace(-20, 20, 8001)
    for code in range(3):
        density = np.exp(REFERENCES[type(spec.spec)](model.models[code], grid[:, None]))
        cdf = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
        drawn = z[y == code, 0].numpy()
        assert scipy.stats.kstest(drawn, lambda x, cdf=cdf: np.interp(x, grid, cdf)).pvalue > 1e-3
    assert model.sample(5, torch.Generator(), torch.full((5,), 2)).shape == (5, 1)


@of_classes
def test_gradients_of_a_class_reach_its_density_alone(spec):
    model = make(spec)
    z = points().requires_grad_()
    model.log_prob(z, torch.where(Y == 2, 0, Y)).sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for m in model.models[:2] for p in m.parameters()
    )
    assert all(p.grad is None for p in model.models[2].parameters())
    assert torch.autograd.gradcheck(lambda z: model.log_prob(z, Y[:5]), points()[:2, :5].requires_grad_())


@specifications
def test_a_prior_without_classes_leaves_them_aside(spec):
    model = make(spec)
    assert torch.equal(model.log_prob(points(), Y), model.log_prob(points()))
    first, second = (model.sample(30, torch.Generator().manual_seed(0), y) for y in (None, Y))
    assert torch.equal(first, second)


def test_a_prior_that_learns_nothing_has_no_classes():
    with pytest.raises(ValueError, match="Got prior='normal', which learns nothing"):
        by_class(StandardNormal(), SHARES, 2)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [1, 0, 2], [1, -1, 1]])
def test_shares_are_checked(shares):
    models = make(BY_CLASS[0]).models
    with pytest.raises(ValueError, match="expected 3 positive numbers"):
        ByClass(models, shares)
    torch.testing.assert_close(ByClass(models, [5, 2, 3]).log_shares.exp().tolist(), SHARES)


# -- start -----------------------------------------------------------------------------------------


def some_modes(dtype=torch.float64):
    """Means, logarithms of standard deviations, one of them below the bound, and logits."""
    rng = np.random.RandomState(1)
    log_stds = 0.5 * rng.randn(3, 2)
    log_stds[1] = [MIN_LOG_STD - 1, MIN_LOG_STD + 0.5]
    return [torch.tensor(values, dtype=dtype) for values in (rng.randn(3, 2), log_stds, rng.randn(3))]


def test_gradients_of_a_mixture_against_differences():
    means, log_stds, logits = (values.requires_grad_() for values in some_modes())
    z = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        z[0, :3] = means + 0.01 * z[0, :3]  # near each of the modes
    z.requires_grad_()
    assert torch.autograd.gradcheck(MixtureLogProb.apply, (z, means, log_stds, logits))
    (gradient,) = torch.autograd.grad(MixtureLogProb.apply(z, means, log_stds, logits).sum(), log_stds)
    assert gradient[1, 0] == 0  # below the bound
    bounded = log_stds.clamp(min=MIN_LOG_STD)
    got = MixtureLogProb.apply(z, means, log_stds, logits).detach()
    np.testing.assert_allclose(got, gaussians(means, bounded, logits, z.detach().numpy()), rtol=1e-9)
    assert (gradient != 0).sum() == 5


def test_modes_of_the_least_width_may_widen():
    means, log_stds, logits = some_modes(torch.float32)
    log_stds = torch.full_like(log_stds, MIN_LOG_STD).requires_grad_()
    log_prob = MixtureLogProb.apply(means + 0.1, means, log_stds, logits)
    (gradient,) = torch.autograd.grad(log_prob.sum(), log_stds)
    assert (gradient > 0).all()


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_a_mixture_of_single_precision_far_out(size):
    means, log_stds, logits = some_modes()
    z = size * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0.6, -0.8]], dtype=torch.float32)
    want = gaussians(means, log_stds.clamp(min=MIN_LOG_STD), logits, z.double().numpy())
    single = [values.float().requires_grad_() for values in (z, means, log_stds, logits)]
    got = MixtureLogProb.apply(*single)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.detach(), want, rtol=1e-5, atol=1e-4)
    for gradient in torch.autograd.grad(got.sum(), single):
        assert gradient.isfinite().all()


def test_a_mixture_starts_from_distinct_rows():
    model, z = make(Mixture(20)), points()[0] * torch.tensor([1.0, 0.1])
    model.start(z, torch.Generator().manual_seed(0))
    where = (model.means[:, None] == z).all(-1)
    assert (where.sum(1) == 1).all()
    assert where.any(0).sum() == 20
    assert (model.logits == 0).all()
    # mean and spread of all modes together are about those of the rows
    drawn = model.sample(20_000, torch.Generator().manual_seed(1)).detach()
    assert ((drawn.mean(0) - z.mean(0)).abs() < z.std(0)).all()
    assert ((drawn.std(0) / z.std(0)).log().abs() < 0.4).all()
    other = make(Mixture(20), seed=1)
    other.start(z, torch.Generator().manual_seed(0))
    assert torch.equal(other.log_prob(z), model.log_prob(z))


def test_more_modes_than_rows_start_apart():
    model, z = make(Mixture(8)), points(n=3)[0]
    model.start(z, torch.Generator().manual_seed(0))
    assert len(torch.unique(model.means, dim=0)) == 8
    model.start(z[:1], torch.Generator().manual_seed(0))  # no spread at all
    assert torch.isfinite(model.log_prob(points())).all()


def test_each_class_starts_from_its_rows():
    model, z = make(OneForEachClass(Mixture(2))), points()[0]
    model.start(z, torch.Generator().manual_seed(0), Y)
    for code, part in enumerate(model.models):
        assert (part.means[:, None] == z[code == Y]).all(-1).any(1).all()
    untouched = copy.deepcopy(model.models[2])
    model.start(z[Y < 2], torch.Generator().manual_seed(0), Y[Y < 2])
    assert torch.equal(model.models[2].means, untouched.means)
    model.start(z, torch.Generator().manual_seed(0))
    assert all((part.means[:, None] == z).all(-1).any(1).all() for part in model.models)


@contract
def test_a_start_touches_no_global_generator(spec):
    model = make(spec)
    before = torch.get_rng_state()
    model.start(points()[0], torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.isfinite(model.log_prob(points())).all()


# -- the last step ------------------------------------------------------------------------------


def test_the_mixture_leaves_no_mass_far_from_all_rows():
    prior = Mixture(4).build(2)
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[-2.0, 0.0], [2.0, 0.0], [50.0, 50.0], [-50.0, 50.0]]))
    generator = torch.Generator().manual_seed(0)
    side = torch.where(torch.rand((3000, 1), generator=generator) < 0.3, -2.0, 2.0)
    z = torch.randn((3000, 2), generator=generator) * 0.5 + torch.cat((side, torch.zeros_like(side)), 1)
    before = prior.log_prob(z).mean()
    prior.finish(z[None])
    assert prior.log_prob(z).mean() > before
    drawn = prior.sample(4000, generator)
    assert drawn.abs().max() < 6
    assert (drawn[:, 0] < 0).double().mean().item() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_allclose(drawn[:, 1].std().item(), 0.5, atol=0.05)


def test_the_last_step_finds_the_covariance_of_a_mode():
    rng = np.random.default_rng(0)
    covariance = np.array([[2.0, 1.2, 0.0], [1.2, 1.0, -0.3], [0.0, -0.3, 0.5]])
    z = rng.multivariate_normal([1.0, -2.0, 0.0], covariance, 4000)
    prior = Mixture(1, covariance_type="full").build(3).double()
    prior.finish(torch.tensor(z[None]))
    best = scipy.stats.multivariate_normal.logpdf(z, z.mean(0), np.cov(z.T, bias=True)).mean()
    assert prior.log_prob(torch.tensor(z)).mean().item() == pytest.approx(best, abs=1e-3)
    drawn = prior.sample(40_000, torch.Generator().manual_seed(0)).detach().numpy()
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.1)
    prior.start(torch.tensor(z), torch.Generator().manual_seed(0))
    assert not prior.lower.any()
    assert not prior.is_full


@pytest.mark.parametrize("conditional", [False, True])
def test_a_fit_to_few_rows_gives_its_modes_covariances(conditional):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 3)) @ rng.normal(size=(3, 3)), np.arange(90) % 3
    vae = VAETransformer(
        2, prior=Mixture(2, "full"), conditional=conditional, max_iter=20, random_state=0
    ).fit(X, y)
    parts = vae.module_.prior.models if conditional else [vae.module_.prior]
    assert all(part.is_full and part.lower.all() for part in parts)
    assert np.isfinite(vae.score_samples(X)).all()


@pytest.mark.parametrize(
    ("kind", "n_rows", "wish"), [("auto", 40, True), ("auto", 39, False), ("diag", 800, False)]
)
def test_covariances_need_twenty_rows_a_mode(kind, n_rows, wish):
    prior = Mixture(2, kind).build(3)
    z = torch.randn((5, n_rows, 3), generator=torch.Generator().manual_seed(0))  # draws are no rows
    assert prior.finishes(n_rows) == (n_rows >= 40)
    classes = by_class(Mixture(2, kind), [0.5, 0.5], 3)
    before = [model.means.clone() for model in classes.models]
    classes.finish(torch.cat((z, z[:, :30]), 1), None, (torch.arange(n_rows + 30) >= n_rows).long())
    assert getattr(classes.models[0], "is_full", False) == wish
    assert torch.equal(classes.models[0].means, before[0]) == (n_rows < 40)
    assert torch.equal(classes.models[1].means, before[1])


@pytest.mark.parametrize(("spec", "pace"), [(Mixture(2), 3.0), (Flow(2, 8), 1.0)])
def test_networks_of_a_prior_learn_at_the_rate_of_the_others(spec, pace):
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    for conditional in (False, True):
        vae = VAETransformer(2, prior=spec, conditional=conditional, max_iter=1, random_state=0).fit(X, y)
        optimizer = make_optimizer(vae.module_, Plan(1, 60, 1e-3))
        own = {id(p) for p in vae.module_.prior.parameters()}
        factors = {
            factor for part, _, factor in optimizer.groups for i in part if id(optimizer.parameters[i]) in own
        }
        assert factors == {pace}


def test_several_draws_of_a_row_count_as_one_row():
    z = torch.randn((1, 90, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    priors = [Mixture(2, "full").build(3).double() for _ in range(2)]
    priors[1].load_state_dict(priors[0].state_dict())
    priors[0].finish(z)
    priors[1].finish(z.expand(7, -1, -1))
    torch.testing.assert_close(priors[1].log_prob(z), priors[0].log_prob(z))


def test_modes_of_many_components_get_no_covariances_unasked():
    assert not hasattr(Mixture(2).build(65), "lower")
    assert hasattr(Mixture(2, "full").build(65), "lower")


def test_a_full_mixture_takes_rows_in_parts(monkeypatch):
    z = torch.randn((2, 90, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    priors = [Mixture(2, "full").build(3).double() for _ in range(2)]
    priors[1].load_state_dict(priors[0].state_dict())
    priors[0].finish(z)
    whole = priors[0].log_prob(z)
    monkeypatch.setattr("skvae.priors.NUMBERS_AT_ONCE", 50)
    priors[1].finish(z)
    torch.testing.assert_close(priors[1].log_prob(z), whole)


def test_one_row_a_mode_leaves_a_density():
    z = torch.randn((6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = Mixture(5, covariance_type="full").build(4).double()
    prior.finish(z[None])
    prior.finish(torch.stack((z, z)))
    assert torch.isfinite(prior.log_prob(z)).all()
    assert torch.isfinite(prior.sample(100, torch.Generator().manual_seed(0))).all()


def test_rounding_spoils_no_mode_far_from_zero():
    generator = torch.Generator().manual_seed(0)
    z = 3e4 + torch.randn((500, 4), generator=generator)  # float32: squares are known to some 64
    prior = Mixture(3, covariance_type="full").build(4)
    prior.start(z, generator)
    prior.finish(z[None])
    assert all(torch.isfinite(part).all() for part in (prior.lower, prior.log_stds, prior.means))
    assert torch.isfinite(prior.sample(100, generator)).all()


def test_the_last_step_heeds_weights_and_classes():
    z = torch.cat((torch.full((600, 1), -3.0), torch.full((600, 1), 3.0)))
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    weight = torch.cat((torch.full((600,), 3.0), torch.ones(600)))
    prior = Mixture(2).build(1)
    prior.finish(z[None], weight)
    drawn = prior.sample(4000, torch.Generator().manual_seed(1))
    assert (drawn < 0).double().mean().item() == pytest.approx(0.75, abs=0.04)
    y = torch.arange(2).repeat_interleave(600)
    classes = by_class(Mixture(2), [0.5, 0.5], 1)
    classes.finish(z[None], None, y)
    for code, sign in ((0, -1.0), (1, 1.0)):
        drawn = classes.sample(200, torch.Generator().manual_seed(2), torch.full((200,), code))
        assert (sign * drawn > 1).all()


# -- what all are ---------------------------------------------------------------------------------


@contract
def test_a_specification_builds_a_model_of_z(spec):
    assert isinstance(build(spec)[0], PriorModel)


def test_draws_in_parts_are_the_same(monkeypatch):
    full = Mixture(4, "full").build(3).double()
    full.lower.normal_()
    full.is_full = True
    priors = full, Flow(2, 8).build(3).double()
    for prior in priors:
        whole = prior.sample(1000, torch.Generator().manual_seed(0))
        with monkeypatch.context() as patch:
            patch.setattr("skvae.priors.NUMBERS_AT_ONCE", 90)
            patch.setattr("skvae.priors.ROWS_AT_ONCE", 7)
            parts = prior.sample(1000, torch.Generator().manual_seed(0))
        torch.testing.assert_close(parts, whole)
