"""The model against a linear-Gaussian one, whose log p(x) is a closed form."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal, kl_divergence

from skvae._posterior import Posterior, resample
from skvae._random import global_seed
from skvae.likelihoods import Bernoulli, Gaussian, StudentT
from skvae.model import VAE, posterior_of
from skvae.priors import Flow, Mixture, StandardNormal, VampPrior, by_class

NAN = float("nan")
D, K = 4, 2
LOCATION, SCALE = np.array([3.0, -50.0, 0.0, 1e3]), np.array([2.0, 10.0, 0.1, 1.0])
SIGMA = np.array([0.5, 0.8, 0.6, 1.1])
BIAS = np.array([0.1, -0.3, 0.0, 0.2])
# columns of W / sigma are orthogonal, so the posterior of z given x has no correlations and a diagonal q fits
W = SIGMA[:, None] * np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * [0.7, 0.2]
PRECISION = 1 + ((W / SIGMA[:, None]) ** 2).sum(axis=0)


def rows(n=6):
    return LOCATION + SCALE * np.random.RandomState(1).randn(n, D)


def draws(n, n_rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, n_rows, K), generator=generator, dtype=torch.float64)


def linear_gaussian(shift=0.0, log_factor=0.0, temperature=1.0):
    """A VAE whose q is the posterior, or what a weight of the KL term of `temperature` makes of it.

    `shift` moves its means, `log_factor` widens it.
    """
    precision = 1 + (PRECISION - 1) / temperature
    spec = Gaussian(min_sigma=1e-3)
    likelihood = spec.build(np.vstack([LOCATION - SCALE, LOCATION + SCALE]))
    model = VAE(nn.Linear(D, 2 * K), nn.Linear(K, D), likelihood, StandardNormal().build(K), K).double()
    model.temperature = temperature
    to_mean = (W / SIGMA[:, None] ** 2 / temperature / precision).T
    with torch.no_grad():
        likelihood.constants.copy_(torch.tensor(np.log(SIGMA - 1e-3)))
        model.decoder.weight.copy_(torch.tensor(W))
        model.decoder.bias.copy_(torch.tensor(BIAS))
        model.encoder.weight.copy_(torch.tensor(np.vstack([to_mean, np.zeros((K, D))])))
        log_std = -0.5 * np.log(precision) + log_factor
        model.encoder.bias.copy_(torch.tensor(np.r_[shift - to_mean @ BIAS, log_std]))
    return model


def exact_log_px(X):
    """log N(x; b, W W' + sigma^2) of the observed cells, in the units of the data."""
    out = []
    for x in X:
        seen = ~np.isnan(x)
        covariance = np.diag(SCALE) @ (W @ W.T + np.diag(SIGMA**2)) @ np.diag(SCALE)
        mean = LOCATION + SCALE * BIAS
        density = scipy.stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
        out.append(density.logpdf(x[seen]))
    return np.array(out)


def standardized(model, X):
    return model.likelihood.standardize(torch.tensor(X))


@pytest.mark.parametrize("n_draws", [1, 2, 7])
def test_the_exact_posterior_gives_log_px_with_any_number_of_draws(n_draws):
    model, X = linear_gaussian(), rows()
    got = model.log_marginal(standardized(model, X), draws(n_draws, len(X)))
    assert got.shape == (len(X),)
    np.testing.assert_allclose(got.detach(), exact_log_px(X), rtol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.7])
def test_a_posterior_that_is_too_narrow_is_widened_to_the_right_one(temperature):
    model, X = linear_gaussian(temperature=temperature), rows()
    x, right = standardized(model, X), linear_gaussian().near(standardized(model, X))
    assert (model.encode(x).std < 0.99 * right.std).all()
    torch.testing.assert_close(model.near(x).mean, right.mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.near(x).std, right.std, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.log_marginal(x, draws(2)).detach(), exact_log_px(X), rtol=1e-6)
    model.temperature = 1.0
    assert (np.abs(model.log_marginal(x, draws(2)).detach().numpy() - exact_log_px(X)) > 0.01).all()


def test_draws_from_the_prior_cost_no_precision_and_find_rows_that_the_encoder_does_not_know():
    model, X = linear_gaussian(), rows()
    there = draws(300, seed=1)
    exactly = model.log_marginal(standardized(model, X), draws(60), there[:20]).detach()
    np.testing.assert_allclose(exactly, exact_log_px(X), rtol=1e-9)
    X[:, :3] = np.nan
    with torch.no_grad():
        model.encoder.bias[:K] += 2.0  # and certain of it
        model.encoder.bias[K:] -= 2.0
    x = standardized(model, X)
    found = model.log_marginal(x, draws(20), there).detach()
    np.testing.assert_allclose(found, exact_log_px(X), atol=0.3)
    assert (model.log_marginal(x, draws(320)).detach().numpy() < exact_log_px(X) - 0.3).all()


def test_one_draw_is_the_sampled_bound():
    model, X = linear_gaussian(0.4, 0.3), rows()
    x, noise = standardized(model, X), draws(1, len(X))
    mean, log_std = model.encoder(x).chunk(2, -1)
    q = Normal(mean, log_std.exp())
    z = mean + log_std.exp() * noise[0]
    log_px = Normal(
        torch.tensor(LOCATION + SCALE * (z.detach().numpy() @ W.T + BIAS)), torch.tensor(SCALE * SIGMA)
    ).log_prob(torch.tensor(X))
    want = log_px.sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
    torch.testing.assert_close(model.log_marginal(x, noise), want)
    torch.testing.assert_close(model.terms(x, noise).log_weights[0], want)


def test_the_estimate_rises_toward_log_px():
    model, X = linear_gaussian(0.6, 0.2), rows()
    x, exact = standardized(model, X), exact_log_px(X)
    noise = draws(4096, len(X))
    means = [
        model.log_marginal(x.repeat(4096 // n, 1), noise.reshape(n, -1, K)).detach().mean().item()
        for n in (1, 4, 16, 256)
    ]
    assert means == sorted(means)
    assert means[-1] < exact.mean() + 0.01
    assert exact.mean() - means[0] > 0.3
    np.testing.assert_allclose(model.log_marginal(x, noise).detach(), exact, atol=0.05)


def test_the_bound_misses_log_px_by_the_divergence_from_the_posterior():
    model, right, X = linear_gaussian(0.4, 0.3), linear_gaussian(), rows()
    x = standardized(model, X)
    # the bound is quadratic in the noise, so these four draws with the moments of N(0, I) average it exactly
    noise = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1.0]], dtype=torch.float64)[:, None]
    terms = model.terms(x, noise)
    q, p = (Normal(e.mean, e.std) for e in (model.encode(x), right.encode(x)))
    want = exact_log_px(X) - kl_divergence(q, p).sum(-1).detach().numpy()
    np.testing.assert_allclose((terms.reconstruction - terms.kl).detach(), want, rtol=1e-11)
    np.testing.assert_allclose(terms.log_weights.mean(0).detach(), want, rtol=1e-11)


def test_cells_and_latent_divide_log_px():
    model, X = linear_gaussian(), rows()
    X[0, 1] = X[1, :3] = np.nan
    model.encoder = nn.Linear(D, 2 * K).double()  # of rows with holes q is no longer the posterior
    x = standardized(model, X)
    cells = model.log_cells(x, draws(7)).detach()
    np.testing.assert_allclose(cells.sum(-1), model.log_marginal(x, draws(7)).detach(), rtol=1e-12)
    assert (cells[:, :D][np.isnan(X)] == 0).all()


def test_cells_are_expectations_under_the_posterior():
    model, X = linear_gaussian(), rows()
    x = standardized(model, X)
    # log p(x, z) - log q(z given x) is log p(x) for every z: draws weigh the same, and four average exactly
    noise = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1.0]], dtype=torch.float64)[:, None]
    got = model.log_cells(x, noise).detach().numpy()
    q = model.encode(x)
    mean, std = q.mean.detach().numpy(), q.std.detach().numpy()
    at_mean = scipy.stats.norm.logpdf(x.numpy(), mean @ W.T + BIAS, SIGMA) - np.log(SCALE)
    np.testing.assert_allclose(got[:, :D], at_mean - 0.5 * std**2 @ (W.T / SIGMA) ** 2, rtol=1e-9)
    kl = kl_divergence(Normal(q.mean, q.std), Normal(0.0, 1.0)).sum(-1).detach().numpy()
    np.testing.assert_allclose(got[:, D], -kl, rtol=1e-9)


def test_missing_cells_are_integrated_out():
    model, X = linear_gaussian(0.0, 0.3), rows()
    X[0, 1] = X[1, :3] = X[2, [0, 3]] = np.nan
    got = model.log_marginal(standardized(model, X), draws(20_000))
    np.testing.assert_allclose(got.detach(), exact_log_px(X), atol=0.05)


def test_a_row_of_nothing_has_log_p_zero():
    model = linear_gaussian()
    x = torch.full((1, D), NAN, dtype=torch.float64)
    terms = model.terms(x, draws(3))
    assert (terms.log_px == 0).all()
    np.testing.assert_allclose(model.log_marginal(x, draws(20_000)).item(), 0.0, atol=0.05)


def test_scores_do_not_depend_on_the_company():
    model, X = linear_gaussian(0.4), rows()
    x, noise = standardized(model, X), draws(5)
    alone = torch.cat([model.log_marginal(row[None], noise) for row in x])
    torch.testing.assert_close(model.log_marginal(x, noise), alone, rtol=1e-12, atol=0)


def test_posterior_against_torch():
    mean, log_std, noise = draws(3, 5)
    posterior = Posterior(mean, log_std)
    z = posterior.rsample(noise)
    torch.testing.assert_close(z, mean + log_std.exp() * noise)
    torch.testing.assert_close(posterior.log_prob(noise), Normal(mean, log_std.exp()).log_prob(z).sum(-1))
    torch.testing.assert_close(posterior.std, log_std.exp())


def test_components_of_a_posterior_against_torch():
    mean, log_std, z = draws(3, 5, seed=1)
    posterior = Posterior(mean.requires_grad_(), log_std)
    want = Normal(mean, log_std.exp()).log_prob(z[:, None])  # every z under every row
    torch.testing.assert_close(posterior.component_log_prob(z[:, None]), want)
    constant = posterior.detach().component_log_prob(z[:, None])
    assert torch.equal(constant, posterior.component_log_prob(z[:, None]))
    assert not constant.requires_grad


def test_shares_of_the_rows():
    model, x = linear_gaussian(), standardized(linear_gaussian(), rows(4))
    weight = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    assert model.terms(x, draws(1)).share.tolist() == [0.25] * 4
    assert model.terms(x, draws(1), weight=weight).share.tolist() == pytest.approx([1 / 8, 0, 2 / 8, 5 / 8])
    assert model.terms(x, draws(1), weight=0 * weight).share.tolist() == [0.25] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_of_the_prior_follow_the_noise(dtype):
    X = rows()
    model = small(Gaussian(), Mixture(3), X).to(dtype)
    x, state = standardized(model, X).to(dtype), torch.get_rng_state()
    first, again, other = (
        model.terms(x, draws(1, 6, seed).to(dtype)).prior_draws(50)[0] for seed in (0, 0, 1)
    )
    assert first.shape == (50, K)
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.isin(first, other).any()
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_of_the_prior_carry_its_gradient():
    X = rows()
    model, n = small(Gaussian(), Mixture(3), X), 400_000
    prior = model.prior
    with torch.no_grad():
        prior.means.mul_(2)
        prior.logits.copy_(torch.tensor([0.0, 0.5, -0.5]))
    z, weight = model.terms(standardized(model, X), draws(1, 6)).prior_draws(n)
    torch.testing.assert_close(weight, torch.full_like(weight, 1 / n))
    (weight * z.square().sum(-1)).sum().backward()
    got = [p.grad.clone() for p in prior.parameters()]
    prior.zero_grad()
    second = (prior.means.square() + (2 * prior.log_stds).exp()).sum(-1)
    (torch.softmax(prior.logits, 0) * second).sum().backward()
    for gradient, p in zip(got, prior.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad, atol=0.05, rtol=0)
        assert p.grad.abs().max() > 0.2


def test_decoding_the_posterior_mean():
    model, X = linear_gaussian(), rows()
    x = standardized(model, X)
    terms = model.terms(x)
    posterior = model.encode(x)
    assert torch.equal(terms.z, posterior.mean[None])
    assert terms.log_px.shape == terms.log_pz.shape == terms.log_qz.shape == (1, len(X))
    torch.testing.assert_close(
        terms.log_qz[0], Normal(posterior.mean, posterior.std).log_prob(posterior.mean).sum(-1)
    )
    np.testing.assert_allclose(
        model.decode(posterior.mean).detach(),
        LOCATION + SCALE * (posterior.mean.detach().numpy() @ W.T + BIAS),
        rtol=1e-12,
    )


def test_posterior_spread_is_bounded():
    model = linear_gaussian()
    with torch.no_grad():
        model.encoder.bias[K:] = torch.tensor([1e6, -1e6])
    x = standardized(model, rows())
    log_std = model.encode(x).log_std
    assert (log_std.abs() <= 8).all()
    assert torch.isfinite(model.log_marginal(x, draws(3))).all()


def small(likelihood, prior, X):
    with global_seed(0):
        observation = likelihood.build(X)
        encoder = nn.Linear(observation.in_features, 2 * K)
        encode = partial(posterior_of, encoder)
        prior = prior.build(K, encode, lambda n: torch.randn(n, observation.in_features))
        return VAE(encoder, nn.Linear(K, observation.out_features), observation, prior, K).double()


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("prior", [StandardNormal(), Mixture(3), VampPrior(3)], ids=repr)
@pytest.mark.parametrize("likelihood", [Gaussian(), StudentT(), Bernoulli()], ids=repr)
def test_gradients_reach_every_parameter(likelihood, prior, holes):
    X = rows(20)
    X = (X > LOCATION).astype(float) if isinstance(likelihood, Bernoulli) else X
    if holes:
        X[0], X[1:5, 2] = NAN, NAN
    model = small(likelihood, prior, X)
    x = standardized(model, X)
    for function in (
        lambda: model.log_marginal(x, draws(3, 20)),
        lambda: model.terms(x, draws(1, 20)).reconstruction - model.terms(x, draws(1, 20)).kl,
    ):
        model.zero_grad()
        function().sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.numel():
                assert torch.isfinite(parameter.grad).all(), name
                assert (parameter.grad != 0).all(), name


def test_kl_of_a_mixture_averages_over_the_draws():
    X = (rows() > LOCATION).astype(float)
    model = small(Bernoulli(), Mixture(3), X)
    terms = model.terms(standardized(model, X), draws(5, 6))
    torch.testing.assert_close(terms.kl, (terms.log_qz - terms.log_pz).mean(0))
    logits = model.decoder(terms.z) + model.likelihood.offset[0]
    torch.testing.assert_close(terms.log_px, TorchBernoulli(logits=logits).log_prob(torch.tensor(X)).sum(-1))


# -- classes ----------------------------------------------------------------------------------------

CENTRES, CLASS_SHARES = np.array([[1.0, -0.5], [-0.8, 0.4]]), np.array([0.3, 0.7])


def with_classes():
    """The linear-Gaussian model with p(z given y) = N(centre of y, I); q is wide enough for both."""
    model = linear_gaussian(0.0, 0.7)
    model.prior = by_class(Mixture(1), CLASS_SHARES, K).double()
    with torch.no_grad():
        for part, centre in zip(model.prior.models, CENTRES, strict=True):
            part.means.copy_(torch.tensor(centre))
    return model


def test_log_px_of_a_class_and_of_all():
    model, X = with_classes(), rows()
    x, noise, y = standardized(model, X), draws(40_000), torch.tensor([0, 1, 1, 0, 1, 0])
    # a prior centred at m is one at 0 with the decoder's bias moved by W m
    of_class = np.stack([exact_log_px(X - SCALE * (W @ centre)) for centre in CENTRES], 1)
    with torch.no_grad():
        np.testing.assert_allclose(model.log_marginal(x, noise, y=y), of_class[np.arange(6), y], atol=0.05)
        want = np.log(np.exp(of_class) @ CLASS_SHARES)
        np.testing.assert_allclose(model.log_marginal(x, noise), want, atol=0.05)


def test_classes_reach_the_prior_alone():
    model, X = with_classes(), rows()
    x, noise, y = standardized(model, X), draws(3, 6), torch.tensor([0, 1, 1, 0, 1, 0])
    known, unknown = model.terms(x, noise, y=y), model.terms(x, noise)
    assert torch.equal(known.log_px, unknown.log_px)
    assert torch.equal(known.log_qz, unknown.log_qz)
    want = Normal(torch.tensor(CENTRES)[y], 1.0).log_prob(known.z).sum(-1)
    torch.testing.assert_close(known.log_pz, want)
    torch.testing.assert_close(known.kl, (known.log_qz - want).mean(0))


# -- a prior made of the encoder --------------------------------------------------------------------


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_share_one_encoder_with_their_prior(clone):
    model = small(Gaussian(), VampPrior(3), rows(20))
    copied = clone(model).float()
    assert copied.prior.encode.args[0] is copied.encoder
    assert copied.encoder is not model.encoder
    assert copied.prior.log_prob(torch.zeros(4, K)).dtype == torch.float32
    shared = {name for name in model.state_dict() if name.startswith("prior.")}
    assert shared == {"prior.inputs", "prior.logits"}
    assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})


def test_pseudo_inputs_are_seen_without_noise():
    model = small(Gaussian(), VampPrior(3), rows(20))
    x, noise = standardized(model, rows(20)), draws(1, 20)
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    model.terms(x, noise, corrupt=lambda features: features + 1).log_pz
    assert torch.equal(seen[0], x + 1)
    assert torch.equal(seen[1], model.prior.inputs)


def test_a_flow_in_the_model():
    model = small(Gaussian(), Flow(2, 8), rows(20))
    normal = small(Gaussian(), StandardNormal(), rows(20))
    normal.load_state_dict(model.state_dict(), strict=False)
    x = standardized(model, rows(20))
    torch.testing.assert_close(model.log_marginal(x, draws(3)), normal.log_marginal(x, draws(3)))
    model.terms(x, draws(1, 20)).kl.sum().backward()
    assert all(coupling.offset.grad.abs().sum() > 0 for coupling in model.prior.couplings)
    assert all(coupling.network[-1].weight.grad.abs().sum() > 0 for coupling in model.prior.couplings)


# -- information -----------------------------------------------------------------------------------


def test_information_is_the_mean_divergence_from_the_prior():
    model, X = linear_gaussian(0.4), rows()
    x = standardized(model, X)
    posterior = model.encode(x)
    divergence = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(model.information(x), divergence.mean(0))
    torch.testing.assert_close(model.information(x).sum(), model.terms(x, draws(1)).kl.mean())
    weight = torch.tensor([1.0, 2, 3, 1, 1, 2], dtype=torch.float64)
    repeated = x.repeat_interleave(weight.long(), 0)
    torch.testing.assert_close(model.information(x, weight), model.information(repeated))
    torch.testing.assert_close(model.information(x, 7 * weight), model.information(repeated))


def test_information_under_a_mixture_is_the_divergence_from_one_normal():
    X = rows()
    model = small(Gaussian(), Mixture(3), X)
    x = standardized(model, X)
    q = Normal(*(getattr(model.encode(x), name) for name in ("mean", "std")))
    variance = (q.mean**2 + q.stddev**2).mean(0) - q.mean.mean(0) ** 2
    want = kl_divergence(q, Normal(q.mean.mean(0), variance.sqrt())).mean(0)
    torch.testing.assert_close(model.information(x), want)


def test_a_component_without_information_has_none():
    model = linear_gaussian()
    with torch.no_grad():
        model.encoder.weight[1] = model.encoder.bias[1] = model.encoder.bias[K + 1] = 0
    information = model.information(standardized(model, rows()))
    assert information[0] > 0.1
    assert abs(information[1]) < 1e-12


# -- resampling --------------------------------------------------------------------------------------


def test_resampling_repeats_no_index_that_is_not_due_twice():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand((3, 500), generator=generator) ** 4
    weight[:, ::7] = 0
    share = weight / weight.sum(1, keepdim=True)
    total = torch.zeros_like(weight, dtype=torch.float64)
    for _ in range(400):
        index = resample(weight, 60, generator)
        assert index.shape == (3, 60)
        count = torch.stack([torch.bincount(row, minlength=500) for row in index])
        assert (count[:, ::7] == 0).all()
        assert ((count - 60 * share).abs() < 1 + 1e-4).all()
        total += count
    # counts are 0 or 1 beyond their whole part, so their spread is at most that of coins
    np.testing.assert_allclose(total / 400, 60 * share, atol=4.5 * 0.5 / 20)
    assert (index[0, 1:] > index[0, :-1]).float().mean() < 0.8  # in random order


def test_resampling_of_one_index():
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([[0.0, 1.0, 3.0, 0.0]]).expand(4000, -1)
    index = resample(weight, 1, generator)
    count = torch.bincount(index[:, 0], minlength=4)
    assert count[0] == count[3] == 0
    assert abs(count[2] / 4000 - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
