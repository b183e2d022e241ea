"""The training loop: batches, schedules, recovery, interruption, early stopping, threads."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skvae import VAETransformer
from skvae._random import global_seed
from skvae._rows import Data, load_rows
from skvae._threads import threads, tiny_as_zero
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.model import VAE
from skvae.objectives import ELBO, Autoencoder
from skvae.priors import Mixture, StandardNormal
from skvae.training import Plan, make_optimizer, train

NAN = float("nan")
rng = np.random.RandomState(0)
X = rng.randn(30, 1) @ rng.randn(1, 4) + 0.3 * rng.randn(30, 4)
progress = st.floats(0, 1)
quick = settings(max_examples=50, deadline=None)


def make(X=X, prior=None, likelihood=None):
    with global_seed(0):
        observation = (likelihood or Gaussian()).build(X)
        prior = (prior or StandardNormal()).build(2)
        encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
        return VAE(encoder, nn.Linear(2, observation.out_features), observation, prior, 2).double()


def rows_of(model, X=X, weight=None):
    return load_rows(Data(X, weight), None, model.likelihood, torch.float64, torch.device("cpu"))


def run(model, plan, objective=None, X=X, weight=None, **kwargs):
    generator = torch.Generator().manual_seed(1)
    return train(model, rows_of(model, X, weight), objective or ELBO(), plan, generator, **kwargs)


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


class Spoiled(ELBO):
    """An ELBO that calls `spoil` with the number of the call, from 0 on, and its value."""

    def __init__(self, model, spoil):
        super().__init__()
        self.model, self.spoil, self.seen = model, spoil, []

    def __call__(self, terms, beta):
        self.seen.append(weights(self.model))
        return self.spoil(len(self.seen) - 1, super().__call__(terms, beta))


# -- schedules -------------------------------------------------------------------------------------


@quick
@given(a=progress, b=progress, peak=st.floats(1e-6, 1.0))
def test_the_rate_rises_then_falls(a, b, peak):
    plan = Plan(10, 10, peak)
    top = max(np.linspace(0, 1, 1001), key=plan.rate)
    a, b = sorted((a, b))
    assert 0 <= plan.rate(a) <= peak * (1 + 1e-12)
    assert plan.rate(top) == pytest.approx(peak, rel=1e-3)
    assert 0.05 < top < 0.5
    if b <= top:
        assert plan.rate(a) <= plan.rate(b) + 1e-12
    elif a >= top:
        assert plan.rate(a) >= plan.rate(b) - 1e-12
    assert 0 < plan.rate(1.0) <= 0.02 * peak
    assert Plan(10, 10, peak, cycle=False).rate(a) == peak


@quick
@given(progress=progress, beta=st.floats(0, 10), warmup=st.floats(0.01, 0.99))
def test_beta_rises_in_a_line_and_stays(progress, beta, warmup):
    plan = Plan(10, 10, 0.1, beta=beta, kl_warmup=warmup)
    want = np.interp(progress, [0, warmup], [0, beta])
    assert plan.beta_at(progress) == pytest.approx(want, abs=1e-12)
    assert Plan(10, 10, 0.1, beta=beta).beta_at(progress) == beta


# -- rows and batches ------------------------------------------------------------------------------


def test_rows_are_standardised_before_they_lose_digits():
    big = X + 1e7
    likelihood = Gaussian().build(big)
    rows = load_rows(Data(big, np.arange(30) + 1.0), None, likelihood, torch.float32, torch.device("cpu"))
    assert rows.x.dtype == rows.weight.dtype == torch.float32
    np.testing.assert_allclose(rows.x, (X - X.mean(0)) / X.std(0), atol=1e-5)
    np.testing.assert_allclose(rows.weight, (np.arange(30) + 1) / 15.5, rtol=1e-6)
    assert rows.complete
    assert len(rows) == 30


def test_rows_know_whether_a_cell_is_missing():
    holed = X.copy()
    holed[-1, -1] = NAN
    rows = load_rows(Data(holed), None, Gaussian().build(holed), torch.float64, torch.device("cpu"))
    assert not rows.complete
    assert torch.isnan(rows.x).sum() == 1
    assert rows.weight is None


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(1, 30), (7, 4), (8, 4), (14, 2), (20, 2), (29, 1), (30, 1), (500, 1)]
)
def test_batches_cover_every_row_once_an_epoch(batch_size, steps):
    model, batches = make(), []
    terms = model.terms

    def recording(x, *args, **kwargs):
        batches.append(x[:, 0].tolist())
        return terms(x, *args, **kwargs)

    model.terms = recording
    run(model, Plan(3, batch_size, 0.01))
    assert len(batches) == 3 * steps
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    epochs = [sum(batches[i * steps : (i + 1) * steps], []) for i in range(3)]  # noqa: RUF017
    want = sorted(rows_of(make()).x[:, 0].tolist())
    assert [sorted(epoch) for epoch in epochs] == [want] * 3
    if steps > 1:
        assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("beta_warmup", [0.0, 0.5])
def test_weights_are_repetitions(beta_warmup):
    weight = rng.randint(1, 4, 30)
    plan = Plan(8, 100, 0.01, weight_decay=0.1, kl_warmup=beta_warmup)
    weighted, repeated = make(), make()
    first = run(weighted, plan, Autoencoder(), X, weight.astype(float))
    second = run(repeated, plan, Autoencoder(), np.repeat(X, weight, axis=0))
    for a, b in zip(weights(weighted).values(), weights(repeated).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-7, atol=1e-9)


# -- what a run does -------------------------------------------------------------------------------


def test_history():
    model = make()
    plan = Plan(40, 10, 0.02, beta=0.5, kl_warmup=0.25)
    history = run(model, plan, validation=rows_of(model, X[:5]))
    parts = {"loss", "reconstruction", "kl"}
    want = {*parts, "beta", "learning_rate"} | {f"validation_{part}" for part in parts}
    assert want <= history.keys()
    assert {len(values) for values in history.values()} == {40}
    assert all(isinstance(value, float) for values in history.values() for value in values)
    h = {key: np.array(values) for key, values in history.items()}
    bound = h["beta"] * h["kl"] - h["reconstruction"]
    np.testing.assert_allclose(h["loss"][10:], bound[10:], rtol=1e-6)  # after the warm-up
    assert (h["loss"][:10] < bound[:10]).all()  # before, beta rose during the epoch
    np.testing.assert_allclose(
        h["validation_loss"], 0.5 * h["validation_kl"] - h["validation_reconstruction"]
    )
    last = (np.arange(1, 41) * 3 - 0.5) / 120  # progress at the last of the three steps of each epoch
    np.testing.assert_allclose(h["beta"], [plan.beta_at(p) for p in last])
    np.testing.assert_allclose(h["learning_rate"], [plan.rate(p) for p in last])
    assert h["loss"][-5:].mean() < h["loss"][:5].mean() - 0.5


def test_history_without_validation_has_no_such_keys():
    assert not any(key.startswith("validation") for key in run(make(), Plan(2, 10, 0.02)))


def test_history_and_validation_by_hand():
    model = make(prior=StandardNormal())
    before = make()
    holdout = rows_of(before, X[:7], np.arange(7) + 1.0)
    history = run(model, Plan(1, 30, 1e-12, cycle=False), Autoencoder(), validation=holdout)
    rows = rows_of(before).x
    assert history["reconstruction"][0] == pytest.approx(before.terms(rows).log_px.mean().item(), rel=1e-6)
    assert history["loss"][0] == pytest.approx(-history["reconstruction"][0])
    per_row = before.terms(rows[:7]).log_px[0].detach().numpy()
    assert history["validation_reconstruction"][0] == pytest.approx(np.average(per_row, weights=range(1, 8)))


def test_equal_seeds_give_equal_weights_and_leave_global_state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = make(), make()
    run(first, Plan(5, 10, 0.02))
    run(second, Plan(5, 10, 0.02))
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(make()))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_decay_shrinks_the_matrices_alone():
    model = make(prior=Mixture(3))
    before = weights(model)
    run(model, Plan(20, 30, 0.01, weight_decay=0.1), Spoiled(model, lambda i, value: 0 * value))
    for key, value in weights(model).items():
        if key.startswith(("encoder", "decoder")) and value.ndim > 1:
            assert value.norm() < before[key].norm(), key
        else:
            assert torch.equal(value, before[key]), key


def test_every_parameter_is_trained():
    model = make(prior=Mixture(3))
    before = weights(model)
    run(model, Plan(3, 30, 0.01))
    for name, parameter in model.named_parameters():
        if parameter.numel():
            assert (parameter != before[name]).all(), name


def test_dynamic_cells_are_drawn_anew_at_every_pass():
    grey = np.full((30, 4), 0.5)
    model, seen = make(grey, likelihood=Bernoulli(dynamic=True)), []
    terms = model.terms
    model.terms = lambda x, *args, **kwargs: seen.append(x.clone()) or terms(x, *args, **kwargs)
    run(model, Plan(4, 30, 0.01), X=grey)
    assert all(set(x.unique().tolist()) == {0.0, 1.0} for x in seen)
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("n_draws", [1, 3])
def test_draws_are_as_many_as_the_objective_asks_for(n_draws):
    model, shapes = make(), []
    terms = model.terms

    def recording(*args, **kwargs):
        result = terms(*args, **kwargs)
        shapes.append(tuple(result.z.shape))
        return result

    model.terms = recording
    run(model, Plan(2, 30, 0.01), ELBO(n_draws))
    assert shapes == [(n_draws, 30, 2)] * 2


def test_objectives_see_the_weights_of_the_rows():
    class Recording(ELBO):
        def __call__(self, terms, beta):
            weights.append(terms.weight)
            return super().__call__(terms, beta)

    model, weights, weight = make(), [], np.arange(1.0, 31)
    run(
        model,
        Plan(1, 30, 0.01),
        Recording(),
        weight=weight,
        validation=rows_of(model, X, weight[::-1].copy()),
    )
    want = torch.tensor(weight / weight.mean())
    torch.testing.assert_close(weights, [want, want.flip(0)], check_dtype=False)


def test_the_callback_sees_every_epoch_and_may_stop():
    records = []
    history = run(
        make(), Plan(10, 10, 0.02), on_epoch=lambda so_far: records.append(so_far[-1]) or len(so_far) == 3
    )
    assert len(records) == 3
    assert history == {key: [record[key] for record in records] for key in records[0]}


def test_going_on_with_an_optimizer():
    model, plan = make(), Plan(2, 30, 0.01, cycle=False)
    run(model, plan, optimizer=make_optimizer(model, plan))
    fresh = make()
    run(fresh, plan)
    assert same(weights(model), weights(fresh))


# -- what may go wrong -----------------------------------------------------------------------------


def test_a_bad_step_goes_back_to_the_last_good_weights():
    model = make()
    spoiled = Spoiled(model, lambda i, value: value * NAN if i == 55 else value)
    plan = Plan(60, 30, 0.01, cycle=False)
    history = run(model, plan, spoiled)
    assert len(spoiled.seen) == 60 + 10  # looked at after 50 steps and after 60, then from 50 on again
    assert same(spoiled.seen[60], spoiled.seen[50])
    np.testing.assert_allclose(history["learning_rate"], [0.01] * 50 + [0.01 / 3] * 10)
    assert all(np.isfinite(values).all() for values in history.values())
    assert {len(values) for values in history.values()} == {60}
    assert all(value.isfinite().all() for value in weights(model).values())


def test_a_step_too_far_is_no_fault_of_the_validation_rows():
    model = make()
    # every other call is for the validation rows
    spoiled = Spoiled(model, lambda i, value: value - float("inf") if i == 111 else value)
    plan = Plan(80, 30, 0.01, cycle=False, patience=100)
    history = run(model, plan, spoiled, validation=rows_of(model, X[:5]))
    assert np.flatnonzero(np.isinf(history["validation_loss"])).tolist() == [55]
    assert len(history["loss"]) == 80


@pytest.mark.parametrize("step", range(7, 60, 7))
@pytest.mark.parametrize("averaging", [False, True])
@pytest.mark.parametrize("late", [0, 1, 20])
def test_no_nan_survives_an_interrupt(step, averaging, late):
    def spoil(i, value):
        if i == step + late:
            raise KeyboardInterrupt
        return value * NAN if i >= step else value

    model = make(prior=Mixture(3))
    plan = Plan(200, 30, 0.01, cycle=False, averaging=averaging)
    optimizer = make_optimizer(model, plan)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            history = run(model, plan, Spoiled(model, spoil), optimizer=optimizer)
        except KeyboardInterrupt:  # it has gone back to the start, where there is nothing to keep
            assert not told
            return
    assert "interrupted" in str(told[-1].message)
    assert len(history["loss"]) > 0
    assert np.isfinite(history["loss"]).all()
    assert all(value.isfinite().all() for value in weights(model).values())
    kept = [tensor for tensors in optimizer.state()["tensors"] for tensor in tensors]
    assert all(tensor.isfinite().all() for tensor in kept)


@pytest.mark.parametrize("step", [*range(0, 60, 7), 59])
def test_no_nan_survives_a_bad_step(step):
    model = make(prior=Mixture(3))
    history = run(model, Plan(60, 30, 0.01), Spoiled(model, lambda i, v: v * NAN if i == step else v))
    assert len(history["loss"]) == 60
    assert np.isfinite(history["loss"]).all()
    assert all(value.isfinite().all() for value in weights(model).values())


@pytest.mark.parametrize("step", [0, 30, 49, 51])
def test_no_nan_survives_a_callback_that_stops(step):
    model = make()
    history = run(
        model,
        Plan(90, 30, 0.01),
        Spoiled(model, lambda i, v: v * NAN if i >= step else v),
        on_epoch=lambda records: not np.isfinite(records[-1]["loss"]),
    )
    assert np.isfinite(history["loss"]).all()
    assert all(value.isfinite().all() for value in weights(model).values())


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_what_cannot_be_mended_names_its_likely_cause(bad):
    model = make()
    spoiled = Spoiled(model, lambda i, value: value * 0 + bad)
    with pytest.raises(ValueError, match=r"(?s)not finite.*learning_rate=0\.25.*X has.*extreme values"):
        run(model, Plan(2, 30, 0.25), spoiled)
    assert len(spoiled.seen) == 2 * 4  # the first try and three returns


def test_an_interrupt_keeps_the_weights():
    def interrupt(i, value):
        if i == 6:
            raise KeyboardInterrupt
        return value

    model = make()
    spoiled = Spoiled(model, interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted after 6 epochs"):
        history = run(model, Plan(100, 30, 0.01), spoiled)
    assert same(weights(model), spoiled.seen[6])
    assert {len(values) for values in history.values()} == {6}


def test_an_interrupt_at_the_first_step():
    def interrupt(i, value):
        raise KeyboardInterrupt

    model = make()
    with pytest.raises(KeyboardInterrupt):
        run(model, Plan(100, 30, 0.01), Spoiled(model, interrupt))


def test_other_errors_pass():
    def fail(i, value):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        run(make(), Plan(2, 30, 0.01), Spoiled(make(), fail))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, OSError])
def test_lower_precision_ends_with_training(error):
    seen = []

    def look(i, value):
        seen.append(model.autocast)
        if error and i == 2:
            raise error
        return value

    model, plan = make().float(), Plan(4, 30, 0.01, autocast=torch.bfloat16)
    rows = load_rows(Data(X), None, model.likelihood, torch.float32, torch.device("cpu"))
    args = model, rows, Spoiled(model, look), plan, torch.Generator()
    if error is None:
        train(*args)
    else:
        with pytest.raises(OSError) if error is OSError else pytest.warns(ConvergenceWarning):
            train(*args)
    assert set(seen) == {torch.bfloat16}
    assert model.autocast is None
    assert {value.dtype for value in weights(model).values()} == {torch.float32}


def test_frozen_weights_stay():
    model = make()
    model.encoder[0].requires_grad_(False)
    before = weights(model)
    run(model, Plan(3, 30, 0.01, weight_decay=0.1))
    changed = [name for name, value in weights(model).items() if not torch.equal(value, before[name])]
    assert changed
    assert not [name for name in changed if name.startswith("encoder.0")]


# -- networks without biases -----------------------------------------------------------------------


def test_a_model_without_biases_is_trained():
    zeros_and_ones = (X > 0).astype(float)
    model = make(zeros_and_ones, likelihood=Bernoulli())
    for layer in (model.encoder[0], model.encoder[2], model.decoder):
        layer.bias = None
    before = weights(model)
    run(model, Plan(3, 30, 0.01), X=zeros_and_ones)
    assert (model.decoder.weight != before["decoder.weight"]).all()


# -- early stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [0.0, 0.05])
def test_early_stopping_restores_the_best_weights(tol):
    model, states = make(X[:8]), []
    plan = Plan(500, 8, 0.05, cycle=False, patience=5, tol=tol)
    history = run(
        model,
        plan,
        X=X[:8],
        validation=rows_of(model, X[8:]),
        on_epoch=lambda records: states.append(weights(model)),
    )
    best, epoch = np.inf, 0
    for i, loss in enumerate(history["validation_loss"]):
        if loss < best - tol:
            best, epoch = loss, i
    assert len(states) == len(history["loss"]) == epoch + 1 + 5 < 500
    assert same(weights(model), states[epoch])


@pytest.mark.parametrize("how", ["patience", "callback"])
def test_columns_have_their_own_sigma_however_training_ends(how):
    model = make()
    assert model.likelihood.constants.std() == 0
    stop = {"patience": 3, "tol": 9.0} if how == "patience" else {}
    validation = rows_of(model, X[:5])
    plan = Plan(100, 30, 0.01, tied=0.9, **stop)
    history = run(model, plan, validation=validation, on_epoch=lambda records: len(records) == 20)
    assert len(history["loss"]) < 90
    assert model.likelihood.constants.std() > 0.01


@pytest.mark.parametrize("longest", [1000, 25, 6])
def test_a_schedule_without_improvement_soon_ends(longest):
    model, states = make(), []
    plan = Plan(longest, 30, 0.01, patience=4, tol=1e9, settle=0.3, tied=0.4)
    history = run(
        model,
        plan,
        validation=rows_of(model, X[:5]),
        on_epoch=lambda records: states.append(weights(model)),
    )
    more = min(3, longest - 5)  # half of five epochs
    assert len(history["loss"]) == 5 + more
    last = 1 - 0.5 / more * (1 - 5 / longest)
    assert history["learning_rate"][-1] == pytest.approx(plan.rate(last))
    assert torch.equal(weights(model)["encoder.0.weight"], states[0]["encoder.0.weight"])


def test_early_stopping_leaves_a_lost_step_to_recovery():
    class Once(nn.Linear):
        steps = 0

        def forward(self, x):
            self.steps += self.training
            return super().forward(x) * (NAN if self.training and self.steps == 4 else 1.0)

    for stopping in (False, True):
        vae = VAETransformer(
            2, decoder=Once, early_stopping=stopping, kl_warmup=0.0, max_iter=20, random_state=0
        )
        assert np.isfinite(vae.fit(X).score(X))


def test_early_stopping_waits_for_the_warm_up():
    model = make()
    validation = rows_of(model, X[:5])
    plan = Plan(40, 30, 1e-9, cycle=False, kl_warmup=0.5, patience=3, tol=0.1)
    assert len(run(model, plan, validation=validation)["loss"]) == 20 + 1 + 3


def test_validation_alone_does_not_stop():
    model = make()
    history = run(model, Plan(30, 30, 1e-9), validation=rows_of(model, X[:5]))
    assert len(history["validation_loss"]) == 30
    assert np.ptp(history["validation_loss"]) < 1e-4  # the same noise every time


def test_an_interrupt_restores_the_best_weights():
    def interrupt(i, value):
        if i == 40:
            raise KeyboardInterrupt
        return value

    model, states = make(X[:8]), []
    with pytest.warns(ConvergenceWarning):
        history = run(
            model,
            Plan(500, 8, 0.05, cycle=False, patience=100),
            Spoiled(model, interrupt),
            X=X[:8],
            validation=rows_of(model, X[8:]),
            on_epoch=lambda records: states.append(weights(model)),
        )
    assert same(weights(model), states[int(np.argmin(history["validation_loss"]))])


# -- talk and threads ------------------------------------------------------------------------------


def test_silent_unless_asked(capsys):
    run(make(), Plan(3, 30, 0.01))
    assert capsys.readouterr() == ("", "")
    run(make(), Plan(3, 30, 0.01, verbose=1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Epoch 3/3  loss ")


@pytest.fixture
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
class TestFewThreads:
    def test_lowers_and_restores(self):
        with threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3

    def test_never_raises_the_count(self):
        with threads(64):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 3

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_restores_after_an_error(self, error):
        with pytest.raises(error), threads(1):
            raise error
        assert torch.get_num_threads() == 3

    def test_nests(self):
        with threads(2):
            with threads(1):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() <= 2
        assert torch.get_num_threads() == 3


def tiny_is_zero():
    return sys.float_info.min / 2 == 0


@pytest.mark.parametrize("before", [False, True])
def test_tiny_numbers_are_zero_in_a_block(before):
    torch.set_flush_denormal(before)
    try:
        with tiny_as_zero():
            assert tiny_is_zero() == torch.set_flush_denormal(True)  # False where a processor cannot
        assert tiny_is_zero() == before
        with pytest.raises(KeyError), tiny_as_zero():
            raise KeyError
        assert tiny_is_zero() == before
    finally:
        torch.set_flush_denormal(False)


def test_threads_that_start_in_such_a_block_keep_tiny_numbers_afterwards():
    code = (
        "import torch; from skvae._threads import tiny_as_zero\n"
        "with tiny_as_zero(): torch.zeros(1 << 20).add_(1)\n"
        "assert not (torch.full((1 << 22,), 1e-40) * 1.0 == 0).any()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})


def test_tiny_numbers_are_zero_in_training_and_use():
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x):
            seen.append(tiny_is_zero())
            return super().forward(x)

    vae = VAETransformer(2, max_iter=1, encoder=Spy).fit(X)
    assert not tiny_is_zero()
    can = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    assert can in seen
    del seen[:]
    vae.transform(X)
    assert set(seen) == {can}


def test_training_warns_of_nothing():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(make(), Plan(2, 10, 0.01, verbose=0))
    assert caught == []


def test_the_prior_settles_where_the_rows_are():
    model = make(prior=Mixture(3))
    starts, start = [], model.prior.start
    model.prior.start = lambda z, *args: starts.append(z) or start(z, *args)
    run(model, Plan(10, 10, 1e-9, settle=0.3))  # weights that hardly move
    (z,) = starts
    q = model.encode(model.likelihood.standardize(torch.tensor(X)))
    assert z.shape == (30, 2)
    torch.testing.assert_close(z.std(0), (q.mean.var(0) + q.std.square().mean(0)).sqrt(), rtol=0.3, atol=0)
    distance = (model.prior.means[:, None] - z).abs().amax(-1)
    assert (distance.amin(1) < 1e-5).all()  # modes sit on draws


def test_a_prior_without_settling_stays():
    model = make(prior=Mixture(3))
    before = model.prior.means.detach().clone()
    run(model, Plan(10, 10, 1e-9))
    torch.testing.assert_close(model.prior.means, before, atol=1e-5, rtol=0)


def test_heavy_tails_and_holes_do_not_carry_training_off():
    random = np.random.default_rng(1)
    X = np.exp(1.5 * (random.normal(size=(900, 5)) @ random.normal(size=(5, 40)) / np.sqrt(5)))
    X += 0.01 * random.normal(size=X.shape)
    X[random.random(X.shape) < 0.5] = NAN
    loss = VAETransformer(objective="iwae", weight_decay=1 / 900, random_state=0).fit(X).history_["loss"]
    assert loss[-1] < 0.7 * loss[0]  # before gradients were clipped it ended at 1.5 times the first
