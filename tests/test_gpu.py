"""What a CUDA device changes: steps are replayed, nothing waits for the host, and all else is as on a CPU."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from test_replay import CASES, N_ROWS, WAITS, fit, holes, numbers, table

from skvae import (
    VAEImputer,
    VAEOutlierDetector,
    VAEOverSampler,
    VAETransformer,
    _fitting,
    _replay,
    _rows,
    persistence,
    training,
)

if not torch.cuda.is_available():  # CI has none: the steps that are replayed are tested one by one elsewhere
    pytest.skip("there is no CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_the_steps(case, digits, monkeypatch):
    make, params = CASES[case]
    X = make(digits)
    recordings = []
    record = _replay.GraphReplay._record
    monkeypatch.setattr(_replay.GraphReplay, "_record", lambda *args: recordings.append(0) or record(*args))
    replayed = fit(X, **params)
    assert bool(recordings) == (case not in WAITS)
    monkeypatch.setattr(_fitting, "can_replay", lambda vae: False)
    stepped = fit(X, **params)
    # the same draws; rounding grows from step to step, so the first epochs are compared closely
    np.testing.assert_allclose(replayed.history_["loss"][:5], stepped.history_["loss"][:5], rtol=2e-3)
    spread = np.ptp(stepped.history_["loss"])
    assert abs(replayed.history_["loss"][-1] - stepped.history_["loss"][-1]) < 0.03 * spread


@pytest.mark.parametrize("case", [case for case in CASES if case not in WAITS])
def test_no_step_waits_for_the_host(case, digits, monkeypatch):
    make, params = CASES[case]
    step = training._Run.step

    def watched(self, *args):
        torch.cuda.set_sync_debug_mode("error" if self.ascents else "default")
        try:
            return step(self, *args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training._Run, "step", watched)
    monkeypatch.setattr(_fitting, "can_replay", lambda vae: False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        fit(make(digits), **params | {"max_iter": 2})


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_products_are_rounded_only_by_default(precision, digits, monkeypatch):
    step, seen = training._Run.step, []

    def watched(self, *args):
        seen.append(torch.get_float32_matmul_precision())
        return step(self, *args)

    monkeypatch.setattr(training._Run, "step", watched)
    rows = torch.rand(300, 300, device="cuda")
    before = rows @ rows
    fit(numbers(digits), max_iter=2, precision=precision)
    assert set(seen) == {"high" if precision == "auto" else "highest"}
    assert torch.equal(rows @ rows, before)


@pytest.mark.parametrize("case", ["default", "table"])
def test_a_model_of_a_gpu_computes_on_a_cpu(case, digits, tmp_path):
    make, params = CASES[case]
    X = make(digits)
    vae = fit(X, **params)
    assert vae.device_.type == "cuda"
    assert next(vae.module_.parameters()).is_cuda
    persistence.save(vae, tmp_path / "vae.skvae")
    for other in (pickle.loads(pickle.dumps(vae)), persistence.load(tmp_path / "vae.skvae")):
        assert other.device_.type == "cpu"
        assert not any(t.is_cuda for t in other.module_.state_dict().values())
        np.testing.assert_allclose(other.transform(X), vae.transform(X), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            other.score_samples(X, n_draws=200), vae.score_samples(X, n_draws=200), atol=1.0
        )
        assert len(other.sample(5, random_state=0)) == 5
    assert vae.device_.type == "cuda"  # it stays where it is


@pytest.mark.parametrize("case", ["default", "table"])
def test_a_fit_goes_on(case, digits):
    make, params = CASES[case]
    X = make(digits)
    vae = fit(X, **params | {"warm_start": True, "max_iter": 20})
    vae.set_params(max_iter=40).fit(X)
    assert vae.n_iter_ == 40
    streamed = VAETransformer(3, random_state=0)
    for _ in range(30):
        streamed.partial_fit(X)
    assert streamed.score(X) > streamed.history_["loss"][0] * -1
    assert np.isfinite(streamed.score(X))


def test_seeds_mean_the_same_everywhere(digits):
    for X in (numbers(digits), table()):
        there = fit(X)
        here = pickle.loads(pickle.dumps(there))
        if isinstance(X, pd.DataFrame):
            a, b = (vae.sample(200, random_state=0) for vae in (there, here))
            assert (a["level"] == b["level"]).mean() > 0.98  # rounding may turn a draw
            np.testing.assert_allclose(a["number"].mean(), b["number"].mean(), atol=0.05)
        else:
            for draw in (True, False):
                holed = np.where(np.random.default_rng(3).random(X.shape) < 0.2, np.nan, X)[:20]
                filled = (vae.impute(holed, draw=draw, n_draws=50, random_state=0) for vae in (there, here))
                np.testing.assert_allclose(*filled, rtol=1e-2, atol=2e-2)
            drawn = (vae.sample(20, random_state=0) for vae in (there, here))
            np.testing.assert_allclose(*drawn, rtol=1e-3, atol=1e-3)


def test_fits_in_threads(digits):
    X = numbers(digits)
    alone = fit(X, max_iter=20).history_["loss"]
    fits = Parallel(n_jobs=4, backend="threading")(delayed(fit)(X, max_iter=20) for _ in range(12))
    for vae in fits:
        np.testing.assert_allclose(vae.history_["loss"][:5], alone[:5], rtol=2e-3)


def test_a_file_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "STREAM_BYTES", 0)
    rng = np.random.default_rng(0)
    X = np.memmap(tmp_path / "rows.dat", np.float32, "w+", shape=(20_000, 4))
    X[:] = rng.normal(size=(20_000, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=X.shape)
    weight = rng.integers(1, 4, len(X))
    streamed, kept = (fit(rows, max_iter=5).score(X) for rows in (X, np.array(X)))
    assert streamed == pytest.approx(kept, abs=0.1)
    vae = VAETransformer(2, max_iter=5, random_state=0, conditional=True)
    assert np.isfinite(vae.fit(X, X[:, 0] > 0, sample_weight=weight).score(X, X[:, 0] > 0))


def test_fits_leave_no_memory_behind(digits):
    X, reserved = numbers(digits), []
    for _ in range(12):
        fit(X, max_iter=12)
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert max(reserved[2:]) == min(reserved[2:])


def test_drawn_decimals_are_decimals():
    X = np.random.default_rng(0).integers(0, 900, (500, 1)) / 10
    drawn = fit(X, max_iter=20, likelihood="mixed").sample(500, random_state=0)
    np.testing.assert_array_equal(drawn, drawn.round(1))


def test_companions(digits):
    X, y = numbers(digits), (np.arange(N_ROWS) % 5 == 0).astype(int)
    vae = VAETransformer(2, max_iter=20, random_state=0)
    detector = VAEOutlierDetector(vae).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    np.testing.assert_allclose(-detector.explain(X).sum(1), detector.score_samples(X), rtol=1e-3, atol=1e-2)
    assert np.isfinite(VAEImputer(vae).fit_transform(holes(digits))).all()
    assert not VAEImputer(vae).fit_transform(table()).isna().any().any()
    resampled, labels = VAEOverSampler(vae).fit_resample(X, y)
    assert labels.mean() == 0.5
    assert np.isfinite(resampled).all()


def test_numbers_agree_with_those_of_a_cpu(digits):
    X = numbers(digits)
    there, here = (fit(X, device=device) for device in ("cuda", "cpu"))
    # other draws, so another model: as good
    assert abs(there.score(X) - here.score(X)) < 0.02 * abs(here.score(X)) + 2


def test_returning_from_weights_that_are_no_numbers(digits, monkeypatch):
    with pytest.raises(ValueError, match="The loss was not finite"):
        fit(numbers(digits), learning_rate=1e20)
    sound, calls = training._Run.is_sound, []
    monkeypatch.setattr(
        training._Run, "is_sound", lambda self: sound(self) and (calls.append(0) or len(calls) != 4)
    )
    vae = fit(numbers(digits))
    assert len(calls) > 4
    assert np.isfinite(vae.score(numbers(digits)))
    assert len(vae.history_["loss"]) == 60
