"""Values as JSON and named tensors, and back, without a line of code run that the data could choose.

A value is None, a bool, a number or a text as JSON has them, a list, or ``{kind: parts}`` of the closed
set of kinds below. An object is the name of its class and its attributes, which are put in place
without a call of its constructor; only classes that the reader was given are known by name.
"""

import datetime
import inspect
import math
import re
import types
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from . import _frames
from ._compat import callback_state
from ._typing import Array

Path: TypeAlias = tuple[str, ...]
Described: TypeAlias = tuple[str, Any]  # a kind and its parts

NUMPY_DTYPE = re.compile(r"[|<>]?(b1|[iu][1248]|f[248]|f16|c8|c16|[SU][1-9]\d{0,8}|[mM]8\[\d*[a-zA-Z]+\])")
TORCH_DTYPES = {  # those that all versions of safetensors know
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
MAX_CODE_POINT = 0x10FFFF  # beyond, NumPy's text is none
LISTED = {  # kinds whose parts are a list: what else can be gone through may be of any length
    *("tuple", "set", "slice", "dict", "objects", "scalar", "timedelta", "random_state", "partial"),
    *("tensor", "array"),
}
MODULE_ENTRIES = {"_parameters": nn.Parameter, "_buffers": torch.Tensor, "_modules": nn.Module}
MODULE_STATE = {*MODULE_ENTRIES, "training", "_non_persistent_buffers_set"}  # the rest of it are hooks


def name_of(thing: Any) -> str:
    """Return the name that a class or function is known by."""
    name = thing.__qualname__
    return f"torch.nn.{name}" if getattr(nn, name, None) is thing else f"{thing.__module__}.{name}"


class Writer:
    """Turn values into JSON data and named tensors.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Contiguous ones on the CPU, named after the attributes that led to them.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[int, str] = {}
        self._objects: dict[int, int] = {}
        self._kept: list[Any] = []  # all that has a number or name: its id must not be given again

    def write(self, value: Any, path: Path = ()) -> Any:
        """Return the JSON data of a value, which is found at `path` of the outermost one."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return hex_int(value) if kind is int and abs(value) >= 2**63 else value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return [self.write(item, (*path, str(i))) for i, item in enumerate(value)]
        if kind in (tuple, torch.Size):
            return {"tuple": self.write(list(value), path)}
        if kind in (dict, OrderedDict):
            return {"dict": [self._pair(i, key, item, path) for i, (key, item) in enumerate(value.items())]}
        if kind in (torch.Tensor, nn.Parameter):
            return {"tensor": self._tensor(value, path)}
        if kind is np.ndarray and value.dtype.kind != "O":
            return {"array": self._array(value, path)}
        described = _frames.describe(value) or _describe(value)
        if described is not None:
            return {described[0]: self.write(described[1], path)}
        return self._object(value, path)

    def _pair(self, i: int, key: Any, value: Any, path: Path) -> list[Any]:
        return [self.write(key, path), self.write(value, (*path, key if isinstance(key, str) else str(i)))]

    def _name(self, path: Path) -> str:
        """Return a new name for the tensor at a path, by which a reader of the file knows it."""
        base = ".".join(step for step in path if step not in MODULE_ENTRIES)
        name = base = base.encode("utf-8", "backslashreplace").decode()  # a key may be half a character
        while name in self.tensors:
            name = f"{base}~{len(self.tensors)}"
        return name

    def _tensor(self, tensor: torch.Tensor, path: Path) -> list[Any]:
        if id(tensor) not in self._names:
            if tensor.layout is not torch.strided or tensor.dtype not in TORCH_DTYPES:
                _refuse(tensor, path)
            name = self._names[id(tensor)] = self._name(path)
            # a copy: safetensors refuses tensors that share memory, as rows of one do
            self.tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            self._kept.append(tensor)
        is_parameter = isinstance(tensor, nn.Parameter)
        return [self._names[id(tensor)], is_parameter, tensor.requires_grad and is_parameter]

    def _array(self, array: Array, path: Path) -> list[Any]:
        if NUMPY_DTYPE.fullmatch(array.dtype.str) is None:
            _refuse(array, path)
        name = self._name(path)
        self.tensors[name] = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy())
        return [name, array.dtype.str, list(array.shape)]

    def _object(self, value: Any, path: Path) -> dict[str, Any]:
        if id(value) in self._objects:
            return {"same": self._objects[id(value)]}
        self._objects[id(value)] = len(self._objects)
        self._kept.append(value)
        state = {key: self.write(item, (*path, key)) for key, item in _state(value, path).items()}
        return {"object": [name_of(type(value)), state]}


class Reader:
    """Turn JSON data and named tensors into the values that they were made of.

    Parameters
    ----------
    tensors : dict of str to Tensor
    names : dict of str to class or function
        All that may be known by name.

    Attributes
    ----------
    objects : list
        All objects with a class of `names` that were read.
    """

    def __init__(self, tensors: dict[str, torch.Tensor], names: dict[str, Any]) -> None:
        self.objects: list[Any] = []
        self._tensors = tensors
        self._names = names
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "int": lambda text: int(text, 16),
            "float": float,
            "tuple": tuple,
            "set": set,
            "slice": lambda parts: slice(*parts),
            "dict": dict,
            "objects": _objects,
            "scalar": _scalar,
            "datetime": datetime.datetime.fromisoformat,
            "date": datetime.date.fromisoformat,
            "time": datetime.time.fromisoformat,
            "timedelta": lambda parts: datetime.timedelta(*parts),
            "decimal": Decimal,
            "bytes": bytes.fromhex,
            "numpy.dtype": _dtype,
            "torch.dtype": _torch_dtype,
            "torch.device": torch.device,
            "random_state": _random_state,
            "tensor": lambda parts: self._tensor(*parts),
            "array": lambda parts: self._array(*parts),
            "name": self._named,
            "partial": lambda parts: partial(parts[0], *parts[1], **parts[2]),
            "same": self._same,
        }

    def read(self, data: Any) -> Any:
        """Return the value of JSON data. Whatever is wrong with them raises an exception."""
        if isinstance(data, list):
            return [self.read(item) for item in data]
        if not isinstance(data, dict):
            return data
        [(kind, parts)] = data.items()
        if kind == "object":
            return self._object(*parts)
        parts = self.read(parts)
        if kind.startswith(("pandas.", "polars.")):
            return _frames.rebuild(kind, parts)
        if kind not in self._kinds:
            raise ValueError(f"it has a value of unknown kind {kind!r}")
        return self._kinds[kind](_frames.listed(parts) if kind in LISTED else parts)

    def _same(self, number: Any) -> Any:
        if type(number) is not int:
            raise ValueError(f"it has the object of number {number!r}")
        return self.objects[number]

    def _named(self, name: Any) -> Any:
        if not isinstance(name, str) or name not in self._names:
            name = name if isinstance(name, str) else type(name).__name__
            short = name.rpartition(".")[2]
            raise ValueError(
                f"it needs {name!r}, which is not part of skvae. If you know who made the file, import "
                f"{short} and pass trusted=({short},)"
            )
        return self._names[name]

    def _find(self, name: Any) -> torch.Tensor:
        if not isinstance(name, str) or name not in self._tensors:
            raise ValueError("it lacks a tensor that its parameters name")
        return self._tensors[name]

    def _tensor(self, name: Any, is_parameter: bool, requires_grad: bool) -> torch.Tensor:
        tensor = self._find(name)
        if is_parameter and not isinstance(tensor, nn.Parameter):
            tensor = self._tensors[name] = nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor

    def _array(self, name: Any, dtype: Any, shape: Any) -> Array:
        tensor, dtype = self._find(name), _dtype(dtype)
        del self._tensors[name]  # each is one array, or a few bytes would be many copies
        if tensor.dtype is not torch.uint8 or tensor.ndim != 1:
            raise ValueError(f"the array {name!r} is not one of bytes")
        data = tensor.numpy()
        if dtype.kind == "b":
            data = (data != 0).view(np.uint8)  # any other byte would be neither true nor false
        flat = data.view(dtype)
        if dtype.kind == "U" and (flat.view(dtype.byteorder + "u4") > MAX_CODE_POINT).any():
            raise ValueError(f"the array {name!r} is no text")
        return flat.reshape(_shape(shape, flat.size)).copy()

    def _object(self, name: Any, state: dict[str, Any]) -> Any:
        cls = self._named(name)
        value = object.__new__(cls)
        self.objects.append(value)
        state = {key: self.read(item) for key, item in state.items()}
        if any(key.startswith("__") or _is_method(cls, key) for key in state):
            raise ValueError(f"the state of {name} has what stands for a method")
        if isinstance(value, nn.Module):
            _check_module_state(state, name)
            nn.Module.__init__(value)
        elif isinstance(value, BaseEstimator):
            state = _defaults(cls) | state  # files of older releases lack the newest parameters
        restore = getattr(value, "__setstate__", vars(value).update)
        restore(state)
        return value


def hex_int(value: int) -> dict[str, str]:
    """Return an integer of any size: decimal text would take quadratic time, and Python bounds it."""
    return {"int": hex(value)}


def _describe(value: Any) -> Described | None:
    """Return the kind of a value and its parts, or None for objects with attributes."""
    kind: Any = type(value)
    is_known: Any
    if isinstance(value, np.ndarray):
        return ("objects", [list(value.shape), value.ravel().tolist()]) if kind is np.ndarray else None
    if isinstance(value, np.generic):
        value = np.asarray(value)
        is_known = NUMPY_DTYPE.fullmatch(value.dtype.str)
        return ("scalar", [value.dtype.str, value.tobytes().hex()]) if is_known else None
    if isinstance(value, np.dtype):
        is_known = value.str == "|O" or NUMPY_DTYPE.fullmatch(value.str)
        return ("numpy.dtype", value.str) if is_known else None
    if kind is np.random.RandomState:
        return _describe_random_state(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        is_known = value.__module__ and "<lambda>" not in value.__qualname__
        return ("name", name_of(value)) if is_known else None
    if kind in (datetime.datetime, datetime.time) and type(value.tzinfo) not in (
        type(None),
        datetime.timezone,
    ):
        return None
    return PLAIN[kind](value) if kind in PLAIN else None


PLAIN: dict[type, Callable[[Any], Described]] = {
    set: lambda v: ("set", sorted(v, key=repr)),
    slice: lambda v: ("slice", [v.start, v.stop, v.step]),
    datetime.datetime: lambda v: ("datetime", v.isoformat()),
    datetime.date: lambda v: ("date", v.isoformat()),
    datetime.time: lambda v: ("time", v.isoformat()),
    datetime.timedelta: lambda v: ("timedelta", [v.days, v.seconds, v.microseconds]),
    Decimal: lambda v: ("decimal", str(v)),
    bytes: lambda v: ("bytes", v.hex()),
    torch.dtype: lambda v: ("torch.dtype", str(v).removeprefix("torch.")),
    torch.device: lambda v: ("torch.device", str(v)),
    partial: lambda v: ("partial", [v.func, list(v.args), v.keywords]),
}


def _state(value: Any, path: Path) -> dict[str, Any]:
    """Return the attributes of an object that are written, or raise if that would not be all of it."""
    cls: Any = type(value)
    plain = cls.__new__ is object.__new__ and cls.__reduce__ is object.__reduce__
    state = value.__getstate__() if plain and cls.__reduce_ex__ is object.__reduce_ex__ else None
    if not isinstance(state, dict):
        _refuse(value, path)
    if isinstance(value, nn.Module):
        fresh = vars(nn.Module())
        state = {key: item for key, item in state.items() if key not in fresh or item != fresh[key]}
        if any(key in fresh and key not in MODULE_STATE for key in state):
            raise ValueError(f"Got {cls.__name__} with hooks at {_at(path)}; remove them to save it.")
    elif isinstance(value, BaseEstimator):
        state = {key: item for key, item in state.items() if key not in callback_state(value)}
    return state


def _refuse(value: Any, path: Path) -> NoReturn:
    text = repr(value)
    raise ValueError(
        f"Got {text[:80]!s}{'...' * (len(text) > 80)} of type {name_of(type(value))} at {_at(path)}, which "
        "cannot be saved; expected numbers, text, arrays, tensors and objects of them. For a function, "
        "define it by name in a module."
    )


def _at(path: Path) -> str:
    return repr(".".join(path)) if path else "the top"


def _is_method(cls: type, name: str) -> bool:
    return inspect.isroutine(inspect.getattr_static(cls, name, None))


def _check_module_state(state: dict[str, Any], name: str) -> None:
    """Raise unless a module's own dictionaries hold what they should."""
    hooks = [key for key in vars(nn.Module()) if key in state and key not in MODULE_STATE]
    for key, kind in MODULE_ENTRIES.items():
        entries = state.get(key, {})
        fine = isinstance(entries, dict) and all(isinstance(entry, str) for entry in entries)
        if hooks or not fine or not all(v is None or isinstance(v, kind) for v in entries.values()):
            raise ValueError(f"the state of {name} is none of a module")


def _defaults(cls: Any) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _shape(shape: Any, size: int) -> tuple[int, ...]:
    """Return a shape as a tuple, or raise if it does not hold `size` values."""
    shape = tuple(_frames.listed(shape))
    if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32 or math.prod(shape) != size:
        raise ValueError(f"the shape {shape!r} does not hold {size} values")
    return shape


def _objects(parts: Any) -> Array:
    shape, items = parts[0], _frames.listed(parts[1])
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # one by one: items that are lists are no axes
        array[i] = item
    return array.reshape(_shape(shape, len(items)))


def _scalar(parts: Any) -> Any:
    dtype, data = _dtype(parts[0]), bytes.fromhex(parts[1])
    if dtype.kind == "O" or len(data) != dtype.itemsize:  # its bytes would be taken for an address
        raise ValueError(f"it has a number of {len(data)} bytes and type {parts[0]!r}")
    return np.ndarray((), dtype, data)[()]


def _dtype(text: str) -> np.dtype[Any]:
    if text != "|O" and NUMPY_DTYPE.fullmatch(text) is None:
        raise ValueError(f"the type {text!r} of NumPy is not known")
    return np.dtype(text)


def _torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"the type {name!r} of torch is not known")  # noqa: TRY004 -- of a file
    return dtype


def _describe_random_state(value: np.random.RandomState) -> Described | None:
    state = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        return None
    return "random_state", [state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]]


def _random_state(parts: Any) -> np.random.RandomState:
    key, position, has_gauss, gauss = parts
    if key.shape != (624,) or key.dtype != np.uint32 or not 0 <= position <= 624:
        raise ValueError("the state of a RandomState is none")  # NumPy would read beyond its memory
    value = np.random.RandomState(0)
    value.set_state(("MT19937", key, int(position), int(has_gauss), float(gauss)))
    return value
