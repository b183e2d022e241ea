"""What an estimator's methods are given, checked and turned into matrices, weights and codes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data

from ._compat import check_sample_weight, safe_indexing, warn
from ._holes import spread_columns
from ._observation import OfTable
from ._rows import Data, is_mapped, is_streamed
from ._typing import Array
from ._values import is_missing
from .columns import Table, is_frame, make_plain, refuse_large, refuse_levels, refuse_text
from .likelihoods import Categorical

FLOATS = [np.float64, np.float32]
UNLABELLED = "no_validation"  # what `validate_data` calls rows without y


def read(
    vae: Any, X: Any, y: Any = UNLABELLED, *, reset: bool = False, ensure_min_samples: int = 1
) -> tuple[Array, Any]:
    """Check rows and classes, return them as matrix and array; with `reset`, learn the columns."""
    table, unlabelled = isinstance(vae.likelihood_, OfTable), isinstance(y, str)
    if table and is_frame(X):
        validate_data(vae, X, y, reset=reset, skip_check_array=True)
        if len(X) < ensure_min_samples:
            raise ValueError(
                f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of "
                f"{ensure_min_samples} is required."
            )
        y = None if unlabelled else column_or_1d(y, warn=True)
        check_consistent_length(X, y)
    else:
        X = make_plain(X)
        refuse_large(X)
        wish = {"dtype": FLOATS, "ensure_all_finite": "allow-nan", "ensure_min_samples": ensure_min_samples}
        try:
            checked = validate_data(vae, X, y, reset=reset, **wish)
        except (TypeError, ValueError) as error:
            refuse_text(X, error)
            if reset:
                refuse_levels(X, vae.likelihood_.name, error)
            raise
        X, y = (checked, None) if unlabelled else checked
    if table and reset:
        vae._container = Table(X, vae.categorical_features)
        given = vae.likelihood_.levels
        if given is not None and list(given) != list(vae._container.n_levels):
            raise ValueError(
                f"Got levels={given!r} with columns of {vae._container.n_levels!r} levels (0: numbers). "
                "Leave it None, and set categorical_features to what holds levels."
            )
        vae.likelihood_.set_params(levels=vae._container.n_levels)
    return vae._container.encode(X), y


def read_rows(vae: Any, X: Any) -> Array:
    """Return rows for a trained model, which its likelihood can take."""
    X, _ = read(vae, X)
    vae.likelihood_.check(X)
    return X


def find_unknown(vae: Any, X: Any, rows: Array) -> Array:
    """Return whether cells of X hold levels that fit has not seen, which `read_rows` leaves out."""
    table = vae._container
    return table.unknown(X, rows) if isinstance(table, Table) else np.zeros(rows.shape, dtype=bool)


def read_levels(vae: Any, X: Array) -> list[int]:
    """Return for each column of a matrix of rows the number of its levels, 0 for numbers."""
    if isinstance(vae.likelihood_, Categorical):
        return [1 + int(np.nan_to_num(column).max()) for column in X.T]
    levels = vae.likelihood_.levels if isinstance(vae.likelihood_, OfTable) else None
    return [0] * X.shape[1] if levels is None else list(levels)


def read_training(
    vae: Any, X: Any, y: Any, sample_weight: Any, first: bool
) -> tuple[Array, Any, Array | None]:
    """Return rows, classes and weights to train on, those of weight 0 left out."""
    y = y if vae.conditional else UNLABELLED
    labelled = vae.conditional and y is not None
    can_select = is_frame(X) or (isinstance(X, np.ndarray) and not is_mapped(X))
    if sample_weight is not None and isinstance(vae.likelihood_, OfTable) and can_select:
        weight = read_weights(sample_weight, X)  # before levels are learned of rows that do not count
        rows = np.flatnonzero(weight)
        check_consistent_length(X, y if labelled else None)
        y = safe_indexing(column_or_1d(y, warn=True), rows) if labelled else y
        X, sample_weight = safe_indexing(X, rows), weight[rows]
    if labelled:
        refuse_missing(column_or_1d(y))
    given = X
    X, y = read(vae, given, y, reset=first, ensure_min_samples=2 if first else 1)
    if not first:
        warn_of_late(vae, given, X)
    if sample_weight is None:
        return X, y, None
    weight = read_weights(sample_weight, X)
    if not weight.all() and not is_streamed(X):
        X, y, weight = X[weight > 0], None if y is None else y[weight > 0], weight[weight > 0]
    return X, y, weight


def warn_of_late(vae: Any, X: Any, rows: Array) -> None:
    """Warn if columns have values that had none when the model was built, which leaves them out."""
    if isinstance(vae._container, Table):
        late = vae._container.find_late(X)
    else:
        location = getattr(vae.module_.likelihood, "location", None)  # of a likelihood of numbers
        empty: Any = [] if location is None or location.ndim > 1 else np.flatnonzero(location.isnan().cpu())
        names = _name_columns(vae)
        late = [names[place] for place in empty if not np.isnan(rows[:, place]).all()]
    if late:
        warn(
            f"Columns {late[:5]!r} have values now, but had none when the model was built: it leaves them "
            "out. Let the first rows hold some, or fit anew."
        )


def refuse_missing(y: Array) -> None:
    """Raise if a class is missing, which sorting would find only among numbers."""
    if np.isnan(y).any() if y.dtype.kind == "f" else y.dtype.kind == "O" and any(map(is_missing, y)):
        raise ValueError("Got y with missing classes; expected one for each row. Drop the others.")


def read_weights(sample_weight: Any, X: Any) -> Array:
    """Return the weights of rows, one of which must be positive."""
    weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("Got sample_weight with nothing but zeros; at least one must be positive.")
    with np.errstate(over="ignore"):
        if np.isinf(weight.sum()):
            raise ValueError(
                "Got sample_weight whose sum is too large for a float; divide them by the largest."
            )
    return weight


def read_validation(vae: Any, X: Any, y: Any) -> Data | None:
    """Return X_val and y_val as `Data`; None without them."""
    if X is None:
        if y is not None:
            raise ValueError("Got y_val without X_val; expected both or none. Pass X_val too.")
        return None
    try:
        X = read_rows(vae, X)
        return Data(X, y=read_classes(vae, y, len(X)) if has_classes(vae) else None)
    except ValueError as error:
        raise ValueError(f"In X_val, y_val: {error}") from error


def complete_given(vae: Any, given: Any) -> Any:
    """Return a DataFrame of columns in any order as one of all, the others empty; all else as it is."""
    names, some = _name_columns(vae), list(given.columns) if is_frame(given) else []
    if not some or len(set(some)) < len(some) or not set(some) & set(names):
        return given
    _refuse_names(some, names, "given")
    return spread_columns(given, names)


def _refuse_names(some: Iterable[Any], names: list[Any], given: str) -> None:
    for name in some:
        if name not in names:
            raise ValueError(f"Got {given}, but no column {name!r}; expected some of {names[:20]!r}.")


def _name_columns(vae: Any) -> list[Any]:
    """Return the names that columns had in fit, which need not be text, or their places."""
    return vae._container.names or list(getattr(vae, "feature_names_in_", range(vae.n_features_in_)))


def read_given(vae: Any, given: Any) -> Array:
    """Return what `sample_conditional` is given as a matrix, NaN where it is not."""
    if hasattr(given, "to_frame"):
        raise TypeError(
            "Got a Series as given; expected a dict of values by column, or rows. Pass dict(given), or a "
            "DataFrame of one row."
        )
    if not isinstance(given, dict):
        X, _ = read(vae, given)
        if isinstance(vae._container, Table):
            vae._container.refuse_unknown(given, X)
        vae.likelihood_.check(X)
        return X
    X = np.full((1, vae.n_features_in_), np.nan, dtype=vae._dtype)
    names = _name_columns(vae)
    _refuse_names(given, names, f"given={given!r}")
    for name, value in given.items():
        if _is_several(value) and not _is_level(vae, names.index(name), value):
            raise ValueError(
                f"Got {type(value).__name__} of several values for column {name!r}; expected one. For "
                "several rows pass a DataFrame of the columns that are given."
            )
        place = names.index(name)
        number = vae._container.encode_value(place, value)
        if abs(number) > float(np.finfo(X.dtype).max):
            raise ValueError(f"Got {value!r} for column {name!r}; expected a number that {X.dtype} holds.")
        X[0, place] = number
    vae.likelihood_.check(X)
    return X


def _is_several(value: Any) -> bool:
    return isinstance(value, (list, tuple, set)) or np.ndim(value) > 0


def _is_level(vae: Any, place: int, value: Any) -> bool:
    """Whether a value of several is one of the levels of a column, as tuples may be."""
    table = vae._container
    return isinstance(table, Table) and isinstance(value, tuple) and value in table.columns[place].levels


def has_classes(vae: Any) -> bool:
    """Whether the model was fitted with classes."""
    return hasattr(vae, "classes_")


def read_classes(vae: Any, y: Any, n_rows: int, *, may_be_one: bool = False) -> Array | None:
    """Return the place of each row's class in `classes_`; None for None.

    With `may_be_one`, y may be a scalar, the class of all rows.
    """
    if y is None:
        return None
    y = np.full(n_rows, y) if may_be_one and np.ndim(y) == 0 else y
    if not has_classes(vae):
        raise ValueError("Got y for a model without classes. Set conditional=True and fit it with y.")
    y = column_or_1d(y)
    check_consistent_length(y, np.empty(n_rows))
    if vae.classes_.dtype.kind in "mM":  # of which Python knows no nanoseconds
        y = y.astype(vae.classes_.dtype)
    places = {label: i for i, label in enumerate(vae.classes_.tolist())}
    unseen = list(dict.fromkeys(label for label in y.tolist() if label not in places))
    if unseen:
        some = np.array(unseen[:5], dtype=y.dtype)
        raise ValueError(
            f"Got y with classes {_show(some)} that the model was not trained with; "
            f"expected some of {_show(vae.classes_[:20])}."
        )
    return np.array([places[label] for label in y.tolist()], dtype=np.int64)


def _show(classes: Array) -> str:
    """Return classes for a message: Python has numbers for some of NumPy's moments."""
    return repr((classes.astype(str) if classes.dtype.kind in "mM" else classes).tolist())
