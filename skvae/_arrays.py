"""NumPy's side of the border: moments, distinct rows, containers, bounded batches."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ._series import library_of
from ._threads import as_told, threads, tiny_as_zero
from ._typing import Array, Table
from ._values import are_whole, is_missing, read_number, round_whole

DISTINCT_ROWS = 10_000  # up to here rows are searched for repetitions
TAIL_ROWS = 1000  # from which on an eighth moment is not that of one row
NORMAL_EIGHTH = 105  # the eighth moment of N(0, 1)
TAIL_VALUES = 1 << 26  # values that tell how heavy the tails are, where there are more
CHUNK_VALUES = 1 << 20  # values handled at once where a copy must be made: 8 MB of float64
MOST_VALUES = 1 << 22  # the same where a model has as many weights, all of which each call reads


def row_chunks(n_rows: int, n_values_per_row: int, limit: int = CHUNK_VALUES) -> Iterator[slice]:
    """Yield slices that cover `n_rows` rows, each of about `limit` values at most."""
    step = max(1, limit // max(1, n_values_per_row))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def distinct_rows(X: Array, weight: Array) -> tuple[Array, Array]:
    """Merge equal rows and sort them, adding up their weights.

    A set of weighted rows has one such form, so whatever is computed from it depends neither on
    the order of the rows nor on whether a row is repeated or weighted. The order is that of the
    values, column by column, so a change of units keeps it. NaN counts as a value.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,)

    Returns
    -------
    rows : ndarray of shape (n_distinct, n_features)
    weight : ndarray of shape (n_distinct,)
    """
    missing = np.isnan(X)
    filled = np.where(missing, 0.0, X) + 0.0  # + 0.0 turns -0.0 into 0.0
    if missing.any():  # noqa: SIM108 -- last in its column, whatever the sign of the values
        keys = np.stack([missing, filled], axis=2).reshape(len(X), -1)
    else:
        keys = filled
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    first = np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]
    starts = np.flatnonzero(first)
    return X[order[starts]], np.add.reduceat(weight[order], starts)


def merge_rows(
    X: Array, weight: Array | None, y: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Apply `distinct_rows` to data of up to 10,000 rows; return larger ones as they are.

    Rows of different classes are different. The weight is None where all rows count once or less.
    """
    if len(X) > DISTINCT_ROWS:
        return X, weight, y
    keys = X if y is None else np.column_stack((X, y.astype(X.dtype)))
    keys, weight = distinct_rows(keys, np.ones(len(X)) if weight is None else weight)
    weight = None if weight[0] <= 1 and (weight == weight[0]).all() else weight
    return (keys, weight, None) if y is None else (keys[:, :-1], weight, keys[:, -1].astype(np.int64))


def split_rows(n_rows: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of the rows to train on and of a share set aside, both in order."""
    order = np.random.RandomState(seed).permutation(n_rows)
    n_aside = max(1, round(fraction * n_rows))
    if n_aside >= n_rows:
        raise ValueError(
            f"Got validation_fraction={fraction!r} with {n_rows} distinct rows; none would be left to "
            "train on. Lower it, or pass X_val."
        )
    return np.sort(order[n_aside:]), np.sort(order[:n_aside])


def choose_rows(n_rows: int, n: int, seed: int) -> Array:
    """Return the indices of n random rows, or of all if there are fewer, in order."""
    return np.sort(np.random.RandomState(seed).permutation(n_rows)[-n:])


@np.errstate(over="ignore", invalid="ignore")
def moments(
    X: Array, weight: Array | None = None, transform: Callable[[Array], Array] | None = None
) -> tuple[Array, Array]:
    """Return the weighted mean and standard deviation of each column's observed cells.

    Computed in float64 and in chunks, shifted by the mean of the first chunk with an observed cell,
    so neither the type nor the offset of X matters. A column without a spread has standard
    deviation 0, one without an observed cell has mean NaN. `transform` is applied to the cells.

    Returns
    -------
    mean, std : ndarray of shape (n_features,)
    """
    n, d = X.shape
    shift, total, first, second = np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d)
    for rows in row_chunks(n, d):
        chunk = np.asarray(X[rows], dtype=np.float64)
        chunk = chunk if transform is None else transform(chunk)
        w = np.ones(len(chunk)) if weight is None else weight[rows]
        seen = ~np.isnan(chunk)
        w = np.where(seen, w[:, None], 0.0)
        chunk = np.where(seen, chunk, 0.0)
        weights = w.sum(axis=0)
        if not total.all():
            shift = np.where(total > 0, shift, _divide((w * chunk).sum(axis=0), weights, 0.0))
        chunk = (chunk - shift) * (w > 0)
        total += weights
        first += (w * chunk).sum(axis=0)
        second += (w * chunk * chunk).sum(axis=0)
    huge = np.flatnonzero(~np.isfinite(second))
    if huge.size:
        raise ValueError(
            f"Got values too large to square in columns {huge[:5].tolist()} of X; expected magnitudes below "
            "1e150. Divide these columns, or take a logarithm."
        )
    offset = _divide(first, total, np.nan)
    variance = _divide(second, total, 0.0) - np.nan_to_num(offset) ** 2
    mean = shift + offset
    std = np.sqrt(np.maximum(variance, 0.0))
    rounding = 10 * np.finfo(X.dtype if X.dtype.kind == "f" else np.float64).eps
    std[std <= rounding * np.abs(np.nan_to_num(mean))] = 0.0
    return mean, std


def location_and_scale(X: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Return the weighted mean of each column's observed cells, and by what to divide them.

    Of few rows that is the standard deviation. Of `TAIL_ROWS` or more it is larger for columns with
    heavier tails, by their eighth moment: a pixel that is lit in few images, divided by its standard
    deviation, would have more say than all the others. Columns of one shape are divided by their
    standard deviations still: the mean square of what the division makes of all cells stays 1.

    Returns
    -------
    mean, scale : ndarray of shape (n_features,)
    """
    mean, std = moments(X, weight)
    if (len(X) if weight is None else weight.sum()) < TAIL_ROWS or not std.any():
        return mean, std
    step = max(1, X.size // TAIL_VALUES)
    X, weight = X[::step], None if weight is None else weight[::step]
    total, power, most = np.zeros(len(std)), np.zeros(len(std)), np.ones(len(std))
    for rows in row_chunks(*X.shape):
        size = np.abs((np.asarray(X[rows], dtype=np.float64) - mean) / np.where(std > 0, std, 1.0))
        seen = ~np.isnan(size)
        size = np.where(seen, size, 0.0)
        w = seen if weight is None else seen * weight[rows, None]
        larger = np.maximum(most, size.max(axis=0))  # powers of shares of the largest do not overflow
        power = power * (most / larger) ** 8 + (w * (size / larger) ** 8).sum(axis=0)
        total, most = total + w.sum(axis=0), larger
    tails = np.maximum(1.0, most * (_divide(power, total, 0.0) / NORMAL_EIGHTH) ** 0.125)
    return mean, std * tails * np.sqrt(np.mean(tails[std > 0] ** -2.0))


def has_holes(X: Array) -> bool:
    """Return whether a cell of X is missing."""
    return any(np.isnan(X[rows]).any() for rows in row_chunks(*X.shape))


def are_dependent(X: Array, n_rows: int = 10_000, n_columns: int = 256) -> bool:
    """Whether two of the first columns are correlated beyond doubt, seen on some rows. NaN is left out."""
    X = np.asarray(X[:: max(1, len(X) // n_rows), :n_columns], dtype=np.float64)
    mean, std = moments(X)
    Z = np.nan_to_num((X - mean) / np.where(std > 0, std, 1.0))
    correlation = np.abs(Z.T @ Z) / len(Z)
    np.fill_diagonal(correlation, 0.0)
    return bool(correlation.max() > 6 / np.sqrt(len(Z)))  # six standard errors


def _divide(a: Array, b: Array, otherwise: float) -> Array:
    return np.divide(a, b, out=np.full_like(a, otherwise), where=b > 0)


class Container:
    """Remember which kind of table came in, to give the same kind back."""

    def __init__(self, X: Table) -> None:
        self.kind = library_of(X)
        self.columns = X.columns if self.kind else None
        types = dict(zip(X.columns, X.dtypes, strict=True)) if self.kind else {}
        self.whole = {name: dtype for name, dtype in types.items() if _is_whole(dtype)}

    @staticmethod
    def encode(X: Array) -> Array:
        """Return checked rows as a matrix: they are one."""
        return X

    @property
    def names(self) -> list[Any] | None:
        """Names of the columns, which need not be text; None if there were none."""
        return None if self.columns is None else list(self.columns)

    def encode_value(self, place: int, value: Any) -> float:
        """Return a value of a column as a number, NaN if it is missing."""
        if is_missing(value):
            return np.nan
        name = self.names[place] if self.names else place
        dtype = self.whole.get(name)
        wish = "a finite number" if dtype is None else f"a finite number that {dtype} holds"
        return read_number(value, dtype, f"Got {value!r} for column {name!r}; expected {wish}.")

    @staticmethod
    def put_given(X: Table, given: Any) -> Table:
        """Return a table with what a dict gives, which it has already: numbers."""
        return X

    def settle(self, values: Array) -> Array:
        """Return drawn rows as ones that the types of the columns have room for."""
        if not self.whole:
            return values
        values = values.copy()
        for place, name in enumerate(self.names or ()):
            if name in self.whole:
                values[:, place] = round_whole(values[:, place], self.whole[name])
        return values

    def wrap(self, values: Array, index: Any = None, whole: bool = False) -> Table:
        """Return the array `values` of shape (n_rows, n_features) as that kind of table.

        `index` labels the rows of a pandas table; with `whole`, columns that held whole numbers by
        type hold them again, if all values are such.
        """
        if self.kind is None:
            return values
        if self.kind == "pandas":
            import pandas

            table = pandas.DataFrame(values, columns=self.columns, index=index)
            return table.astype(self._whole_of(values)) if whole else table
        import polars

        table = polars.DataFrame(values, schema=self.columns, orient="row")
        types = self._whole_of(values) if whole else {}
        return table.with_columns(table[name].fill_nan(None).cast(dtype) for name, dtype in types.items())

    def _whole_of(self, values: Array) -> dict[Any, Any]:
        """Return the types of the columns of whole numbers that can hold their values."""
        types = {}
        for place, name in enumerate(self.names or ()):
            column, dtype = values[:, place], self.whole.get(name)
            has_room = not isinstance(dtype, np.dtype) or not np.isnan(column).any()
            if dtype is not None and has_room and are_whole(column, dtype):
                types[name] = dtype
        return types


def _is_whole(dtype: Any) -> bool:
    """Whether a type of pandas or polars is one of whole numbers."""
    is_integer = getattr(dtype, "is_integer", None)
    return bool(is_integer()) if is_integer else getattr(dtype, "kind", "") in "iu" and dtype.kind != ""


def torch_dtype(dtype: npt.DTypeLike) -> torch.dtype:
    """Return torch's name of a NumPy type."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def as_tensor(X: Array, view: bool = False) -> torch.Tensor:
    """Return a tensor of an array, whatever its strides: a copy, or on request a view if torch can."""
    fits = X.flags.writeable and all(step >= 0 and step % X.itemsize == 0 for step in X.strides)
    return torch.from_numpy(X if view and fits else np.array(X, order="C"))


@torch.no_grad()
def apply_to_rows(
    function: Callable[..., torch.Tensor],
    X: Array,
    module: nn.Module,
    copies: int = 1,
    y: Array | None = None,
    view: bool = False,
) -> Array:
    """Apply a function of tensors to all rows of X, a bounded number at a time.

    Parameters
    ----------
    function : callable
        Maps (B, n_features) to (B, ...), both on the device of `module`.
    X : ndarray of shape (n_rows, n_features)
    module : nn.Module
        Whose widest layer tells how much memory a row takes.
    copies : int, default=1
        How many times `function` holds each row.
    y : ndarray of shape (n_rows,) or None
        Second argument of `function`, if not None.
    view : bool, default=False
        Promise that `function` leaves its argument as it is, which then may be a view of X.

    Returns
    -------
    ndarray of shape (n_rows, ...)
    """
    device = next(module.parameters()).device
    width = max(size for p in module.parameters() for size in p.shape)
    limit = min(max(CHUNK_VALUES, sum(p.numel() for p in module.parameters())), MOST_VALUES)
    out: Any = None
    with as_told(), threads(), tiny_as_zero():
        for rows in row_chunks(len(X), copies * width, limit):
            tensors = [as_tensor(a[rows], view).to(device) for a in (X, y) if a is not None]
            part = function(*tensors).cpu().numpy()
            if out is None:
                out = np.empty((len(X), *part.shape[1:]), part.dtype)
            out[rows] = part
    return out
