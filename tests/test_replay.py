"""Steps that are recorded and replayed are the steps."""

import gc
import subprocess
import sys
import threading
import time
import types
import weakref
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from torch import nn

from skvae import VAETransformer, _branches, _fitting, _replay, likelihoods, networks, objectives, training
from skvae._recording import Recording
from skvae._rows import Batch

N_ROWS = 602  # batches of 121 and of 120 rows


def table():
    rng = np.random.default_rng(0)
    number = rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "number": np.where(rng.random(N_ROWS) < 0.1, np.nan, number),
            "level": np.where(number > 0, "above", rng.choice(["low", "lower"], N_ROWS)),
            "count": rng.poisson(np.exp(number)),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, N_ROWS), "D"),
        }
    )


def numbers(digits):
    X = np.resize(digits[0], (N_ROWS, 64))
    return X + np.random.default_rng(0).normal(scale=0.1, size=X.shape)


def counts(digits):
    return np.random.default_rng(0).poisson(np.resize(digits[0] * 4, (N_ROWS, 64)))


def holes(digits):
    X = numbers(digits)
    X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    return X


CASES = {
    "default": (numbers, {}),
    "weights": (numbers, {"weighted": True}),
    "normal": (numbers, {"prior": "normal"}),
    "vamp": (numbers, {"prior": "vamp"}),
    "flow": (numbers, {"prior": "flow"}),
    "iwae": (numbers, {"objective": objectives.IWAE(5)}),
    "dreg": (numbers, {"objective": objectives.IWAE(5, dreg=True)}),
    "free bits": (numbers, {"objective": objectives.ELBO(free_bits=2.0)}),
    "warm-up": (numbers, {"kl_warmup": 0.3}),
    "beta_tc": (numbers, {"objective": "beta_tc", "beta": 4.0}),
    "dip": (numbers, {"objective": "dip"}),
    "autoencoder": (numbers, {"objective": "autoencoder"}),
    "beta_tc, warm-up": (numbers, {"objective": "beta_tc", "beta": 3.7, "kl_warmup": 0.6}),
    "dip, warm-up": (numbers, {"objective": "dip", "beta": 3.7, "kl_warmup": 0.6}),
    "iwae, warm-up": (numbers, {"objective": objectives.IWAE(5), "kl_warmup": 0.6}),
    "dreg, warm-up": (numbers, {"objective": objectives.IWAE(5, dreg=True), "kl_warmup": 0.6}),
    "mmd": (numbers, {"objective": "mmd"}),
    "student_t": (numbers, {"likelihood": "student_t"}),
    "dynamic": (
        lambda digits: np.clip(numbers(digits), 0, 1),
        {"likelihood": likelihoods.Bernoulli(dynamic=True)},
    ),
    "negative_binomial": (counts, {"likelihood": "negative_binomial"}),
    "categorical": (counts, {"likelihood": "categorical"}),
    "holes": (holes, {}),
    "table": (lambda digits: table(), {}),
    "heterogeneous": (lambda digits: table().drop(columns="day"), {"likelihood": "heterogeneous"}),
    "bfloat16": (numbers, {"precision": "bfloat16"}),
    "float64": (numbers, {"precision": "float64"}),
    "full batch": (lambda digits: numbers(digits)[:200], {"batch_size": "auto"}),
    "images": (numbers, {"encoder": networks.Conv((1, 8, 8)), "decoder": networks.Conv((1, 8, 8))}),
    "early stopping": (numbers, {"early_stopping": True, "n_iter_no_change": 2}),
}
WAITS = {"mmd"}  # for the host in each step, so that its steps are not recorded


def fit(X, weighted=False, **params):
    params = {"n_components": 3, "batch_size": 128, "max_iter": 60, "random_state": 0} | params
    weight = np.random.default_rng(2).integers(1, 4, len(X)) if weighted else None
    return VAETransformer(**params).fit(X, sample_weight=weight)


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_the_steps(case, digits, monkeypatch):
    make, params = CASES[case]
    X = make(digits)
    finish, recordings = Recording.finish, []
    monkeypatch.setattr(Recording, "finish", lambda *args: recordings.append(0) or finish(*args))
    params = {"max_iter": 50 if case == "full batch" else 15, "device": "cpu"} | params
    replayed = fit(X, **params)
    assert bool(recordings) == (case not in WAITS)
    monkeypatch.setattr(_fitting, "can_replay", lambda vae: False)
    same(replayed, fit(X, **params))


class OwnLayer(nn.Module):
    def forward(self, x):
        return x


def hooked(in_features, out_features):
    network = nn.Sequential(nn.Linear(in_features, out_features))
    network.register_forward_hook(lambda *args: None)
    return network


NETWORKS = {
    "plain": (
        True,
        lambda i, o: nn.Sequential(nn.Linear(i, 8), nn.PReLU(), nn.Dropout(0.2), nn.Linear(8, o)),
    ),
    "batch norm": (True, lambda i, o: nn.Sequential(nn.Linear(i, 8), nn.BatchNorm1d(8), nn.Linear(8, o))),
    "shared": (True, lambda i, o: nn.Sequential(nn.Linear(i, 8), *[nn.Linear(8, 8)] * 2, nn.Linear(8, o))),
    "attention": (
        True,
        lambda i, o: nn.Sequential(
            nn.Linear(i, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, o)
        ),
    ),
    "own": (False, lambda i, o: nn.Sequential(nn.Linear(i, 8), OwnLayer(), nn.Linear(8, o))),
    "hook": (False, hooked),
    "weight norm": (False, lambda i, o: nn.utils.parametrizations.weight_norm(nn.Linear(i, o))),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks_of_known_layers_are_replayed(case, digits, monkeypatch):
    known, network = NETWORKS[case]
    finish, recordings = Recording.finish, []
    monkeypatch.setattr(Recording, "finish", lambda *args: recordings.append(0) or finish(*args))
    params = {"encoder": network, "decoder": network, "max_iter": 12, "device": "cpu"}
    replayed = fit(numbers(digits), **params)
    assert bool(recordings) == known
    monkeypatch.setattr(_fitting, "can_replay", lambda vae: False)
    same(replayed, fit(numbers(digits), **params))


def same(one, other):
    """Compare two fits bit by bit."""
    assert one.history_ == other.history_
    weights = other.module_.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in one.module_.state_dict().items())


def recorded(block):
    """Run a block under a recording; return the recording, its result and where a replay leaves that."""
    recording = Recording()
    with recording:
        first = block()
    assert recording.is_whole
    return recording, first, recording.finish(first)


def shapes(x):
    x = x + 1
    x.t_()  # another shape for what a kernel returned
    y = x.reshape(-1)[::2].unsqueeze(0)
    y.unsqueeze_(0)
    y = y.squeeze()
    return torch.stack((y, y.flip(0))).permute(1, 0).contiguous().view(-1)


def places(x):
    y = torch.zeros(x.shape)
    y[:, 1:] = x[:, :-1]
    y[:, 0].add_(2.0)
    y.index_add_(0, torch.tensor([0, 0, 1]), x)
    return torch.where(y > 0.5, y, x.new_full((), -1.0))[:, torch.tensor([2, 0])]


def lists(x):
    parts = torch._foreach_mul([*x.unbind()], 2.0)
    torch._foreach_add_(parts, [x[0]] * 3)
    return torch.cat(parts)


def gradients(x):
    leaf = x.clone().requires_grad_()
    value = torch.nn.functional.layer_norm(leaf, leaf.shape[1:]).exp() @ torch.arange(5.0).unsqueeze(1)
    return torch.autograd.grad(torch.logsumexp(value, 0).sum(), leaf)[0]


def several(x):
    values, index = x.max(1)
    return values + index + x.topk(2, 1).values[:, 1]


def constants(x):
    y = torch.eye(5).cumsum(0)
    total = torch.ones(5)
    total += x[0]  # of what is made anew each time
    return x @ y + total


def numbers_of_python(x):
    y = torch.tensor([1.0, 2.0, 3.0])
    y += x[:, 0]
    y[0] = 5.0
    return y * x.new_tensor([2.0]) + torch.as_tensor(np.ones(3, np.float32)).mul_(2)


def arithmetic(x):
    y = 2 - x * 3
    y.sub_(0.1).mul_(1.7).div_(0.3).add_(1, alpha=2)
    whole = (x * 10).long() * 2 + 1
    short = (x.bfloat16() * 0.1 + 1.001 - x.bfloat16() / 3).sub_(0.3)
    return y + whole + short + torch.rsub(x.double() / 3, 0.1) + torch.rsub(x, 1, alpha=2)


def defaults(x):
    """Kernels whose arguments are not all told."""
    y = (
        nn.functional.hardtanh(4 * x - 2)
        + nn.functional.relu6(9 * x - 1)
        + nn.functional.hardtanh(x, 0.2, 0.4)
    )
    y = y + torch.linalg.vector_norm(x) + torch.amax(x) + torch.amax(x, 1, keepdim=True) + x.sum()
    return (
        torch.add(y, x, alpha=2)
        + torch.linalg.vector_norm(x, 1, (0,))
        + torch.index_select(x, 1, torch.arange(5))
    )


def layouts(x):
    y = torch.empty((1, 3, 5, 1), memory_format=torch.channels_last)
    y[0, :, :, 0] = x
    return y.to(memory_format=torch.contiguous_format) * 2


BLOCKS = [
    shapes,
    places,
    lists,
    gradients,
    several,
    constants,
    numbers_of_python,
    arithmetic,
    defaults,
    layouts,
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_replay_computes_what_the_block_does(block):
    x = torch.rand(3, 5)
    expected = block(x)
    recording, first, result = recorded(lambda: block(x))
    assert torch.equal(first, expected)
    for _ in range(3):
        x.copy_(torch.randn(3, 5))
        for _ in range(30):
            recording.replay()
        assert torch.equal(result, block(x))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["add", "mul", "sin", "exp_", "sum", "cat", "t", "half"]), max_size=40),
    st.randoms(),
)
def test_memory_is_given_away_only_when_nothing_reads_it(names, random):
    """Programs of random kernels on random earlier results, where each wrong reuse changes numbers."""
    steps = [(name, random.random(), random.random()) for name in names]

    def block():
        known = [x, x + 1]
        for name, first, second in steps:
            a, b = (known[int(u * len(known))] for u in (first, second))
            match name:
                case "add" | "mul":
                    known.append(getattr(torch, name)(a, b))
                case "sin":
                    known.append(a.sin())
                case "exp_":
                    known.append((-a.abs()).exp_())
                case "sum":
                    known.append(a + b.sum(1, keepdim=True))
                case "cat":
                    known.append(torch.cat((a, b))[2:6])
                case "t":
                    known.append(a.t())  # the same memory
                case "half":
                    known.append(torch.cat((a[:2], b[2:])))
        return torch.stack(known[-3:]).sum(0) + known[0]

    x = torch.rand(4, 4)
    recording, _, result = recorded(block)
    x.copy_(torch.rand(4, 4))
    recording.replay()
    torch.testing.assert_close(result, block(), rtol=0, atol=0, equal_nan=True)


def test_replays_draw_on_and_change_what_was_there():
    def block():
        count.add_(1)
        x = torch.randn(4, generator=generator) + torch.empty(4).uniform_(generator=generator)
        return x + torch.nn.functional.dropout(torch.ones(4), 0.5) + count

    generator, count = torch.Generator().manual_seed(0), torch.zeros(())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = [block() for _ in range(4)]
        generator.manual_seed(0)
        torch.manual_seed(0)
        count.zero_()
        recording, first, result = recorded(block)
        got = [first]
        for _ in range(3):
            recording.replay()
            got.append(result.clone())
    assert torch.equal(torch.stack(got), torch.stack(expected))
    assert count == 4


@pytest.mark.parametrize(
    "block",
    [
        lambda x: x * x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x * 2 if bool(x.max() > 0) else x,
        lambda x: x.expand(1 << 12, 1 << 12) + 1,
        lambda x: (torch.complex(x, x).conj() * 2.0).real,
    ],
    ids=["item", "mask", "nonzero", "branch", "large", "conjugate"],
)
def test_what_cannot_be_replayed_is_not(block):
    recording = Recording()
    x = torch.tensor([0.5])
    with recording:
        result = block(x)
    assert not recording.is_whole
    assert torch.equal(result, block(x))


def test_only_what_changes_memory_is_done_again():
    x = torch.rand(3, 5)

    def block():
        y = x.t()[1:].unsqueeze(0) * torch.eye(5)[:3, :3].sum()
        y.squeeze_()
        return y.t_().view(-1)

    recording, _, result = recorded(block)
    assert len(recording.plan) == 1
    recording.replay()
    assert torch.equal(result, block())


def test_what_follows_from_what_is_fixed_is_computed_once():
    fixed, state, x = torch.rand(3), torch.rand(3), torch.rand(3)
    recording = Recording(fixed=[fixed, state])

    def block():
        state.add_(1)
        return x * fixed.exp().sum() + state.exp()

    with recording:
        first = block()
    result = recording.finish(first)
    assert len(recording.plan) == 4  # not the first exponentials, nor their sum
    recording.replay()
    torch.testing.assert_close(result, x * fixed.exp().sum() + state.exp())


def test_memory_is_used_again():
    x = torch.rand(1 << 16)

    def block():
        y = x
        for _ in range(50):
            y = y.sin()
        return y

    recording, _, result = recorded(block)
    memory = {t.data_ptr() for _, args, kwargs in recording.plan for t in (*args, *kwargs.values())}
    assert len(memory) == 4  # x, the result, and two that take turns
    recording.replay()
    assert torch.equal(result, block())


def test_recordings_share_memory():
    x = torch.rand(8, 8)
    first, _, one = recorded(lambda: (x.sin() + 1).exp() * torch.eye(8).cumsum(0))
    second = Recording(first.memory)
    with second:
        result = (x[1:].cos() + 1).exp() * torch.eye(8)[1:].cumsum(0)
    other = second.finish(result)
    assert second.memory is first.memory
    for _ in range(2):
        first.replay()
        second.replay()
    assert torch.equal(other, result)
    assert torch.equal(one, (x.sin() + 1).exp() * torch.eye(8).cumsum(0))


def test_the_result_may_be_what_was_there():
    x = torch.zeros(3)
    recording, _, result = recorded(lambda: x.add_(1))
    recording.replay()
    assert torch.equal(result, torch.full((3,), 2.0))
    assert result.data_ptr() == x.data_ptr()


def test_a_step_that_cannot_be_replayed_is_taken():
    """Of two sizes of batch one reads a number, and both go on."""
    taken = []

    def step(batch, rate, beta):
        taken.append(len(batch.x))
        total = batch.x.sum(1) * rate + beta
        return total * total[0].item() if len(batch.x) == 3 else total

    replay = _replay.KernelReplay(step, torch.Generator(), torch.float32)
    for n_rows in (3, 4) * 3:
        x = torch.rand(n_rows, 2)
        total = x.sum(1) * 0.1 + n_rows
        figures = replay(Batch(x, None, None, True), 0.1, float(n_rows))
        torch.testing.assert_close(figures, total * total[0] if n_rows == 3 else total)
    assert taken == [3, 4, 3, 3]


class Stream:
    """What `GraphReplay` asks of a stream of a GPU."""

    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        pass

    wait_event = wait_stream
    record_event = __init__


def test_one_thread_records_at_a_time(monkeypatch):
    """CUDA has one recording under way in a process, or they break each other."""
    recording, seen, lock = [], [], threading.Lock()

    @contextmanager
    def graph(graph, stream, capture_error_mode):
        with lock:
            recording.append(stream)
        yield
        with lock:
            seen.append((len(recording), stream))
            recording.remove(stream)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: types.SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(_branches.Branches.__init__, "__defaults__", (torch.cuda.stream,))
    _replay._streams.cache_clear()

    def step(index, rate, beta):
        time.sleep(0.01)
        return index * rate

    def steps(n):
        replay = _replay.GraphReplay(step, torch.Generator(), torch.float32)
        for _ in range(6):
            replay(torch.arange(n), 0.1, 1.0)

    Parallel(n_jobs=4, backend="threading")(delayed(steps)(n) for n in range(1, 9))
    _replay._streams.cache_clear()
    assert [n for n, _ in seen] == [1] * 8
    assert len({id(stream) for _, stream in seen}) == 1


def test_fits_in_threads_leave_no_mode_behind(digits):
    """torch notes in global variables that a mode is on."""
    state = ("_is_in_torch_dispatch_mode", "_is_in_non_infra_torch_dispatch_mode")
    X = digits[0][:, 20:30]
    histories = Parallel(n_jobs=4, backend="threading")(
        delayed(lambda: fit(X, batch_size=32, max_iter=10, device="cpu").history_)() for _ in range(8)
    )
    assert all(history == histories[0] for history in histories)
    modes = torch.utils._python_dispatch
    assert not any(getattr(modes, name, False) for name in state)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"objective": "mmd"}])
def test_a_fit_leaves_nothing_to_the_garbage_collector(params, digits, monkeypatch):
    """What it holds for a while would else add up over fits."""
    start, runs = training._Run.__init__, []
    monkeypatch.setattr(
        training._Run, "__init__", lambda self, *args: start(self, *args) or runs.append(weakref.ref(self))
    )
    gc.disable()
    try:
        fit(numbers(digits), device="cpu", max_iter=15, **params)
        assert [run() for run in runs] == [None]
    finally:
        gc.enable()


def test_a_fit_computes_in_its_own_precision(digits):
    """Whatever its surroundings."""
    params = {"max_iter": 12, "device": "cpu"}
    with torch.autocast("cpu", torch.bfloat16):
        inside = fit(numbers(digits), **params)
    same(inside, fit(numbers(digits), **params))


def test_hooks_are_called_in_each_step(digits):
    calls = []
    vae = VAETransformer(3, batch_size=128, max_iter=20, warm_start=True, device="cpu").fit(numbers(digits))
    vae.module_.encoder.register_forward_hook(lambda *args: calls.append(0))
    vae.set_params(max_iter=40).fit(numbers(digits))
    assert len(calls) > 20 * 5


def test_functions_of_others_and_hooks_of_all_layers_are_called_in_each_step(digits):
    calls = []

    def curve(x):
        calls.append(0)
        return torch.relu(x)

    def network(n_in, n_out):
        inner = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation=curve)
        layers = nn.Linear(n_in, 16), nn.Unflatten(1, (4, 4)), inner, nn.Flatten(), nn.Linear(16, n_out)
        return nn.Sequential(*layers)

    X = numbers(digits)
    VAETransformer(3, encoder=network, batch_size=128, max_iter=20, device="cpu").fit(X)
    assert len(calls) > 20 * 5
    calls.clear()
    handle = nn.modules.module.register_module_forward_hook(lambda *args: calls.append(0))
    try:
        VAETransformer(3, batch_size=128, max_iter=20, device="cpu").fit(X)
    finally:
        handle.remove()
    assert len(calls) > 20 * 5 * 5


def test_torch_compiler_is_not_imported():
    """It takes longer to import than most fits do, and so does sympy."""
    code = (
        "import sys, numpy as np, skvae, skvae._replay as r; "
        "X = np.random.default_rng(0).normal(size=(300, 5)); "
        "first = r.KernelReplay._first; calls = []; "
        "r.KernelReplay._first = lambda *args: calls.append(0) or first(*args); "
        "skvae.VAETransformer(2, max_iter=30).fit(X); "
        "skvae.VAETransformer(2, max_iter=30, likelihood='student_t').fit(X); "
        "assert calls; assert not {'torch._dynamo', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
