"""
Outliers, and which cell makes them so
======================================

``VAEOutlierDetector`` scores rows by log p(x). Rows that contradict themselves score low, even where
each of their cells is common; ``explain`` tells which cell it is: nearly all of the eight
foreign cells below, where a tenth of the other rows are called outliers as well.

Run ``python examples/plot_outliers.py``; the picture is saved to ``examples/figures``.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.frozen import FrozenEstimator

from skvae import VAEOutlierDetector, VAETransformer

figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)
rng = np.random.default_rng(0)

# %%
# Two columns: the density follows a shape that no ellipse has, and the threshold is a level of it. The
# columns by themselves, which the default score counts as well, would only blur the shape.
moons, _ = make_moons(500, noise=0.08, random_state=0)
density = VAEOutlierDetector(marginals=0, contamination=0.02, n_draws=50, random_state=0).fit(moons)
x, y = np.meshgrid(np.linspace(-1.6, 2.6, 80), np.linspace(-1.1, 1.6, 60))
decision = density.decision_function(np.c_[x.ravel(), y.ravel()]).reshape(x.shape)

# %%
# Ten columns of measurements of cells in breast tumours, the benign ones. In each of eight held-out rows
# one cell is replaced by one from the other end of its column, a value that does not fit its own row.
data = load_breast_cancer(as_frame=True)
table = data.data[data.target == 1].iloc[:, :10]
table.columns = [name.removeprefix("mean ") for name in table.columns]
train, test = table.iloc[:-40], table.iloc[-40:].reset_index(drop=True)
columns = np.array([0, 2, 3, 5, 6, 7, 8, 9])
for row, column in enumerate(columns):
    swap = train.iloc[:, column].sort_values()
    low = test.iloc[row, column] < swap.median()
    test.iloc[row, column] = swap.iloc[-8 if low else 8]  # from the other end of what is common

# Rows that a model was trained on score better than new ones, so with few of them the share that is to
# be called outliers, which is one of training rows, says little of new ones: some rows are set aside for it.
model = VAETransformer(4, random_state=0).fit(train[:200])
detector = VAEOutlierDetector(FrozenEstimator(model), contamination=0.05, random_state=0).fit(train[200:])
labels = detector.predict(test)
print(f"called outliers: {np.sum(labels[:8] == -1)} of 8 rows with a foreign cell, ", end="")
print(f"{np.sum(labels[8:] == -1)} of 32 without")

# %%
# The explanation in nats, above that of the average training row. Rows sum to minus the score.
excess = (detector.explain(test) - detector.explain(train).mean(axis=0))[:14]
found = excess[:8, :10].argmax(axis=1) == columns
print(f"the foreign cell is the most surprising one in {found.sum()} of 8 rows")

figure, axes = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained", width_ratios=[1, 1.35])
axes[0].contourf(x, y, decision, levels=np.linspace(-10, 4, 29), cmap="Blues", extend="both")
axes[0].contour(x, y, decision, levels=[0], colors="tab:red", linewidths=1)
outlier = density.predict(moons) == -1
axes[0].scatter(*moons[~outlier].T, s=3, color="0.2")
axes[0].scatter(*moons[outlier].T, s=22, color="tab:red", marker="x")
axes[0].set(title="log p(x), its threshold, and 2 % outliers", xticks=[], yticks=[])

image = axes[1].imshow(excess, cmap="RdBu_r", vmin=-25, vmax=25, aspect="auto")
axes[1].scatter(columns, np.arange(8), s=180, marker="s", facecolors="none", edgecolors="black")
axes[1].axvline(9.5, color="white", linewidth=4)
names = [*table.columns, "latent term"]
axes[1].set_xticks(range(len(names)), names, rotation=40, ha="right")
axes[1].set_yticks(range(14), ["outlier" if label == -1 else "inlier" for label in labels[:14]])
axes[1].set(title="surprise of each cell; framed: a foreign value")
figure.colorbar(image, ax=axes[1], label="nats above the average training row", extend="both")
figure.savefig(figures / "outliers.png", dpi=120)
print(f"The picture is in {figures}")
