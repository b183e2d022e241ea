"""The contract of every likelihood: densities against scipy, in the units of the data."""

import inspect

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax
from sklearn.base import clone

from skvae import likelihoods
from skvae.likelihoods import (
    Bernoulli,
    Categorical,
    Columnwise,
    ContinuousBernoulli,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    ObservationModel,
    Poisson,
    StudentT,
)

NAN = float("nan")
SPECIFICATIONS = [
    cls
    for cls in (getattr(likelihoods, name) for name in likelihoods.__all__)
    if issubclass(cls, Columnwise) and not inspect.isabstract(cls)
]
VARIANTS = [Gaussian("shared", 0.1), StudentT(0.1), Bernoulli(dynamic=True)]
contract = pytest.mark.parametrize("spec", [*(cls() for cls in SPECIFICATIONS), *VARIANTS], ids=repr)


# -- data: the widest kind of column that a likelihood accepts -------------------------------------


def accepts(spec, X):
    try:
        spec.check(np.asarray(X, dtype=float))
    except ValueError:
        return False
    return True


def data(spec, n_rows=40, seed=0):
    """Rows of three columns."""
    rng = np.random.RandomState(seed)
    kinds = [
        rng.randn(n_rows, 3) * [2.0, 0.01, 300.0] + [-1.0, 5.0, 1e4],
        rng.uniform(size=(n_rows, 3)),
        rng.poisson([1.0, 4.0, 0.7], size=(n_rows, 3)).astype(float),
        rng.binomial(1, [0.5, 0.2, 0.8], size=(n_rows, 3)).astype(float),
    ]
    return next(X for X in kinds if accepts(spec, X))


def is_discrete(spec):
    return not spec.standardized and not accepts(spec, [[0.5]])


def make(spec, seed=0, X=None, spread=1.0):
    """An observation model whose constants are not at their start, and random decoder outputs."""
    X = data(spec) if X is None else X
    model = spec.build(X)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.constants += 0.4 * torch.randn(model.constants.shape, generator=generator)
    output = spread * torch.randn(2, len(X), model.out_features, generator=generator, dtype=torch.float64)
    return model, model.standardize(torch.tensor(X)), output.requires_grad_()


def with_holes(x):
    holes = torch.zeros_like(x, dtype=torch.bool)
    holes[0] = True  # a row of nothing
    holes[1:9, 1] = True
    holes[-1, 2] = True
    return torch.where(holes, NAN, x), holes


# -- references ------------------------------------------------------------------------------------


def params_of(model, output):
    params = output.detach().numpy().reshape(*output.shape[:-1], model.n_params, model.n_features)
    return params if model.offset is None else params + model.offset.numpy()


def gaussian(spec, model, x, params):
    log_sigma = model.constants.detach().numpy()[0]
    if spec.sigma == "shared":
        log_sigma = log_sigma.mean()
    elif spec.sigma == "cell":
        log_sigma = log_sigma + params[..., 1, :]
    sigma = spec.min_sigma + np.exp(log_sigma)
    location, scale = model.location.numpy(), model.scale.numpy()
    return scipy.stats.norm.logpdf(x, location + scale * params[..., 0, :], scale * sigma)


def student_t(spec, model, x, params):
    c = model.constants.detach().numpy()
    location, scale = model.location.numpy(), model.scale.numpy()
    return scipy.stats.t.logpdf(
        x,
        2 + np.log1p(np.exp(c[1])),
        location + scale * params[..., 0, :],
        scale * (spec.min_scale + np.exp(c[0])),
    )


def bernoulli(spec, model, x, params):
    p = expit(params[..., 0, :])
    if spec.dynamic:  # the expected log-density of binarisations
        return x * scipy.stats.bernoulli.logpmf(1, p) + (1 - x) * scipy.stats.bernoulli.logpmf(0, p)
    return scipy.stats.bernoulli.logpmf(x, p)


def continuous_bernoulli(spec, model, x, params):
    p = expit(params[..., 0, :])

    def normaliser(p):
        return scipy.integrate.quad(lambda t: p**t * (1 - p) ** (1 - t), 0, 1, epsabs=1e-12)[0]

    return x * np.log(p) + (1 - x) * np.log1p(-p) - np.log(np.vectorize(normaliser)(p))


def poisson(spec, model, x, params):
    return scipy.stats.poisson.logpmf(x, np.exp(params[..., 0, :]))


def negative_binomial(spec, model, x, params):
    mean, r = np.exp(params[..., 0, :]), np.exp(model.constants.detach().numpy()[0])
    return scipy.stats.nbinom.logpmf(x, r, r / (r + mean))


def categorical(spec, model, x, params):
    shape = np.broadcast_shapes(params.shape[:-2], x.shape[:-1])
    rows = np.broadcast_to(x, (*shape, x.shape[-1])).astype(int)[..., None, :]
    params = np.broadcast_to(params, (*shape, *params.shape[-2:]))
    return np.take_along_axis(log_softmax(params, axis=-2), rows, -2)[..., 0, :]


REFERENCES = {
    Bernoulli: bernoulli,
    Categorical: categorical,
    ContinuousBernoulli: continuous_bernoulli,
    Gaussian: gaussian,
    NegativeBinomial: negative_binomial,
    Poisson: poisson,
    StudentT: student_t,
}


def test_every_likelihood_has_a_reference():
    assert set(REFERENCES) == set(SPECIFICATIONS)


# -- densities -------------------------------------------------------------------------------------


@contract
def test_log_prob_against_scipy(spec):
    X = data(spec)
    model, x, output = make(spec)
    got = model.log_prob(x, output)
    assert got.shape == (2, *X.shape)
    np.testing.assert_allclose(
        got.detach(), REFERENCES[type(spec)](spec, model, X, params_of(model, output)), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(model.log_prob(x, output, complete=True), got, rtol=0, atol=0)


@contract
def test_density_sums_to_one_in_the_units_of_the_data(spec):
    if spec.dynamic:  # grey values have an expected log-density; zeros and ones a mass
        spec = clone(spec).set_params(dynamic=False)
    model, _, output = make(spec)
    output = output[0, :1]

    def density(values):
        rows = np.repeat(np.asarray(values, dtype=float).reshape(-1, 1), model.n_features, 1)
        x = model.standardize(torch.tensor(rows))
        return model.log_prob(x, output.expand(len(x), -1)).exp().detach().numpy()

    if is_discrete(spec):
        support = [k for k in range(3000) if accepts(spec, [[k]])]
        total = density(support).sum(axis=0)
    else:
        halves = [(-np.inf, 0.0), (0.0, np.inf)] if accepts(spec, [[-1.0]]) else [(0.0, 1.0)]
        start = model.mean(output).detach().numpy()[0] if spec.standardized else np.zeros(3)
        scale = model.scale.numpy() if spec.standardized else np.ones(3)

        def integral(j):
            def integrand(t):
                return scale[j] * density(start[j] + scale[j] * t)[0, j]

            return sum(scipy.integrate.quad(integrand, *ends, epsabs=1e-9)[0] for ends in halves)

        total = [integral(j) for j in range(3)]
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


@contract
def test_a_change_of_units_only_shifts_the_density(spec):
    if not spec.standardized:
        return  # nothing to change: counts, shares and levels have no units
    factor, shift = np.array([1e-3, 40.0, 2.5]), np.array([7.0, -1e5, 0.0])
    X = data(spec)
    model, x, output = make(spec)
    other, y, _ = make(spec, X=X * factor + shift)
    torch.testing.assert_close(other.features(y), model.features(x), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(
        other.log_prob(y, output).detach(),
        model.log_prob(x, output).detach().numpy() - np.log(factor),
        rtol=1e-6,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        other.mean(output).detach(), model.mean(output).detach().numpy() * factor + shift, rtol=1e-9
    )


@contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(spec, dtype):
    model, x, output = make(spec)
    want = model.log_prob(x, output)
    model, x, output = model.to(dtype), x.to(dtype), output.detach().to(dtype)
    results = {
        "features": model.features(x),
        "log_prob": model.log_prob(x, output),
        "mean": model.mean(output),
        "sample": model.sample(output, torch.Generator()),
        "draw": model.draw(x, torch.Generator()),
    }
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys(results, dtype)
    torch.testing.assert_close(results["log_prob"].double(), want, rtol=1e-4, atol=1e-4)


# -- means and draws -------------------------------------------------------------------------------


@contract
def test_samples_follow_the_density(spec):
    if spec.dynamic:
        spec = clone(spec).set_params(dynamic=False)
    n = 20_000
    model, _, output = make(spec)
    output = output[0, :1].expand(n, -1)
    X = model.sample(output, torch.Generator().manual_seed(1)).detach().numpy()
    assert X.shape == (n, 3)
    spec.check(X)
    params = params_of(model, output[:1])
    for j in range(model.n_features):
        if is_discrete(spec):
            levels, counts = np.unique(X[:, j], return_counts=True)
            rows = np.repeat(levels[:, None], model.n_features, 1)
            mass = np.exp(REFERENCES[type(spec)](spec, model, rows, params))[:, j]
            often = mass * n > 5
            chi2 = ((counts - mass * n) ** 2 / (mass * n))[often].sum()
            assert scipy.stats.chi2.sf(chi2, max(1, often.sum() - 1)) > 1e-4
            assert mass.sum() > 0.999
        else:
            grid = np.quantile(X[:, j], np.linspace(0, 1, 4001))
            rows = np.repeat(grid[:, None], model.n_features, 1)
            density = np.exp(REFERENCES[type(spec)](spec, model, rows, params))[:, j]
            cdf = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
            assert abs(cdf - np.linspace(0, 1, 4001)).max() < 1.95 / np.sqrt(n)  # Kolmogorov, p = 1e-3


@contract
def test_mean_is_that_of_the_samples(spec):
    n = 20_000
    model, _, output = make(spec)
    output = output[0, :1].expand(n, -1)
    mean = model.mean(output).detach().numpy()
    X = model.sample(output, torch.Generator().manual_seed(2)).detach().numpy()
    assert mean.shape == X.shape
    assert (mean == mean[0]).all()
    if isinstance(spec, Categorical):  # levels have no average
        np.testing.assert_array_equal(mean[0], scipy.stats.mode(X).mode)
    else:
        error = X.std(axis=0) / np.sqrt(n)
        assert (abs(X.mean(axis=0) - mean[0]) < 4.5 * error).all()


@contract
def test_equal_seeds_give_equal_samples_and_leave_global_state(spec):
    model, x, output = make(spec)
    global_torch, global_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002

    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([model.sample(output, generator).flatten(), model.draw(x, generator).flatten()])

    assert torch.equal(sample(3), sample(3))
    assert not torch.equal(sample(3), sample(4))
    assert torch.equal(torch.get_rng_state(), global_torch)
    assert np.array_equal(np.random.get_state()[1], global_numpy)  # noqa: NPY002


def test_dynamic_draws_are_zeros_and_ones_with_the_grey_value_as_mean():
    grey = torch.tensor([[0.0, 0.3, 1.0, NAN]], dtype=torch.float64).expand(20_000, -1)
    model = Bernoulli(dynamic=True).build(grey[:2].numpy())
    drawn = model.draw(grey, torch.Generator().manual_seed(0))
    assert set(drawn[:, :3].unique().tolist()) == {0.0, 1.0}
    assert torch.isnan(drawn[:, 3]).all()
    np.testing.assert_allclose(drawn[:, :3].mean(0), [0.0, 0.3, 1.0], atol=0.015)


@contract
def test_only_dynamic_likelihoods_draw(spec):
    model, x, _ = make(spec)
    assert (model.draw(x, torch.Generator()) is x) == (not spec.dynamic)


# -- the start -------------------------------------------------------------------------------------


@contract
def test_untrained_outputs_start_at_the_averages(spec):
    X = data(spec)
    model = spec.build(X)
    mean = model.mean(torch.zeros(model.out_features, dtype=torch.float64)).detach()
    if isinstance(spec, Categorical):
        want = scipy.stats.mode(X).mode
    elif isinstance(spec, ContinuousBernoulli):
        want = 0.5  # eta = 0, the uniform density
    else:
        want = X.mean(axis=0)
    np.testing.assert_allclose(mean, np.broadcast_to(want, 3), rtol=1e-9)


@contract
def test_weights_are_repetitions(spec):
    X = data(spec, 20)
    weight = np.random.RandomState(0).randint(1, 4, 20)
    weighted, repeated = spec.build(X, weight.astype(float)), spec.build(np.repeat(X, weight, axis=0))
    states = weighted.state_dict(), repeated.state_dict()
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-9, atol=1e-12)


@contract
def test_features_are_centred(spec):
    X = data(spec)
    model, x, _ = make(spec)
    features = model.features(x)
    assert features.shape == (len(X), model.in_features)
    assert torch.equal(model.features(x, complete=True), features)
    tolerance = 0.08 if isinstance(spec, Categorical) else 1e-9  # shares are smoothed by half a row
    np.testing.assert_allclose(features.mean(0), 0.0, atol=tolerance)
    if spec.standardized or model.feature_kind == "log1p":
        np.testing.assert_allclose(features.std(0, correction=0), 1.0)


# -- gradients and missing cells -------------------------------------------------------------------


@contract
def test_gradients_agree_with_finite_differences(spec):
    X = data(spec, 4)
    model, x, output = make(spec, X=X)
    start = model.constants.detach().clone().requires_grad_()

    def log_prob(output, constants):
        del model._parameters["constants"]
        model.constants = constants
        result = model.log_prob(x, output)
        del model.constants
        model.constants = torch.nn.Parameter(start.detach())
        return result

    assert torch.autograd.gradcheck(log_prob, (output, start))


@contract
def test_every_parameter_gets_a_gradient(spec):
    model, x, output = make(spec)
    model.log_prob(x, output).sum().backward()
    used = model.out_features if model.offset is None else int(torch.isfinite(model.offset).sum())
    assert torch.isfinite(output.grad).all()
    assert (output.grad != 0).any(0).any(0).sum() == used  # a level that a column lacks has none
    for name, parameter in model.named_parameters():
        if parameter.numel():
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).all(), name


@contract
def test_row_log_prob_is_the_sum_of_the_cells(spec):
    model, x, output = make(spec)
    for rows, complete in ((x, True), (x, False), (with_holes(x)[0], False)):
        results = []
        for function in (model.row_log_prob, lambda *args: model.log_prob(*args).sum(-1)):
            model.zero_grad()
            output.grad = None
            result = function(rows, output, complete)
            (result * torch.linspace(-1, 2, result.numel()).reshape(result.shape)).sum().backward()
            grads = [p.grad for p in model.parameters() if p.numel()]
            results.append([result.detach(), output.grad, *grads])
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@contract
def test_missing_cells_add_nothing_and_poison_nothing(spec):
    model, x, output = make(spec)
    holed, holes = with_holes(x)
    log_prob = model.log_prob(holed, output)
    assert (log_prob[:, holes] == 0).all()
    assert torch.equal(log_prob[:, ~holes], model.log_prob(x, output)[:, ~holes])
    log_prob.sum().backward()
    gradient = output.grad.unflatten(-1, (model.n_params, model.n_features))
    assert (gradient.movedim(2, 0)[:, :, holes] == 0).all()
    complete = output.detach().requires_grad_()
    model.log_prob(x, complete)[:, ~holes].sum().backward()
    torch.testing.assert_close(output.grad, complete.grad, rtol=1e-12, atol=0)
    for parameter in (p for p in model.parameters() if p.numel()):
        assert torch.isfinite(parameter.grad).all()


@contract
def test_missing_cells_look_average_to_the_encoder(spec):
    model, x, _ = make(spec)
    holed, holes = with_holes(x)
    features = model.features(holed).unflatten(-1, (-1, model.n_features))
    assert (features.movedim(1, 0)[:, holes] == 0).all()
    want = model.features(x).unflatten(-1, (-1, model.n_features))
    assert torch.equal(features.movedim(1, 0)[:, ~holes], want.movedim(1, 0)[:, ~holes])


@contract
def test_the_encoder_can_be_told_of_holes(spec):
    model, x, _ = make(spec)
    plain, n = model.features(x), model.in_features
    holed, holes = with_holes(x)
    model.show_holes(True)
    if model.feature_kind == "one_hot":  # a hole is no level at all
        assert model.in_features == n
        return
    assert model.in_features == n + model.n_features
    assert torch.equal(model.features(holed)[:, n:], holes.to(x.dtype))
    for complete in (False, True):
        features = model.features(x, complete=complete)
        assert torch.equal(features[:, :n], plain)
        assert not features[:, n:].any()


@contract
def test_build_ignores_missing_cells(spec):
    X = data(spec)
    holed = X.copy()
    holed[5:, 0] = np.nan
    model, short = spec.build(holed), spec.build(X[:5])
    for name in ("location", "scale"):
        got, want = getattr(model, name)[..., 0], getattr(short, name)[..., 0]
        if model.n_params == short.n_params:
            torch.testing.assert_close(got, want)
    spec.check(holed)


@contract
@pytest.mark.parametrize("empty", [[1], [0, 1, 2]])
def test_columns_without_an_observed_cell(spec, empty):
    X = data(spec)
    X[:, empty] = np.nan
    spec.check(X)
    model, x, output = make(spec, X=X)
    log_prob = model.log_prob(x, output)
    assert (log_prob[..., empty] == 0).all()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(model.features(x)).all()
    kept = np.setdiff1d([0, 1, 2], empty)
    for values in (model.mean(output), model.sample(output, torch.Generator())):
        assert torch.isfinite(values[..., kept]).all()
    # such a column may turn up filled later, and must not poison the rest of its row
    later = model.standardize(torch.tensor(data(spec)))
    assert torch.isfinite(model.features(later)).all()
    log_prob = model.log_prob(later, output)
    assert not torch.isnan(log_prob).any()
    assert torch.isfinite(log_prob[..., kept]).all()


@contract
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_are_hidden_but_scored(spec, dtype):
    X = data(spec)
    large = 3.0 if isinstance(spec, Categorical) else 1e8  # a code stands for as many levels
    values = [v for v in (-0.1, large, 0.1, 1.0, 0.0) if accepts(spec, [[v]])][:3]
    X[:, : len(values)] = values
    X = X.astype(dtype)
    model, x, output = make(spec, X=X)
    if model.feature_kind != "one_hot":
        assert (model.features(x.double())[:, : len(values)] == 0).all()
    log_prob = model.log_prob(x, output)
    assert torch.isfinite(log_prob).all()
    if spec.standardized:
        mean = model.mean(torch.zeros(model.out_features, dtype=torch.float64))
        np.testing.assert_allclose(mean.detach()[: len(values)], X[0, : len(values)], rtol=1e-7)


# -- extremes --------------------------------------------------------------------------------------


@contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("constant", [0.0, 40.0, -40.0])
def test_extreme_parameters_stay_finite(spec, dtype, size, constant):
    model, x, output = make(spec)
    with torch.no_grad():
        model.constants += constant
    model.to(dtype)
    output = (torch.sign(output.detach()) * size).to(dtype).requires_grad_()
    log_prob = model.log_prob(x.to(dtype), output)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(output.grad).all()
    for parameter in (p for p in model.parameters() if p.numel()):
        assert torch.isfinite(parameter.grad).all()
    assert torch.isfinite(model.mean(output)).all()
    sample = model.sample(output, torch.Generator().manual_seed(0)).detach()
    assert torch.isfinite(sample).all()
    spec.check(sample.flatten(0, 1).numpy())


@settings(max_examples=50, deadline=None)
@given(eta=st.floats(-500, 500), x=st.floats(0, 1))
def test_continuous_bernoulli_normaliser_near_and_far(eta, x):
    size = abs(eta)  # log((e^size - 1) / size), with the series where the quotient loses digits
    log_norm = size / 2 + size**2 / 24 if size < 1e-4 else size + np.log(-np.expm1(-size)) - np.log(size)
    want = eta * x - min(eta, 0) - log_norm
    params = torch.tensor([[eta]], dtype=torch.float64)
    got = ContinuousBernoulli().log_prob(torch.tensor([x], dtype=torch.float64), params, None)
    np.testing.assert_allclose(got.item(), want, rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(eta=st.floats(-30, 30))
def test_continuous_bernoulli_mean(eta):
    total = scipy.integrate.quad(lambda t: np.exp(eta * t - max(eta, 0)), 0, 1, epsabs=1e-13)[0]
    first = scipy.integrate.quad(lambda t: t * np.exp(eta * t - max(eta, 0)), 0, 1, epsabs=1e-13)[0]
    got = ContinuousBernoulli().mean(torch.tensor([[eta]], dtype=torch.float64), None)
    np.testing.assert_allclose(got.item(), first / total, rtol=1e-7)


@settings(max_examples=40, deadline=None)
@given(mean=st.floats(1e-6, 1e5), r=st.floats(1e-3, 1e3), x=st.integers(0, 10**5))
def test_negative_binomial_over_its_range(mean, r, x):
    params, constants = torch.tensor([[np.log(mean)]]), torch.tensor([[np.log(r)]])
    got = NegativeBinomial().log_prob(torch.tensor([float(x)]).double(), params, constants)
    np.testing.assert_allclose(
        got.item(), scipy.stats.nbinom.logpmf(x, r, r / (r + mean)), rtol=1e-7, atol=1e-6
    )


def test_a_code_that_no_training_row_had_has_no_mass():
    X = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 1.0]])
    model = Categorical().build(X)
    x = torch.tensor([[2.0, 2.0], [7.0, 3.0]], dtype=torch.float64)  # beyond the column; beyond all columns
    log_prob = model.log_prob(x, torch.zeros(2, 6, dtype=torch.float64))
    assert torch.equal(torch.isfinite(log_prob), torch.tensor([[False, True], [False, False]]))
    assert (log_prob[~torch.isfinite(log_prob)] == -torch.inf).all()
    assert torch.isfinite(model.features(x)).all()


def test_categorical_shares_are_smoothed_by_half_a_row():
    model = Categorical().build(np.array([[0.0], [0.0], [1.0], [np.nan]]))
    np.testing.assert_allclose(model.offset.exp().ravel(), [2.5 / 4, 1.5 / 4])


# -- specifications --------------------------------------------------------------------------------


@contract
def test_is_a_specification_without_tensors(spec):
    before = spec.get_params()
    assert vars(spec) == before
    twin = clone(spec)
    assert twin.get_params() == before
    assert repr(twin) == repr(spec)
    assert eval(repr(spec)).get_params() == before
    spec.build(data(spec))
    assert vars(spec) == before
    assert set(before) == set(inspect.signature(type(spec)).parameters)


@contract
def test_the_state_tells_the_units_of_rows(spec):
    model, x, output = make(spec)
    other = spec.build(data(spec), np.linspace(0.1, 2, len(data(spec))))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.row_log_prob(x, output, True), model.row_log_prob(x, output, True))


def test_names_are_unique():
    names = [cls.name for cls in SPECIFICATIONS]
    assert len(set(names)) == len(names)


@contract
def test_everything_learned_lives_in_the_state(spec):
    model, x, output = make(spec)
    fresh = spec.build(data(spec))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.log_prob(x, output), model.log_prob(x, output))
    assert torch.equal(fresh.features(x), model.features(x))


BAD = {
    "negative": np.array([[0.0, 1.0], [-3.25, 1.0]]),
    "grey": np.array([[0.0, np.nan], [0.75, 1.0]]),
    "large": np.array([[0.0, 1.0], [6.5, 1.0]]),
}
WISHES = {
    Bernoulli: ("only 0 and 1", "likelihood='gaussian'", {"negative", "grey", "large"}),
    Categorical: ("whole numbers from 0 on", "likelihood='gaussian'", {"negative", "grey", "large"}),
    ContinuousBernoulli: ("values in [0, 1]", "likelihood='gaussian'", {"negative", "large"}),
    Gaussian: ("", "", set()),
    NegativeBinomial: ("whole numbers from 0 on", "likelihood='gaussian'", {"negative", "grey", "large"}),
    Poisson: ("whole numbers from 0 on", "likelihood='gaussian'", {"negative", "grey", "large"}),
    StudentT: ("", "", set()),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("cls", SPECIFICATIONS)
def test_check_names_likelihood_range_wish_and_remedy(cls, bad, dtype):
    wish, remedy, refused = WISHES[cls]
    X = BAD[bad].astype(dtype)
    if bad not in refused:
        cls().check(X)
        return
    with pytest.raises(ValueError) as error:
        cls().check(X)
    for part in (f"likelihood={cls.name!r}", f"[{np.nanmin(X):g}, {np.nanmax(X):g}]", wish, remedy):
        assert part in str(error.value)


def test_check_of_dynamic_bernoulli():
    Bernoulli(dynamic=True).check(BAD["grey"])
    with pytest.raises(ValueError, match=r"'bernoulli'.*\[0, 6.5\].*values in \[0, 1\].*gaussian"):
        Bernoulli(dynamic=True).check(BAD["large"])


@pytest.mark.parametrize("cls", [cls for cls in SPECIFICATIONS if WISHES[cls][2]])
def test_check_looks_at_every_row(cls):
    X = np.zeros((2_000_000, 1), dtype=np.float32)  # more than one chunk
    X[-1] = -1
    with pytest.raises(ValueError, match="-1, 0"):
        cls().check(X)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Gaussian("row"), "sigma='row'"),
        (Gaussian(min_sigma=0), "min_sigma=0"),
        (Gaussian(min_sigma=NAN), "min_sigma=nan"),
        (StudentT(min_scale=-1), "min_scale=-1"),
    ],
)
def test_hyperparameters_are_checked(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.check(np.zeros((2, 1)))


def test_shared_sigma_is_one_number():
    model = Gaussian("shared", min_sigma=0.1).build(data(Gaussian()))
    with torch.no_grad():
        model.constants.copy_(torch.tensor([[0.0, 1.0, -1.5]]))
    noise = model.sample(torch.zeros(20_000, 3).double(), torch.Generator().manual_seed(0)) - model.location
    spread = (noise / model.scale).std(0).detach()
    np.testing.assert_allclose(spread, 0.1 + np.exp(-1 / 6), rtol=0.02)


def test_constants_fitted_to_residuals():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3)) * [1.0, 5.0, 0.1]
    X[::2, 1] = np.nan
    model = Gaussian().build(X)
    x = model.standardize(torch.tensor(X))
    output = torch.zeros((2, 500, 3), dtype=torch.float64)
    output[1] = 1.0  # two draws that miss by 0 and by 1 standard deviation
    model.fit_constants(x, output)
    sigma = torch.exp(model.likelihood.log_sigma(None, model.constants)).detach().numpy()
    seen = x.numpy()
    want = np.sqrt(np.nanmean(np.stack([seen**2, (seen - 1) ** 2]), axis=(0, 1)))
    np.testing.assert_allclose(sigma, want, rtol=1e-9)


def test_constants_fitted_by_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2)) * np.where(np.arange(600) < 300, 0.1, 2.0)[:, None]
    weight = torch.tensor(np.where(np.arange(600) < 300, 20.0, 1.0))
    model = Gaussian().build(X, weight.numpy())
    x = model.standardize(torch.tensor(X))
    output = torch.zeros((1, 600, 2), dtype=torch.float64)
    model.fit_constants(x, output, weight)
    sigma = torch.exp(model.likelihood.log_sigma(None, model.constants)).detach().numpy()
    np.testing.assert_allclose(sigma, np.sqrt(np.average(x**2, axis=0, weights=weight)), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_without_a_formula_are_searched(dtype):
    rng = np.random.default_rng(0)
    df = np.array([3.0, 30.0])
    X = rng.standard_t(df, size=(4000, 2)) * [1.0, 5.0]
    model = StudentT().build(X).to(dtype)
    x = model.standardize(torch.tensor(X, dtype=dtype))
    model.fit_constants(x, torch.zeros((1, 4000, 2), dtype=dtype))
    log_scale, found = model.likelihood._scale_and_df(model.constants.detach())
    assert found[0] < 4
    assert found[1] > 10
    for j in range(2):
        best = scipy.stats.t.fit(x[:, j].numpy(), floc=0)
        ours = scipy.stats.t.logpdf(x[:, j], found[j], scale=log_scale[j].exp()).mean()
        assert ours == pytest.approx(scipy.stats.t.logpdf(x[:, j], *best).mean(), abs=2e-3)
    assert model.constants.grad is None


# -- what all are ---------------------------------------------------------------------------------


@contract
def test_a_specification_builds_an_observation_model(spec):
    assert isinstance(spec, Likelihood)
    assert isinstance(spec.build(data(spec)), ObservationModel)


def test_constant_columns_come_out_as_they_were():
    X = np.column_stack([np.arange(30.0), np.full(30, 3.0), np.zeros(30)])
    for spec in (Gaussian(), StudentT()):
        model = spec.build(X)
        output = torch.randn(4, 30, model.out_features, dtype=torch.float64)
        for values in (model.mean(output), model.sample(output, torch.Generator().manual_seed(0))):
            assert (values[..., 1] == 3).all()
            assert (values[..., 2] == 0).all()
            assert values[..., 0].std() > 0
