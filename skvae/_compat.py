"""All that is private to scikit-learn or absent from some of its supported versions."""

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import sklearn
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import MetadataRequest, MethodMetadataRequest
from sklearn.utils._param_validation import Interval, MissingValues, StrOptions
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

from ._typing import Record

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""

    def _with_callbacks(method: Any) -> Any:
        """Return the method itself."""
        return method


Method = TypeVar("Method", bound=Callable[..., Any])
fit_context: Callable[..., Callable[[Method], Method]] = _fit_context  # scikit-learn does not say so
with_callbacks: Callable[[Method], Method] = _with_callbacks
safe_indexing: Callable[..., Any] = _safe_indexing

LIBRARIES = tuple(str(Path(file).parent) for file in (__file__, sklearn.__file__))

METADATA_REQUESTS = [MetadataRequest, MethodMetadataRequest]  # what `set_fit_request` leaves behind

__all__ = [
    "METADATA_REQUESTS",
    "CallbackSupportMixin",
    "EpochCallbacks",
    "Interval",
    "MissingValues",
    "StrOptions",
    "callback_state",
    "callback_transport",
    "check_feature_names_in",
    "check_sample_weight",
    "fit_context",
    "nested_fit",
    "warn",
    "with_callbacks",
]


class EpochCallbacks:
    """Tell scikit-learn's callbacks (1.9 on) where a fit stands; does nothing below 1.9.

    Parameters
    ----------
    estimator : CallbackSupportMixin
    shown : dict
        What `fit` got as X and y, for the callbacks to see.
    n_epochs : int
        Epochs at most.
    show : callable
        Gets the records of the epochs so far, and sets the attributes that callbacks may look at.
    attributes : callable
        Returns the fitted attributes of the moment.
    """

    def __init__(
        self,
        estimator: Any,
        shown: dict[str, Any],
        n_epochs: int,
        show: Callable[[list[Record]], None],
        attributes: Callable[[], dict[str, Any]],
    ) -> None:
        self.task: Any = None
        if hasattr(CallbackSupportMixin, "set_callbacks"):
            self.task = estimator._init_callback_context(max_subtasks=n_epochs)
            self.task.call_on_fit_task_begin(estimator=estimator, **shown)
        self.watched = self.task is not None and bool(getattr(estimator, "_skl_callbacks", None))
        self.given = {"estimator": estimator, **shown}
        self.show = show
        self.attributes = attributes
        self.n_told = 0

    def on_epoch(self, records: list[Record]) -> bool:
        """Report the last of some epochs; return whether a callback wants to stop.

        Those that are not finite, or are taken again after a return to good weights, are not told:
        there may be no more of them than the fit has at most.
        """
        if not self.watched or len(records) <= self.n_told or not math.isfinite(records[-1]["loss"]):
            return False
        self.n_told = len(records)
        self.show(records)
        epoch = self.task.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(**self.given)
        return epoch.call_on_fit_task_end(**self.given, reconstruction_attributes=self.attributes)

    def end(self) -> None:
        """Report the end of the fit."""
        if self.task is not None:
            self.task.call_on_fit_task_end(**self.given, reconstruction_attributes={})


@contextmanager
def nested_fit(outer: Any, inner: Any, shown: dict[str, Any]) -> Iterator[None]:
    """Let the callbacks of an estimator (scikit-learn 1.9 on) follow the fit of one that it wraps.

    Parameters
    ----------
    outer : CallbackSupportMixin
    inner : estimator
    shown : dict
        What `outer` got as X and y.
    """
    if not hasattr(CallbackSupportMixin, "set_callbacks"):
        yield
        return
    given = {"estimator": outer, **shown}
    task = outer._init_callback_context(max_subtasks=1).call_on_fit_task_begin(**given)
    part = task.subcontext(task_name="fit-estimator")
    frozen = isinstance(inner, FrozenEstimator)  # it would hand the callbacks on to what it holds
    with nullcontext() if frozen else part.propagate_callback_context(inner):
        part.call_on_fit_task_begin(**given)
        yield
    part.call_on_fit_task_end(**given)
    task.call_on_fit_task_end(**given)


def callback_transport() -> Any:
    """Return scikit-learn's module that takes messages from worker processes to the main one."""
    from sklearn.callback import _transport

    return _transport


def callback_state(estimator: object) -> dict[str, Any]:
    """Return the attributes that scikit-learn's callbacks keep on an estimator during a fit."""
    return {key: value for key, value in vars(estimator).items() if "callback" in key}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user that led here, however many calls of ours and scikit-learn's ago."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
