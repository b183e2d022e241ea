"""Labels and types of pandas and polars, taken apart into plain values and put together again."""

import re
from datetime import timedelta, timezone, tzinfo
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

PANDAS_DTYPE = re.compile(
    r"str|string|boolean|U?Int(?:8|16|32|64)|Float(?:32|64)"
    r"|datetime64\[(?P<unit>s|ms|us|ns), (?P<zone>[\w+/:-]+)\]"
)
ARROW_DTYPE = re.compile(
    r"u?int(?:8|16|32|64)|halffloat|float|double|bool|string|large_string|null|date32\[day\]|date64\[ms\]"
    r"|duration\[(?:s|ms|us|ns)\]|timestamp\[(?:s|ms|us|ns)(?:, tz=(?P<zone>[\w+/:-]+))?\]"
)
ARROW_CATEGORIES = re.compile(r"dictionary<values=(\w+), indices=(u?int(?:8|16|32|64)), ordered=([01])>")
FIXED_ZONE = re.compile(r"(?:UTC)?(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):(?P<minutes>[0-5]\d)")
MAX_RANGE = 10_000_000  # labels of an index that only counts
INDEX_KINDS = "biufmMO"  # NumPy types of labels; others could claim any amount of memory
POLARS_DTYPES = {
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *(
        "Int128",
        "UInt128",
        "Float16",
        "Float32",
        "Float64",
        "Boolean",
        "String",
        "Categorical",
        "Date",
        "Time",
        "Null",
    ),
}


def describe(value: Any) -> tuple[str, Any] | None:
    """Return the kind of a label, an index or a type, and its parts; None if it is of no known kind.

    The parts are plain values, types of NumPy or things that have parts of their own.
    """
    library = (value if isinstance(value, type) else type(value)).__module__.partition(".")[0]
    if library == "pandas":
        return _describe_pandas(value, import_module("pandas"))
    if library == "polars":
        return _describe_polars(value, import_module("polars"))
    return None


def rebuild(kind: str, parts: Any) -> Any:
    """Return what `describe` took apart; raise ValueError for parts that it would not have given."""
    library, _, name = kind.partition(".")
    return (_rebuild_pandas if library == "pandas" else _rebuild_polars)(name, parts, import_module(library))


def _describe_pandas(value: Any, pandas: Any) -> tuple[str, Any] | None:
    if value is pandas.NA or value is pandas.NaT:
        return "pandas.missing", str(value)
    if isinstance(value, pandas.Timestamp):
        moment = value if value.tz is None else value.tz_convert("UTC").tz_localize(None)
        return "pandas.Timestamp", [int(moment.asm8.astype("int64")), value.unit, _zone_name(value.tz)]
    if isinstance(value, pandas.Timedelta):
        return "pandas.Timedelta", [int(value.asm8.astype("int64")), value.unit]
    if isinstance(value, pandas.RangeIndex):
        return "pandas.RangeIndex", [value.start, value.stop, value.step, value.name]
    if isinstance(value, pandas.MultiIndex):
        return "pandas.MultiIndex", [value.tolist(), list(value.names)]
    if isinstance(value, pandas.Interval):
        return "pandas.Interval", [value.left, value.right, value.closed]
    if isinstance(value, pandas.Period):
        return "pandas.Period", [value.ordinal, value.freqstr]
    if isinstance(value, pandas.IntervalIndex):
        return "pandas.IntervalIndex", [value.left, value.right, value.closed, value.name]
    if isinstance(value, pandas.PeriodIndex):
        return "pandas.PeriodIndex", [value.asi8.tolist(), value.freqstr, value.name]
    if isinstance(value, pandas.Index):
        return "pandas.Index", [value.tolist(), value.dtype, value.name]
    if isinstance(value, pandas.StringDtype):
        return "pandas.StringDtype", [value.storage, value.na_value is pandas.NA]
    if isinstance(value, pandas.CategoricalDtype):
        return "pandas.CategoricalDtype", [value.categories, value.ordered]
    if isinstance(value, pandas.SparseDtype):
        return "pandas.SparseDtype", [value.subtype, value.fill_value]
    if isinstance(value, pandas.ArrowDtype):
        text = str(value.pyarrow_dtype)
        match = ARROW_CATEGORIES.fullmatch(text)
        return ("pandas.ArrowDtype", text) if ARROW_DTYPE.fullmatch(match[1] if match else text) else None
    if isinstance(value, pandas.api.extensions.ExtensionDtype) and PANDAS_DTYPE.fullmatch(str(value)):
        return "pandas.dtype", str(value)
    return None


def _rebuild_pandas(name: str, parts: Any, pandas: Any) -> Any:
    if name == "missing":
        return {"<NA>": pandas.NA, "NaT": pandas.NaT}[parts]
    if name == "Timestamp":
        count, unit, zone = parts
        moment = pandas.Timestamp(_moment("datetime64", count, unit))
        return moment if zone is None else moment.tz_localize("UTC").tz_convert(str(_zone(zone)))
    if name == "Timedelta":
        return pandas.Timedelta(_moment("timedelta64", *parts))
    if name == "RangeIndex":
        index = pandas.RangeIndex(*parts[:3], name=parts[3])
        if len(index) > MAX_RANGE:
            raise ValueError(f"a range of {len(index)} labels is too long")
        return index
    if name == "MultiIndex":
        return pandas.MultiIndex.from_tuples(listed(parts[0]), names=listed(parts[1]))
    if name in ("CategoricalDtype", "SparseDtype"):
        return getattr(pandas, name)(*parts)
    if name == "StringDtype":
        return _string_dtype(parts[0], parts[1], pandas)
    if name == "ArrowDtype":
        return _arrow_dtype(parts, pandas)
    if name == "Interval":
        return pandas.Interval(*parts)
    if name == "IntervalIndex":
        if any(isinstance(side, pandas.RangeIndex) for side in parts[:2]):
            raise ValueError("the sides of intervals are no range")
        return pandas.IntervalIndex.from_arrays(*parts)
    if name == "Period":
        return pandas.Period(ordinal=parts[0], freq=_text(parts[1]))
    if name == "PeriodIndex":
        return pandas.PeriodIndex.from_ordinals(listed(parts[0]), freq=_text(parts[1]), name=parts[2])
    if name == "dtype":
        return _pandas_dtype(parts, pandas)
    if name != "Index":
        raise ValueError(f"pandas.{name} is not known")
    labels, dtype, name = parts
    if getattr(dtype, "kind", "O") not in INDEX_KINDS:
        raise ValueError(f"an index of {dtype!r} is not known")
    return pandas.Index(listed(labels), dtype=dtype, name=name, tupleize_cols=False)


def listed(parts: Any) -> list[Any]:
    """Return a list as it is; raise ValueError for anything else, as a range of any length is a few bytes."""
    if not isinstance(parts, list):
        raise ValueError(f"it has a {type(parts).__name__} in place of a list")  # noqa: TRY004 -- of a file
    return parts


def _string_dtype(storage: Any, nullable: Any, pandas: Any) -> Any:
    if storage not in ("python", "pyarrow") or not isinstance(nullable, bool):
        raise ValueError(f"text held by {storage!r} is not known")
    if not nullable and int(pandas.__version__.split(".")[0]) < 3:  # which takes objects for it
        return np.dtype(object)
    missing = {} if nullable else {"na_value": np.nan}
    try:
        return pandas.StringDtype(storage, **missing)
    except ImportError:  # without pyarrow
        return pandas.StringDtype("python", **missing)


def _arrow_dtype(text: str, pandas: Any) -> Any:
    categories = ARROW_CATEGORIES.fullmatch(text)
    if categories:
        values, index = (_arrow_dtype(part, pandas).pyarrow_dtype for part in categories.groups()[:2])
        ordered = categories[3] == "1"
        return pandas.ArrowDtype(import_module("pyarrow").dictionary(index, values, ordered))
    match = ARROW_DTYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"the type {text!r} of pyarrow is not known")
    if match["zone"]:
        _zone(match["zone"])
    if text == "string":  # pandas takes this name for its own type
        return pandas.ArrowDtype(import_module("pyarrow").string())
    return pandas.api.types.pandas_dtype(f"{text}[pyarrow]")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the frequency {value!r} is no text")  # noqa: TRY004 -- of a file
    return value


def _pandas_dtype(text: str, pandas: Any) -> Any:
    match = PANDAS_DTYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"the type {text!r} of pandas is not known")
    if match["zone"]:
        return pandas.DatetimeTZDtype(match["unit"], str(_zone(match["zone"])))  # in pandas' own kind of zone
    if text == "str" and int(pandas.__version__.split(".")[0]) < 3:  # which has no such type
        return np.dtype(object)
    return pandas.api.types.pandas_dtype(text)


def _describe_polars(value: Any, polars: Any) -> tuple[str, Any] | None:
    cls = value if isinstance(value, type) else type(value)
    if cls.__name__ in POLARS_DTYPES and getattr(polars, cls.__name__, None) is cls:
        return "polars." + cls.__name__, []
    if isinstance(value, polars.Enum):
        return "polars.Enum", [value.categories.to_list()]
    if isinstance(value, polars.Datetime):
        return "polars.Datetime", [value.time_unit, value.time_zone]
    if isinstance(value, polars.Duration):
        return "polars.Duration", [value.time_unit]
    return None


def _rebuild_polars(name: str, parts: Any, polars: Any) -> Any:
    if name not in POLARS_DTYPES | {"Enum", "Datetime", "Duration"}:
        raise ValueError(f"polars.{name} is not known")
    return getattr(polars, name)(*parts)


def _moment(kind: str, count: int, unit: str) -> Any:
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError(f"the unit {unit!r} of time is not known")
    return np.int64(count).view(f"{kind}[{unit}]")


def _zone_name(tz: Any) -> str | None:
    return None if tz is None else str(_zone(str(tz)))


def _zone(name: str) -> tzinfo:
    fixed = FIXED_ZONE.fullmatch(name)
    if fixed:
        offset = timedelta(hours=int(fixed["hours"]), minutes=int(fixed["minutes"]))
        return timezone(-offset if fixed["sign"] == "-" else offset)
    try:
        return ZoneInfo(name)  # takes no path, where pandas' own reading of a name would
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"the time zone {name!r} is not known here") from error
