"""Builders of encoders and decoders: ``(in_features, out_features) -> nn.Module``."""

from itertools import pairwise

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
    """Build a multi-layer perceptron.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Widths from input to output. Empty: a linear map.
    activation : str, default="silu"
        A key of `ACTIVATIONS`.

    Examples
    --------
    >>> from skvae.networks import MLP
    >>> MLP((32,), "relu")(64, 4)
    Sequential(
      (0): Linear(in_features=64, out_features=32, bias=True)
      (1): ReLU()
      (2): Linear(in_features=32, out_features=4, bias=True)
    )
    """

    def __init__(self, hidden_layer_sizes=(128, 128), activation="silu"):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation

    def __call__(self, in_features, out_features):
        """Return the module that maps (..., in_features) to (..., out_features)."""
        sizes = [in_features, *self.hidden_layer_sizes, out_features]
        layers = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])
