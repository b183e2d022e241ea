"""Priors p(z), trained with the model, scored and sampled from.

A `Prior` is a specification; its `build` returns a `PriorModel`, the module that is trained.
"""

import math
from abc import ABC, abstractmethod
from numbers import Integral

import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.autograd.function import once_differentiable

__all__ = ["Mixture", "Prior", "PriorModel", "StandardNormal"]

LOG_2PI = math.log(2 * math.pi)
MIN_LOG_STD = -4.0  # narrower modes lose digits in float32


class Prior(BaseEstimator, ABC):
    """Specification of p(z).

    Attributes
    ----------
    name : str
        What users type as ``prior=``.
    """

    name: str

    @abstractmethod
    def build(self, latent_dim):
        """Return the `PriorModel` over `latent_dim` dimensions."""


class PriorModel(nn.Module, ABC):
    """A density over latent vectors."""

    @abstractmethod
    def log_prob(self, z):
        """Return log p(z) in nats for z of shape (..., latent_dim), shape (...)."""

    @abstractmethod
    def sample(self, n_samples, generator):
        """Draw z, shape (n_samples, latent_dim)."""

    @abstractmethod
    def kl_from(self, posterior):
        """Return KL(q || p) of a `Posterior` in closed form, shape (B,), or None without one."""


class StandardNormal(Prior):
    """N(0, I), the prior of Kingma and Welling (2014), arXiv:1312.6114."""

    name = "normal"

    def build(self, latent_dim):
        """Return a module without parameters."""
        return _StandardNormalModel(latent_dim)


class _StandardNormalModel(PriorModel):
    def __init__(self, latent_dim):
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim))

    def log_prob(self, z):
        return -0.5 * (z.square() + LOG_2PI).sum(-1)

    def sample(self, n_samples, generator):
        return torch.randn(
            (n_samples, len(self.zero)), generator=generator, dtype=self.zero.dtype, device=self.zero.device
        )

    def kl_from(self, posterior):
        return _StandardNormalKL.apply(posterior.mean, posterior.log_std, posterior.std.detach())


class _StandardNormalKL(torch.autograd.Function):
    """0.5 * sum(mean^2 + std^2 - 1 - 2 log_std), Kingma and Welling, appendix B, by fewer kernels."""

    @staticmethod
    def forward(ctx, mean, log_std, std):
        ctx.save_for_backward(mean, std)
        squares = torch.addcmul(torch.addcmul(-log_std, mean, mean, value=0.5), std, std, value=0.5)
        return squares.sum(-1).sub_(0.5 * mean.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        mean, std = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return grad * mean, torch.addcmul(-grad, grad * std, std), None


class Mixture(Prior):
    """A mixture of Gaussians with diagonal covariances, learned with the model.

    Parameters
    ----------
    n_modes : int, default=10
        Number of Gaussians.
    """

    name = "mixture"

    def __init__(self, n_modes=10):
        self.n_modes = n_modes

    def build(self, latent_dim):
        """Return modes scattered around zero, of equal weights."""
        if not isinstance(self.n_modes, Integral) or self.n_modes < 1:
            raise ValueError(f"Got n_modes={self.n_modes!r}; expected a whole number of at least 1.")
        return _MixtureModel(latent_dim, self.n_modes)


class _MixtureModel(PriorModel):
    def __init__(self, latent_dim, n_modes):
        super().__init__()
        self.means = nn.Parameter(0.5 * torch.randn(n_modes, latent_dim))
        self.log_stds = nn.Parameter(torch.zeros(n_modes, latent_dim))
        self.logits = nn.Parameter(torch.zeros(n_modes))

    def log_prob(self, z):
        return _MixtureLogProb.apply(z, self.means, self.log_stds, self.logits)

    def sample(self, n_samples, generator):
        mode = torch.multinomial(
            torch.softmax(self.logits, 0), n_samples, replacement=True, generator=generator
        )
        noise = torch.randn(
            (n_samples, self.means.shape[1]),
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        return self.means[mode] + noise * torch.exp(self.log_stds[mode].clamp(min=MIN_LOG_STD))

    def kl_from(self, posterior):
        return None


class _MixtureLogProb(torch.autograd.Function):
    """Log-density of a mixture of diagonal Gaussians by few kernels.

    The logarithms of all weighted modes are one product, of [z, z^2] and a matrix of the modes'
    scaled means and precisions, so that no tensor of shape (..., n_modes, K) is made.
    """

    @staticmethod
    def forward(ctx, z, means, log_stds, logits):
        bounded = log_stds.clamp(min=MIN_LOG_STD)
        precision = torch.exp(-2 * bounded)
        scaled = means * precision
        weights = torch.log_softmax(logits, 0)
        constant = weights - (bounded + 0.5 * (means * scaled + LOG_2PI)).sum(-1)
        flat = z.reshape(-1, z.shape[-1])
        powers = torch.cat((flat, flat.square()), 1)
        factors = torch.cat((scaled, -0.5 * precision), 1)
        joint = torch.addmm(constant, powers, factors.t())
        log_prob = torch.logsumexp(joint, 1, keepdim=True)
        shares = joint.sub_(log_prob).exp_()
        ctx.save_for_backward(powers, factors, shares, means, log_stds, precision, weights)
        return log_prob.view(z.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        powers, factors, shares, means, log_stds, precision, weights = ctx.saved_tensors
        shares = shares * grad.reshape(-1, 1)
        z, first, second = powers.chunk(2, 1)[0], *(shares @ factors).chunk(2, 1)
        grad_z = torch.addcmul(first, z, second, value=2).view(*grad.shape, -1)
        mass = shares.sum(0)[:, None]
        first, second = (shares.t() @ powers).chunk(2, 1)
        centred = torch.addcmul(first, mass, means, value=-1)  # sum of shares * (z - mean)
        grad_means = precision * centred
        squares = second - means * (first + centred)  # sum of shares * (z - mean)^2
        grad_log_stds = (precision * squares - mass) * (log_stds >= MIN_LOG_STD)
        mass = mass.squeeze(1)
        return grad_z, grad_means, grad_log_stds, mass - weights.exp() * mass.sum()
