"""Seconds per training step beside the floor, a plain PyTorch loop and pythae.

    python tests/benchmarks/speed.py YARDSTICKS.py MNIST.npz [--repeats 5]

YARDSTICKS.py defines `floor(D, H, L, B)` and `plain_loop(X, H, L, B, epochs)`, seconds per step.
A fit's seconds per step are the difference of two lengths of fit, so start-up is out; ratios are
medians over repeats within one run. pythae is measured if it is installed.
"""

import argparse
import importlib.util
import statistics
import time

import numpy as np
from sklearn.datasets import load_digits

from skvae import VAETransformer


def seconds_per_step(X, H, L, B, epochs, **params):
    """Return the difference of a short and a long fit, over the steps between them."""
    seconds = []
    for n in (epochs, 3 * epochs):
        model = VAETransformer(
            L, hidden_layer_sizes=(H, H), batch_size=B, max_iter=n, random_state=0, **params
        )
        start = time.perf_counter()
        model.fit(X)
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / (2 * epochs * round(len(X) / B))


def pythae_seconds_per_step(X, H, L, B, epochs):
    """Return pythae's seconds per step with the same network, or None without pythae."""
    if importlib.util.find_spec("pythae") is None:
        return None
    import tempfile

    import torch
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

    seconds = []
    for n in (epochs, 2 * epochs):
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=n, per_device_train_batch_size=B, no_cuda=True
            )
            model = VAE(VAEConfig(input_dim=(D,), latent_dim=L), Encoder(), Decoder())
            rows = [{"data": row} for row in torch.from_numpy(X)]
            trainer = BaseTrainer(model, rows, training_config=config)
            start = time.perf_counter()
            trainer.train()
            seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / (epochs * -(-len(X) // B))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardsticks")
    parser.add_argument("mnist")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("yardsticks", options.yardsticks)
    yardsticks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yardsticks)
    mnist = np.load(options.mnist)["X_train"].reshape(-1, 784)[:20_000].astype(np.float32) / 255
    digits = (load_digits().data[:1792] / 16).astype(np.float32)
    cases = [("784-512-512-16 (128)", mnist, 512, 16, 128, 1), ("64-128-128-8 (64)", digits, 128, 8, 64, 10)]
    print(f"{'':22}{'step ms':>9}{'/ floor':>9}{'plain /':>9}{'pythae /':>9}")
    for name, X, H, L, B, epochs in cases:
        seconds_per_step(X, H, L, B, 1)  # warm up
        rows = []
        for _ in range(options.repeats):
            step = seconds_per_step(X, H, L, B, epochs)
            floor = yardsticks.floor(X.shape[1], H, L, B)
            plain = yardsticks.plain_loop(X, H, L, B, 2 * epochs)
            pythae = pythae_seconds_per_step(X, H, L, B, epochs) or float("nan")
            rows.append((1e3 * step, step / floor, plain / step, pythae / step))
        print(
            f"{name:22}" + "".join(f"{statistics.median(column):9.2f}" for column in zip(*rows, strict=True))
        )
