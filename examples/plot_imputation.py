"""
Missing cells, filled once and many times
=========================================

``VAEImputer`` fills the missing cells of a table by what the others of the row tell: numbers by their
conditional mean, levels by the most probable one. With ``sample_posterior=True`` it draws them, so that
what is not known stays uncertain: some 90 % of the hidden numbers lie within 20 draws. The error of the
means is about half of that of column means.

Run ``python examples/plot_imputation.py``; the picture is saved to ``examples/figures``.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris, make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer

from skvae import VAEImputer

figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)
rng = np.random.default_rng(0)

# %%
# Two columns: half of the heights are missing. Where two heights are possible the mean lies between them,
# while draws take one or the other.
moons, _ = make_moons(600, noise=0.06, random_state=0)
holed = moons.copy()
gap = rng.random(600) < 0.5
holed[gap, 1] = np.nan
mean = VAEImputer(n_draws=500, random_state=0).fit(holed)
drawing = VAEImputer(FrozenEstimator(mean.estimator_), sample_posterior=True, random_state=0).fit(holed)
by_mean, drawn = mean.transform(holed), drawing.transform(holed)

# %%
# A table of measurements and a level: species, with 30 % of all cells missing.
iris = load_iris(as_frame=True)
table = iris.data.rename(columns=lambda name: name.removesuffix(" (cm)"))
table["species"] = iris.target_names[iris.target]
hidden = rng.random(table.shape) < 0.3
imputer = VAEImputer(random_state=0).fit(table.mask(hidden))
filled = imputer.transform(table.mask(hidden))
right = (filled["species"] == table["species"])[hidden[:, 4]].mean()
print(f"species: {right:.0%} of {hidden[:, 4].sum()} are right")

numbers = table.columns[:4]
truth, numeric = table[numbers].to_numpy(), hidden[:, :4]
guess = {
    "the mean of the column": SimpleImputer().fit_transform(table[numbers].mask(numeric)),
    "VAEImputer": filled[numbers].to_numpy(),
}
for name, values in guess.items():
    error = np.sqrt((((values - truth) / truth.std(axis=0))[numeric] ** 2).mean())
    print(f"numbers by {name}: error of {error:.2f} standard deviations")

# %%
# Twenty draws of each cell tell how far to trust one.
drawing = VAEImputer(FrozenEstimator(imputer.estimator_), sample_posterior=True, random_state=0)
drawing.fit(table.mask(hidden))
draws = np.stack([drawing.transform(table.mask(hidden))[numbers] for _ in range(20)]).astype(float)
inside = ((draws.min(axis=0) <= truth) & (truth <= draws.max(axis=0)))[numeric].mean()
print(f"within the range of 20 draws, of which 90 % is due: {inside:.0%}")

figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
for axis, values, title in zip(
    axes, (by_mean, drawn), ("filled by the mean", "filled by a draw"), strict=False
):
    axis.scatter(*moons[~gap].T, s=6, color="0.75", label="complete rows")
    axis.scatter(*values[gap].T, s=6, color="tab:red", label="filled rows")
    axis.set(title=title, xticks=[], yticks=[])
axes[0].legend(loc="lower left", frameon=False)

place = numbers.get_loc("petal length")
rows = np.flatnonzero(hidden[:, place])
rows = rows[np.argsort(truth[rows, place])]
low, high = draws[:, rows, place].min(axis=0), draws[:, rows, place].max(axis=0)
axes[2].vlines(range(len(rows)), low, high, color="tab:red", alpha=0.4, label="20 draws")
axes[2].scatter(range(len(rows)), filled["petal length"].iloc[rows], s=14, color="tab:red", label="filled")
axes[2].scatter(range(len(rows)), truth[rows, place], s=14, color="black", label="truth")
axes[2].set(title="petal length, cm, where it was missing", xticks=[])
axes[2].legend(loc="upper center", frameon=False)
figure.savefig(figures / "imputation.png", dpi=120)
print(f"The picture is in {figures}")
