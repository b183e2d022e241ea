"""
New rows for a small class
==========================

``VAEOverSampler`` draws them from the density that it learned of the class, with imbalanced-learn's
``fit_resample``. ``RandomOverSampler`` repeats rows, ``SMOTE`` draws lines between neighbours. Two columns
are good to look at, and SMOTE's home ground: a density learned from 40 rows is wider than the truth.
Both raise the balanced accuracy far more than repetitions do, and cost calibration: see the Brier score.

Run ``python examples/plot_oversampling.py``; the picture is saved to ``examples/figures``. It needs
``pip install 'skvae[imblearn,plot]'``.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss

from skvae import VAEOverSampler

figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)


def make_rings(n_large, n_small, seed):
    """Return a disc of many rows inside a ring of few."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n_small)
    ring = np.c_[np.cos(angle), np.sin(angle)] * rng.normal(2, 0.2, (n_small, 1))
    return np.r_[rng.normal(0, 0.8, (n_large, 2)), ring], np.repeat([0, 1], [n_large, n_small])


# %%
# 600 rows of one class, 40 of the other; the test set has the same shares.
X, y = make_rings(600, 40, seed=0)
X_test, y_test = make_rings(6000, 400, seed=1)
samplers = {
    "none": "passthrough",
    "RandomOverSampler": RandomOverSampler(random_state=0),
    "SMOTE": SMOTE(random_state=0),
    "VAEOverSampler": VAEOverSampler(random_state=0),
}

# %%
# A random forest after each: over-sampling moves its threshold towards the small class, which helps the
# balanced accuracy, and makes its probabilities too high, which hurts the Brier score.
print(f"{'':20}{'balanced accuracy':>20}{'average precision':>20}{'Brier score':>14}")
for name, sampler in samplers.items():
    model = make_pipeline(sampler, RandomForestClassifier(random_state=0)).fit(X, y)
    p = model.predict_proba(X_test)[:, 1]
    scores = balanced_accuracy_score(y_test, p > 0.5), average_precision_score(y_test, p)
    print(f"{name:20}{scores[0]:20.3f}{scores[1]:20.3f}{brier_score_loss(y_test, p):14.3f}")

# %%
# Where the new rows lie.
figure, axes = plt.subplots(1, 4, figsize=(13, 3.7), layout="constrained", sharex=True, sharey=True)
for ax, (name, sampler) in zip(axes, samplers.items(), strict=True):
    ax.scatter(*X[y == 0].T, s=4, color="0.75", label="large class")
    if sampler != "passthrough":
        new = sampler.fit_resample(X, y)[0][len(X) :]
        ax.scatter(*new.T, s=5, color="tab:orange", label="new")
    ax.scatter(*X[y == 1].T, s=14, color="tab:blue", label="small class")
    ax.set(
        title="the data" if name == "none" else name,
        xticks=[],
        yticks=[],
        xlim=(-3.3, 3.3),
        ylim=(-3.3, 3.3),
        aspect="equal",
    )
handles, labels = axes[-1].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=3, markerscale=2, frameon=False)
figure.savefig(figures / "oversampling.png", dpi=120)
print(f"The picture is in {figures}")
