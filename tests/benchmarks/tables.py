"""How good synthetic tables are: set by set, given a value, and what large tables take.

    python tests/benchmarks/tables.py [--sets adult diamonds ...] [--seeds 0 1 2]
        [--methods default sharp mixed interpolation tvae] [--conditional] [--large] [--rows N] [--epochs N]
        [--data FOLDER] [--judge FILE]

A judge, a file with `evaluate(real, synthetic, test, target) -> dict`, compares as many synthetic
rows as there are training rows with these and with the test rows. Its figures are averages over the
seeds, followed by the seconds of fit and sampling.

default        `VAETransformer(random_state=seed)`, nothing else set.
sharp          The same with the parameters in `SHARP`.
mixed          The same with ``likelihood="mixed"``, which tables of numbers alone do not get by themselves.
interpolation  A training row, one of its five nearest others, and a row between both: numbers
               interpolated, levels those of one of them, as SMOTE does. No model at all.
tvae           ctgan's TVAE, its defaults, of the first seed alone: some 14 minutes on adult.

conditional    Adult: the two-sample score of `sample_conditional({"income": ">50K"}, n)` against
               the n test rows with that income, beside that of n unconditional rows against n test
               rows; among complete rows, as conditional ones have no holes. Wished: at most .05 below.
large          Diabetes 130 and flights in a process of their own: seconds of a fit, peak resident
               memory. Wished: 10 minutes, 3 GB.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors

from skvae import VAETransformer

SHARP = {"weight_decay": 1e-4}  # rules between columns before likelihood, where there are many rows
SHARED = Path(__file__).parents[3] / "shared"  # beside the repository
NEIGHBOURS, SEARCHED_LEVELS = 5, 200  # levels of a column that neighbours are searched by

SETS = {  # file, target, share of the test rows
    "adult": ("adult/adult_train.csv.gz", "income", None),
    "beijing_pm25": ("beijing_pm25/beijing_pm25.csv.gz", "pm2.5", 0.1),
    "diamonds": ("diamonds/diamonds.csv.gz", "price", 0.1),
    "california_housing": ("california_housing/housing.csv.gz", "median_house_value", 0.1),
    "bank_marketing": ("bank_marketing/bank_full.csv.gz", "y", 0.1),
    "credit_data": ("credit_data/credit_data.csv.gz", "Status", 0.5),
    "attrition": ("attrition/attrition.csv.gz", "Attrition", 0.5),
    "titanic": ("titanic/titanic.csv.gz", "survived", 0.5),
}
UNTUNED = {  # nothing was chosen by these; the last two hold numbers alone
    "abalone": ("uci_small/abalone.csv.gz", "rings", 0.5),
    "flchain": ("flchain/flchain.csv.gz", "death", 0.5),
    "support2": ("support2/support2.csv.gz", "death", 0.5),
    "phoneme": ("uci_small/phoneme.csv.gz", "target", 0.5),
    "wine_quality_white": ("uci_small/wine_quality_white.csv.gz", "quality", 0.5),
}
LARGE = {"diabetes130": "diabetes130/diabetic_data.csv.gz", "flights": "flights/flights.parquet"}


def read(path):
    """Return a table; an empty field alone is a missing cell."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def load(name, options):
    """Return training rows, test rows and the name of the target."""
    path, target, share = (SETS | UNTUNED)[name]
    table = read(options.data / path).drop(columns="name", errors="ignore")  # of passengers
    if share is None:
        train, test = table, read(options.data / path.replace("_train", "_test"))
    else:
        train, test = train_test_split(table.dropna(subset=target), test_size=share, random_state=0)
    return train[: options.rows].reset_index(drop=True), test[: options.rows].reset_index(drop=True), target


def load_judge(path):
    """Return the judge's module."""
    spec = importlib.util.spec_from_file_location("judge", path)
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    return judge


# -- what makes rows up: functions of training rows and a seed that return rows and two times ---------


def default(train, seed, options):
    """Fit with nothing set."""
    return by_vae(train, seed, options, {})


def sharp(train, seed, options):
    """Fit with `SHARP`."""
    return by_vae(train, seed, options, SHARP)


def mixed(train, seed, options):
    """Fit with a likelihood of tables."""
    return by_vae(train, seed, options, {"likelihood": "mixed"})


def by_vae(train, seed, options, params):
    """Fit and sample."""
    vae = VAETransformer(random_state=seed).set_params(**params)
    if options.epochs:
        vae.set_params(max_iter=options.epochs)
    start = time.perf_counter()
    vae.fit(train)
    middle = time.perf_counter()
    rows = vae.sample(len(train), random_state=seed)
    return rows, middle - start, time.perf_counter() - middle


def interpolation(train, seed, options):
    """Take rows between neighbours."""
    rng, n = np.random.default_rng(seed), len(train)
    start = time.perf_counter()
    points = place(train)
    index = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points)
    middle = time.perf_counter()
    base = rng.integers(n, size=n)
    near = index.kneighbors(points[base], return_distance=False)
    near = np.where(near == base[:, None], near[:, -1:], near)[:, :NEIGHBOURS]  # not the row itself
    other, share = near[np.arange(n), rng.integers(NEIGHBOURS, size=n)], rng.random(n)
    columns = {}
    for name, column in train.items():
        first, second = (column.iloc[rows].reset_index(drop=True) for rows in (base, other))
        mixed = first.where(rng.random(n) < 0.5, second)
        if pd.api.types.is_numeric_dtype(column):
            between = first + share * (second - first)
            whole = (column.dropna() % 1 == 0).all()
            mixed = mixed.astype(float).where(between.isna(), between.round() if whole else between)
        columns[name] = mixed
    return pd.DataFrame(columns), middle - start, time.perf_counter() - middle


def place(table):
    """Return rows as points: standardised numbers, and levels whose difference is 1."""
    blocks = []
    for column in (table[name] for name in table):
        if pd.api.types.is_numeric_dtype(column):
            values = ((column - column.mean()) / (column.std() or 1.0)).astype(float)
            blocks.append(np.column_stack((values.fillna(0.0), values.isna())))
        elif column.nunique() < SEARCHED_LEVELS:
            blocks.append(pd.get_dummies(column, dummy_na=True).to_numpy(dtype=float) / np.sqrt(2))
    return np.hstack(blocks).astype(np.float32)


def tvae(train, seed, options):
    """Fit ctgan's TVAE, which knows no holes: those of numbers are filled, those of levels are a level."""
    import torch
    from ctgan import TVAE

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- its own source of noise
    numeric = train.select_dtypes("number").columns
    filled = train.assign(**{name: train[name].fillna(train[name].mean()) for name in numeric})
    levels = [name for name in train if name not in numeric]
    filled[levels] = filled[levels].astype(object).fillna("").astype(str)
    model = TVAE(**({"epochs": options.epochs} if options.epochs else {}))
    start = time.perf_counter()
    model.fit(filled, levels)
    middle = time.perf_counter()
    rows = model.sample(len(train))
    seconds = time.perf_counter() - middle
    rows[levels] = rows[levels].astype(object).where(rows[levels] != "", None)
    return rows, middle - start, seconds


METHODS = {function.__name__: function for function in (default, sharp, mixed, interpolation, tvae)}


# -- tables ----------------------------------------------------------------------------------------


def compare(name, judge, options):
    """Print a set's figures, a line for each way to make rows up."""
    train, test, target = load(name, options)
    print(f"\n{name}: {len(train)} x {train.shape[1]}, {len(test)} test rows, target {target}")
    header = False
    for maker in (METHODS[name] for name in options.methods):
        runs = []
        for seed in options.seeds[:1] if maker is tvae else options.seeds:
            rows, fit_seconds, sample_seconds = maker(train, seed, options)
            figures = judge.evaluate(train, rows, test, target)
            runs.append({**figures, "fit_s": fit_seconds, "sample_s": sample_seconds})
        if not header:
            print(f"{'':14}" + "".join(f"{key:>14}" for key in runs[0]))
            header = True
        means = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
        line = (f"{value:14.1f}" if key.endswith("_s") else f"{value:14.3f}" for key, value in means.items())
        print(f"{maker.__name__:14}" + "".join(line), flush=True)
        if len(runs) > 1:
            scores = ", ".join(f"{run['xgb_c2st']:.3f} ({run['xgb_c2st_test']:.3f})" for run in runs)
            print(f"{'':14}xgb_c2st (of test) by seed: {scores}")


def conditional(judge, options):
    """Print how rows with a given value are told from test rows with it, beside all rows."""
    train, test, target = load("adult", options)
    test = test.dropna()
    rich = test[test[target] == ">50K"]
    scores = []
    for seed in options.seeds:
        vae = VAETransformer(random_state=seed, max_iter=options.epochs or "auto").fit(train)
        start = time.perf_counter()
        given = vae.sample_conditional({target: ">50K"}, len(rich), random_state=seed)
        seconds = time.perf_counter() - start
        free = vae.sample(len(rich), missing=False, random_state=seed)
        some = test.sample(len(rich), random_state=seed)
        pairs = (judge.prepare(train, real, rows)[1:] for real, rows in ((rich, given), (some, free)))
        scores.append([judge.xgb_c2st(*pair) for pair in pairs])
    given, free = np.mean(scores, axis=0)
    print(f"\nadult, {len(rich)} complete rows, XGBoost two-sample score; wished: at most .05 below")
    print(f"given income >50K {given:.3f}, all {free:.3f}, difference {given - free:+.3f}; {seconds:.1f} s")


def large(name, options):
    """Fit a large table here; print seconds and memory as JSON."""
    table = read(options.data / LARGE[name])[: options.rows]
    start = time.perf_counter()
    vae = VAETransformer(random_state=0, max_iter=options.epochs or "auto").fit(table)
    figures = {"rows": len(table), "columns": table.shape[1], "fit_s": time.perf_counter() - start}
    start = time.perf_counter()
    vae.sample(10_000, random_state=0)
    figures["sample_s"] = time.perf_counter() - start
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    figures["peak_gb"] = int(fields["VmHWM"].split()[0]) / 2**20  # getrusage counts the parent's too
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", choices=SETS | UNTUNED, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["default", "interpolation"])
    for flag in ("conditional", "large"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--rows", type=int, help="training rows, and test rows; all without it")
    parser.add_argument("--epochs", type=int, help="of every fit; the defaults without it")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--judge", type=Path, default=SHARED / "evaluate" / "synthetic.py")
    parser.add_argument("--child", choices=LARGE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        large(options.child, options)
        sys.exit()
    judge = load_judge(options.judge)
    for name in options.sets:
        compare(name, judge, options)
    if options.conditional:
        conditional(judge, options)
    for name in LARGE if options.large else ():
        command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"\n{name}: {shown}; wished: 600 s, 3 GB", flush=True)
