"""
Generate digits: a map, classes and the way between
===================================================

What can be drawn from a latent space: a map of all digits on two axes, new digits of the class
that you ask for, the way from one digit to another, and what happens where a prior has mass but
no digit ever was.

Run ``python examples/plot_generate_digits.py``; with the bundled digits it takes about a minute.
``--mnist`` takes the 70,000 images of MNIST from openml.org instead, ``--mnist PATH.npz`` those of
a file with the arrays ``X_train``, of shape (n, 28, 28), and ``y_train``: about six minutes. The
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

parser = argparse.ArgumentParser()
parser.add_argument(
    "--mnist", nargs="?", const="openml", metavar="PATH.npz", help="MNIST: a file, or the web"
)
source = parser.parse_args().mnist
figures = Path(__file__).parent / "figures"
figures.mkdir(exist_ok=True)

# %%
# The data: shades of grey from 0 to 1. The bundled digits are truly grey and get a normal density,
# so every pixel takes a uniform share of its shade, as in ``plot_digits.py``. MNIST is nearly black
# and white: there a grey value is the probability of a one, which makes sharper digits.
if source is None:
    X, y = load_digits(return_X_y=True)
    X = (X + np.random.default_rng(0).uniform(size=X.shape)) / 17
    likelihood, epochs = "gaussian", "auto"
else:
    if source == "openml":
        X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    else:
        with np.load(source) as file:
            X, y = file["X_train"].reshape(-1, 784), file["y_train"]
    X, y = (X / 255).astype(np.float32), y.astype(int)
    likelihood, epochs = Bernoulli(dynamic=True), 12
settings = {"likelihood": likelihood, "max_iter": epochs, "random_state": 0}
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
side = int(np.sqrt(X.shape[1]))


def draw(ax, images, title=None):
    """Draw an array of images, shape (rows, columns, pixels), as one picture."""
    rows, columns, _ = images.shape
    framed = np.pad(images.clip(0, 1).reshape(rows, columns, side, side), ((0, 0), (0, 0), (0, 1), (0, 1)))
    picture = framed.transpose(0, 2, 1, 3).reshape(rows * (side + 1), columns * (side + 1))
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)


# %%
# A map: with two components every point of a plane decodes to a digit. The grid follows the
# quantiles of the encoded rows, so it is fine where digits are dense and coarse elsewhere.
plane = VAETransformer(2, prior="normal", **settings).fit(X_train)
n = 16
quantiles = np.quantile(plane.transform(X_train), np.linspace(0.02, 0.98, n), axis=0)
grid = np.stack(np.meshgrid(quantiles[:, 0], quantiles[::-1, 1]), axis=-1)
figure, ax = plt.subplots(figsize=(7, 7.2), layout="constrained")
draw(ax, plane.inverse_transform(grid.reshape(-1, 2)).reshape(n, n, -1), "A walk through two components")
ax.set(xlabel="$z_0$, at equal steps of its quantiles", ylabel="$z_1$, at equal steps of its quantiles")
figure.savefig(figures / "generate_digits_map.png", dpi=120, bbox_inches="tight")

# %%
# Digits by class: ``conditional=True`` learns a prior for each class, so that a sample can be
# asked for one. Ten new ones of each class stand beside ten real ones that were not trained on.
vae = VAETransformer(conditional=True, **settings).fit(X_train, y_train)
new = np.stack([vae.sample(10, y=k, noise=False, random_state=k) for k in range(10)])
real = np.stack([X_test[y_test == k][:10] for k in range(10)])
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for ax, images, title in zip(axes, (new, real), ("new, one class in a row", "real"), strict=True):
    draw(ax, images, title)
axes[0].set_yticks((np.arange(10) + 0.5) * (side + 1), range(10), fontsize=12)
axes[0].tick_params(length=0)
figure.savefig(figures / "generate_digits_classes.png", dpi=120, bbox_inches="tight")

# %%
# Are they what was asked for? A classifier that has seen real digits only gives the answer.
judge = KNeighborsClassifier(5).fit(X_train[:10_000], y_train[:10_000])
asked = np.repeat(np.arange(10), 100)
hits = judge.predict(vae.sample(1000, y=asked, noise=False, random_state=0)) == asked
print(f"5-NN recognises {hits.mean():.1%} of 1000 new digits,")
print(f"and {judge.score(X_test[:2000], y_test[:2000]):.1%} of real ones.")

# %%
# The way from one digit to another: a straight line between the codes of two real images, of each
# class the one nearest the class mean. The decoder moves strokes, where a mean of the pixels would
# only fade one image out and the other in.
typical = []
for k in [0, 6, 1, 7, 3, 8, 4, 9, 5, 2]:
    own = X_test[y_test == k]
    typical.append(own[np.square(own - own.mean(0)).sum(1).argmin()])
ends = np.reshape(typical, (5, 2, -1))
codes = vae.transform(typical).reshape(5, 2, -1)
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
    title = f'prior="{prior}"\n{clear:.0%} clear: all 5 neighbours of one class'
    draw(ax, images[:100].reshape(10, 10, -1), title)
figure.savefig(figures / "generate_digits_priors.png", dpi=120, bbox_inches="tight")
print(f"Pictures are in {figures}")
