"""Adam with a Gaussian prior on some of the weights, in one pass over them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn

MOST, SLOW = 3.0, 0.02  # norm of a gradient in usual ones; share of the latest in that average


class Adam:
    """Adam with a Gaussian prior on some of the weights, in one pass over them.

    The update of Kingma and Ba (2015), arXiv:1412.6980, by the kernel behind
    ``torch.optim.Adam(fused=True)``, without that class: it imports torch's compiler, which
    takes seconds, and costs a small network as much time as its matrix products.

    One step moves a weight by at most (1 - 0.9) / sqrt(1 - 0.99) = 1 times the rate, whatever the
    gradient. Where single gradients are far larger than others, the next ten steps go the same way, all
    weights together, which `step` can prevent.

    Parameters
    ----------
    groups : sequence of (list of Parameter, float, float)
        Weights, the precision of their prior (half of it times their squares is added to the
        loss), and the factor of their learning rate.
    averaging : bool
        Keep an average over the last tenth of all steps, after Polyak and Juditsky (1992),
        doi:10.1137/0330046.
    """

    betas = (0.9, 0.99)
    eps = 1e-8

    def __init__(
        self, groups: Sequence[tuple[list[nn.Parameter], float, float]], averaging: bool = False
    ) -> None:
        self.parameters: list[torch.Tensor] = [p for parameters, _, _ in groups for p in parameters]
        ends = list(accumulate(len(parameters) for parameters, _, _ in groups))
        self.groups = [
            (range(end - len(parameters), end), weight_decay, factor)
            for end, (parameters, weight_decay, factor) in zip(ends, groups, strict=True)
        ]
        self.averaging = averaging
        self.reset()

    def reset(self) -> None:
        """Forget the moments of the gradients, and the average."""
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.n_steps = torch.zeros((), dtype=torch.float32, device=self.parameters[0].device)
        self.usual_norm = torch.zeros_like(self.n_steps)
        self.average = [p.detach().clone() for p in self.parameters] if self.averaging else []

    def state(self) -> dict[str, Any]:
        """Return what `load_state` takes."""
        tensors = [self.first, self.second, self.average]
        return {"tensors": tensors, "n_steps": self.n_steps, "usual_norm": self.usual_norm}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        own = [self.first, self.second, self.average]
        for ours, theirs in zip(own, state["tensors"], strict=True):
            for tensor, value in zip(ours, theirs, strict=True):
                tensor.copy_(value)
        self.n_steps = state["n_steps"].to(self.n_steps, copy=True)
        self.usual_norm = state["usual_norm"].to(self.n_steps, copy=True)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchange the weights and their average, where one is kept."""
        if self.averaging:
            weights = [p.clone() for p in self.parameters]
            torch._foreach_copy_(self.parameters, self.average)
            self.average = weights

    @torch.no_grad()
    def step(self, gradients: Sequence[Any], rate: Any, clip: bool = False) -> None:
        """Update the weights at a rate, a number or tensor; a gradient of None leaves its weights alone.

        With `clip`, gradients whose norm together is above `MOST` times the usual one are cut to that,
        after Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063.
        """
        excess = self._excess(gradients) if clip else None
        self.n_steps += 1
        gradients = [_laid_out_as(p, g) for p, g in zip(self.parameters, gradients, strict=True)]
        for part, weight_decay, factor in self.groups:
            known = [i for i in part if gradients[i] is not None]
            if not known:  # the kernel takes no empty lists
                continue
            torch._fused_adam_(
                [self.parameters[i] for i in known],
                [gradients[i] for i in known],
                [self.first[i] for i in known],
                [self.second[i] for i in known],
                [],
                [self.n_steps] * len(known),
                lr=rate if factor == 1 else rate * factor,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=weight_decay,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=excess,
            )
        if self.averaging:
            steps = torch._foreach_sub(self.parameters, self.average)
            torch._foreach_mul_(steps, 10 / (10 + self.n_steps))
            torch._foreach_add_(self.average, steps)

    def _excess(self, gradients: Sequence[Any]) -> torch.Tensor:
        """Return what to divide the gradients by, 1 or more; go on with the average of their norms."""
        norms = torch._foreach_norm([g for g in gradients if g is not None])
        norm = torch.linalg.vector_norm(torch.stack([n.float() for n in norms]))
        most = MOST * torch.where(self.usual_norm > 0, self.usual_norm, norm)
        share = torch.where(self.usual_norm > 0, SLOW, 1.0).to(norm)
        self.usual_norm.lerp_(torch.minimum(norm, most), share)
        return (norm / most.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(min=1.0)


def _laid_out_as(parameter: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor | None:
    """Return a gradient with the strides of its parameter, which the kernel takes for granted."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
