"""A GPU: steps replayed, launched one by one, and pythae's; fits of MNIST.

    python tests/benchmarks/gpu.py MNIST.npz [--parts epochs steps] [--repeats 3] [--first 0] [--epochs 100]

Seconds per step are differences of two lengths of fit, medians over the repeats. pythae is measured
if it is installed.
"""

import argparse

import numpy as np
import torch
from mnist import fit, load
from sklearn.datasets import load_digits
from speed import median, pythae_seconds_per_step, seconds, seconds_per_step

from skvae import VAETransformer, _fitting
from skvae.networks import MLP

WISHED_SECONDS, WISHED_RATIO = 20, 10


def steps(options, images):
    """Print the milliseconds of a step, and how many times as many pythae takes."""
    digits = (load_digits().data[:1792] / 16).astype(np.float32)
    replay = _fitting.can_replay
    print(f"{'':25} {'':12} {'replayed ms':>12} {'launched ms':>12} {'pythae ms':>10} {'pythae /':>9}")
    networks = {
        "784-512-512-16 (128)": (images[:20_000], 512, 16, 128, 12),
        "64-128-128-8 (64)": (digits, 128, 8, 64, 60),
        "784-1024-1024-32 (1024)": (images, 1024, 32, 1024, 20),
    }
    for name, (X, H, L, B, epochs) in list(networks.items())[options.first :]:
        plain = MLP((H, H), "relu", skip=False)
        kinds = {
            "default": {"hidden_layer_sizes": (H, H)},
            "same network": {"encoder": plain, "decoder": plain, "prior": "normal"},
        }
        taken = {key: [] for key in kinds}
        for _ in range(options.repeats + 1):  # the first warms up
            pythae = pythae_seconds_per_step(X, H, L, B, max(1, epochs // 12), no_cuda=False) or float("nan")
            for key, params in kinds.items():
                _fitting.can_replay = replay
                replayed = seconds_per_step(X, L, B, epochs, **params)
                _fitting.can_replay = lambda vae: False
                launched = seconds_per_step(X, L, B, max(1, epochs // 12), **params)
                _fitting.can_replay = replay
                taken[key].append((1e3 * replayed, 1e3 * launched, 1e3 * pythae, pythae / replayed))
        for key, rows in taken.items():
            a, b, c, ratio = median(rows[1:])
            print(f"{name:25} {key:12} {a:12.3f} {b:12.3f} {c:10.3f} {ratio:9.1f}")
    print(f"wished: pythae / {WISHED_RATIO}")


def epochs(options, images, binary_test):
    """Print what 100 epochs of MNIST take, and how good the model of fewer is, by precision."""
    VAETransformer(16, max_iter=1).fit(images)  # the device starts up
    for precision in ("auto", "float32", "bfloat16"):
        model = VAETransformer(16, max_iter=100, precision=precision, random_state=0)
        taken = seconds(model.fit, images)
        print(f"MNIST, 60,000 x 784, 100 epochs, {precision}: {taken:.1f} s (wished: {WISHED_SECONDS})")
    for precision in ("auto", "float32", "bfloat16"):
        scores = []
        for seed in range(options.repeats):
            model, taken = fit(images, options.epochs, seed, precision=precision)
            scores.append(-model.score_samples(binary_test, n_draws=100).mean())
        shown = ", ".join(f"{score:.2f}" for score in scores)
        print(
            f"dynamically binarised, 40 components, {options.epochs} epochs, {precision}: "
            f"{taken:.1f} s, test NLL {np.mean(scores):.2f} ({shown})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist")
    parser.add_argument("--parts", nargs="+", choices=("epochs", "steps"), default=["epochs", "steps"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="of the three networks")
    parser.add_argument("--epochs", type=int, default=100, help="of the fits that are scored")
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    images, binary_test = load(options.mnist, 60_000, 1000)
    if "epochs" in options.parts:
        epochs(options, images, binary_test)
    if "steps" in options.parts:
        steps(options, images)
