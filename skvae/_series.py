"""One column of NumPy, pandas or polars: its values as numbers and levels, and such columns again."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import UTC, date, datetime, time
from importlib import import_module
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._typing import Array
from ._values import family

TIMES = {"datetime", "datetime with time zone", "duration", "time of day"}
NO_TIME = np.iinfo(np.int64).min
DAY = 86400
CALENDAR = -62_135_596_800, 253_402_300_799  # seconds to its first and last moment, of years 1 and 9999
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EXACT = 2.0**52  # floats hold a whole number below it, and half of one
WISH = "expected numbers, booleans, text, categories, datetimes or timedeltas"


def library_of(X: object) -> str | None:
    """Return the name of the library whose DataFrame X is, or None, without importing any."""
    for name in ("pandas", "polars"):
        if isinstance(X, getattr(sys.modules.get(name), "DataFrame", ())):
            return name
    return None


def split_columns(X: Any) -> list[Any]:
    """Return the columns of an array or a table, by place, as names may be there twice."""
    by_place = X.iloc if hasattr(X, "iloc") else X
    return [by_place[:, j] for j in range(X.shape[1])]


def module_of(library: Any) -> Any:
    """Return pandas or polars by name; any other could come from a file that someone made up."""
    if library not in ("pandas", "polars"):
        raise ValueError(f"Got a table of {library!r}; expected pandas or polars.")
    return import_module(library)


def read_series(data: Any, name: Hashable) -> "Series":
    """Return a column of any library as a `Series`."""
    if hasattr(data, "iloc"):
        return PandasSeries(data, name)
    return PolarsSeries(data, name) if hasattr(data, "is_null") else ArraySeries(data, name)


class Series(ABC):
    """A column and what can be asked of it.

    Attributes
    ----------
    data : ndarray of shape (n_rows,), or Series of pandas or polars
    name : Hashable
        Of the column, for errors.
    """

    def __init__(self, data: Any, name: Hashable) -> None:
        self.data = data
        self.name = name

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it holds: "number", "level", or one of TIMES. Raise ValueError for anything else."""

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether it holds whole numbers by type."""

    @property
    @abstractmethod
    def missing(self) -> Array:
        """Whether each cell is missing, an array."""

    @abstractmethod
    def tolist(self) -> list[Any]:
        """Return the values as they are to users, a list."""

    @abstractmethod
    def numbers(self) -> Array:
        """Return the values as float64, NaN where missing."""

    @abstractmethod
    def ticks(self, zone: Any = None) -> tuple[Array, str]:
        """Return moments or durations as whole numbers, and their unit; moments by the clocks of a zone."""

    @property
    def hole(self) -> Any:
        """What stands for a missing cell where the type does not tell."""
        return None

    def distinct(self) -> list[Any]:
        """Return the distinct values that are not missing, in order."""
        values = self.tolist()
        return sorted({values[i] for i in np.flatnonzero(~self.missing)})

    def seconds(self, origin: int = 0, zone: Any = None) -> Array:
        """Return moments or durations as seconds from a whole number of them on, NaN where missing."""
        ticks, unit = self.ticks(zone)
        whole, rest = np.divmod(ticks, PER_SECOND.get(unit, 1))
        whole = whole * DAY if unit == "D" else whole
        return np.where(self.missing, np.nan, (whole - origin) + rest / PER_SECOND.get(unit, 1))

    def _refusal(self) -> ValueError:
        return ValueError(
            f"Got column {self.name!r} of X with dtype {self.data.dtype}; {WISH}. Convert it, to numbers, "
            "dates, text or categories, whichever says best what it holds, or drop it."
        )


def range_of(kind: str, unit: str) -> tuple[float, float]:
    """Return the first and the last second that moments or durations of a unit have room for."""
    if kind == "time of day":
        return 0, DAY - 1e-6
    most = 9.2233e18 / PER_SECOND.get(unit, 1)
    return (-most, most) if kind == "duration" else (max(-most, CALENDAR[0]), min(most, CALENDAR[1]))


def keeps_ticks(seconds: int, unit: str) -> bool:
    """Return whether floats tell moments apart by a unit, with room to spare, so far from the origin."""
    return 2 * seconds * PER_SECOND.get(unit, 1) < EXACT


def to_ticks(seconds: Array, origin: int, unit: str) -> Array:
    """Return `Series.seconds` as ticks again, the lowest of all for NaN.

    Floats do not tell nanoseconds apart that are 50 days from the origin: such are rounded to
    microseconds, and these to milliseconds when 140 years away.
    """
    missing = np.isnan(seconds)
    seconds = np.where(missing, 0.0, seconds)
    if unit == "D":
        ticks = origin // DAY + np.rint((origin % DAY + seconds) / DAY).astype(np.int64)
    else:
        per_second = PER_SECOND[unit]
        finest = [per for per in PER_SECOND.values() if per <= per_second]
        exact = np.abs(seconds) * np.array(finest)[:, None] < EXACT
        per = np.array(finest)[np.maximum(exact.sum(axis=0) - 1, 0)]
        whole = np.floor(seconds)
        ticks = (origin + whole.astype(np.int64)) * per_second
        ticks += np.rint((seconds - whole) * per).astype(np.int64) * (per_second // per)
    return np.where(missing, NO_TIME, ticks)


class ArraySeries(Series):
    """A column of a NumPy array of floats."""

    kind = "number"
    is_whole = False

    @property
    def missing(self) -> Array:
        return np.isnan(self.data)

    def tolist(self) -> list[Any]:
        return self.data.tolist()

    def numbers(self) -> Array:
        return self.data.astype(np.float64)

    def ticks(self, zone: Any = None) -> tuple[Array, str]:
        raise self._refusal()


class PandasSeries(Series):
    """A column of a pandas DataFrame."""

    @property
    def kind(self) -> str:
        dtype, pandas = self.data.dtype, import_module("pandas")
        types, arrow = pandas.api.types, str(dtype).removesuffix("[pyarrow]")
        if isinstance(dtype, pandas.CategoricalDtype) or types.is_bool_dtype(dtype):
            return "level"
        if arrow == "null" or arrow.startswith("dictionary<"):  # pyarrow's categories
            return "level"
        if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype) and arrow[:7] != "decimal":
            return "number"
        if types.is_datetime64_any_dtype(dtype):
            return "datetime" if zone_of(dtype) is None else "datetime with time zone"
        if dtype.kind == "m":
            return "duration"
        if types.is_object_dtype(dtype):
            return self._object_kind()
        if types.is_string_dtype(dtype):
            return "level"
        raise self._refusal()

    def _types(self) -> set[type]:
        return {type(value) for value in self.data[~self.missing]}

    def _object_kind(self) -> str:
        found = self._types()
        families = {family(kind) for kind in found}
        if len(families) < 2 and families <= {str, bytes, bool}:
            return "level"
        if families == {Real}:
            return "number"
        names = ", ".join(sorted(kind.__name__ for kind in found))
        raise ValueError(
            f"Got column {self.name!r} of X with values of type {names}; expected text, booleans or "
            "numbers, one of them throughout. Convert it: dates by pandas.to_datetime, Decimals by "
            "astype(float), others by astype(str). Or drop it."
        )

    @property
    def is_whole(self) -> bool:
        types = import_module("pandas").api.types
        if types.is_object_dtype(self.data.dtype):
            return all(issubclass(kind, Integral) for kind in self._types())
        return types.is_integer_dtype(self.data.dtype)

    @property
    def missing(self) -> Array:
        missing = self.data.isna().to_numpy(dtype=bool)
        if self.data.dtype.kind == "f":  # types with room for both NA and NaN
            missing = missing | np.isnan(self.numbers())
        return missing

    @property
    def hole(self) -> Any:
        missing = self.missing
        return self.data.iloc[int(missing.argmax())] if missing.any() else None

    def tolist(self) -> list[Any]:
        return self.data.tolist()

    def distinct(self) -> list[Any]:
        if hasattr(self.data, "cat"):
            return self.data.cat.remove_unused_categories().cat.categories.tolist()
        return sorted(self.data[~self.missing].unique().tolist())

    def numbers(self) -> Array:
        return self.data.to_numpy(dtype=np.float64, na_value=np.nan)

    def ticks(self, zone: Any = None) -> tuple[Array, str]:
        data, dtype, pandas = self.data, self.data.dtype, import_module("pandas")
        unit = _unit(dtype)
        if dtype.kind == "m":
            return pandas.TimedeltaIndex(data.astype(f"m8[{unit}]")).asi8, unit
        if unit == "D":
            return pandas.DatetimeIndex(data.astype("timestamp[s][pyarrow]")).as_unit("s").asi8 // DAY, unit
        moments = pandas.DatetimeIndex(data).as_unit(unit)
        return (moments if zone is None else moments.tz_convert(zone).tz_localize(None)).asi8, unit


class PolarsSeries(Series):
    """A column of a polars DataFrame."""

    @property
    def kind(self) -> str:
        dtype, text = self.data.dtype, str(self.data.dtype)
        if dtype.is_integer() or dtype.is_float():
            return "number"
        if text in ("Boolean", "String", "Null") or text.startswith(("Categorical", "Enum")):
            return "level"
        if text == "Date":
            return "datetime"
        if text.startswith("Datetime"):
            return "datetime" if dtype.time_zone is None else "datetime with time zone"
        if text.startswith("Duration"):
            return "duration"
        if text == "Time":
            return "time of day"
        raise self._refusal()

    @property
    def is_whole(self) -> bool:
        return self.data.dtype.is_integer()

    @property
    def missing(self) -> Array:
        missing = self.data.is_null()
        if self.data.dtype.is_float():
            missing = missing | self.data.is_nan().fill_null(True)
        return missing.to_numpy()

    def tolist(self) -> list[Any]:
        return self.data.to_list()

    def distinct(self) -> list[Any]:
        values = super().distinct()
        if str(self.data.dtype).startswith("Enum"):
            return sorted(values, key=self.data.dtype.categories.to_list().index)
        return values

    def numbers(self) -> Array:
        return np.where(self.missing, np.nan, self.data.cast(float).to_numpy())

    def ticks(self, zone: Any = None) -> tuple[Array, str]:
        data = self.data
        data = data if zone is None else data.dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return data.to_physical().cast(int).fill_null(NO_TIME).to_numpy(), _polars_unit(self.data.dtype)


def zone_of(dtype: Any) -> Any:
    """Return the time zone of a type of pandas or polars, None without one."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    return getattr(dtype, "tz", None) or getattr(arrow, "tz", None) or getattr(dtype, "time_zone", None)


def _unit(dtype: Any) -> str:
    """Return the unit of a type of moments or durations of pandas."""
    if isinstance(dtype, np.dtype):
        return np.datetime_data(dtype)[0]
    if hasattr(dtype, "pyarrow_dtype"):  # those of dates have none
        return getattr(dtype.pyarrow_dtype, "unit", "D")
    return dtype.unit


def _polars_unit(dtype: Any) -> str:
    if str(dtype) in ("Date", "Time"):
        return {"Date": "D", "Time": "ns"}[str(dtype)]
    return {"μs": "us"}.get(dtype.time_unit, dtype.time_unit)


def unit_of(dtype: Any) -> str:
    """Return the unit in which a type of pandas or polars counts time."""
    return _polars_unit(dtype) if type(dtype).__module__.startswith("polars") else _unit(dtype)


# -- and back -----------------------------------------------------------------------------------------


def make_pandas(dtype: Any, cells: Array, missing: Array, hole: Any) -> Any:
    """Return a pandas column of a type; where that has no room for a missing cell, of a wider one."""
    pandas = import_module("pandas")
    if isinstance(dtype, pandas.SparseDtype):
        dense = make_pandas(dtype.subtype, cells, missing, hole)
        narrow = missing.any() and dtype.subtype.kind != "f"
        return dense.astype(pandas.SparseDtype(dense.dtype) if narrow else dtype)
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf" and cells.dtype != object:
        cells = np.where(missing, np.nan, cells) if missing.any() else cells
        return pandas.Series(cells, dtype=float if missing.any() and dtype.kind != "f" else dtype)
    cells = cells.astype(object)
    cells[missing] = hole
    if isinstance(dtype, np.dtype) and dtype.kind in "biu" and missing.any():
        dtype = np.dtype(object if dtype.kind == "b" else float)
    return pandas.Series(cells, dtype=dtype)


def make_pandas_times(dtype: Any, ticks: Array, local: bool = False) -> Any:
    """Return ticks as a pandas column of moments or durations; `local`: by the zone's clocks."""
    pandas, unit = import_module("pandas"), _unit(dtype)
    if dtype.kind == "m":
        return pandas.Series(ticks.view(f"m8[{unit}]")).astype(dtype)
    moments = pandas.Series(
        ticks.view(f"M8[{unit}]").astype("M8[s]") if unit == "D" else ticks.view(f"M8[{unit}]")
    )
    zone = zone_of(dtype)
    if zone is not None and local:  # the first of two, and the one after an hour that is left out
        twice = np.ones(len(moments), dtype=bool)
        moments = moments.dt.tz_localize(zone, ambiguous=twice, nonexistent="shift_forward")
    elif zone is not None:
        moments = moments.dt.tz_localize("UTC").dt.tz_convert(zone)
    return moments.astype(dtype)


def make_polars(dtype: Any, cells: Array, missing: Array) -> Any:
    """Return a polars column of a type."""
    polars = import_module("polars")
    values = [None if gone else cell for cell, gone in zip(cells.tolist(), missing, strict=True)]
    by_type = {bool: polars.Boolean, int: polars.Int64, float: polars.Float64}
    first = next((by_type.get(type(value)) for value in values if value is not None), None)
    if first is polars.Int64 and dtype.is_integer():
        first = dtype  # that of large numbers
    if first is None or dtype == polars.Boolean:
        return polars.Series(values, dtype=dtype, strict=False)
    return polars.Series(values, dtype=first).cast(dtype)


def make_polars_times(dtype: Any, ticks: Array) -> Any:
    """Return ticks that count by the clocks of a zone as a polars column of moments."""
    polars = import_module("polars")
    clock = polars.Series(ticks).replace(NO_TIME, None).cast(polars.Datetime(dtype.time_unit))
    zone = {"time_zone": dtype.time_zone, "ambiguous": "earliest", "non_existent": "null"}
    before = clock.dt.offset_by("-2d").dt.replace_time_zone(**zone)  # the hours, or the day, left out
    later = before.dt.convert_time_zone("UTC").dt.offset_by("2d").dt.convert_time_zone(dtype.time_zone)
    return clock.dt.replace_time_zone(**zone).fill_null(later)


def _read_polars_time(polars: Any, dtype: Any, text: str) -> Any:
    """Return a column of one date, time or moment as text tells it."""
    series = polars.Series([text])
    if dtype in (polars.Date, polars.Time):
        return series.str.to_date() if dtype == polars.Date else series.str.to_time()
    if dtype == polars.Duration:
        raise ValueError("no text tells a duration")
    moment = series.str.to_datetime(time_unit=dtype.time_unit)
    return moment.dt.replace_time_zone(dtype.time_zone) if dtype.time_zone else moment


def make_series(library: Any, dtype: Any, value: Any) -> Any:
    """Return a column of one moment or duration as users write it.

    Raises
    ------
    TypeError or ValueError
        If it is none of the type, or finer than its unit.
    """
    module = module_of(library)
    if library == "pandas":
        series = module.Series([value]).astype(dtype)
    else:
        if isinstance(value, (np.datetime64, np.timedelta64)):
            value = value.astype(f"{value.dtype.kind}8[us]").item()
        value = _moment(value)
        if isinstance(value, time) and dtype != module.Time:
            raise ValueError("a time of day is no duration")
        try:
            if isinstance(value, str):
                return _read_polars_time(module, dtype, value)
            series = module.Series([value]).cast(dtype)
        except module.exceptions.PolarsError as error:
            raise ValueError(*error.args) from error
    if not isinstance(value, str) and _moment(series.to_list()[0]) != _moment(value):
        raise ValueError("it is finer than the unit of the column")
    return series


def _moment(value: Any) -> Any:
    """Return a moment or duration as what others are compared with: in UTC, where no hour comes twice."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return datetime.combine(value, time()) if type(value) is date else value
