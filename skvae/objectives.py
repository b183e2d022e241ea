"""Objectives: what is maximised, row by row, from the terms of the bound."""

import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, Literal

import torch
from sklearn.base import BaseEstimator

from ._values import check_count

__all__ = ["DIP", "ELBO", "IWAE", "MMD", "Autoencoder", "BetaTC", "Objective"]

PRIOR_DRAWS = 256  # that stand for the prior in a step of `MMD`
PAIRS = 1 << 22  # numbers in one block of the pairs of a batch: 16 MB in float32


class Objective(BaseEstimator, ABC):
    """Specification of what is maximised.

    Attributes
    ----------
    name : str
        What users type as ``objective=``.
    n_draws : int
        Latent draws per row; 0 decodes the posterior mean.
    """

    name: str
    n_draws = 1

    @abstractmethod
    def check(self, beta: float) -> None:
        """Raise ValueError for constants, or a weight of the KL term, that make no sense here.

        Parameters
        ----------
        beta : float
            What the user gave as `beta`.
        """

    def temperature(self, beta: float) -> float:
        """Return T if q(z given x) is trained to be near p(x given z)^(1 / T) p(z); by default 1.

        Scores draw z from a q that is widened by it. That costs precision alone where T is not right.

        Parameters
        ----------
        beta : float
            What the user gave as `beta`.

        Returns
        -------
        temperature : float
        """
        return 1.0

    @abstractmethod
    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return the objective of each row in nats, shape (B,).

        An objective with statistics of the batch weighs the rows in them by ``terms.share``, so
        that a row of weight 2 is two rows; its mean over rows is what the paper writes down.

        Parameters
        ----------
        terms : Terms
            The pieces of the bound, computed as they are asked for.
        beta : float
            Weight of the KL term at this step: below that of `check` during the warm-up.

        Returns
        -------
        objective : Tensor of shape (B,)
            Nats; higher is better.
        """


class ELBO(Objective):
    """The evidence lower bound E[log p(x given z)] - beta KL(q(z given x) || p(z)).

    Kingma and Welling (2014), arXiv:1312.6114, equation 3; beta from Higgins et al. (2017),
    beta-VAE, equation 4. Free bits from Kingma et al. (2016), arXiv:1606.04934, equation 15, with
    all components as one group: it is defined whatever the prior.

    Parameters
    ----------
    n_draws : int, default=1
        Latent draws per row that the expectation is averaged over.
    free_bits : float, default=0.0
        Nats per row that cost nothing more: where the KL of the batch, averaged over rows, is
        below, this number stands in its place, and nothing pulls q toward the prior.
    """

    name = "elbo"

    def __init__(self, n_draws: int = 1, free_bits: float = 0.0) -> None:
        self.n_draws = n_draws
        self.free_bits = free_bits

    def check(self, beta: float) -> None:
        """Ask for at least one draw and no negative free bits."""
        check_count(self.n_draws, "n_draws")
        _check_from_zero(free_bits=self.free_bits)

    def temperature(self, beta: float) -> float:
        """Return the weight of the KL term."""
        return beta

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return reconstruction - beta * kl."""
        reconstruction: torch.Tensor = terms.reconstruction
        kl: torch.Tensor = terms.kl
        if self.free_bits:
            is_free = (terms.share * kl.detach()).sum() < self.free_bits
            kl = torch.where(is_free, self.free_bits, kl)
        return reconstruction - beta * kl


class IWAE(Objective):
    """The importance-weighted bound E[log mean_s p(x, z_s) / q(z_s given x)].

    Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519, equation 8. The more draws, the
    closer it is to log p(x), and the less q is asked to look like the posterior. The KL term has
    no weight of its own: `beta` must be 1. While it rises to 1 it is an exponent of p(z) / q(z
    given x) in the weights.

    Parameters
    ----------
    n_draws : int, default=5
        Latent draws per row.
    dreg : bool, default=False
        Train the encoder by the doubly reparameterised gradient of Tucker et al. (2019),
        arXiv:1810.04152: the same in expectation, with a signal-to-noise ratio that rises with
        the number of draws in place of one that falls.
    """

    name = "iwae"

    def __init__(self, n_draws: int = 5, dreg: bool = False) -> None:
        self.n_draws = n_draws
        self.dreg = dreg

    def check(self, beta: float) -> None:
        """Ask for at least one draw and refuse a weight of the KL term."""
        check_count(self.n_draws, "n_draws")
        _refuse_beta(self, beta)

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return the log of the mean weight of the draws."""
        if self.dreg and terms.z.requires_grad:
            log_weights = self._reparameterised_weights(terms, beta)
        else:
            log_weights = terms.log_px + beta * (terms.log_pz - terms.log_qz)
        return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))

    @staticmethod
    def _reparameterised_weights(terms: Any, beta: float) -> Any:
        """Return log weights that reach the encoder through z alone, and scale what does.

        The score of q times the normalised weight w, reparameterised once more, leaves
        1 - beta * (1 - w) times the gradient through z; at beta = 1 that makes w squared of w.
        """
        log_qz = terms.posterior.detach().component_log_prob(terms.z).sum(-1)
        log_weights = terms.log_px + beta * (terms.log_pz - log_qz)
        factor = 1 - beta * (1 - torch.softmax(log_weights.detach(), 0))
        terms.z.register_hook(lambda grad: grad * factor.unsqueeze(-1))
        return log_weights


class BetaTC(Objective):
    """The bound with its KL term split in three: the total correlation is weighed by `beta`.

    KL(q(z given x) || p(z)) is, on average over rows, the mutual information of row and z, plus
    the total correlation KL(q(z) || prod_k q(z_k)), plus the divergence of prod_k q(z_k) from the
    prior: Chen et al. (2018), arXiv:1802.04942, equation 4. With all weights 1 this is the `ELBO`.

    q(z) is the mixture of the posteriors of the batch. The paper divides by the number of all
    rows rather than those of the batch, which shifts values by a constant and no gradient. Time
    and memory go with the square of the batch. During its warm-up `beta` is below 1, the other
    two weights are not.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the mutual information.
    gamma : float, default=1.0
        Weight of the divergence of the marginals from the prior.
    """

    name = "beta_tc"

    def __init__(self, alpha: float = 1.0, gamma: float = 1.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    def check(self, beta: float) -> None:
        """Refuse negative weights."""
        _check_from_zero(alpha=self.alpha, gamma=self.gamma)

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return the bound less what the weights add to each part of the KL term.

        Written so, a KL in closed form is used where there is one: less noise than three samples.
        """
        log_qz, log_marginals = self._aggregate(terms)
        information = terms.log_qz - log_qz
        correlation = log_qz - log_marginals
        divergence = log_marginals - terms.log_pz
        added = (self.alpha - 1) * information + (self.gamma - 1) * divergence
        added = added + beta * correlation - correlation
        value: torch.Tensor = terms.reconstruction - terms.kl - added.mean(0)
        return value

    @staticmethod
    def _aggregate(terms: Any) -> Any:
        """Return log q(z) and log prod_k q(z_k) of the draws, each of shape (S, B)."""
        joint, marginals = [], []
        log_share = terms.share.log().unsqueeze(-1)
        n_rows = max(1, PAIRS // (terms.z[:, 0].numel() * len(log_share)))
        for z in terms.z.split(n_rows, 1):
            pairs = terms.posterior.component_log_prob(z.unsqueeze(2))  # (S, rows, B, K)
            joint.append(torch.logsumexp(pairs.sum(-1, keepdim=True) + log_share, -2).squeeze(-1))
            marginals.append(torch.logsumexp(pairs + log_share, -2).sum(-1))
        return torch.cat(joint, 1), torch.cat(marginals, 1)


class MMD(Objective):
    """The posteriors of all rows together held to the prior, rather than each of them.

    E[log p(x given z)] - beta (1 - alpha) KL(q(z given x) || p(z))
    - (alpha + strength - 1) MMD^2(q(z), p(z)): the InfoVAE of Zhao, Song and Ermon (2017),
    arXiv:1706.02262, `strength` being their lambda. At alpha = 1 no KL is left, and it is the
    WAE-MMD of Tolstikhin et al. (2018), arXiv:1711.01558, algorithm 2, with their kernel
    ``c / (c + |z - z'|^2)``, c = 2 K for K components; `beta` must then be 1.

    The squared maximum mean discrepancy is that of the draws of the batch from 256 of the prior,
    with the pairs of a draw and itself, so that a weight of 2 is two rows.

    Parameters
    ----------
    strength : float, default=300.0
        Weight of the discrepancy, which is between 0 and 2, in nats. With less than 100 the codes
        of small images and tables drift off the prior; with 1000 they grow noisy.
    alpha : float, default=1.0
        How much the rows' own divergences are relieved; at most 1, and at least 1 - strength.
    """

    name = "mmd"

    def __init__(self, strength: float = 300.0, alpha: float = 1.0) -> None:
        self.strength = strength
        self.alpha = alpha

    def check(self, beta: float) -> None:
        """Refuse negative weights, and a weight of the KL term where there is none."""
        _check_from_zero(strength=self.strength)
        if not isinstance(self.alpha, Real) or not 1 - self.strength <= self.alpha <= 1:
            raise ValueError(
                f"Got alpha={self.alpha!r} with strength={self.strength!r}; "
                "expected a number from 1 - strength to 1."
            )
        if self.alpha == 1:
            _refuse_beta(self, beta)

    def temperature(self, beta: float) -> float:
        """Return the weight of the KL term."""
        return beta * (1 - self.alpha)

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return reconstruction - beta * (1 - alpha) * kl - (alpha + strength - 1) * discrepancy."""
        value: torch.Tensor = terms.reconstruction
        value = value - (self.alpha + self.strength - 1) * self._discrepancy(terms)
        if self.alpha != 1:
            value = value - beta * (1 - self.alpha) * terms.kl
        elif terms.y is not None:  # all classes together meet their priors; each prior has to find its own
            value = value + terms.prior_fit()
        return value

    @staticmethod
    def _discrepancy(terms: Any) -> Any:
        """Return the squared discrepancy of the draws from those of the prior, shape ()."""
        n_draws, _, n_components = terms.z.shape
        prior_z, prior_share = terms.prior_draws(PRIOR_DRAWS)
        z = torch.cat((terms.z.flatten(0, 1), prior_z))
        share = torch.cat(((terms.share / n_draws).repeat(n_draws), -prior_share))
        square = z.square().sum(-1)
        distance = (square[:, None] + square - 2 * z @ z.T).clamp(min=0)  # two of a kind: rounding
        c = 2 * n_components
        return share @ (c / (c + distance)) @ share


class DIP(Objective):
    """The bound less what the covariance of q(z) lacks of the identity: disentangled components.

    Kumar, Sattigeri and Balakrishnan (2018), DIP-VAE, arXiv:1711.00848: kind "i" is equation 6,
    where the covariance is that of the posterior means, kind "ii" equation 7, where the mean of
    their variances is added. The covariance is that of the batch, over the sum of the weights.

    Parameters
    ----------
    kind : {"i", "ii"}, default="ii"
    off_diagonal : float, default=10.0
        Weight of the squared covariances, in nats. 0 with `diagonal` 0 is the `ELBO`.
    diagonal : float, default=10.0
        Weight of the squared differences of the variances from 1. The paper has the same as
        `off_diagonal` for kind "ii" and 10 times that for kind "i".
    """

    name = "dip"

    def __init__(
        self, kind: Literal["i", "ii"] = "ii", off_diagonal: float = 10.0, diagonal: float = 10.0
    ) -> None:
        self.kind = kind
        self.off_diagonal = off_diagonal
        self.diagonal = diagonal

    def check(self, beta: float) -> None:
        """Refuse other kinds and negative weights."""
        if self.kind not in ("i", "ii"):
            raise ValueError(f"Got kind={self.kind!r}; expected 'i' or 'ii'.")
        _check_from_zero(off_diagonal=self.off_diagonal, diagonal=self.diagonal)

    def temperature(self, beta: float) -> float:
        """Return the weight of the KL term."""
        return beta

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return reconstruction - beta * kl - penalty of the batch."""
        mean, share = terms.posterior.mean, terms.share.unsqueeze(-1)
        centered = mean - (share * mean).sum(0)
        covariance = (share * centered).T @ centered
        variances = covariance.diagonal()
        off_diagonal = covariance - torch.diag(variances)
        if self.kind == "ii":
            variances = variances + (share * terms.posterior.std.square()).sum(0)
        penalty = self.off_diagonal * off_diagonal.square().sum()
        penalty = penalty + self.diagonal * (variances - 1).square().sum()
        value: torch.Tensor = terms.reconstruction - beta * terms.kl - penalty
        return value


class Autoencoder(Objective):
    """Maximise log p(x given z) at the posterior mean: a plain autoencoder, for comparison.

    No noise and no KL term, so nothing keeps the latents together: `sample` of such a model draws
    from a prior that it was never trained with. The standard deviations of q(z given x) are not
    trained either, so `posterior`, `score_samples` and `kl_per_component_` tell nothing in nats.
    """

    name = "autoencoder"
    n_draws = 0

    def check(self, beta: float) -> None:
        """Refuse a weight of the KL term, which is not there."""
        _refuse_beta(self, beta)

    def __call__(self, terms: Any, beta: float) -> torch.Tensor:
        """Return the reconstruction term alone."""
        reconstruction: torch.Tensor = terms.reconstruction
        return reconstruction


def _check_from_zero(**constants: Any) -> None:
    for name, value in constants.items():
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"Got {name}={value!r}; expected a number of at least 0.")


def _refuse_beta(objective: Any, beta: float) -> None:
    if beta != 1:
        raise ValueError(
            f"Got beta={beta!r} with objective={objective.name!r}, which has no KL term to weigh; "
            "expected beta=1. Leave beta out or use objective='elbo'."
        )
