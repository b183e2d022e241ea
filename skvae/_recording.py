"""Calls of a CPU's kernels, recorded once and made again: no Python, no autograd, no allocation between."""

from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from ._kernels import KernelMode, Place, changed_by, key_of, keys_in, map_tensors, tensors_in

Made: TypeAlias = tuple[Callable[..., Any], Any, Any]  # what to call, and with what

MOST_BYTES = 1 << 25  # that a block may compute: kernels on larger arrays take far longer than calling them
ALIGNMENT = 64  # bytes, as of all memory that torch makes
EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
LAYOUT = {"dtype", "layout", "device", "pin_memory"}  # what a tensor tells that a kernel writes into


def _clamp(x: torch.Tensor, low: float = -1.0, high: float = 1.0, *, out: torch.Tensor) -> torch.Tensor:
    """Do what `hardtanh` does, its defaults included, by a function that is called faster."""
    return torch.clamp(x, low, high, out=out)


# Kernels that have functions with the same arguments, which call them in half the time.
DIRECT = {
    getattr(torch.ops.aten, name).out: getattr(torch, name)
    for name in (
        *("abs", "add", "addcmul", "addmm", "amax", "bmm", "cat", "div", "exp", "hypot", "index_select"),
        *("log", "mm", "mul", "neg", "stack", "sub"),
    )
}
DIRECT |= {
    getattr(torch.ops.aten, name).Tensor: getattr(torch.Tensor, name)
    for name in ("add_", "copysign_", "div_", "mul_", "sub_")
}
DIRECT |= {getattr(torch.ops.aten, name).default: getattr(torch, name) for name in ("exp_", "log_", "relu_")}
DIRECT[torch.ops.aten.hardtanh.out] = _clamp
DIRECT[torch.ops.aten.linalg_vector_norm.out] = torch.linalg.vector_norm
DIRECT[torch.ops.aten.randn.generator_out] = torch.randn
DIRECT[torch.ops.aten.sum.IntList_out] = torch.sum
# Kernels of which the second argument may be a number, and what takes a tensor in its place.
ARITHMETIC = {
    kernel: kernel
    for name in ("add", "div", "mul", "sub")
    for kernel in (getattr(torch.ops.aten, name).Tensor, getattr(torch.ops.aten, name + "_").Tensor)
}
ARITHMETIC[torch.ops.aten.mul.Scalar] = torch.ops.aten.mul.Tensor
ARITHMETIC[torch.ops.aten.rsub.Scalar] = torch.ops.aten.sub.Tensor
SIZES_FROM_NUMBERS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Call(NamedTuple):
    """A call of a kernel: tensors that were there, and places of those that were made."""

    kernel: Any
    args: Any
    kwargs: Any
    result: Any

    @property
    def inputs(self) -> set[int]:
        """Keys of the memory that the call is given."""
        return keys_in((self.args, self.kwargs))

    @property
    def memory(self) -> set[int]:
        """Keys of all memory that the call has to do with."""
        return keys_in(self[1:])

    @property
    def changed(self) -> set[int]:
        """Keys of the memory that the call changes in place."""
        return changed_by(self.kernel, self.args, self.kwargs)

    @property
    def is_pure(self) -> bool:
        """Whether the result depends on what is given alone, and nothing else changes."""
        return not (self.kernel._schema.is_mutable or torch.Tag.nondeterministic_seeded in self.kernel.tags)

    @property
    def is_empty(self) -> bool:
        """Whether the result may be anything."""
        return self.kernel.overloadpacket.__name__ in EMPTY


class Recording(KernelMode):
    """What a block of code computes on a CPU, to be computed again.

    Within ``with recording:`` all calls of kernels are noted, those of backward passes as well.
    `replay` makes them again: the same kernels, in the same order, on the memory that the block found,
    and on memory set aside for what it made. What nothing reads any more makes room for what comes later.

    As with a CUDA graph, what is not in tensors is what it was when the block was recorded, and
    what the block found must stay where it is. What the block reads by `tolist` or `numpy` goes unseen.

    Parameters
    ----------
    memory : UntypedStorage or None, default=None
        That of another recording, which is not replayed at the same time, to be shared if it is large enough.
    fixed : sequence of Tensor, default=()
        What the block finds the same each time: what follows from them alone is computed once.

    Attributes
    ----------
    memory : UntypedStorage
        Where a replay has what it makes but does not leave behind.
    is_whole : bool
        Whether all of it can be computed again. That is not so for a block which reads numbers by
        `item`, makes arrays of sizes that depend on numbers, or makes more than `MOST_BYTES`.
    """

    def __init__(
        self, memory: torch.UntypedStorage | None = None, fixed: Sequence[torch.Tensor] = ()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fixed = keys_in(fixed)
        self.memory = torch.UntypedStorage(0) if memory is None else memory
        self.is_whole = True
        self.calls: list[Call] = []
        self.sizes: dict[int, int] = {}  # bytes of what the block made, by the key of the memory
        self.n_bytes = 0  # of all of it
        self.kept: list[StorageWeakRef] = []  # by which a key is of no other memory, though this may be gone
        self.plan: list[Made] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make a call and note it, unless it only shows memory in another way."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.is_whole and torch.Tag.inplace_view not in func.tags:
            if func is torch.ops.aten.lift_fresh.default:  # numbers that Python gave
                func, args = torch.ops.aten.clone.default, (args[0].clone(),)
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        known = {key_of(x) for x in tensors_in((args, kwargs))}
        storages = {key_of(x): x.untyped_storage() for x in tensors_in((args, kwargs, result))}
        new = {key_of(x) for x in tensors_in(result)} - known
        self.kept += [StorageWeakRef(storages[key]) for key in new]
        sizes = {key: x.nbytes() for key, x in storages.items() if key in new or key in self.sizes}
        self.n_bytes += sum(size - self.sizes.get(key, 0) for key, size in sizes.items())
        self.sizes |= sizes
        changes = func._schema.is_mutable
        if changes or new:
            self.calls.append(Call(func, *(map_tensors(self._show, part) for part in (args, kwargs, result))))
        turned = any(x.is_conj() or x.is_neg() for x in tensors_in((args, kwargs)))  # when it is read
        if _decides(func, args) or (changes and new) or turned or self.n_bytes > MOST_BYTES:
            self.is_whole = False
            self.calls, self.sizes, self.kept = [], {}, []

    def _show(self, x: torch.Tensor) -> Any:
        """Return a tensor as it is now: other kernels may give it another shape."""
        key = key_of(x)
        if key not in self.sizes:
            return x.detach()
        return Place(key, x.dtype, x.shape, x.stride(), int(x.storage_offset()))

    def finish(self, result: torch.Tensor) -> torch.Tensor:
        """Set memory aside, and return where a replay will leave what the block had for its result."""
        shown = self._show(result)
        constant = self._find_constants()
        lasting = {
            key: torch.UntypedStorage(self.sizes[key])
            for key in constant | (keys_in(shown) & self.sizes.keys())
        }
        starts, n_bytes = self._arrange(lasting.keys())
        if self.memory.nbytes() < n_bytes:
            self.memory = torch.UntypedStorage(n_bytes)

        def put(x: Any) -> torch.Tensor:
            if not isinstance(x, Place):
                return x
            start = starts.get(x.key, 0) // x.dtype.itemsize
            memory = lasting.get(x.key, self.memory)
            return torch.empty(0, dtype=x.dtype).set_(memory, start + x.offset, x.shape, x.stride)

        for call in self.calls:
            function, args, kwargs = _plan(call.kernel, *(map_tensors(put, part) for part in call[1:]))
            if call.is_pure and keys_in(call.result) <= constant:
                function(*args, **kwargs)
            elif not call.is_empty:
                self.plan.append((function, args, kwargs))
        self.calls, self.kept = [], []
        return put(shown)

    def _arrange(self, lasting: Set[int]) -> tuple[dict[int, int], int]:
        """Return where in memory each key but the lasting ones begins, in bytes, and how many there are."""
        last = {key: i for i, call in enumerate(self.calls) for key in call.memory}
        sizes = {
            key: -(-size // ALIGNMENT) * ALIGNMENT for key, size in self.sizes.items() if key not in lasting
        }
        free: dict[int, list[int]] = defaultdict(list)
        starts: dict[int, int] = {}
        end = 0
        for i, call in enumerate(self.calls):
            keys = call.memory & sizes.keys()
            for key in keys - starts.keys():
                if free[sizes[key]]:
                    starts[key] = free[sizes[key]].pop()
                else:
                    starts[key], end = end, end + sizes[key]
            for key in keys:  # only now, as a call may not write where it reads
                if last[key] == i:
                    free[sizes[key]].append(starts[key])
        return starts, end

    def _find_constants(self) -> set[int]:
        """Return the keys of what is the same each time."""
        changed = set[int]().union(*(call.changed for call in self.calls))
        constant: set[int] = set()
        for call in self.calls:
            results = keys_in(call.result)
            follows = call.inputs <= constant | (self.fixed - changed)
            if call.is_pure and not call.is_empty and follows and not results & changed:
                constant |= results
        return constant

    def replay(self) -> None:
        """Compute all of it again."""
        with torch.inference_mode():
            for function, args, kwargs in self.plan:
                function(*args, **kwargs)


def _plan(kernel: Any, args: Any, kwargs: Any, result: Any) -> Made:
    """Return what to call so that what a kernel returned is where it was returned before."""
    kernel, args = _with_tensors(kernel, args)
    if kernel._schema.is_mutable:
        return DIRECT.get(kernel, kernel._op), args, kwargs
    results = result if isinstance(result, tuple) else (result,)
    writing, names = _writing(kernel)
    if names and all(x is not None for x in results):
        known = {argument.name for argument in writing._schema.arguments}
        kwargs = {name: x for name, x in kwargs.items() if name in known}
        return DIRECT.get(writing, writing._op), args, kwargs | dict(zip(names, results, strict=True))

    def copy(*args: Any, **kwargs: Any) -> None:
        for own, new in zip(tensors_in(result), tensors_in(kernel._op(*args, **kwargs)), strict=True):
            own.copy_(new)

    return copy, args, kwargs


def _with_tensors(kernel: Any, args: Any) -> tuple[Any, Any]:
    """Put a tensor in the place of a number, which would be made into one each time: the same arithmetic."""
    if kernel not in ARITHMETIC or len(args) != 2 or not isinstance(args[1], (int, float)):
        return kernel, args
    first, number = args
    if first.dtype not in (torch.float32, torch.float64):  # numbers beside shorter ones keep their digits
        return kernel, args
    number = torch.tensor(number, dtype=first.dtype)
    args = (number, first) if kernel is torch.ops.aten.rsub.Scalar else (first, number)
    return ARITHMETIC[kernel], args


@cache
def _writing(kernel: Any) -> tuple[Any, list[str]]:
    """Return the form of a kernel that writes into given tensors, and their names; none if there is none."""

    def inputs(form: Any) -> list[tuple[str, str]]:
        arguments = [(a.name, str(a.type)) for a in form._schema.arguments if not a.is_out]
        return [argument for argument in arguments if argument[0] not in LAYOUT]

    packet = kernel.overloadpacket
    for form in (getattr(packet, name) for name in packet.overloads()):
        names = [a.name for a in form._schema.arguments if a.is_out]
        if len(names) == len(kernel._schema.returns) and inputs(form) == inputs(kernel):
            return form, names
    return kernel, []


def _decides(kernel: Any, args: Any) -> bool:
    """Tell whether numbers may decide what Python does next, or how large a result is."""
    if kernel is torch.ops.aten.index.Tensor:  # by places, or by masks
        return any(x.dtype in (torch.bool, torch.uint8) for x in tensors_in(args[1]))
    return not SIZES_FROM_NUMBERS.isdisjoint(kernel.tags)
