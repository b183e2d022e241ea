"""Missing cells of arrays and tables of any library: find them, fill them, leave all others alone."""

from importlib import import_module
from numbers import Number
from typing import Any, SupportsIndex

import numpy as np

from ._series import Series, library_of, read_series, split_columns, zone_of
from ._typing import Array, Table
from ._values import TRUE_FROM, as_held, family, is_missing, round_whole

__all__ = [
    "append_flags",
    "dig",
    "find_holes",
    "keep",
    "put",
    "repeat",
    "spread_columns",
    "take_columns",
]


def find_holes(X: Table, mark: Any) -> Array:
    """Return the mask of the missing cells of an array of floats or a table.

    Raises
    ------
    ValueError
        If cells are missing that do not hold the mark.
    """
    if library_of(X) is None:
        if is_missing(mark):
            return np.isnan(X)
        if not isinstance(mark, Number):
            raise ValueError(
                f"Got missing_values={mark!r} with X of numbers, where no cell can hold it. Set "
                "missing_values=numpy.nan or a number."
            )
        number: Any = mark  # NumPy's types know no Number
        return np.equal(X, number)
    holes = np.empty(X.shape, dtype=bool)
    for j, name in enumerate(X.columns):
        series = read_series(_column(X, j), name)
        holes[:, j] = series.missing if is_missing(mark) else _find_mark(series, mark)
    return holes


def _find_mark(series: Series, mark: Any) -> Array:
    if series.missing.any():
        raise ValueError(
            f"Input X contains NaN: column {series.name!r} has missing cells that are not marked by "
            f"missing_values={mark!r}. Set missing_values=numpy.nan, and the marked cells to it."
        )
    if isinstance(mark, Number) and series.kind == "number":
        return series.numbers() == as_held(mark, series.data.dtype)
    if series.kind == "level":
        kind = family(type(mark))  # True is no 1
        return np.array([family(type(value)) is kind and value == mark for value in series.tolist()], bool)
    return np.zeros(len(series.data), dtype=bool)


def dig(X: Table, holes: Array) -> Table:
    """Return an array or a table without what the cells of a mask hold."""
    library = library_of(X)
    if library is None:
        return np.where(holes, np.nan, X)
    if library == "pandas":
        return X.mask(holes)
    polars = import_module("polars")
    return X.with_columns(
        _column(X, j).zip_with(polars.Series(~holes[:, j]), polars.Series([None], dtype=X.dtypes[j]))
        for j in np.flatnonzero(holes.any(axis=0))
    )


def take_columns(X: Table, places: Array) -> Table:
    """Return some columns, by place."""
    return X.iloc[:, places] if library_of(X) == "pandas" else X[:, np.asarray(places)]


def spread_columns(X: Table, names: list[Any]) -> Table:
    """Return a DataFrame of some columns with those of all names, in their order, the others empty."""
    if library_of(X) == "pandas":
        return X.reindex(columns=names)
    polars = import_module("polars")
    empty = polars.repeat(None, len(X), eager=True)
    return polars.DataFrame([X[name] if name in X.columns else empty.alias(name) for name in names])


def put(X: Table, holes: Array, values: list[Any]) -> Table:
    """Return X with the cells of a mask replaced, in its own types; whole numbers are rounded.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n_rows, n_features)
    holes : ndarray of bool, shape (n_rows, n_features)
    values : sequence of ndarray, Series or number, one for each column
        What to put there; of a column without holes, anything.
    """
    library = library_of(X)
    if library is None:
        X = X.copy()
        for j in np.flatnonzero(holes.any(axis=0)):
            hole = holes[:, j]
            X[hole, j] = np.broadcast_to(values[j], len(X))[hole]
        return X
    fill = _fill_pandas if library == "pandas" else _fill_polars
    filled = {j: fill(_column(X, j), holes[:, j], values[j]) for j in np.flatnonzero(holes.any(axis=0))}
    if library == "polars":
        return X.with_columns(filled.values())
    X = X.copy()
    for j, series in filled.items():
        X.isetitem(j, series)
    return X


def repeat(X: Table, n: int) -> Table:
    """Return each row of an array or a table n times."""
    if library_of(X) is None:
        return np.repeat(np.asarray(X), n, axis=0)
    rows = np.repeat(np.arange(len(X)), n)
    if library_of(X) == "pandas":
        return X.set_flags(allows_duplicate_labels=True).iloc[rows]
    return X[rows]


def keep(X: Table, filled: Table) -> Table:
    """Return a filled table in which all cells that X has are as they are there.

    A column whose type rounds them, or whose model has not seen their levels, is one of the type in X.

    Parameters
    ----------
    X, filled : ndarray or DataFrame of shape (n_rows, n_features)
        Returned is `filled` itself if they are not of one library.
    """
    if library_of(X) is None or library_of(X) != library_of(filled):
        return filled
    holes = find_holes(X, np.nan)
    columns = list(zip(split_columns(X), split_columns(filled), holes.T, strict=True))
    other = [not _agree(given, got, ~hole) for given, got, hole in columns]
    library = library_of(X)
    fill = _fill_pandas if library == "pandas" else _fill_polars
    filled = filled.copy() if library == "pandas" else filled
    for j in np.flatnonzero(other):
        series = fill(_column(X, j), holes[:, j], _column(filled, j))
        if library == "pandas":
            filled.isetitem(j, series.set_axis(filled.index))
        else:
            filled = filled.with_columns(series)
    return filled


def _agree(given: Any, got: Any, known: Array) -> bool:
    """Whether two columns of one library have the same known cells."""
    if given.dtype != got.dtype:
        pairs = zip(given.to_list(), got.to_list(), known, strict=True)
        return all(a == b for a, b, there in pairs if there)
    if not hasattr(given, "iloc"):  # of polars
        return bool((given == got).filter(import_module("polars").Series(known)).all())
    given, got = (np.asarray(column)[known] for column in (given, got))
    return bool(np.all(given == got))


def _column(X: Table, j: SupportsIndex) -> Any:
    return X.iloc[:, j] if hasattr(X, "iloc") else X[:, int(j)]  # polars knows no integers of NumPy


def _fill_pandas(series: Any, hole: Array, values: Any) -> Any:
    pandas, dtype = import_module("pandas"), series.dtype
    if isinstance(dtype, pandas.SparseDtype):
        return _fill_pandas(series.sparse.to_dense(), hole, values).astype(dtype)
    values = np.broadcast_to(values, len(series)) if np.ndim(values) == 0 else values
    if not hasattr(values, "iloc"):
        zone = zone_of(getattr(values, "dtype", None))  # of polars
        values = pandas.Series(np.asarray(values))
        values = values if zone is None else values.dt.tz_localize("UTC")
    values = values[hole]
    if isinstance(dtype, pandas.CategoricalDtype):
        new = [level for level in values.unique() if level not in dtype.categories]
        series = series.cat.add_categories(new) if new else series
    elif _holds_truth(series) and values.dtype.kind == "f":  # of a likelihood of numbers
        values = values >= TRUE_FROM
    elif pandas.api.types.is_integer_dtype(dtype):
        values = pandas.Series(round_whole(values.to_numpy(dtype=float), dtype))
    series = series.copy()
    series.iloc[np.flatnonzero(hole)] = values.astype(series.dtype).array
    return series


def _holds_truth(series: Any) -> bool:
    """Whether a column of pandas holds truth values, by type or as objects."""
    if series.dtype != object:
        return bool(import_module("pandas").api.types.is_bool_dtype(series.dtype))
    seen = series[~series.isna()]
    return len(seen) > 0 and all(isinstance(value, (bool, np.bool_)) for value in seen)


def _fill_polars(series: Any, hole: Array, values: Any) -> Any:
    polars, dtype = import_module("polars"), series.dtype
    if hasattr(values, "iloc"):
        values = _from_pandas(values)
    elif not isinstance(values, polars.Series):
        values = polars.Series(np.broadcast_to(values, len(series)))
    if dtype == polars.Boolean and values.dtype.is_float():
        values = values >= TRUE_FROM
    elif dtype.is_integer():
        values = polars.Series(round_whole(values.cast(float).fill_null(0.0).to_numpy(), dtype))
    elif isinstance(dtype, polars.Enum):
        drawn = values.cast(polars.String).filter(polars.Series(hole)).unique(maintain_order=True)
        new = [level for level in drawn if level not in dtype.categories]
        dtype = polars.Enum([*dtype.categories, *new])
        series = series.cast(dtype)
    return series.zip_with(polars.Series(~hole), values.cast(dtype))


def _from_pandas(values: Any) -> Any:
    """Return a column of pandas as one of polars."""
    polars = import_module("polars")
    if zone_of(values.dtype) is not None:
        moments = values.dt.tz_convert("UTC").dt.tz_localize(None)
        return polars.Series(moments.to_numpy()).dt.replace_time_zone("UTC")
    if values.dtype == object:
        return polars.Series([None if is_missing(value) else value for value in values])
    return polars.Series(np.asarray(values))


def append_flags(X: Table, flags: Array, names: Array) -> Table:
    """Return X with further columns: of zeros and ones in an array, of booleans in a table."""
    library = library_of(X)
    if library is None:
        return np.hstack((X, flags.astype(X.dtype)))
    twice = [name for name in names if name in X.columns]
    if twice:
        raise ValueError(
            f"Got X with a column {twice[0]!r}, the name of one that add_indicator=True adds; rename it."
        )
    if library == "pandas":
        pandas = import_module("pandas")
        return pandas.concat((X, pandas.DataFrame(flags, columns=names, index=X.index)), axis=1)
    return X.hstack(import_module("polars").DataFrame(flags, schema=list(names)))
