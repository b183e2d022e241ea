"""Displays of real beside synthetic tables."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ._display import draw_rows, find_vae, import_pyplot, literal, make_panels
from ._statistics import Marginal, associations, marginal, pair_columns
from ._typing import Array, RandomState, Table
from ._values import check_count

__all__ = ["CorrelationDisplay", "MarginalsDisplay"]

N_PANELS = 24  # columns that are shown unless more are asked for
REAL, SYNTHETIC = "0.75", "#0072B2"  # light grey and Okabe and Ito's dark blue


class MarginalsDisplay:
    """The distribution of each column, real beside synthetic.

    A numeric column is a histogram of shared bins from about the 0.5 % to the 99.5 % quantile, with
    what lies beyond in the outer bins. A column of levels is a pair of bars for each of the most
    frequent ones.

    Use `from_estimator` or `from_tables` to create one.

    Parameters
    ----------
    marginals : list of Marginal
        Named tuples with `name`, `edges` (of the bins, or None), `levels` (or None), `real` and
        `synthetic` (shares of the rows with a value), and `missing` (shares of all rows).

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each column.
    ax_ : matplotlib Axes or None
        The one that was divided, if any.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import MarginalsDisplay
    >>> rng = np.random.default_rng(0)
    >>> display = MarginalsDisplay.from_tables(rng.normal(size=(90, 3)), rng.normal(size=(50, 3)))
    >>> display.axes_.shape
    (3,)
    """

    def __init__(self, *, marginals: list[Marginal]) -> None:
        self.marginals = marginals

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_samples: int | None = None,
        columns: Sequence[str | int] | None = None,
        random_state: RandomState = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the columns of X beside those of rows that the model makes up.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer, and all its steps can be undone.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Real rows.
        n_samples : int, default=None
            How many rows to make up. None takes as many as X has.
        columns : sequence of str or int, default=None
            Names or places of the columns to draw. None takes the first 24.
        random_state : int, RandomState instance or None, default=None
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each column. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : MarginalsDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        synthetic = _sample_like(estimator, X, n_samples, random_state)
        return cls.from_tables(X, synthetic, columns=columns, ax=ax, **kwargs)

    @classmethod
    def from_tables(
        cls,
        real: Table,
        synthetic: Table,
        *,
        columns: Sequence[str | int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the columns of two tables.

        Parameters
        ----------
        real, synthetic : DataFrame or array-like of shape (n_samples, n_features)
            Columns go by name, or by place if one of both is an array.
        columns : sequence of str or int, default=None
            Names or places of the columns to draw. None takes the first 24.
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each column. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : MarginalsDisplay
        """
        pairs = pair_columns(real, synthetic, columns)
        pairs = pairs[:N_PANELS] if columns is None else pairs
        return cls(marginals=[marginal(pair) for pair in pairs]).plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        n_columns: int = 4,
        real_kw: dict[str, Any] | None = None,
        synthetic_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a panel for each column.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            An axes to divide, or one for each column. None makes a new figure.
        n_columns : int, default=4
            Panels side by side.
        real_kw, synthetic_kw : dict, default=None
            Passed on to `matplotlib.axes.Axes.stairs` and `matplotlib.axes.Axes.barh`.

        Returns
        -------
        self : MarginalsDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        real_kw = {"label": "real", "color": REAL} | (real_kw or {})
        synthetic_kw = {"label": "synthetic", "color": SYNTHETIC} | (synthetic_kw or {})
        check_count(n_columns, "n_columns")
        self.ax_, self.axes_ = make_panels(plt, ax, len(self.marginals), n_columns, (3.2, 2.4))
        for panel, shown in zip(self.axes_.ravel(), self.marginals, strict=True):
            (_draw_levels if shown.edges is None else _draw_bins)(panel, shown, real_kw, synthetic_kw)
            panel.set_title(_title(shown), fontsize="medium")
            panel.spines[["top", "right"]].set_visible(False)
        place = "lower right" if self.marginals[0].edges is None else "upper right"  # mostly free
        self.axes_.ravel()[0].legend(fontsize="small", loc=place)
        self.figure_ = self.axes_.ravel()[0].figure
        return self


class CorrelationDisplay:
    """How strongly columns go together: real, synthetic, and the difference.

    Two numeric columns have Pearson's correlation, from -1 to 1; a numeric one and one of levels
    the correlation ratio, and two of levels Cramer's V with Bergsma's correction, both from 0 to 1.
    A missing cell leaves its row out of the pairs that it belongs to.

    Use `from_estimator` or `from_tables` to create one.

    Parameters
    ----------
    real, synthetic : ndarray of shape (n_columns, n_columns)
        Associations; NaN where a column does not vary.
    names : list of str
        Names of the columns.

    Attributes
    ----------
    difference : ndarray of shape (n_columns, n_columns)
        Synthetic minus real.
    axes_ : ndarray of matplotlib Axes
        For real, synthetic and difference.
    ax_ : matplotlib Axes or None
        The one that was divided, if any.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import CorrelationDisplay
    >>> rng = np.random.default_rng(0)
    >>> display = CorrelationDisplay.from_tables(rng.normal(size=(90, 3)), rng.normal(size=(50, 3)))
    >>> display.difference.shape
    (3, 3)
    """

    def __init__(self, *, real: Array, synthetic: Array, names: list[str]) -> None:
        self.real = real
        self.synthetic = synthetic
        self.names = names

    @property
    def difference(self) -> Array:
        """Synthetic minus real."""
        return self.synthetic - self.real

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_samples: int | None = None,
        columns: Sequence[str | int] | None = None,
        random_state: RandomState = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the associations of X beside those of rows that the model makes up.

        Parameters
        ----------
        estimator : VAETransformer or Pipeline
            Fitted; a pipeline ends with a VAETransformer, and all its steps can be undone.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Real rows.
        n_samples : int, default=None
            How many rows to make up. None takes as many as X has.
        columns : sequence of str or int, default=None
            Names or places of the columns to draw. None takes all.
        random_state : int, RandomState instance or None, default=None
        ax : matplotlib Axes or array-like of three Axes, default=None
            An axes to divide, or three. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : CorrelationDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        synthetic = _sample_like(estimator, X, n_samples, random_state)
        return cls.from_tables(X, synthetic, columns=columns, ax=ax, **kwargs)

    @classmethod
    def from_tables(
        cls,
        real: Table,
        synthetic: Table,
        *,
        columns: Sequence[str | int] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the associations of two tables.

        Parameters
        ----------
        real, synthetic : DataFrame or array-like of shape (n_samples, n_features)
            Columns go by name, or by place if one of both is an array.
        columns : sequence of str or int, default=None
            Names or places of the columns to draw. None takes all.
        ax : matplotlib Axes or array-like of three Axes, default=None
            An axes to divide, or three. None makes a new figure.
        **kwargs : dict
            Passed on to `plot`.

        Returns
        -------
        display : CorrelationDisplay
        """
        pairs = pair_columns(real, synthetic, columns)
        display = cls(
            real=associations([pair.real for pair in pairs]),
            synthetic=associations([pair.synthetic for pair in pairs]),
            names=[pair.name for pair in pairs],
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw three heat maps: real, synthetic, and the difference on a scale of its own.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of three Axes, default=None
            An axes to divide, or three. None makes a new figure.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.imshow`. `cmap` is "RdBu_r": 0 is white.

        Returns
        -------
        self : CorrelationDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        difference = self.difference
        seen = np.abs(difference[~np.eye(len(difference), dtype=bool) & np.isfinite(difference)])
        most = max(0.05, seen.max(initial=0.0))
        side = float(np.clip(0.2 * len(self.names), 2.4, 5.0))
        margin = 0.08 * max(len(_shorten(name)) for name in self.names) + 0.6  # of the names, in inches
        self.ax_, self.axes_ = make_panels(plt, ax, 3, 3, (side + (margin + 1.6) / 3, side + margin))
        cmap = plt.get_cmap(kwargs.pop("cmap", "RdBu_r")).with_extremes(bad="0.8")
        tables = {"real": self.real, "synthetic": self.synthetic, "synthetic - real": difference}
        for panel, (name, values) in zip(self.axes_.ravel(), tables.items(), strict=True):
            limit = most if values is difference else 1.0
            span = {} if "norm" in kwargs else {"vmin": -limit, "vmax": limit}
            image = panel.imshow(values, **{"cmap": cmap} | span | kwargs)
            panel.set_title(name, fontsize="medium")
            self._name_columns(panel, named=name == "real")
            if name != "real":
                bar = panel.figure.colorbar(image, ax=panel, shrink=0.7, pad=0.02)
        bar.set_label(f"mean absolute: {seen.mean():.3f}" if seen.size else "", fontsize="small")
        self.figure_ = panel.figure
        return self

    def _name_columns(self, panel: Any, named: bool) -> None:
        panel.set(xticks=[], yticks=[])
        if len(self.names) <= 40:
            places = range(len(self.names))
            panel.set_xticks(places, [_shorten(name) for name in self.names], rotation=90, fontsize="small")
            panel.set_yticks(places, [_shorten(name) if named else "" for name in self.names])
            panel.tick_params(labelsize="small", length=0)


def _sample_like(estimator: Any, X: Any, n_samples: int | None, random_state: RandomState) -> Table:
    """Return as many rows that the model makes up as asked for, or as X has."""
    find_vae(estimator)
    return draw_rows(estimator, len(X) if n_samples is None else n_samples, random_state=random_state)


def _draw_bins(ax: Any, shown: Any, real_kw: dict[str, Any], synthetic_kw: dict[str, Any]) -> None:
    ax.stairs(shown.real, shown.edges, **{"fill": True} | real_kw)
    ax.stairs(shown.synthetic, shown.edges, **{"linewidth": 1.5} | synthetic_kw)
    ax.set_ylabel("share of rows", fontsize="small")
    ax.tick_params(labelsize="small")
    ax.locator_params(axis="x", nbins=4, integer=bool((shown.edges % 1 == 0.5).all()))


def _draw_levels(ax: Any, shown: Any, real_kw: dict[str, Any], synthetic_kw: dict[str, Any]) -> None:
    places = np.arange(len(shown.levels))
    ax.barh(places - 0.2, shown.real, **{"height": 0.4} | real_kw)
    ax.barh(places + 0.2, shown.synthetic, **{"height": 0.4} | synthetic_kw)
    ax.set_yticks(places, [_shorten(level) for level in shown.levels])
    ax.invert_yaxis()
    ax.set_xlabel("share of rows", fontsize="small")
    ax.tick_params(labelsize="small")
    ax.locator_params(axis="x", nbins=4)


def _title(shown: Marginal) -> str:
    name = literal(shown.name)
    if not any(shown.missing):
        return name
    return f"{name} (missing: {shown.missing[0]:.0%}, {shown.missing[1]:.0%})"


def _shorten(name: str, length: int = 18) -> str:
    return literal(name if len(name) <= length else name[: length - 1] + "…")
