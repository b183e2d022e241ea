"""Held-out nats per row and seconds of default fits from 200 to 500,000 rows of several tables.

    python tests/benchmarks/scaling.py TABLE.npz [TABLE.npz ...] [--rows 200 1000 ...]

Tables have an array X (rows, columns). Columns are standardised and get normal noise of .01, so that
repeated values make no density infinite. 5,000 rows that no fit sees are scored; factor analysis and
a Gaussian mixture stand beside. `generalisation` is the score of training rows less that of held-out
ones: a large number is overfitting.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

from skvae import VAETransformer


def table(path, rng):
    """Return shuffled, standardised rows with a little noise."""
    X = np.load(path, allow_pickle=True)["X"].astype(np.float64)
    X = X[:, X.std(0) > 0]
    X = (X - X.mean(0)) / X.std(0)
    return rng.permutation(X + 0.01 * rng.normal(size=X.shape))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1000, 5000, 20_000, 100_000, 500_000])
    options = parser.parse_args()
    head = f"{'table':>16} {'rows':>8} {'VAE(8)':>8} {'seconds':>8} {'epochs':>7} {'generalisation':>15}"
    print(head + f" {'FA(8)':>8} {'GMM(10)':>8}")
    for path in options.tables:
        X = table(path, np.random.default_rng(0))
        X_test, X = X[:5000], X[5000:]
        for n in [n for n in options.rows if n <= len(X)]:
            k = min(8, X.shape[1] - 1)
            start = time.perf_counter()
            vae = VAETransformer(k, random_state=0).fit(X[:n])
            seconds = time.perf_counter() - start
            score = vae.score(X_test)
            gap = vae.score(X[:n][:5000]) - score
            others = [FactorAnalysis(k), GaussianMixture(10, reg_covar=1e-3, random_state=0)]
            others = [model.fit(X[: min(n, 50_000)]).score(X_test) for model in others]
            figures = f"{score:8.2f} {seconds:8.1f} {vae.n_iter_:7} {gap:15.2f}"
            print(
                f"{Path(path).stem[:16]:>16} {n:8} {figures} {others[0]:8.2f} {others[1]:8.2f}",
                flush=True,
            )
