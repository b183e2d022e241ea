"""The privacy report: brute force, what chance does, copies, tables of any kind."""

from datetime import datetime, timedelta
from importlib import import_module

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skvae import privacy_report


def make_table(n, seed):
    """Numbers, whole numbers, levels, booleans and moments, with holes."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(size=n)
    colours = rng.choice(["r", "g"], n)
    colours = [None if u < 0.1 else str(colour) for u, colour in zip(rng.random(n), colours, strict=True)]
    table = {
        "size": np.where(rng.random(n) < 0.1, np.nan, size),
        "count": rng.poisson(3, n),
        "colour": colours,
        "open": rng.random(n) < 0.5,
        "moment": [datetime(2020, 1, 1) + timedelta(hours=int(h)) for h in rng.integers(0, 1000, n)],
    }
    return pd.DataFrame(table)


def gower(a, b, real):
    """Distance of two rows, cell by cell."""
    total = 0.0
    for name in real:
        u, v = a[name], b[name]
        if pd.isna(u) or pd.isna(v):
            total += pd.isna(u) != pd.isna(v)
        elif name in ("colour", "open"):
            total += u != v
        else:
            total += min(1.0, abs(u - v) / (real[name].max() - real[name].min()))
    return total / real.shape[1]


@pytest.fixture(scope="module")
def parts():
    """Training, synthetic and held-out rows of one distribution; some synthetic ones are copies."""
    train, synthetic, holdout = make_table(40, 0), make_table(35, 1), make_table(40, 2)
    synthetic = pd.concat([synthetic, train[:3], holdout[:2]], ignore_index=True)
    synthetic.loc[0, "size"] = 1e6  # beyond all that is real
    return train, synthetic, holdout


def test_against_brute_force(parts):
    train, synthetic, holdout = parts
    real = pd.concat([train, holdout])
    near = {}
    for name, table in (("train", train), ("holdout", holdout)):
        rows = [row for _, row in table.iterrows()]
        near[name] = np.array([min(gower(s, r, real) for r in rows) for _, s in synthetic.iterrows()])
    report = privacy_report(train, synthetic, holdout, random_state=0)
    for name, distances in near.items():
        assert report[f"distance_{name}_median"] == pytest.approx(np.median(distances), abs=1e-5)
        assert report[f"distance_{name}_quantile_05"] == pytest.approx(np.quantile(distances, 0.05), abs=1e-5)
    low, high = near["train"], near["holdout"]
    assert (abs(low - high) > 1e-4).all()  # no ties to be shared out
    assert report["nearer_train"] == pytest.approx((low < high).mean())
    assert report["copies"] == report["copies_train_matched"] == 3 / 40
    assert report["copies_holdout_matched"] == 2 / 40
    assert all(type(value) is float for value in report.values())


@pytest.mark.parametrize("convert", [lambda t: t, pl.from_pandas, lambda t: t.iloc[:, ::-1]])
def test_any_table_in_any_order(parts, convert):
    train, synthetic, holdout = parts
    reports = [privacy_report(train, s, holdout, random_state=0) for s in (synthetic, convert(synthetic))]
    assert reports[0] == pytest.approx(reports[1])


def test_arrays_go_by_place():
    rng = np.random.default_rng(0)
    train, holdout = rng.normal(size=(2, 50, 3))
    report = privacy_report(pd.DataFrame(train, columns=["a", "b", "c"]), holdout.tolist(), holdout)
    assert report["copies_holdout_matched"] == 1.0
    assert report["nearer_train"] == 0.0


@pytest.mark.parametrize(("n_train", "n_holdout"), [(300, 300), (900, 100), (100, 900)])
def test_training_rows_are_copies_in_any_proportion(n_train, n_holdout):
    train, holdout = make_table(n_train, 0), make_table(n_holdout, 1)
    report = privacy_report(train, train, holdout, random_state=0)
    assert report["copies"] == 1.0
    assert report["distance_train_median"] <= report["distance_holdout_median"]
    assert report["nearer_train"] == pytest.approx(1.0, abs=0.01)
    half = pd.concat([train[: n_train // 2], make_table(n_train // 2, 2)])
    report = privacy_report(train, half, holdout, random_state=0)
    assert report["nearer_train"] == pytest.approx(0.75, abs=5 * report["nearer_train_se"])


def test_chance_is_a_half_and_its_spread_is_told():
    """Of many draws; a table of few distinct rows too, where nearly all copies are made by chance."""
    for columns in (["size", "count", "colour"], ["colour", "open"]):
        z, copies = [], []
        for seed in range(60):
            rows = make_table(550, seed)[columns]
            report = privacy_report(rows[:300], rows[300:450], rows[450:], random_state=0)
            copies.append(report["copies_train_matched"] - report["copies_holdout_matched"])
            if report["nearer_train_se"]:
                z.append((report["nearer_train"] - 0.5) / report["nearer_train_se"])
        assert abs(np.mean(z)) < 4 / np.sqrt(len(z))
        assert 0.7 < np.std(z) < 1.3
        assert abs(np.mean(copies)) < 0.02


def test_equal_distances_are_shared():
    train, holdout = np.zeros((30, 2)), np.zeros((10, 2))
    report = privacy_report(train, np.ones((5, 2)), holdout)
    assert report["nearer_train"] == 0.5
    assert report["nearer_train_se"] == pytest.approx(0.0)
    assert report["distance_train_median"] == report["distance_holdout_median"] == 1.0  # constant columns


def test_a_share_of_the_rows_by_a_seed(parts):
    train, synthetic, holdout = parts
    reports = [privacy_report(train, synthetic, holdout, max_rows=9, random_state=s) for s in (0, 0, 1)]
    assert reports[0] == reports[1] != reports[2]
    assert reports[2]["copies"] == 3 / 40  # of all
    np.random.seed(0)  # noqa: NPY002
    privacy_report(train, synthetic, holdout, max_rows=9)
    state = np.random.get_state()[1]  # noqa: NPY002
    assert (state == np.random.RandomState(0).get_state()[1]).all()


def test_many_chunks(monkeypatch, parts):
    whole = privacy_report(*parts, random_state=0)
    monkeypatch.setattr("skvae.privacy.CHUNK", 200)
    assert privacy_report(*parts, random_state=0) == pytest.approx(whole)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_numbers_read_as_text_and_empty_columns(library):
    make = import_module(library).DataFrame
    numbers, text = (
        make({"a": [1, 2, 3], "b": [None] * 3}),
        make({"a": ["1", "2", "4"], "b": ["x", None, "y"]}),
    )
    report = privacy_report(numbers, text, numbers)
    assert report["copies"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"synthetic": pd.DataFrame({"a": [1.0], "z": [1.0]})},
            r"synthetic without the columns \['b'\] and .*'z'",
        ),
        ({"holdout": pd.DataFrame({"a": [1.0]})}, r"holdout without the columns \['b'\]"),
        ({"synthetic": np.ones((3, 3))}, "synthetic with 3 columns; expected 2"),
        ({"synthetic": pd.DataFrame({"a": [], "b": []})}, "synthetic without a row"),
        ({"train": pd.DataFrame([[1, 2]], columns=["a", "a"])}, r"several columns named \['a'\]"),
        (
            {"synthetic": pd.DataFrame({"a": ["x"], "b": [1.0]})},
            "levels in the synthetic column 'a'; expected",
        ),
        ({"holdout": pd.DataFrame({"a": [1.0], "b": ["2020-01-01"]})}, "levels in the holdout column 'b'"),
        ({"holdout": None}, r"holdout of shape \(\)"),
        ({"max_rows": 0}, "Got max_rows=0"),
        ({"max_rows": 2.5}, r"Got max_rows=2\.5"),
    ],
)
def test_errors(change, message):
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0]})
    with pytest.raises(ValueError, match=message):
        privacy_report(**{"train": table, "synthetic": table, "holdout": table} | change)


@pytest.mark.parametrize("dtype", ["boolean", object, "category"])
def test_truth_values_are_the_same_in_any_type(dtype):
    table = pd.DataFrame({"x": np.arange(30.0), "b": np.arange(30) % 2 > 0})
    other = table.astype({"b": dtype})
    other.loc[0, "b"] = None
    other = other.astype({"b": dtype})
    report = privacy_report(other, table[1:], other, random_state=0)
    assert report["copies"] == 1
    assert privacy_report(table, other[1:], table, random_state=0)["copies"] == 1


@pytest.mark.parametrize("kind", ["date32[day][pyarrow]", "date64[ms][pyarrow]", "duration[us][pyarrow]"])
def test_days_of_arrow_with_holes(kind):
    days = pd.Series([*pd.date_range("2020-01-01", periods=40), pd.NaT])
    if kind.startswith("duration"):
        days = days - days[0]
    X = pd.DataFrame({"day": days.astype(kind)})
    report = privacy_report(X, X[::2], pd.DataFrame({"day": X["day"][::-1].reset_index(drop=True)}))
    assert report["copies"] == 1
    assert report["distance_holdout_median"] == 0


def test_masked_cells_are_missing():
    X = np.random.default_rng(0).normal(size=(60, 2))
    masked = np.ma.masked_greater(X, 0.5)
    holes = np.where(X > 0.5, np.nan, X)
    assert privacy_report(masked, X, X) == privacy_report(holes, X, X)


def test_numbers_among_objects_are_numbers():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(90, 2)), columns=["a", "b"])
    train, holdout = table[:45], table[45:]
    copies = train.assign(a=train["a"] + 1e-9)
    objects = [part.astype({"a": object}) for part in (train, copies, holdout)]
    want = privacy_report(train, copies, holdout, random_state=0)
    assert privacy_report(*objects, random_state=0) == want
