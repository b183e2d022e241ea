"""
Clothes: convolutions, new articles and a map
=============================================

Fashion-MNIST has 70,000 grey images of 28 x 28 pixels: ten kinds of clothes, shoes and bags. A
convolutional network knows that neighbouring pixels belong together, so its articles have clean
outlines where those of dense layers look smudged.

Run ``python examples/plot_clothes.py`` for the images from openml.org, or with ``--data PATH.npz``
for a file with the arrays ``X_train``, of shape (n, 28, 28), and ``y_train``. It takes about four
minutes on two cores; the pictures are saved to ``examples/figures``. The first of them:

.. image:: /images/clothes.png
   :alt: New and real clothes, shoes and bags, each kind in a row
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skvae import VAETransformer
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.networks import Conv

parser = argparse.ArgumentParser()
parser.add_argument("--data", metavar="PATH.npz", help="a file with X_train (n, 28, 28) and y_train")
path = parser.parse_args().data
figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)
names = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]

# sphinx_gallery_thumbnail_path = 'images/clothes.png'

# %%
# The data: from a file, or else from the web.
if path:
    with np.load(path) as file:
        X, y = file["X_train"], file["y_train"]
else:
    try:
        X, y = fetch_openml("Fashion-MNIST", version=1, return_X_y=True, as_frame=False)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"Fashion-MNIST could not be had from openml.org ({error}). Pass --data PATH.npz, a file with "
            "the arrays X_train, of shape (n, 28, 28) and values 0 to 255, and y_train, classes 0 to 9."
        ) from error
X, y = (X.reshape(len(X), 784) / 255).astype(np.float32), np.asarray(y, dtype=int)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=5000, random_state=0, stratify=y)

# %%
# Training. Shades of grey are measurements, so the likelihood is Gaussian. With y, the prior learns
# where each kind of article lies. Twenty epochs are few, as a warning says; they do for pictures.
vae = VAETransformer(
    encoder=Conv(), decoder=Conv(), likelihood=Gaussian(), conditional=True, max_iter=20, random_state=0
)
vae.fit(X_train, y_train)


def draw(ax, images, title=None):
    """Draw an array of images, shape (rows, columns, 784), as one picture."""
    framed = np.pad(images.reshape(*images.shape[:2], 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))
    ax.imshow(np.block([list(row) for row in framed]), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], title=title, yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


# %%
# New articles, each kind in a row of its own, and real ones that were not trained on.
new = np.stack([vae.sample(10, y=k, noise=False, random_state=k) for k in range(10)])
real = np.stack([X_test[y_test == k][:10] for k in range(10)])
figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
draw(axes[0], new, "new")
draw(axes[1], real, "real")
axes[0].set_yticks(np.arange(10) * 32 + 16, names)
figure.savefig(figures / "clothes_classes.png", dpi=120, bbox_inches="tight")

# %%
# A classifier that has seen real articles only says how many of the new ones are of their kind.
judge = KNeighborsClassifier(5).fit(X_train[:20000], y_train[:20000])
asked = np.repeat(np.arange(10), 100)
hits = judge.predict(vae.sample(1000, y=asked, noise=False, random_state=0)) == asked
print(
    f"5-NN recognises {hits.mean():.1%} of new articles and {judge.score(X_test, y_test):.1%} of real ones."
)

# %%
# Reconstructions: sixteen numbers keep shape and shade of an article; print and pattern are lost.
some = real[:, 0]
figure, ax = plt.subplots(figsize=(9, 2.2), layout="constrained")
draw(ax, np.stack([some, vae.inverse_transform(vae.transform(some))]))
ax.set_yticks([16, 48], ["real", "decoded"])
ax.set_xticks(np.arange(10) * 32 + 16, names)
figure.savefig(figures / "clothes_reconstructions.png", dpi=120, bbox_inches="tight")

# %%
# A map: two components, learned without y. Taken for the probability of a one, a shade counts less
# than an outline. Numbers stand at the median of each kind.
outlines = Bernoulli(dynamic=True)
plane = VAETransformer(2, likelihood=outlines, prior="normal", max_iter=10, random_state=0).fit(X_train)
Z = plane.transform(X_test)
colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, 5))
figure, ax = plt.subplots(figsize=(8, 6), layout="constrained")
for k, name in enumerate(names):
    points = Z[y_test == k][:300]
    ax.scatter(*points.T, s=14, marker="o^sDvP*Xph"[k], color=colours[k % 5], alpha=0.7, label=f"{k} {name}")
for k in range(10):
    box = {"boxstyle": "circle", "facecolor": "white", "edgecolor": "black"}
    ax.text(*np.median(Z[y_test == k], axis=0), str(k), ha="center", va="center", weight="bold", bbox=box)
ax.set(xlabel="$z_0$", ylabel="$z_1$", title="Held-out articles on two components")
figure.legend(loc="outside right center")
figure.savefig(figures / "clothes_map.png", dpi=120, bbox_inches="tight")
print(f"Pictures are in {figures}")
