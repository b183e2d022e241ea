"""VAEImputer: missing cells filled by what the model expects, or draws, given the others."""

import warnings
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ._compat import (
    CallbackSupportMixin,
    Interval,
    MissingValues,
    StrOptions,
    check_feature_names_in,
    fit_context,
    nested_fit,
    warn,
    with_callbacks,
)
from ._fitting import all_or_nothing
from ._holes import append_flags, dig, find_holes, put, take_columns
from ._random import draw_seed
from ._reading import FLOATS
from ._series import library_of, read_series, split_columns
from ._typing import Array, RandomState, Rows, Table
from ._validation import refuse_classes, resolve_estimator
from ._values import is_missing
from .columns import is_frame, is_table, make_plain, refuse_text
from .likelihoods import Mixed
from .objectives import IWAE
from .transformer import VAETransformer

__all__ = ["VAEImputer"]

FEW_ROWS, FEW_EPOCHS = 450, 350  # below, more of them err as little and leave draws too narrow
MANY_ROWS, MANY_EPOCHS = 10_000, 74  # where less network per row errs as little in half the time
MANY_ROWS_DRAWS = 3  # of z in a step, for such tables: as good as 5 in three quarters of the time
LEAST_DRAWS, MOST_DRAWS, ALL_DRAWS = 100, 500, 2_500_000  # of z: for a row, and for all rows of a fit
MIXED_DRAWS = 50, 100, 1_200_000  # the same under `Mixed`


class VAEImputer(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Imputation by a variational autoencoder, of arrays and of tables of mixed types.

    The model is trained on the rows as they are, missing cells left out. A missing cell is then
    filled by its conditional mean given the seen cells of its row, by the most probable level where
    it has levels, or by a draw. Cells that are not missing stay as they are, to the bit, and what
    comes in as a pandas or polars table goes out as one, in its types.

    Parameters
    ----------
    estimator : VAETransformer, FrozenEstimator or None, default=None
        The model of the rows; `fit` trains a clone. None:
        ``VAETransformer(objective=IWAE(), weight_decay=1 / n_samples)``, as Mattei and Frellsen (2019),
        MIWAE, arXiv:1812.02633, with networks freer than usual, and for columns of mixed types
        ``likelihood="heterogeneous"``. Below 450 rows it trains for 350 epochs. From 10,000 rows on
        networks are smaller, batches larger, and for mixed types ``objective=IWAE(3)``. A fitted one in
        `sklearn.frozen.FrozenEstimator` is used as it is, and no column is dropped that it knows.
    missing_values : number, str, NaN, None or pandas.NA, default=NaN
        What marks a missing cell. NaN, None and pandas.NA all stand for whatever the table's
        library takes for missing. With a number or a text no cell may be missing otherwise; a text
        marks cells in columns of text and categories.
    sample_posterior : bool, default=False
        Draw the missing cells of a row together from p(missing given seen), anew at each
        `transform`: multiple imputation. Numbers are drawn from normal densities by default, so they may
        lie beyond those of their column.
    add_indicator : bool, default=False
        Append a column for each one that had missing cells in `fit`, which tells where.
    keep_empty_features : bool, default=False
        Keep columns that had nothing but missing cells in `fit`, and fill them with 0 if they hold
        numbers; those of levels or moments stay empty. False drops them.
    n_draws : int or "auto", default="auto"
        Draws of z per row. "auto" is 500, fewer if `fit` got more than 5,000 rows, down to 100 from
        25,000 rows on. For a model with ``likelihood="mixed"``, whose draws take longer, it is 100, fewer
        from 12,000 rows, down to 50 from 24,000 rows on.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws of `sample_posterior`, and replaces that of `estimator`, unless None.

    Attributes
    ----------
    estimator_ : VAETransformer or FrozenEstimator
        The fitted model, of the columns that are not empty.
    indicator_ : MissingIndicator or None
        Where cells were missing, if `add_indicator`.
    random_state_ : RandomState
        What the draws are seeded with.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only if X has string column names.

    See Also
    --------
    sklearn.impute.SimpleImputer : Each column's mean or most frequent value.
    sklearn.impute.IterativeImputer : Each column by a regression on the others.

    References
    ----------
    Mattei and Frellsen (2019), MIWAE: Deep Generative Modelling and Imputation of Incomplete Data
    Sets, arXiv:1812.02633, section 3: the importance weights.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAEImputer, VAETransformer
    >>> X = load_iris().data
    >>> X[0, 2] = np.nan  # it was 1.4
    >>> imputer = VAEImputer(VAETransformer(2, max_iter=200), random_state=2).fit(X)
    >>> imputer.transform(X)[0].round(1)
    array([5.1, 3.5, 1.5, 0.2])
    """

    _parameter_constraints: ClassVar = {
        "estimator": [VAETransformer, FrozenEstimator, None],
        "missing_values": [MissingValues()],
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "n_draws": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    _doc_link_module = VAETransformer._doc_link_module
    _doc_link_template = VAETransformer._doc_link_template

    def __init__(
        self,
        estimator: VAETransformer | FrozenEstimator | None = None,
        *,
        missing_values: Any = np.nan,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        n_draws: int | Literal["auto"] = "auto",
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.n_draws = n_draws
        self.random_state = random_state

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=False)  # the estimator checks its own parameters
    def fit(self, X: Rows, y: Any = None) -> Self:
        """Learn the distribution of X.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : None, default=None
            Ignored.

        Returns
        -------
        self : VAEImputer
        """
        with all_or_nothing(self):
            return self._fit(X)

    def _fit(self, X: Any) -> Self:
        X, holes = self._check(X, reset=True)
        given: Any = self.estimator
        estimator: Any = resolve_estimator(given, default_estimator(X), self.random_state)
        if estimator is given:  # frozen
            estimator.fit(X, None)  # only checks that it is fitted
            nothing = dig(X[:1], np.ones((1, X.shape[1]), dtype=bool))
            known = ~find_holes(estimator.impute(nothing, n_draws=1), np.nan)[0]
        else:
            known = ~np.asarray(holes.all(axis=0))
            refuse_classes(estimator, "imputers")
            if not known.any():
                raise ValueError(
                    "Got X with nothing but missing cells to learn from; expected some that are not. Check "
                    "missing_values."
                )
            with nested_fit(self, estimator, {"X": X, "y": None}), warnings.catch_warnings():
                if given is None:  # few epochs are meant
                    warnings.filterwarnings("ignore", "The loss was still falling", ConvergenceWarning)
                estimator.fit(self._dig(X, holes))
        self.estimator_, self._is_known, self._n_rows = estimator, known, len(X)
        self.indicator_ = None
        if self.add_indicator:
            from sklearn.impute import MissingIndicator  # here, as it takes as long as skvae

            self.indicator_ = MissingIndicator(error_on_new=False).fit(np.where(holes, np.nan, 0.0))
        self.random_state_ = np.random.RandomState(draw_seed(self.random_state))
        return self

    def transform(self, X: Rows) -> Table:
        """Fill the missing cells.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features_out)
            Of the kind and the types of X; an array if `fit` got one.
        """
        check_is_fitted(self)
        rows, holes = self._check(X, reset=False)
        values: list[Any] = [0.0] * rows.shape[1]
        if holes[:, self._is_known].any():
            filled = self.estimator_.impute(
                self._dig(rows, holes),
                draw=self.sample_posterior,
                n_draws=self._choose_draws(),
                random_state=self.random_state_,
            )
            columns = split_columns(filled)
            values = [column if known else 0.0 for known, column in zip(self._is_known, columns, strict=True)]
        return self._put_together(rows, holes, values)

    def _put_together(self, X: Any, holes: Array, values: list[Any]) -> Table:
        """Fill the holes, drop empty columns and append the indicator."""
        places, filled = np.flatnonzero(self._is_known), holes
        if self.keep_empty_features:
            places = np.arange(X.shape[1])
            filled = holes & (self._is_known | _holds_numbers(X))
        elif not self._is_known.all():
            warn(
                f"Skipping features without any observed values: {self._names(~self._is_known)!r}. At least "
                "one is needed to learn from, or keep_empty_features=True.",
            )
        values = [values[place] for place in places]
        result = put(take_columns(X, places), filled[:, places], values)
        if self.indicator_ is not None:
            names = self.get_feature_names_out()[len(places) :]
            result = append_flags(result, holes[:, self.indicator_.features_], names)
        wish = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        return result.to_pandas() if (wish, library_of(result)) == ("pandas", "polars") else result

    def _names(self, mask: Array) -> list[Any]:
        names: Array = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))
        return list(names[mask].tolist())

    def get_feature_names_out(self, input_features: Rows | None = None) -> Array:
        """Return the names of the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X, if it had none.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)
        kept: Array = names if self.keep_empty_features else names[self._is_known]
        if self.indicator_ is None:
            return kept
        return np.concatenate((kept, self.indicator_.get_feature_names_out(names)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(VAETransformer() if self.estimator is None else self.estimator)
        tags.input_tags = inner.input_tags
        tags.input_tags.allow_nan = is_missing(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check(self, X: Any, reset: bool) -> tuple[Any, Array]:
        """Check the columns; return an array of floats, or the table itself, and where cells are missing.

        A table for a model of an array is taken for an array, as its columns go by place.
        """
        if reset:
            self._is_table = is_frame(X)
        if is_frame(X) and self._is_table:
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X) or not X.shape[1]:
                raise ValueError(f"Got X of shape {X.shape}; a minimum of 1 row and column is required.")
        else:
            finite = "allow-nan" if is_missing(self.missing_values) else True
            X = make_plain(X)
            try:
                X = validate_data(self, X, reset=reset, dtype=FLOATS, ensure_all_finite=finite)
            except (TypeError, ValueError) as error:
                refuse_text(X, error)
                raise
        return X, find_holes(X, self.missing_values)

    def _choose_draws(self) -> int:
        if self.n_draws != "auto":
            return self.n_draws
        least, most, total = LEAST_DRAWS, MOST_DRAWS, ALL_DRAWS
        if isinstance(self.estimator_.likelihood_, Mixed):
            least, most, total = MIXED_DRAWS
        return int(np.clip(total // self._n_rows, least, most))

    def _dig(self, X: Any, holes: Array) -> Any:
        """Return X with missing cells that are empty, as the model knows no other mark."""
        return X if is_missing(self.missing_values) else dig(X, holes)


def default_estimator(X: Any) -> VAETransformer:
    """Return the model that ranked best for rows as those of X."""
    table, many = is_table(X), len(X) >= MANY_ROWS
    params: dict[str, Any] = {"likelihood": "heterogeneous"} if table else {}
    if len(X) < FEW_ROWS:
        params["max_iter"] = FEW_EPOCHS
    elif many:
        epochs = max(1, round(MANY_EPOCHS * (MANY_ROWS / len(X)) ** 0.44))
        params |= {"hidden_layer_sizes": (128, 128), "batch_size": 256, "max_iter": epochs}
    objective = IWAE(MANY_ROWS_DRAWS) if table and many else IWAE()
    return VAETransformer(objective=objective, weight_decay=1 / len(X), **params)


def _holds_numbers(X: Any) -> Array:
    """Tell which columns hold numbers, where 0 is a value."""
    return np.array([read_series(column, None).kind == "number" for column in split_columns(X)])
