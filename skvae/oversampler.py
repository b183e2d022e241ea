"""VAEOverSampler: new rows of the small classes, in imbalanced-learn's manner."""

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import validate_data

from ._arrays import Container
from ._compat import CallbackSupportMixin, nested_fit, with_callbacks
from ._reading import refuse_missing
from ._series import library_of
from ._typing import Array, RandomState, Table
from ._validation import resolve_estimator
from ._values import TRUE_FROM, round_whole
from .columns import refuse_text
from .transformer import VAETransformer

try:
    from imblearn.over_sampling.base import BaseOverSampler
    from imblearn.utils import check_target_type
except ImportError as error:
    raise ImportError(
        "VAEOverSampler needs imbalanced-learn. Install it: pip install 'skvae[imblearn]'"
    ) from error

__all__ = ["VAEOverSampler"]

MIN_ROWS = 2  # of a class: the least that tell a spread


class VAEOverSampler(CallbackSupportMixin, BaseOverSampler):
    """Over-sampling by rows drawn from a conditional variational autoencoder.

    One model learns p(x given z) from all rows and p(z given y) for each class, so a small class
    borrows from the large ones what columns have to do with each other. In training all classes
    weigh the same. New rows are draws, in the kinds and dtypes of X: strings, categories, booleans
    and holes of a table included.

    Parameters
    ----------
    estimator : VAETransformer, FrozenEstimator or None, default=None
        The model of the rows; a clone with ``conditional=True`` is trained. None:
        ``VAETransformer(beta=0.2)``. A fitted conditional one in `sklearn.frozen.FrozenEstimator` is used as
        it is.
    sampling_strategy : float, str, dict or callable, default="auto"
        Which classes get how many new rows, as everywhere in imbalanced-learn. A float: the ratio
        of the minority to the majority afterwards, for two classes. A str: the classes to bring to
        the size of the largest: "minority", "not minority", "not majority", "all", or "auto", which
        is "not majority". A dict: the number of rows of each class afterwards. A callable takes y
        and returns such a dict.
    random_state : int, RandomState instance or None, default=None
        Seeds training and sampling. None: that of `estimator` does.

    Attributes
    ----------
    estimator_ : VAETransformer or FrozenEstimator
        The fitted model, after `fit_resample`; `fit` only checks and counts.
    sampling_strategy_ : dict
        Number of new rows of each class.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only if X has string column names.

    See Also
    --------
    imblearn.over_sampling.SMOTE : New rows between neighbours.
    imblearn.over_sampling.RandomOverSampler : Rows again.

    Notes
    -----
    Each class that is to grow needs at least 2 rows. A dozen tell much more: with very few, new rows
    lie close to the old ones.

    Examples
    --------
    >>> from collections import Counter
    >>> from sklearn.datasets import load_wine
    >>> from skvae import VAEOverSampler, VAETransformer
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> sampler = VAEOverSampler(VAETransformer(4, max_iter=50), random_state=0)
    >>> X_new, y_new = sampler.fit_resample(X, y)
    >>> sorted(Counter(y_new).items())
    [(0, 71), (1, 71), (2, 71)]
    """

    _parameter_constraints: ClassVar = {
        **BaseOverSampler._parameter_constraints,
        "estimator": [VAETransformer, FrozenEstimator, None],
    }
    _doc_link_module = VAETransformer._doc_link_module
    _doc_link_template = VAETransformer._doc_link_template

    def __init__(
        self,
        estimator: VAETransformer | FrozenEstimator | None = None,
        *,
        sampling_strategy: float | str | dict[Any, int] | Callable[..., Any] = "auto",
        random_state: RandomState = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.estimator = estimator
        self.random_state = random_state

    @with_callbacks
    def fit_resample(self, X: Any, y: Any, **params: Any) -> tuple[Table, Table]:
        """Learn the rows of each class and add new ones.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Classes.
        **params : dict
            Passed on to the `fit_resample` of imbalanced-learn's samplers.

        Returns
        -------
        X_resampled : ndarray, list or DataFrame of shape (n_samples_new, n_features)
            The rows of X, followed by the new ones class by class, of the kind and the dtypes of X.
        y_resampled : ndarray, list, Series or DataFrame of shape (n_samples_new,)
        """
        if y is None:
            raise ValueError("Got y=None; expected the class of each row.")
        refuse_missing(np.ravel(y))
        if library_of(X) == "polars":  # which the base class would take for pandas
            X = _Covered(X)
        if library_of(y) == "polars" and y.shape[1] == 1:
            X, y = self.fit_resample(X, y.to_series(), **params)
            return X, y.to_frame()
        series = y if hasattr(y, "to_physical") else None  # polars
        X, y = super().fit_resample(X, y if series is None else series.to_numpy(), **params)
        return X, y if series is None else type(series)(series.name, y, series.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(default_estimator() if self.estimator is None else self.estimator)
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    def _check_X_y(self, X: Any, y: Any) -> Any:  # noqa: N802 -- the base class calls it
        y, binarize_y = check_target_type(y, indicate_one_vs_all=True)
        X = X.table if isinstance(X, _Covered) else X
        if library_of(X):
            check_consistent_length(X, y)
            validate_data(self, X, skip_check_array=True)  # the estimator knows what a table may hold
        else:
            try:
                X, y = validate_data(self, X, y, ensure_all_finite="allow-nan")
            except (TypeError, ValueError) as error:
                refuse_text(X, error)
                raise
        return X, y, binarize_y

    def _fit_resample(self, X: Any, y: Any) -> Any:
        counts = {label: n for label, n in self.sampling_strategy_.items() if n > 0}
        for label in counts:
            n_rows = np.count_nonzero(y == label)
            if n_rows < MIN_ROWS:
                raise ValueError(
                    f"Got {n_rows} row of class {np.asarray(label).item()!r}; expected at least {MIN_ROWS} "
                    "to learn from. Collect more, or leave this class out by sampling_strategy."
                )
        self.estimator_ = self._fit_estimator(densify(X), y)
        labels = np.repeat(np.array(list(counts), dtype=y.dtype), list(counts.values()))
        if not len(labels):
            return X, y
        seed = self.estimator_.random_state if self.random_state is None else self.random_state
        new = self.estimator_.sample(len(labels), y=labels, random_state=seed)
        return append_rows(X, new), np.concatenate((y, labels))

    def _fit_estimator(self, X: Any, y: Any) -> Any:
        estimator = resolve_estimator(
            self.estimator, default_estimator(), self.random_state, conditional=True
        )
        if not isinstance(estimator, FrozenEstimator):
            with nested_fit(self, estimator, {"X": X, "y": y}):
                return estimator.fit(X, y, compute_sample_weight("balanced", y))
        validate_data(estimator.fit(X, y).estimator, X, reset=False, skip_check_array=True)
        if not hasattr(estimator, "classes_"):
            raise ValueError(
                f"Got estimator={estimator!r}, which was fitted without classes; expected a conditional "
                "one. Fit it with conditional=True and y, or pass it without FrozenEstimator."
            )
        return estimator


class _Covered:
    """A table that does not look like one."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.shape = table.shape


def default_estimator() -> VAETransformer:
    """Return the model of rows whose new ones shall be sharp; with beta=1 few rows come out blurred."""
    return VAETransformer(beta=0.2)


def densify(X: Any) -> Any:
    """Return X with the sparse columns of a pandas table made dense: networks take no others."""
    if library_of(X) != "pandas":
        return X
    sparse = {name: dtype.subtype for name, dtype in X.dtypes.items() if hasattr(dtype, "fill_value")}
    return X.astype(sparse) if sparse else X


def append_rows(X: Any, new: Any) -> Any:
    """Return X with new rows below: the kind of table that X is, in its dtypes.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n_samples, n_features)
    new : ndarray or DataFrame of shape (n_new, n_features)
    """
    container = Container(X)
    if container.kind is None:
        return np.vstack((X, round_to(np.asarray(new), X.dtype)))
    if isinstance(new, np.ndarray):
        new = container.wrap(container.settle(new), whole=True)
    elif library_of(new) != container.kind:
        raise ValueError(
            f"Got X of {container.kind} with an estimator that was fitted on one of {library_of(new)}; "
            "expected the same library. Convert X."
        )
    new = settle_truth(X, new)
    if container.kind == "pandas":
        import pandas

        for place, dtype in enumerate(X.dtypes):
            new.isetitem(place, cast(new.iloc[:, place], dtype))
        return pandas.concat((X, new), ignore_index=True)
    import polars

    return polars.concat((X, new.with_columns(cast(new[name], dtype) for name, dtype in X.schema.items())))


def cast(column: Any, dtype: Any) -> Any:
    """Return a column of new rows in the type that it has in X, which may lack holes or levels."""
    problem = (
        f"Got column {column.name!r} of X with dtype {dtype}, which has no room for all that the estimator "
        "draws. Let it have the type and the levels that the estimator was fitted with."
    )
    categories = getattr(dtype, "categories", None)
    if hasattr(column, "iloc") and categories is not None:  # which pandas would make holes of
        if not (column.isna() | column.isin(categories)).all():
            raise ValueError(problem)
        return column.astype(dtype)
    errors: tuple[type[Exception], ...] = (TypeError, ValueError, *polars_errors())
    try:
        return column.astype(dtype) if hasattr(column, "iloc") else column.cast(dtype)
    except errors as error:
        raise ValueError(problem) from error


def polars_errors() -> tuple[type[Exception], ...]:
    """Return what polars raises where a type has no room for a value; nothing if it is not in use."""
    polars = sys.modules.get("polars")
    return () if polars is None else (polars.exceptions.PolarsError,)


def settle_truth(X: Any, new: Any) -> Any:
    """Return new rows with truth values where X has them and a likelihood of numbers drew numbers."""
    types = [str(dtype).lower() for dtype in (*X.dtypes, *new.dtypes)]
    pairs = zip(types[: X.shape[1]], types[X.shape[1] :], strict=True)
    places = [i for i, (old, drawn) in enumerate(pairs) if old[:4] == "bool" and drawn[:5] == "float"]
    if not hasattr(new, "isetitem"):
        return new.with_columns(new[:, i] >= TRUE_FROM for i in places)
    new = new.copy()
    for i in places:
        new.isetitem(i, new.iloc[:, i] >= TRUE_FROM)
    return new


def round_to(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return numbers in another dtype; whole ones are rounded and stay in its range."""
    if dtype.kind == "b":
        return values >= TRUE_FROM
    if dtype.kind in "iu":
        values = round_whole(values, dtype)
    return values.astype(dtype)
