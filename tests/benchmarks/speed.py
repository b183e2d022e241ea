"""Speed: steps beside the floor, a plain loop and pythae; rows, threads, precision, transform, import.

    python tests/benchmarks/speed.py YARDSTICKS.py MNIST.npz [--parts steps rows ...] [--repeats 5]

YARDSTICKS.py defines `floor(D, H, L, B)` and `plain_loop(X, H, L, B, epochs)`, seconds per step.
A fit's seconds per step are the difference of two lengths of fit, so start-up is out; all figures are
medians over repeats within one run. pythae is measured if it is installed.
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skvae import VAETransformer
from skvae.networks import MLP


def seconds(function, *args):
    """Return how long a call takes."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def seconds_per_step(X, L, B, epochs, **params):
    """Return the difference of a short and a long fit, over the steps between them."""
    short, long = (
        seconds(VAETransformer(L, batch_size=B, max_iter=n, random_state=0, **params).fit, X)
        for n in (epochs, 3 * epochs)
    )
    return (long - short) / (2 * epochs * round(len(X) / B))


def pythae_seconds_per_step(X, H, L, B, epochs, no_cuda=True):
    """Return pythae's seconds per step with the same network, or None without pythae."""
    if importlib.util.find_spec("pythae") is None:
        return None
    logging.disable(logging.CRITICAL)  # it tells what it was asked to do
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn

    D = X.shape[1]

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(D, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU(), nn.Linear(H, 2 * L)
            )

        def forward(self, x):
            mean, log_covariance = self.layers(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_covariance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(L, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU(), nn.Linear(H, D)
            )

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    taken = []
    for n in (epochs, 2 * epochs):
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=n, per_device_train_batch_size=B, no_cuda=no_cuda
            )
            model = VAE(VAEConfig(input_dim=(D,), latent_dim=L), Encoder(), Decoder())
            rows = [{"data": row} for row in torch.from_numpy(X)]
            with contextlib.redirect_stderr(io.StringIO()):  # progress bars
                taken.append(seconds(BaseTrainer(model, rows, training_config=config).train))
    return (taken[1] - taken[0]) / (epochs * -(-len(X) // B))


def median(rows):
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def steps(options, mnist, yardsticks):
    """Print steps beside the yardsticks: the default network, and the plain loop's own."""
    digits = (load_digits().data[:1792] / 16).astype(np.float32)
    print(f"{'':34}{'step ms':>9}{'/ floor':>9}{'plain /':>9}{'pythae /':>9}")
    for name, X, H, L, B, epochs in (
        ("784-512-512-16 (128)", mnist[:20_000], 512, 16, 128, 1),
        ("64-128-128-8 (64)", digits, 128, 8, 64, 10),
    ):
        plain_network = MLP((H, H), "relu", skip=False)
        networks = {
            "default": {"hidden_layer_sizes": (H, H)},
            "same network": {"encoder": plain_network, "decoder": plain_network, "prior": "normal"},
        }
        seconds_per_step(X, L, B, 1, hidden_layer_sizes=(H, H))  # warm up
        rows = {key: [] for key in networks}
        for _ in range(options.repeats):
            floor = yardsticks.floor(X.shape[1], H, L, B)
            plain = yardsticks.plain_loop(X, H, L, B, 2 * epochs)
            pythae = pythae_seconds_per_step(X, H, L, B, epochs) or float("nan")
            for key, params in networks.items():
                step = seconds_per_step(X, L, B, epochs, **params)
                rows[key].append((1e3 * step, step / floor, plain / step, pythae / step))
        for key in networks:
            print(f"{name:21} {key:12}" + "".join(f"{value:9.2f}" for value in median(rows[key])))


def rows(options, mnist, yardsticks):
    """Print the cost of a row from 10,000 to 1,000,000 rows."""
    rng = np.random.default_rng(0)
    print(f"{'rows':>9} {'us a row':>9}")
    for n in (10_000, 100_000, 1_000_000):
        X = rng.normal(size=(n, 20)).astype(np.float32)
        epochs = max(1, 200_000 // n)
        cost = [
            seconds_per_step(X, 8, 128, epochs, weight_decay=1e-4) / 128
            for _ in range(options.repeats // 2 + 1)
        ]
        print(f"{n:9} {1e6 * statistics.median(cost):9.2f}")


def threads(options, mnist, yardsticks):
    """Print what two jobs gain in a grid search over small models."""
    X = load_digits().data / 16

    def search(n_jobs):
        grid = {"n_components": [2, 4, 8, 16], "beta": [0.5, 1.0]}
        model = VAETransformer(max_iter=60, random_state=0)
        return seconds(GridSearchCV(model, grid, cv=2, n_jobs=n_jobs, refit=False).fit, X)

    search(2)  # starts the workers
    one, two = search(1), search(2)
    print(f"GridSearchCV: n_jobs=1 {one:.1f} s, n_jobs=2 {two:.1f} s, {one / two:.2f} times faster")


def precision(options, mnist, yardsticks):
    """Print what bfloat16 and compiled networks gain on 784-1024-1024-32, batch 1024."""
    X, X_test = mnist[:20_000], mnist[20_000:22_000]
    params = {"hidden_layer_sizes": (1024, 1024)}
    settings = ({}, {"precision": "bfloat16"}, {"compile": True}, {"compile": True, "precision": "bfloat16"})
    cases = [params | more for more in settings]
    seconds_per_step(X, 32, 1024, 1, **params)  # warm up
    print(f"{'784-1024-1024-32 (1024)':48} {'step ms':>8} {'first s':>8} {'score':>8}")
    for case in cases:
        model = VAETransformer(32, batch_size=1024, max_iter=15, random_state=0, **case)
        first = seconds(VAETransformer(32, batch_size=1024, max_iter=1, random_state=0, **case).fit, X)
        step = statistics.median(
            seconds_per_step(X, 32, 1024, 1, **case) for _ in range(options.repeats // 2 + 1)
        )
        score = model.fit(X).score(X_test)
        print(f"{case!s:48} {1e3 * step:8.1f} {first:8.1f} {score:8.1f}")


def transform(options, mnist, yardsticks):
    """Print the speed of `transform` as a share of the encoder's forward pass."""
    vae = VAETransformer(16, hidden_layer_sizes=(512, 512), max_iter=1, random_state=0).fit(mnist[:5000])
    X = mnist[:20_000]
    encoder = vae.module_.encoder
    size = (1 << 20) // max(n for p in vae.module_.parameters() for n in p.shape)  # as `transform` takes them
    batches = torch.from_numpy(X).split(size)

    def forward():
        with torch.no_grad():
            for batch in batches:
                encoder(batch)

    forward()
    ratios = [seconds(forward) / seconds(vae.transform, X) for _ in range(2 * options.repeats + 1)]
    print(f"transform reaches {statistics.median(ratios):.2f} of the encoder's forward pass")


def start(options, mnist, yardsticks):
    """Print what `import skvae` costs beyond its dependencies."""
    code = (
        "import time, torch, sklearn; t = time.perf_counter(); import skvae; print(time.perf_counter() - t)"
    )
    taken = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
        for _ in range(options.repeats)
    ]
    print(f"import skvae: {statistics.median(taken):.2f} s beyond import torch, sklearn")


if __name__ == "__main__":
    parts = {f.__name__: f for f in (steps, rows, threads, precision, transform, start)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardsticks")
    parser.add_argument("mnist")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("yardsticks", options.yardsticks)
    yardsticks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yardsticks)
    mnist = np.load(options.mnist)["X_train"].reshape(-1, 784).astype(np.float32) / 255
    for part in options.parts:
        parts[part](options, mnist, yardsticks)
