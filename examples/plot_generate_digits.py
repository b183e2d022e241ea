"""
Generate digits: a map, classes and the way between
===================================================

What can be drawn from a latent space: a map of all digits on two axes, new digits of the class
that you ask for, the way from one digit to another, and what happens where a prior has mass but
no digit ever was.

Run ``python examples/plot_generate_digits.py``; with the bundled digits it takes about a minute.
``--mnist`` takes 20,000 images of MNIST from openml.org instead, ``--mnist PATH.npz`` those of a
file with the arrays ``X_train``, of shape (n, 28, 28), and ``y_train``: about four minutes. The
pictures are saved to ``examples/figures``.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skvae import VAETransformer
from skvae.likelihoods import Bernoulli
from skvae.networks import Conv

parser = argparse.ArgumentParser()
parser.add_argument("--mnist", nargs="?", const="openml", metavar="PATH.npz", help="a file, or the web")
source = parser.parse_args().mnist
figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)

# sphinx_gallery_thumbnail_number = 2

# %%
# The data: shades of grey from 0 to 1. The bundled digits are truly grey and get a normal density,
# for which every pixel takes a uniform share of its shade. MNIST is nearly black and white: with a
# grey value as the probability of a one, and convolutions, its digits come out sharp.
settings = {"random_state": 0}
if source is None:
    X, y = load_digits(return_X_y=True)
    X = (X + np.random.default_rng(0).uniform(size=X.shape)) / 17
elif source == "openml":
    X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
else:
    X, y = (np.load(source)[key] for key in ("X_train", "y_train"))
if source is not None:
    X, y = X.reshape(-1, 784).astype(np.float32) / 255, y.astype(int)
    settings |= {"likelihood": Bernoulli(dynamic=True), "encoder": Conv(), "decoder": Conv(), "max_iter": 12}
size = min(20_000, len(X) * 3 // 4)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=size, random_state=0, stratify=y)
side = int(np.sqrt(X.shape[1]))


def draw(ax, images, title=None):
    """Draw an array of images, shape (rows, columns, pixels), as one picture."""
    framed = np.pad(images.reshape(*images.shape[:2], side, side), ((0, 0), (0, 0), (0, 1), (0, 1)))
    ax.imshow(np.block([list(row) for row in framed]), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


# %%
# A map: with two components every point of a plane decodes to a digit. The grid follows the
# quantiles of the encoded rows, so it is fine where digits are dense and coarse elsewhere.
plane = VAETransformer(2, prior="normal", **settings).fit(X_train)
quantiles = np.quantile(plane.transform(X_train), np.linspace(0.02, 0.98, 16), axis=0)
grid = np.stack(np.meshgrid(quantiles[:, 0], quantiles[::-1, 1]), axis=-1).reshape(-1, 2)
figure, ax = plt.subplots(figsize=(7, 7.2), layout="constrained")
draw(ax, plane.inverse_transform(grid).reshape(16, 16, -1), "A walk through two components")
ax.set(xlabel="$z_0$, at equal steps of its quantiles", ylabel="$z_1$, at equal steps of its quantiles")
figure.savefig(figures / "generate_digits_map.png", dpi=120, bbox_inches="tight")

# %%
# Digits by class: ``conditional=True`` learns a prior for each class, so that a sample can be
# asked for one. Ten new ones of each class stand beside ten real ones that were not trained on. A
# classifier that has seen real digits only says how many new ones are what was asked for.
vae = VAETransformer(conditional=True, **settings).fit(X_train, y_train)
new = np.stack([vae.sample(10, y=k, noise=False, random_state=k) for k in range(10)])
real = np.stack([X_test[y_test == k][:10] for k in range(10)])
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
draw(axes[0], new, "new, one class in a row")
draw(axes[1], real, "real")
axes[0].set_yticks((np.arange(10) + 0.5) * (side + 1), range(10), fontsize=12)
figure.savefig(figures / "generate_digits_classes.png", dpi=120, bbox_inches="tight")
judge = KNeighborsClassifier(5).fit(X_train, y_train)
asked = np.repeat(np.arange(10), 100)
found = judge.score(vae.sample(1000, y=asked, noise=False, random_state=0), asked)
real_found = judge.score(X_test[:1000], y_test[:1000])
print(f"5-NN recognises {found:.1%} of new digits and {real_found:.1%} of real ones.")

# %%
# The way from one digit to another: a straight line between the codes of two real images, each the
# one nearest the mean of its class. The decoder moves strokes instead of fading images.
classes = [X_test[y_test == k] for k in (0, 6, 1, 7, 3, 8, 4, 9, 5, 2)]
typical = np.array([own[np.square(own - own.mean(0)).sum(1).argmin()] for own in classes])
ends, codes = typical.reshape(5, 2, -1), vae.transform(typical).reshape(5, 2, -1)
share = np.linspace(0, 1, 9)[:, None]
steps = codes[:, :1] * (1 - share) + codes[:, 1:] * share
between = vae.inverse_transform(steps.reshape(45, -1)).reshape(5, 9, -1)
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.9), width_ratios=(1, 9, 1), layout="constrained")
draw(axes[0], ends[:, :1], "real")
draw(axes[1], between, "decoded, from one code to the other")
draw(axes[2], ends[:, 1:], "real")
figure.savefig(figures / "generate_digits_between.png", dpi=120, bbox_inches="tight")

# %%
# The hole: a normal prior also has mass where no digit was encoded, and what is drawn there is
# often no digit. The default prior, a mixture, is trained along and goes where the codes are.
figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
for ax, prior in zip(axes, ("normal", "mixture"), strict=True):
    images = VAETransformer(prior=prior, **settings).fit(X_train).sample(1000, noise=False, random_state=0)
    clear = np.mean(judge.predict_proba(images).max(axis=1) == 1)
    draw(ax, images[:100].reshape(10, 10, -1), f"{prior} prior\nall 5 neighbours of one class: {clear:.0%}")
figure.savefig(figures / "generate_digits_priors.png", dpi=120, bbox_inches="tight")
print(f"Pictures are in {figures}")
