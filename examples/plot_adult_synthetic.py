"""
Synthetic census rows: as good as real ones?
============================================

A table of people, their work and their income is learned, and new people are made up. They are
held against the real ones: column by column, by what goes with what, by what a classifier learns
from them, by rows that were asked for, and by whether they repeat what they were trained on.

Run ``python examples/plot_adult_synthetic.py``; it makes up a small census in the manner of the
Adult data set and takes less than a minute. ``--data PATH.csv`` takes your table instead, such as
Adult (32,561 rows: some minutes); ``--target`` and ``--level`` name its column to predict
and the value to ask for. The pictures are saved to ``examples/figures``.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skvae import CorrelationDisplay, MarginalsDisplay, VAETransformer, privacy_report

parser = argparse.ArgumentParser()
parser.add_argument("--data", metavar="PATH.csv", help="a table; an empty field is a missing cell")
parser.add_argument("--target", default="income")
parser.add_argument("--level", default=">50K")
options = parser.parse_args()
figures = Path(globals().get("__file__", "")).parent / "figures"  # a notebook has no __file__
figures.mkdir(exist_ok=True)


# %%
# The data. Real tables are no clouds of points: they have whole numbers, rounded ones, spikes at 0
# and 40, a ceiling, columns that say the same twice, rules that always hold, and holes that come
# in pairs. The made-up census has them all.
def make_census(n, seed=0):
    """Return people as the census of 1994 might have seen them."""
    rng = np.random.default_rng(seed)
    names = ["HS", "College", "Bachelor", "Master", "Doctor"]
    age = np.clip(17 + rng.gamma(2.6, 8.5, n), 17, 90).astype(int)
    years = rng.choice([9, 10, 13, 14, 16], n, p=[0.42, 0.3, 0.18, 0.08, 0.02])
    years = np.where(age < 22, np.minimum(years, 10), years)
    married = rng.random(n) < 0.75 / (1 + np.exp(-(age - 27) / 4))
    sex = np.where(rng.random(n) < np.where(married, 0.85, 0.5), "Male", "Female")
    spouse = np.where(sex == "Male", "Husband", "Wife")
    relation = np.where(married, spouse, np.where(age < 25, "Own-child", "Not-in-family"))
    office = rng.random(n) < 1 / (1 + np.exp(-(years - 11.5)))
    job = np.where(office, rng.choice(["Exec", "Prof", "Sales"], n), rng.choice(["Craft", "Service"], n))
    idle = rng.random(n) < 0.06
    hours = np.where(rng.random(n) < 0.5, 40, rng.normal(38 + 4 * office, 11, n)).clip(1, 99).astype(int)
    lot = -8.2 + 0.36 * years + 0.035 * np.minimum(age, 55) + 1.9 * married + 0.03 * (hours - 40)
    rich = rng.random(n) < 1 / (1 + np.exp(-lot))
    gain = np.where(rng.random(n) < 0.03 + 0.15 * rich, np.round(rng.lognormal(8.5, 0.6, n), -1), 0)
    return pd.DataFrame(
        {
            "age": age,
            "workclass": np.where(idle, None, rng.choice(["Private", "Self", "State"], n, p=[0.7, 0.2, 0.1])),
            "education": pd.Categorical.from_codes(np.searchsorted([9, 10, 13, 14, 16], years), names),
            "education_num": years,
            "occupation": np.where(idle, None, job),
            "relationship": relation,
            "sex": sex,
            "capital_gain": np.minimum(gain, 20_000),
            "hours_per_week": hours,
            "income": np.where(rich, ">50K", "<=50K"),
        }
    )


table = pd.read_csv(options.data) if options.data else make_census(6000)
target = options.target
if target not in table or options.level not in set(table[target]):
    raise SystemExit(
        f"Got --target {target!r} --level {options.level!r}, which {options.data} does not have; "
        f"expected one of its columns {list(table)}, and one of the two values of that."
    )
train, test = train_test_split(table, test_size=0.5 if options.data is None else 0.33, random_state=0)
print(f"{len(train)} rows of {train.shape[1]} columns to learn from, {len(test)} held out")

# %%
# Fit and draw: nothing to encode, nothing to set. The sample has the columns, types and holes of
# the table. Neither display nor eye should find a difference.
vae = VAETransformer(random_state=0).fit(train)
synthetic = vae.sample(len(train), random_state=0)
print(synthetic.head())
display = MarginalsDisplay.from_tables(test, synthetic)
display.figure_.savefig(figures / "adult_synthetic_marginals.png", dpi=120, bbox_inches="tight")
display = CorrelationDisplay.from_tables(test, synthetic)
display.figure_.savefig(figures / "adult_synthetic_correlations.png", dpi=120, bbox_inches="tight")


# %%
# What can be learned from them: a classifier that saw synthetic rows alone, and one that saw the
# real ones, predict the target of real rows that neither saw.
def predict(rows):
    """Return the AUC on the held-out rows of a classifier trained on some others."""
    both = pd.concat([rows, test]).drop(columns=target)
    for name in both.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in both.dtypes]]:
        both[name] = both[name].astype("category")
    X, X_test = both[: len(rows)], both[len(rows) :]
    model = HistGradientBoostingClassifier(random_state=0).fit(X, rows[target] == options.level)
    return roc_auc_score(test[target] == options.level, model.predict_proba(X_test)[:, 1])


print(f"AUC of a classifier of {target}: {predict(train):.3f} trained on real rows, ", end="")
print(f"{predict(synthetic):.3f} on synthetic ones")

# %%
# Rows on demand: people of one kind, without drawing all kinds and throwing most away. They are
# compared with the held-out people of that kind.
asked = vae.sample_conditional({target: options.level}, 1000, random_state=0)
alike = test[test[target] == options.level]
columns = [name for name in table if name != target][:8]
display = MarginalsDisplay.from_tables(alike, asked, columns=columns)
display.figure_.suptitle(f"{target} {options.level}: held out, and asked for")
display.figure_.savefig(figures / "adult_synthetic_asked.png", dpi=120, bbox_inches="tight")

# %%
# Memory: are synthetic rows nearer to those trained on than to those held out? ``nearer_train`` is
# 0.5 if not, within its standard error. Copies there are many, as most people are no rarity:
# compare those of rows that the model never saw. What the figures show and what they do not, and
# what helps where a model remembers, is in docs/privacy.md.
print(pd.Series(privacy_report(train, synthetic, test, random_state=0)).round(4).to_string())
print(f"Pictures are in {figures}")
