"""Displays of rows that are images, each one mosaic in one axes."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ._display import (
    check_components,
    decode,
    draw_rows,
    encode,
    find_vae,
    import_pyplot,
    information_of,
    name_component,
)
from ._mosaic import as_images, centres, draw_mosaic, find_image_shape, limits
from ._typing import Array, RandomState, Rows
from ._values import check_count

__all__ = ["ManifoldDisplay", "ReconstructionDisplay", "SampleDisplay"]

N_CLASSES = 20  # rows of a mosaic that are classes, at most
N_DRAWS = 1000  # rows that tell where the latents of a model are


class ReconstructionDisplay:
    """Images above what the model makes of them.

    Use `from_estimator` or `from_images` to create one.

    Parameters
    ----------
    images, reconstructions : ndarray of shape (n_images, height, width) or (n_images, height, width, 3)

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
        The mosaic.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import ReconstructionDisplay, VAETransformer
    >>> X = load_digits().data[:200]
    >>> vae = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    >>> ReconstructionDisplay.from_estimator(vae, X[:6]).images.shape
    (6, 8, 8)
    """

    def __init__(self, *, images: Array, reconstructions: Array) -> None:
        self.images = images
        self.reconstructions = reconstructions

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_images: int = 10,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Encode and decode the first rows of X, and draw both.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer, and all its steps can be undone.
        X : array-like or DataFrame of shape (n_samples, n_features)
            A missing cell (NaN) is drawn in orange, and filled in the reconstruction.
        n_images : int, default=10
            How many of the first rows to draw.
        image_shape : tuple of int, default=None
            (height, width), or (channels, height, width) with 1 or 3 channels, one channel after
            the other. None takes that of a `networks.Conv`, or else a square.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : ReconstructionDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        vae = find_vae(estimator)
        X = X[:n_images]
        again = np.asarray(decode(estimator, encode(estimator, X)[0]))
        shape = find_image_shape(image_shape, again.shape[1], vae)
        return cls.from_images(X, again, image_shape=shape, ax=ax, **kwargs)

    @classmethod
    def from_images(
        cls,
        images: Rows,
        reconstructions: Rows,
        *,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw images above others.

        Parameters
        ----------
        images, reconstructions : array-like of shape (n_images, n_features) or (n_images, ``*image_shape``)
        image_shape : tuple of int, default=None
            As in `from_estimator`.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : ReconstructionDisplay
        """
        images, again = as_images(images, image_shape), as_images(reconstructions, image_shape)
        if images.shape != again.shape:
            raise ValueError(
                f"Got images of shape {images.shape!r} and reconstructions of shape {again.shape!r}; "
                "expected the same."
            )
        return cls(images=images, reconstructions=again).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, n_columns: int = 10, **kwargs: Any) -> Self:
        """Draw pairs of rows: images, and below them their reconstructions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        n_columns : int, default=10
            Images side by side.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.imshow`. `cmap` is "gray_r" for images of one
            channel; `vmin` and `vmax` span the values of `images`.

        Returns
        -------
        self : ReconstructionDisplay
        """
        check_count(n_columns, "n_columns")
        n_columns = min(n_columns, len(self.images))
        n_pairs = math.ceil(len(self.images) / n_columns)
        low, high = limits(self.images)
        kwargs = {"vmin": low, "vmax": high} | kwargs
        both = []
        for start in range(0, n_pairs * n_columns, n_columns):
            for images in (self.images, self.reconstructions):
                row = list(images[start : start + n_columns])
                both += row + [None] * (n_columns - len(row))
        labels = ["original", "decoded"] * n_pairs
        draw_mosaic(self, ax, both, n_columns, labels, **kwargs)
        return self


class SampleDisplay:
    """Images that the model makes up.

    Use `from_estimator` or `from_images` to create one.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width) or (n_images, height, width, 3)
    row_names : sequence of str, default=None
        Labels of as many rows of images. None makes a square of them.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
        The mosaic.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import SampleDisplay, VAETransformer
    >>> X = load_digits().data[:200]
    >>> vae = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    >>> SampleDisplay.from_estimator(vae, n_samples=25, random_state=0).images.shape
    (25, 8, 8)
    """

    def __init__(self, *, images: Array, row_names: Sequence[str] | None = None) -> None:
        self.images = images
        self.row_names = row_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_samples: int = 100,
        y: Any = None,
        noise: bool = False,
        random_state: RandomState = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw new images from a model.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer, and all its steps can be undone.
        n_samples : int, default=100
        y : scalar or array-like of shape (n_samples,), default=None
            Classes to ask a conditional model for. None shares `n_samples` out among them, a row of
            images for each of the first 20.
        noise : bool, default=False
            Draw x given z. False shows its mean, which is what people look at in images.
        random_state : int, RandomState instance or None, default=None
        image_shape : tuple of int, default=None
            (height, width), or (channels, height, width) with 1 or 3 channels, one channel after
            the other. None takes that of a `networks.Conv`, or else a square.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : SampleDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        vae = find_vae(estimator)
        row_names = None
        if y is None and hasattr(vae, "classes_"):
            classes = vae.classes_[:N_CLASSES]
            row_names = [str(label) for label in classes]
            y = np.repeat(classes, max(1, n_samples // len(classes)))
            n_samples = len(y)
        rows = np.asarray(draw_rows(estimator, n_samples, y=y, noise=noise, random_state=random_state))
        images = as_images(rows, find_image_shape(image_shape, rows.shape[1], vae))
        return cls(images=images, row_names=row_names).plot(ax=ax, **kwargs)

    @classmethod
    def from_images(
        cls,
        images: Rows,
        *,
        image_shape: Sequence[int] | None = None,
        row_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given images.

        Parameters
        ----------
        images : array-like of shape (n_images, n_features) or (n_images, ``*image_shape``)
        image_shape : tuple of int, default=None
            As in `from_estimator`.
        row_names : sequence of str, default=None
            Labels of as many rows of images. None makes a square of them.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : SampleDisplay
        """
        images = as_images(images, image_shape)
        if row_names is not None and (len(row_names) == 0 or len(images) % len(row_names)):
            raise ValueError(
                f"Got {len(row_names)} row_names for {len(images)} images; expected a number that divides "
                "theirs."
            )
        return cls(images=images, row_names=row_names).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, n_columns: int | None = None, **kwargs: Any) -> Self:
        """Draw the images, row by row.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        n_columns : int, default=None
            Images side by side. None goes by `row_names`, which other numbers of rows leave out, or
            makes a square.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.imshow`. `cmap` is "gray_r" for images of one
            channel; `vmin` and `vmax` span all but the outer 2 % of the values.

        Returns
        -------
        self : SampleDisplay
        """
        if n_columns is not None:
            check_count(n_columns, "n_columns")
        n, names = len(self.images), None if self.row_names is None else list(self.row_names)
        if n_columns is None:
            n_columns = math.ceil(n / len(names) if names else math.sqrt(n))
        elif names and math.ceil(n / n_columns) != len(names):
            names = None  # of other rows
        draw_mosaic(self, ax, list(self.images), n_columns, names, **kwargs)
        return self


class ManifoldDisplay:
    """What a walk over two components of the latent space decodes to.

    Use `from_estimator` to create one.

    Parameters
    ----------
    images : ndarray of shape (n, n, height, width) or (n, n, height, width, 3)
        ``images[i, j]`` stands at ``y[i]`` and ``x[j]``.
    x, y : ndarray of shape (n,)
        Values of the two components, rising.
    xlabel, ylabel : str, default=None

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
        The mosaic.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import ManifoldDisplay, VAETransformer
    >>> X = load_digits().data[:200]
    >>> vae = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    >>> ManifoldDisplay.from_estimator(vae, n=6).images.shape
    (6, 6, 8, 8)
    """

    def __init__(
        self, *, images: Array, x: Array, y: Array, xlabel: str | None = None, ylabel: str | None = None
    ) -> None:
        self.images = images
        self.x = x
        self.y = y
        self.xlabel = xlabel
        self.ylabel = ylabel

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        n: int = 20,
        components: tuple[int, int] = (0, 1),
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Decode a grid of two components; the others are held at their average.

        The grid is at equal steps of the quantiles of each component, so it is fine where rows are
        dense and coarse elsewhere.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted, with two components or more; a pipeline ends with a VAETransformer, and all its
            steps can be undone.
        X : array-like or DataFrame of shape (n_samples, n_features), default=None
            Rows whose quantiles to take. None takes 1,000 that the model makes up.
        n : int, default=20
            Images along each component.
        components : tuple of two int, default=(0, 1)
            The horizontal and the vertical one.
        image_shape : tuple of int, default=None
            (height, width), or (channels, height, width) with 1 or 3 channels, one channel after
            the other. None takes that of a `networks.Conv`, or else a square.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : ManifoldDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        vae = find_vae(estimator)
        n_components = len(vae.kl_per_component_)
        if n_components < 2:
            raise ValueError("Got an estimator with n_components=1; expected 2 or more to walk over.")
        i, j = check_components(components, n_components)
        rows = draw_rows(estimator, N_DRAWS, random_state=0) if X is None else X
        Z = encode(estimator, rows)[0]
        x, y = np.quantile(Z[:, [i, j]], (np.arange(n) + 0.5) / n, axis=0).T
        grid = np.tile(Z.mean(axis=0), (n * n, 1)).astype(Z.dtype)
        grid[:, i], grid[:, j] = np.tile(x, n), np.repeat(y, n)
        rows = np.asarray(decode(estimator, grid))
        images = as_images(rows, find_image_shape(image_shape, rows.shape[1], vae))
        names = [name_component(k, information_of(vae)) for k in (i, j)]
        display = cls(
            images=images.reshape(n, n, *images.shape[1:]), x=x, y=y, xlabel=names[0], ylabel=names[1]
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the grid of images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.imshow`. `cmap` is "gray_r" for images of one
            channel; `vmin` and `vmax` span all but the outer 2 % of the values.

        Returns
        -------
        self : ManifoldDisplay
        """
        n_rows, n_columns = self.images.shape[:2]
        images = self.images[::-1].reshape(-1, *self.images.shape[2:])  # upwards
        self.ax_: Any  # the mosaic's
        step_y, step_x = draw_mosaic(self, ax, list(images), n_columns, **kwargs)
        for axis, values, step, size in (
            (self.ax_.xaxis, self.x, step_x, n_columns),
            (self.ax_.yaxis, self.y[::-1], step_y, n_rows),
        ):
            places = np.unique(np.linspace(0, size - 1, 5).round().astype(int))
            axis.set_ticks(centres(size, step)[places], [f"{values[k]:.1f}" for k in places])
        self.ax_.set(xlabel=self.xlabel, ylabel=self.ylabel)
        return self
