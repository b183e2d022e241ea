"""The density of a mixture of diagonal Gaussians, differentiated by hand."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

LOG_2PI = math.log(2 * math.pi)
MIN_LOG_STD = -4.0  # narrower modes lose digits in float32
JUST_BELOW = MIN_LOG_STD - 1e-6  # modes of the least width may widen


def joint_log_prob(z: torch.Tensor, means: Any, log_stds: Any, logits: Any) -> tuple[Any, ...]:
    """Return the log-density of each mode with its weight, shape (N, n_modes), and what it is made of."""
    bounded = log_stds.clamp(min=MIN_LOG_STD)
    precision = torch.exp(-2 * bounded)
    scaled = means * precision
    weights = torch.log_softmax(logits, 0)
    volume = torch.addcmul(bounded, means, scaled, value=0.5).sum(-1)
    constant = (weights - volume).sub_(0.5 * LOG_2PI * means.shape[-1])
    powers = torch.cat((z, z.square()), 1)
    factors = torch.cat((scaled, -0.5 * precision), 1)
    return torch.addmm(constant, powers, factors.t()), powers, factors, precision, weights


class MixtureLogProb(torch.autograd.Function):
    """Log-density of a mixture of diagonal Gaussians by few kernels.

    The logarithms of all weighted modes are one product, of [z, z^2] and a matrix of the modes'
    scaled means and precisions, so that no tensor of shape (..., n_modes, K) is made.
    """

    apply: Callable[..., torch.Tensor]  # torch has not annotated it

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, means: Any, log_stds: Any, logits: Any) -> Any:
        flat = z.reshape(-1, z.shape[-1])
        joint, powers, factors, precision, weights = joint_log_prob(flat, means, log_stds, logits)
        shares = torch.softmax(joint, 1)
        log_prob = (joint.amax(1) - shares.amax(1).log_()).view(z.shape[:-1])  # half the time of logsumexp
        ctx.save_for_backward(powers, factors, shares, means, log_stds, precision, weights)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        powers, factors, shares, means, log_stds, precision, weights = ctx.saved_tensors
        shares = shares * grad.reshape(-1, 1)
        z = powers[:, : means.shape[1]]
        first, second = (shares @ factors).chunk(2, 1)
        grad_z = torch.addcmul(first, z, second, value=2).view(*grad.shape, -1)
        mass = shares.sum(0)[:, None]
        first, second = (shares.t() @ powers).chunk(2, 1)
        centred = torch.addcmul(first, mass, means, value=-1)  # sum of shares * (z - mean)
        grad_means = precision * centred
        # sum of shares * (z - mean)^2
        squares = torch.addcmul(second, means, first + centred, value=-1)
        grad_log_stds = torch.addcmul(-mass, precision, squares)
        grad_log_stds = torch.ops.aten.threshold_backward(grad_log_stds, log_stds, JUST_BELOW)
        mass = mass.squeeze(1)
        grad_logits = torch.addcmul(mass, weights.exp(), mass.sum(), value=-1)
        return grad_z, grad_means, grad_log_stds, grad_logits
