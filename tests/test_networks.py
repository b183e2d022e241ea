"""Builders of networks."""

import inspect
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from skvae import VAETransformer, networks
from skvae._random import global_seed
from skvae._validation import build_network
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.networks import ACTIVATIONS, MLP, Conv

# builders of 3 features in and 4 out
BUILDERS = [MLP(), Conv((1, 1, 3)), Conv((1, 2, 2))]
VARIANTS = [MLP(()), MLP((5,)), MLP((5, 4, 3), "tanh"), *(MLP((6,), name) for name in ACTIVATIONS)]
VARIANTS += [Conv((3, 1, 1), (5, 6, 7)), Conv((1, 4, 1), (2,), ()), Conv((2, 1, 2), (4,), (6, 5), "tanh")]
contract = pytest.mark.parametrize("builder", [*BUILDERS, *VARIANTS], ids=repr)


def test_all_builders_are_under_contract():
    public = [getattr(networks, name) for name in networks.__all__]
    classes = {cls for cls in public if isinstance(cls, type) and issubclass(cls, BaseEstimator)}
    assert {type(builder) for builder in BUILDERS} == classes


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


MOST = 2.0**126  # beyond, twice the value is no float32


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-MOST, MOST, width=32) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1)
)
def test_the_bend_is_an_inverse_hyperbolic_sine(values):
    bend = MLP((2,), bend=True)(1, 1)[0]
    x = torch.tensor(values, requires_grad=True)
    torch.testing.assert_close(bend(x), torch.asinh(x), atol=3e-7, rtol=1e-6, equal_nan=True)
    slope = torch.autograd.grad(bend(x).sum(), x)[0].double()
    expected = 1 / torch.hypot(x.detach().double(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(slope, expected, atol=1e-38, rtol=1e-6, equal_nan=True)
    double = torch.tensor([-2.0, -0.1, 0.0, 3.0, 1e5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bend, double)


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


# -- images --------------------------------------------------------------------------------------


@st.composite
def convs(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33)))
    channels = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return Conv(shape, tuple(channels), tuple(draw(st.lists(st.integers(2, 6), max_size=2))))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(conv=convs(), n_images=st.integers(1, 3), k=st.integers(1, 6))
def test_any_image_goes_in_and_comes_out(conv, n_images, k):
    size = n_images * math.prod(conv.image_shape)
    x = torch.randn((5, size), generator=torch.Generator().manual_seed(0)).double()
    with global_seed(0):
        encoder = conv.build_encoder(size, 2 * k).double()
        decoder = conv.build_decoder(k, size).double()
    code = encoder(x)
    image = decoder(code[:, :k])
    assert code.shape == (5, 2 * k)
    assert image.shape == x.shape
    torch.testing.assert_close(encoder(x[2:3]), code[2:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(decoder(code[2:3, :k]), image[2:3], rtol=0, atol=1e-12)
    for network, out in ((encoder, code), (decoder, image)):
        network.zero_grad()
        (out**2).sum().backward(retain_graph=True)
        for name, parameter in network.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 5), (1, 1, 9), (2, 33, 2), (1, 3, 1)])
def test_the_decoder_mirrors_the_encoder(shape):
    conv = Conv(shape, (3, 4, 5), (7, 6))
    size = math.prod(shape)
    encoder, decoder = build_network(conv, "encoder", size, 4), build_network(conv, "decoder", 4, size)

    def maps(network, features):
        sizes = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(
                    lambda _, args, out: sizes.append((args[0].shape[1:], out.shape[1:]))
                )
        network(torch.zeros(1, features))
        return sizes

    down, up = maps(encoder, size), maps(decoder, 4)
    assert down == [(i, o) for o, i in up[::-1]]
    assert down[0][0] == shape
    for i, o in down:
        assert tuple(o[1:]) == tuple(math.ceil(n / 2) for n in i[1:])
    dense = [
        [m.weight.shape for m in net.modules() if isinstance(m, nn.Linear)] for net in (encoder, decoder)
    ]
    assert dense[0] == [shape[::-1] for shape in dense[1][::-1]]


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 7, 5), (1, 1, 9)])
def test_each_pixel_is_seen_and_drawn(shape):
    conv, size = Conv(shape, (3, 4)), math.prod(shape)
    x = torch.randn((4, size), generator=torch.Generator().manual_seed(0)).requires_grad_()
    with global_seed(0):
        encoder, decoder = conv.build_encoder(size, 4), conv.build_decoder(4, size)
    encoder(x).square().sum().backward()
    assert (x.grad != 0).all()
    z = torch.randn((30, 4), generator=torch.Generator().manual_seed(0))
    assert (decoder(z).std(0) > 0).all()


def test_rows_are_laid_out_as_images():
    conv = Conv((2, 16, 24), (3,), ())
    encoder = build(conv, 2 * 2 * 16 * 24, 4)
    first = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d))
    seen = []
    first.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    image = torch.randn((1, 4, 16, 24), generator=torch.Generator().manual_seed(0))
    encoder(image.reshape(1, -1))
    assert torch.equal(seen[0][0], image)  # two values per pixel: two images, one after the other
    encoder(image.roll(4, 3).reshape(1, -1))
    # moved by 4 pixels, the map moves by 2
    torch.testing.assert_close(seen[1][1][..., 4:-2], seen[0][1][..., 2:-4], rtol=1e-4, atol=1e-6)


def test_an_untrained_decoder_draws_no_checkerboard():
    decoder = Conv((1, 16, 16), (8,), ()).build_decoder(3, 256)
    last = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)][-1]
    with torch.no_grad():
        last.weight.fill_(1.0)
        flat = last(torch.ones(1, 8, 8, 8))[0, 0, 2:-2, 2:-2]
    torch.testing.assert_close(flat, flat[:1, :1].expand_as(flat))


@pytest.mark.parametrize("k", [2, 4, 8])
def test_latents_as_many_as_pixels_confuse_nothing(k):
    conv = Conv((1, 2, 4), (3,), (5,))
    encoder, decoder = build_network(conv, "encoder", 8, 2 * k), build_network(conv, "decoder", k, 8)
    assert any(isinstance(m, nn.Conv2d) for m in encoder.modules())
    assert any(isinstance(m, nn.ConvTranspose2d) for m in decoder.modules())
    if k == 2:
        assert conv(8, 4)(torch.zeros(1, 8)).shape == (1, 4)
        assert conv(2, 8)(torch.zeros(1, 2)).shape == (1, 8)
    else:
        with pytest.raises(ValueError, match=rf"for 8 features in and {2 * k} out.*call build_encoder"):
            conv(8, 2 * k)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (1, 7, 8)}, r"Got image_shape=\(1, 7, 8\), 56 values, for rows of 64 features; exp"),
        ({"image_shape": (8, 8)}, r"Got image_shape=\(8, 8\); expected \(channels, height, width\)"),
        ({"image_shape": (1, 0, 8)}, r"Got image_shape=\(1, 0, 8\); expected"),
        ({"image_shape": (1, 8.0, 8)}, r"Got image_shape=\(1, 8.0, 8\); expected"),
        ({"image_shape": (True, 8, 8)}, r"Got image_shape=\(True, 8, 8\); expected"),
        ({"image_shape": 64}, r"Got image_shape=64; expected"),
        ({"image_shape": None}, r"Got image_shape=None; expected"),
        ({"image_shape": "188"}, r"Got image_shape='188'; expected"),
        ({"channels": ()}, r"Got channels=\(\); expected one or more positive whole numbers"),
        ({"channels": (4, -1)}, r"Got channels=\(4, -1\); expected"),
        ({"channels": 16}, r"Got channels=16; expected"),
        ({"hidden_layer_sizes": 0}, r"Got hidden_layer_sizes=0; expected"),
        ({"hidden_layer_sizes": (2.5,)}, r"Got hidden_layer_sizes=\(2.5,\); expected"),
        ({"activation": "sine"}, r"Got activation='sine'; expected one of"),
    ],
)
@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_wrong_parameters_are_named_at_fit(params, message, name):
    X = np.random.default_rng(0).normal(size=(20, 64))
    conv = Conv(**({"image_shape": (1, 8, 8)} | params))
    with pytest.raises(ValueError, match=message):
        VAETransformer(2, max_iter=1, **{name: conv}).fit(X)


def test_arrays_and_lists_are_shapes_too():
    conv = Conv(np.array([1, 4, 4]), [3, np.int64(4)], [5])
    assert conv.build_encoder(16, 4)(torch.zeros(2, 16)).shape == (2, 4)
    assert conv.build_decoder(2, 16)(torch.zeros(2, 2)).shape == (2, 16)


@pytest.fixture(scope="module")
def images():
    X = load_digits().data / 16
    return X[:150], X[300:400]


SMALL = Conv((1, 8, 8), (8, 16), (32,))


def small(conv=SMALL, **params):
    return VAETransformer(
        **({"encoder": conv, "decoder": conv, "random_state": 0, "n_components": 4} | params)
    )


def test_learns_images(images):
    X, X_test = images
    start, again, trained = (small(max_iter=n, batch_size=50).fit(X) for n in (1, 1, 40))
    np.testing.assert_array_equal(start.transform(X_test), again.transform(X_test))
    assert trained.score(X_test) > start.score(X_test) + 10
    Z = trained.transform(X_test)
    assert Z.dtype == np.float64
    np.testing.assert_allclose(trained.transform(X_test[:1]), Z[:1], rtol=1e-7, atol=1e-9)
    error = np.mean((trained.inverse_transform(Z) - X_test) ** 2)
    assert error < 0.7 * X_test.var(0).mean()
    loaded = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(loaded.transform(X_test), Z)


@pytest.mark.parametrize(
    ("likelihood", "levels"), [(Gaussian(sigma="cell"), None), ("categorical", 5), (Bernoulli(), 2)], ids=str
)
@pytest.mark.parametrize("n_components", [3, 32, 64])
def test_several_values_per_pixel(images, likelihood, levels, n_components):
    X = images[0][:50]
    X = X if levels is None else np.floor(X * (levels - 1e-9))
    vae = small(likelihood=likelihood, n_components=n_components, max_iter=2).fit(X)
    assert np.isfinite(vae.score(X))
    assert vae.sample(3).shape == (3, 64)


def test_grid_search_over_channels(images):
    X = images[0][:120]
    grid = {"encoder__channels": [(2,), (3, 4)], "n_components": [2, 32]}
    search = GridSearchCV(small(max_iter=2), grid, cv=2, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["mean_test_score"])) == 4


def test_a_network_of_the_wrong_shape_is_refused(images):
    with pytest.raises(ValueError, match=r"turned rows of shape \(2, 64\) into \(2, 5\); expected \(2, 4\)"):
        VAETransformer(2, encoder=lambda i, o: Conv((1, 8, 8))(i, o + 1)).fit(images[0])
