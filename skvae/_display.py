"""What the displays share: the model behind them, axes, and marks that also read in grey."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._typing import Array, Table
from .transformer import VAETransformer

# Okabe and Ito (2008), Color universal design: told apart by colour-blind people. Their yellow is
# left out, it is faint on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = "o^sDvP*Xd<"  # two that share a colour differ in more than direction
MISSING = "#D55E00"  # a pixel without a value


def import_pyplot(caller: str) -> Any:
    """Return `matplotlib.pyplot`, or say what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{caller} needs matplotlib. Install it: pip install 'skvae[plot]'.") from error
    return plt


def find_vae(estimator: Any) -> VAETransformer:
    """Return the fitted VAETransformer that an estimator is, or that a pipeline ends with."""
    vae = estimator.steps[-1][1] if _is_pipeline(estimator) else estimator
    if not isinstance(vae, VAETransformer):
        raise TypeError(
            f"Got estimator={estimator!r}; expected a VAETransformer, or a Pipeline whose last step is one. "
            "Pass that part of it, such as pipeline[:-1] or search.best_estimator_."
        )
    check_is_fitted(vae)
    return vae


def before_vae(estimator: Any) -> Any:
    """Return the steps of a pipeline before its VAETransformer, or None."""
    return estimator[:-1] if _is_pipeline(estimator) and len(estimator.steps) > 1 else None


def _is_pipeline(estimator: Any) -> bool:
    from sklearn.pipeline import Pipeline  # here, as it takes as long as skvae

    return isinstance(estimator, Pipeline)


def encode(estimator: Any, X: Any) -> tuple[Array, Array]:
    """Return mean and standard deviation of q(z given x) for the rows of X, two arrays."""
    vae, before = find_vae(estimator), before_vae(estimator)
    mean, std = vae.posterior(X if before is None else before.transform(X))
    return np.asarray(mean), np.asarray(std)


def undo_steps(estimator: Any, X: Table) -> Table:
    """Return rows, such as the VAETransformer gives them, as they were before a pipeline's first step."""
    before = before_vae(estimator)
    if before is None:
        return X
    if not hasattr(before, "inverse_transform"):
        raise TypeError(
            f"Got estimator={estimator!r}, of which not every step has an inverse_transform; expected steps "
            "that can be undone. Pass the VAETransformer alone, with X as it gets it."
        )
    return before.inverse_transform(X)


def decode(estimator: Any, Z: Array) -> Table:
    """Return the rows that latent vectors decode to, before a pipeline's first step."""
    return undo_steps(estimator, find_vae(estimator).inverse_transform(Z))


def draw_rows(estimator: Any, n_samples: int, **params: Any) -> Table:
    """Return rows that a model makes up, as before a pipeline's first step."""
    return undo_steps(estimator, find_vae(estimator).sample(n_samples, **params))


def information_of(vae: Any) -> Array | None:
    """Return what each component tells about a row, in nats, if its posterior was trained."""
    return vae.kl_per_component_ if vae.objective_.n_draws else None


def name_component(index: int, information: Array | None) -> str:
    """Return the label of a component, with what it tells if that is known."""
    return f"component {index}" + ("" if information is None else f" ({information[index]:.2f} nats)")


def check_components(components: Iterable[int], n_components: int) -> tuple[int, int]:
    """Return two different components as a tuple of integers, or raise."""
    try:
        i, j = (range(n_components).index(component) for component in components)
    except (TypeError, ValueError):
        i = j = -1
    if i == j:
        raise ValueError(
            f"Got components={components!r}; expected two different ones of 0 to {n_components - 1}."
        )
    return i, j


def normal_names(kwargs: dict[str, Any], artist: str) -> dict[str, Any]:
    """Return keywords of one of matplotlib's artists by their full names: "linewidth" for "lw"."""
    from importlib import import_module

    from matplotlib.cbook import normalize_kwargs

    module, _, name = artist.partition(".")
    normal: dict[str, Any] = normalize_kwargs(kwargs, getattr(import_module(f"matplotlib.{module}"), name))
    return normal


def literal(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def make_panels(
    plt: Any, ax: Any, n_panels: int, n_columns: int, size: tuple[float, float]
) -> tuple[Any, Array]:
    """Return an axes that was divided, or None, and the array of axes to draw into.

    Parameters
    ----------
    plt : module
        `matplotlib.pyplot`.
    ax : Axes, array-like of Axes or None
        What the user gave: one to divide, as many as there are panels, or None for a new figure.
    n_panels, n_columns : int
    size : (float, float)
        Width and height of a panel of a new figure, in inches.
    """
    n_columns = min(n_columns, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    if ax is None:
        _, ax = plt.subplots(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
    if isinstance(ax, plt.Axes):
        if not ax.axison or ax.get_subplotspec() is None:
            raise ValueError(
                "Got an ax that cannot be divided, since a display has done so or it is no part of a grid; "
                "expected one from plt.subplots. To draw again, pass ax=display.axes_."
            )
        grid = ax.get_subplotspec().subgridspec(n_rows, n_columns)
        ax.set_axis_off()
        return ax, np.array([ax.figure.add_subplot(grid[i]) for i in range(n_panels)], dtype=object)
    axes = np.array(ax, dtype=object)
    if axes.size != n_panels:
        raise ValueError(
            f"Got ax with {axes.size} axes for {n_panels} panels; expected one for each, or one to divide."
        )
    return None, axes
