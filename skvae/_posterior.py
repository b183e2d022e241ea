"""Normal densities of z, and draws that are weighted by them and others."""

import math

import torch

from ._random import uniform

__all__ = ["Posterior", "log_mean", "log_mixture", "moments", "resample"]

LOG_2PI = math.log(2 * math.pi)
LEAST_CONTROLLED = 50  # draws from which on control variates do not bias their mean
PSEUDO_DRAWS = 2.0  # that the spread one starts from counts as, beside draws of weight


class Posterior:
    """Normal density q(z given x) = N(mean, diag std^2), one for each of B rows.

    Parameters
    ----------
    mean, log_std : Tensor of shape (B, K)

    Attributes
    ----------
    std : Tensor of shape (B, K)
    """

    def __init__(self, mean: torch.Tensor, log_std: torch.Tensor) -> None:
        self.mean = mean
        self.log_std = log_std
        self.std = torch.exp(log_std)

    def rsample(self, noise: torch.Tensor) -> torch.Tensor:
        """Return mean + std * noise, shape (S, B, K), for noise that broadcasts to it."""
        z = self.mean + self.std * noise.squeeze(0)  # one draw: no sum over them backward
        return z if z.ndim == noise.ndim else z.unsqueeze(0)

    def log_prob(self, noise: torch.Tensor) -> torch.Tensor:
        """Return log q of the draw that `noise` makes, shape (S, B)."""
        one = noise.squeeze(0)
        squares = torch.addcmul(self.log_std, one, one, value=0.5).sum(-1)
        log_prob = -0.5 * LOG_2PI * noise.shape[-1] - squares
        return log_prob if one.ndim == noise.ndim else log_prob.unsqueeze(0)

    def component_log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return log q of each component of any z that broadcasts to (B, K)."""
        return -0.5 * (((z - self.mean) / self.std).square() + LOG_2PI) - self.log_std

    def detach(self) -> "Posterior":
        """Return the same posteriors as constants, without a gradient."""
        return Posterior(self.mean.detach(), self.log_std.detach())


def log_mixture(
    z: torch.Tensor, log_pz: torch.Tensor, sources: list[tuple[Posterior, int]], n_there: int
) -> torch.Tensor:
    """Return the log-density of draws from several posteriors and from the prior, all together."""
    n = n_there + sum(n for _, n in sources)
    parts = [q.component_log_prob(z).sum(-1) + math.log(m / n) for q, m in sources]
    if n_there:
        parts.append(log_pz + math.log(n_there / n))
    return torch.logsumexp(torch.stack(parts), 0) if len(parts) > 1 else parts[0]


def log_mean(log_weights: torch.Tensor, log_share: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean weight of draws from several sources together, shape (B,).

    The share of one source in the density of all is 1 on average; what the weights owe to its being another
    among these draws is taken off (a control variate).

    Parameters
    ----------
    log_weights, log_share : Tensor of shape (S, B)
    """
    most = log_weights.amax(0)
    most = torch.where(torch.isinf(most), 0.0, most)  # of a row that has probability 0
    if len(log_weights) < LEAST_CONTROLLED:  # too few to tell how both go together
        return most + torch.log(torch.exp(log_weights - most).mean(0))
    weight, excess = torch.exp(log_weights - most), torch.exp(log_share) - 1
    mean, scatter = weight.mean(0), excess - excess.mean(0)
    slope = (scatter * weight).sum(0) / scatter.square().sum(0).clamp(min=torch.finfo(mean.dtype).tiny)
    better = mean - slope * excess.mean(0)
    return most + torch.log(torch.maximum(torch.minimum(better, 2 * mean), mean / 2))


def moments(z: torch.Tensor, weight: torch.Tensor, start: Posterior) -> Posterior:
    """Return the normal density with the moments of weighted draws.

    Its variance is nearer to that of `start` the fewer draws have nearly all of the weight.
    """
    share = weight.square().sum(0).unsqueeze(-1)  # one over how many draws count
    weight = weight.unsqueeze(-1)
    mean = (weight * z).sum(0)
    variance = (weight * (z - mean).square()).sum(0)
    variance = (variance + PSEUDO_DRAWS * share * start.std.square()) / (1 + PSEUDO_DRAWS * share)
    return Posterior(mean, 0.5 * torch.log(variance))


def resample(weight: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n indices for each row of weights, shape (B, n), in random order.

    By systematic resampling (Kitagawa, 1996, doi:10.1080/10618600.1996.10474692): an index is drawn
    twice only if its share is more than 1 / n, where independent draws would repeat others too.
    """
    u = uniform((len(weight), 1), weight, generator)
    sums = weight.cumsum(1)
    place = torch.randperm(n, generator=generator, device=generator.device).to(weight.device)
    points = (place + u) / n * sums[:, -1:]
    return torch.searchsorted(sums, points, right=True).clamp(max=weight.shape[1] - 1)
