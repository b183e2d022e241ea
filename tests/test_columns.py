"""Tables: every type of pandas and polars there and back, and errors that name the column."""

import datetime as dt
import io
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest

import skvae
from skvae import VAETransformer
from skvae._arrays import Container
from skvae.columns import Table, is_frame, is_table

N = 60
RNG = np.random.RandomState(0)


def holed(values):
    """Return values as a list, every seventh of them None."""
    return [None if i % 7 == 0 else value for i, value in enumerate(list(values))]


WHOLE = RNG.randint(0, 9, N).tolist()
REAL = RNG.randn(N).tolist()
TRUTH = (RNG.rand(N) > 0.5).tolist()
WORDS = RNG.choice(["b", "a", "ä"], N).tolist()
HOURS = pd.date_range("2020-10-24 20:00:00.125", periods=N, freq="37min")  # over a change of the clock
DATES = [dt.date(1969, 12, 30) + dt.timedelta(days=3 * i) for i in range(N)]
TIMES = [dt.datetime(2020, 10, 24, 20, 0, 0, 125000) + dt.timedelta(minutes=37 * i) for i in range(N)]
DELTAS = [dt.timedelta(hours=i - 7, milliseconds=125) for i in range(N)]


def arrow(dtype):
    return pd.ArrowDtype(dtype)


PANDAS = {
    **{name: pd.Series(WHOLE, dtype=name) for name in ("int8", "int16", "int32", "int64")},
    **{name: pd.Series(WHOLE, dtype=name) for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: pd.Series(REAL, dtype=name) for name in ("float16", "float32", "float64")},
    "float_holes": pd.Series(holed(REAL), dtype=float),
    "float_whole": pd.Series(WHOLE, dtype=float),
    "largest_whole": pd.Series([2**53 - 1, 1 - 2**53, 0] * 20),
    **{name: pd.Series(holed(WHOLE), dtype=name) for name in ("Int8", "Int64", "UInt8", "UInt64")},
    **{name: pd.Series(holed(REAL), dtype=name) for name in ("Float32", "Float64")},
    **{f"{name}_arrow": pd.Series(holed(WHOLE), dtype=f"{name}[pyarrow]") for name in ("int64", "uint8")},
    **{f"{name}_arrow": pd.Series(holed(REAL), dtype=f"{name}[pyarrow]") for name in ("double", "float")},
    "bool": pd.Series(TRUTH),
    "all_true": pd.Series([True] * N),
    "boolean": pd.Series(holed(TRUTH), dtype="boolean"),
    "bool_arrow": pd.Series(holed(TRUTH), dtype="bool[pyarrow]"),
    "str": pd.Series(WORDS),
    "str_holes": pd.Series(holed(WORDS)),
    "string": pd.Series(holed(WORDS), dtype="string"),
    "string_pyarrow": pd.Series(holed(WORDS), dtype="string[pyarrow]"),
    "string_arrow": pd.Series(holed(WORDS), dtype=arrow(pa.string())),
    "category_arrow": pd.Series(holed(WORDS), dtype=arrow(pa.dictionary(pa.int8(), pa.string()))),
    "category_int_arrow": pd.Series(holed(WHOLE), dtype=arrow(pa.dictionary(pa.int32(), pa.int64()))),
    "category": pd.Series(pd.Categorical(holed(WORDS))),
    "category_ordered": pd.Series(pd.Categorical(holed(WORDS), list("zäbaq"), ordered=True)),
    "category_int": pd.Series(pd.Categorical(holed(WHOLE))),
    "category_float": pd.Series(pd.Categorical(holed(np.array(WHOLE) / 2))),
    "category_bool": pd.Series(pd.Categorical(TRUTH)),
    "category_mixed": pd.Series(pd.Categorical(pd.Series(["a", 1] * 30, dtype=object), ["a", 1])),
    "category_interval": pd.Series(pd.cut(REAL, 4)),
    "category_time": pd.Series(pd.Categorical([HOURS[i % 3] for i in range(N)])),
    "category_empty": pd.Series(pd.Categorical([None] * N, ["a", "b"])),
    "object_str": pd.Series(WORDS, dtype=object),
    "object_str_none": pd.Series(holed(WORDS), dtype=object),
    "object_str_nan": pd.Series([np.nan if v is None else v for v in holed(WORDS)], dtype=object),
    "object_str_na": pd.Series([pd.NA if v is None else v for v in holed(WORDS)], dtype=object),
    "object_bytes": pd.Series([b"a", b"b"] * 30, dtype=object),
    "object_bool": pd.Series(holed(TRUTH), dtype=object),
    "object_int": pd.Series(holed(WHOLE), dtype=object),
    "object_int_numpy": pd.Series(list(np.array(WHOLE)), dtype=object),
    "object_float": pd.Series(holed(REAL), dtype=object),
    "object_none": pd.Series([None] * N, dtype=object),
    "object_nan": pd.Series([np.nan] * N, dtype=object),
    "null_arrow": pd.Series([None] * N, dtype=arrow(pa.null())),
    **{f"datetime_{u}": pd.Series(HOURS).astype(f"datetime64[{u}]") for u in ("s", "ms", "us", "ns")},
    "datetime_holes": pd.Series(pd.to_datetime(holed(HOURS))),
    "datetime_early": pd.Series(pd.to_datetime(DATES)) - pd.Timedelta(days=20000, seconds=0.5),
    "datetime_ns_milliseconds": pd.Series(
        pd.to_datetime(RNG.randint(0, 2**60, N) // 10**6 * 10**6, unit="ns").astype("datetime64[ns]")
    ),
    "datetime_ns_microseconds": pd.Series(
        pd.to_datetime(RNG.randint(0, 2**60, N) // 10**3 * 10**3, unit="ns").astype("datetime64[ns]")
    ),
    "datetime_ns_of_a_month": pd.Series(
        pd.to_datetime(2**60 + RNG.randint(0, 2**51, N), unit="ns").astype("datetime64[ns]")
    ),
    "datetime_berlin": pd.Series(HOURS.tz_localize("UTC").tz_convert("Europe/Berlin")),
    "datetime_berlin_holes": pd.Series(
        pd.to_datetime(holed(HOURS)).tz_localize("UTC").tz_convert("Europe/Berlin")
    ),
    "datetime_offset": pd.Series(HOURS.tz_localize("+02:00")),
    **{
        f"timestamp_arrow_{u}": pd.Series(pd.to_datetime(holed(HOURS.floor("s")))).astype(
            arrow(pa.timestamp(u))
        )
        for u in ("s", "ms", "us", "ns")
    },
    "timestamp_arrow_zone": pd.Series(HOURS.tz_localize("UTC")).astype(
        arrow(pa.timestamp("us", "Asia/Tokyo"))
    ),
    "date32_arrow": pd.Series(holed(DATES), dtype=arrow(pa.date32())),
    "date64_arrow": pd.Series(holed(DATES), dtype=arrow(pa.date64())),
    **{
        f"timedelta_{u}": pd.Series(pd.to_timedelta(holed(DELTAS))).astype(f"timedelta64[{u}]")
        for u in ("s", "ms", "us", "ns")
    },
    "duration_arrow": pd.Series(pd.to_timedelta(holed(DELTAS))).astype(arrow(pa.duration("ms"))),
    "sparse": pd.Series(pd.arrays.SparseArray(np.where(TRUTH, np.nan, REAL))),
    "sparse_int": pd.Series(pd.arrays.SparseArray(WHOLE)),
    "sparse_bool": pd.Series(pd.arrays.SparseArray(TRUTH)),
    "missing_float": pd.Series([np.nan] * N),
    "missing_Int64": pd.Series([pd.NA] * N, dtype="Int64"),
    "missing_boolean": pd.Series([pd.NA] * N, dtype="boolean"),
    "missing_string": pd.Series([pd.NA] * N, dtype="string"),
    "missing_datetime": pd.Series([pd.NaT] * N, dtype="datetime64[ns]"),
    "missing_timedelta": pd.Series([pd.NaT] * N, dtype="timedelta64[ns]"),
    "constant": pd.Series([1.5] * N),
    "constant_str": pd.Series(["a"] * N),
    "constant_datetime": pd.Series([HOURS[0]] * N),
}
PANDAS_REFUSED = {
    "complex": pd.Series(REAL) + 1j,
    "period": pd.Series(pd.period_range("2020", periods=N, freq="M")),
    "interval": pd.Series(pd.interval_range(0, N)),
    "decimal": pd.Series([Decimal(i) / 10 for i in range(N)], dtype=object),
    "decimal_arrow": pd.Series([Decimal(i) / 10 for i in range(N)], dtype=arrow(pa.decimal128(10, 2))),
    "date": pd.Series(DATES, dtype=object),
    "timedelta_numpy": pd.Series([np.timedelta64(1, "D"), np.timedelta64(24, "h")] * 30, dtype=object),
    "list": pd.Series([[1, 2]] * N, dtype=object),
    "dict": pd.Series([{"a": 1}] * N, dtype=object),
    "str_int": pd.Series(["a", 1] * 30, dtype=object),
    "str_bool": pd.Series(["a", True] * 30, dtype=object),
    "int_bool": pd.Series([2, True] * 30, dtype=object),
    "list_arrow": pd.Series([[1]] * N, dtype=arrow(pa.list_(pa.int64()))),
    "struct_arrow": pd.Series([{"a": 1}] * N, dtype=arrow(pa.struct([("a", pa.int64())]))),
    "binary_arrow": pd.Series([b"a"] * N, dtype=arrow(pa.binary())),
    "time_arrow": pd.Series([dt.time(i % 24) for i in range(N)], dtype=arrow(pa.time64("us"))),
    "infinity": pd.Series([np.inf, *REAL[1:]]),
    "whole_2_53": pd.Series([2**53, *WHOLE[1:]]),
    "whole_holes": pd.Series([2**60 + i if i % 7 else None for i in range(N)], dtype="Int64"),
    "whole_unsigned": pd.Series([2**63 + i for i in range(N)], dtype="uint64"),
    "whole_lowest": pd.Series([-(2**63)] * N),
    "whole_arrow": pd.Series([2**60] * N, dtype="int64[pyarrow]"),
    "whole_object": pd.Series([2**70 + i for i in range(N)], dtype=object),
    "ids": pd.Series([f"id{i}" for i in range(N)]),
    "ids_category": pd.Series([f"id{i}" for i in range(N)], dtype="category"),
}
POLARS = {
    **{
        t.__name__: pl.Series(holed(WHOLE)).cast(t)
        for t in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
    },
    **{t.__name__: pl.Series(holed(REAL)).cast(t) for t in (pl.Float32, pl.Float64)},
    "Boolean": pl.Series(holed(TRUTH)),
    "String": pl.Series(holed(WORDS)),
    "Categorical": pl.Series(holed(WORDS), dtype=pl.Categorical),
    "Enum": pl.Series(holed(WORDS), dtype=pl.Enum(["z", "ä", "b", "a"])),
    "Date": pl.Series(holed(DATES)),
    **{f"Datetime_{u}": pl.Series(holed(TIMES)).cast(pl.Datetime(u)) for u in ("ms", "us", "ns")},
    "Datetime_zone": pl.Series(holed(TIMES))
    .dt.replace_time_zone("UTC")
    .dt.convert_time_zone("Europe/Berlin"),
    **{f"Duration_{u}": pl.Series(holed(DELTAS)).cast(pl.Duration(u)) for u in ("ms", "us", "ns")},
    "Time": pl.Series(holed([dt.time(i % 24, i, 1, i) for i in range(N)])),
    "Null": pl.Series([None] * N),
    "missing_Float64": pl.Series([None] * N, dtype=pl.Float64),
    "missing_String": pl.Series([None] * N, dtype=pl.String),
    "missing_Date": pl.Series([None] * N, dtype=pl.Date),
    "constant": pl.Series([1.5] * N),
}
POLARS_REFUSED = {
    "decimal": pl.Series([Decimal(i) / 10 for i in range(N)]),
    "list": pl.Series([[1]] * N),
    "array": pl.Series([[1, 2]] * N, dtype=pl.Array(pl.Int64, 2)),
    "struct": pl.Series([{"a": 1}] * N),
    "binary": pl.Series([b"a", b"b"] * 30),
    "object": pl.Series([object()] * N, dtype=pl.Object),
    "infinity": pl.Series([np.inf, *REAL[1:]]),
    "whole_2_53": pl.Series([2**53, *WHOLE[1:]]),
    "whole_holes": pl.Series([2**60 + i if i % 7 else None for i in range(N)]),
    "whole_unsigned": pl.Series([2**63 + i for i in range(N)], dtype=pl.UInt64),
    "whole_lowest": pl.Series([-(2**63)] * N),
    "ids": pl.Series([f"id{i}" for i in range(N)]),
}


def frame(column, name="a"):
    return pd.DataFrame({name: column}) if isinstance(column, pd.Series) else pl.DataFrame({name: column})


def assert_equal(a, b):
    check = pd.testing.assert_frame_equal if isinstance(b, pd.DataFrame) else pl.testing.assert_frame_equal
    check(a, b)


def round_trip(X, table=None):
    table = Table(X) if table is None else table
    matrix = table.encode(X)
    assert matrix.dtype == np.float64
    return table.wrap(matrix, X.index) if isinstance(X, pd.DataFrame) else table.wrap(matrix)


every_pandas = pytest.mark.parametrize("column", PANDAS.values(), ids=PANDAS)
every_column = pytest.mark.parametrize(
    "column", [*PANDAS.values(), *POLARS.values()], ids=[*PANDAS, *(f"polars_{name}" for name in POLARS)]
)
every_refused = pytest.mark.parametrize(
    "column",
    [*PANDAS_REFUSED.values(), *POLARS_REFUSED.values()],
    ids=[*PANDAS_REFUSED, *(f"polars_{name}" for name in POLARS_REFUSED)],
)


# -- there and back -----------------------------------------------------------------------------------


@every_column
def test_a_column_comes_back_as_it_was(column):
    X = frame(column)
    assert_equal(round_trip(X), X)


@every_column
def test_a_column_of_no_rows_keeps_its_type(column):
    X = frame(column)
    assert_equal(round_trip(X.head(0), Table(X)), X.head(0))
    assert Table(X.head(0)).encode(X.head(0)).shape == (0, 1)


@every_column
def test_holes_leave_the_type_where_it_has_room_for_them(column):
    table = Table(frame(column))
    drawn = table.wrap(np.full((2, 1), np.nan))["a"]
    if isinstance(column, pl.Series):
        assert drawn.null_count() == 2
        assert drawn.dtype == column.dtype
        return
    assert drawn.isna().all()
    no_room = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biu"
    no_room |= isinstance(column.dtype, pd.SparseDtype) and column.dtype.subtype.kind in "biu"
    assert (drawn.dtype == column.dtype) or no_room


@every_column
def test_a_learned_column_survives_pickle(column):
    X = frame(column)
    assert_equal(round_trip(X, pickle.loads(pickle.dumps(Table(X)))), X)


@every_pandas
def test_index_and_names_are_kept(column):
    X = pd.DataFrame({"b": column, 3: range(N), ("c", 1): column, None: column})
    X.index = pd.Index(RNG.permutation(N) * 2, name="row")
    assert_equal(round_trip(X), X)


def test_the_order_of_columns_is_kept():
    X = pl.DataFrame({"z": WHOLE, "a": REAL, "m": WORDS})
    assert round_trip(X).columns == ["z", "a", "m"]


@every_column
def test_numbers_tell_what_the_cells_hold(column):
    """Levels are codes from 0 on, in the order of the categories; times are seconds; holes are NaN."""
    table, X = Table(frame(column)), frame(column)
    [learned], matrix = table.columns, table.encode(X)[:, 0]
    gone = column.isna().to_numpy() if isinstance(column, pd.Series) else column.is_null().to_numpy()
    np.testing.assert_array_equal(np.isnan(matrix), gone)
    seen = matrix[~gone]
    if learned.kind == "level":
        assert table.n_levels == (max(1, len(learned.levels)),)
        assert set(seen) == set(range(len(learned.levels)))
        expected = [v for v, g in zip(column.to_list(), gone, strict=True) if not g]
        assert [learned.levels[int(code)] for code in seen] == expected
    else:
        assert table.n_levels == (0,)
    if learned.kind not in ("level", "number") and len(seen):
        assert 0 <= seen.min() < 86400


def test_levels_are_in_order():
    ordered = PANDAS["category_ordered"]
    assert Table(frame(ordered)).columns[0].levels == ("ä", "b", "a")
    assert Table(frame(POLARS["Enum"])).columns[0].levels == ("ä", "b", "a")
    assert Table(frame(PANDAS["str"])).columns[0].levels == ("a", "b", "ä")
    assert Table(frame(PANDAS["bool"])).columns[0].levels == (False, True)


def test_times_are_seconds_from_the_first_on():
    X = pd.DataFrame(
        {"a": pd.to_datetime(["2020-01-02", "2020-01-01", None, "2020-01-01 00:00:01.5"], format="ISO8601")}
    )
    np.testing.assert_array_equal(Table(X).encode(X)[:, 0], [86400.0, 0.0, np.nan, 1.5])


def test_nanoseconds_far_from_the_first_are_rounded_to_microseconds():
    moments = pd.Series(np.array([0, 10**18 + 1_234], dtype="M8[ns]"))
    back = round_trip(frame(moments))["a"]
    assert back.tolist() == [pd.Timestamp(0), pd.Timestamp(10**18 + 1_000)]


def test_nan_of_polars_is_missing():
    X = pl.DataFrame({"a": [np.nan, 1.0, None]})
    np.testing.assert_array_equal(Table(X).encode(X)[:, 0], [np.nan, 1.0, np.nan])


def test_na_and_nan_of_one_column_are_missing():
    column = pd.Series([1.0, 0.0, None], dtype="Float64")
    X = pd.DataFrame({"a": column / column * 2})  # 0 / 0 is NaN, and None NA
    table = Table(X)
    np.testing.assert_array_equal(table.encode(X)[:, 0], [2.0, np.nan, np.nan])
    table.refuse_unknown(X, table.encode(X))


# -- arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_array_comes_back_as_it_was(dtype):
    X = np.c_[REAL, WHOLE, np.full(N, np.nan)].astype(dtype)
    table = Table(X, [1])
    assert table.n_levels == (0, len(set(WHOLE)), 0)
    back = table.wrap(table.encode(X))
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, X)


def test_a_column_never_seen_stays_missing_in_an_array():
    X = np.c_[REAL, np.full(N, np.nan)]
    np.testing.assert_array_equal(Table(X).wrap(np.zeros((2, 2)))[:, 1], [np.nan, np.nan])


# -- which columns have levels -------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [["b"], [1], (-2,), [False, True, False], np.array([False, True, False])])
@pytest.mark.parametrize("library", [pd, pl])
def test_columns_of_levels_are_chosen(chosen, library):
    X = library.DataFrame({"a": REAL, "b": WHOLE, "c": WORDS})
    table = Table(X, chosen)
    assert [c.kind for c in table.columns] == ["number", "level", "level"]
    assert table.columns[1].levels == tuple(sorted(set(WHOLE)))
    assert_equal(round_trip(X, table), X)


def test_whole_names_go_before_places():
    X = pd.DataFrame({1: WHOLE, 0: REAL})
    assert [c.kind for c in Table(X, [1]).columns] == ["level", "number"]


@pytest.mark.parametrize("name", ["float_holes", "Int64", "datetime_holes", "timedelta_s", "object_int"])
def test_any_column_can_be_chosen(name):
    X = frame(PANDAS[name])
    table = Table(X, ["a"])
    assert table.columns[0].kind == "level"
    assert_equal(round_trip(X, table), X)


@pytest.mark.parametrize("chosen", ["b", None, ["z"], [7], [True], [1.5], [None]])
def test_a_wrong_choice_is_refused(chosen):
    with pytest.raises(ValueError, match="categorical_features"):
        Table(pd.DataFrame({"a": REAL, "b": WHOLE}), chosen)


def test_an_id_may_be_chosen_and_few_rows_tell_no_id():
    X = frame(PANDAS_REFUSED["ids"])
    assert len(Table(X, ["a"]).columns[0].levels) == N
    assert len(Table(X.head(49)).columns[0].levels) == 49


# -- what is refused ----------------------------------------------------------------------------------


@every_refused
def test_a_column_that_cannot_be_learned_is_named(column):
    X = frame(column, "my column")
    with pytest.raises(ValueError, match=r"^Got column 'my column' of X with .*\. .*") as error:
        Table(X).encode(X)
    assert any(remedy in str(error.value) for remedy in ("Convert", "Drop", "Clip", "Subtract"))


def test_names_that_come_twice_are_refused():
    X = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"several columns named \['a'\].*Rename"):
        Table(X)


def test_no_columns_are_refused():
    for X in (pd.DataFrame(index=range(3)), pl.DataFrame()):
        with pytest.raises(ValueError, match="0 feature"):
            Table(X)


@pytest.mark.parametrize("library", [pd, pl])
def test_other_columns_than_in_fit_are_refused(library):
    X = library.DataFrame({"a": REAL, "b": WORDS, "c": WHOLE})
    table = Table(X)
    with pytest.raises(ValueError, match=r"without the columns \['b'\] and with \[\]"):
        table.encode(X[["a", "c"]])
    with pytest.raises(ValueError, match=r"without the columns \['b'\] and with \['d'\]"):
        table.encode(library.DataFrame({"a": REAL, "d": WORDS, "c": WHOLE}))
    with pytest.raises(ValueError, match=r"another order.*\['a', 'b', 'c'\]"):
        table.encode(X[["b", "a", "c"]])
    with pytest.raises(ValueError, match="X has 2 columns, but 3"):
        table.encode(np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("learned", "given"),
    [
        ("float64", "str"),
        ("str", "float64"),
        ("str", "int64"),
        ("float64", "bool"),
        ("float64", "datetime_ns"),
        ("datetime_ns", "float64"),
        ("datetime_ns", "timedelta_ns"),
        ("timedelta_ns", "datetime_ns"),
        ("datetime_ns", "datetime_berlin"),
        ("datetime_berlin", "datetime_ns"),
        ("datetime_ns", "str"),
        ("category_int", "str"),
    ],
)
def test_another_type_than_in_fit_is_refused(learned, given):
    with pytest.raises(ValueError, match=r"^Got column 'a' of X with dtype .*; expected .*as in fit"):
        Table(frame(PANDAS[learned])).encode(frame(PANDAS[given]))


# -- another type that will do -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learned", "given"),
    [
        (PANDAS["float64"], pd.Series(WHOLE)),
        (PANDAS["int64"], pd.Series(holed(WHOLE), dtype=float)),
        (PANDAS["int64"], pd.Series(holed(WHOLE), dtype="Int16")),
        (PANDAS["category_int"], pd.Series(holed(WHOLE), dtype=float)),
        (PANDAS["category"], pd.Series(holed(WORDS), dtype=object)),
        (PANDAS["object_str"], pd.Series(pd.Categorical(holed(WORDS), list("qaäb")))),
        (PANDAS["string"], pl.Series(holed(WORDS), dtype=pl.Categorical)),
        (PANDAS["bool"], pl.Series(holed(TRUTH))),
        (PANDAS["Float64"], pl.Series(holed(WHOLE), dtype=pl.Int8)),
        (POLARS["Enum"], pd.Series(pd.Categorical(holed(WORDS)))),
        (POLARS["Float64"], pd.Series(holed(WHOLE), dtype="Int64")),
        (POLARS["Boolean"], pd.Series(holed(TRUTH), dtype="boolean")),
        (PANDAS["constant"], pd.Series([None] * 3, dtype=object)),
        (PANDAS["str"], pl.Series([None] * 3)),
    ],
)
def test_a_column_of_a_kindred_type_is_read(learned, given):
    table = Table(frame(learned))
    matrix = table.encode(frame(given))[:, 0]
    [column] = table.columns
    got = [None if np.isnan(v) else column.levels[int(v)] if column.kind == "level" else v for v in matrix]
    expected = given.to_list()
    assert got == [None if v is None or v is pd.NA or v != v else v for v in expected]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("name", ["datetime_s", "datetime_ns", "timedelta_ms", "date32_arrow"])
def test_times_of_another_resolution_are_the_same_times(name, unit):
    X = frame(PANDAS[name])
    table, kind = Table(X), "timedelta64" if name.startswith("timedelta") else "datetime64"
    other = PANDAS[name].astype("timestamp[s][pyarrow]") if name == "date32_arrow" else PANDAS[name]
    other = other.astype(f"{kind}[{unit}]")
    back = table.wrap(table.encode(frame(other)))
    coarser = name in ("datetime_ns", "timedelta_ms") and unit == "s"
    expected = other.astype(X["a"].dtype) if coarser else X["a"]
    pd.testing.assert_series_equal(back["a"], expected, check_names=False)


def test_pandas_and_polars_share_times():
    table = Table(frame(PANDAS["datetime_ms"]))
    same = pl.Series(TIMES)
    np.testing.assert_array_equal(table.encode(frame(same)), table.encode(frame(PANDAS["datetime_ms"])))
    dates = Table(frame(POLARS["Date"]))
    at_midnight = pl.Series(holed(DATES)).cast(pl.Datetime("ms"))
    polars.testing.assert_frame_equal(dates.wrap(dates.encode(frame(at_midnight))), frame(POLARS["Date"]))


def test_numbers_of_an_array_are_read_without_names():
    X = pd.DataFrame({"a": REAL, "b": WHOLE})
    np.testing.assert_array_equal(Table(X).encode(X.to_numpy()), X.to_numpy())


def test_unseen_levels_are_missing_until_they_are_refused():
    table = Table(pd.DataFrame({"a": WORDS, "b": REAL}))
    X = pd.DataFrame({"a": ["a", "new", None], "b": [0.0, 1.0, np.nan]})
    matrix = table.encode(X)
    np.testing.assert_array_equal(matrix[:, 0], [0.0, np.nan, np.nan])
    with pytest.raises(ValueError, match=r"'new' in column 'a'.*\['a', 'b', 'ä'\]"):
        table.refuse_unknown(X, matrix)
    table.refuse_unknown(X.iloc[[0, 2]], matrix[[0, 2]])


def test_a_column_without_a_value_in_fit_takes_any():
    X = pd.DataFrame({"a": [np.nan, np.nan]})
    np.testing.assert_array_equal(Table(X).encode(pd.DataFrame({"a": ["x", "y"]}))[:, 0], [np.nan, np.nan])


# -- single values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("float64", 1.5, 1.5),
        ("float64", 2, 2.0),
        ("int64", 3, 3.0),
        ("int64", np.float32(3), 3.0),
        ("float64", Fraction(1, 2), 0.5),
        ("str", "b", 1.0),
        ("bool", True, 1.0),
        ("category_int", 3.0, 3.0),
        ("datetime_ns", "2020-10-24 20:00:01", 1.0),
        ("datetime_us", dt.datetime(2020, 10, 24, 20, 0, 1), 1.0),
        ("datetime_ms", pd.Timestamp("2020-10-24 20:00:01"), 1.0),
        ("timedelta_ns", dt.timedelta(hours=-6, seconds=3), 3.0),
        *(
            (name, gap, np.nan)
            for name in ("float64", "str", "datetime_ns")
            for gap in (None, np.nan, pd.NA, pd.NaT)
        ),
    ],
)
def test_single_values_are_read(name, value, expected):
    np.testing.assert_equal(Table(frame(PANDAS[name])).encode_value(0, value), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Float64", 1.5),
        ("String", "a"),
        ("Datetime_us", TIMES[3]),
        ("Date", DATES[3]),
        ("Time", dt.time(1, 2)),
    ],
)
def test_single_values_of_polars_are_read(name, value):
    table = Table(frame(POLARS[name]))
    back = table.wrap(np.array([[table.encode_value(0, value)]]))
    assert back["a"].to_list() == [value]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (PANDAS["float64"], "x"),
        (PANDAS["float64"], "3"),
        (PANDAS["float64"], np.inf),
        (PANDAS["float64"], [1.0]),
        (PANDAS["int64"], 1.5),
        (PANDAS["int64"], np.inf),
        (PANDAS["int64"], 2**60),
        (PANDAS["int8"], 128),
        (PANDAS["uint8"], -1),
        (PANDAS["UInt8"], 256),
        (PANDAS["float64"], 10**400),
        (PANDAS["str"], "new"),
        (PANDAS["str"], ["a"]),
        (PANDAS["datetime_ns"], "no date"),
        (PANDAS["datetime_ns"], object()),
        (PANDAS["datetime_ns"], 5),
        (PANDAS["datetime_ns"], True),
        (PANDAS["datetime_berlin_holes"], dt.datetime(2021, 1, 1)),
        (PANDAS["missing_float"], 1.0),
        (PANDAS["missing_string"], "a"),
        (POLARS["Float64"], "x"),
        (POLARS["Datetime_us"], "x"),
        (POLARS["Datetime_us"], dt.datetime(2021, 1, 1, tzinfo=dt.UTC)),
        (POLARS["Date"], 5),
        (POLARS["Duration_us"], "x"),
        (POLARS["Enum"], "new"),
        (POLARS["Enum"], "z"),
    ],
)
def test_wrong_single_values_are_refused(column, value):
    with pytest.raises(ValueError, match=r"^Got .* for column 'a'; expected"):
        Table(frame(column)).encode_value(0, value)


@pytest.mark.parametrize("name", ["str", "category", "polars"])
def test_text_that_reads_as_missing_is_a_level(name):
    words = ["nan", "<NA>", "NaT"] * 20
    column = pl.Series(words) if name == "polars" else pd.Series(words, dtype=name)
    table = Table(frame(column))
    assert sorted(table.columns[0].levels) == ["<NA>", "NaT", "nan"]
    assert table.columns[0].levels[int(table.encode_value(0, "nan"))] == "nan"
    assert np.isnan([table.encode_value(0, value) for value in (None, np.nan, pd.NA, pd.NaT)]).all()


def test_single_durations_of_numpy():
    table = Table(frame(PANDAS["timedelta_ns"]))
    assert table.encode_value(0, np.timedelta64(5, "h")) == table.encode_value(0, pd.Timedelta(hours=5))
    with pytest.raises(ValueError, match="expected a finite number that int64 holds"):
        Table(frame(PANDAS["int64"])).encode_value(0, np.timedelta64(5, "h"))


def test_text_of_numpy_and_of_python_in_one_column():
    values = ["a", np.str_("b"), np.str_("a"), "c"] * 10
    column = pd.Series(values, dtype=object)
    assert Table(frame(column)).columns[0].levels == ("a", "b", "c")


def test_sparse_numbers_keep_their_type_with_and_without_holes():
    column = pd.Series(pd.arrays.SparseArray([0.0, 1.0, np.nan] * 10, fill_value=0.0))
    table = Table(frame(column))
    for values in ([[0.0], [np.nan]], [[0.0], [1.0]]):
        assert table.wrap(np.array(values))["a"].dtype == column.dtype


def test_truth_and_numbers_are_one_kind_of_levels():
    for first, second in (([0, 1], [False, True]), ([False, True], [0.0, 1.0])):
        table = Table(frame(pd.Series(first * 5)), categorical_features=["a"])
        np.testing.assert_array_equal(table.encode(frame(pd.Series(second)))[:, 0], [0, 1])


@pytest.mark.parametrize("level", [pd.Timestamp("2020"), pd.Period("2020"), {}, "yes"])
def test_levels_of_another_type_are_refused(level):
    table = Table(frame(pd.Series([True, False] * 5)))
    with pytest.raises(ValueError, match=r"column 'a' of X with dtype object; expected bool"):
        table.encode(frame(pd.Series([None, level], dtype=object)))


def test_text_and_numbers_in_one_category_column():
    rows = frame(pd.Series(pd.Categorical(["a", 1] * 5)))
    for first in (rows, rows[1:]):  # whichever comes first
        np.testing.assert_array_equal(np.isnan(Table(first).encode(rows)), False)


# -- moments by the clocks of a time zone -------------------------------------------------------------

MIDNIGHTS = pd.date_range("2020-01-01", "2023-01-01", freq="29D").tz_localize("Europe/Berlin")


def in_library(library, moments):
    column = pd.Series(moments).dt.as_unit("us")
    return frame(column) if library == "pandas" else pl.from_pandas(frame(column))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_days_keep_their_step_where_clocks_change(library):
    X = in_library(library, MIDNIGHTS)
    table = Table(X)
    seconds = table.encode(X)
    assert (np.diff(seconds[:, 0]) == 29 * 86400).all()
    assert_equal(table.wrap(seconds), X)
    tomorrow = table.wrap(seconds + 86400)["a"]
    hours = tomorrow.dt.hour
    assert set(hours() if library == "polars" else hours) == {0}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_an_hour_that_is_left_out_becomes_the_next(library):
    clock = pd.date_range("2020-01-01 02:00", "2023-01-01", freq="30D").tz_localize("Europe/Berlin")
    table = Table(in_library(library, clock))
    assert table.columns[0].local
    change = pd.Timestamp("2020-03-29").tz_localize("Europe/Berlin")  # no 02:00 on this day
    drawn = table.wrap(np.array([[88 * 86400.0]]))["a"]
    assert drawn[0] == change + pd.Timedelta(hours=2)  # 03:00


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_moments_of_another_zone_are_the_same_moments(library, zone):
    table = Table(in_library(library, MIDNIGHTS))
    assert table.columns[0].local
    elsewhere = in_library(library, MIDNIGHTS.tz_convert(zone))
    np.testing.assert_array_equal(table.encode(elsewhere), table.encode(in_library(library, MIDNIGHTS)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("zone", ["Antarctica/Troll", "Pacific/Apia"])  # gaps of two hours, of a day
def test_no_moment_is_lost_in_a_gap(library, zone):
    clock = pd.date_range("2011-01-01 01:00", "2013-01-01", freq="D")
    there = clock.tz_localize(zone, nonexistent="NaT", ambiguous=np.ones(len(clock), bool)).dropna()
    table = Table(in_library(library, there))
    assert table.columns[0].local
    every_day = table.wrap(np.arange(700.0)[:, None] * 86400)["a"]
    assert (every_day.null_count() if library == "polars" else every_day.isna().sum()) == 0


def test_moments_of_the_hour_that_comes_twice_stay_apart():
    moments = pd.date_range("2020-10-24 22:00", periods=8, freq="30min", tz="UTC").tz_convert("Europe/Berlin")
    X = in_library("pandas", moments)
    table = Table(X)
    assert not table.columns[0].local
    assert_equal(table.wrap(table.encode(X)), X)


# -- whole numbers of narrow types --------------------------------------------------------------------


NARROW = ["int8", "uint8", "Int16", "uint8[pyarrow]"]
WIDE = ["uint64", "UInt64", "int64"]  # of which a `Table` takes those below 2^53


@pytest.mark.parametrize(
    ("make", "dtype"), [*((Table, name) for name in NARROW), *((Container, name) for name in NARROW + WIDE)]
)
def test_drawn_numbers_stay_in_the_range_of_their_type(make, dtype):
    X = frame(pd.Series(WHOLE, dtype=dtype))
    container = make(X)
    drawn = container.settle(np.array([[-1e30], [0.4], [1e30]]))
    column = container.wrap(drawn, whole=True)["a"]
    assert column.dtype == X["a"].dtype
    kind = np.iinfo(str(dtype).lower().removesuffix("[pyarrow]"))
    assert column.tolist()[:2] == [kind.min, 0]
    assert kind.max >= column.tolist()[2] > 0.99 * kind.max


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("make", [Table, Container])
def test_given_numbers_beyond_the_type_stay_as_they_are(make, library):
    X = frame(pd.Series(WHOLE, dtype="int8"))
    container = make(X if library is pd else pl.from_pandas(X))
    for given in ([300.0, 1.0], [1.5, 1.0]):
        assert list(container.wrap(np.array(given)[:, None], whole=True)["a"]) == given


def test_whole_numbers_of_polars_without_a_value():
    X = pl.DataFrame({"a": pl.Series([None] * 9, dtype=pl.Int64), "b": REAL[:9]})
    assert Container(X).wrap(np.full((2, 2), np.nan), whole=True)["a"].to_list() == [None, None]


def test_levels_beyond_signed_integers():
    X = pl.DataFrame({"a": pl.Series([2**63 + 1, 2**63 + 2, 3] * 20, dtype=pl.UInt64)})
    table = Table(X, categorical_features=["a"])
    assert_equal(table.wrap(table.encode(X)), X)


# -- what is a table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd, pl])
def test_a_frame_of_numbers_alone_is_no_table(library):
    numbers = library.DataFrame({"a": REAL, "b": WHOLE})
    assert is_frame(numbers)
    assert not is_table(numbers)
    assert is_table(library.DataFrame({"a": REAL, "b": WORDS}))
    assert not is_frame(np.zeros((2, 2)))
    assert not is_table([[1.0]])
    assert not is_table(numbers["a"])


# -- in the estimator ---------------------------------------------------------------------------------


def fit(X, **params):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skvae._fitting.warn_of_collapse", lambda beta: None)
        return VAETransformer(2, hidden_layer_sizes=(8,), max_iter=1, random_state=0, **params).fit(X)


SAVED = [  # types that files know
    *("int8", "float32", "float_holes", "Int64", "Float64", "bool", "boolean", "str_holes", "string"),
    *("category_ordered", "category_int", "object_str_nan", "object_str_na", "object_int", "object_none"),
    *("datetime_ms", "datetime_berlin_holes", "timedelta_ns", "missing_datetime", "missing_float"),
]


ALSO_SAVED = {
    "intervals": pd.cut(pd.Series(REAL), 4),
    "periods": pd.Series(pd.Categorical(pd.PeriodIndex(["2020-01", "2021-02"] * 30, freq="M"))),
    "tuples": pd.Series(pd.Categorical([("a", 1), ("b", 2)] * 30)),
    "sparse": pd.Series(WHOLE, dtype=pd.SparseDtype("int64", 0)),
    "fixed_zone": pd.Series(pd.date_range("2020-01-01", periods=N, freq="D", tz="UTC+01:00")),
    "words": pd.Series(WORDS),
}
ARROW_SAVED = {
    **{str(type_): pd.Series(WHOLE, dtype=arrow(type_)) for type_ in (pa.int8(), pa.uint64(), pa.float32())},
    "string": pd.Series(holed(WORDS), dtype=arrow(pa.string())),
    "large": pd.Series(WORDS, dtype=arrow(pa.large_string())),
    "bool": pd.Series(TRUTH, dtype=arrow(pa.bool_())),
    "date": pd.Series(DATES, dtype=arrow(pa.date32())),
    "zone": pd.Series(HOURS.tz_localize("UTC"), dtype=arrow(pa.timestamp("us", "Europe/Berlin"))),
    "delta": pd.Series(DELTAS, dtype=arrow(pa.duration("ms"))),
    "offset": pd.Series(HOURS.tz_localize("UTC"), dtype=arrow(pa.timestamp("us", "+01:00"))),
}
NEW_IN_POLARS = {"Float16": REAL, "UInt128": WHOLE}  # which old ones lack
POLARS_SAVED = POLARS | {
    name: pl.Series(values, dtype=getattr(pl, name))
    for name, values in NEW_IN_POLARS.items()
    if hasattr(pl, name)
}


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({name: PANDAS[name] for name in SAVED}),
        pd.DataFrame(ALSO_SAVED),
        pd.DataFrame(ARROW_SAVED),
        pl.DataFrame(POLARS_SAVED),
    ],
    ids=["pandas", "odd", "arrow", "polars"],
)
def test_a_fitted_table_survives_files(X, tmp_path):
    vae = fit(X)
    drawn = vae.sample(5, random_state=0)
    assert type(drawn) is type(X)
    assert list(drawn.columns) == list(X.columns)
    skvae.save(vae, tmp_path / "table.skvae")
    for copy in (pickle.load(io.BytesIO(pickle.dumps(vae))), skvae.load(tmp_path / "table.skvae")):
        assert_equal(copy.sample(5, random_state=0), drawn)
        np.testing.assert_array_equal(copy.score_samples(X), vae.score_samples(X))


@pytest.mark.parametrize("X", [pd.DataFrame(PANDAS), pl.DataFrame(POLARS)], ids=["pandas", "polars"])
def test_every_type_is_fitted_drawn_and_completed(X):
    vae = fit(X)
    assert np.isfinite(vae.score_samples(X)).all()
    drawn = vae.sample(40, random_state=0)
    for name in X.columns:
        seen = {str(v) for v in X[name].to_list()} | {"nan", "None", "NaT", "<NA>"}
        if Table(X[[name]]).columns[0].kind == "level":
            assert {str(v) for v in drawn[name].to_list()} <= seen
    again = vae.sample_conditional(X.head(3), 1, random_state=0)
    for name in X.columns:
        pairs = zip(again[name].to_list(), X[name].head(3).to_list(), strict=True)
        assert all(a == b for a, b in pairs if str(b) not in ("nan", "None", "NaT", "<NA>"))


@pytest.mark.filterwarnings("ignore:X .* feature names")  # scikit-learn 1.7 knows none of polars 2
@pytest.mark.parametrize(("fitted", "given"), [(pd, pl), (pl, pd)])
def test_rows_of_the_other_library_are_read(fitted, given):
    columns = {"a": REAL, "b": WORDS, "c": TIMES}
    vae = fit(fitted.DataFrame(columns))
    other = given.DataFrame(columns)
    np.testing.assert_array_equal(vae.transform(other), vae.transform(fitted.DataFrame(columns)))
    Z = pd.DataFrame(vae.transform(other), index=range(N, 2 * N))
    for X in (vae.inverse_transform(Z), vae.sample_conditional(other.head(2), 2)):
        assert isinstance(X, fitted.DataFrame)


def test_columns_whose_names_are_no_text_are_given_by_name():
    vae = fit(pd.DataFrame({10: REAL, 20: WORDS}))
    assert vae.sample_conditional({20: "b"}, 3, random_state=0)[20].tolist() == ["b"] * 3


def test_bad_rows_are_refused_by_the_estimator():
    X = pd.DataFrame({"a": REAL, "b": WORDS})
    vae = fit(X)
    for wrong in (X[["a"]], X[["b", "a"]], X.head(0), X.assign(b=REAL), X.assign(c=1)):
        with pytest.raises(ValueError, match=r"feature names|0 sample|column 'b'|columns"):
            vae.transform(wrong)
    with pytest.raises(ValueError, match="'new' in column 'b'"):
        vae.sample_conditional(X.head(2).assign(b="new"))
    unseen = vae.score_samples(X.head(2).assign(b="new"))
    np.testing.assert_array_equal(
        unseen, vae.score_samples(X.head(2).assign(b=pd.Series([None] * 2, dtype=object)))
    )


def test_drawn_numbers_stay_in_their_range_and_rounded():
    X = pd.DataFrame({"n": WHOLE, "p": np.round(np.exp(REAL), 2), "u": np.array(WHOLE, "u1") * 28})
    drawn = fit(X, likelihood="mixed").sample(500, random_state=0)
    assert (drawn.dtypes == X.dtypes).all()
    assert ((drawn.min() >= X.min()) & (drawn.max() <= X.max())).all()
    np.testing.assert_array_equal(drawn["p"], drawn["p"].round(2))


def test_moments_of_several_columns_count_from_one_day():
    first = pd.Series(pd.to_datetime(["2024-01-01 13:00:05", "2024-05-01 09:30:00"]))
    frame = pd.DataFrame(
        {
            "first": first,
            "day": pd.to_datetime(["2024-03-01", "2024-03-02"]),
            "morning": pd.to_datetime(["2024-03-01 08:00", "2024-03-02 08:00"]),
            "took": pd.to_timedelta([90, 30], "s"),
        }
    )
    table = Table(frame)
    midnight = int(pd.Timestamp("2024-01-01").timestamp())
    assert [c.origin - midnight for c in table.columns[:3]] == [0, 0, 8 * 3600]  # steps of a day stay whole
    assert [c.step for c in table.columns] == [1, 86400, 86400, 60]
    assert table.columns[3].origin == 30  # alone of its kind
    assert_equal(round_trip(frame, table), frame)


def test_moments_far_from_those_of_another_column_stay_exact():
    ticks = np.random.default_rng(0).integers(0, 10**9, 100)
    frame = pd.DataFrame(
        {
            "at": (pd.Timestamp("2024-05-01") + pd.to_timedelta(ticks, "us")).astype("datetime64[us]"),
            "born": np.array(["0001-01-01", "2000-01-02"] * 50, dtype="datetime64[us]"),
        }
    )
    assert_equal(round_trip(frame), frame)
