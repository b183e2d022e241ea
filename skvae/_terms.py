"""What a bound on log p(x) is made of."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ._posterior import Posterior

if TYPE_CHECKING:
    from ._prior import PriorModel

__all__ = ["Terms"]


class Terms:
    """The pieces of the bound for S draws of B rows, each computed when first asked for.

    Attributes
    ----------
    posterior : Posterior
    z : Tensor of shape (S, B, K)
    output : Tensor of shape (S, B, P)
        What the decoder made of z.
    log_px : Tensor of shape (S, B)
        log p(x given z), summed over the columns.
    weight : Tensor of shape (B,) or None
        What each row counts in the statistics of the batch; None means all the same.
    y : Tensor of int, shape (B,), or None
        Classes, where they are known.
    """

    def __init__(
        self,
        prior: "PriorModel",
        posterior: Posterior,
        noise: torch.Tensor,
        z: torch.Tensor,
        output: torch.Tensor,
        log_px: torch.Tensor,
        weight: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
    ) -> None:
        self.posterior = posterior
        self.z = z
        self.output = output
        self.log_px = log_px
        self.weight = weight
        self._prior = prior
        self._noise = noise
        self.y = y

    @cached_property
    def log_pz(self) -> torch.Tensor:
        """Density log p(z), or log p(z given y) where classes are known, shape (S, B)."""
        return self._prior.log_prob(self.z, self.y)

    @cached_property
    def log_qz(self) -> torch.Tensor:
        """Density log q(z given x), shape (S, B)."""
        return self.posterior.log_prob(self._noise)

    @cached_property
    def reconstruction(self) -> torch.Tensor:
        """E[log p(x given z)] under q, shape (B,)."""
        return _mean(self.log_px)

    @cached_property
    def kl(self) -> torch.Tensor:
        """KL(q(z given x) || p(z)), in closed form or over the draws, shape (B,)."""
        kl = self._prior.kl_from(self.posterior, self.y)
        return _mean(self.log_qz - self.log_pz) if kl is None else kl

    @property
    def log_weights(self) -> torch.Tensor:
        """Importance weights log p(x, z) - log q(z given x), shape (S, B)."""
        return self.log_px + self.log_pz - self.log_qz

    @cached_property
    def share(self) -> torch.Tensor:
        """Share of each row in the batch, shape (B,): a sum weighted with it is a mean over rows."""
        if self.weight is None:
            return torch.full_like(self.log_px[0].detach(), 1 / self.log_px.shape[1])
        weight = self.weight + torch.finfo(self.weight.dtype).tiny  # weights may all be 0
        return weight / weight.sum()

    def prior_draws(self, n_draws: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw from the prior, as random as the noise of the rows and as repeatable.

        Returns
        -------
        z : Tensor of shape (n_draws, K)
            Constants.
        weight : Tensor of shape (n_draws,)
            1 / n_draws in value; a mean weighted with it has the gradient of the expectation
            under the prior, by the score function, whatever the prior.
        """
        seed = int(self._noise[0, 0, :1].view(torch.int32)[0].item())  # the bits of one number
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            z = self._prior.sample(n_draws, generator).to(self.z)
        log_pz = self._prior.log_prob(z)
        return z, torch.softmax(log_pz - log_pz.detach(), 0)

    def prior_fit(self) -> torch.Tensor:
        """Return 0 for each row, shape (B,), with the gradient of E[log p(z given y)] by the prior alone."""
        log_pz = _mean(self._prior.log_prob(self.z.detach(), self.y))
        return log_pz - log_pz.detach()


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Average over the draws; one alone needs only a view."""
    return values.squeeze(0) if len(values) == 1 else values.mean(0)
