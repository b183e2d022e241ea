"""A table <-> one float matrix: columns of pandas, polars and NumPy as numbers and codes of levels."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ._series import (
    TIMES,
    keeps_ticks,
    library_of,
    make_pandas,
    make_pandas_times,
    make_polars,
    make_polars_times,
    make_series,
    module_of,
    range_of,
    read_series,
    split_columns,
    to_ticks,
    unit_of,
    zone_of,
)
from ._values import (
    EXACT_WHOLE,
    are_whole,
    as_held,
    family,
    is_missing,
    is_real,
    read_number,
    round_whole,
    unmask,
)

__all__ = ["Table", "is_frame", "is_table", "make_plain", "refuse_levels", "refuse_text"]

ID_ROWS, ID_SHARE = 50, 0.95  # rows from which on a text column with more distinct values is refused
SHOWN = 20  # names or levels in an error
STEPS = (86400, 3600, 60, 1)  # seconds that people count by


def is_frame(X: Any) -> Any:
    """Whether X is a pandas or polars DataFrame."""
    return library_of(X) is not None


def is_table(X: Any) -> Any:
    """Whether X is a DataFrame that is more than an array with names: not all columns are numbers."""
    return is_frame(X) and any(series.kind != "number" for series in _read(X))


def make_plain(X: Any) -> Any:
    """Return numbers as scikit-learn takes them: no NA among objects, no sparse columns, no masks."""
    if hasattr(X, "collect"):
        raise TypeError("Got a LazyFrame as X; expected its rows. Call collect().")
    if isinstance(X, list) and any(isinstance(row, dict) for row in X):
        raise TypeError("Got a list of dicts; expected rows of numbers, or a table. Pass a DataFrame of it.")
    X = unmask(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "mM":
        raise ValueError(
            f"Got an array of dtype {X.dtype} as X; expected numbers. Pass a pandas or polars DataFrame, "
            "whose columns may hold moments and durations."
        )
    if isinstance(X, np.ndarray) and X.dtype == object:
        missing = np.array([is_missing(value) for value in X.flat], dtype=bool)
        return np.where(missing.reshape(X.shape), np.nan, X)
    if library_of(X) != "pandas":
        return X
    odd = {}
    for place, dtype in enumerate(X.dtypes):
        if hasattr(dtype, "fill_value"):
            odd[place] = X.iloc[:, place].sparse.to_dense()
        elif dtype.kind == "O" and X.iloc[:, place].isna().any():
            odd[place] = X.iloc[:, place].mask(X.iloc[:, place].isna(), np.nan)
        elif str(dtype) == "bool[pyarrow]":  # whose holes not all versions of scikit-learn know
            odd[place] = X.iloc[:, place].astype("boolean")
    X = X.copy(deep=False) if odd else X
    for place, column in odd.items():
        X.isetitem(place, column)
    return X


def refuse_large(X: Any) -> None:
    """Raise if a table of numbers has whole ones that floats cannot tell apart."""
    for series in _read(X) if is_frame(X) else ():
        if series.kind == "number" and series.is_whole:
            _finite(series)


def refuse_text(X: Any, error: Any) -> None:
    """Raise if X, which was refused for `error`, has text outside of a DataFrame."""
    if not is_frame(X) and "could not convert string to float" in str(error):
        raise ValueError(
            f"{error}. Outside of a pandas or polars DataFrame X must be numbers; pass one, where columns "
            "may hold text."
        ) from error


def refuse_levels(X: Any, likelihood: Any, error: Any) -> None:
    """Raise if a column of a table is none of numbers, which the likelihood of that name wants."""
    for series in _read(X) if is_frame(X) else ():
        if series.kind != "number":
            raise ValueError(
                f"Got column {series.name!r} of X with dtype {series.data.dtype} and "
                f"likelihood={likelihood!r}, which takes numbers. Set likelihood='auto', which takes any "
                "table, or encode the column."
            ) from error


@dataclass(frozen=True)
class Column:
    """What a column was when `Table` learned it.

    Attributes
    ----------
    name : Hashable
        Its name, or its place in an array.
    kind : {"number", "level", "datetime", "datetime with time zone", "duration", "time of day"}
    dtype : object
        Of its library.
    levels : tuple
        Distinct values, in the order of their codes.
    whole : bool
        Whether it holds whole numbers by type.
    origin : int
        What moments count from, in whole seconds: the first one, or the first day of several columns.
    local : bool
        Whether moments with a time zone count by the clocks there, where days are all as long. Of
        an hour that comes twice the first is meant.
    step : int
        Seconds between moments or durations at least: a day, an hour, a minute, a second, or 0.
    empty : bool
        Whether every cell was missing.
    hole : object
        What stands for a missing cell in an object column of pandas.
    """

    name: Hashable
    kind: str
    dtype: Any
    levels: tuple[Any, ...] = ()
    whole: bool = False
    origin: int = 0
    local: bool = False
    step: int = 0
    empty: bool = False
    hole: Any = None

    @classmethod
    def learn(cls, series: Any, chosen: Any) -> Any:
        """Return what a series is; one that was `chosen` has levels, whatever its type."""
        kind, missing = series.kind, series.missing
        column = cls(
            series.name,
            "level" if chosen else kind,
            series.data.dtype,
            whole=kind == "number" and series.is_whole,
            empty=bool(missing.all()),
            hole=series.hole,
        )
        if column.kind == "level":
            levels = tuple(series.distinct())
            if not chosen:
                _refuse_id(series.name, levels, int((~missing).sum()))
            return replace(column, levels=levels)
        if kind in TIMES and not column.empty:
            column = replace(column, local=kind == "datetime with time zone" and _is_by_clock(series))
            origin = int(np.floor(np.nanmin(series.seconds(zone=column.zone))))
            seconds = series.seconds(origin, column.zone)[~missing]
            step = next((step for step in STEPS if not (seconds % step).any()), 0)
            return replace(column, origin=origin, step=step)
        return column

    def encode(self, series: Any) -> Any:
        """Return the values of a series of the same kind as numbers, NaN where missing or unknown."""
        missing = series.missing
        if self.empty or missing.all():
            return np.full(len(missing), np.nan)
        if self.kind == "level":
            values = series.tolist()
            known = {family(type(level)) for level in self.levels}
            known |= {Real, bool} if known & {Real, bool} else set()  # a hole makes numbers of truth
            seen = {type(value) for value, gone in zip(values, missing, strict=True) if not gone}
            if not known.issuperset(map(family, seen)):
                raise self._refusal(series)
            places = {level: place for place, level in enumerate(self.levels)}
            codes = np.array([places.get(value, np.nan) for value in values])
            return np.where(missing, np.nan, codes)
        if series.kind != self.kind:
            raise self._refusal(series)
        return series.seconds(self.origin, self.zone) if self.kind in TIMES else _finite(series)

    @property
    def zone(self) -> Any:
        """The time zone by whose clocks moments count, if any."""
        return zone_of(self.dtype) if self.local else None

    def _refusal(self, series: Any) -> Any:
        return ValueError(
            f"Got column {self.name!r} of X with dtype {series.data.dtype}; expected {self.dtype}, a "
            f"{self.kind}, as in fit."
        )

    def decode(self, values: Any, library: Any) -> Any:
        """Return numbers as a column of a library."""
        values = np.full(len(values), np.nan) if self.empty else values
        missing, dtype = np.isnan(values), self.dtype
        if self.kind in TIMES:
            room = np.array(range_of(self.kind, unit_of(self.dtype))) - self.origin  # draws may go beyond
            values = values.clip(*(np.fix(room / self.step) * self.step if self.step else room))
            cells = to_ticks(values, self.origin, unit_of(self.dtype))
            if library == "pandas":
                return make_pandas_times(self.dtype, cells, self.local)
            if self.local:
                return make_polars_times(self.dtype, cells)
        elif self.kind == "level":
            levels = np.empty(len(self.levels) + 1, dtype=object)  # the last of missing cells
            levels[:-1] = self.levels
            cells = levels[np.where(missing, -1, values).astype(int)]
        else:
            cells = np.where(missing, 0.0, values)
            if self.whole and are_whole(values, dtype):
                cells = cells.astype(np.int64)
            elif self.whole:  # what was given had room in a wider type
                dtype = np.dtype(float) if library == "pandas" else module_of("polars").Float64
        if library == "pandas":
            return make_pandas(dtype, cells, missing, self.hole)
        if library == "polars":
            return make_polars(dtype, cells, missing)
        cells[missing] = np.nan
        return cells.astype(self.dtype)


def _count_from(column: Column, columns: Any) -> Any:
    """Return a column that counts from the first day of all those of its kind, or as near as its step allows.

    So moments of several columns can be compared: that one ends after another starts.
    """
    alike = [c.origin for c in columns if (c.kind, c.local, c.empty) == (column.kind, column.local, False)]
    if column.kind not in TIMES or column.empty or len(alike) < 2:
        return column
    later = column.origin - min(alike) // STEPS[0] * STEPS[0]
    if column.step == 0 and not keeps_ticks(later, unit_of(column.dtype)):
        return column
    return replace(
        column, origin=column.origin - (later // column.step * column.step if column.step else later)
    )


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

    Attributes
    ----------
    library : {"pandas", "polars", None}
    columns : list of Column
    header : pandas.Index or None
        Of pandas tables: the names, as they were held.
    """

    def __init__(self, X: Any, categorical_features: Any = "auto") -> None:
        self.library = library_of(X)
        self.header = X.columns if self.library == "pandas" else None
        columns = _read(X)
        names = [series.name for series in columns]
        if len(set(names)) < len(names):
            twice = sorted({str(name) for name in names if names.count(name) > 1})
            raise ValueError(
                f"Got X with several columns named {twice[:SHOWN]!r}; expected distinct names. Rename them."
            )
        chosen = _find_columns(categorical_features, names)
        learned = [Column.learn(series, i in chosen) for i, series in enumerate(columns)]
        self.columns = [_count_from(column, learned) for column in learned]

    @property
    def n_levels(self) -> Any:
        """Number of levels of each column, 0 for numbers."""
        return tuple(max(1, len(c.levels)) if c.kind == "level" else 0 for c in self.columns)

    @property
    def names(self) -> Any:
        """Names of the columns."""
        return [c.name for c in self.columns]

    def encode(self, X: Any) -> Any:
        """Return the matrix of a table of the same columns, float64 of shape (n_rows, n_columns)."""
        columns = _read(X)
        names = [series.name for series in columns]
        if is_frame(X) and self.library is not None and names != self.names:
            raise ValueError(_tell_names(names, self.names))
        if len(names) != len(self.columns):
            raise ValueError(f"X has {len(names)} columns, but {len(self.columns)} were there in fit.")
        matrix = np.empty((len(X), len(names)))
        for j, (column, series) in enumerate(zip(self.columns, columns, strict=True)):
            matrix[:, j] = column.encode(series)
        return matrix

    def encode_value(self, place: Any, value: Any) -> Any:
        """Return a value of a column as a number, NaN if it is missing."""
        column = self.columns[place]
        problem = f"Got {value!r} for column {column.name!r}; expected "
        if is_missing(value):
            return np.nan
        if column.empty:
            raise ValueError(problem + "none: all its cells were missing in fit.")
        if column.kind == "level":
            value = as_held(value, column.dtype) if is_real(value) else value
            if value not in column.levels:
                raise ValueError(problem + f"a level seen in fit, one of {list(column.levels[:SHOWN])!r}.")
            return float(column.levels.index(value))
        if column.kind == "number":
            problem += f"a finite number that {column.dtype} holds."
            number = read_number(value, column.dtype if column.whole else None, problem)
            if np.isinf(as_held(number, column.dtype)):
                raise ValueError(problem)
            return number
        return float(column.encode(read_series(self._hold(column, value), column.name))[0])

    def _hold(self, column: Column, value: Any) -> Any:
        """Return a moment or duration as a column of one cell, or raise if it is none of that type."""
        problem = f"Got {value!r} for column {column.name!r}; expected {column.dtype}."
        if is_real(value) or isinstance(value, np.bool_) or not _has_zone(column, value):
            raise ValueError(problem)
        try:
            return make_series(self.library, column.dtype, value)
        except (TypeError, ValueError) as error:
            raise ValueError(problem) from error

    def put_given(self, X: Any, given: Any) -> Any:
        """Return a table with the moments and durations of a dict in all rows, which floats may round."""
        for name, value in given.items():
            place = self.names.index(name)
            column = self.columns[place]
            if column.kind not in TIMES or is_missing(value):
                continue
            held = self._hold(column, value)
            if self.library == "pandas":
                X.isetitem(place, held.repeat(len(X)).set_axis(X.index))
            else:
                X = X.with_columns(held.new_from_index(0, len(X)).alias(name))
        return X

    def unknown(self, X: Any, matrix: Any) -> Any:
        """Return whether a cell of X has a value that its row in the matrix lacks: a level never seen."""
        held = [
            ~series.missing & (not column.empty)
            for column, series in zip(self.columns, _read(X), strict=True)
        ]
        return np.isnan(matrix) & np.stack(held, 1)

    def find_late(self, X: Any) -> Any:
        """Return the names of columns with values of which all cells were missing in fit."""
        pairs = zip(self.columns, _read(X), strict=True)
        return [column.name for column, series in pairs if column.empty and not series.missing.all()]

    def refuse_unknown(self, X: Any, matrix: Any) -> None:
        """Raise if a cell has a level never seen, or a value in a column without any in fit."""
        late = self.find_late(X)
        if late:
            raise ValueError(
                f"Got values in column {late[0]!r}; expected none: all its cells were missing in fit."
            )
        rows, places = np.nonzero(self.unknown(X, matrix))
        if len(places):
            j, series = places[0], _read(X)[places[0]]
            raise ValueError(
                f"Got {series.tolist()[rows[0]]!r} in column {series.name!r}, a level that fit has not "
                f"seen; expected one of {list(self.columns[j].levels[:SHOWN])!r}, or a missing cell."
            )

    def settle(self, values: Any) -> Any:
        """Return drawn rows as ones that the types of the columns have room for, at the steps of moments."""
        values = values.copy()
        for j, column in enumerate(self.columns):
            if column.whole and column.kind == "number":
                values[:, j] = round_whole(values[:, j], column.dtype)
            elif column.step:
                values[:, j] = np.rint(values[:, j] / column.step) * column.step
        return values

    def wrap(self, values: Any, index: Any = None, whole: Any = False) -> Any:
        """Return a matrix as a table of the kind that was learned; `index` is for pandas.

        With `whole`, whole numbers are not rounded: a column that has others comes as floats.
        """
        values = values if whole else self.settle(values)
        module = None if self.library is None else module_of(self.library)
        columns = [column.decode(values[:, j], self.library) for j, column in enumerate(self.columns)]
        if module is None:
            return np.column_stack(columns)
        X = module.DataFrame(dict(zip(self.names, columns, strict=True)))
        if self.header is not None:
            X.columns = self.header
        if self.library == "pandas" and index is not None:
            X.index = index
        return X


def _is_by_clock(series: Any) -> bool:
    """Whether moments have a coarser step by the clocks of their zone, and these tell them all apart."""
    there, everywhere = series.ticks(zone_of(series.data.dtype))[0], series.ticks()[0]
    seen = ~series.missing
    there, everywhere = there[seen], everywhere[seen]
    steps = [np.gcd.reduce(np.diff(np.unique(ticks))) for ticks in (there, everywhere)]
    if steps[0] <= steps[1]:
        return False
    make = partial(make_pandas_times, local=True) if hasattr(series.data, "iloc") else make_polars_times
    again = read_series(make(series.data.dtype, there), series.name).ticks()[0]
    return bool((again == everywhere).all())


def _has_zone(column: Any, value: Any) -> bool:
    """Whether a moment has a time zone if its column has; text is read as one of the column's."""
    if not hasattr(value, "tzinfo") or column.kind not in ("datetime", "datetime with time zone"):
        return True
    return bool(value.tzinfo is not None) is (column.kind == "datetime with time zone")


def _read(X: Any) -> Any:
    """Return the columns of a table."""
    if not is_frame(X):
        wish = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan", "ensure_min_samples": 0}
        X = check_array(make_plain(X), **wish)
        return [read_series(column, i) for i, column in enumerate(X.T)]
    if not X.shape[1]:
        raise ValueError(f"Got X with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    return list(map(read_series, split_columns(X), X.columns))


def _tell_names(names: Any, expected: Any) -> Any:
    missing = [name for name in expected if name not in names]
    new = [name for name in names if name not in expected]
    if missing or new:
        return (
            f"Got X without the columns {missing[:SHOWN]!r} and with {new[:SHOWN]!r}, which fit has "
            "not seen; expected those of fit."
        )
    return f"Got X with columns in another order than in fit; expected {expected[:SHOWN]!r}. Select them so."


def _find_columns(chosen: Any, names: Any) -> Any:
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


def _refuse_id(name: Any, levels: Any, n_seen: Any) -> None:
    if levels and isinstance(levels[0], str) and n_seen >= ID_ROWS and len(levels) > ID_SHARE * n_seen:
        raise ValueError(
            f"Got column {name!r} of X with {len(levels)} different texts in {n_seen} cells, nearly one for "
            "each row: an id or free text, of which nothing can be learned. Drop it, or encode it."
        )


def _finite(series: Any) -> Any:
    """Return the values of a column of numbers, or raise if a float cannot be any of them."""
    values = series.numbers()
    if np.isinf(values).any():
        raise ValueError(
            f"Got column {series.name!r} of X with infinity; expected finite numbers. Clip it, or "
            "set it missing."
        )
    if (np.abs(values) >= EXACT_WHOLE).any() and series.is_whole:
        raise ValueError(
            f"Got column {series.name!r} of X with whole numbers of 2^53 and more, which floats cannot tell "
            "apart. Subtract their minimum, convert them to text if they are labels, or drop an id."
        )
    return values
