"""The variational autoencoder itself: all the probability, none of the training."""

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from ._posterior import Posterior, log_mean, log_mixture, moments, resample
from ._random import normal
from ._terms import Terms

if TYPE_CHECKING:
    from ._joint import JointModel
    from ._mixed import MixedModel
    from ._observation import ObservationModel
    from .priors import PriorModel

__all__ = ["VAE", "Posterior", "Terms", "posterior_of"]

Map: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

MOST_STEPS = 3.0  # that the prior moves a posterior by, of the width of p(z given x)
MAX_LOG_STD = 8.0  # posterior standard deviations stay within e^-8 ... e^8


def posterior_of(encoder: Map, features: torch.Tensor) -> Posterior:
    """Return the posteriors that an encoder makes of what it sees.

    Parameters
    ----------
    encoder : nn.Module
    features : Tensor of shape (B, in_features)

    Returns
    -------
    posterior : Posterior
    """
    mean, log_std = encoder(features).chunk(2, -1)
    # hardtanh is clamp with a backward pass of one kernel in place of six
    return Posterior(mean, F.hardtanh(log_std, -MAX_LOG_STD, MAX_LOG_STD))


def _shares(x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the share of each row of x, shape (B, 1)."""
    return torch.full_like(x[:, :1], 1 / len(x)) if weight is None else (weight / weight.sum())[:, None]


class VAE(nn.Module):
    """Encoder, decoder, likelihood and prior as one density.

    All rows are standardised ones, as `likelihood.standardize` makes them, NaN where a cell is
    missing; all densities are in the units of the data. `complete=True` promises that no cell is.

    Parameters
    ----------
    encoder : nn.Module
        Maps (B, likelihood.in_features) to (B, 2 * latent_dim).
    decoder : nn.Module
        Maps (B, latent_dim) to (B, likelihood.out_features).
    likelihood : ObservationModel
    prior : PriorModel
    latent_dim : int

    Attributes
    ----------
    autocast : torch.dtype or None
        Lower precision that the networks' products are computed in; all densities are not.
    is_single : bool
        Whether networks and prior are in float32 whatever the rows are in; see `in_single`.
    temperature : float
        Of what q was trained for: it is near p(x given z)^(1 / temperature) p(z), see `near`.
    """

    autocast: torch.dtype | None = None
    is_single = False
    temperature = 1.0

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: "ObservationModel | JointModel | MixedModel",
        prior: "PriorModel",
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.latent_dim = latent_dim

    def encode(self, x: torch.Tensor, complete: bool = False, corrupt: Map | None = None) -> Posterior:
        """Return q(z given x) as a `Posterior`; `corrupt` is applied to what the encoder sees."""
        features = self.likelihood.features(x, complete)
        features = corrupt(features) if corrupt else features
        return posterior_of(lambda x: self._through(self.encoder, x), features)

    def copies(self, n_draws: int) -> int:
        """Return how many times a row is held where `n_draws` of z are made for it."""
        return n_draws if self.temperature >= 1 else max(n_draws, 2 * self.latent_dim)

    def near(self, x: torch.Tensor, complete: bool = False, y: torch.Tensor | None = None) -> Posterior:
        """Return a normal density near p(z given x), for draws that are then weighted.

        It is q(z given x) if that was trained to be so. With a weight of the KL term below 1 q is
        near p(x given z)^(1 / T) p(z), T being the `temperature`, and so narrow that its draws miss
        most of p(z given x). That is then near q^T p(z)^(1 - T), which is normal once log p(z) is
        taken for a parabola around the mean of q, through points as far apart as p(z given x) is wide.
        """
        q, t = self.encode(x, complete), self.temperature
        if t >= 1:
            return q
        step = q.std / math.sqrt(t)
        apart = torch.diag_embed(step).transpose(0, 1)  # (K, B, K)
        ahead, behind, here = (
            self.prior.log_prob(q.mean + move, y).T for move in (apart, -apart, torch.zeros_like(apart[:1]))
        )
        curvature = ((2 * here - ahead - behind) / step.square()).clamp(min=0)
        precision = t / q.std.square() + (1 - t) * torch.minimum(curvature, q.std.pow(-2))
        shift = (1 - t) * (ahead - behind) / (2 * step * precision)
        furthest = MOST_STEPS * step
        shift = torch.maximum(torch.minimum(shift, furthest), -furthest)
        return Posterior(q.mean + shift, -0.5 * torch.log(precision))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return E[x given z] in the units of the data, shape (B, n_features)."""
        return self.likelihood.mean(self.decoder(z))

    def terms(
        self,
        x: torch.Tensor,
        noise: torch.Tensor | None = None,
        complete: bool = False,
        corrupt: Map | None = None,
        weight: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
    ) -> Terms:
        """Return the `Terms` of the bound for rows x of shape (B, n_features).

        Parameters
        ----------
        x : Tensor of shape (B, n_features)
        noise : Tensor of shape (S, B, K) or (S, 1, K), or None
            Standard normal draws; None decodes the posterior mean (S = 1).
        complete : bool, default=False
            Promise that x has no NaN.
        corrupt : callable or None, default=None
            Applied to what the encoder sees, of shape (B, likelihood.in_features).
        weight : Tensor of shape (B,) or None, default=None
            What each row counts in the statistics of the batch.
        y : Tensor of int, shape (B,), or None
            Classes of the rows, for the prior alone.
        """
        posterior = self.encode(x, complete, corrupt)
        if noise is None:
            z, noise = posterior.mean.unsqueeze(0), posterior.mean.new_zeros(1, 1, self.latent_dim)
        else:
            z = posterior.rsample(noise)
        output = self._through(self.decoder, z.flatten(0, 1)).unflatten(0, z.shape[:2])
        log_px = self.likelihood.row_log_prob(x, output, complete)
        return Terms(self.prior, posterior, noise, z, output, log_px, weight, y)

    def in_single(self) -> "VAE":
        """Return a copy that computes in float32; what stands for the units of the data stays exact."""
        model = copy.deepcopy(self)
        for part in (model.encoder, model.decoder, model.prior):
            part.float()
        for parameter in model.likelihood.parameters():
            parameter.data = parameter.data.float()
        model.is_single = True
        return model

    def _through(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.is_single:
            return network(x.float())
        if self.autocast is None:
            return network(x)
        with torch.autocast(x.device.type, self.autocast, cache_enabled=False):  # weights change
            return network(x).to(x.dtype)

    def information(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return how much each component tells about the rows, in nats, shape (K,).

        The mean KL divergence of q(z_k given x) from N(0, 1); under another prior from the normal
        density with the moments of all rows together.
        """
        posterior = self.encode(x)
        w = _shares(x, weight)
        second = (w * (posterior.mean.square() + posterior.std.square())).sum(0)
        log_std = (w * posterior.log_std).sum(0)
        if self.prior.kl_from(posterior) is not None:
            return 0.5 * (second - 1) - log_std
        return 0.5 * torch.log(second - (w * posterior.mean).sum(0).square()) - log_std

    def activity(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return the variance over the rows of each component's posterior mean, shape (K,).

        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519, section 5.2: a component is active
        where this is above 0.01.
        """
        mean, w = self.encode(x).mean, _shares(x, weight)
        return (w * (mean - (w * mean).sum(0)).square()).sum(0)

    def condition(
        self,
        x: torch.Tensor,
        n_samples: int,
        n_particles: int,
        generator: torch.Generator,
        y: torch.Tensor | None = None,
        search: bool = False,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw the missing cells of rows given the others, by importance resampling.

        Each z that `_propose` finds is weighted with p(seen cells, z) over the density it comes from.

        Parameters
        ----------
        x : Tensor of shape (B, n_features)
        n_samples : int
            Draws for each row.
        n_particles : int
            Draws of z for each row, of which those are taken.
        generator : torch.Generator
        y : Tensor of int, shape (B,), or None
        search : bool, default=False
            Take two rounds to find z: worth it where many cells are seen.
        known : Tensor of shape (B, n_features) or None
            The rows in the units of the data.

        Returns
        -------
        Tensor of shape (B, n_samples, n_features)
            In the units of the data; NaN where a cell was not missing, or drawn as missing.
        """
        output, log_ratio = self._propose(x, n_particles, generator, y, search)
        values, log_px = self.likelihood.fill(x, output, generator, known=known)
        weight = torch.softmax(log_px + log_ratio, 0)
        chosen = resample(weight.T, n_samples, generator)
        return values.transpose(0, 1).gather(1, chosen[..., None].expand(-1, -1, values.shape[-1]))

    def expect(
        self,
        x: torch.Tensor,
        n_particles: int,
        generator: torch.Generator,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what to expect in the missing cells of rows given the others, by importance sampling.

        The draws of z are those of `condition` with `search`, but with the same noise for every row,
        so that no row depends on the others.

        Parameters
        ----------
        x : Tensor of shape (B, n_features)
        n_particles : int
            Draws of z for each row.
        generator : torch.Generator
        known : Tensor of shape (B, n_features) or None
            The rows in the units of the data.

        Returns
        -------
        Tensor of shape (B, n_features)
            The conditional mean, or the most probable level; anything where a cell is not missing.
        """
        output, log_ratio = self._propose(x, n_particles, generator, search=True, shared=True)
        return self.likelihood.expect(x, output, log_ratio, generator, known)

    def _propose(
        self,
        x: torch.Tensor,
        n_particles: int,
        generator: torch.Generator,
        y: torch.Tensor | None = None,
        search: bool = False,
        shared: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw z near p(z given the seen cells) and decode it.

        Half comes from what is `near` by the encoder and half from the prior, so that no part of the
        posterior is out of reach; what z is drawn from is the density of both together, as in Owen
        and Zhou (2000), doi:10.1080/01621459.2000.10473909. With `search` only the first half of the
        draws is made so, and the others come from a normal density with its weighted moments: Cornuet,
        Marin, Mira and Robert (2012), Adaptive multiple importance sampling, arXiv:0907.1254. That
        pays where many cells are seen; where few are, no normal density is like the posterior.
        `shared` tells whether all rows get the same noise.

        Returns
        -------
        output : Tensor of shape (n_particles, B, P)
        log_ratio : Tensor of shape (n_particles, B)
            Log-density of z in the prior over that in what it was drawn from.
        """
        near = self.near(x, y=y)
        n_rows = 1 if shared else len(x)
        n_second = n_particles // 2 if search else 0
        n_there = (n_particles - n_second) // 2
        n_first = n_particles - n_second - n_there
        noise = normal((n_first + n_second, n_rows, self.latent_dim), near.mean, generator)
        classes = None if y is None else y.repeat(n_there)
        there = self.prior.sample(n_there * n_rows, generator, classes).unflatten(0, (n_there, n_rows))

        z, output, log_pz = self._take([near.rsample(noise[:n_first]), there.to(near.mean)], len(x), y)
        sources = [(near, n_first)]
        log_ratio = log_pz - log_mixture(z, log_pz, sources, n_there)
        if not search:
            return output, log_ratio
        log_weight = self.likelihood.row_log_prob(x, output) + log_ratio
        nearer = moments(z, torch.softmax(log_weight, 0).to(z), near)
        parts = self._take([nearer.rsample(noise[n_first:])], len(x), y)
        z, output, log_pz = (torch.cat(pair) for pair in zip((z, output, log_pz), parts, strict=True))
        sources.append((nearer, n_second))
        return output, log_pz - log_mixture(z, log_pz, sources, n_there)

    def log_marginal(
        self,
        x: torch.Tensor,
        noise: torch.Tensor,
        there: torch.Tensor | None = None,
        complete: bool = False,
        y: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Estimate log p(x), or log p(x given y), in nats by importance sampling, shape (B,).

        Draws of z come from what is `near` by the encoder and from the prior, as the encoder may know little
        of rows with holes, and are weighted by the density of both together, whose parts are
        control variates: Owen and Zhou (2000), doi:10.1080/01621459.2000.10473909. In expectation a
        lower bound, which rises toward log p(x) with the number of draws: Burda, Grosse and
        Salakhutdinov (2016), arXiv:1509.00519, equation 8.

        Parameters
        ----------
        x : Tensor of shape (B, n_features)
        noise : Tensor of shape (n_near, B or 1, K)
        there : Tensor of shape (n_there, B or 1, K) or None, default=None
            Draws from the prior of any class.
        complete : bool, default=False
        y : Tensor of int, shape (B,), or None
        """
        return log_mean(*self._weigh(x, noise, there, complete, y)[1:])

    def log_cells(
        self,
        x: torch.Tensor,
        noise: torch.Tensor,
        there: torch.Tensor | None = None,
        complete: bool = False,
        y: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Divide `log_marginal` into what each cell and the latent give, shape (B, n_features + 1).

        log p(x) = E[log p(x given z)] - KL(p(z given x) || p(z)), both under the true posterior, for
        which the importance-weighted draws of z stand. The first term is one of cells, 0 where one
        is missing; the last column is the second, so a row sums to its `log_marginal`.
        """
        output, log_weights, log_share = self._weigh(x, noise, there, complete, y)
        log_px = log_mean(log_weights, log_share)
        cells = self.likelihood.log_prob(x, output, complete)
        cells = (torch.softmax(log_weights, 0).unsqueeze(-1) * cells).sum(0)
        return torch.cat((cells, (log_px - cells.sum(-1)).unsqueeze(-1)), -1)

    def _weigh(self, x: Any, noise: Any, there: Any, complete: bool, y: Any) -> Any:
        """Return the decoder's output for draws of z, and as `log_marginal` has them their weights.

        Last is the log-density of what is near over that of both sources together.
        """
        near = self.near(x, complete, y)
        parts = [near.rsample(noise)] if there is None else [near.rsample(noise), there]
        z, output, log_pz = self._take(parts, len(x), y)
        log_any = log_pz if y is None or there is None else self.prior.log_prob(z)
        log_source = log_mixture(z, log_any, [(near, len(noise))], len(z) - len(noise))
        log_weights = self.likelihood.row_log_prob(x, output, complete) + log_pz - log_source
        return output, log_weights, near.component_log_prob(z).sum(-1) - log_source

    def _take(self, parts: Any, n_rows: int, y: Any) -> Any:
        """Return draws of z that several sources gave, what they decode to, and their log p(z)."""
        outputs = [self._through(self.decoder, z.flatten(0, 1)).unflatten(0, z.shape[:2]) for z in parts]
        z, output = (torch.cat([p.expand(-1, n_rows, -1) for p in part]) for part in (parts, outputs))
        return z, output, self.prior.log_prob(z, y)
