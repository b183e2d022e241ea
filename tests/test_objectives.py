"""Objectives against hand-computed bounds."""

import inspect

import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.distributions import Normal, kl_divergence

from skvae import objectives
from skvae._random import global_seed
from skvae.likelihoods import Bernoulli
from skvae.model import VAE
from skvae.objectives import ELBO, Autoencoder, Objective
from skvae.priors import Mixture, StandardNormal

SPECIFICATIONS = [
    cls
    for cls in (getattr(objectives, name) for name in objectives.__all__)
    if issubclass(cls, Objective) and not inspect.isabstract(cls)
]
contract = pytest.mark.parametrize("spec", [*(cls() for cls in SPECIFICATIONS), ELBO(4)], ids=repr)
both_priors = pytest.mark.parametrize("prior", [StandardNormal(), Mixture(3)], ids=repr)
X = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1.0]], dtype=torch.float64)


def make(prior):
    with global_seed(0):
        likelihood = Bernoulli().build(X.numpy())
        return VAE(nn.Linear(3, 4), nn.Linear(2, 3), likelihood, prior.build(2), 2).double()


def noise_of(spec):
    if not spec.n_draws:
        return None
    return torch.randn((spec.n_draws, 4, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


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
    noise = torch.randn((4000, 4, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (ELBO(4000)(model.terms(X, noise), 1.0) < model.log_marginal(X, noise)).all()


def takes_beta(spec):
    try:
        spec.check(2.0)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("n_draws", [0, -1, 1.5])
def test_elbo_asks_for_draws(n_draws):
    with pytest.raises(ValueError, match="n_draws"):
        ELBO(n_draws).check(1.0)


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
        if parameter.numel() and takes_beta(spec):
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name
    assert (model.decoder.weight.grad != 0).all()
    assert (model.encoder.weight.grad[:2] != 0).all()  # the half that makes the posterior mean


@contract
def test_beta_matters_where_it_is_used(spec):
    model = make(StandardNormal())
    terms = model.terms(X, noise_of(spec))
    assert torch.equal(spec(terms, 1.0), spec(terms, 2.0)) == (not takes_beta(spec))


@contract
def test_is_a_specification_without_tensors(spec):
    assert clone(spec).get_params() == spec.get_params()
    assert eval(repr(spec)).get_params() == spec.get_params()
    assert vars(spec) == spec.get_params()


def test_names_are_unique():
    names = [cls.name for cls in SPECIFICATIONS]
    assert len(set(names)) == len(names)
