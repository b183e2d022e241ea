"""How many threads torch may use, for a while."""

import os
from contextlib import contextmanager

import torch

_process = os.getpid()


@contextmanager
def threads(n_threads=None):
    """Compute with at most so many threads in a block; None: as many as now.

    A forked child gets one: the thread pool did not come along, and waiting for it hangs.
    """
    before = torch.get_num_threads()
    if os.getpid() != _process:
        n_threads = 1
    if n_threads is not None:
        torch.set_num_threads(min(n_threads, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
