"""How torch computes, for a while: with how many threads, in what type, where, and with what tiny numbers."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

PART = 1 << 15  # numbers from which on torch gives a thread a part of its own

_process = os.getpid()
_lock = threading.Lock()
# Of this Python thread. outer: the count that the enclosing block set, or None; started: its pool's threads.
_here = threading.local()
_n_users = 0  # outermost blocks under way, in all Python threads
_n_before = 1  # what was set before the first of them


@contextmanager
def threads(n_threads: int | None = None) -> Iterator[None]:
    """Compute with at most so many threads in a block; None: as many as now.

    torch keeps the count by Python thread, and new ones inherit the last that was set anywhere, so
    each block of several at once puts back what was there before the first of them began.

    A forked child gets one: the thread pool did not come along, and waiting for it hangs.
    """
    global _n_users, _n_before
    if os.getpid() != _process:
        n_threads = 1
    if n_threads is None:
        yield
        return
    outer = getattr(_here, "outer", None)
    with _lock:
        if outer is None:
            if _n_users == 0:
                _n_before = torch.get_num_threads()
            _n_users += 1
        _here.outer = min(n_threads, outer or _n_before)
        torch.set_num_threads(_here.outer)
    try:
        yield
    finally:
        with _lock:
            _here.outer = outer
            if outer is None:
                _n_users -= 1
            torch.set_num_threads(outer or _n_before)


@contextmanager
def as_told() -> Iterator[None]:
    """Compute in the types of the numbers, and on the CPU unless told otherwise, whatever is set outside."""
    elsewhere = torch.empty(0).device.type != "cpu"  # which sees any way to set it
    with (
        torch.device("cpu") if elsewhere else nullcontext(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def tiny_as_zero() -> Iterator[None]:
    """Take numbers too small for full precision, below 1.2e-38 in float32, for zero in a block.

    Products with them take many times as long on most processors, and a penalty on weights leaves such ones
    where they have no use. It holds in this thread, not in those that help it, which start as it is and
    outlast the block.
    """
    _start_pool()
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _start_pool() -> None:
    """Let the threads start that help this one."""
    n_threads = 1 if os.getpid() != _process else torch.get_num_threads()
    if n_threads > getattr(_here, "started", 1):
        torch.empty(n_threads * PART).zero_()
        _here.started = n_threads
