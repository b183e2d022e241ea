"""Single values that users give, and the types that whole numbers have in NumPy, pandas and polars."""

import re
from datetime import date, datetime, timedelta
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._typing import Array

MAX_FLOAT = float(np.finfo(np.float64).max)
TRUE_FROM = 0.5  # numbers from here on are nearer to True than to False
EXACT_WHOLE = 2**53  # floats hold all whole numbers up to here
NARROW_FLOATS = {"float32": "f4", "float": "f4", "float16": "f2", "halffloat": "f2"}
NARROW_FLOAT = re.compile(r"(float32|float(?=\[)|float16|halffloat)(?:\[pyarrow\])?", re.IGNORECASE)
WHOLE_TYPE = re.compile(r"(u?)int(\d+)", re.IGNORECASE)  # of any library


def check_count(value: Any, name: str) -> None:
    """Raise unless a value is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Got {name}={value!r}; expected a whole number of at least 1.")


def family(kind: type) -> Any:
    """Return what values of a type may be compared with: text with text, numbers with numbers."""
    if issubclass(kind, (bool, np.bool_)):
        return bool
    if issubclass(kind, np.timedelta64):  # which looks like a number
        return kind
    bases = (str, bytes, Real, datetime, timedelta, date)  # a moment is a date to Python
    return next((base for base in bases if issubclass(kind, base)), kind)


def is_real(value: Any) -> bool:
    """Whether a single value is a real number; NumPy's durations only look like one."""
    return isinstance(value, Real) and not isinstance(value, np.timedelta64)


def unmask(X: Any) -> Any:
    """Return a masked array with NaN where it is masked; all else as it is."""
    if not isinstance(X, np.ma.MaskedArray):
        return X
    return np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)


def is_missing(value: Any) -> bool:
    """Whether a single value stands for a missing cell in any library; text never does."""
    return value is None or (not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"))


def limits_of(dtype: Any) -> tuple[float, float]:
    """Return the least and the largest whole number of a type of any library that a float can be."""
    match = WHOLE_TYPE.search(str(dtype))
    if match is None:  # Python's own in an object column
        return -np.inf, np.inf
    bits = int(match[2]) - (not match[1])
    largest = 2.0**bits - 1 if bits < 53 else np.nextafter(2.0**bits, 0.0)
    return 0.0 if match[1] else -(2.0**bits), float(largest)


def read_number(value: Any, dtype: Any, problem: str) -> float:
    """Return a given cell as a float, or raise if it is none of a type of whole numbers; None: of floats."""
    number: Any = float(value) if isinstance(value, (float, np.floating)) else value
    low, high = (-MAX_FLOAT, MAX_FLOAT) if dtype is None else limits_of(dtype)
    fits = is_real(value) and low <= number <= high
    if not fits or (dtype is not None and (number % 1 or abs(number) >= EXACT_WHOLE)):
        raise ValueError(problem)
    return float(number)


def as_held(mark: Any, dtype: Any) -> Any:
    """Return a number as a column of a narrower type of floats holds it."""
    found = NARROW_FLOAT.fullmatch(str(dtype))
    if not found:
        return mark
    with np.errstate(over="ignore"):
        return float(np.dtype(NARROW_FLOATS[found[1].lower()]).type(mark))


def round_whole(values: Array, dtype: Any) -> Array:
    """Return numbers as the nearest that a type of whole numbers has room for. NaN stays NaN."""
    return np.clip(np.rint(values), *limits_of(dtype))


def are_whole(values: Array, dtype: Any) -> bool:
    """Whether a type of whole numbers has room for all values but NaN."""
    seen = values[~np.isnan(values)]
    return bool((round_whole(seen, dtype) == seen).all())
