"""A table <-> one float matrix: columns of pandas, polars and NumPy as numbers and codes of levels."""

import importlib
import math
import sys
from collections.abc import Hashable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array

__all__ = ["Table", "is_frame", "is_table"]

WIDE = 100  # columns of numbers alone from which on a DataFrame is taken for an array
WHOLE = 2**53  # floats hold all whole numbers up to here
ID_ROWS, ID_SHARE = 50, 0.9  # rows from which on a text column with more distinct values is refused
LEVEL_TYPES = (str, bytes, bool, np.bool_)  # of the values of an object column of levels


def is_frame(X):
    """Whether X is a pandas or polars DataFrame."""
    return _library(X) is not None


def is_table(X):
    """Whether X is a DataFrame that is more than an array with names: not one of many numbers alone."""
    if not is_frame(X):
        return False
    return X.shape[1] < WIDE or any(
        _kind(name, c)[0] != "number" for name, c in zip(*_read_columns(X), strict=True)
    )


def _library(X):
    """Return the module whose DataFrame X is, or None, without importing any."""
    for name in ("pandas", "polars"):
        module = sys.modules.get(name)
        if isinstance(X, getattr(module, "DataFrame", ())):
            return module
    return None


@dataclass(frozen=True)
class Column:
    """What a column was when `Table` learned it.

    Attributes
    ----------
    name : Hashable
        Its name, or its place in an array.
    kind : {"number", "time", "level"}
    dtype : object
        Of its library.
    levels : tuple
        Distinct values, in the order of their codes.
    whole : bool
        Whether it holds whole numbers by type.
    origin : int
        Ticks at the first moment.
    tick : float
        Seconds in a tick.
    empty : bool
        Whether every cell was missing.
    hole : object
        What stands for a missing cell in an object column of pandas.
    """

    name: Hashable
    kind: str
    dtype: Any
    levels: tuple = ()
    whole: bool = False
    origin: int = 0
    tick: float = 0.0
    empty: bool = False
    hole: Any = None


class Table:
    """Learn the columns of a table; turn such tables into a matrix and a matrix into such tables.

    Numbers stay numbers, moments and durations become seconds from the first on, and levels, which
    are category, text and boolean columns and those of `categorical_features`, become codes. NaN
    stands for a missing cell, and for a level never seen.

    Parameters
    ----------
    X : DataFrame or ndarray
    categorical_features : "auto", or sequence of bool, int or str
        Columns of levels beside those that can be nothing else: a mask, places or names.
    """

    def __init__(self, X, categorical_features="auto"):
        library = _library(X)
        self.library = None if library is None else library.__name__.partition(".")[0]
        names, columns = _read_columns(X)
        if len(set(names)) < len(names):
            twice = sorted({str(name) for name in names if names.count(name) > 1})
            raise ValueError(
                f"Got X with several columns named {twice[:5]!r}; expected distinct names. Rename them."
            )
        chosen = _find_columns(categorical_features, names)
        self.columns = [
            _learn(name, column, i in chosen)
            for i, (name, column) in enumerate(zip(names, columns, strict=True))
        ]

    @property
    def n_levels(self):
        """Number of levels of each column, 0 for numbers."""
        return tuple(max(1, len(c.levels)) if c.kind == "level" else 0 for c in self.columns)

    @property
    def names(self):
        """Names of the columns."""
        return [c.name for c in self.columns]

    def encode(self, X):
        """Return the matrix of a table of the same columns, float64 of shape (n_rows, n_columns)."""
        names, columns = _read_columns(X)
        if _library(X) is not None and self.library is not None and names != self.names:
            raise ValueError(_tell_names(names, self.names))
        if len(names) != len(self.columns):
            raise ValueError(f"X has {len(names)} columns, but {len(self.columns)} were there in fit.")
        matrix = np.empty((len(X), len(names)))
        for j, (learned, column) in enumerate(zip(self.columns, columns, strict=True)):
            matrix[:, j] = _encode(learned, column)
        return matrix

    def encode_value(self, place, value):
        """Return a value of a column as a number, NaN if it is missing."""
        column = self.columns[place]
        if value is None or value != value:
            return np.nan
        if column.kind == "level":
            if value not in column.levels:
                raise ValueError(
                    f"Got {value!r} for column {column.name!r}, a level that fit has not seen; expected "
                    f"one of {list(column.levels[:20])!r}."
                )
            return float(column.levels.index(value))
        problem = f"Got {value!r} for column {column.name!r}; expected {column.dtype}."
        if column.whole and not (isinstance(value, Real) and value == int(value)):
            raise ValueError(problem)
        try:
            return float(_encode(column, self._series(column, [value]))[0])
        except (TypeError, ValueError) as error:
            raise ValueError(problem) from error

    def _series(self, column, values):
        if self.library is None:
            return np.asarray(values, dtype=float)
        library = _import(self.library)
        if self.library == "polars":
            return library.Series(column.name, values).cast(column.dtype)
        return library.Series(values, name=column.name).astype(column.dtype)

    def refuse_unknown(self, X, matrix):
        """Raise if a cell of X has a value that its row in the matrix lacks: a level never seen."""
        for j, (column, cells) in enumerate(zip(self.columns, _read_columns(X)[1], strict=True)):
            unknown = np.flatnonzero(np.isnan(matrix[:, j]) & ~_missing(cells))
            if unknown.size and not column.empty:
                value = (cells.iloc if hasattr(cells, "iloc") else cells)[int(unknown[0])]
                raise ValueError(
                    f"Got {value!r} in column {column.name!r}, a level that fit has not seen; expected "
                    f"one of {list(column.levels[:20])!r}, or a missing cell."
                )

    def wrap(self, values, index=None):
        """Return a matrix as a table of the kind that was learned; `index` is for pandas."""
        if self.library is None:
            values = values.copy()
            for j, column in enumerate(self.columns):
                if column.levels:
                    values[:, j] = _take(np.asarray(column.levels, dtype=float), values[:, j])
            return values.astype(self.columns[0].dtype)
        library = _import(self.library)
        decode = _to_pandas if self.library == "pandas" else _to_polars
        series = {c.name: decode(library, c, values[:, j]) for j, c in enumerate(self.columns)}
        if self.library == "polars":
            return library.DataFrame(series)
        frame = library.DataFrame(series)
        return frame if index is None else frame.set_axis(index)  # not index=, which looks rows up by label


def _import(name):
    """Return a library that was there in fit, which another process may not have imported yet."""
    return importlib.import_module(name)


def _tell_names(names, expected):
    missing = [name for name in expected if name not in names]
    new = [name for name in names if name not in expected]
    if missing or new:
        return (
            f"Got X without the columns {missing[:5]!r} and with {new[:5]!r}, which fit has not seen; "
            "expected those of fit."
        )
    return f"Got X with columns in another order than in fit; expected {expected[:20]!r}. Select them so."


def _read_columns(X):
    """Return the names and the columns of a table."""
    library = _library(X)
    if library is None:
        X = check_array(
            X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", ensure_min_samples=0
        )
        return list(range(X.shape[1])), list(X.T)
    if not X.shape[1]:
        raise ValueError(f"Got X with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    by_place = X.iloc if hasattr(X, "iloc") else X
    return list(X.columns), [by_place[:, i] for i in range(X.shape[1])]


def _find_columns(chosen, names):
    """Return the places of columns that a mask, places or names tell."""
    if isinstance(chosen, str) and chosen == "auto":
        return set()
    wish = "'auto', or a mask, places or names of columns"
    if chosen is None or isinstance(chosen, str):
        raise ValueError(f"Got categorical_features={chosen!r}; expected {wish}.")
    items = list(chosen)
    if items and all(isinstance(item, (bool, np.bool_)) for item in items):
        if len(items) != len(names):
            raise ValueError(
                f"Got categorical_features={chosen!r}, a mask of {len(items)} columns, for {len(names)}; "
                f"expected {wish}."
            )
        return set(np.flatnonzero(items).tolist())
    places = set()
    for item in items:
        if item in names and not (isinstance(item, (int, np.integer)) and isinstance(names[0], str)):
            places.add(names.index(item))
        elif isinstance(item, (int, np.integer)) and -len(names) <= item < len(names):
            places.add(int(item) % len(names))
        else:
            raise ValueError(f"Got categorical_features with {item!r}, no column of X; expected {wish}.")
    return places


# -- learning a column ---------------------------------------------------------------------------


def _learn(name, column, chosen):
    kind, whole, tick = _kind(name, column)
    missing = _missing(column)
    learned = Column(
        name,
        "level" if chosen else kind,
        column.dtype,
        whole=whole,
        tick=tick,
        empty=bool(missing.all()),
        hole=column.iloc[int(missing.argmax())] if missing.any() and hasattr(column, "iloc") else None,
    )
    if learned.kind == "level":
        return replace(learned, levels=_levels(learned, column, refuse=not chosen))
    if learned.kind == "time" and not learned.empty:
        ticks = _ticks(column)
        return replace(learned, origin=int(ticks[ticks != _NO_TIME].min()))
    return learned


def _kind(name, column):
    """Return the kind of a column, whether it holds whole numbers, and the seconds in a tick of time."""
    library, dtype = type(column).__module__.partition(".")[0], column.dtype
    if library == "polars":
        return _polars_kind(name, dtype)
    if library == "numpy":
        return "number", False, 0.0
    types = sys.modules["pandas"].api.types
    if isinstance(dtype, sys.modules["pandas"].CategoricalDtype) or types.is_bool_dtype(dtype):
        return "level", False, 0.0
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        if str(dtype).startswith("decimal"):
            raise _refusal(name, dtype)
        return "number", types.is_integer_dtype(dtype), 0.0
    if types.is_datetime64_any_dtype(dtype) or dtype.kind == "m":
        return "time", False, _TICKS[_pandas_unit(dtype)]
    if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
        return _object_kind(name, column)
    raise _refusal(name, dtype)


def _object_kind(name, column):
    seen = column[~_missing(column)]
    kinds = {type(value) for value in seen}
    if all(issubclass(kind, LEVEL_TYPES) for kind in kinds) and len({_family(kind) for kind in kinds}) < 2:
        return "level", False, 0.0
    if all(issubclass(kind, Real) and not issubclass(kind, LEVEL_TYPES) for kind in kinds):
        return "number", all(issubclass(kind, (int, np.integer)) for kind in kinds), 0.0
    found = sorted(kind.__name__ for kind in kinds)
    raise ValueError(
        f"Got column {name!r} of X with values of type {', '.join(found)}; expected text, booleans "
        "or numbers, one of them throughout. Convert it, say by X[column].astype(str), or drop it."
    )


def _family(kind):
    return "bool" if issubclass(kind, (bool, np.bool_)) else kind.__name__


_TICKS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_NO_TIME = np.iinfo(np.int64).min


def _pandas_unit(dtype):
    unit = getattr(dtype, "unit", None)
    if unit is None:
        unit = np.datetime_data(dtype)[0] if isinstance(dtype, np.dtype) else dtype.pyarrow_dtype.unit
    return unit


def _polars_kind(name, dtype):
    text = str(dtype)
    if dtype.is_integer() or dtype.is_float():
        return "number", dtype.is_integer(), 0.0
    if text in ("Boolean", "String", "Null") or text.startswith(("Categorical", "Enum")):
        return "level", False, 0.0
    if text == "Date":
        return "time", False, 86400.0
    if text.startswith(("Datetime", "Duration")):
        return "time", False, _TICKS[{"μs": "us"}.get(dtype.time_unit, dtype.time_unit)]
    if text == "Time":
        return "time", False, 1e-9
    raise _refusal(name, dtype)


def _refusal(name, dtype):
    return ValueError(
        f"Got column {name!r} of X with dtype {dtype}; expected numbers, booleans, text, categories, "
        "datetimes or timedeltas. Convert it, say to float, or drop it."
    )


def _levels(learned, column, refuse):
    """Return the distinct values of a column in order."""
    values = _distinct(column)
    n_seen = int((~_missing(column)).sum())
    is_text = bool(values) and isinstance(values[0], str)
    if refuse and is_text and n_seen >= ID_ROWS and len(values) > ID_SHARE * n_seen:
        raise ValueError(
            f"Got column {learned.name!r} of X with {len(values)} different texts in {n_seen} cells, "
            "nearly one for each row: an id or free text, of which nothing can be learned. Drop it, or "
            "encode it."
        )
    return tuple(values)


def _distinct(column):
    """Return the distinct values of a column that are not missing: categories in their order, else sorted."""
    if hasattr(column, "cat") and hasattr(column, "iloc"):
        present = set(column.cat.codes.unique().tolist())
        return [c for i, c in enumerate(column.cat.categories.tolist()) if i in present]
    if hasattr(column, "is_null"):
        values = column.drop_nulls()
        if str(column.dtype).startswith(("Categorical", "Enum")):
            present = values.cast(str).unique().to_list()
            order = column.dtype.categories if hasattr(column.dtype, "categories") else sorted(present)
            return [level for level in order if level in set(present)]
        values = (values.drop_nans() if values.dtype.is_float() else values).unique().to_list()
    elif hasattr(column, "iloc"):
        values = column.dropna().unique().tolist()
    else:
        values = np.unique(column[~np.isnan(column)]).tolist()
    return sorted(values)


def _missing(column):
    """Whether each cell is missing, as an array."""
    if hasattr(column, "is_null"):
        missing = column.is_null().to_numpy()
        return missing | column.is_nan().fill_null(False).to_numpy() if column.dtype.is_float() else missing
    if hasattr(column, "iloc"):
        return column.isna().to_numpy(dtype=bool)
    return np.isnan(column)


# -- from a column to numbers ------------------------------------------------------------------------


def _encode(learned, column):
    kind, whole, _ = _kind(learned.name, column)
    missing = _missing(column)
    if missing.all():
        return np.full(len(missing), np.nan)
    if learned.kind == "level" and learned.levels:
        place = int(missing.argmin())
        value = column.iloc[place] if hasattr(column, "iloc") else column[place]
        if isinstance(value, str) != isinstance(learned.levels[0], str):
            raise ValueError(_tell_type(learned, column))
        return _codes(learned.levels, column, missing)
    if learned.empty:  # nothing is known of it
        return np.full(len(missing), np.nan)
    if learned.kind != kind:
        raise ValueError(_tell_type(learned, column))
    if learned.kind == "time":
        return np.where(missing, np.nan, _seconds(learned, column))
    return _numbers(learned.name, column, missing, whole)


def _tell_type(learned, column):
    return f"Got column {learned.name!r} of X with dtype {column.dtype}; expected {learned.dtype}, as in fit."


def _seconds(learned, column):
    """Return the seconds since the first moment of fit."""
    ticks, tick = _ticks(column), _kind(learned.name, column)[2]
    origin = learned.origin
    if tick != learned.tick:  # another resolution than in fit
        origin = round(origin * learned.tick / tick)
    since = ticks - origin  # exact
    return since * tick if tick >= 1 else since / round(1 / tick)


def _numbers(name, column, missing, whole):
    if whole:
        numbers = [v for v in (column.max(), column.min()) if v is not None and v == v]
        if any(abs(int(v)) > WHOLE for v in numbers):
            raise ValueError(
                f"Got column {name!r} of X with whole numbers beyond 2^53, which floats cannot tell apart. "
                "Subtract their minimum, convert them to text if they are labels, or drop an id."
            )
    if hasattr(column, "is_null"):
        values = column.cast(float).to_numpy()
    elif hasattr(column, "iloc"):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = np.asarray(column, dtype=np.float64)
    values = np.where(missing, np.nan, values)
    if np.isinf(values).any():
        raise ValueError(
            f"Got column {name!r} of X with infinity; expected finite numbers. Clip it, or set it missing."
        )
    return values


def _ticks(column):
    """Return moments or durations as whole ticks, int64, the lowest of all where missing."""
    if hasattr(column, "is_null"):
        return column.to_physical().cast(int).fill_null(_NO_TIME).to_numpy()
    pandas = sys.modules["pandas"]
    if column.dtype.kind == "m":
        return pandas.TimedeltaIndex(column.astype(f"m8[{_pandas_unit(column.dtype)}]")).asi8
    return pandas.DatetimeIndex(column).as_unit(_pandas_unit(column.dtype)).asi8


def _codes(levels, column, missing):
    """Return the place of each value among the levels, NaN where there is none."""
    if hasattr(column, "is_null"):
        text = str(column.dtype).startswith(("Categorical", "Enum"))
        column = column.cast(str) if text else column
        places = {level: float(i) for i, level in enumerate(levels)}
        return np.array([places.get(v, math.nan) for v in column.to_list()])
    if not hasattr(column, "iloc"):
        places = np.searchsorted(levels, column).clip(max=len(levels) - 1)
        return np.where(np.asarray(levels)[places] == column, places, np.nan)
    index = sys.modules["pandas"].Index(list(levels), dtype=object)
    if hasattr(column, "cat"):
        places = index.get_indexer(column.cat.categories.astype(object))
        codes = places[column.cat.codes.to_numpy()] if len(places) else np.full(len(column), -1)
    else:
        codes = index.get_indexer(column.astype(object))
    return np.where(missing | (codes < 0), np.nan, codes)


# -- and back --------------------------------------------------------------------------------------


def _take(levels, codes):
    return np.where(np.isnan(codes), np.nan, levels[np.nan_to_num(codes).astype(int)])


def _cells(column, values):
    """Return the values of a column in Python's or NumPy's types, and where they are missing."""
    missing = np.isnan(values) | column.empty
    filled = np.where(missing, 0.0, values)
    if column.kind == "level":
        levels = np.empty(max(1, len(column.levels)), dtype=object)
        levels[: len(column.levels)] = column.levels
        return levels[filled.astype(int)], missing
    if column.kind == "time":
        ticks = np.rint(filled / column.tick if column.tick >= 1 else filled * round(1 / column.tick))
        return column.origin + ticks.astype(np.int64), missing
    return (np.rint(filled).astype(np.int64) if column.whole else filled), missing


def _to_pandas(pandas, column, values):
    cells, missing = _cells(column, values)
    dtype = column.dtype
    if column.kind == "time":
        return _moments(pandas, dtype, np.where(missing, _NO_TIME, cells))
    if (
        isinstance(dtype, np.dtype)
        and dtype.kind in "biuf"
        and not (column.kind == "level" and missing.any())
    ):
        if missing.any():  # whole numbers of NumPy have no room for holes
            return pandas.Series(
                np.where(missing, np.nan, cells), dtype=dtype if dtype.kind == "f" else float
            )
        return pandas.Series(cells.tolist() if column.kind == "level" else cells, dtype=dtype)
    cells = cells.astype(object)
    cells[missing] = column.hole
    has_room = not (isinstance(dtype, np.dtype) and dtype.kind == "b" and missing.any())
    return pandas.Series(cells, dtype=dtype if has_room else object)


def _moments(pandas, dtype, ticks):
    """Return whole ticks as a pandas column of moments or durations."""
    unit = _pandas_unit(dtype)
    if dtype.kind == "m":
        return pandas.Series(ticks.view(f"m8[{unit}]")).astype(dtype)
    moments = pandas.Series(ticks.view(f"M8[{unit}]"))
    zone = getattr(dtype, "tz", None) or getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None)
    if zone is not None:
        moments = moments.dt.tz_localize("UTC").dt.tz_convert(zone)
    return moments.astype(dtype)


def _to_polars(polars, column, values):
    cells, missing = _cells(column, values)
    cells = [None if m else c for c, m in zip(cells.tolist(), missing, strict=True)]
    if column.kind == "level":
        return polars.Series(column.name, cells, dtype=column.dtype, strict=False)
    whole = column.whole or column.kind == "time"
    return polars.Series(column.name, cells, dtype=polars.Int64 if whole else polars.Float64).cast(
        column.dtype
    )
