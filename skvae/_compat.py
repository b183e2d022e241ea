"""All that is private to scikit-learn or absent from some of its supported versions."""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._metadata_requests import MetadataRequest, MethodMetadataRequest
from sklearn.utils._param_validation import Interval, MissingValues, StrOptions
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""

    def with_callbacks(method):
        """Return the method itself."""
        return method


METADATA_REQUESTS = [MetadataRequest, MethodMetadataRequest]  # what `set_fit_request` leaves behind

__all__ = [
    "METADATA_REQUESTS",
    "CallbackSupportMixin",
    "EpochCallbacks",
    "Interval",
    "MissingValues",
    "StrOptions",
    "callback_state",
    "check_feature_names_in",
    "check_sample_weight",
    "fit_context",
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
    attributes : callable
        Returns the fitted attributes of the moment.
    """

    def __init__(self, estimator, shown, n_epochs, attributes):
        self.task = None
        if hasattr(CallbackSupportMixin, "set_callbacks"):
            self.task = estimator._init_callback_context(max_subtasks=n_epochs)
            self.task.call_on_fit_task_begin(estimator=estimator, **shown)
        self.watched = self.task is not None and bool(getattr(estimator, "_skl_callbacks", None))
        self.given = {"estimator": estimator, **shown}
        self.attributes = attributes

    def on_epoch(self, record):
        """Report one epoch; return whether a callback wants to stop."""
        if not self.watched:
            return False
        epoch = self.task.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(**self.given)
        return epoch.call_on_fit_task_end(**self.given, reconstruction_attributes=self.attributes)

    def end(self):
        """Report the end of the fit."""
        if self.task is not None:
            self.task.call_on_fit_task_end(**self.given, reconstruction_attributes={})


def callback_state(estimator):
    """Return the attributes that scikit-learn's callbacks keep on an estimator during a fit."""
    return {key: value for key, value in vars(estimator).items() if "callback" in key}
