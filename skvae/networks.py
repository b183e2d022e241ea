"""Builders of encoders and decoders: ``(in_features, out_features) -> nn.Module``."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.autograd.function import once_differentiable

__all__ = ["ACTIVATIONS", "MLP", "Conv"]

#: What `activation` may be: names, and what makes the layers of torch that they stand for.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": partial(nn.ReLU, inplace=True),  # nothing before it needs what it came from
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
        Take the inverse hyperbolic sine of the input, which is x near 0 and the logarithm of 2 x
        far from it: it tames values of many standard deviations and loses none (Johnson, 1949,
        doi:10.1093/biomet/36.1-2.149).

    Examples
    --------
    >>> from skvae.networks import MLP
    >>> MLP((32,), "relu", skip=False)(64, 4)
    Sequential(
      (0): Linear(in_features=64, out_features=32, bias=True)
      (1): ReLU(inplace=True)
      (2): Linear(in_features=32, out_features=4, bias=True)
    )
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "silu",
        *,
        norm: bool = False,
        skip: bool = True,
        bend: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.norm = norm
        self.skip = skip
        self.bend = bend

    def __call__(self, in_features: int, out_features: int) -> nn.Module:
        """Return the module that maps (..., in_features) to (..., out_features)."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"Got activation={self.activation!r}; expected one of {sorted(ACTIVATIONS)}.")
        sizes = [in_features, *self.hidden_layer_sizes]
        layers = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), *([nn.LayerNorm(o)] if self.norm and o > 1 else [])]
            layers += [ACTIVATIONS[self.activation]()]
        last = nn.Linear(sizes[-1], out_features)
        network: nn.Module = nn.Sequential(*layers, last)
        if self.skip and layers:
            network = _WithSkip(network, nn.Linear(in_features, out_features, bias=False))
            with torch.no_grad():
                last.weight.mul_(0.1)  # the linear map leads at first
        return nn.Sequential(_Bend(), network) if self.bend else network


class _WithSkip(nn.Module):
    def __init__(self, network: nn.Module, skip: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or x.is_cuda:  # where both are computed beside each other
            out: torch.Tensor = self.network(x) + self.skip(x)
            return out
        return torch.addmm(self.network(x), x, self.skip.weight.t())  # product and sum in one kernel


class _Bend(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda or torch.compiler.is_compiling():  # one kernel, or exported by name
            return torch.asinh(x)
        return _Asinh.apply(x)


class _Asinh(torch.autograd.Function):
    """The inverse hyperbolic sine by vectorised kernels; torch's own takes thrice the time on a CPU."""

    apply: Callable[..., torch.Tensor]  # torch has not annotated it

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        root = torch.hypot(x, torch.ones((), dtype=x.dtype, device=x.device))
        ctx.save_for_backward(root)
        return (root + x.abs()).log_().copysign_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        return grad / ctx.saved_tensors[0]


class Conv(BaseEstimator):
    """Build a convolutional network for rows that are images.

    Each convolution halves height and width, rounded up, so any size will do; dense layers follow.
    The decoder is the mirror image, from the dense layers up to exactly the size of the image.
    Every layer is normalised over one image (Ba, Kiros and Hinton, 2016, Layer normalization,
    arXiv:1607.06450), never over the rows of a batch.

    Parameters
    ----------
    image_shape : tuple of int, default=(1, 28, 28)
        Channels, height and width of the image that a row is, row by row of pixels, one channel
        after the other. Where a likelihood gives or takes several values per pixel, each is an
        image of this shape.
    channels : sequence of int, default=(16, 32)
        Channels after each convolution of the encoder.
    hidden_layer_sizes : sequence of int, default=(256,)
        Widths of the encoder's dense layers. Empty: one linear map.
    activation : str, default="silu"
        A key of `ACTIVATIONS`.

    Notes
    -----
    `VAETransformer` calls `build_encoder` for its encoder and `build_decoder` for its decoder, so
    one object serves both. Called as a function, it builds the one whose features the image fits.

    Examples
    --------
    >>> import torch
    >>> from skvae import VAETransformer
    >>> from skvae.networks import Conv
    >>> conv = Conv((3, 17, 5))
    >>> vae = VAETransformer(8, encoder=conv, decoder=conv)
    >>> conv.build_encoder(255, 16)(torch.zeros(2, 255)).shape
    torch.Size([2, 16])
    >>> conv.build_decoder(8, 255)(torch.zeros(2, 8)).shape
    torch.Size([2, 255])
    """

    def __init__(
        self,
        image_shape: Any = (1, 28, 28),
        channels: Any = (16, 32),
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "silu",
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation

    def __call__(self, in_features: int, out_features: int) -> nn.Module:
        """Return an encoder or a decoder, whichever fits the image."""
        self._check()
        size = math.prod(self.image_shape)
        encodes, decodes = in_features % size == 0, out_features % size == 0
        if encodes and decodes:
            raise ValueError(
                f"Got image_shape={self.image_shape!r}, {size} values, for {in_features} features in and "
                f"{out_features} out, which both are images; call build_encoder or build_decoder instead."
            )
        return (self.build_decoder if decodes else self.build_encoder)(in_features, out_features)

    def build_encoder(self, in_features: int, out_features: int) -> nn.Module:
        """Return the module that maps images of (..., in_features) to (..., out_features)."""
        n_images = self._count_images(in_features)
        widths, sizes = self._stages(n_images)
        dense = self._dense(self.hidden_layer_sizes, widths[-1] * math.prod(sizes[-1]), out_features)
        layers: list[nn.Module] = [_ToImage((widths[0], *sizes[0]))]
        for (i, o), (full, half) in zip(pairwise(widths), pairwise(sizes), strict=True):
            kernel, _ = _halving(full)
            layers += [nn.Conv2d(i, o, **kernel), *self._norm_and_curve(o, half)]
        return _Rows(nn.Sequential(*layers, nn.Flatten(), dense))

    def build_decoder(self, in_features: int, out_features: int) -> nn.Module:
        """Return the module that maps (..., in_features) to images of (..., out_features)."""
        n_images = self._count_images(out_features)
        widths, sizes = (stages[::-1] for stages in self._stages(n_images))
        dense = self._dense(self.hidden_layer_sizes[::-1], in_features, widths[0] * math.prod(sizes[0]))
        layers = [dense, _ToImage((widths[0], *sizes[0]))]
        for (i, o), (half, full) in zip(pairwise(widths), pairwise(sizes), strict=True):
            kernel, rest = _halving(full)
            layers += self._norm_and_curve(i, half)
            layers += [nn.ConvTranspose2d(i, o, **kernel, output_padding=rest)]
        return _Rows(nn.Sequential(*layers, nn.Flatten()))

    def _check(self) -> None:
        shape = "(channels, height, width), three positive whole numbers"
        _check_whole("image_shape", self.image_shape, shape, least=3, most=3)
        _check_whole("channels", self.channels, "one or more positive whole numbers", least=1)
        _check_whole("hidden_layer_sizes", self.hidden_layer_sizes, "positive whole numbers")

    def _count_images(self, n_features: int) -> Any:
        """Return how many images of `image_shape` a row is: one for each value per pixel."""
        self._check()
        size = math.prod(self.image_shape)
        if n_features % size:
            raise ValueError(
                f"Got image_shape={self.image_shape!r}, {size} values, for rows of {n_features} features; "
                "expected (channels, height, width) whose product is the number of features."
            )
        return n_features // size

    def _stages(self, n_images: int) -> Any:
        """Return the channels and the (height, width) from the image to the smallest map."""
        first, *size = self.image_shape
        sizes = [tuple(size)]
        for _ in self.channels:
            sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
        return [n_images * first, *self.channels], sizes

    def _norm_and_curve(self, channels: Any, size: Any) -> Any:
        # a lone value less its mean would be 0
        norm = [nn.GroupNorm(1, channels)] if channels * math.prod(size) > 1 else []
        return [*norm, ACTIVATIONS[self.activation]()]

    def _dense(self, sizes: Any, in_features: int, out_features: int) -> Any:
        return MLP(sizes, self.activation, norm=True, skip=False)(in_features, out_features)


def _halving(size: Any) -> Any:
    """Return the arguments that halve an image, rounded up, and the output padding that undoes it.

    A kernel of twice the stride covers all pixels equally often on the way back, or the decoder
    would draw checkerboards: Odena, Dumoulin and Olah (2016), doi:10.23915/distill.00003.
    """
    kernel_size = tuple(4 if n > 1 else 1 for n in size)
    stride = tuple(2 if n > 1 else 1 for n in size)
    rest = tuple(n % 2 if n > 1 else 0 for n in size)
    padding = tuple(1 + n % 2 if n > 1 else 0 for n in size)
    return {"kernel_size": kernel_size, "stride": stride, "padding": padding}, rest


def _check_whole(name: Any, value: Any, wish: Any, least: Any = 0, most: Any = math.inf) -> None:
    """Raise unless a value is a sequence of so many positive whole numbers."""
    try:
        numbers: list[Any] = list(value)
    except TypeError:
        numbers = [None]
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in numbers)
    if not whole or not least <= len(numbers) <= most:
        raise ValueError(f"Got {name}={value!r}; expected {wish}.")


class _Rows(nn.Module):
    """Show all leading axes as one to a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead = x.shape[:-1]
        out: torch.Tensor = self.network(x.reshape(math.prod(lead), x.shape[-1]))
        return out.reshape(*lead, out.shape[-1])


class _ToImage(nn.Module):
    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # channels last: a third less time per step on a CPU
        image: torch.Tensor = x.unflatten(1, self.shape)
        return image.contiguous(memory_format=torch.channels_last)
