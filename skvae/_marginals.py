"""The density of each column of a matrix by itself, whatever the others hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._arrays import choose_rows, moments, row_chunks
from ._typing import Array

MOST_POINTS = 256  # quantiles that stand for a column
MOST_ROWS = 100_000  # rows that tell them
FARTHEST = 1e150  # widths from a kernel: the square is still a float
LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class Marginal:
    """Density of one column: normal kernels on its quantiles, or the shares of its levels.

    Attributes
    ----------
    points : ndarray of shape (n_points,)
        Where the kernels stand; none if the column is constant, which then tells nothing.
    log_share : ndarray of shape (n_points,)
        Of kernels, or of levels by code and last of any level never seen.
    width : float
        Standard deviation of the kernels; 0 for levels.
    """

    points: Array
    log_share: Array
    width: float

    def log_prob(self, x: Array) -> Array:
        """Return log p of each cell in nats, in the unit of the column; 0 where one is missing."""
        log_prob, seen = np.zeros(len(x)), ~np.isnan(x)
        if len(self.log_share):
            log_prob[seen] = self._of_kernels(x[seen]) if self.width else self._of_levels(x[seen])
        return log_prob

    def _of_levels(self, codes: Array) -> Array:
        return self.log_share[np.minimum(codes.astype(int), len(self.log_share) - 1)]

    def _of_kernels(self, x: Array) -> Array:
        log_prob = np.empty(len(x))
        for rows in row_chunks(len(x), len(self.points)):
            distance = np.minimum(np.abs(x[rows, None] - self.points) / self.width, FARTHEST)
            logs = self.log_share - 0.5 * np.square(distance)
            most = logs.max(axis=1)
            log_prob[rows] = most + np.log(np.exp(logs - most[:, None]).sum(axis=1))
        return log_prob - np.log(self.width) - 0.5 * LOG_2PI


def learn_marginals(X: Array, n_levels: Sequence[int]) -> list[Marginal]:
    """Estimate the density of each column.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        NaN where a cell is missing.
    n_levels : sequence of int
        For each column the number of its levels, coded 0, 1, 2 ..., or 0 if it is numeric.

    Returns
    -------
    marginals : list of Marginal
    """
    if len(X) > MOST_ROWS:
        X = X[choose_rows(len(X), MOST_ROWS, seed=0)]
    marginals = []
    for j, n in enumerate(n_levels):
        x = np.asarray(X[:, j], dtype=np.float64)
        x = x[~np.isnan(x)]
        marginals.append(_learn_levels(x, n) if n else _learn_numbers(x))
    return marginals


def log_marginals(marginals: Sequence[Marginal], X: Array) -> Array:
    """Return log p of each cell by itself in nats, shape (n_rows, n_features); 0 where one is missing."""
    log_prob = np.empty(X.shape)
    for j, marginal in enumerate(marginals):
        log_prob[:, j] = marginal.log_prob(np.asarray(X[:, j], dtype=np.float64))
    return log_prob


def _learn_levels(codes: Array, n_levels: int) -> Marginal:
    """Count levels, each once more than it comes, as Laplace's rule of succession does."""
    count = np.bincount(codes.astype(int), minlength=n_levels + 1) + 1.0
    return Marginal(np.empty(0), np.log(count / count.sum()), 0.0)


def _learn_numbers(x: Array) -> Marginal:
    """Put kernels on quantiles, of the width that suits a normal density: Silverman (1986), 3.28."""
    spread = float(moments(x[:, None])[1][0]) if len(x) else 0.0
    if not spread:
        return Marginal(np.empty(0), np.empty(0), 0.0)
    n = min(len(x), MOST_POINTS)
    quantiles = np.quantile(x, (np.arange(n) + 0.5) / n, method="inverted_cdf")
    points, count = np.unique(quantiles, return_counts=True)
    return Marginal(points, np.log(count / n), 1.06 * spread * n**-0.2)
