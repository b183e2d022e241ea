"""Displays in scikit-learn's manner: training, latents, images and tables.

Each has `from_estimator` and mostly a second way in, draws itself, and keeps what it drew in `ax_` (several
panels: `axes_`) and `figure_`. matplotlib is imported at use: ``pip install 'skvae[plot]'``.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.utils import check_array, check_consistent_length

from ._display import (
    COLOURS,
    MARKERS,
    check_components,
    encode,
    find_vae,
    import_pyplot,
    information_of,
    literal,
    make_panels,
    name_component,
    normal_names,
)
from ._display_images import ManifoldDisplay, ReconstructionDisplay, SampleDisplay
from ._display_tables import CorrelationDisplay, MarginalsDisplay
from ._statistics import are_truths, is_time, read_column

__all__ = [
    "CorrelationDisplay",
    "LatentDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "MarginalsDisplay",
    "ReconstructionDisplay",
    "SampleDisplay",
]

TERMS = {
    "loss": "loss (lower is better)",
    "reconstruction": "reconstruction: E[log p(x | z)]",
    "kl": "KL(q(z | x) || p(z))",
}
N_CLASSES = 10  # more whole numbers than these are values with a colour bar; more classes get no label


class LossCurveDisplay:
    """How a fit went: the loss and its two terms, epoch by epoch.

    Use `from_estimator` or `from_history` to create one.

    Parameters
    ----------
    history : dict of str to list of float
        As `VAETransformer.history_`.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each term.
    ax_ : matplotlib Axes or None
        The one that was divided, if any.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        For each term that of training, and after it that of validation if there is one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import LossCurveDisplay, VAETransformer
    >>> vae = VAETransformer(2, max_iter=5, random_state=0).fit(load_iris().data)
    >>> display = LossCurveDisplay.from_estimator(vae)
    >>> len(display.lines_)
    3
    """

    def __init__(self, *, history: Mapping[str, Sequence[float]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the history of a fit.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer.
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each term. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : LossCurveDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        return cls.from_history(find_vae(estimator).history_, ax=ax, **kwargs)

    @classmethod
    def from_history(cls, history: Mapping[str, Sequence[float]], *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a history.

        Parameters
        ----------
        history : dict of str to list of float
            As `VAETransformer.history_`.
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each term. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : LossCurveDisplay
        """
        return cls(history=history).plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, terms: Sequence[str] = ("loss", "reconstruction", "kl"), **kwargs: Any
    ) -> Self:
        """Draw a panel for each term; a dotted line stands where the KL warm-up ends.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each term. None makes a new figure.
        terms : sequence of {"loss", "reconstruction", "kl"}, default=("loss", "reconstruction", "kl")
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : LossCurveDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        unknown = [term for term in terms if term not in TERMS or term not in self.history]
        if unknown or not len(terms):
            raise ValueError(
                f"Got terms={terms!r}; expected some of {[t for t in TERMS if t in self.history]!r}."
            )
        kwargs = normal_names(kwargs, "lines.Line2D")
        self.ax_, self.axes_ = make_panels(plt, ax, len(terms), len(terms), (3.6, 3.0))
        self.lines_: list[Any] = []
        for panel, term in zip(self.axes_.ravel(), terms, strict=True):
            self._draw_term(panel, term, kwargs)
        self.axes_.ravel()[0].set_ylabel("nats per row")
        self.axes_.ravel()[0].legend()
        self.figure_ = self.axes_.ravel()[0].figure
        return self

    def _draw_term(self, panel: Any, term: Any, kwargs: Any) -> None:
        epochs = np.arange(1, len(self.history[term]) + 1)
        marker = "o" if len(epochs) == 1 else None  # a line of one point is none
        train = {"color": COLOURS[0], "linestyle": "-", "label": "training", "marker": marker}
        self.lines_ += panel.plot(epochs, self.history[term], **train | kwargs)
        if f"validation_{term}" in self.history:
            held_out = {"color": COLOURS[3], "linestyle": "--", "label": "validation", "marker": marker}
            self.lines_ += panel.plot(epochs, self.history[f"validation_{term}"], **held_out | kwargs)
        beta = self.history.get("beta", [])
        end = int(np.argmax(beta)) if len(beta) else 0
        if end:
            panel.axvline(end, color="0.5", linestyle=":", linewidth=1, label="end of KL warm-up", zorder=0)
        panel.set(xlabel="epoch")
        panel.set_title(TERMS[term], fontsize="medium")


class LatentDisplay:
    """Where rows lie in the latent space.

    Use `from_estimator` or `from_latents` to create one.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Rows on two components, or on the first two principal components of the latents.
    y : array-like of shape (n_samples,), default=None
        Classes or values, to colour rows by.
    covariances : ndarray of shape (n_samples, 2, 2), default=None
        Covariance of q(z given x) on the same two axes.
    xlabel, ylabel : str, default=None
        Names of the axes. Without a `ylabel` the vertical one has no meaning.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    scatters_ : list of matplotlib PathCollection
        The points, of each class.
    ellipses_ : list of matplotlib EllipseCollection
        One standard deviation of q(z given x) around each point, if asked for.
    legend_ : matplotlib Legend or None
    colorbar_ : matplotlib Colorbar or None

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import LatentDisplay, VAETransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    >>> LatentDisplay.from_estimator(vae, X, y).points.shape
    (150, 2)
    """

    def __init__(
        self, *, points: Any, y: Any = None, covariances: Any = None, xlabel: Any = None, ylabel: Any = None
    ) -> None:
        self.points = points
        self.y = y
        self.covariances = covariances
        self.xlabel = xlabel
        self.ylabel = ylabel

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: Any = None,
        uncertainty: bool = False,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Encode rows and draw them.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer.
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Classes or values, to colour rows by.
        components : tuple of two int, default=None
            Which to draw. None takes the first two principal components of the latents if there are
            more than two; a single component is drawn with rows spread out vertically.
        uncertainty : bool, default=False
            Draw one standard deviation of q(z given x) around each point.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : LatentDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        information = information_of(find_vae(estimator))
        mean, std = encode(estimator, X)
        display = cls._project(mean, y, std if uncertainty else None, components, information)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_latents(
        cls, Z: Any, y: Any = None, *, std: Any = None, components: Any = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw latent vectors.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Posterior means, as `VAETransformer.transform` gives them.
        y : array-like of shape (n_samples,), default=None
            Classes or values, to colour rows by.
        std : array-like of shape (n_samples, n_components), default=None
            Posterior standard deviations, to draw around each point.
        components : tuple of two int, default=None
            As in `from_estimator`.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : LatentDisplay
        """
        Z = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if std is not None:
            std = check_array(std, dtype=[np.float64, np.float32], input_name="std")
            if std.shape != Z.shape:
                raise ValueError(f"Got std of shape {std.shape!r}; expected that of Z, {Z.shape!r}.")
        return cls._project(Z, y, std, components, None).plot(ax=ax, **kwargs)

    @classmethod
    def _project(cls, Z: Any, y: Any, std: Any, components: Any, information: Any) -> Self:
        """Return the display of latents on two axes."""
        check_consistent_length(Z, y)
        n_components = Z.shape[1]
        if n_components == 1 and components is None:
            points = np.column_stack((Z[:, 0], np.random.default_rng(0).uniform(size=len(Z))))
            axes, names = np.array([[1.0], [0.0]]), [name_component(0, information), None]
        elif n_components > 2 and components is None and np.ptp(Z, axis=0).any():
            from sklearn.decomposition import PCA  # here, as it would be half of the time to import skvae

            pca = PCA(2).fit(Z)
            points, axes, shares = pca.transform(Z), pca.components_, pca.explained_variance_ratio_
            names = [f"principal component {i} ({shares[i]:.0%} of variance)" for i in range(2)]
        else:
            chosen = check_components((0, 1) if components is None else components, n_components)
            points, axes = Z[:, chosen], np.eye(n_components)[list(chosen)]
            names = [name_component(i, information) for i in chosen]
        covariances = None if std is None else np.einsum("ak,nk,bk->nab", axes, np.square(std), axes)
        return cls(points=points, y=y, covariances=covariances, xlabel=names[0], ylabel=names[1])

    def plot(self, ax: Any = None, *, label_classes: bool = True, **kwargs: Any) -> Self:
        """Draw the points.

        Up to ten classes have a colour and a marker each; more are coloured by their place, and
        numbers with more than ten values by a colour bar.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        label_classes : bool, default=True
            Write the names of up to ten classes at their medians too.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        self : LatentDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.scatters_: list[Any] = []
        self.ellipses_: list[Any] = []
        self.legend_: Any = None
        self.colorbar_: Any = None
        n = len(self.points)
        kwargs = normal_names(kwargs, "collections.PathCollection")
        self._style = {"s": float(np.clip(30_000 / n, 4, 30)), "alpha": 0.8, "linewidth": 0} | kwargs
        values, names = (None, None) if self.y is None else read_target(self.y)
        if values is None:
            self._draw_points(slice(None), color=COLOURS[0])
        elif names is None:
            cmap = plt.get_cmap("viridis").with_extremes(bad="0.7")
            self._draw_points(slice(None), c=values, cmap=cmap, plotnonfinite=True)
            if not kwargs.keys() & {"c", "color"}:
                self.colorbar_ = self.figure_.colorbar(self.scatters_[0], ax=ax)
        else:
            self._draw_classes(values, names, label_classes, plt)
        ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
        if self.ylabel is None:
            ax.set_yticks([])
        return self

    def _draw_classes(self, codes: Any, names: Any, label_classes: bool, plt: Any) -> None:
        few = len(names) <= N_CLASSES
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(names)))
        names = [literal(str(name)) for name in names]
        for k, name in enumerate(names):
            colour = COLOURS[k % len(COLOURS)] if few else shades[k]
            rows = codes == k
            self._draw_points(rows, color=colour, marker=MARKERS[k % len(MARKERS)], label=name)
        if few and label_classes and self.ylabel is not None:
            box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "0.3", "alpha": 0.85}
            for k, name in enumerate(names):
                x, y = np.median(self.points[codes == k], axis=0)
                self.ax_.text(x, y, name, ha="center", va="center", fontsize="small", bbox=box, zorder=4)
        places = list(map(str, range(len(names))))  # labels that begin with "_" would be left out
        style = {"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False}
        self.legend_ = self.ax_.legend(self.scatters_, places, ncols=math.ceil(len(names) / 20), **style)
        for text, name in zip(self.legend_.get_texts(), names, strict=True):
            text.set_text(name)
        for handle in self.legend_.legend_handles:
            handle.set(sizes=[36])  # to be told apart even if the points are tiny
            if not np.ndim(handle.get_alpha()):
                handle.set(alpha=1)

    def _draw_points(self, rows: Any, **style: Any) -> None:
        """Draw some points, and under them the ellipses of one standard deviation."""
        points = self.points[rows]
        if self._style.keys() & {"c", "color"}:  # colours of one's own
            style = {
                key: value
                for key, value in style.items()
                if key not in ("color", "c", "cmap", "plotnonfinite")
            }
        n = len(self.points)
        for key, own in self._style.items():  # one for each point, or one for all
            style[key] = np.asarray(own)[rows] if np.ndim(own) and len(own) == n else own
        scatter = self.ax_.scatter(*points.T, **style)
        self.scatters_.append(scatter)
        if self.covariances is None:
            return
        from matplotlib.collections import EllipseCollection

        variance, axes = np.linalg.eigh(self.covariances[rows])
        width, height = 2 * np.sqrt(np.maximum(variance[:, ::-1], 0)).T
        angle = np.degrees(np.arctan2(axes[:, 1, 1], axes[:, 0, 1]))  # of the longer axis, the last one
        values = scatter.get_array()
        colours = scatter.get_facecolor() if values is None else scatter.to_rgba(values)
        ellipses = EllipseCollection(
            width,
            height,
            angle,
            units="xy",
            offsets=points,
            offset_transform=self.ax_.transData,
            facecolors=colours,
            edgecolors=colours,
            alpha=0.15,
            zorder=0.5,
        )
        self.ellipses_.append(self.ax_.add_collection(ellipses))
        reach = np.sqrt(np.diagonal(self.covariances[rows], axis1=1, axis2=2))
        self.ax_.update_datalim(np.concatenate((points - reach, points + reach)))
        self.ax_.autoscale_view()


def read_target(y: Any) -> Any:
    """Return values and None, or codes and names of classes.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    values : ndarray of shape (n_samples,)
        Floats with NaN, or the place of each class among the names.
    names : list of str or None
    """
    y = y if hasattr(y, "dtype") else np.asarray(y)
    y = y.ravel() if isinstance(y, np.ndarray) else y
    column = read_column(y)
    boolean = are_truths(y)
    if column.dtype.kind == "f" and not boolean:
        seen = np.unique(column[~np.isnan(column)])
        if len(seen) > N_CLASSES or (seen != np.round(seen)).any():
            return column, None
    labels = column.tolist()
    missing = [v is None or (isinstance(v, Real) and math.isnan(v)) for v in labels]
    levels: list[Any] = sorted({v for v, hole in zip(labels, missing, strict=True) if not hole})
    places = {level: k for k, level in enumerate(levels)}
    codes = np.array([len(levels) if hole else places[v] for v, hole in zip(labels, missing, strict=True)])
    if boolean:
        names = [str(bool(v)) for v in levels]
    elif is_time(y.dtype):
        is_duration = str(y.dtype).startswith(("timedelta", "duration", "Duration"))
        names = [f"{v:g} d" if is_duration else str(np.datetime64(round(v), "D")) for v in levels]
    else:
        names = [v if isinstance(v, str) else str(int(v)) for v in levels]
    return codes, names + ["missing"] * any(missing)
