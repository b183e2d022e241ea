"""Held-out nats per row and seconds of default fits from 200 to 500,000 rows of several tables.

    python tests/benchmarks/scaling.py TABLE [TABLE ...] [--rows 200 1000 ...]

Tables are archives (.npz) with an array X (rows, columns), or .csv.gz of numbers. Columns are standardised
and get normal noise of .01, so that repeated values make no density infinite. 5,000 rows that no fit sees
are scored: mean, and median, as a single row far from all others can decide the mean. Beside the default
stand heavier tails (likelihood="student_t"), factor analysis and a Gaussian mixture; all have 8 components,
or one fewer than columns, and the mixture has 10. `gap` is the median of training rows less that of held-out
ones: a large number is overfitting. Seconds and epochs are those of the default.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

from skvae import VAETransformer

N_TEST, MOST_OTHERS = 5000, 50_000  # rows to score; that factor analysis and mixture learn from


def load(path, rng):
    """Return shuffled, standardised rows with a little noise."""
    X = pd.read_csv(path) if path.endswith(".csv.gz") else np.load(path, allow_pickle=True)["X"]
    X = np.asarray(X, dtype=np.float64)
    X = X[:, X.std(0) > 0]
    X = (X - X.mean(0)) / X.std(0)
    return rng.permutation(X + 0.01 * rng.normal(size=X.shape))


def compare(X, X_test):
    """Return seconds and epochs of the default, its gap, and the scores of held-out rows of each model."""
    k = min(8, X.shape[1] - 1)
    start = time.perf_counter()
    vae = VAETransformer(k, random_state=0).fit(X)
    seconds = time.perf_counter() - start
    scores = [vae.score_samples(X_test)]
    gap = np.median(vae.score_samples(X[:N_TEST])) - np.median(scores[0])
    scores.append(VAETransformer(k, likelihood="student_t", random_state=0).fit(X).score_samples(X_test))
    others = FactorAnalysis(k), GaussianMixture(10, reg_covar=1e-3, random_state=0)
    scores += [other.fit(X[:MOST_OTHERS]).score_samples(X_test) for other in others]
    return seconds, vae.n_iter_, gap, scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1000, 5000, 20_000, 100_000, 500_000])
    options = parser.parse_args()
    names = "".join(f"{name:>21}" for name in ("VAE: mean (median)", "student_t", "FA", "GMM"))
    print(f"{'table':>12} {'rows':>7} {'seconds':>8} {'epochs':>7} {'gap':>6}{names}")
    for path in options.tables:
        X = load(path, np.random.default_rng(0))
        X_test, X = X[:N_TEST], X[N_TEST:]
        for n in [n for n in options.rows if n <= len(X)]:
            seconds, epochs, gap, scores = compare(X[:n], X_test)
            figures = "".join(f"{f'{np.mean(s):.2f} ({np.median(s):.2f})':>21}" for s in scores)
            name = Path(path).name.partition(".")[0][-12:]
            print(f"{name:>12} {n:7} {seconds:8.1f} {epochs:7} {gap:6.2f}{figures}", flush=True)
