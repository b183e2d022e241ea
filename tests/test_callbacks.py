"""Callbacks of scikit-learn (1.9 on, else the root's conftest.py leaves this file out) and of ours."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.callback import ProgressBar as PlainProgressBar
from sklearn.callback import ScoringMonitor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAEImputer, VAEOutlierDetector, VAEOverSampler, VAETransformer
from skvae.callbacks import EarlyStopping, LossMonitor, ProgressBar

CALLBACKS = [EarlyStopping, LossMonitor, ProgressBar]


def small(**params):
    defaults = {"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0}
    return VAETransformer(**{**defaults, **params})


def figures(monitor):
    return [{name: row[name] for name in small_history()} for row in monitor.data]


def small_history():
    return ("loss", "reconstruction", "kl", "beta", "learning_rate")


class Recorder:
    """A callback that calls a function at every task's end."""

    max_propagation_depth = None

    def __init__(self, function):
        self.function = function

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return self.function(estimator, context)


# -- scikit-learn's -----------------------------------------------------------------------------------


def test_progress_bar_of_scikit_learn(diabetes, capsys):
    vae = small().set_callbacks(PlainProgressBar()).fit(diabetes)
    assert "VAETransformer - fit" in capsys.readouterr().out
    np.testing.assert_array_equal(vae.transform(diabetes), small().fit_transform(diabetes))


def test_progress_bar_of_scikit_learn_in_a_search(diabetes, capsys):
    search = GridSearchCV(small(max_iter=3), {"beta": [0.5, 1]}, cv=2)
    search.set_callbacks(PlainProgressBar()).fit(diabetes)
    assert "GridSearchCV" in capsys.readouterr().out


def test_scoring_monitor_logs_every_epoch(diabetes):
    monitor = ScoringMonitor(scoring={"score": lambda vae, X, y: vae.score(X)})
    y = np.zeros(len(diabetes))  # nothing is logged without
    vae = small(max_iter=20).set_callbacks(monitor).fit(diabetes, y)
    scores = [row["score"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 20
    assert scores[-1] == pytest.approx(vae.score(diabetes))
    assert scores[-1] > scores[0]


def test_callbacks_see_models_in_full_precision(diabetes):
    seen = []
    scoring = {"score": lambda vae, X, y: seen.append(vae.module_.autocast) or 0.0}
    monitor = ScoringMonitor(scoring=scoring)
    small(max_iter=2, precision="bfloat16").set_callbacks(monitor).fit(diabetes, np.zeros(len(diabetes)))
    assert seen
    assert set(seen) == {None}


def test_the_estimator_of_the_moment_has_its_own_history(diabetes):
    lengths = []
    scoring = {"n": lambda vae, X, y: lengths.append((len(vae.history_["loss"]), vae.n_iter_)) or 0.0}
    monitor = ScoringMonitor(scoring=scoring)
    small(max_iter=3).set_callbacks(monitor).fit(diabetes, np.zeros(len(diabetes)))
    assert lengths[:3] == [(1, 1), (2, 2), (3, 3)]


# -- what any callback sees ---------------------------------------------------------------------------


def test_a_callback_may_stop_training(diabetes):
    stop = Recorder(lambda vae, context: context.task_name == "epoch" and vae.n_iter_ == 3)
    vae = small().set_callbacks(stop).fit(diabetes)
    assert vae.n_iter_ == 3
    assert np.isfinite(vae.score(diabetes))


def test_the_history_grows_during_a_fit(diabetes):
    seen = []
    note = Recorder(lambda vae, context: seen.append((vae.n_iter_, vae.history_["loss"][-1])))
    vae = small(max_iter=4).set_callbacks(note).fit(diabetes)
    losses = vae.history_["loss"]
    assert seen == [*enumerate(losses, 1), (4, losses[-1])]  # the last one: the fit itself


def test_the_history_goes_on_in_a_warm_start(diabetes):
    vae = small(max_iter=4, warm_start=True).fit(diabetes)
    lengths = []
    vae.set_params(max_iter=6).set_callbacks(Recorder(lambda vae, _: lengths.append(len(vae.history_["kl"]))))
    vae.fit(diabetes)
    assert lengths == [5, 6, 6]


def test_epochs_that_are_taken_again_are_not_told_twice(diabetes, monkeypatch):
    """Else there would be more tasks than the fit announced, which is an error in scikit-learn."""
    from skvae.training import _Run

    epoch, spoiled = _Run.epoch, []

    def spoil_one(self, number):
        record = epoch(self, number)
        if number == 10 and not spoiled:
            spoiled.append(number)
            record["loss"] = math.nan
        return record

    monkeypatch.setattr(_Run, "epoch", spoil_one)
    monitor = LossMonitor()
    vae = small().set_callbacks(monitor).fit(diabetes)
    assert spoiled
    assert len(vae.history_["loss"]) == 30
    assert np.isfinite([row["loss"] for row in monitor.data]).all()
    assert len(monitor.data) <= 30


def test_a_fit_that_fails_leaves_the_history(diabetes):
    vae = small(max_iter=3, warm_start=True).fit(diabetes)
    before = vae.history_

    def fail(vae, context):
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        vae.set_params(max_iter=5).set_callbacks(Recorder(fail)).fit(diabetes)
    assert vae.history_ is before
    assert {key for key in vars(vae) if "callback" in key} == {"_skl_callbacks"}


# -- companions ---------------------------------------------------------------------------------------


def test_the_detector_shows_the_fit_inside(diabetes):
    monitor = LossMonitor()
    detector = VAEOutlierDetector(small()).set_callbacks(monitor).fit(diabetes)
    assert [row["loss"] for row in monitor.data] == detector.estimator_.history_["loss"]
    assert {row["task_id_path"] for row in monitor.data} == {(0, 0)}
    assert not any("callback" in key for key in vars(detector.estimator_))
    plain = VAEOutlierDetector(small()).fit(diabetes)
    np.testing.assert_array_equal(detector.score_samples(diabetes), plain.score_samples(diabetes))


def test_the_imputer_shows_the_fit_inside(diabetes):
    holed = diabetes.copy()
    holed[::3, 2] = np.nan
    monitor = LossMonitor()
    imputer = VAEImputer(small()).set_callbacks(monitor).fit(holed)
    assert [row["loss"] for row in monitor.data] == imputer.estimator_.history_["loss"]
    assert not any("callback" in key for key in vars(imputer.estimator_))
    plain = VAEImputer(small()).fit(holed)
    np.testing.assert_array_equal(imputer.transform(holed), plain.transform(holed))


def test_the_over_sampler_shows_the_fit_inside(cancer):
    X, y = cancer
    monitor = LossMonitor()
    sampler = VAEOverSampler(small()).set_callbacks(monitor)
    sampler.fit_resample(X, y)
    assert [row["loss"] for row in monitor.data] == sampler.estimator_.history_["loss"]


def test_a_frozen_model_has_nothing_to_show(diabetes):
    monitor, ends = LossMonitor(), []
    detector = VAEOutlierDetector(FrozenEstimator(small().fit(diabetes)))
    detector.set_callbacks(monitor, Recorder(lambda _, context: ends.append(context.task_name))).fit(diabetes)
    assert monitor.data == []
    assert ends == ["fit-estimator", "fit"]


@pytest.mark.parametrize("make", CALLBACKS)
def test_every_callback_in_a_search_over_a_detector(make, diabetes):
    search = GridSearchCV(
        VAEOutlierDetector(small(max_iter=2)), {"estimator__beta": [0.5, 1]}, cv=2, scoring=zero
    )
    search.set_callbacks(make()).fit(diabetes)
    assert search.best_estimator_.estimator_.n_iter_ == 2


def zero(estimator, X, y=None):
    return 0.0


# -- LossMonitor --------------------------------------------------------------------------------------


def test_the_monitor_logs_what_the_history_has(diabetes):
    monitor = LossMonitor()
    vae = small().set_callbacks(monitor).fit(diabetes, X_val=diabetes[:20])
    for i, row in enumerate(monitor.data):
        assert row["epoch"] == i + 1
        for name, values in vae.history_.items():
            assert row[name] == values[i]
    assert len(monitor.data) == 30
    assert "validation_loss" in monitor.data[0]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_monitor_of_a_search(n_jobs, diabetes):
    monitor = LossMonitor()
    search = GridSearchCV(small(max_iter=3), {"beta": [0.5, 1]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(monitor).fit(diabetes)
    assert len(monitor.data) == (2 * 2 + 1) * 3
    assert len({row["run_id"] for row in monitor.data}) == 1
    assert {row["task_id_path"] for row in monitor.data} == {*((0, 0, i) for i in range(4)), (0, 1)}
    last = [row["loss"] for row in monitor.data if row["task_id_path"] == (0, 1)]
    assert last == search.best_estimator_.history_["loss"]


def test_the_monitor_in_a_pipeline(diabetes):
    monitor = LossMonitor()
    pipeline = make_pipeline(StandardScaler(), small(max_iter=3)).set_callbacks(monitor)
    pipeline.fit(diabetes)
    assert [row["epoch"] for row in monitor.data] == [1, 2, 3]


def test_a_pickled_monitor_keeps_its_rows_and_takes_more(diabetes):
    monitor = LossMonitor()
    small(max_iter=2).set_callbacks(monitor).fit(diabetes)
    again = pickle.loads(pickle.dumps(monitor))
    small(max_iter=3).set_callbacks(again).fit(diabetes)
    assert len(monitor.data) == 2
    assert len(again.data) == 5


# -- EarlyStopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_no_improvement_stops(n_iter_no_change, diabetes):
    """With a tolerance that nothing reaches, the first loss after the warm-up is the best."""
    callback = EarlyStopping(n_iter_no_change=n_iter_no_change, tol=1e6)
    vae = small(kl_warmup=0.5).set_callbacks(callback).fit(diabetes)
    assert vae.n_iter_ == 15 + 1 + n_iter_no_change


def test_improvement_goes_on(diabetes):
    vae = small(kl_warmup=0).set_callbacks(EarlyStopping(n_iter_no_change=15, tol=0))
    assert vae.fit(diabetes).n_iter_ == 30


def test_stopping_by_validation_rows(diabetes):
    callback = EarlyStopping("validation_loss", n_iter_no_change=2, tol=1e6)
    vae = small(kl_warmup=0).set_callbacks(callback).fit(diabetes, X_val=diabetes[:50])
    assert vae.n_iter_ == 3


def test_epochs_of_an_earlier_fit_do_not_count(diabetes):
    vae = small(kl_warmup=0, warm_start=True, max_iter=10).fit(diabetes)
    vae.set_params(max_iter=30).set_callbacks(EarlyStopping(n_iter_no_change=4, tol=1e6)).fit(diabetes)
    assert vae.n_iter_ == 10 + 1 + 4


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_stopping_in_a_search(n_jobs, diabetes):
    monitor, callback = LossMonitor(), EarlyStopping(n_iter_no_change=2, tol=1e6)
    search = GridSearchCV(small(kl_warmup=0), {"beta": [0.5, 1]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(callback, monitor).fit(diabetes)
    assert len(monitor.data) == (2 * 2 + 1) * 3
    assert search.n_splits_ == 2


def test_stopping_without_validation_rows_is_refused(diabetes):
    with pytest.raises(ValueError, match="monitor='validation_loss', but there are no validation rows"):
        small().set_callbacks(EarlyStopping("validation_loss")).fit(diabetes)
    with pytest.raises(ValueError, match="monitor='kl'; expected 'loss'"):
        EarlyStopping("kl")


# -- ProgressBar --------------------------------------------------------------------------------------


def bound(vae):
    return vae.history_["reconstruction"][-1] - vae.history_["kl"][-1]


def test_the_bar_shows_epochs_and_bound(diabetes, capsys):
    vae = small().set_callbacks(ProgressBar()).fit(diabetes)
    out = capsys.readouterr().out
    for word in ("VAETransformer fit", "30/30", f"bound {bound(vae):.4g}"):
        assert word in out


def test_the_bar_of_a_fit_that_stops_early_is_full(diabetes, capsys):
    callbacks = (ProgressBar(), EarlyStopping(n_iter_no_change=2, tol=1e6))
    small(kl_warmup=0).set_callbacks(*callbacks).fit(diabetes)
    assert "3/3" in capsys.readouterr().out


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_bar_of_a_search(n_jobs, diabetes, capsys):
    search = GridSearchCV(small(max_iter=3), {"beta": [0.5, 1]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(ProgressBar()).fit(diabetes)
    out = capsys.readouterr().out
    assert "GridSearchCV fit" in out
    assert f"bound {bound(search.best_estimator_):.4g}" in out


def test_the_bar_ends_with_a_fit_that_fails(diabetes, capsys):
    bar = ProgressBar()
    with pytest.raises(ValueError, match="sample"):
        small().set_callbacks(bar).fit(diabetes[:1])

    def fail(vae, context):
        raise RuntimeError("full disk")

    for _ in range(2):  # a display that was left open would be in the way of the next
        with pytest.raises(RuntimeError, match="full disk"):
            small().set_callbacks(bar, Recorder(fail)).fit(diabetes)
    assert bar._handles == {}


def test_the_lines_of_a_display(capsys):
    """What has ended makes place for what begins; parents count."""
    from skvae.callbacks import _Display

    display = _Display()
    display.update({"path": (0,), "name": "search", "total": 2})
    display.update({"path": (0, 0), "name": "fit", "total": 5})
    display.update({"path": (0, 1), "name": "fit", "total": 5})
    for i in range(5):
        display.update({"path": (0, 0, i), "bound": -float(i)})
    display.update({"path": (0, 0)})
    assert set(display.lines) == {(0,), (0, 0), (0, 1)}
    display.update({"path": (0, 2), "name": "fit", "total": None})
    assert set(display.lines) == {(0,), (0, 1), (0, 2)}
    display.close()
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [(line[0], line[1]) for line in lines] == [("search", lines[0][1]), ("fit", "2"), ("fit", "3")]
    assert "1/2" in lines[0]
    assert "0/5" in lines[1]


def test_the_bar_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"pip install 'skvae\[progress\]'"):
        ProgressBar()


# -- without scikit-learn 1.9 -------------------------------------------------------------------------

OLD = """
from sklearn import callback, linear_model, model_selection, pipeline
del callback.CallbackSupportMixin  # as if there were none; its users in scikit-learn have theirs
import numpy as np
from skvae import VAEOutlierDetector, VAETransformer
X = np.random.default_rng(0).normal(size=(20, 3))
VAEOutlierDetector(VAETransformer(2, max_iter=2, random_state=0)).fit(X)
try:
    import skvae.callbacks
except ImportError as error:
    print(error)
"""


def test_an_older_scikit_learn_is_told():
    done = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, check=False)
    assert "skvae.callbacks needs scikit-learn 1.9 or newer" in done.stdout, done.stderr
