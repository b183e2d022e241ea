"""Rows as images, and many images as one mosaic in one axes."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ._display import MISSING, import_pyplot, literal
from ._typing import Array
from ._values import unmask
from .transformer import VAETransformer

CUT = 0.02  # of made-up pixels, beyond black and white: a few far ones would turn all others grey


def find_image_shape(image_shape: Any, n_features: int, vae: VAETransformer | None = None) -> tuple[int, ...]:
    """Return the shape of the images that rows are: given, that of a network, or a square.

    Returns
    -------
    image_shape : tuple of int
        (height, width) or (3, height, width).
    """
    if image_shape is None:
        networks: tuple[Any, ...] = (vae.encoder, vae.decoder) if vae is not None else ()
        shapes = [network.image_shape for network in networks if hasattr(network, "image_shape")]
        side = math.isqrt(n_features)
        if not shapes and side**2 != n_features:
            raise ValueError(
                f"Got rows of {n_features} features, which are no square image. Pass image_shape=(height, "
                "width) or (channels, height, width). Tables are shown by MarginalsDisplay and "
                "CorrelationDisplay."
            )
        image_shape = shapes[0] if shapes else (side, side)
    shape = tuple(image_shape) if np.iterable(image_shape) else (image_shape,)
    whole = all(isinstance(size, Integral) and int(size) > 0 for size in shape)
    if not whole or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(
            f"Got image_shape={image_shape!r}; expected (height, width), or (channels, height, width) with "
            "1 or 3 channels."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"Got image_shape={shape!r} for rows of {n_features} features; expected (height, width) or "
            "(channels, height, width) whose product is the number of features."
        )
    return shape[1:] if shape[0] == 1 and len(shape) == 3 else shape


def as_images(X: Any, image_shape: Any = None) -> Array:
    """Return rows as images: (n, height, width), or (n, height, width, 3) where they have colours."""
    X = unmask(X)
    if hasattr(X, "iloc"):
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    X = np.asarray(X, dtype=np.float64)
    if X.ndim < 2 or not X.size:
        raise ValueError(f"Got images of shape {X.shape!r}; expected (n_images, n_features).")
    if image_shape is None and X.ndim > 2:
        image_shape = X.shape[1:]
    X = X.reshape(len(X), -1)
    shape = find_image_shape(image_shape, X.shape[1])
    images = X.reshape(-1, *shape)
    return np.moveaxis(images, 1, -1) if len(shape) == 3 else images


def limits(images: Array, cut: float = 0.0) -> tuple[float, float]:
    """Return the least and the greatest value of some images, with a share cut off at either end."""
    finite = images[np.isfinite(images)]
    low, high = np.quantile(finite, [cut, 1 - cut]) if finite.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def centres(n: int, step: tuple[int, int]) -> Array:
    """Return where n images stand along a mosaic that repeats after so many pixels."""
    length, gap = step
    return np.arange(n) * (length + gap) + (length - 1) / 2


def draw_mosaic(
    display: Any,
    ax: Any,
    images: Sequence[Array | None],
    n_columns: int,
    row_names: Sequence[str] | None = None,
    *,
    cmap: Any = "gray_r",
    vmin: float | None = None,
    vmax: float | None = None,
    **kwargs: Any,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw images as one mosaic; None leaves a place free.

    Returns
    -------
    step_y, step_x : (int, int)
        Pixels of an image and of the gap after it, down and across.
    """
    plt = import_pyplot(f"{type(display).__name__}.plot")
    if "norm" in kwargs:
        raise TypeError("Got norm; expected vmin and vmax, between which pixels are shown evenly.")
    given = np.stack([image for image in images if image is not None])
    height, width = given.shape[1:3]
    n_rows = math.ceil(len(images) / n_columns)
    low, high = limits(given, CUT)
    low, high = low if vmin is None else vmin, high if vmax is None else vmax
    gap = max(1, round(max(height, width) / 16))
    free = low - (high - low)  # below all values: the colour map knows it by that
    shape = (n_rows * (height + gap) - gap, n_columns * (width + gap) - gap)
    mosaic = np.full((*shape, *given.shape[3:]), float(free))
    for place, image in enumerate(images):
        if image is not None:
            top, left = (place // n_columns) * (height + gap), (place % n_columns) * (width + gap)
            mosaic[top : top + height, left : left + width] = np.clip(image, low, high)
    if ax is None:
        side = min(0.7, 7 / max(n_rows, n_columns)) / max(height, width)  # inches of a pixel
        size = (shape[1] * side + 1.0, shape[0] * side + 0.6)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    if mosaic.ndim == 3:
        display.im_ = ax.imshow(_as_colours(mosaic, low, high, plt), **kwargs)
    else:
        cmap = plt.get_cmap(cmap).with_extremes(under="white", bad=MISSING)
        display.im_ = ax.imshow(mosaic, cmap=cmap, vmin=low, vmax=high, **kwargs)
    display.ax_, display.figure_ = ax, ax.figure
    ax.set(xticks=[], yticks=[])
    if row_names is not None:
        ax.set_yticks(centres(n_rows, (height, gap)), [literal(str(name)) for name in row_names])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return (height, gap), (width, gap)


def _as_colours(mosaic: Array, low: float, high: float, plt: Any) -> Array:
    """Return colours from 0 to 1: white where no image is, and a mark where a channel is missing."""
    colours = (mosaic - low) / (high - low)
    colours[(colours < 0).all(axis=-1)] = 1.0
    colours[np.isnan(colours).any(axis=-1)] = plt.matplotlib.colors.to_rgb(MISSING)
    return colours
