"""Objectives against hand-computed bounds."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.distributions import Normal, kl_divergence

from skvae import VAETransformer, objectives
from skvae._random import global_seed
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.model import VAE
from skvae.objectives import DIP, ELBO, IWAE, MMD, Autoencoder, BetaTC, Objective
from skvae.priors import Mixture, StandardNormal, by_class

SPECIFICATIONS = [
    cls
    for cls in (getattr(objectives, name) for name in objectives.__all__)
    if issubclass(cls, Objective) and not inspect.isabstract(cls)
]
VARIANTS = [
    ELBO(4),
    ELBO(2, free_bits=0.01),
    IWAE(3, dreg=True),
    BetaTC(0.5, 2.0),
    MMD(10.0, alpha=0.5),
    DIP("i", 2.0, 20.0),
]
contract = pytest.mark.parametrize("spec", [*(cls() for cls in SPECIFICATIONS), *VARIANTS], ids=repr)
both_priors = pytest.mark.parametrize("prior", [StandardNormal(), Mixture(3)], ids=repr)
X = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1.0]], dtype=torch.float64)


def make(prior, likelihood=None, X=X):
    with global_seed(0):
        observation = (likelihood or Bernoulli()).build(X.numpy())
        encoder, decoder = nn.Linear(observation.in_features, 4), nn.Linear(2, observation.out_features)
        return VAE(encoder, decoder, observation, prior.build(2), 2).double()


def draws(n_draws, n_rows=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n_draws, n_rows, 2), generator=generator, dtype=torch.float64)


def noise_of(spec):
    return draws(spec.n_draws) if spec.n_draws else None


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(model, noise):
    """Return E[log p(x given z)] and KL by torch.distributions, each of shape (4,)."""
    mean, log_std = model.encoder(X - model.likelihood.location).chunk(2, -1)
    q = Normal(mean, log_std.exp())
    z = mean[None] if noise is None else mean + log_std.exp() * noise
    logits = model.decoder(z) + model.likelihood.offset[0]
    log_px = torch.distributions.Bernoulli(logits=logits).log_prob(X).sum(-1).mean(0)
    if isinstance(getattr(model.prior, "means", None), nn.Parameter):
        parts = Normal(model.prior.means, model.prior.log_stds.exp())
        weights = torch.distributions.Categorical(logits=model.prior.logits)
        p = torch.distributions.MixtureSameFamily(weights, torch.distributions.Independent(parts, 1))
        return log_px, (q.log_prob(z).sum(-1) - p.log_prob(z)).mean(0)
    return log_px, kl_divergence(q, Normal(0.0, 1.0)).sum(-1)


@both_priors
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("n_draws", [1, 3])
def test_elbo_by_hand(prior, beta, n_draws):
    model, spec = make(prior), ELBO(n_draws)
    reconstruction, kl = by_hand(model, noise_of(spec))
    got = spec(model.terms(X, noise_of(spec)), beta)
    torch.testing.assert_close(got, reconstruction - beta * kl)


def test_elbo_is_below_the_marginal_likelihood():
    model = make(Mixture(3))
    noise = draws(4000)
    assert (ELBO(4000)(model.terms(X, noise), 1.0) < model.log_marginal(X, noise)).all()


def takes_beta(spec):
    try:
        spec.check(2.0)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("spec", "beta", "message"),
    [
        (ELBO(0), 1.0, "Got n_draws=0; expected a whole number of at least 1"),
        (ELBO(-1), 1.0, "n_draws=-1"),
        (ELBO(1.5), 1.0, "n_draws=1.5"),
        (ELBO(free_bits=-0.1), 1.0, "Got free_bits=-0.1; expected a number of at least 0"),
        (ELBO(free_bits=math.nan), 1.0, "free_bits=nan"),
        (IWAE(0), 1.0, "n_draws=0"),
        (IWAE(), 2.0, "Got beta=2.0 with objective='iwae'.*expected beta=1"),
        (BetaTC(alpha=-1), 1.0, "alpha=-1"),
        (BetaTC(gamma="a"), 1.0, "gamma='a'"),
        (MMD(-1), 1.0, "strength=-1"),
        (MMD(10, alpha=1.5), 1.0, "Got alpha=1.5 with strength=10; expected a number from 1 - strength to 1"),
        (MMD(0.5, alpha=0.2), 1.0, "alpha=0.2 with strength=0.5"),
        (MMD(), 2.0, "Got beta=2.0 with objective='mmd'"),
        (DIP("iii"), 1.0, "Got kind='iii'; expected 'i' or 'ii'"),
        (DIP(off_diagonal=-1), 1.0, "off_diagonal=-1"),
        (DIP(diagonal=math.inf), 1.0, "diagonal=inf"),
        (Autoencoder(), 0.0, "beta=0.0 with objective='autoencoder'"),
    ],
    ids=repr,
)
def test_constants_without_sense_are_refused(spec, beta, message):
    with pytest.raises(ValueError, match=message):
        spec.check(beta)


@contract
def test_constants_of_the_contract_are_accepted(spec):
    spec.check(1.0)


@both_priors
def test_autoencoder_decodes_the_posterior_mean(prior):
    model, spec = make(prior), Autoencoder()
    assert spec.n_draws == 0
    terms = model.terms(X, noise_of(spec))
    torch.testing.assert_close(spec(terms, 1.0), by_hand(model, None)[0])
    assert torch.equal(spec(terms, 7.0), spec(terms, 0.0))


@contract
@both_priors
def test_one_value_a_row_and_gradients(spec, prior):
    model = make(prior)
    terms = model.terms(X, noise_of(spec))
    value = spec(terms, 0.7)
    assert value.shape == (4,)
    assert torch.isfinite(value).all()
    value.sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.numel() and spec.n_draws:
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name
    assert (model.decoder.weight.grad != 0).all()
    assert (model.encoder.weight.grad[:2] != 0).all()  # the half that makes the posterior mean


@contract
def test_beta_matters_where_it_is_used(spec):
    model = make(StandardNormal())
    terms = model.terms(X, noise_of(spec))
    if takes_beta(spec):
        assert not torch.equal(spec(terms, 1.0), spec(terms, 2.0))


@contract
def test_is_a_specification_without_tensors(spec):
    assert clone(spec).get_params() == spec.get_params()
    assert eval(repr(spec), vars(objectives)).get_params() == spec.get_params()
    assert vars(spec) == spec.get_params()


def test_names_are_unique():
    names = [cls.name for cls in SPECIFICATIONS]
    assert len(set(names)) == len(names)


@contract
@both_priors
@pytest.mark.parametrize("likelihood", [Gaussian(), Bernoulli()], ids=repr)
def test_holes_and_several_draws(spec, prior, likelihood):
    model = make(prior, likelihood)
    holes = X.clone()
    holes[0, 1] = holes[2] = math.nan
    value = spec(model.terms(holes, draws(3) if spec.n_draws else None), 0.7)
    assert value.shape == (4,)
    assert torch.isfinite(value).all()
    for name, gradient in gradients(model, value.sum()).items():
        assert torch.isfinite(gradient).all(), name
        assert gradient.numel() == 0 or (gradient != 0).any(), name


@contract
@both_priors
def test_a_weight_is_a_repetition(spec, prior):
    model, noise = make(prior), noise_of(spec)
    weight = torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64)
    index = torch.arange(4).repeat_interleave(weight.long())
    terms = model.terms(X, noise, weight=weight)
    weighted = (weight * spec(terms, 0.7)).sum() / weight.sum()
    repeated = spec(model.terms(X[index], None if noise is None else noise[:, index]), 0.7).mean()
    torch.testing.assert_close(weighted, repeated)
    want = gradients(model, repeated)
    for name, gradient in gradients(model, weighted).items():
        torch.testing.assert_close(gradient, want[name])
    scaled = spec(model.terms(X, noise, weight=7 * weight), 0.7)
    torch.testing.assert_close((weight * scaled).sum() / weight.sum(), weighted)


@contract
def test_a_batch_of_weightless_rows_is_finite(spec):
    model = make(Mixture(3))
    weight = torch.zeros(4, dtype=torch.float64)
    value = spec(model.terms(X, noise_of(spec), weight=weight), 1.0)
    for gradient in gradients(model, (weight * value).mean()).values():
        assert (gradient == 0).all()


@contract
def test_no_global_generator_is_touched(spec):
    model, state = make(Mixture(3)), torch.get_rng_state()
    first = spec(model.terms(X, noise_of(spec)), 1.0)
    assert torch.equal(first, spec(model.terms(X, noise_of(spec)), 1.0))
    assert torch.equal(torch.get_rng_state(), state)


@both_priors
@pytest.mark.parametrize("spec", [BetaTC(), MMD(1.0, alpha=0.0), DIP("i", 0, 0), DIP("ii", 0, 0)], ids=repr)
def test_constants_that_make_it_the_elbo(spec, prior):
    terms = make(prior).terms(X, draws(2))
    torch.testing.assert_close(spec(terms, 1.0), ELBO()(terms, 1.0))


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.0, 5.0], dtype=torch.float64)])
def test_free_bits(weight):
    model = make(StandardNormal())
    reconstruction, kl = by_hand(model, draws(1))
    level = kl.mean().item() if weight is None else np.average(kl.detach(), weights=weight)
    terms = model.terms(X, draws(1), weight=weight)
    torch.testing.assert_close(ELBO(free_bits=0.99 * level)(terms, 0.7), reconstruction - 0.7 * kl)
    free = ELBO(free_bits=1.01 * level)(terms, 0.7)
    torch.testing.assert_close(free, reconstruction - 0.7 * 1.01 * level)
    got, want = gradients(model, free.sum()), gradients(model, model.terms(X, draws(1)).reconstruction.sum())
    torch.testing.assert_close(got, want)


# -- IWAE ------------------------------------------------------------------------------------------


@both_priors
@pytest.mark.parametrize("dreg", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_iwae_by_hand(prior, dreg, beta):
    model, noise = make(prior), draws(5)
    parts = [torch.stack(p) for p in zip(*(by_hand(model, eps[None]) for eps in noise), strict=True)]
    if isinstance(prior, StandardNormal):  # by_hand has it in closed form
        q = model.encode(X)
        z = q.mean + q.std * noise
        parts[1] = (Normal(q.mean, q.std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
    want = torch.log(torch.exp(parts[0] - beta * parts[1]).mean(0))
    torch.testing.assert_close(IWAE(5, dreg)(model.terms(X, noise), beta), want)
    with torch.no_grad():
        torch.testing.assert_close(IWAE(5, dreg)(model.terms(X, noise), beta), want)


@both_priors
def test_iwae_rises_to_log_px(prior):
    model, step = make(prior), 0.05
    with torch.no_grad():
        model.encoder.weight[2:], model.encoder.bias[2:] = 0, 0.2  # wider than p(z given x)
        axis = torch.arange(-8, 8, step, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        logits = model.decoder(grid)[:, None] + model.likelihood.offset[0]
        log_joint = torch.distributions.Bernoulli(logits=logits).log_prob(X).sum(-1)
        log_joint = log_joint + model.prior.log_prob(grid)[:, None]
        log_px = torch.logsumexp(log_joint, 0) + 2 * math.log(step)
        noise = draws(20_000)
        torch.testing.assert_close(IWAE(20_000)(model.terms(X, noise), 1.0), log_px, atol=0.02, rtol=0)

        def bound(n):
            x = X.repeat(20_000 // n, 1)
            return IWAE(n)(model.terms(x, noise.reshape(n, -1, 2)), 1.0).reshape(-1, 4).mean()

        bounds = [bound(n).item() for n in (1, 5, 50)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < log_px.mean() + 0.01


@both_priors
@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_doubly_reparameterised_gradient(prior, beta):
    model, groups = make(prior), []
    with torch.no_grad():
        model.encoder.weight.mul_(3)  # far from the posterior, where the gradient is large
    for seed in range(30):
        terms = [model.terms(X.repeat(250, 1), draws(4, 1000, seed)) for _ in range(2)]
        plain, dreg = (
            gradients(model, IWAE(4, flag)(t, beta).mean())
            for flag, t in zip((False, True), terms, strict=True)
        )
        for name in plain:
            if not name.startswith("encoder"):
                torch.testing.assert_close(dreg[name], plain[name])
        groups.append([torch.cat([g["encoder.weight"].flatten(), g["encoder.bias"]]) for g in (plain, dreg)])
    plain, dreg = (torch.stack(part) for part in zip(*groups, strict=True))
    error = ((plain - dreg).std(0) / math.sqrt(len(groups))).clamp(min=1e-12)
    assert (((plain - dreg).mean(0) / error).abs() < 4.5).all()
    assert (plain.mean(0).abs() > 20 * error).any()  # there was something to tell apart


def test_doubly_reparameterised_gradient_is_zero_at_the_posterior():
    """One column, x = z w + noise: the posterior of z is normal, and any draws give log p(x)."""
    column = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    spec = Gaussian(min_sigma=1e-3)
    likelihood = spec.build(np.array([[-1.0], [1.0]]))
    model = VAE(nn.Linear(1, 2), nn.Linear(1, 1), likelihood, StandardNormal().build(1), 1).double()
    w, sigma = 0.8, 0.5
    precision = 1 + (w / sigma) ** 2
    with torch.no_grad():
        likelihood.constants.fill_(math.log(sigma - 1e-3))
        model.decoder.weight.fill_(w), model.decoder.bias.zero_()
        model.encoder.weight.copy_(torch.tensor([[w / sigma**2 / precision], [0.0]], dtype=torch.float64))
        model.encoder.bias.copy_(torch.tensor([0.0, -0.5 * math.log(precision)], dtype=torch.float64))
    value = IWAE(3, dreg=True)(model.terms(column, draws(3, 5)[..., :1]), 1.0)
    want = Normal(0.0, math.hypot(w, sigma)).log_prob(column[:, 0])
    torch.testing.assert_close(value, want)
    found = gradients(model, value.sum())
    assert found["encoder.weight"].abs().max() < 1e-12
    assert found["encoder.bias"].abs().max() < 1e-12
    assert found["decoder.weight"].abs().max() > 0.1


# -- statistics of the batch -----------------------------------------------------------------------


@both_priors
@pytest.mark.parametrize("block", [1 << 22, 1])
def test_beta_tc_by_hand(prior, block, monkeypatch):
    monkeypatch.setattr(objectives, "PAIRS", block)
    model, noise = make(prior), draws(3)
    weight = torch.tensor([1.0, 2.0, 3.0, 2.0], dtype=torch.float64)
    terms, q = model.terms(X, noise, weight=weight), model.encode(X)
    value = torch.zeros(4, dtype=torch.float64)
    alpha, beta, gamma = 0.5, 4.0, 3.0
    for s, i in itertools.product(range(3), range(4)):
        z = q.mean[i] + q.std[i] * noise[s, i]
        density = Normal(q.mean, q.std).log_prob(z).exp()  # of z_i's components under every row j
        joint = (density.prod(1) * weight).sum() / weight.sum()
        marginals = (density * weight[:, None]).sum(0) / weight.sum()
        information = density[i].prod().log() - joint.log()
        correlation = joint.log() - marginals.prod().log()
        divergence = marginals.prod().log() - model.prior.log_prob(z)
        sampled = terms.log_px[s, i] - alpha * information - beta * correlation - gamma * divergence
        value[i] += (sampled + information + correlation + divergence) / 3
    # of what all three count once, the closed form is used
    torch.testing.assert_close(BetaTC(alpha, gamma)(terms, beta), value - by_hand(model, noise)[1])


def test_mmd_lets_the_prior_of_each_class_follow_its_rows():
    model, noise, y = make(StandardNormal()), draws(1), torch.tensor([0, 0, 1, 1])
    model.prior = by_class(Mixture(2), [1, 1], 2).double()
    value, grads = {}, {}
    for name, classes in {"known": y, "unknown": None}.items():
        terms = model.terms(X, noise, y=classes)
        value[name] = MMD(30.0)(terms, 1.0)
        grads[name] = gradients(model, value[name].sum())
    torch.testing.assert_close(value["known"], value["unknown"])
    added = gradients(model, model.prior.log_prob(terms.z.detach(), y).sum())
    assert {name for name in added if added[name].abs().max() > 1e-3} > {"prior.models.0.means"}
    for name, before in grads["unknown"].items():
        torch.testing.assert_close(grads["known"][name], before + added.get(name, 0))


@both_priors
def test_mmd_by_hand(prior):
    model, noise = make(prior), draws(2)
    weight = torch.tensor([1.0, 2.0, 3.0, 2.0], dtype=torch.float64)
    terms = model.terms(X, noise, weight=weight)
    with torch.no_grad():
        p = terms.prior_draws(objectives.PRIOR_DRAWS)[0].numpy()
    z = terms.z.detach().numpy().reshape(8, 2)
    share = np.tile(weight / weight.sum() / 2, 2)

    def kernel(a, b):
        return 4 / (4 + ((a[:, None] - b) ** 2).sum(-1))

    discrepancy = share @ kernel(z, z) @ share - 2 * share @ kernel(z, p).mean(1) + kernel(p, p).mean()
    reconstruction, kl = by_hand(model, noise)
    torch.testing.assert_close(MMD(30.0)(terms, 1.0), reconstruction - 30 * discrepancy)
    want = reconstruction - 0.7 * 0.6 * kl - (30 - 0.6) * discrepancy
    torch.testing.assert_close(MMD(30.0, alpha=0.4)(terms, 0.7), want)


@both_priors
def test_discrepancy_tells_the_prior_from_others(prior):
    model, found = make(prior), {}
    with torch.no_grad():
        codes = model.prior.sample(1000, torch.Generator().manual_seed(5))
        model.encoder.weight.zero_()
        model.encoder.bias.zero_()  # z is then the noise
        for shift in (0.0, 0.5, 2.0):
            terms = model.terms(X[:1].expand(1000, 3), codes[None] + shift)
            found[shift] = (terms.reconstruction - MMD(1.0)(terms, 1.0)).mean().item()
    assert 0 <= found[0.0] < 0.006  # 0.002 of it from the pairs of draws with themselves
    assert 0.01 < found[0.5] < found[2.0] < 2


def test_discrepancy_moves_the_prior_to_the_posteriors():
    model = make(Mixture(1))
    with torch.no_grad():
        model.encoder.weight.zero_()
        model.encoder.bias.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0]))
    gradient = sum(
        gradients(model, MMD()(model.terms(X.repeat(25, 1), draws(1, 100, seed)), 1.0).mean())["prior.means"]
        for seed in range(20)
    )
    direction = torch.tensor([1.0, -1.0]) - model.prior.means.detach()
    assert torch.cosine_similarity(gradient, direction).item() > 0.9


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_dip_against_numpy(kind):
    model = make(StandardNormal())
    weight = torch.tensor([1.0, 2.0, 3.0, 2.0], dtype=torch.float64)
    q = model.encode(X)
    covariance = np.cov(q.mean.detach().numpy().T, aweights=weight, bias=True)
    if kind == "ii":
        covariance += np.diag(np.average(q.std.detach().numpy() ** 2, axis=0, weights=weight))
    penalty = 5 * 2 * covariance[0, 1] ** 2 + 7 * ((np.diag(covariance) - 1) ** 2).sum()
    reconstruction, kl = by_hand(model, draws(1))
    got = DIP(kind, 5.0, 7.0)(model.terms(X, draws(1), weight=weight), 0.7)
    torch.testing.assert_close(got, reconstruction - 0.7 * kl - penalty)


# -- in the estimator ------------------------------------------------------------------------------


@contract
@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_fits(spec, prior):
    rows = np.random.RandomState(0).randn(100, 3) * [1, 10, 0.1]
    rows[:, 0] += rows[:, 1] / 10
    rows[5, 1] = np.nan
    vae = VAETransformer(2, objective=spec, prior=prior, hidden_layer_sizes=(8,), random_state=0)
    vae.set_params(max_iter=5, batch_size=32, early_stopping=True)
    codes = [clone(vae).fit(rows, sample_weight=1 + np.arange(100) % 3).transform(rows) for _ in range(2)]
    assert np.isfinite(codes[0]).all()
    np.testing.assert_array_equal(*codes)
