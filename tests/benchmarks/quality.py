"""How good the defaults are on arrays: reconstruction, neighbours and held-out log-likelihood.

    python tests/benchmarks/quality.py [--seeds 3]

Only `n_components` and `random_state` are given. The test part only reports.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

RECONSTRUCTION = {2: (0.030, 0.89), 8: (0.0120, 0.96), 16: (0.0085, 0.96)}  # targets: error, accuracy


def reconstruction(seeds):
    """Print the error and the 5-NN accuracy on digits for 2, 8 and 16 components."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)

    def measure(model):
        start = time.perf_counter()
        Z_train = model.fit(X_train).transform(X_train)
        seconds = time.perf_counter() - start
        Z_test = model.transform(X_test)
        error = np.mean((model.inverse_transform(Z_test) - X_test) ** 2)
        return error, KNeighborsClassifier(5).fit(Z_train, y_train).score(Z_test, y_test), seconds

    print(f"{'digits':>8} {'error':>8} {'target':>8} {'5-NN':>7} {'target':>7} {'seconds':>8}   PCA")
    for k, (error_target, accuracy_target) in RECONSTRUCTION.items():
        vae = [measure(VAETransformer(k, random_state=seed)) for seed in range(seeds)]
        error, accuracy, seconds = np.mean(vae, axis=0)
        pca = measure(PCA(k))
        print(
            f"{k:8} {error:8.4f} {error_target:8.4f} {accuracy:7.3f} {accuracy_target:7.2f} {seconds:8.1f}"
            f"   {pca[0]:.4f} {pca[1]:.3f}"
        )


def log_likelihood(seeds):
    """Print held-out nats per row beside factor analysis and Gaussian mixtures."""
    digits = load_digits().data
    tables = {
        "wine": load_wine().data,
        "breast cancer": load_breast_cancer().data,
        "digits": digits + np.random.default_rng(0).uniform(size=digits.shape),
    }
    others = {
        "FA(8)": FactorAnalysis(8, random_state=0),
        "GMM(10)": GaussianMixture(10, reg_covar=1e-3, random_state=0),
        "GMM(3)": GaussianMixture(3, reg_covar=1e-3, random_state=0),
    }
    print(f"\n{'held out':>14} {'VAE(8)':>9} {'seconds':>8}" + "".join(f"{name:>10}" for name in others))
    for name, X in tables.items():
        train, test = train_test_split(X, random_state=0)
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
        start = time.perf_counter()
        models = [VAETransformer(8, random_state=seed).fit(train) for seed in range(seeds)]
        seconds = (time.perf_counter() - start) / seeds
        score = np.mean([model.score(test) for model in models])
        rest = "".join(f"{model.fit(train).score(test):10.2f}" for model in others.values())
        print(f"{name:>14} {score:9.2f} {seconds:8.1f}{rest}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    reconstruction(seeds)
    log_likelihood(seeds)
