"""Training rows: standardised once and kept on the device, or read block by block from a file."""

import numpy as np
import torch

from ._arrays import row_chunks

STREAM_BYTES = 1 << 30  # a memory-mapped array whose copy would take more is read as it is needed
BLOCK_BYTES = 1 << 17  # rows that are read in one go from a file
BUFFER_BYTES = 1 << 26  # rows that are shuffled among each other


def load_rows(X, index, weight, likelihood, dtype, device):
    """Return `Rows` of X, or `StreamedRows` if it is a file too large to copy.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        In the units of the data.
    index : ndarray of int or None
        Which rows to take, ascending; None takes all.
    weight : ndarray of shape (n_rows,) or None
    likelihood : ObservationModel
        Standardises, in float64.
    dtype : torch.dtype
    device : torch.device
    """
    if weight is not None:
        weight = weight if index is None else weight[index]
        weight = torch.tensor(weight / weight.mean(), dtype=dtype, device=device)
    if is_streamed(X, dtype.itemsize):
        return StreamedRows(X, index, weight, likelihood, dtype, device)
    n_rows = len(X) if index is None else len(index)
    x = torch.empty((n_rows, X.shape[1]), dtype=dtype, device=device)
    complete = True
    for part in row_chunks(*x.shape):
        chunk = X[part] if index is None else X[index[part]]
        chunk = likelihood.standardize(torch.tensor(chunk, dtype=torch.float64))
        complete = complete and not bool(torch.isnan(chunk).any())
        x[part] = chunk
    return Rows(x, weight, complete)


def is_streamed(X, itemsize=4):
    """Whether an array is a view of a memory-mapped file too large to copy."""
    return X.size * itemsize > STREAM_BYTES and is_mapped(X)


def is_mapped(X):
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
    complete : bool
        True if no cell is missing.
    """

    def __init__(self, x, weight, complete):
        self.x, self.weight, self.complete = x, weight, complete
        self.dtype, self.device = x.dtype, x.device

    def __len__(self):
        return len(self.x)

    def batches(self, n_batches, generator):
        """Yield (x, weight, complete) of shuffled rows in equal batches; one batch is not shuffled."""
        if n_batches == 1:
            yield self.x, self.weight, self.complete
            return
        order = torch.randperm(len(self), generator=generator, device=self.device)
        for index in torch.tensor_split(order, n_batches):
            weight = None if self.weight is None else self.weight.index_select(0, index)
            yield self.x.index_select(0, index), weight, self.complete

    def chunks(self, n_rows):
        """Yield (slice, x, weight, complete) in order, `n_rows` rows at a time."""
        for start in range(0, len(self), n_rows):
            part = slice(start, start + n_rows)
            yield part, self.x[part], None if self.weight is None else self.weight[part], self.complete

    def some(self, n_rows):
        """Return about `n_rows` rows evenly spaced, and their weights."""
        step = max(1, len(self) // n_rows)
        return self.x[::step], None if self.weight is None else self.weight[::step]


class StreamedRows:
    """Rows that stay in a memory-mapped file: the same methods as `Rows`, bounded memory.

    Blocks of neighbouring rows are read in random order, some hundred blocks at a time, and
    shuffled together: close to a full shuffle, at the speed of a sequential read.
    """

    def __init__(self, X, index, weight, likelihood, dtype, device):
        self.X, self.index, self.weight, self.likelihood = X, index, weight, likelihood
        self.dtype, self.device = dtype, device

    def __len__(self):
        return len(self.X) if self.index is None else len(self.index)

    def batches(self, n_batches, generator):
        """Yield (x, weight, complete) of shuffled rows in about equal batches."""
        row_bytes = self.X.shape[1] * self.dtype.itemsize
        block = max(1, BLOCK_BYTES // row_bytes)
        per_buffer = max(1, BUFFER_BYTES // (block * row_bytes))
        size = len(self) // n_batches  # the last batch takes the rest
        order = torch.randperm(-(-len(self) // block), generator=generator, device=self.device).cpu()
        x, weight, n_left = None, None, n_batches
        for blocks in order.split(per_buffer):
            index = (blocks.sort().values[:, None] * block + torch.arange(block)).flatten()
            index = index[index < len(self)]
            new, new_weight = self._read(index.numpy())
            shuffle = torch.randperm(len(new), generator=generator, device=self.device)
            new, new_weight = new[shuffle], None if new_weight is None else new_weight[shuffle]
            x = new if x is None else torch.cat((x, new))
            weight = new_weight if weight is None else torch.cat((weight, new_weight))
            while n_left > 1 and len(x) >= size:
                yield self._batch(x[:size], None if weight is None else weight[:size])
                x, weight = x[size:], None if weight is None else weight[size:]
                n_left -= 1
        yield self._batch(x, weight)

    def chunks(self, n_rows):
        """Yield (slice, x, weight, complete) in order, `n_rows` rows at a time."""
        for start in range(0, len(self), n_rows):
            part = slice(start, start + n_rows)
            yield part, *self._batch(*self._read(part))

    def some(self, n_rows):
        """Return about `n_rows` rows evenly spaced, and their weights."""
        return self._read(slice(None, None, max(1, len(self) // n_rows)))

    def _read(self, index):
        x = self.X[index if self.index is None else self.index[index]]
        x = self.likelihood.standardize(torch.tensor(x, dtype=torch.float64))
        weight = None
        if self.weight is not None:
            weight = self.weight[torch.from_numpy(index) if isinstance(index, np.ndarray) else index]
        return x.to(self.device, self.dtype), weight

    @staticmethod
    def _batch(x, weight):
        return x, weight, not bool(torch.isnan(x).any())
