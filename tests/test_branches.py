"""Kernels on several streams: each after those that it needs, whatever the streams do meanwhile."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_replay import CASES, WAITS, fit
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from skvae import _branches, training
from skvae._branches import Branches


class Stream:
    """What a stream of a GPU promises: its tasks are done in order, and after those it has waited for."""

    def __init__(self):
        self.past = set()

    def record_event(self):
        return frozenset(self.past)

    def wait_event(self, event):
        self.past |= event

    def wait_stream(self, other):
        self.past |= other.past


class Watch(TorchDispatchMode):
    """Note on which stream kernels are launched, and fail where one may be early.

    What a kernel changes is told by the bytes in memory, not by its schema.
    """

    def __init__(self, n_streams):
        super().__init__()
        self.streams = [Stream() for _ in range(n_streams)]
        self.current = self.streams[0]
        self.n_tasks, self.used = 0, set()
        self.writer, self.readers, self.made, self.depth = {}, {}, [], {}

    @contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        before = {key_of(x): bytes_of(x).clone() for x in given}
        result = func(*args, **kwargs)
        out = [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
        changed = {key_of(x) for x in given if not torch.equal(bytes_of(x), before[key_of(x)])}
        new = {key_of(x) for x in out} - before.keys()
        if not new and not changed:
            return result  # shows memory in another way
        past, task = self.current.past, self.n_tasks
        reads = {self.writer[key] for key in before if key in self.writer}
        clashes = {reader for key in changed for reader in self.readers.get(key, ())}
        assert reads | clashes <= past, f"{func} is early"
        self.depth[task] = 1 + max((self.depth[i] for i in reads | clashes), default=0)
        past.add(task)
        self.n_tasks += 1
        self.used.add(self.streams.index(self.current))
        self.made += [StorageWeakRef(x.untyped_storage()) for x in out if key_of(x) in new]
        for key in before:
            self.readers.setdefault(key, []).append(task)
        for key in changed | new:
            self.writer[key], self.readers[key] = task, []
        return result

    def check(self):
        """Fail if a task is left out at the end."""
        assert self.streams[0].past == set(range(self.n_tasks))


def key_of(x):
    return x.untyped_storage()._cdata


def bytes_of(x):
    return torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())


def run(block, n_streams=4):
    """Run a block on streams; return its result and what was seen."""
    watch = Watch(n_streams)
    with watch, Branches(watch.streams, watch.on):
        result = block()
        assert not any(storage.expired() for storage in watch.made)
    watch.check()
    return result, watch


@pytest.mark.parametrize("case", [case for case in CASES if case not in WAITS])
def test_steps_launch_no_kernel_early(case, digits, monkeypatch):
    make, params = CASES[case]
    step, seen = training._Run.step, []

    def branched(self, *args):
        with torch.autograd.set_multithreading_enabled(False):
            result, watch = run(lambda: step(self, *args))
        seen.append(watch)
        return result

    params = {"max_iter": 3, "device": "cpu"} | params
    expected = fit(make(digits), **params).history_
    monkeypatch.setattr(training._Run, "make_step", lambda self: self.step)
    assert fit(make(digits), **params).history_ == expected
    monkeypatch.setattr(training._Run, "step", branched)
    assert fit(make(digits), **params).history_ == expected
    assert seen[0].used == {0, 1, 2, 3}
    assert max(seen[0].depth.values()) < 0.75 * seen[0].n_tasks


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["add", "sin_", "sum", "t", "add_", "copy_", "foreach", "out"]), max_size=40),
    st.integers(1, 5),
    st.randoms(),
)
def test_programs_launch_no_kernel_early(names, n_streams, random):
    steps = [(name, random.random(), random.random()) for name in names]
    x = torch.rand(4, 4)

    def block():
        known = [x.clone(), x + 1]
        for name, first, second in steps:
            a, b = (known[int(u * len(known))] for u in (first, second))
            match name:
                case "add" | "sum":
                    known.append(a + (b if name == "add" else b.sum(1, keepdim=True)))
                case "sin_":
                    a.sin_()
                case "t":
                    known.append(a.t()[::2].repeat(2, 1))
                    known.append(a.view(2, 8)[:, :4].repeat(2, 1))
                case "add_":
                    a.add_(b)
                case "copy_":
                    a[:2].copy_(b[2:].clone())
                case "foreach":
                    torch._foreach_mul_([a, b], 0.5)
                case "out":
                    torch.mul(a.clone(), b.clone(), out=a)
        return torch.stack(known).sum(0)

    result, _ = run(block, n_streams)
    torch.testing.assert_close(result, block(), rtol=0, atol=0, equal_nan=True)


def test_streams_meet_where_much_is_kept(monkeypatch):
    monkeypatch.setattr(_branches, "MOST_BYTES", 1000)
    x = torch.rand(100)

    def block():
        parts = [x]
        for _ in range(50):
            parts = [parts[-1].sin(), parts[-1].cos(), x.exp()]
        return torch.stack(parts).sum(0)

    watch = Watch(3)
    with watch, Branches(watch.streams, watch.on):
        result = block()
        assert sum(storage.expired() for storage in watch.made) > 100
    assert torch.equal(result, block())
    assert watch.used == {0, 1, 2}


def test_what_needs_nothing_of_each_other_is_beside_each_other():
    x, y = torch.rand(4) + 1, torch.rand(4) + 1

    def block():
        for _ in range(10):
            x.sin_()
            y.cos_()

    _, watch = run(block, 2)
    assert watch.used == {0, 1}
    assert max(watch.depth.values()) == 10
    assert max(map(len, (stream.past for stream in watch.streams[1:]))) == 10  # nobody waits


def test_an_error_leaves_no_stream_behind():
    watch, x = Watch(3), torch.rand(3)

    def block():
        with watch, Branches(watch.streams, watch.on):
            x.sin() + x.cos() + x.exp()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        block()
    watch.check()
    assert not torch.utils._python_dispatch._get_current_dispatch_mode()
