"""Builders of networks."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from torch import nn

from skvae import networks
from skvae._random import global_seed
from skvae.networks import ACTIVATIONS, MLP

BUILDERS = [
    cls()
    for cls in (getattr(networks, name) for name in networks.__all__)
    if isinstance(cls, type) and issubclass(cls, BaseEstimator)
]
VARIANTS = [MLP(()), MLP((5,)), MLP((5, 4, 3), "tanh"), *(MLP((6,), name) for name in ACTIVATIONS)]
contract = pytest.mark.parametrize("builder", [*BUILDERS, *VARIANTS], ids=repr)


def build(builder, in_features=3, out_features=4, seed=0):
    with global_seed(seed):
        return builder(in_features, out_features)


@contract
@pytest.mark.parametrize("shape", [(2,), (5, 2), (0,), (2, 3, 4)])
def test_maps_the_last_axis(builder, shape):
    x = torch.randn((*shape, 3), generator=torch.Generator().manual_seed(0))
    module = build(builder)
    assert isinstance(module, nn.Module)
    out = module(x)
    assert out.shape == (*shape, 4)
    rows = module(x.reshape(-1, 3)).reshape(out.shape)
    torch.testing.assert_close(out, rows)


@contract
def test_rows_do_not_mix(builder):
    x = torch.randn((6, 3), generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    module = build(builder).double()
    module(x)[2].sum().backward()
    assert (x.grad[[0, 1, 3, 4, 5]] == 0).all()


@contract
def test_gradients_reach_every_parameter(builder):
    x = torch.randn((50, 3), generator=torch.Generator().manual_seed(0))
    module = build(builder)
    (module(x) ** 2).sum().backward()
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name


@contract
def test_the_seed_decides_the_weights(builder):
    first, second, other = build(builder), build(builder), build(builder, seed=1)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@contract
def test_is_a_specification(builder):
    assert vars(builder) == builder.get_params()
    assert clone(builder).get_params() == builder.get_params()
    assert eval(repr(builder)).get_params() == builder.get_params()
    assert set(builder.get_params()) == set(inspect.signature(type(builder)).parameters)


@pytest.mark.parametrize("builder", [MLP(()), MLP((5,), "identity")], ids=repr)
def test_without_curves_it_is_linear(builder):
    module = build(builder).double()
    x, y = torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(0)).double()
    zero = module(torch.zeros(1, 3).double())
    torch.testing.assert_close(module(x + 2 * y) - zero, module(x) - zero + 2 * (module(y) - zero))


def test_no_activation_after_the_last_layer():
    out = build(MLP((20,), "relu"))(10 * torch.randn((200, 3), generator=torch.Generator().manual_seed(0)))
    assert (out < 0).any(0).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_what_their_names_say(name):
    x = np.linspace(-3, 3, 13)
    phi = np.vectorize(lambda t: 0.5 * (1 + torch.erf(torch.tensor(t / np.sqrt(2))).item()))
    want = {
        "elu": np.where(x > 0, x, np.expm1(x)),
        "gelu": x * phi(x),
        "identity": x,
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "relu": np.maximum(x, 0),
        "silu": x / (1 + np.exp(-x)),
        "softplus": np.log1p(np.exp(x)),
        "tanh": np.tanh(x),
    }
    np.testing.assert_allclose(ACTIVATIONS[name]()(torch.tensor(x)), want[name], rtol=1e-9, atol=1e-12)


def test_hidden_widths_are_those_asked_for():
    sizes = [p.shape for p in build(MLP((7, 5))).parameters()]
    assert {(7, 3), (5, 7), (4, 5)} <= set(map(tuple, sizes))
