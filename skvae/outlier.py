"""VAEOutlierDetector: rows that the model finds unlikely, and the cells that make them so."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ._compat import CallbackSupportMixin, Interval, StrOptions, fit_context, nested_fit, with_callbacks
from ._marginals import Marginal, learn_marginals, log_marginals
from ._reading import find_unknown, read_levels, read_rows
from ._typing import Array, RandomState, Rows
from ._validation import refuse_classes, resolve_estimator
from .columns import is_table
from .priors import Mixture
from .transformer import VAETransformer

__all__ = ["VAEOutlierDetector"]

MARGINALS = 0.5  # share of the columns' own densities beside the default model
ROUNDING = 1e-9  # of a score, by which rows come together: equal ones are on one side of the threshold
FEW_ROWS = 1000  # below, the default model trains as long as any
SEEN_ROWS = 128_000  # by it beyond: 1000 steps of 128 rows


class VAEOutlierDetector(CallbackSupportMixin, OutlierMixin, BaseEstimator):
    """Outlier detection by the density log p(x) of a variational autoencoder.

    Rows are scored by log p(x), estimated by importance sampling; the lowest scores are outliers.
    Whatever the wrapped estimator takes is taken: arrays, tables, missing cells.

    A flexible density also learns the outliers that it is trained on, where they lie together. The
    density of each column by itself cannot: so the default averages log p(x) of the model and log
    p(x) of independent columns, and a row is normal if both find it so. Where all training rows are
    known to be normal, say so by ``novelty=True``.

    Parameters
    ----------
    estimator : VAETransformer, FrozenEstimator or None, default=None
        The model of the rows; `fit` trains a clone. None:
        ``VAETransformer(prior=Mixture(10, "diag"), beta=0.1)``, with fewer modes for outliers to occupy and
        a sharper density than the usual one. Of 1000 rows of numbers and more it takes some 1000
        steps alone, ``max_iter=round(128_000 / n_samples)``: few and odd rows are learned last. With
        ``novelty=True`` None is ``VAETransformer(prior=Mixture(500, "diag"), objective="iwae")``, trained
        in full. A fitted one in `sklearn.frozen.FrozenEstimator` is used as it is, and `fit` sets the
        threshold and learns the columns' densities, if asked for.
    novelty : bool, default=False
        Whether all training rows are known to be normal, so that there is nothing that the model must not
        learn. Chooses what ``estimator=None`` and ``marginals="auto"`` stand for, and nothing else.
    marginals : "auto" or float, default="auto"
        Share of the columns' own densities in the score, in [0, 1): ``(1 - marginals) * log p(x) +
        marginals * sum of log p(x_j)``. Raise it if many outliers among the training rows are
        alike, lower it if outliers are odd combinations of common values. "auto" is 0.5 with
        ``estimator=None`` and ``novelty=False``, else 0: log p(x) of the model alone.
    contamination : "auto" or float, default="auto"
        Share of outliers among the training rows, in (0, 0.5], which sets the threshold. "auto" is
        Tukey's lower fence of the training scores: 1.5 interquartile ranges below their first
        quartile. That calls 0.7 % outliers where scores are normally distributed, and a few
        percent where they are skewed, as those of few columns are.
    n_draws : int, default=100
        Draws of z per row for a score.
    random_state : int, RandomState instance or None, default=None
        Replaces that of `estimator`, unless None.

    Attributes
    ----------
    estimator_ : VAETransformer or FrozenEstimator
        The fitted model.
    offset_ : float
        The threshold: ``decision_function = score_samples - offset_``.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only if X has string column names.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Outliers by the depth of random trees.
    sklearn.neighbors.LocalOutlierFactor : Outliers by the density near a row's neighbours.
    sklearn.mixture.GaussianMixture : Another density with `score_samples`.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519,
    equation 8: the score.

    Silverman (1986), Density Estimation for Statistics and Data Analysis, equation 3.28: the width
    of the kernels in the density of a column.

    Tukey (1977), Exploratory Data Analysis, section 2D: the fence.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAEOutlierDetector, VAETransformer
    >>> X = load_iris().data
    >>> detector = VAEOutlierDetector(VAETransformer(2, max_iter=200), random_state=0).fit(X)
    >>> detector.predict([[5.0, 3.4, 1.5, 0.2], [5.0, 3.4, 1.5, 2.5]])
    array([ 1, -1])
    """

    _parameter_constraints: ClassVar = {
        "estimator": [VAETransformer, FrozenEstimator, None],
        "novelty": ["boolean"],
        "marginals": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    _doc_link_module = VAETransformer._doc_link_module
    _doc_link_template = VAETransformer._doc_link_template

    def __init__(
        self,
        estimator: VAETransformer | FrozenEstimator | None = None,
        *,
        novelty: bool = False,
        marginals: float | Literal["auto"] = "auto",
        contamination: float | Literal["auto"] = "auto",
        n_draws: int = 100,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.novelty = novelty
        self.marginals = marginals
        self.contamination = contamination
        self.n_draws = n_draws
        self.random_state = random_state

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=False)  # the estimator checks its own parameters
    def fit(self, X: Rows, y: Any = None) -> Self:
        """Learn the density of X, and the threshold by the scores of its rows.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : None, default=None
            Ignored.

        Returns
        -------
        self : VAEOutlierDetector
        """
        default = novelty_estimator() if self.novelty else default_estimator(X)
        estimator = resolve_estimator(self.estimator, default, self.random_state)
        if estimator is not self.estimator:
            refuse_classes(estimator, "outlier detectors")
        with nested_fit(self, estimator, {"X": X, "y": None}), warnings.catch_warnings():
            if self.estimator is None and not self.novelty:  # few epochs are meant
                warnings.filterwarnings("ignore", "The loss was still falling", ConvergenceWarning)
            estimator.fit(X, None)  # FrozenEstimator wants both
        share = self._choose_share()
        marginals = learn_columns(estimator, X) if share else []
        scores = self._score(estimator, X, marginals, share)
        validate_data(self, X, skip_check_array=True)  # only notes the names of the columns
        self.estimator_ = estimator
        self._marginals, self._share = marginals, share
        self.offset_ = self._threshold(scores)
        return self

    def predict(self, X: Rows) -> Array:
        """Tell which rows are outliers.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def decision_function(self, X: Rows) -> Array:
        """Return by how much each row clears the threshold.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Nats; negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def score_samples(self, X: Rows) -> Array:
        """Estimate log p(x) of each row, with the share of `marginals` in it.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Nats, in the units of X; higher is more normal.
        """
        check_is_fitted(self)
        return self._score(self.estimator_, X, self._marginals, self._share)

    def explain(self, X: Rows) -> Array:
        """Tell how unlikely each cell is, given the others as far as the latent space knows of them.

        -log p(x) = E[-log p(x given z)] + KL(p(z given x) || p(z)). The first term is a sum over
        cells; both are estimated by the draws and importance weights of `score_samples`. With
        `marginals`, a cell is also told by how unlikely it is in its column, to that share.

        A column's typical value depends on its unit and on its noise, so compare with normal rows:
        ``explain(X) - explain(X_normal).mean(axis=0)``.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        surprise : ndarray of shape (n_samples, n_features + 1)
            Nats; higher is less normal. One column for each of X, 0 where a cell is missing, and
            last the latent term, how unusual the combination is that z stands for. A row sums to
            minus its `score_samples`.
        """
        check_is_fitted(self)
        scores: Array = self.estimator_.score_cells(X, self.n_draws)
        if self._marginals:
            scores = (1 - self._share) * scores
            scores[:, :-1] += log_columns(self.estimator_, X, self._marginals, self._share)
        return -scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(default_estimator() if self.estimator is None else self.estimator)
        tags.input_tags = inner.input_tags
        return tags

    def _choose_share(self) -> float:
        if self.marginals == "auto":
            return MARGINALS if self.estimator is None and not self.novelty else 0.0
        return float(self.marginals)

    def _score(self, estimator: Any, X: Rows, marginals: list[Marginal], share: float) -> Array:
        scores: Array = estimator.score_samples(X, self.n_draws).astype(np.float64)
        if marginals:
            scores *= 1 - share
            scores += log_columns(estimator, X, marginals, share).sum(axis=1)
        return scores

    def _threshold(self, scores: Array) -> float:
        finite = scores[np.isfinite(scores)]  # rows of probability 0 are below any threshold
        if len(finite) == 0:
            return 0.0
        if self.contamination != "auto":
            share = self.contamination - (1 - len(finite) / len(scores))  # that is left among the others
            threshold = float(np.quantile(finite, max(0.0, share * len(scores) / len(finite))))
        else:
            first, third = np.quantile(finite, [0.25, 0.75])
            threshold = float(first - 1.5 * (third - first))
        return threshold - ROUNDING * max(1.0, abs(threshold))


def default_estimator(X: Any = None) -> VAETransformer:
    """Return the model that ranked best, with and without outliers among the training rows X."""
    max_iter: Any = "auto"
    if X is not None and not is_table(X):
        shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
        if shape and shape[0] >= FEW_ROWS:
            max_iter = max(1, round(SEEN_ROWS / shape[0]))
    return VAETransformer(prior=Mixture(10, "diag"), beta=0.1, max_iter=max_iter)


def novelty_estimator() -> VAETransformer:
    """Return the model that ranked best where all training rows are normal."""
    return VAETransformer(prior=Mixture(500, "diag"), objective="iwae")


def learn_columns(estimator: Any, X: Rows) -> list[Marginal]:
    """Return the density of each column by itself, of rows that a fitted model takes."""
    vae = _model_of(estimator)
    rows = read_rows(vae, X)
    return learn_marginals(rows, read_levels(vae, rows))


def log_columns(estimator: Any, X: Rows, marginals: list[Marginal], share: float) -> Array:
    """Return what columns by themselves give to the scores of cells, shape (n_samples, n_features).

    That is a share of log p, and all of it where a level is one that the model has not seen, and leaves out.
    """
    vae = _model_of(estimator)
    rows = read_rows(vae, X)
    scores = share * log_marginals(marginals, rows)
    unknown = find_unknown(vae, X, rows)
    scores[unknown] = [marginals[place].log_share[-1] for place in np.nonzero(unknown)[1]]
    return scores


def _model_of(estimator: Any) -> Any:
    """Return the model itself, also of one that is frozen."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
