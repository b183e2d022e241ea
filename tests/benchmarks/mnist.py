"""Nats for seconds: dynamically binarised MNIST in one minute of training, and in five.

    python tests/benchmarks/mnist.py MNIST.npz [--seconds 60 300] [--seeds 1]

MNIST.npz holds X_train and X_test, uint8 of shape (n, 28, 28). Only the number of components, the
likelihood and `max_iter` are given; `max_iter` is what fits into the seconds by the time of two
short fits. The test images are binarised once, by a seeded draw. The wished figures hold for two
cores and a machine that does nothing else.
"""

import argparse
import time

import numpy as np

from skvae import VAETransformer
from skvae.likelihoods import Bernoulli

WISHED = {60: 94.0, 300: 90.5}  # seconds: test NLL, nats per image at most


def load(path, n_train, n_test):
    """Return the grey training images and the binarised test images, in [0, 1]."""
    with np.load(path) as images:
        train, test = (
            images[key][:n].reshape(-1, 784).astype(np.float32) / 255
            for key, n in (("X_train", n_train), ("X_test", n_test))
        )
    binary = np.random.default_rng(0).random(test.shape, dtype=np.float32) < test
    return train, binary.astype(np.float32)


def fit(X, max_iter, seed=0, **params):
    """Return the model and the seconds that its fit took."""
    params = {"likelihood": Bernoulli(dynamic=True), "random_state": seed} | params
    model = VAETransformer(40, max_iter=max_iter, **params)
    start = time.perf_counter()
    model.fit(X)
    return model, time.perf_counter() - start


def pace(X):
    """Return the seconds before the first epoch, and those of an epoch."""
    fit(X[:2000], 1)  # warm up
    one, three = (fit(X, epochs)[1] for epochs in (1, 3))
    epoch = max((three - one) / 2, one / 10)  # a machine shared with others may turn them round
    return max(0.0, one - epoch), epoch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 300])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100, help="importance samples of the NLL")
    options = parser.parse_args()
    train, test = load(options.mnist, options.rows, options.test_rows)
    start_up, epoch = pace(train)
    print(
        f"{len(train)} rows; start-up {start_up:.1f} s, epoch {epoch:.2f} s; "
        f"NLL of {len(test)} test rows by {options.draws} importance samples"
    )
    print(
        f"{'seconds':>8} {'epochs':>7} {'taken':>7} {'NLL':>8} {'error':>6} {'wished':>7} {'train loss':>11}"
    )
    for seconds in options.seconds:
        epochs = max(1, round((seconds - start_up) / epoch))
        for seed in range(options.seeds):
            model, taken = fit(train, epochs, seed)
            nll = -model.score_samples(test, options.draws)
            print(
                f"{seconds:8.0f} {epochs:7} {taken:7.1f} {nll.mean():8.2f} "
                f"{nll.std() / len(nll) ** 0.5:6.2f} {WISHED.get(seconds, float('nan')):7.1f} "
                f"{model.history_['loss'][-1]:11.2f}"
            )
