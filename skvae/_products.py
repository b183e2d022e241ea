"""How exactly a GPU multiplies matrices, for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_n_users = 0  # blocks under way, in all Python threads
_before: list[str] | None = None  # what was set before the first of them; None: a choice that stays


@contextmanager
def tensor_float32() -> Iterator[None]:
    """Let CUDA round the factors of float32 products to TensorFloat-32 in a block: 10 bits of 23.

    The setting is that of the process. A choice that was made before, by whatever function of torch, stays.
    """
    global _n_users, _before
    with _lock:
        if _n_users == 0:
            _before = _read_defaults()
            if _before is not None:
                torch.set_float32_matmul_precision("high")
        _n_users += 1
    try:
        yield
    finally:
        with _lock:
            _n_users -= 1
            if _n_users == 0 and _before is not None:
                torch.set_float32_matmul_precision("highest")
                for backend, precision in zip(_backends(), _before, strict=True):
                    backend.fp32_precision = precision


def _backends() -> tuple[Any, ...]:
    """Return what holds the settings that `set_float32_matmul_precision` makes; nothing before torch 2.9."""
    backends: Any = torch.backends
    return (backends.cuda.matmul, backends.mkldnn.matmul) if hasattr(backends, "fp32_precision") else ()


def _read_defaults() -> list[str] | None:
    """Return the precision of each backend, or None if somebody has chosen one."""
    precisions = [backend.fp32_precision for backend in _backends()]
    if not precisions:
        return [] if torch.get_float32_matmul_precision() == "highest" else None
    return precisions if set(precisions) == {"none"} else None
