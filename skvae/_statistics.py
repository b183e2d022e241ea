"""Tables for the displays: columns as numbers or levels, their marginals and associations."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ._series import DAY, read_series, split_columns
from ._typing import Array, Table
from ._values import unmask

N_BINS = 30
FAR = (0.005, 0.995)  # quantiles beyond which values are taken together
N_LEVELS = 10  # named levels of a column; the rest are taken together


class Pair(NamedTuple):
    """A column of two tables: floats with NaN, or levels as strings with None."""

    name: str
    numeric: bool
    real: Array
    synthetic: Array


class Marginal(NamedTuple):
    """Shares of the rows of two tables in the bins or levels of a column.

    `edges` of the bins is None for a column of levels, `levels` for one of numbers. `missing` holds
    the shares of the rows without a value, the other shares are of those with one.
    """

    name: str
    edges: Array | None
    levels: list[str] | None
    real: Array
    synthetic: Array
    missing: tuple[float, ...]


def read_table(table: Table, key: str = "a table") -> tuple[list[str], list[Any]]:
    """Return the names of the columns of a table or array, which errors call `key`, and the columns."""
    if hasattr(table, "columns") and hasattr(table, "shape"):
        return [str(name) for name in table.columns], split_columns(table)
    array = np.asarray(unmask(table))
    if array.ndim != 2 or not array.size:
        raise ValueError(f"Got {key} of shape {array.shape!r}; expected (n_samples, n_features).")
    return [f"x{i}" for i in range(array.shape[1])], list(array.T)


def read_column(column: Any) -> Array:
    """Return a column as floats with NaN if it is numeric, and else as strings with None.

    Moments are days since 1970, durations days.
    """
    if is_time(column.dtype):
        return _read_days(column)
    if hasattr(column.dtype, "is_numeric"):  # polars
        numeric = column.dtype.is_numeric() or str(column.dtype) == "Boolean"
        values = column.cast(float).to_numpy() if numeric else column.to_list()
    else:
        numeric = getattr(column.dtype, "kind", "O") in "biuf"
        if numeric and hasattr(column, "to_list"):  # pandas
            values = column.to_numpy(dtype=float, na_value=np.nan)
        else:
            values = column.tolist()
            are_numbers = all(_is_missing(v) or isinstance(v, Real) for v in values)
            is_object = str(column.dtype) == "object"  # or booleans, which without a hole have a type
            numeric = numeric or (is_object and are_numbers) or are_truths(values)
            values = [np.nan if _is_missing(v) else v for v in values] if numeric else values
    if numeric:
        values = np.asarray(values, dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)
    return as_levels(values)


def are_truths(values: Iterable[Any]) -> bool:
    """Whether all values that are there are booleans."""
    seen = [isinstance(v, (bool, np.bool_)) for v in values if not _is_missing(v)]
    return len(seen) > 0 and all(seen)


def is_time(dtype: Any) -> bool:
    """Whether a type is one of dates, times or durations."""
    if hasattr(dtype, "is_temporal"):  # polars
        return dtype.is_temporal()
    return getattr(dtype, "kind", "O") in "mM"


def _read_days(column: Any) -> Array:
    if not isinstance(column, np.ndarray):
        return read_series(column, None).seconds() / DAY
    ticks = column.astype(f"{column.dtype.kind}8[us]")
    return np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / (DAY * 1e6))


def as_levels(values: Iterable[Any]) -> Array:
    """Return the names of levels, None where one is missing."""
    return np.array([None if _is_missing(v) else _name_level(v) for v in values], dtype=object)


def pair_columns(real: Table, synthetic: Table, columns: Sequence[Any] | None = None) -> list[Pair]:
    """Return the columns of two tables, side by side; what is numeric goes by the real one.

    Parameters
    ----------
    real, synthetic : DataFrame or array-like of shape (n_samples, n_features)
        Columns go by name, or by place if one of the tables is an array.
    columns : sequence of str or int, default=None
        Names or places of those to read.

    Returns
    -------
    list of Pair
    """
    (names, reals), (others, synthetics) = read_table(real), read_table(synthetic)
    for key, some in (("real", reals), ("synthetic", synthetics)):
        if some and not len(some[0]):
            raise ValueError(f"Got a {key} table without a row; expected some.")
    if not (hasattr(real, "columns") and hasattr(synthetic, "columns")):
        if len(names) != len(others):
            raise ValueError(
                f"Got {len(names)} real and {len(others)} synthetic columns; expected the same ones."
            )
        others = names = names if hasattr(real, "columns") else others
    absent = [name for name in names if name not in others]
    if absent:
        raise ValueError(f"Got synthetic without the columns {absent[:5]!r}; expected those of real.")
    pairs = []
    labels = list(real.columns) if hasattr(real, "columns") else names
    for i in range(len(names)) if columns is None else _find_columns(columns, labels, names):
        left, right = read_column(reals[i]), read_column(synthetics[others.index(names[i])])
        numeric = left.dtype.kind == "f"
        pairs.append(Pair(names[i], numeric, left, convert_column(right, numeric, names[i])))
    return pairs


def _find_columns(columns: Sequence[Any], labels: list[Any], names: list[str]) -> list[int]:
    """Return the places of columns given by name, as the table has it or as text, or by place."""
    places = [labels.index(c) if c in labels else names.index(c) if c in names else c for c in columns]
    wrong = [c for c in places if isinstance(c, (bool, np.bool_)) or c not in range(len(names))]
    if wrong or not places:
        raise ValueError(f"Got columns={columns!r}; expected names among {names[:20]!r}, or places.")
    return places


def convert_column(values: Array, numeric: bool, name: str, table: str = "synthetic") -> Array:
    """Return a column as numbers or as levels, whatever the real one holds."""
    if numeric == (values.dtype.kind == "f"):
        return values
    if not numeric:
        return as_levels(values)
    try:
        return np.array([np.nan if v is None else float(v) for v in values])
    except ValueError:
        raise ValueError(
            f"Got levels in the {table} column {name!r}; expected numbers, as in the real one."
        ) from None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _name_level(value: Any) -> str:
    """Return the name of a level, the same whether 1 is held as an integer or as a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# -- one column --------------------------------------------------------------------------------


def marginal(pair: Pair) -> Marginal:
    """Return the shares of a column's bins or levels in both tables."""
    missing = tuple(
        float(np.mean(np.isnan(v) if pair.numeric else v == None))  # noqa: E711 -- cell by cell
        for v in pair[2:]
    )
    if pair.numeric:
        edges = shared_edges(pair.real, pair.synthetic)
        real, synthetic = (_bin_shares(values, edges) for values in pair[2:])
        return Marginal(pair.name, edges, None, real, synthetic, missing)
    found, counts = np.unique([v for v in pair.real if v is not None], return_counts=True)
    levels = [str(level) for level in found[np.argsort(-counts, kind="stable")]]
    new = {v for v in pair.synthetic if v is not None}.difference(levels)
    if len(levels) + bool(new) > N_LEVELS:
        levels = levels[: N_LEVELS - 1]
    shares = [_level_shares(values, levels) for values in pair[2:]]
    if any(share[-1] for share in shares):
        levels = [*levels, "others"]
    real, synthetic = (share[: len(levels)] for share in shares)
    return Marginal(pair.name, None, levels, real, synthetic, missing)


def shared_edges(real: Array, synthetic: Array) -> Array:
    """Return edges of bins for two columns, given with NaN.

    Bins span the 0.5 % to the 99.5 % quantiles, lest a few far values take all the room, and half
    the span of the real ones further at most; what lies beyond belongs to the outer bins. Those of
    whole numbers have a whole width, so that each holds as many numbers. Their number is that of
    the Rice rule up to 30.
    """
    real, synthetic = real[~np.isnan(real)], synthetic[~np.isnan(synthetic)]
    if not real.size:
        return np.array([0.0, 1.0])
    whole = bool((real == np.round(real)).all())
    low, high = real.min(), real.max()
    if not whole or high - low >= N_BINS:
        inner = np.quantile(real, FAR)
        low, high = inner if inner[0] < inner[1] else (low, high)
    if synthetic.size:
        others, reach = np.quantile(synthetic, FAR), (high - low) / 2
        low, high = max(min(low, others[0]), low - reach), min(max(high, others[1]), high + reach)
    n_bins = min(N_BINS, math.ceil(2 * len(real) ** (1 / 3)))
    if whole:
        low, high = np.floor(low), np.ceil(high)
        width = 1 if high - low < N_BINS else np.ceil((high - low + 1) / n_bins)
        return low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1)
    return np.linspace(low, high, n_bins + 1) if low < high else low + np.array([-0.5, 0.5])


def _bin_shares(values: Array, edges: Array) -> Array:
    values = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
    return np.histogram(values, edges)[0] / max(1, len(values))


def _level_shares(values: Array, levels: list[str]) -> Array:
    """Return the share of each level among the cells with a value, and last that of all others."""
    seen = [v for v in values if v is not None]
    counts = [sum(v == level for v in seen) for level in levels]
    return np.array([*counts, len(seen) - sum(counts)]) / max(1, len(seen))


# -- two columns -------------------------------------------------------------------------------


def associations(columns: list[Array]) -> Array:
    """Return how strongly each two columns go together, over the rows where both have a value.

    Pearson's correlation for two numeric columns, the correlation ratio for one of each kind,
    Cramer's V for two of levels. NaN where one of both does not vary.

    Parameters
    ----------
    columns : list of ndarray of shape (n_rows,)
        As `read_column` gives them.

    Returns
    -------
    ndarray of shape (n_columns, n_columns)
    """
    numeric = np.array([c.dtype.kind == "f" for c in columns])
    out = np.full((len(columns), len(columns)), np.nan)
    if numeric.any():
        values = np.column_stack([c for c in columns if c.dtype.kind == "f"])
        out[np.ix_(numeric, numeric)] = correlations(values)
    codes: dict[Any, Array] = {i: level_codes(columns[i]) for i in np.flatnonzero(~numeric)}
    for i, own in codes.items():
        for j in range(len(columns)):
            if j not in codes:
                out[i, j] = out[j, i] = correlation_ratio(columns[j], own)
            elif j >= i:
                out[i, j] = out[j, i] = cramers_v(own, codes[j])
    return out


def level_codes(values: Array) -> Array:
    """Return the place of each level in their order, -1 for None."""
    levels = {level: i for i, level in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([levels.get(v, -1) for v in values])


def correlations(X: Array) -> Array:
    """Return Pearson's correlations of the columns of X, each over the rows where both are seen."""
    seen = ~np.isnan(X)
    n = np.maximum(seen.sum(axis=0), 1)
    X = np.where(seen, X - np.nansum(X, axis=0) / n, 0.0)  # first, or the sums below lose their digits
    scale = np.sqrt(np.square(X).sum(axis=0) / n)
    X = X / np.where(scale > 0, scale, 1.0)
    both = np.maximum(seen.T.astype(float) @ seen, 1)
    total = X.T @ seen  # of the first column, over the rows of both
    variance = np.square(X).T @ seen - total**2 / both
    variance = np.where(variance > 1e-12 * both, variance, np.nan)
    return np.clip((X.T @ X - total * total.T / both) / np.sqrt(variance * variance.T), -1, 1)


def correlation_ratio(values: Array, codes: Array) -> float:
    """Return the root of the share of the variance of some values that lies between levels."""
    seen = ~np.isnan(values) & (codes >= 0)
    values, codes = values[seen], codes[seen]
    if not values.size or not np.ptp(values) > 0 or not np.ptp(codes) > 0:
        return np.nan
    values = (values - values.mean()) / values.std()
    n = np.bincount(codes)
    between = np.square(np.bincount(codes, values))[n > 0] / n[n > 0]
    return float(np.sqrt(min(1.0, between.sum() / len(values))))


def cramers_v(first: Array, second: Array) -> float:
    """Return Cramer's V of two columns of codes, corrected for the bias of few rows.

    References
    ----------
    Bergsma (2013), A bias-correction for Cramer's V and Tschuprow's T, doi:10.1016/j.jkss.2012.10.002.
    """
    seen = (first >= 0) & (second >= 0)
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first[seen], second[seen]), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    n, (r, c) = table.sum(), table.shape
    if min(r, c) < 2 or n < 2:
        return np.nan
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / n
    phi2 = (np.square(table - expected) / expected).sum() / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    most = min(rows, columns) - 1
    return float(min(1.0, np.sqrt(phi2 / most))) if most > 1e-9 else np.nan  # else each row is a level
