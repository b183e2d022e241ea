"""Coupling layers of rational-quadratic splines, which turn one density into another.

Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline flows, arXiv:1906.04032.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

BOUND = 5.0  # splines live between -BOUND and BOUND; beyond is the identity
N_BINS = 8
MIN_WIDTH = 1e-3  # of a bin, as a share of the interval; the paper's code has the same
MIN_SLOPE = 1e-3
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))  # softplus of it is 1 - MIN_SLOPE
N_PARAMS = 3 * N_BINS - 1  # widths, heights, and slopes at the inner knots


class Coupling(nn.Module):
    """Change some components of z by splines whose shape a network reads off the others.

    Starts as the identity, whatever the components.

    Parameters
    ----------
    kept, changed : Tensor of int
        Which components are which. Without any kept, the splines are the same for every z.
    hidden_features : int
        Width of the network's two hidden layers.
    """

    kept: torch.Tensor
    changed: torch.Tensor

    def __init__(self, kept: torch.Tensor, changed: torch.Tensor, hidden_features: int) -> None:
        super().__init__()
        self.register_buffer("kept", kept)
        self.register_buffer("changed", changed)
        self.offset = nn.Parameter(torch.zeros(len(changed), N_PARAMS))
        self.network = None
        if len(kept):
            last = nn.Linear(hidden_features, len(changed) * N_PARAMS, bias=False)
            nn.init.zeros_(last.weight)
            self.network = nn.Sequential(
                nn.Linear(len(kept), hidden_features),
                nn.SiLU(),
                nn.Linear(hidden_features, hidden_features),
                nn.SiLU(),
                last,
            )

    def forward(self, z: torch.Tensor, inverse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the new z, shape (..., K), and the log-determinant of the change, shape (...)."""
        params = self.offset
        if self.network is not None:
            params = params + self.network(z[..., self.kept]).unflatten(-1, self.offset.shape)
        new, log_slope = spline(z[..., self.changed], params, inverse)
        return z.index_copy(-1, self.changed, new), log_slope.sum(-1)


def spline(x: torch.Tensor, params: torch.Tensor, inverse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Map x, shape (...), by a monotone spline each, of params of shape (..., 3 * N_BINS - 1).

    Equations 4 to 8 of the paper. Params of 0 give the identity.

    Returns
    -------
    y : Tensor of shape (...)
    log_slope : Tensor of shape (...)
        log dy/dx.
    """
    widths, heights, slopes = params.expand(*x.shape, -1).split([N_BINS, N_BINS, N_BINS - 1], -1)
    x_knots, y_knots = _knots(widths), _knots(heights)
    slopes = F.pad(MIN_SLOPE + F.softplus(slopes + UNIT_SLOPE), (1, 1), value=1.0)
    outside, x_in = x.abs() >= BOUND, x.clamp(-BOUND, BOUND)
    inner = (y_knots if inverse else x_knots)[..., 1:-1]
    left = (inner <= x_in.unsqueeze(-1)).sum(-1, keepdim=True)
    x0, y0, slope0 = (t.gather(-1, left).squeeze(-1) for t in (x_knots, y_knots, slopes))
    x1, y1, slope1 = (t.gather(-1, left + 1).squeeze(-1) for t in (x_knots, y_knots, slopes))
    width, height = x1 - x0, y1 - y0
    chord = height / width
    excess = slope0 + slope1 - 2 * chord
    if inverse:
        rise = x_in - y0
        a = height * (chord - slope0) + rise * excess
        b = height * slope0 - rise * excess
        root = (b.square() + 4 * a * chord * rise).clamp(min=0).sqrt()
        t = (2 * chord * rise / (b + root)).clamp(0, 1)  # of the way through the bin
        y = x0 + t * width
    else:
        t = (x_in - x0) / width
    between = t * (1 - t)
    denominator = chord + excess * between
    if not inverse:
        y = y0 + height * (chord * t.square() + slope0 * between) / denominator
    numerator = slope1 * t.square() + 2 * chord * between + slope0 * (1 - t).square()
    log_slope = 2 * torch.log(chord / denominator) + torch.log(numerator)
    log_slope = -log_slope if inverse else log_slope
    return torch.where(outside, x, y), torch.where(outside, 0.0, log_slope)


def _knots(logits: torch.Tensor) -> torch.Tensor:
    """Return the N_BINS + 1 ends of bins whose shares of the interval the logits give."""
    shares = MIN_WIDTH + (1 - MIN_WIDTH * N_BINS) * torch.softmax(logits, -1)
    inner = 2 * BOUND * torch.cumsum(shares[..., :-1], -1) - BOUND
    return F.pad(F.pad(inner, (1, 0), value=-BOUND), (0, 1), value=BOUND)
