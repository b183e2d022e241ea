"""VAETransformer on tables of mixed types: everything that works on arrays, and what only tables have."""

import pickle
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pandas.testing import assert_frame_equal
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import skvae
from skvae import VAETransformer
from skvae._defaults import choose_plan
from skvae.likelihoods import Gaussian, Mixed
from skvae.objectives import ELBO


def census(n_rows=600, seed=0):
    """A table whose columns depend on each other: wage on degree, boss on wage, holes on degree."""
    rng = np.random.default_rng(seed)
    degree = rng.choice(["none", "school", "college"], n_rows, p=[0.2, 0.5, 0.3])
    rank = pd.Series(degree).map({"none": 0, "school": 1, "college": 2}).to_numpy()
    wage = np.round(np.exp(7 + 0.5 * rank + 0.2 * rng.normal(size=n_rows)), 2)
    boss = rng.random(n_rows) < 1 / (1 + np.exp(4 - wage / 800))
    hours = np.where(rng.random(n_rows) < 0.4, 40.0, rng.integers(10, 60, n_rows))
    hours[(degree == "none") & (rng.random(n_rows) < 0.6)] = np.nan
    return pd.DataFrame(
        {
            "degree": pd.Categorical(degree, ["none", "school", "college", "doctor"], ordered=True),
            "age": rng.integers(18, 65, n_rows),
            "wage": wage,
            "boss": boss,
            "hours": hours,
            "town": np.where(rng.random(n_rows) < 0.9, rng.choice(["Ulm", "Bonn"], n_rows), None),
            "hired": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n_rows), unit="D"),
        }
    )


def small(n_components=3, **params):
    return VAETransformer(n_components, **({"max_iter": 5, "random_state": 0} | params))


@pytest.fixture(scope="module")
def table():
    return census()


@pytest.fixture(scope="module")
def learned(table):
    """A model trained long enough to know what goes with what."""
    return VAETransformer(4, max_iter=80, random_state=0).fit(table)


@pytest.fixture(scope="module")
def drawn(learned):
    return learned.sample(4000, random_state=0)


# -- sampling ------------------------------------------------------------------------------------


def test_samples_are_tables_of_the_same_kind(table, drawn):
    assert_frame_equal(drawn.iloc[:0], table.iloc[:0], check_index_type=False)
    assert list(drawn["degree"].cat.categories) == ["none", "school", "college", "doctor"]
    assert not (drawn["degree"] == "doctor").any()  # no row of training has it
    assert set(drawn["town"].dropna()) == {"Ulm", "Bonn"}
    assert drawn["age"].between(table["age"].min(), table["age"].max()).all()
    np.testing.assert_allclose(drawn["wage"], drawn["wage"].round(2), rtol=0, atol=1e-9)


def test_samples_follow_the_margins(table, drawn):
    for name in ("degree", "boss", "town"):
        real = table[name].value_counts(normalize=True, dropna=False).sort_index()
        new = drawn[name].value_counts(normalize=True, dropna=False).sort_index()
        np.testing.assert_allclose(new.reindex(real.index, fill_value=0.0), real, atol=0.06)
    assert (drawn["hours"] == 40).mean() == pytest.approx((table["hours"] == 40).mean(), abs=0.06)
    assert drawn["wage"].median() == pytest.approx(table["wage"].median(), rel=0.1)


def test_samples_keep_what_depends_on_what(table, drawn):
    for rows in (table, drawn):
        means = np.log(rows["wage"]).groupby(rows["degree"], observed=True).mean()
        assert 0.3 < means["college"] - means["school"] < 0.7
        assert rows.loc[rows["boss"], "wage"].mean() > 1.25 * rows.loc[~rows["boss"], "wage"].mean()
        missing = rows["hours"].isna().groupby(rows["degree"], observed=True).mean()
        assert missing["none"] > 0.4
        assert missing["college"] < 0.1


def test_complete_rows_on_request(learned):
    assert not learned.sample(300, missing=False, random_state=0).isna().any().any()


def test_new_values_are_not_copies(table, drawn):
    new = ~drawn["wage"].isin(table["wage"])
    assert new.mean() > 0.5


def test_equal_seeds_draw_equal_tables(learned):
    assert_frame_equal(learned.sample(20, random_state=3), learned.sample(20, random_state=3))
    assert not learned.sample(20, random_state=3).equals(learned.sample(20, random_state=4))


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "precision"),
    [(100, 3, 5), (100, 8, 16), (500, 3, 25), (500, 20, 50), (9999, 3, 50)],
)
def test_prior_on_weights_grows_with_rows_and_columns(n_rows, n_columns, precision):
    plan = choose_plan(
        VAETransformer().get_params(),
        ELBO(),
        n_rows=n_rows,
        amount=n_rows,
        n_columns=n_columns,
        n_before=0,
        passing=False,
        table=True,
    )
    assert plan.weight_decay * n_rows == pytest.approx(precision)
    assert plan.copies == (2 if n_rows == 100 else 1)


@pytest.mark.parametrize("numbers", [True, False])
def test_a_few_rows_many_times_each_are_learned(numbers):
    second = [0.0, 1.0, 2.0] if numbers else ["x", "y", "z"]
    table = pd.DataFrame({"a": ["u", "v", "w"] * 50, "b": second * 50})
    vae = VAETransformer(2, random_state=0).fit(table)
    assert vae.score(table) > -1.25  # at best -log 3
    drawn = vae.sample(300, random_state=0)
    assert set(drawn["b"]) == set(second)
    assert np.mean(drawn["a"].map(dict(zip("uvw", second, strict=True))) == drawn["b"]) > 0.85
    assert vae.impute(table[:3].assign(a=None))["a"].tolist() == ["u", "v", "w"]
    weighed = VAETransformer(2, random_state=0).fit(table[:3], sample_weight=np.full(3, 50.0))
    assert weighed.score(table) == vae.score(table)


# -- conditional sampling --------------------------------------------------------------------------


def test_given_values_come_back(learned):
    new = learned.sample_conditional({"degree": "college", "age": 40, "boss": True}, 50, random_state=0)
    assert (new["degree"] == "college").all()
    assert (new["age"] == 40).all()
    assert new["boss"].all()
    assert not new.isna().any().any()


def test_the_rest_goes_with_what_is_given(table, learned):
    new = learned.sample_conditional({"boss": True}, 1500, random_state=0)
    real = table[table["boss"]]
    shares = real["degree"].value_counts(normalize=True)
    np.testing.assert_allclose(new["degree"].value_counts(normalize=True)[shares.index], shares, atol=0.1)
    assert new["wage"].median() == pytest.approx(real["wage"].median(), rel=0.12)


def test_rows_with_holes_are_filled_in_order(table, learned):
    given = table.iloc[[5, 2, 9]].copy()
    given["wage"] = np.nan
    new = learned.sample_conditional(given, 4, random_state=0)
    assert new.index.tolist() == np.repeat(given.index, 4).tolist()
    assert not new.isna().any().any()
    for name in ("degree", "age", "boss", "hired"):
        assert new[name].tolist() == given[name].repeat(4).tolist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_given_rows_lack_are_drawn(library, table, learned):
    vae, rows = learned, table.iloc[[5, 2]]
    if library == "polars":
        rows = pl.from_pandas(rows)
        vae = small(2, max_iter=1).fit(pl.from_pandas(table))
    some = rows[["boss", "age"]]  # in any order
    new = vae.sample_conditional(some, 3, random_state=0)
    assert list(new.columns) == list(rows.columns)
    for name in some.columns:
        assert list(new[name]) == list(np.repeat(np.array(some[name]), 3))
    others = [name for name in rows.columns if name not in some.columns]
    if library == "pandas":
        holes = rows.mask(np.broadcast_to(rows.columns.isin(others), rows.shape))
    else:
        holes = rows.with_columns(pl.lit(None).cast(rows.schema[name]).alias(name) for name in others)
    want = vae.sample_conditional(holes, 3, random_state=0)
    assert new.equals(want)
    other = some.rename(**{"columns" if library == "pandas" else "mapping": {"age": "wages"}})
    with pytest.raises(ValueError, match="wages"):
        vae.sample_conditional(other)


def test_conditional_samples_of_arrays(diabetes):
    vae = small(4, max_iter=100).fit(diabetes)
    new = vae.sample_conditional({0: 1.5, 3: -1.0}, 400, random_state=0)
    assert (new[:, 0] == 1.5).all()
    assert (new[:, 3] == -1.0).all()
    given = np.where(np.random.default_rng(0).random(diabetes.shape) < 0.5, np.nan, diabetes)[:5]
    new = vae.sample_conditional(given, 2, random_state=0)
    kept = np.repeat(given, 2, axis=0)
    np.testing.assert_array_equal(new[~np.isnan(kept)], kept[~np.isnan(kept)])
    assert np.isfinite(new).all()


def test_conditional_samples_follow_the_density():
    rng = np.random.default_rng(0)
    side = rng.choice([-2.0, 2.0], 2000)
    X = np.column_stack((rng.normal(size=2000), side * 1.5)) + 0.3 * rng.normal(size=(2000, 2))
    X[:, 0] += np.where(side > 0, X[:, 1], 0.0)
    vae = VAETransformer(2, max_iter=30, random_state=0).fit(X)
    grid = np.linspace(-8, 8, 400)
    scores = vae.score_samples(np.column_stack((np.full(400, 1.0), grid)), n_draws=1000)
    share = np.exp(scores - scores.max())
    share /= share.sum()
    new = vae.sample_conditional({0: 1.0}, 3000, random_state=0)[:, 1]
    assert 0.05 < np.mean(new > 0) < 0.95  # two modes
    for threshold in (-3.5, -3.0, 0.0, 2.5, 3.5):
        assert np.mean(new > threshold) == pytest.approx(share[grid > threshold].sum(), abs=0.06)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"salary": 3}, "no column 'salary'"),
        ({"degree": "doctor"}, "'doctor' for column 'degree'; expected a level seen in fit"),
        ({"age": "old"}, "'old' for column 'age'"),
        ({"age": 40.5}, "40.5 for column 'age'"),
        ({"age": np.inf}, "inf for column 'age'; expected a finite number that int64 holds"),
    ],
)
def test_bad_given(learned, given, message):
    with pytest.raises(ValueError, match=message):
        learned.sample_conditional(given)


def test_unseen_levels_cannot_be_given(table, learned):
    given = table.iloc[:2].astype({"town": object})
    given.loc[given.index[1], "town"] = "Oslo"
    with pytest.raises(ValueError, match="'Oslo' in column 'town'"):
        learned.sample_conditional(given)


# -- the rest of the estimator -----------------------------------------------------------------------


def test_latents_and_back(table, learned):
    Z = learned.transform(table)
    assert Z.shape == (600, 4)
    assert np.isfinite(Z).all()
    back = learned.inverse_transform(Z)
    assert_frame_equal(back.iloc[:0], table.iloc[:0], check_index_type=False)
    assert back["wage"].corr(table["wage"]) > 0.5
    assert not back.isna().any().any()
    named = small(4).set_output(transform="pandas").fit_transform(table.iloc[:60])
    assert list(named.columns) == list(learned.get_feature_names_out())


def test_scores(table, learned):
    table = table[:200]
    scores = learned.score_samples(table)
    assert scores.shape == (200,)
    assert np.isfinite(scores).all()
    odd = table.copy()
    odd["wage"] = odd["wage"].to_numpy()[::-1]
    odd["degree"] = odd["degree"].to_numpy()[::-1]
    assert learned.score(odd) < learned.score(table)
    odd["wage"] = 1e7  # never seen
    assert np.isfinite(learned.score(odd))
    np.testing.assert_allclose(learned.score_samples(table.iloc[7:9]), scores[7:9], rtol=1e-7)
    cells = learned.score_cells(table.iloc[:50])
    np.testing.assert_allclose(cells.sum(1), scores[:50], rtol=1e-6)


def test_unseen_levels_are_holes(table, learned):
    unseen, missing = table.astype({"town": object}), table.astype({"town": object})
    unseen["town"], missing["town"] = "Oslo", None
    np.testing.assert_array_equal(learned.transform(unseen), learned.transform(missing))


def test_weights_stand_for_rows(table):
    weight = np.where(table["degree"] == "college", 0.0, 1.0)
    vae = small(max_iter=60).fit(table, sample_weight=weight)
    assert (vae.sample(300, random_state=0)["degree"] != "college").all()


def test_weights_are_relative_below_one(table):
    weight = np.random.default_rng(0).uniform(1, 2, len(table))
    small_ones, shares = (small().fit(table, sample_weight=w) for w in (weight * 1e-3, weight / weight.sum()))
    sizes = [vae.module_.likelihood.sizes for vae in (small().fit(table), small_ones, shares)]
    assert sizes[0] == sizes[1] == sizes[2]
    some = table[:60]
    np.testing.assert_allclose(small_ones.score_samples(some), shares.score_samples(some), rtol=1e-3)


def test_rows_of_weight_zero_are_left_out(table):
    weight = np.ones(len(table))
    weight[0] = 0
    rare = table.assign(town=np.where(weight == 0, "Rome", table["town"]))
    vae = small().fit(rare, sample_weight=weight)
    some = table[:60]
    np.testing.assert_array_equal(vae.score_samples(some), small().fit(rare[1:]).score_samples(some))
    with pytest.raises(ValueError, match=r"'Rome' for column 'town'; expected a level"):
        vae.sample_conditional({"town": "Rome"})


def test_levels_and_classes_of_weight_zero_are_left_out(diabetes):
    X = np.column_stack((np.arange(200) % 2, diabetes[:, 0]))
    X[0, 0], weight = 9.0, np.ones(200)
    weight[0] = 0
    vae = small(categorical_features=[0]).fit(X, sample_weight=weight)
    assert vae.likelihood_.levels == (2, 0)
    y = ["a", "b"] * 100
    for rows in (X, pd.DataFrame({"a": X[:, 0], "b": ["u", "v"] * 100})):
        model = small(conditional=True).fit(rows[1:], y[1:])
        again = small(conditional=True).fit(
            rows, [None, *y[1:]] if rows is not X else y, sample_weight=weight
        )
        np.testing.assert_array_equal(again.transform(rows[1:]), model.transform(rows[1:]))
    with pytest.raises(ValueError, match="requires y to be passed"):
        small(conditional=True).fit(rows, None, sample_weight=weight)


def test_partial_fit_keeps_the_columns_of_the_first_chunk(table):
    vae = small()
    for start in range(0, 600, 200):
        vae.partial_fit(table.iloc[start : start + 200])
    later = table.iloc[:50].astype({"town": object})
    later["town"] = "Oslo"
    vae.partial_fit(later)
    assert set(vae.sample(200, random_state=0)["town"].dropna()) <= {"Ulm", "Bonn"}


def test_classes(table):
    y = np.where(table["wage"] > table["wage"].median(), "rich", "poor")
    vae = small(conditional=True, max_iter=30).fit(table, y)
    rich, poor = (vae.sample(400, y=label, random_state=0)["wage"].median() for label in ("rich", "poor"))
    assert rich > poor


def test_tools_of_scikit_learn(table):
    y = table["boss"].to_numpy()
    X = table.drop(columns="boss")
    pipeline = make_pipeline(small(max_iter=20), LogisticRegression())
    assert cross_val_score(pipeline, X, y, cv=2, scoring="roc_auc").mean() > 0.6
    search = GridSearchCV(small(max_iter=2), {"n_components": [1, 2]}, cv=2, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    columns = make_column_transformer((small(2), ["degree", "town"]), ("drop", ["wage"]))
    assert columns.fit_transform(X).shape == (600, 2)


def test_files_and_pickle(tmp_path, table, learned):
    skvae.save(learned, tmp_path / "model")
    for copy in (skvae.load(tmp_path / "model"), pickle.loads(pickle.dumps(learned))):
        np.testing.assert_array_equal(copy.transform(table), learned.transform(table))
        assert_frame_equal(copy.sample(20, random_state=0), learned.sample(20, random_state=0))


def test_polars(table):
    frame = pl.from_pandas(table)
    vae = small().fit(frame)
    new = vae.sample(30, random_state=0)
    assert isinstance(new, pl.DataFrame)
    assert new.schema == frame.schema
    given = vae.sample_conditional({"town": "Ulm"}, 5, random_state=0)
    assert given["town"].to_list() == ["Ulm"] * 5
    assert vae.transform(frame).shape == (600, 3)


def test_a_frame_of_numbers_is_an_array_with_names(diabetes):
    frame = pd.DataFrame(diabetes).add_prefix("x").assign(x3=np.arange(200))
    vae = small().fit(frame)
    assert isinstance(vae.likelihood_, Gaussian)
    assert vae.sample(9, random_state=0)["x3"].dtype == frame["x3"].dtype
    mixed = small(likelihood="mixed").fit(frame)
    assert isinstance(mixed.likelihood_, Mixed)
    assert mixed.sample(9, random_state=0)["x3"].dtype == frame["x3"].dtype


def test_names_that_are_no_text(diabetes):
    frame = pd.DataFrame(diabetes[:, :3], columns=[2, 1, 0])
    vae = small().fit(frame)
    assert vae.sample_conditional({2: 5.0}, random_state=0)[2].tolist() == [5.0]
    with pytest.raises(ValueError, match=r"no column 7; expected some of \[2, 1, 0\]"):
        vae.sample_conditional({7: 5.0})


def test_draws_of_narrow_types(diabetes):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(diabetes[:, :2]).add_prefix("x")
    frame = frame.assign(low=rng.poisson(1, 200).astype("uint8"), high=np.full(200, 126, dtype="int8"))
    frame["high"] -= rng.poisson(2, 200).astype("int8")
    vae = small().fit(frame)
    for drawn in (vae.sample(500, random_state=0), vae.sample_conditional({"x0": 3.0}, 500, random_state=0)):
        assert (drawn.dtypes == frame.dtypes).all()
        assert drawn["high"].min() > 50  # below 0 if it had wrapped around
    with pytest.raises(
        ValueError, match=r"Got 300 for column 'low'; expected a finite number that uint8 holds"
    ):
        vae.sample_conditional({"low": 300})
    assert (
        vae.impute(frame.astype({"low": float}).assign(low=300.0, x0=np.nan))["low"].tolist() == [300.0] * 200
    )


def test_frames_of_numbers_in_odd_types(diabetes):
    plain = pd.DataFrame({"a": diabetes[:, 0], "b": np.arange(200) % 3})
    sparse = plain.astype(pd.SparseDtype(float))
    objects = plain.astype({"b": object})
    objects.loc[::5, "b"] = pd.NA
    holed = plain.astype({"b": float})
    holed.loc[::5, "b"] = np.nan
    for odd, usual in ((sparse, plain), (objects, holed)):
        scores = [small().fit(frame).score_samples(frame) for frame in (odd, usual)]
        np.testing.assert_array_equal(*scores)
    assert objects["b"].isna().sum() == 40  # what came in is as it was


def test_a_likelihood_of_numbers_names_the_column_that_has_none(table):
    with pytest.raises(
        ValueError, match=r"column 'degree' of X .* likelihood='gaussian'.*Set likelihood='auto'"
    ):
        small(likelihood="gaussian").fit(table)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_missing_classes_are_refused(table, kind):
    y = kind(["a", "b", None] * 200)
    with pytest.raises(ValueError, match="Got y with missing classes"):
        small(conditional=True).fit(table, y)


def test_levels_of_an_array():
    rng = np.random.default_rng(0)
    X = np.column_stack((rng.choice([3.0, 7.0, 11.0], 200), rng.normal(size=200)))
    vae = small(categorical_features=[0]).fit(X)
    assert set(vae.sample(100, random_state=0)[:, 0]) <= {3.0, 7.0, 11.0}
    assert vae.likelihood_.levels == (3, 0)
    with pytest.raises(ValueError, match="categorical_features"):
        small(categorical_features=[0], likelihood="gaussian").fit(X)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.rename(columns={"age": "wage"}), "'wage'.*2 times|several columns named .'wage'"),
        (lambda t: t.assign(age=[[1]] * len(t)), "'age'"),
        (lambda t: t.assign(age=[1, "a"] * (len(t) // 2)), "'age'"),
        (lambda t: t.assign(age=[f"id {i}" for i in range(len(t))]), "'age'.*an id or free text"),
        (lambda t: t.iloc[:0], "0 sample"),
    ],
)
def test_bad_tables(table, spoil, message):
    with pytest.raises(ValueError, match=message):
        small().fit(spoil(table))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="age"), "age"),
        (lambda t: t[t.columns[::-1]], "order"),
        (lambda t: t.assign(age="old"), "'age'"),
        (lambda t: t.iloc[:0], "0 sample"),
    ],
)
def test_other_tables_than_in_fit(table, learned, spoil, message):
    with pytest.raises(ValueError, match=message):
        learned.transform(spoil(table))


# -- given cells stay ------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_imputing_leaves_levels_that_fit_has_not_seen(library):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"k": rng.choice(list("xyz"), 90), "f": rng.normal(size=90)})
    rows = pd.DataFrame({"k": ["NEW", None, "x"], "f": [0.5, None, None]})
    if library == "polars":
        X, rows = pl.from_pandas(X), pl.from_pandas(rows)
    filled = small(max_iter=2).fit(X).impute(rows)
    levels = filled["k"].to_list()
    assert levels[::2] == ["NEW", "x"]
    assert levels[1] in "xyz"
    assert filled["f"].to_list()[0] == 0.5
    assert np.isfinite(np.asarray(filled["f"], dtype=float)).all()


def test_given_cells_are_not_rounded():
    rng = np.random.default_rng(0)
    ticks = pd.to_timedelta(rng.integers(0, 9 * 10**16, 90), unit="ns")
    moments = (pd.Timestamp("2020") + ticks).astype("M8[ns]")
    X = pd.DataFrame({"k": rng.choice(list("xy"), 90), "t": moments}, index=np.arange(90) // 2)
    vae = small(max_iter=2).fit(X)
    holed = X.assign(k=None)
    again = vae.sample_conditional(holed, 2, random_state=0)
    assert (again["t"].to_numpy() == np.repeat(X["t"].to_numpy(), 2)).all()
    assert list(again.index) == list(np.repeat(X.index, 2))
    assert again["k"].isin(["x", "y"]).all()
    assert (vae.impute(holed)["t"] == X["t"]).all()

    single = pd.DataFrame(rng.normal(size=(90, 2)).astype("f4"), columns=["a", "b"])
    double = pd.DataFrame(rng.normal(size=(9, 2)), columns=["a", "b"])
    double.iloc[0, 0] = np.nan
    assert (small(max_iter=2).fit(single).impute(double)["b"] == double["b"]).all()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_whole_numbers_that_floats_cannot_hold_are_refused_among_numbers(make):
    X = make({"id": np.arange(40) + 2**55, "a": np.arange(40.0)})
    with pytest.raises(ValueError, match=r"'id' of X with whole numbers of 2\^53"):
        small(max_iter=1).fit(X)


@pytest.mark.parametrize("value", [np.float32("inf"), 1e300, float("inf"), -1e39])
def test_a_value_beyond_the_type_of_its_column(value):
    rng = np.random.default_rng(0)
    F = pd.DataFrame({"a": rng.normal(size=60).astype("f4"), "k": rng.choice(list("xy"), 60)})
    for X in (F, F[["a"]], F[["a"]].to_numpy()):
        name = "a" if isinstance(X, pd.DataFrame) else 0
        vae = small(1, max_iter=1).fit(X)
        with pytest.raises(ValueError, match=f"for column {name!r}"):
            vae.sample_conditional({name: value})
        assert vae.sample_conditional({name: F["a"][0]}).shape == (1, X.shape[1])


def test_columns_that_get_values_late_are_named(table):
    first, later = table.assign(age=np.nan), table.assign(age=table["age"] * 1.0)
    vae = small(max_iter=1).partial_fit(first)
    with pytest.warns(UserWarning, match=r"^Columns \['age'\] have values now, but had none when"):
        vae.partial_fit(later)
    for given in ({"age": 30.0}, later[["age"]].head(2)):
        with pytest.raises(ValueError, match="column 'age'; expected none: all its cells were missing"):
            vae.sample_conditional(given)


def test_tuples_are_levels_where_a_column_has_them():
    levels = [(1, 2), (3, (4, 5))]
    X = pd.DataFrame({"pair": pd.Categorical.from_codes([0, 1] * 30, pd.Index(levels, tupleize_cols=False))})
    vae = small(1, max_iter=1).fit(X.assign(x=np.arange(60.0)))
    assert vae.sample_conditional({"pair": (3, (4, 5))}, 2)["pair"].tolist() == [(3, (4, 5))] * 2
    for name, value in (("pair", (1, 3)), ("x", (3, (4, 5))), ("x", [1.0])):
        with pytest.raises(ValueError, match="of several values for column"):
            vae.sample_conditional({name: value})


@pytest.mark.parametrize(
    "header",
    [
        pd.Index(["s", "x"], dtype=object, name="names"),
        pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["u", "v"]),
        pd.RangeIndex(2),
    ],
)
def test_the_header_of_a_table_stays(header, tmp_path):
    X = pd.DataFrame({"s": ["a", "b"] * 30, "x": np.arange(60.0)}).set_axis(header, axis=1)
    vae = small(1, max_iter=1).fit(X)
    skvae.save(vae, tmp_path / "model.skvae")
    for model in (vae, skvae.load(tmp_path / "model.skvae")):
        for new in (model.sample(2), model.inverse_transform(np.zeros((2, 1))), model.impute(X.head(2))):
            pd.testing.assert_index_equal(new.columns, header, exact=True)


def test_moments_of_polars_as_users_write_them():
    moment = datetime(2020, 1, 2, 5, tzinfo=ZoneInfo("Europe/Berlin"))
    X = pl.DataFrame(
        {
            "day": [date(2020, 1, 1 + i % 28) for i in range(60)],
            "time": [time(i % 24, 5) for i in range(60)],
            "moment": [moment + timedelta(hours=i) for i in range(60)],
            "span": [timedelta(hours=i) for i in range(60)],
        }
    )
    vae = small(1, max_iter=1).fit(X)
    for name, value, wish in [
        ("day", "2020-01-05", date(2020, 1, 5)),
        ("day", np.datetime64("2020-01-05"), date(2020, 1, 5)),
        ("day", datetime(2020, 1, 5), date(2020, 1, 5)),
        ("time", "07:05:00", time(7, 5)),
        ("moment", "2020-01-02 05:00:00", moment),
        ("span", np.timedelta64(3, "h"), timedelta(hours=3)),
    ]:
        assert vae.sample_conditional({name: value})[name][0] == wish
    wrong = [("day", datetime(2020, 1, 5, 5)), ("day", "soon"), ("time", "soon"), ("span", "3h")]
    for name, value in [*wrong, ("span", "2020-01-05"), ("span", time(3))]:
        with pytest.raises(ValueError, match=f"for column {name!r}"):
            vae.sample_conditional({name: value})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_given_moments_come_back_to_the_bit_or_are_refused(library):
    clock = pd.date_range("2020-01-01 02:30", "2021-12-31", freq="D")  # comes twice in October
    clock = clock[clock.month != 3]
    moments = clock.tz_localize("Europe/Berlin", ambiguous=np.ones(len(clock), bool))
    second = pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin")
    span = pd.to_timedelta(np.arange(len(clock)), unit="s").astype("timedelta64[ms]")
    ticks = np.random.default_rng(0).integers(0, 2**59, len(clock))
    ticks = ticks // 1000 * 1000 if library == "polars" else ticks  # Python's moments have no nanoseconds
    exact = pd.Timestamp("2000-01-01").as_unit("ns") + pd.to_timedelta(ticks, unit="ns")
    X = pd.DataFrame({"moment": moments.as_unit("ms"), "span": span, "exact": exact})
    X = pl.from_pandas(X) if library == "polars" else X
    vae = small(1, max_iter=1).fit(X)
    for given in ({"moment": second}, {"exact": exact[5]}, {"span": timedelta(milliseconds=5)}):
        ((name, value),) = given.items()
        drawn = vae.sample_conditional(given, 3)
        # an hour that comes twice is equal to none of another zone
        cells = pd.to_datetime(list(drawn[name]), utc=True) if name == "moment" else drawn[name]
        assert list(cells) == [value] * 3
        assert drawn[name].dtype == X[name].dtype
        if library == "pandas":
            assert drawn.index.tolist() == [0, 1, 2]
    for given in ({"span": timedelta(microseconds=1500)}, {"moment": second + timedelta(microseconds=1)}):
        with pytest.raises(ValueError, match="for column"):
            vae.sample_conditional(given)


def test_given_rows_may_have_their_columns_in_any_order(table, learned):
    some = table.head(3).assign(wage=np.nan)
    want = learned.sample_conditional(some, 2, random_state=0)
    assert_frame_equal(learned.sample_conditional(some[some.columns[::-1]], 2, random_state=0), want)
    with pytest.raises(TypeError, match="Got a Series as given; expected a dict"):
        learned.sample_conditional(table.iloc[0])


def test_given_columns_that_are_not_there_are_named(table, learned):
    with pytest.raises(ValueError, match=r"Got given, but no column 'agee'; expected some of \['degree'"):
        learned.sample_conditional(table[["degree", "age"]].head(2).rename(columns={"age": "agee"}))


def test_rows_are_given_as_a_dict_whatever_their_columns_lack(table):
    X = table.head(60).assign(nothing=np.nan)
    vae = small(max_iter=1).fit(X)
    given = dict(X.iloc[0])
    assert vae.sample_conditional(given, 2)["age"].tolist() == [X["age"].iloc[0]] * 2
    with pytest.raises(ValueError, match="'nothing'; expected none"):
        vae.sample_conditional(given | {"nothing": 1.0})


def test_rows_of_a_table_without_duplicate_labels_are_given_several_times(table, learned):
    some = table.head(2).set_flags(allows_duplicate_labels=False)
    assert learned.sample_conditional(some, 2).index.tolist() == [0, 0, 1, 1]


def test_numbers_that_are_levels_are_given_as_users_write_them():
    X = pd.DataFrame({"size": np.array([0.1, 0.2] * 30, "f4"), "x": np.arange(60.0)})
    vae = small(1, max_iter=1, categorical_features=["size"]).fit(X)
    assert vae.sample_conditional({"size": 0.1}, 2)["size"].tolist() == [np.float32(0.1)] * 2


def test_levels_that_are_moments_are_read_from_the_other_library():
    X = pd.DataFrame({"span": pd.to_timedelta([1, 2] * 30, unit="D"), "kind": ["a", "b"] * 30})
    X["day"] = pd.Series(pd.to_datetime(["2020", "2021"] * 30)).astype("timestamp[us][pyarrow]")
    X["day"] = X["day"].astype("category")
    vae = small(1, max_iter=1, categorical_features=["span"]).fit(X)
    span, day = [timedelta(days=1), timedelta(days=2)], [datetime(2020, 1, 1), datetime(2021, 1, 1)]
    other = pl.DataFrame({"span": span * 30, "kind": X["kind"].tolist(), "day": day * 30})
    np.testing.assert_array_equal(vae.transform(other), vae.transform(X))


def test_a_column_of_polars_with_the_name_of_a_pattern():
    X = pl.DataFrame({"*": [1, 2, 3] * 20, "ab": np.random.default_rng(0).random(60)})
    vae = small(1, max_iter=1).fit(X)
    assert vae.sample(20).dtypes == [pl.Int64, pl.Float64]
    assert vae.sample_conditional(X[["*"]].head(2)).dtypes == [pl.Int64, pl.Float64]


def test_levels_told_to_the_likelihood_are_those_of_the_columns():
    X = np.c_[np.arange(40.0), np.arange(40) % 4]
    with pytest.raises(ValueError, match=r"Got levels=\[0, 4\].*categorical_features"):
        small(likelihood=Mixed(levels=[0, 4]), max_iter=1).fit(X)
    vae = small(likelihood=Mixed(levels=[0, 4]), categorical_features=[1], max_iter=1).fit(X)
    assert vae.likelihood_.levels == (0, 4)


@pytest.mark.parametrize("value", [pd.Series(["x", "y"]), np.array([1.0, 2.0]), ["x"]])
def test_several_values_for_one_column(learned, value):
    with pytest.raises(ValueError, match="of several values for column 'degree'; expected one"):
        learned.sample_conditional({"degree": value})


@pytest.mark.parametrize(("unit", "freq"), [("D", 86400), ("h", 3600), ("s", 1), ("ms", 0.001)])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_imputed_moments_are_at_the_steps_of_the_data(library, unit, freq):
    rng = np.random.default_rng(0)
    moments = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**4, 90), unit=unit)
    X = pd.DataFrame({"t": moments.as_unit("us"), "d": pd.to_timedelta(rng.integers(9, 99, 90), unit=unit)})
    X["k"] = rng.choice(list("xy"), 90)
    holed = X.assign(t=X["t"].mask(np.arange(90) % 3 == 0), d=X["d"].mask(np.arange(90) % 3 == 1))
    table = pl.from_pandas(holed) if library == "polars" else holed
    filled = small(max_iter=2).fit(table).impute(table)
    filled = filled.to_pandas() if library == "polars" else filled
    for seconds in (
        (filled["t"] - pd.Timestamp("2020-01-01")).dt.total_seconds(),
        filled["d"].dt.total_seconds(),
    ):
        assert seconds.notna().all()
        if freq >= 1:
            assert (seconds % freq == 0).all()


def test_a_given_number_beyond_the_range_counts_as_the_nearest(table, learned):
    most = table["wage"].max()
    drawn = [
        learned.sample_conditional({"wage": wage}, n_samples=500, random_state=0)
        for wage in (most, 10 * most)
    ]
    share = [rows["boss"].astype(float).mean() for rows in drawn]
    assert share[1] == pytest.approx(share[0], abs=0.1)
    assert share[1] > table["boss"].mean() + 0.2


@pytest.mark.parametrize("whole", [True, False])
def test_a_column_compared_with_one_far_beyond_its_range_keeps_to_its_own(whole):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 50, 400) if whole else rng.random(400)
    X = pd.DataFrame({"a": a, "b": a + rng.integers(0, 5, 400), "k": rng.choice(["x", "y"], 400)})
    vae = small(max_iter=5).fit(X)
    assert len(vae.module_.likelihood.order) == 1
    for far in (X["a"].max() + 10, 10**6):
        given = pd.DataFrame({"a": [far], "b": [np.nan], "k": ["x"]}, dtype=object).astype({"k": "str"})
        given = given.astype({"a": float, "b": float})
        filled = [
            vae.impute(given),
            vae.impute(given, draw=True, random_state=0),
            vae.sample_conditional(given, 20, random_state=0),
        ]
        assert filled[0]["b"][0] >= X["a"].max()
        assert all(rows["b"].between(X["b"].min(), X["b"].max()).all() for rows in filled)
        assert all((rows["a"] == far).all() for rows in filled)
    low = vae.impute(pd.DataFrame({"a": [np.nan], "b": [-1e6], "k": ["x"]}))
    assert low["a"][0] == X["a"].min()
