"""Calls of torch's kernels as they are made: what a block of code computes, seen from below."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Place(NamedTuple):
    """A tensor in memory that a block made, which need not last."""

    key: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


class KernelMode(TorchDispatchMode):
    """What gets the calls of kernels in a block, those of backward passes too, in ``__torch_dispatch__``."""

    lock = threading.RLock()  # torch keeps in global variables that there is a mode

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Decline to be hidden from torch's compiler, which is slow to import and does not run here."""
        return False

    def __enter__(self) -> Any:
        """Begin to see kernels."""
        self.lock.acquire()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        """End it."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self.lock.release()


def tensors_in(x: Any) -> Iterator[Any]:
    """Yield the tensors, or their places, of what a kernel takes or returns."""
    if isinstance(x, (torch.Tensor, Place)):
        yield x
    elif isinstance(x, (list, tuple)):
        for part in x:
            yield from tensors_in(part)
    elif isinstance(x, dict):
        yield from tensors_in(list(x.values()))


def map_tensors(function: Callable[[Any], Any], x: Any) -> Any:
    """Replace the tensors, or their places, of what a kernel takes or returns."""
    if isinstance(x, (torch.Tensor, Place)):
        return function(x)
    if isinstance(x, (list, tuple)):
        return type(x)(map_tensors(function, part) for part in x)
    if isinstance(x, dict):
        return {key: map_tensors(function, part) for key, part in x.items()}
    return x


def key_of(x: Any) -> int:
    """Return what tells the memory that a tensor shows from all other that is in use."""
    key: int = x.key if isinstance(x, Place) else x.untyped_storage()._cdata
    return key


def keys_in(x: Any) -> set[int]:
    """Return the keys of all memory in what a kernel takes or returns."""
    return {key_of(tensor) for tensor in tensors_in(x)}


def changed_by(kernel: Any, args: Any, kwargs: Any) -> set[int]:
    """Return the keys of the memory that a call changes in place."""
    if not kernel._schema.is_mutable:
        return set()
    given = dict(zip((a.name for a in kernel._schema.arguments), args, strict=False)) | kwargs
    names = {a.name for a in kernel._schema.arguments if a.alias_info and a.alias_info.is_write}
    return keys_in([x for name, x in given.items() if name in names])
