"""Outlier detection on the classical sets of ADBench, beside its neighbours.

    python tests/benchmarks/outliers.py FOLDER [--sets wine glass] [--methods VAE 5-NN]
        [--protocols semi unsupervised] [--seeds 3] [--rows 50000]

FOLDER holds ADBench's files, number_name.npz with X and y (1: outlier). Printed is the mean AUROC over the
seeds, by set and averaged.

semi          Half of the normal rows train, the rest and all outliers test.
unsupervised  All rows train, without labels, and are ranked.

VAE is the default detector, which does not know whether there are outliers among the training rows; novelty
is told by `novelty=True` that there are none.

Columns are standardised by the training rows; at most so many rows of a set are used. PyOD's columns (ECOD
and its VAE, with its defaults) are there if PyOD is.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skvae import VAEOutlierDetector

EMBEDDINGS = ("CIFAR10", "MVTec-AD", "20news")  # not among the classical sets


def neighbours(train, test, seed):
    """Return the distance to the fifth neighbour; a row is no neighbour of its own."""
    search = NearestNeighbors(n_neighbors=5).fit(train)
    return search.kneighbors(None if test is train else test)[0][:, -1]


def local_outlier_factor(train, test, seed):
    """Return LOF, as a novelty detector or of the training rows themselves."""
    detector = LocalOutlierFactor(20, novelty=test is not train).fit(train)
    return -(detector.negative_outlier_factor_ if test is train else detector.score_samples(test))


def density(model, train, test, seed):
    """Return minus the log-density, or minus the score, of a model with `score_samples`."""
    model = model(len(train), train.shape[1])
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    return -model.fit(train).score_samples(test)


def principal_components(train, test, seed):
    """Return minus the log-density of PCA, with a floor for the noise where half of the columns tell all."""
    model = PCA(max(1, min(train.shape) // 2), random_state=seed).fit(train)
    model.noise_variance_ = noise = max(model.noise_variance_, 1e-3)
    model.explained_variance_ = np.maximum(model.explained_variance_, 1.001 * noise)  # more than noise
    return -model.score_samples(test)


def pyod(name, train, test, seed):
    """Return the scores of PyOD's detector of that name with its defaults."""
    from importlib import import_module

    detector = getattr(import_module(f"pyod.models.{name.lower()}"), name)
    try:
        detector = detector(random_state=seed)
    except TypeError:  # one without randomness
        detector = detector()
    return detector.fit(train).decision_function(test)


def list_methods():
    """Return the columns of the table: functions of training rows, rows to rank and a seed."""
    methods = {
        "VAE": partial(density, lambda n, d: VAEOutlierDetector()),
        "novelty": partial(density, lambda n, d: VAEOutlierDetector(novelty=True)),
        "5-NN": neighbours,
        "LOF": local_outlier_factor,
        "IForest": partial(density, lambda n, d: IsolationForest()),
        "GMM(5)": partial(density, lambda n, d: GaussianMixture(min(5, n // 10), reg_covar=1e-3)),
        "PCA": principal_components,
    }
    try:
        import pyod as _  # noqa: F401
    except ImportError:
        return methods
    return methods | {"ECOD": partial(pyod, "ECOD"), "PyOD VAE": partial(pyod, "VAE")}


def load(path, seed, n_rows):
    """Return rows and labels, at most so many of them at random."""
    with np.load(path, allow_pickle=True) as data:
        X, y = data["X"].astype(np.float64), data["y"].astype(int).ravel()
    index = np.random.default_rng(seed).permutation(len(X))[:n_rows]
    return X[index], y[index]


def split(X, y, protocol, seed):
    """Return standardised training rows, rows to rank, and the labels of the latter."""
    if protocol == "unsupervised":
        X = StandardScaler().fit_transform(X)
        return X, X, y
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    half = len(normal) // 2
    test = np.r_[normal[half:], np.flatnonzero(y)]
    scaler = StandardScaler().fit(X[normal[:half]])
    return scaler.transform(X[normal[:half]]), scaler.transform(X[test]), y[test]


def measure(path, protocol, methods, options):
    """Return mean AUROC and mean seconds of each method on one set."""
    results = np.zeros((options.seeds, len(methods), 2))
    for seed in range(options.seeds):
        train, test, y = split(*load(path, seed, options.rows), protocol, seed)
        for i, method in enumerate(methods.values()):
            start = time.perf_counter()
            score = np.nan_to_num(method(train, test, seed), posinf=np.finfo(float).max)
            results[seed, i] = roc_auc_score(y, score), time.perf_counter() - start
    return results.mean(axis=0).T


def compare(paths, protocol, options):
    """Print the table of one protocol."""
    methods = list_methods()
    methods = {name: methods[name] for name in options.methods or methods}
    print(f"\n{protocol:>20}" + "".join(f"{name:>9}" for name in methods) + "   seconds of the VAE")
    rows = []
    for path in paths:
        auroc, seconds = measure(path, protocol, methods, options)
        rows.append(auroc)
        print(
            f"{path.stem:>20}" + "".join(f"{value:9.3f}" for value in auroc) + f"{seconds[0]:12.1f}",
            flush=True,
        )
    print(f"{'mean':>20}" + "".join(f"{value:9.3f}" for value in np.mean(rows, axis=0)))
    ranks = np.mean([[np.sum(row > value) + 1 for value in row] for row in rows], axis=0)
    print(f"{'mean rank':>20}" + "".join(f"{value:9.2f}" for value in ranks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", help="names without number, all by default")
    parser.add_argument("--protocols", nargs="*", default=["semi", "unsupervised"])
    parser.add_argument("--methods", nargs="*", choices=list(list_methods()), help="all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000, help="at most so many of a set")
    options = parser.parse_args()
    found = [path for path in options.folder.glob("*.npz") if not path.stem.startswith(EMBEDDINGS)]
    found = sorted(found, key=lambda path: int(path.stem.split("_")[0]))
    if options.sets:
        found = [path for path in found if path.stem.split("_", 1)[1] in options.sets]
    for protocol in options.protocols:
        compare(found, protocol, options)
