"""Callbacks for scikit-learn (1.9 on): a progress bar, a log of all epochs, an early stop.

Set them on whatever is fitted, `VAETransformer`, a companion or a search over one: they find the
fits inside by themselves. ``estimator.set_callbacks(ProgressBar()).fit(X)``.
"""

from threading import Lock
from typing import Any, Literal
from uuid import UUID

from ._compat import CallbackSupportMixin, callback_transport
from .transformer import VAETransformer

if not hasattr(CallbackSupportMixin, "set_callbacks"):
    raise ImportError("skvae.callbacks needs scikit-learn 1.9 or newer: pip install -U scikit-learn")

__all__ = ["EarlyStopping", "LossMonitor", "ProgressBar"]


class EarlyStopping:
    """Stop training when the loss no longer falls, and keep the weights of that moment.

    It needs no rows set aside. To stop by rows that the model was not trained with and go back to
    the best weights, set ``early_stopping=True`` of the estimator instead. The KL warm-up does not
    count: while `beta` rises, so may the loss.

    Parameters
    ----------
    monitor : {"loss", "validation_loss"}, default="loss"
        The figure of `history_` to watch. The latter is there if `fit` got X_val, or with
        ``early_stopping=True``.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping.
    tol : float, default=1e-4
        Least improvement, in nats per row.
    max_propagation_depth : int or None, default=None
        How deep in nested estimators to look for fits; None: all the way.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> from skvae.callbacks import EarlyStopping
    >>> vae = VAETransformer(2, learning_rate=0.02, random_state=0)
    >>> vae.set_callbacks(EarlyStopping(n_iter_no_change=5)).fit(load_iris().data).n_iter_ < 500
    True
    """

    def __init__(
        self,
        monitor: Literal["loss", "validation_loss"] = "loss",
        *,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        max_propagation_depth: int | None = None,
    ) -> None:
        if monitor not in ("loss", "validation_loss"):
            raise ValueError(f"Got monitor={monitor!r}; expected 'loss' or 'validation_loss'.")
        self.monitor = monitor
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.max_propagation_depth = max_propagation_depth

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing: all that is needed is in `history_`, so many fits can share a callback."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Return whether to stop, after an epoch of a `VAETransformer`."""
        if not is_epoch(estimator, context):
            return False
        history = estimator.history_
        if self.monitor not in history:
            raise ValueError(
                f"Got monitor={self.monitor!r}, but there are no validation rows. Pass X_val to fit, or set "
                "monitor='loss'."
            )
        losses = [
            loss
            for loss, beta in zip(history[self.monitor], history["beta"], strict=True)
            if beta == estimator.beta
        ][-context.task_id - 1 :]  # of this fit, should it go on from another
        return self._has_stalled(losses)

    def _has_stalled(self, losses: list[float]) -> bool:
        best, since = float("inf"), 0
        for loss in losses:
            since += 1
            if loss < best - self.tol:
                best, since = loss, 0
        return since >= self.n_iter_no_change


class LossMonitor:
    """Log the figures of every epoch, of all fits inside whatever it is set on.

    One estimator keeps its own in `history_`; this is for searches and companions, whose fits are
    many, or hidden, or in other processes (``n_jobs``).

    Parameters
    ----------
    max_propagation_depth : int or None, default=None
        How deep in nested estimators to look for fits; None: all the way.

    Attributes
    ----------
    data : list of dict
        One row an epoch, ready for ``pandas.DataFrame(monitor.data)``: "run_id", the same for all
        fits of one outermost fit; "task_id_path", the place of the fit among its tasks, as in
        `sklearn.callback.ScoringMonitor`; "epoch", from 1; and what `history_` has, "loss",
        "reconstruction" and "kl" (nats per row) among it. It grows during a fit.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAEOutlierDetector, VAETransformer
    >>> from skvae.callbacks import LossMonitor
    >>> monitor = LossMonitor()
    >>> detector = VAEOutlierDetector(VAETransformer(2, max_iter=20), random_state=0)
    >>> _ = detector.set_callbacks(monitor).fit(load_iris().data)
    >>> len(monitor.data)
    20
    """

    def __init__(self, *, max_propagation_depth: int | None = None) -> None:
        self.max_propagation_depth = max_propagation_depth
        self.data: list[dict[str, Any]] = []
        # open before a fit begins: the copies in worker processes must know where to send
        self._handle = callback_transport().open_listener(self.data.append, owner=self)

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing: the log goes on from one fit to the next."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Log an epoch of a `VAETransformer`."""
        if is_epoch(estimator, context):
            row = {
                "run_id": context.root_uuid,
                "task_id_path": path_of(context)[:-1],
                "epoch": context.task_id + 1,
            }
            figures = {name: values[-1] for name, values in estimator.history_.items()}
            callback_transport().send(self._handle, row | figures)

    def __getstate__(self) -> dict[str, Any]:
        # a copy: workers may send rows while this one is being pickled
        return {**vars(self), "data": list(self.data)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        transport = callback_transport()
        if not transport.can_reuse_listener(self._handle):  # not in a worker
            self._handle = transport.open_listener(self.data.append, owner=self)


class ProgressBar:
    """Show where a fit stands: epochs, the bound of the last one, and the time left.

    Each fit under way has a line, those in worker processes too, and so have the searches and
    companions around it. `sklearn.callback.ProgressBar` shows the same without the bound, and the
    steps of any estimator.

    Parameters
    ----------
    max_propagation_depth : int or None, default=None
        How deep in nested estimators to show fits; None: all the way.

    Raises
    ------
    ImportError
        If rich is not installed.

    Notes
    -----
    The bound is log p(x given z) minus the KL divergence, on average over the training rows, in nats
    per row: the evidence lower bound of log p(x). Higher is better.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> from skvae.callbacks import ProgressBar
    >>> vae = VAETransformer(2, max_iter=50).set_callbacks(ProgressBar())
    >>> vae.fit(load_iris().data)  # doctest: +SKIP
    VAETransformer fit  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  50/50  bound -2.87  0:00:00
    """

    def __init__(self, *, max_propagation_depth: int | None = None) -> None:
        _import_rich()
        self.max_propagation_depth = max_propagation_depth
        self._handles: dict[UUID, Any] = {}  # by run, for one callback may serve many at a time

    def setup(self, estimator: Any, context: Any) -> None:
        """Open the display of a run."""
        display = _DISPLAYS[context.root_uuid] = _Display()
        self._handles[context.root_uuid] = callback_transport().open_listener(display.update)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the display of a run."""
        if context.root_uuid in self._handles:  # else opening it has failed
            callback_transport().close_listener(self._handles.pop(context.root_uuid))
            _DISPLAYS.pop(context.root_uuid).close()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Show a line for a task with parts."""
        if context.max_subtasks != 0:
            name = f"{context.estimator_name} {context.task_name}"
            self._send(context, {"name": name, "total": context.max_subtasks})

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Count a part of a task, with the bound if it is an epoch."""
        message = {}
        if is_epoch(estimator, context):
            history = estimator.history_
            message["bound"] = history["reconstruction"][-1] - history["kl"][-1]
        self._send(context, message)

    def _send(self, context: Any, message: dict[str, Any]) -> None:
        callback_transport().send(self._handles[context.root_uuid], {"path": path_of(context), **message})


_DISPLAYS: dict[
    UUID, "_Display"
] = {}  # by run; not in the callback, which must be able to go to other processes


class _Display:
    """Lines of rich, one a task that has parts."""

    def __init__(self) -> None:
        progress = _import_rich()
        self.lines: dict[tuple[int, ...], Any] = {}
        self.n_done: dict[tuple[int, ...], int] = {}
        self.lock = Lock()  # each worker process has a thread here that brings its messages
        self.progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[bound]}"),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.progress.start()

    def update(self, message: dict[str, Any]) -> None:
        """Take in that a task began, or ended."""
        with self.lock:
            if "name" in message:
                self.begin(message["path"], message["name"], message["total"])
            else:
                self.end(message["path"], message.get("bound"))

    def begin(self, path: tuple[int, ...], name: str, total: int | None) -> None:
        """Add a line, in place of those of tasks at its depth that have ended."""
        for other in [other for other in self.lines if len(other) >= len(path) and other not in self.n_done]:
            self.progress.remove_task(self.lines.pop(other))
        name = "  " * (len(path) - 1) + name + (f" {path[-1] + 1}" if len(path) > 1 else "")
        self.lines[path] = self.progress.add_task(name, total=total, bound="")
        self.n_done[path] = 0

    def end(self, path: tuple[int, ...], bound: float | None) -> None:
        """Fill the line of a task, and count the task in that of its parent."""
        if path in self.n_done:
            n_done = self.n_done.pop(path)
            self.progress.update(self.lines[path], total=n_done, completed=n_done)
        parent = path[:-1]
        if parent in self.n_done:
            self.n_done[parent] += 1
            fields = {} if bound is None else {"bound": f"bound {bound:.4g}"}
            self.progress.update(self.lines[parent], completed=self.n_done[parent], **fields)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.progress.stop()


def is_epoch(estimator: Any, context: Any) -> bool:
    """Whether a task is an epoch of ours."""
    return isinstance(estimator, VAETransformer) and context.task_name == "epoch"


def path_of(context: Any) -> tuple[int, ...]:
    """Return the numbers of a task and of those it is a part of, from the outermost on."""
    path: tuple[int, ...] = ()
    while context is not None:
        path, context = (context.task_id, *path), context.parent
    return path


def _import_rich() -> Any:
    try:
        from rich import progress
    except ImportError as error:
        raise ImportError("ProgressBar needs rich. Install it: pip install 'skvae[progress]'") from error
    return progress
