"""Training rows: standardised once and kept on the device, or read block by block from a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from ._arrays import as_tensor, row_chunks
from ._typing import Array

STREAM_BYTES = 1 << 30  # a memory-mapped array whose copy would take more is read as it is needed
SOME_VALUES = 1 << 22  # values in rows that stand for all: 32 MB of float64
BLOCK_BYTES = 1 << 17  # rows that are read in one go from a file
BUFFER_BYTES = 1 << 26  # rows that are shuffled among each other


@dataclass(frozen=True)
class Data:
    """Checked rows in NumPy, in the units of the data.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,) or None
    y : ndarray of int, shape (n_rows,), or None
        Codes of the classes.
    """

    X: Array
    weight: Array | None = None
    y: Array | None = None

    def __len__(self) -> int:
        return len(self.X)


class Batch(NamedTuple):
    """Rows of one step: standardised x, weights of mean 1 over all rows or None, classes or None."""

    x: torch.Tensor
    weight: torch.Tensor | None
    y: torch.Tensor | None
    complete: bool  # no cell is missing

    def repeat(self, n: int) -> "Batch":
        """Return the batch `n` times over, for as many draws of what is random in a step."""
        x, weight, y = _take(self[:3], torch.arange(len(self.x), device=self.x.device).repeat(n))
        return Batch(x, weight, y, self.complete)


def _take(parts: tuple[Any, ...], index: Any) -> tuple[Any, ...]:
    if isinstance(index, torch.Tensor):  # a third of the time of part[index]
        return tuple(None if part is None else part.index_select(0, index) for part in parts)
    return tuple(None if part is None else part[index] for part in parts)


def load_rows(
    data: Data,
    index: Array | None,
    likelihood: Any,
    dtype: torch.dtype,
    device: torch.device,
) -> "AnyRows":
    """Return `Rows` of some data, or `StreamedRows` if it is a file too large to copy.

    Parameters
    ----------
    data : Data
    index : ndarray of int or None
        Which rows to take, ascending; None takes all.
    likelihood : ObservationModel
        Standardises, in float64.
    dtype : torch.dtype
    device : torch.device
    """
    weight, y = (data.weight, data.y) if index is None else _take((data.weight, data.y), index)
    if weight is not None and (weight == weight[0]).all():
        weight = None
    if weight is not None:
        weight = torch.tensor(weight / weight.mean(), dtype=dtype, device=device)
    y = None if y is None else torch.tensor(y, device=device)
    X = data.X
    if is_streamed(X, dtype.itemsize):
        return StreamedRows(X, index, weight, y, likelihood, dtype, device)
    n_rows = len(X) if index is None else len(index)
    x = torch.empty((n_rows, X.shape[1]), dtype=dtype, device=device)
    complete = True
    for part in row_chunks(*x.shape):
        values = X[part] if index is None else X[index[part]]
        chunk = likelihood.standardize(as_tensor(values, view=True).to(device, torch.float64))
        complete = complete and not bool(torch.isnan(chunk).any())
        x[part] = chunk
    return Rows(x, weight, y, complete)


def is_streamed(X: Array, itemsize: int = 4) -> bool:
    """Whether an array is a view of a memory-mapped file too large to copy."""
    return X.size * itemsize > STREAM_BYTES and is_mapped(X)


def is_mapped(X: Any) -> bool:
    """Whether an array is a view of a memory-mapped file."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


class Rows:
    """Standardised rows on the training device.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_features)
    weight : Tensor of shape (n_rows,) or None
        Weights of mean 1; None means all 1.
    y : Tensor of int, shape (n_rows,), or None
    complete : bool
        True if no cell is missing.
    """

    def __init__(
        self, x: torch.Tensor, weight: torch.Tensor | None, y: torch.Tensor | None, complete: bool
    ) -> None:
        self.x, self.weight, self.y, self.complete = x, weight, y, complete
        self.dtype, self.device = x.dtype, x.device

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, n_batches: int, generator: torch.Generator) -> Iterator[torch.Tensor | None]:
        """Yield the indices of each batch of shuffled rows, all of about one size; None for all, in order."""
        if n_batches == 1:
            yield None
            return
        order = torch.randperm(len(self), generator=generator, device=self.device)
        yield from torch.tensor_split(order, n_batches)

    def batch(self, index: torch.Tensor | None) -> Batch:
        """Return the `Batch` of what `batches` yields."""
        return self._batch(slice(None) if index is None else index)

    def chunks(self, n_rows: int) -> Iterator[tuple[slice, Batch]]:
        """Yield (slice, Batch) in order, `n_rows` rows at a time."""
        for start in range(0, len(self), n_rows):
            part = slice(start, start + n_rows)
            yield part, self._batch(part)

    def some(self, n_rows: int) -> Batch:
        """Return a `Batch` of about `n_rows` rows evenly spaced, of fewer where rows are long."""
        return self._batch(_evenly(len(self), self.x.shape[1], n_rows))

    def many(self, n_rows: int) -> Iterator[Batch]:
        """Yield each `Batch` of about `n_rows` rows evenly spaced, a bounded number of values at a time."""
        yield from map(self._batch, _many(len(self), self.x.shape[1], n_rows))

    def _batch(self, index: Any) -> Batch:
        x, weight, y = _take((self.x, self.weight, self.y), index)
        return Batch(x, weight, y, self.complete)


class StreamedRows:
    """Rows that stay in a memory-mapped file: the same methods as `Rows`, bounded memory.

    Blocks of neighbouring rows are read in random order, some hundred blocks at a time, and
    shuffled together: close to a full shuffle, at the speed of a sequential read.
    """

    def __init__(
        self,
        X: Array,
        index: Array | None,
        weight: torch.Tensor | None,
        y: torch.Tensor | None,
        likelihood: Any,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.X, self.index, self.weight, self.y, self.likelihood = X, index, weight, y, likelihood
        self.dtype, self.device = dtype, device

    def __len__(self) -> int:
        return len(self.X) if self.index is None else len(self.index)

    def batches(self, n_batches: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield each `Batch` of shuffled rows, all of about one size."""
        row_bytes = self.X.shape[1] * self.dtype.itemsize
        block = max(1, BLOCK_BYTES // row_bytes)
        per_buffer = max(1, BUFFER_BYTES // (block * row_bytes))
        least, n_longer = divmod(len(self), n_batches)
        order = torch.randperm(-(-len(self) // block), generator=generator, device=self.device).cpu()
        parts: Any = None
        n_done = 0
        for blocks in order.split(per_buffer):
            index = (blocks.sort().values[:, None] * block + torch.arange(block)).flatten()
            index = index[index < len(self)]
            new = self._read(index.numpy())
            new = _take(new, torch.randperm(len(index), generator=generator, device=self.device))
            parts = new if parts is None else tuple(map(_join, parts, new))
            while n_done < n_batches - 1 and len(parts[0]) >= least + (n_done < n_longer):
                size = least + (n_done < n_longer)
                yield self._batch(_take(parts, slice(size)))
                parts = _take(parts, slice(size, None))
                n_done += 1
        yield self._batch(parts)

    def batch(self, batch: Batch) -> Batch:
        """Return the `Batch` that `batches` yields."""
        return batch

    def chunks(self, n_rows: int) -> Iterator[tuple[slice, Batch]]:
        """Yield (slice, Batch) in order, `n_rows` rows at a time."""
        for start in range(0, len(self), n_rows):
            part = slice(start, start + n_rows)
            yield part, self._batch(self._read(part))

    def some(self, n_rows: int) -> Batch:
        """Return a `Batch` of about `n_rows` rows evenly spaced, of fewer where rows are long."""
        return self._batch(self._read(_evenly(len(self), self.X.shape[1], n_rows)))

    def many(self, n_rows: int) -> Iterator[Batch]:
        """Yield each `Batch` of about `n_rows` rows evenly spaced, a bounded number of values at a time."""
        for part in _many(len(self), self.X.shape[1], n_rows):
            yield self._batch(self._read(part))

    def _read(self, index: Any) -> tuple[Any, ...]:
        x = self.X[index if self.index is None else self.index[index]]
        x = self.likelihood.standardize(as_tensor(x).to(self.device, torch.float64))
        index = torch.from_numpy(index).to(self.device) if isinstance(index, np.ndarray) else index
        return x.to(self.device, self.dtype), *_take((self.weight, self.y), index)

    @staticmethod
    def _batch(parts: tuple[Any, ...]) -> Batch:
        x, weight, y = parts
        return Batch(x, weight, y, not bool(torch.isnan(x).any()))


AnyRows: TypeAlias = Rows | StreamedRows
Given: TypeAlias = torch.Tensor | Batch | None  # what `batches` yields


def _join(old: Any, new: Any) -> Any:
    return None if old is None else torch.cat((old, new))


def _evenly(n_all: int, n_features: int, n_rows: int) -> slice:
    return slice(None, None, max(1, n_all // n_rows, n_all * n_features // SOME_VALUES))


def _many(n_all: int, n_features: int, n_rows: int) -> list[slice]:
    step = max(1, n_all // n_rows)
    length = step * max(1, SOME_VALUES // n_features)
    return [slice(start, start + length, step) for start in range(0, n_all, length)]
