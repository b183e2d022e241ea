"""Rows in memory and rows read from a file."""

import numpy as np
import pytest
import torch

from skvae import VAETransformer, _rows
from skvae._random import make_generator
from skvae._rows import Data, Rows, StreamedRows, load_rows
from skvae.likelihoods import Gaussian

CPU = torch.device("cpu")


@pytest.fixture
def mapped(tmp_path):
    """A file of 5,000 rows that count up, one cell missing."""
    X = np.memmap(tmp_path / "rows.dat", np.float64, "w+", shape=(5000, 3))
    X[:] = np.arange(15_000).reshape(5000, 3)
    X[7, 1] = np.nan
    return X


@pytest.fixture
def small_files(monkeypatch):
    """Make every file too large to copy, and its buffers small."""
    monkeypatch.setattr(_rows, "STREAM_BYTES", 0)
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 240)
    monkeypatch.setattr(_rows, "BUFFER_BYTES", 12_000)


def both(X, weight=None, y=None):
    args = (None, Gaussian().build(X), torch.float64, CPU)
    return load_rows(Data(np.array(X), weight, y), *args), load_rows(Data(X, weight, y), *args)


def test_only_large_files_are_streamed(mapped, monkeypatch):
    assert isinstance(both(mapped)[1], Rows)
    monkeypatch.setattr(_rows, "STREAM_BYTES", 1000)
    kept, streamed = both(mapped[10:])  # a view of a file is a file
    assert isinstance(kept, Rows)
    assert isinstance(streamed, StreamedRows)
    assert len(kept) == len(streamed) == 4990


def test_a_class_of_a_stream_must_count(mapped, small_files):
    y = np.arange(5000) % 3
    vae = VAETransformer(1, conditional=True, max_iter=1)
    with pytest.raises(ValueError, match="nothing but zeros for class 2; at least one row of each"):
        vae.fit(mapped, y, (y != 2) * 1.0)


@pytest.mark.parametrize("n_batches", [1, 7, 40])
def test_streams_give_the_same_rows_once_in_another_order(mapped, small_files, n_batches):
    weight = np.arange(5000) % 5 + 1.0
    kept, streamed = both(mapped, weight, np.arange(5000))
    for rows in (kept, streamed):
        batches = [rows.batch(given) for given in rows.batches(n_batches, make_generator(0))]
        assert len(batches) == n_batches
        sizes = [len(batch.x) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        x, w, y = (torch.cat([batch[i] for batch in batches]) for i in range(3))
        order = y.argsort()
        torch.testing.assert_close(x[order], kept.x, equal_nan=True)
        torch.testing.assert_close(w[order], kept.weight)
        assert sum(not batch.complete for batch in batches) == (1 if rows is streamed else n_batches)
        if n_batches > 1:
            assert abs(np.corrcoef(x[:, 0], np.arange(5000))[0, 1]) < 0.2  # shuffled all over the file


def test_orders_differ_by_seed(mapped, small_files):
    rows = both(mapped)[1]
    first, again, other = (next(iter(rows.batches(9, make_generator(seed))))[0] for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, equal_nan=True)
    assert not torch.equal(first, other)


def test_chunks_and_some(mapped, small_files):
    kept, streamed = both(mapped, np.arange(5000) + 1.0, np.arange(5000))
    for a, b in zip(kept.chunks(900), streamed.chunks(900), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1][:3], b[1][:3], equal_nan=True)
    torch.testing.assert_close(kept.some(100)[:3], streamed.some(100)[:3], equal_nan=True)


def test_fit_of_a_file(tmp_path, small_files, monkeypatch):
    read, reads = StreamedRows._read, []
    monkeypatch.setattr(StreamedRows, "_read", lambda self, index: reads.append(0) or read(self, index))
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(3_000, 2))
    data = Z @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(3_000, 5))
    X = np.memmap(tmp_path / "rows.dat", np.float32, "w+", shape=data.shape)
    X[:] = data
    vae = VAETransformer(2, hidden_layer_sizes=(32,), max_iter=3, random_state=0)
    streamed = vae.fit(X).score(data)
    n_reads = len(reads)
    assert n_reads > 3
    assert streamed == pytest.approx(vae.fit(np.array(X)).score(data), abs=0.3)
    assert len(reads) == n_reads
    assert vae.transform(X).dtype == np.float32


def test_some_of_long_rows_are_few(mapped, small_files, monkeypatch):
    monkeypatch.setattr(_rows, "SOME_VALUES", 3 * 500)
    for rows in both(mapped):
        assert len(rows.some(4000).x) == 500
        assert len(rows.some(100).x) == 100
        for n_rows in (4000, 100):
            many = list(rows.many(n_rows))
            torch.testing.assert_close(
                torch.cat([batch.x for batch in many]),
                torch.cat([b.x for _, b in rows.chunks(999)])[:: 5000 // n_rows],
                equal_nan=True,
            )
            assert max(batch.x.numel() for batch in many) <= 3 * 500
