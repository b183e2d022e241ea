"""Builders of encoders and decoders: ``(in_features, out_features) -> nn.Module``."""

from itertools import pairwise

import torch
from sklearn.base import BaseEstimator
from torch import nn

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(BaseEstimator):
    """Build a multi-layer perceptron beside a linear map: x -> layers(x) + skip(x).

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Widths from input to output. Empty: the linear map alone.
    activation : str, default="silu"
        A key of `ACTIVATIONS`.
    norm : bool, default=False
        Normalise each hidden layer before its activation, by Ba, Kiros and Hinton (2016), Layer
        normalization, arXiv:1607.06450.
    skip : bool, default=True
        Add the linear map. An encoder and a decoder with it contain probabilistic PCA.
    bend : bool, default=False
        Take the symmetric logarithm of the input, sign(x) log(1 + abs(x)), which tames values of
        many standard deviations and loses none: symlog of Hafner et al. (2023), arXiv:2301.04104.

    Examples
    --------
    >>> from skvae.networks import MLP
    >>> MLP((32,), "relu", skip=False)(64, 4)
    Sequential(
      (0): Linear(in_features=64, out_features=32, bias=True)
      (1): ReLU()
      (2): Linear(in_features=32, out_features=4, bias=True)
    )
    """

    def __init__(
        self, hidden_layer_sizes=(128, 128), activation="silu", *, norm=False, skip=True, bend=False
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.norm = norm
        self.skip = skip
        self.bend = bend

    def __call__(self, in_features, out_features):
        """Return the module that maps (..., in_features) to (..., out_features)."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"Got activation={self.activation!r}; expected one of {sorted(ACTIVATIONS)}.")
        sizes = [in_features, *self.hidden_layer_sizes]
        layers = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), *([nn.LayerNorm(o)] if self.norm else [])]
            layers += [ACTIVATIONS[self.activation]()]
        last = nn.Linear(sizes[-1], out_features)
        network = nn.Sequential(*layers, last)
        if self.skip and layers:
            network = _WithSkip(network, nn.Linear(in_features, out_features, bias=False))
            with torch.no_grad():
                last.weight.mul_(0.1)  # the linear map leads at first
        return nn.Sequential(_Bend(), network) if self.bend else network


class _WithSkip(nn.Module):
    def __init__(self, network, skip):
        super().__init__()
        self.network = network
        self.skip = skip

    def forward(self, x):
        if x.ndim != 2:
            return self.network(x) + self.skip(x)
        return torch.addmm(self.network(x), x, self.skip.weight.t())  # product and sum in one kernel


class _Bend(nn.Module):
    def forward(self, x):
        return torch.copysign(torch.log1p(x.abs()), x)
