"""
Handwritten digits: what a variational autoencoder does
=======================================================

An encoder maps an image to a mean and a standard deviation, a latent vector z is drawn from that
normal distribution, and a mirrored decoder draws the image again. Two terms train both: the
reconstruction (how probable is the image, given z?) and the KL divergence, which keeps the codes
close to a standard normal distribution. After that a random z decodes to a digit nobody wrote.

Run ``python examples/plot_digits.py``; the pictures are saved to ``examples/figures``.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skvae import VAETransformer

figures = Path(__file__).parent / "figures"
figures.mkdir(exist_ok=True)

# %%
# The data: 1,797 images of 8 x 8 pixels with 17 shades of grey. A density needs values that are
# not on a grid, so every pixel gets a uniform share of its shade.
digits = load_digits()
rng = np.random.default_rng(0)
X = (digits.data + rng.uniform(size=digits.data.shape)) / 17
X_train, X_test, y_train, y_test = train_test_split(X, digits.target, random_state=0, stratify=digits.target)

# %%
# Training: both terms of the bound, epoch by epoch. The weight of the KL term rises slowly, so
# the latent space is first used and then put in order.
vae = VAETransformer(n_components=16, random_state=0).fit(X_train, X_val=X_test)
history = vae.history_
epochs = np.arange(1, vae.n_iter_ + 1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for ax, key, title in zip(
    axes, ("reconstruction", "kl"), ("Reconstruction: E[log p(x|z)]", "KL(q(z|x) || p(z))"), strict=True
):
    ax.plot(epochs, history[key], color="#0072B2", label="training")
    ax.plot(epochs, history[f"validation_{key}"], color="#D55E00", linestyle="--", label="held out")
    ax.set(title=title, xlabel="epoch", ylabel="nats per image")
axes[0].legend()
figure.savefig(figures / "digits_training.png", dpi=120)

# %%
# Held-out rows: the log-likelihood says how probable the images are under the model, the squared
# error how well they come back.
pca = PCA(n_components=16).fit(X_train)


def squared_error(model):
    """Return the mean squared error of held-out pixels."""
    return np.mean((model.inverse_transform(model.transform(X_test)) - X_test) ** 2)


print(f"{'held out':24}{'VAE':>10}{'PCA':>10}")
print(f"{'log p(x), nats per image':24}{vae.score(X_test):10.1f}{pca.score(X_test):10.1f}")
print(f"{'reconstruction error':24}{squared_error(vae):10.4f}{squared_error(pca):10.4f}")

# %%
# Originals and reconstructions.
images = {"original": X_test[:12], "VAE": vae.inverse_transform(vae.transform(X_test[:12]))}
images["PCA"] = pca.inverse_transform(pca.transform(X_test[:12]))


def show_rows(rows, path):
    """Draw rows of images, a label before each."""
    n = len(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), n, figsize=(0.7 * n + 0.8, 0.78 * len(rows)), layout="constrained", squeeze=False
    )
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, row, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=120)


show_rows(images, figures / "digits_reconstructions.png")

# %%
# New digits: decoded from random latent vectors.
new = vae.sample(60, noise=False, random_state=0).reshape(5, 12, 64)
show_rows({" " * i: row for i, row in enumerate(new)}, figures / "digits_samples.png")

# %%
# Why mu and sigma: a plain autoencoder (no noise, no KL term) scatters its codes anywhere, with
# holes between that decode to nothing. The variational one keeps them together around zero, on
# one scale: the circles are one and two standard deviations of N(0, I), and any point in them
# decodes to a digit.
maps = {
    "plain autoencoder": VAETransformer(2, objective="autoencoder", random_state=0),
    "variational autoencoder": VAETransformer(2, prior="normal", random_state=0),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, (title, model) in zip(axes, maps.items(), strict=True):
    Z = model.fit(X_train).transform(X_test)
    for digit in range(10):
        points = Z[y_test == digit]
        ax.scatter(*points.T, s=0, color=plt.cm.tab10(digit))
        for point in points:
            ax.text(*point, str(digit), color=plt.cm.tab10(digit), fontsize=7, ha="center", va="center")
    for radius in (1, 2):
        ax.add_patch(plt.Circle((0, 0), radius, fill=False, linestyle=":", color="0.3"))
    ax.set(title=title, xlabel="$z_0$", ylabel="$z_1$", aspect="equal")
figure.savefig(figures / "digits_latent_map.png", dpi=120)
print(f"Pictures are in {figures}")
