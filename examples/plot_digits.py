"""
Handwritten digits: what a variational autoencoder does
=======================================================

An encoder maps an image to a mean and a standard deviation, a latent vector z is drawn from that
normal distribution, and a mirrored decoder draws the image again. Two terms train both: the
reconstruction (how probable is the image, given z?) and the KL divergence, which keeps the latents
close to the prior, a mixture of normal distributions. After that a random z of the prior decodes to
a digit nobody wrote.

Held-out images are more probable under it than under PCA by some 40 nats each, and come back with a smaller
error.

Run ``python examples/plot_digits.py``, for a minute; the pictures are saved to ``examples/figures``.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skvae import LatentDisplay, LossCurveDisplay, SampleDisplay, VAETransformer

figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)

# sphinx_gallery_thumbnail_number = 3

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
display = LossCurveDisplay.from_estimator(vae, terms=("reconstruction", "kl"))
display.figure_.savefig(figures / "digits_training.png", dpi=120)

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
images = [X_test[:12], *(model.inverse_transform(model.transform(X_test[:12])) for model in (vae, pca))]
display = SampleDisplay.from_images(
    np.concatenate(images), row_names=["original", "VAE", "PCA"], vmin=0, vmax=1
)
display.figure_.savefig(figures / "digits_reconstructions.png", dpi=120)

# %%
# New digits: decoded from random latent vectors.
display = SampleDisplay.from_estimator(vae, n_samples=60, random_state=0, n_columns=12)
display.figure_.savefig(figures / "digits_samples.png", dpi=120)

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
    LatentDisplay.from_estimator(model.fit(X_train), X_test, y_test, ax=ax)
    for radius in (1, 2):
        ax.add_patch(plt.Circle((0, 0), radius, fill=False, linestyle=":", color="0.3"))
    ax.set(title=title, aspect="equal")
figure.savefig(figures / "digits_latent_map.png", dpi=120)
print(f"Pictures are in {figures}")
