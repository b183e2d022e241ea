"""Imputation of cells hidden on purpose, beside its neighbours.

    python tests/benchmarks/imputation.py --data FOLDER [--sets wine adult_train] [--fractions 0.2 0.5 mnar]
        [--methods VAE forests] [--seeds 1] [--rows 20000] [--trees 100] [--draws 20]

FOLDER holds uci_small, uci_regression, adult, support2 and diamonds with files name.csv.gz. Each method gets
the table with holes and fills it. Printed is the error averaged over the columns: the root mean squared error
of hidden cells over the column's standard deviation, of levels the share that is wrong; then seconds, and
mean ranks.

0.2, 0.5  So many cells are hidden, each with the same chance.
mnar      30 %, of a column's highest values twice as many as on average, of its lowest none. Levels likewise,
          in the order of the alphabet.

mean       Means and modes.
KNN        KNNImputer, IterativeImputer: numbers standardised, levels one-hot; the highest of a level's
iterative  columns wins.
forests    After Stekhoven and Buehlmann (2012), MissForest, doi:10.1093/bioinformatics/btr597: random forests
           column by column, classifiers for levels, a third of the columns at each split, until the change
           grows, at most five times.
iter-RF    IterativeImputer with RandomForestRegressor, both with their defaults: ten times all columns, all
           columns at each split. Levels are numbers in the order of the alphabet, as columns of zeros and
           ones would take hours, and rounded. Only if it is asked for.

The last column is the share of hidden numbers between the least and the largest of 20 draws, of which 19/21,
90.5 %, is due; without draws, nothing.
"""

import argparse
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer, KNNImputer

from skvae import VAEImputer

FOLDERS = ("uci_small", "uci_regression", "adult", "support2", "diamonds")
IDS = {"yeast": "Sequence_Name", "oil_spill": 0}  # a column's name or place


def load(path, n_rows, seed):
    """Return a table, at most `n_rows` of it at random: numbers as floats, all else as categories."""
    table = pd.read_csv(path)
    name = path.name.partition(".")[0]
    if name in IDS:
        place = IDS[name]
        table = table.drop(columns=table.columns[place] if isinstance(place, int) else place, errors="ignore")
    table = table.sample(min(n_rows, len(table)), random_state=seed).reset_index(drop=True)
    for column in table:
        number = pd.api.types.is_numeric_dtype(table[column]) and table[column].dtype != bool
        table[column] = table[column].astype(float if number else "category")
    return table.loc[:, [len(table[column].dropna().unique()) > 1 for column in table]]


def hide(table, fraction, seed):
    """Return the mask of the cells to hide, all of which have a value."""
    rng = np.random.default_rng(seed)
    chance = np.full(table.shape, 0.3 if fraction == "mnar" else float(fraction))
    if fraction == "mnar":
        codes = table.apply(lambda c: c.cat.codes if is_level(c) else c)
        chance *= 2 * codes.rank(pct=True).to_numpy()
    hidden = (rng.random(table.shape) < chance) & table.notna().to_numpy()
    full = hidden | table.isna().to_numpy()
    hidden[rng.integers(0, len(table), table.shape[1]), np.arange(table.shape[1])] &= ~full.all(axis=0)
    return hidden


def is_level(column):
    """Whether a column is one of levels."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def fill_averages(table, seed):
    """Fill with means and modes."""
    return table.apply(lambda c: c.fillna(c.mode()[0] if is_level(c) else c.mean()))


def fill_encoded(imputer, table, seed, one_hot=True):
    """Fill by an imputer of numbers, with a column for each level or the levels' numbers in one."""
    blocks = []
    for name in table:
        column = table[name]
        if is_level(column):
            block = column.cat.codes.to_numpy(float)[:, None]
            if one_hot:
                block = (block == np.arange(len(column.cat.categories))) + 0.0
            block[column.isna()] = np.nan
        else:
            block = column.to_numpy()[:, None]
        blocks.append(block)
    X = np.hstack(blocks)
    mean, std = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    std[std == 0] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        X = imputer(seed).fit_transform((X - mean) / std) * std + mean
    filled, start = {}, 0
    for (name, column), block in zip(table.items(), blocks, strict=True):
        part = X[:, start : start + block.shape[1]]
        start += block.shape[1]
        if is_level(column):
            codes = part.argmax(axis=1) if one_hot else part[:, 0].round().astype(int)
            filled[name] = pd.Categorical.from_codes(codes, dtype=column.dtype)
        else:
            filled[name] = part[:, 0]
    return pd.DataFrame(filled)


def fill_by_forests(table, seed, trees=100, max_iter=5):
    """Fill by random forests, column by column, until the change grows."""
    hidden = table.isna().to_numpy()
    codes = pd.DataFrame({n: c.cat.codes if is_level(c) else c for n, c in table.items()}).to_numpy(
        float, copy=True
    )
    average = fill_averages(table, seed)
    X = pd.DataFrame({n: c.cat.codes if is_level(c) else c for n, c in average.items()}).to_numpy(
        float, copy=True
    )
    levels = np.array([is_level(column) for _, column in table.items()])
    scale, last = X.std(axis=0) + 1e-12, np.inf
    for _ in range(max_iter):
        before = X.copy()
        for j in np.argsort(hidden.sum(axis=0), kind="stable"):
            gap = hidden[:, j]
            if gap.any():
                others = np.delete(X, j, axis=1)
                kind = (
                    RandomForestClassifier
                    if levels[j]
                    else partial(RandomForestRegressor, max_features=1 / 3)
                )
                forest = kind(trees, random_state=seed).fit(others[~gap], codes[~gap, j])
                X[gap, j] = forest.predict(others[gap])
        change = np.where(levels, before != X, ((X - before) / scale) ** 2)[hidden].mean()
        if change > last:
            X = before
            break
        last = change
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(X[:, j].astype(int), dtype=column.dtype) if levels[j] else X[:, j]
            for j, (name, column) in enumerate(table.items())
        }
    )


def fill_by_vae(table, seed):
    """Fill by `VAEImputer`; return its model as well."""
    imputer = VAEImputer(random_state=seed)
    return imputer.fit_transform(table), imputer.estimator_


METHODS = {
    "VAE": fill_by_vae,
    "mean": fill_averages,
    "KNN": partial(fill_encoded, lambda seed: KNNImputer(weights="distance")),
    "iterative": partial(fill_encoded, lambda seed: IterativeImputer(random_state=seed)),
    "forests": fill_by_forests,
    "iter-RF": partial(
        fill_encoded,
        lambda seed: IterativeImputer(RandomForestRegressor(random_state=seed), random_state=seed),
        one_hot=False,
    ),
}


def error(table, filled, hidden):
    """Return the error of each column, averaged."""
    errors = []
    for j, name in enumerate(table):
        gap = hidden[:, j]
        if not gap.any():
            continue
        truth, guess = table[name][gap], filled[name][gap]
        if is_level(table[name]):
            errors.append(np.mean(truth.astype(str).to_numpy() != guess.astype(str).to_numpy()))
        else:
            squares = (truth.to_numpy() - guess.to_numpy(dtype=float)) ** 2
            errors.append(np.sqrt(squares.mean()) / table[name].std())
    return np.mean(errors)


def coverage(model, holed, table, hidden, n_draws, seed):
    """Return the share of hidden numbers within the range of the draws."""
    numbers = [name for name in table if not is_level(table[name])]
    if not numbers or not n_draws:
        return np.nan
    imputer = VAEImputer(FrozenEstimator(model), sample_posterior=True, random_state=seed).fit(holed)
    draws = np.stack([imputer.transform(holed)[numbers].to_numpy(float) for _ in range(n_draws)])
    truth = table[numbers].to_numpy()
    inside = (draws.min(axis=0) <= truth) & (truth <= draws.max(axis=0))
    return inside[hidden[:, [table.columns.get_loc(name) for name in numbers]]].mean()


def measure(path, fraction, methods, options):
    """Return error and seconds of each method, and the coverage, on one set."""
    results, covered = np.zeros((options.seeds, len(methods), 2)), []
    for seed in range(options.seeds):
        table = load(path, options.rows, seed)
        hidden = hide(table, fraction, seed)
        holed = table.mask(hidden)
        for i, (name, method) in enumerate(methods.items()):
            start = time.perf_counter()
            filled = method(holed, seed)
            seconds = time.perf_counter() - start
            if name == "VAE":
                filled, model = filled
                covered.append(coverage(model, holed, table, hidden, options.draws, seed))
            results[seed, i] = error(table, filled, hidden), seconds
    return *results.mean(axis=0).T, np.mean(covered) if covered else np.nan


def compare(paths, fraction, methods, options):
    """Print the table of one way of hiding."""
    width = "".join(f"{name:>10}" for name in methods)
    print(f"\n{fraction:>26}{width}   seconds{width}  coverage")
    errors = []
    for path in paths:
        error, seconds, covered = measure(path, fraction, methods, options)
        errors.append(error)
        line = "".join(f"{value:10.3f}" for value in error) + " " * 10
        line += "".join(f"{value:10.1f}" for value in seconds) + f"{covered:10.3f}"
        print(f"{path.name.partition('.')[0]:>26}" + line, flush=True)
    print(f"{'mean':>26}" + "".join(f"{value:10.3f}" for value in np.mean(errors, axis=0)))
    ranks = np.mean([[np.sum(row < value) + 1 for value in row] for row in errors], axis=0)
    print(f"{'mean rank':>26}" + "".join(f"{value:10.2f}" for value in ranks), flush=True)


def find(folder, sets):
    """Return the files, of the sets named or of all; of adult the training part."""
    paths = [path for name in FOLDERS for path in sorted((folder / name).glob("*.csv.gz"))]
    names = {path: path.name.partition(".")[0] for path in paths}
    unknown = set(sets or ()) - set(names.values())
    if unknown or not paths:
        raise SystemExit(
            f"Got sets {sorted(unknown)} of {folder}; expected some of {sorted(names.values())}."
        )
    return [path for path in paths if (names[path] in sets if sets else names[path] != "adult_test")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", help="names of files without .csv.gz, all by default")
    parser.add_argument("--fractions", nargs="*", default=["0.2", "0.5", "mnar"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS)[:-1], choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=20_000, help="at most so many of a set")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    chosen = {name: METHODS[name] for name in options.methods}
    if "forests" in chosen:
        chosen["forests"] = partial(fill_by_forests, trees=options.trees)
    for fraction in options.fractions:
        compare(find(options.data, options.sets), fraction, chosen, options)
