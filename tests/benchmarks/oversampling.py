"""Over-sampling of imbalanced tables, judged by classifiers, beside its neighbours.

    python tests/benchmarks/oversampling.py FOLDER [--sets oil_spill attrition] [--folds 5] [--repeats 2]

FOLDER holds the tables named in TABLES and ADBench's files under adbench (outliers are the small class).
Three classifiers are trained on what each sampler makes of the training folds: logistic regression, a random
forest and gradient-boosted trees, the last two on ordinal codes. Printed are balanced accuracy, average
precision and the Brier score (lower is better) on the test folds, mean and, over all sets, mean difference
from no sampling. A table without categories gets SMOTE and ADASYN, another SMOTENC; holes are filled by the
median or the most frequent level for the neighbours alone. At most 20,000 rows of a set are used.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from imblearn.over_sampling import ADASYN, SMOTE, SMOTENC, RandomOverSampler
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skvae import VAEOverSampler

TABLES = {  # file, target, small class, columns to leave out
    "attrition": ("attrition/attrition.csv.gz", "Attrition", "Yes", []),
    "bank_marketing": ("bank_marketing/bank_full.csv.gz", "y", "yes", []),
    "oil_spill": ("uci_small/oil_spill.csv.gz", -1, 1, [0]),
    "adult": ("adult/adult_train.csv.gz", "income", ">50K", []),
}
ADBENCH = ("vertebral", "glass", "cardio", "yeast", "WPBC", "optdigits", "satimage-2", "mnist")
MAX_ROWS = 20_000
METRICS = ("balanced accuracy", "average precision", "Brier score")
NUMBERS = make_column_selector(dtype_include="number")
LEVELS = make_column_selector(dtype_exclude="number")


def load(folder, name):
    """Return a table and its labels, 1 for the small class."""
    if name in TABLES:
        file, target, small, left_out = TABLES[name]
        table = pd.read_csv(folder / file)
        target = table.columns[target] if isinstance(target, int) else target
        y = (table.pop(target) == small).to_numpy().astype(int)
        table = table.drop(columns=[table.columns[i] for i in left_out])
    else:
        with np.load(next((folder / "adbench").glob(f"*_{name}.npz")), allow_pickle=True) as data:
            table, y = pd.DataFrame(data["X"].astype(float)).add_prefix("x"), data["y"].astype(int).ravel()
    index = np.random.default_rng(0).permutation(len(table))[:MAX_ROWS]
    return table.iloc[index].reset_index(drop=True), y[index]


def list_classifiers():
    """Return pipelines from a table to probabilities."""

    def ordinal():
        encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        return make_column_transformer((encode, LEVELS), remainder="passthrough")

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    one_hot = make_column_transformer((numbers, NUMBERS), (OneHotEncoder(handle_unknown="ignore"), LEVELS))
    return {
        "logistic": make_pipeline(one_hot, LogisticRegression(max_iter=1000)),
        "forest": make_pipeline(ordinal(), SimpleImputer(), RandomForestClassifier(200, random_state=0)),
        "boosting": make_pipeline(ordinal(), HistGradientBoostingClassifier(random_state=0)),
    }


def list_samplers(table):
    """Return the samplers, and whether they need a table without holes."""
    levels = LEVELS(table)
    samplers = {
        "none": (None, False),
        "VAE": (VAEOverSampler(random_state=0), False),
        "random": (RandomOverSampler(random_state=0), False),
    }
    if not levels:
        return samplers | {"SMOTE": (SMOTE(random_state=0), True), "ADASYN": (ADASYN(random_state=0), True)}
    return samplers | {"SMOTENC": (SMOTENC(levels, random_state=0), True)}


def fill(table):
    """Return the table without holes."""
    levels = table[LEVELS(table)].agg(lambda column: column.mode().iloc[0])
    return table.fillna(table[NUMBERS(table)].median()).fillna(levels)


def resample(sampler, filled, X, y):
    """Return what a sampler makes of the training rows."""
    if sampler is None:
        return X, y
    return clone(sampler).fit_resample(fill(X) if filled else X, y)


def measure(X, y, folds, repeats):
    """Return figures of shape (samplers, classifiers, metrics), and seconds of each sampler."""
    samplers, classifiers = list_samplers(X), list_classifiers()
    splits = list(RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0).split(X, y))
    figures = np.zeros((len(splits), len(samplers), len(classifiers), len(METRICS)))
    seconds = np.zeros(len(samplers))
    for f, (train, test) in enumerate(splits):
        for s, (sampler, filled) in enumerate(samplers.values()):
            start = time.perf_counter()
            try:
                X_train, y_train = resample(sampler, filled, X.iloc[train], y[train])
            except (RuntimeError, ValueError) as error:  # ADASYN where no neighbour is of the large class
                print(f"  {list(samplers)[s]}: {error}")
                figures[f, s] = np.nan
                continue
            seconds[s] += (time.perf_counter() - start) / len(splits)
            for c, classifier in enumerate(classifiers.values()):
                p = clone(classifier).fit(X_train, y_train).predict_proba(X.iloc[test])[:, 1]
                figures[f, s, c] = (
                    balanced_accuracy_score(y[test], p > 0.5),
                    average_precision_score(y[test], p),
                    brier_score_loss(y[test], p),
                )
    return figures.mean(axis=0), seconds


def compare(folder, names, folds, repeats):
    """Print one table a set, and the mean differences from no sampling."""
    differences = {}
    for name in names:
        X, y = load(folder, name)
        figures, seconds = measure(X, y, folds, repeats)
        print(f"\n{name}: {len(X)} rows, {X.shape[1]} columns, {y.sum()} of the small class")
        print(f"{'':9}" + "".join(f"{c:>27}" for c in list_classifiers()) + f"{'seconds':>9}")
        for s, sampler in enumerate(list_samplers(X)):
            cells = "".join("   " + "".join(f"{value:8.3f}" for value in row) for row in figures[s])
            print(f"{sampler:9}{cells}{seconds[s]:9.1f}", flush=True)
            kind = "SMOTE" if sampler == "SMOTENC" else sampler
            differences.setdefault(kind, []).append(figures[s] - figures[0])
    print("\nmean difference from no sampling: " + ", ".join(METRICS))
    for sampler, values in differences.items():
        cells = "".join("   " + "".join(f"{v:+8.3f}" for v in row) for row in np.nanmean(values, axis=0))
        print(f"{sampler:9}{cells}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", default=[*TABLES, *ADBENCH])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Found unknown categories")
    compare(options.folder, options.sets, options.folds, options.repeats)
