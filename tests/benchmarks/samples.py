"""How good samples of images are: to a classifier, beside training rows, and class by class.

    python tests/benchmarks/samples.py MNIST.npz FASHION.npz [--parts quality classes]
        [--sets mnist fashion] [--likelihoods dynamic gaussian] [--epochs N] [--rows N]

A small classifier of the training images is the judge: the Fréchet distance is that of its 64
features on samples and on test images, never to be compared with published ones.

quality  Samples under N(0, I), the default prior and VampPrior: Fréchet distance, and the median
         distance to the nearest training image, where copies would be nearer than test images are.
classes  Samples of each digit with conditional=True: whether the judge sees that digit, and how
         nearest neighbours among samples alone tell real test images.

"Means" are samples with noise=False: the decoder's means, no draws of the model. Draws of a
Bernoulli are 0 or 1, so they are compared with real images that are binarised in the same way.
"""

import argparse
from functools import partial

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from skvae import VAETransformer
from skvae.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian
from skvae.priors import Mixture

LIKELIHOODS = {"dynamic": Bernoulli(True), "continuous": ContinuousBernoulli(), "gaussian": Gaussian()}
PRIORS = {"normal": {"prior": "normal"}, "default": {}, "vamp": {"prior": "vamp"}}
KINDS = {"means": False, "draws": True}


def load(path, n_train):
    """Return training and test images in [0, 1] with their classes."""
    with np.load(path) as data:
        train, test = (data[key].reshape(-1, 784).astype(np.float32) / 255 for key in ("X_train", "X_test"))
        return train[:n_train], data["y_train"][:n_train], test, data["y_test"]


class Judge:
    """A small convolutional network, trained on real images."""

    def __init__(self, X, y, epochs, seed=0):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU())
        self.classes = nn.Linear(64, 10)
        network = nn.Sequential(self.features, self.classes)
        X, y = torch.tensor(X).view(-1, 1, 28, 28), torch.tensor(y).long()
        adam = torch.optim.Adam(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=epochs * -(-len(X) // 128))
        for _ in range(epochs):
            for batch in torch.randperm(len(X)).split(128):
                adam.zero_grad()
                nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
                adam.step()
                schedule.step()

    @torch.no_grad()
    def __call__(self, X):
        """Return features and predicted classes of images."""
        features = torch.cat([self.features(x.view(-1, 1, 28, 28)) for x in torch.tensor(X).split(1000)])
        return features.double().numpy(), self.classes(features).argmax(1).numpy()


def frechet(a, b):
    """Return |mean a - mean b|^2 + trace(A + B - 2 (A B)^(1/2)) of features, A and B covariances."""
    A, B = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(A @ B).real.clip(min=0))  # of a product of such matrices: real
    return max(0.0, ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A + B) - 2 * roots.sum())


def nearest(X, train):
    """Return the median distance of images to the nearest training image."""
    train = torch.tensor(train)
    return float(torch.cat([torch.cdist(x, train).amin(1) for x in torch.tensor(X).split(250)]).median())


def real(X, likelihood, *, noise):
    """Return real images in the form that samples have."""
    if noise and isinstance(likelihood, Bernoulli):
        return (np.random.default_rng(0).random(X.shape, dtype=np.float32) < X).astype(np.float32)
    return X


def fit(options, likelihood, X, y=None, **params):
    """Return a fitted model, all else default."""
    model = VAETransformer(options.components, likelihood=likelihood, random_state=options.seed)
    return model.set_params(max_iter=options.epochs or "auto", conditional=y is not None, **params).fit(X, y)


def quality(name, options, judge, data, likelihood):
    """Print distances of samples to test images and to the nearest training images."""
    (train, _, test, _), n = data, options.samples
    print(f"\n{name}, {likelihood}, {options.components} components; wished: default / normal <= .5")
    print(f"{'':16}" + "".join(f"{kind:>10}{'/ normal':>10}{'nearest':>10}" for kind in KINDS))
    models = {label: fit(options, likelihood, train, **params) for label, params in PRIORS.items()}
    sources = {label: partial(model.sample, n, random_state=0) for label, model in models.items()}
    sources["training images"] = partial(real, train[:n], likelihood)
    sources["test images"] = partial(real, test, likelihood)
    normal = {}
    for label, source in sources.items():
        print(f"{label:16}", end="")
        for noise in KINDS.values():
            X = source(noise=noise)
            distance = frechet(judge(X)[0], judge(real(test, likelihood, noise=noise))[0])
            near = nearest(X[: options.near], real(train, likelihood, noise=noise))
            share = distance / normal.setdefault(noise, distance)
            print(f"{distance:10.2f}{share:10.3f}{near:10.2f}", end="", flush=True)
        print()


def classes(name, options, judge, data, likelihood):
    """Print what the judge and nearest neighbours make of samples of each class."""
    train, y_train, test, y_test = data
    n, y = options.samples, np.arange(options.samples) % 10
    print(f"\n{name}, {likelihood}, conditional, {n} samples{'judge':>8}{'5-NN on test images':>22}")
    print(f"{'wished on MNIST':>20}{0.97:10.3f}{0.93:10.3f}")
    for covariance_type in ("auto", "diag"):
        model = fit(options, likelihood, train, y_train, prior=Mixture(covariance_type=covariance_type))
        for kind, noise in KINDS.items():
            X = model.sample(n, y=y, noise=noise, random_state=0)
            accuracy = KNeighborsClassifier(5).fit(X, y).score(test, y_test)
            label = f"{covariance_type}, {kind}"
            print(f"{label:>20}{np.mean(judge(X)[1] == y):10.3f}{accuracy:10.3f}", flush=True)
    accuracy = KNeighborsClassifier(5).fit(train[:n], y_train[:n]).score(test, y_test)
    print(f"{'real images':>20}{np.mean(judge(test)[1] == y_test):10.3f}{accuracy:10.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist")
    parser.add_argument("fashion")
    parts, sets = {"quality": quality, "classes": classes}, ["mnist", "fashion"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--likelihoods", nargs=2, choices=LIKELIHOODS, default=["dynamic", "gaussian"])
    numbers = {"components": 16, "judge-epochs": 3, "samples": 10_000, "near": 1000, "seed": 0}
    numbers |= {"epochs": None, "rows": None}  # the estimator's default, and all training rows
    for option, default in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    likelihoods = {name: LIKELIHOODS[key] for name, key in zip(sets, options.likelihoods, strict=True)}
    for name in options.sets:
        data = load(getattr(options, name), options.rows)
        judge = Judge(*data[:2], options.judge_epochs)
        print(f"\n{name}: judge's accuracy {np.mean(judge(data[2])[1] == data[3]):.4f}")
        for part in options.parts:
            parts[part](name, options, judge, data, likelihoods[name])
