"""The likelihood of tables: an exact density, a chain of columns, holes."""

import contextlib
import copy
import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skvae import _mixed
from skvae.likelihoods import Mixed

NAN = float("nan")


def build(X, seed=0, size=0.3, **params):
    """Return a model of X with weights that make everything depend on everything."""
    torch.manual_seed(seed)
    spec = Mixed(**params)
    spec.check(X)
    model = spec.build(X).double().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(size * torch.randn_like(weights))
    return model


@pytest.fixture
def levels():
    """200 rows of three columns of 2, 3 and 2 levels."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(n, size=200) for n in (2, 3, 2)]).astype(float)
    return X, (2, 3, 2)


def output_of(model, n_rows=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n_rows, model.out_features), generator=generator, dtype=torch.float64)


def every_row(n_levels):
    return torch.tensor(list(itertools.product(*map(range, n_levels))), dtype=torch.float64)


# -- the density ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [True, False])
def test_probabilities_of_all_rows_sum_to_one(levels, chain):
    X, n_levels = levels
    model = build(X, levels=n_levels, chain=chain)
    rows = every_row(n_levels)
    log_p = model.row_log_prob(model.standardize(rows), output_of(model).expand(len(rows), -1))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_density_of_a_number_integrates_to_one():
    X = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 1))
    model = build(X)
    column = model.columns[0]
    middle = (column.edges[1:] / 2 + column.edges[:-1] / 2)[:, None]
    log_p = model.row_log_prob(model.standardize(middle), output_of(model).expand(len(middle), -1))
    log_mass = log_p + torch.log(column.edges.diff())
    assert log_mass.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_a_whole_number_has_its_probability():
    X = np.random.default_rng(0).poisson(3.0, size=(3000, 1)).astype(float)
    model = build(X)
    values = torch.arange(-2000.0, 2000.0, dtype=torch.float64)[:, None]
    log_p = model.row_log_prob(model.standardize(values), output_of(model).expand(len(values), -1))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-3)  # but for what lies further out


def test_values_never_seen_have_a_density():
    X = np.random.default_rng(0).normal(size=(300, 2))
    model = build(X)
    far = torch.tensor([[1e9, -1e300], [-50.0, 7.0]], dtype=torch.float64)
    assert torch.isfinite(model.log_prob(model.standardize(far), output_of(model, 2))).all()


# -- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [True, False])
def test_a_column_depends_on_those_before_it_alone(levels, chain):
    X, n_levels = levels
    model = build(X, levels=n_levels, chain=chain)
    output = output_of(model)
    base = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    log_p = model.log_prob(base, output)[0]
    for j in range(3):
        other = base.clone()
        other[0, j] = 1 - other[0, j].clamp(max=1)
        changed = model.log_prob(other, output)[0]
        torch.testing.assert_close(changed[:j], log_p[:j])
        if j < 2:
            assert torch.allclose(changed[j + 1 :], log_p[j + 1 :]) is not chain


@pytest.mark.parametrize("n_columns", [1, 2, 9, 21])
def test_what_columns_tell_is_one_masked_product(n_columns):
    rng = np.random.default_rng(0)
    few, many = rng.integers(3, size=(500, n_columns)), rng.integers(70, size=(500, n_columns))
    X = np.where(np.arange(n_columns) % 3, few, many).astype(float)  # of fewer codes than values, and of more
    model = build(X, levels=[3 if j % 3 else 70 for j in range(n_columns)])
    cell = model._read(model.standardize(torch.tensor(X)))[0]
    shows = torch.tensor(rng.random(X.shape) < 0.7)
    values = model.values[model.near[cell]] * shows[..., None]  # levels have no smooth part
    values = values * torch.tensor(model.freedom, dtype=torch.float64)[:, None]
    n_units, n_values = model.link.shape[1], model.values.shape[1]
    later = torch.ones(n_columns, n_columns).tril(-1).to(values)
    mask = later.repeat_interleave(n_units, 0).repeat_interleave(n_values, 1)
    expected = values.flatten(1) @ (model.context * mask).T
    torch.testing.assert_close(model._tell(model.near[cell] - model.first_code, shows), expected)


def test_codes_differ_freely_by_so_much_in_all():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=4000), rng.integers(3, size=4000), rng.integers(256, size=4000)])
    spec = Mixed(levels=(0, 3, 256))
    model = spec.build(X).float()
    assert model.sizes == [200, 3, 256]
    assert model.freedom == pytest.approx([np.sqrt(16 / 200), 3.2, 3.2 / 4])
    few = spec.build(X, sample_weight=np.full(4000, 0.2))  # as much as 800 rows
    assert few.freedom == [1.0, 1.0, 1.0]
    own = torch.randn(len(model.head), 1)
    flat = model._smoothed(own, torch.zeros(3, _mixed.N_WAVES, 1))
    torch.testing.assert_close(flat[:200] / own[:200], torch.full((200, 1), np.sqrt(16 / 200)))
    with torch.no_grad():
        model.head.zero_()
    waves = model._smoothed(model.head, model.smooth_head)
    assert waves[:200].abs().min() > 0
    assert (waves[200:] == 0).all()  # levels have no order


def test_drawn_rows_follow_the_chain(levels):
    X, n_levels = levels
    model = build(X, levels=n_levels)
    output, rows = output_of(model), every_row(n_levels)
    expected = model.row_log_prob(rows, output.expand(len(rows), -1)).exp()
    drawn = model.sample(output.expand(40_000, -1), torch.Generator().manual_seed(0))
    share = torch.stack([(drawn == row).all(1).double().mean() for row in rows])
    np.testing.assert_allclose(share.numpy(), expected.detach().numpy(), atol=4 * 0.5 / np.sqrt(40_000))


def test_a_drawn_row_alone_is_as_random_as_one_that_is_filled(levels):
    """Whatever the other rows are: the joint frequencies of all its columns are those of the density."""
    X, n_levels = levels
    model = build(X, levels=n_levels)
    output = output_of(model, 5)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([model.sample(output, generator)[3] for _ in range(1000)])
    rows = every_row(n_levels)
    counts = (drawn[:, None] == rows).all(2).sum(0)
    p = model.row_log_prob(model.standardize(rows), output[3].expand(len(rows), -1)).exp()
    assert scipy.stats.chisquare(counts, 1000 * p.detach()).pvalue > 1e-3


def test_shares_of_drawn_rows_are_nearer_to_the_model_than_those_of_independent_ones(levels):
    X, n_levels = levels
    model = build(X, levels=n_levels)
    output = output_of(model, 500)
    rows = every_row(n_levels)
    cells = model.standardize(rows)
    p = torch.stack([model.row_log_prob(c.expand(500, -1), output).exp() for c in cells], 1).detach()
    is_one = (rows == 1).double()
    p = p @ is_one  # that a column has its level 1
    expected, spread = p.sum(0), (p * (1 - p)).sum(0).sqrt()  # of independent draws
    generator = torch.Generator().manual_seed(0)

    def errors(draw):
        """Of the counts of 100 draws, in standard deviations of independent rows."""
        counts = torch.stack([(draw() == 1).double().sum(0) for _ in range(100)])
        return (counts - expected) / spread

    even = errors(lambda: model.sample(output, generator))
    empty = torch.full((500, len(n_levels)), NAN, dtype=torch.float64)
    independent = errors(lambda: model.fill(empty, output, generator)[0])
    assert abs(even.mean(0)).max() < 0.3
    assert (even.std(0)[[0, 2]] < 0.7 * independent.std(0)[[0, 2]]).all()  # two levels: one number tells all
    assert even.std() < 0.8 * independent.std()
    assert 0.85 < independent.std() < 1.15


def test_fill_weighs_what_is_given(levels):
    X, n_levels = levels
    X = np.column_stack((X, np.random.default_rng(1).normal(size=200)))
    model = build(X, size=0.05, levels=(*n_levels, 0))
    x, output = model.standardize(torch.tensor(X[:20])), output_of(model, 20)
    values, log_p = model.fill(x, output, torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_p, model.row_log_prob(x, output))
    assert values.isnan().all()
    x[:, 1] = NAN
    values, log_p = model.fill(x, output, torch.Generator().manual_seed(0))
    assert (values.isnan() == torch.tensor([True, False, True, True])).all()
    rest = model.fill(x[:1], output[:1].expand(6000, -1), torch.Generator().manual_seed(0))
    exact = [  # of the seen cells, summed over the unseen one
        model.row_log_prob(torch.where(x[:1].isnan(), level, x[:1]), output[:1]) for level in (0.0, 1.0, 2.0)
    ]
    assert rest[1].exp().mean().item() == pytest.approx(torch.cat(exact).exp().sum().item(), rel=0.05)


def test_means_and_modes(levels):
    X, n_levels = levels
    model = build(X, levels=n_levels)
    mean = model.mean(output_of(model, 5))
    assert mean.shape == (5, 3)
    assert set(mean.unique().tolist()) <= {0.0, 1.0, 2.0}
    numbers = np.random.default_rng(0).normal(100.0, 3.0, size=(400, 1))
    mean = build(numbers).mean(output_of(build(numbers), 50))
    assert numbers.min() < mean.min() < mean.max() < numbers.max()


# -- holes ----------------------------------------------------------------------------------------


def test_a_hole_is_a_level_in_training_and_nothing_in_scores(levels):
    X, n_levels = levels
    X = X.copy()
    X[::4, 1] = NAN
    model = build(X, size=0.1, levels=n_levels)
    x, output = model.standardize(torch.tensor(X[:8])), output_of(model, 8)
    log_p = model.log_prob(x, output)
    assert (log_p[::4, 1] == 0).all()
    assert (log_p[1:4] < 0).all()
    model.train()
    told = model.draw(x, torch.Generator().manual_seed(0))
    in_training = model.log_prob(told, output)
    assert (in_training[::4, 1] < 0).all()
    # the missing level takes its share of a cell that is there
    assert (in_training[1, 1] < 0).all()
    rows = every_row((2, 4, 2))  # the fourth level of column 1 is the hole
    model.eval()
    seen = rows[rows[:, 1] < 3]
    assert model.row_log_prob(seen, output[:1].expand(len(seen), -1)).exp().sum().item() == pytest.approx(1.0)


def test_holes_are_drawn_on_request(levels):
    X, n_levels = levels
    X = X.copy()
    X[::2, 1] = NAN
    model = build(X, levels=n_levels)
    output, generator = output_of(model).expand(500, -1), torch.Generator().manual_seed(0)
    assert 0 < model.sample(output, generator)[:, 1].isnan().double().mean() < 1
    assert not model.sample(output, generator, holes=False).isnan().any()


@pytest.mark.parametrize(("amount", "holed"), [(200, 0.03), (7000, 0.07), (40_000, 0.1)])
def test_training_hides_rows_and_cells(levels, amount, holed):
    X, n_levels = levels
    model = Mixed(levels=n_levels).build(X, np.full(len(X), amount / len(X))).double()
    x = model.standardize(torch.tensor(np.tile(X, (20, 1))))
    told = model.draw(x, torch.Generator().manual_seed(0))
    flag = torch.floor(told / model.stride)
    torch.testing.assert_close(told - flag * model.stride, x)
    assert (flag == 1).all(1).double().mean().item() == pytest.approx(_mixed.ALONE, abs=0.03)
    assert (flag == 2).any(1).double().mean().item() == pytest.approx(holed * 0.75, abs=0.012)
    # told by z alone, a row has the likelihood that it has without the chain
    alone = (flag == 1).all(1)
    output = output_of(model, len(x))
    log_p = model.log_prob(told, output)[alone]
    no_chain = copy.deepcopy(model)
    no_chain.chain = False
    torch.testing.assert_close(log_p, no_chain.log_prob(x, output)[alone])


def test_the_encoder_takes_a_hole_for_nothing(levels):
    X, n_levels = levels
    model = build(X, levels=n_levels)
    x = torch.tensor(X[:1])
    hidden = torch.tensor([[NAN, X[0, 1], NAN]])
    by_flag = x + 2 * model.stride * torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(model.features(hidden), model.features(by_flag))
    assert not torch.allclose(model.features(hidden), model.features(x))


class Reciprocals(TorchDispatchMode):
    """Divide by a number as a GPU does: multiply by one over it, rounded."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.div.Tensor and not isinstance(args[1], torch.Tensor):
            func, args = torch.ops.aten.mul.Tensor, (args[0], torch.ones((), dtype=args[0].dtype) / args[1])
        return func(*args, **kwargs or {})


def test_cells_are_read_where_reciprocals_are_rounded():
    for n_levels in range(2, 130):
        X = np.arange(float(n_levels))[:, None]
        model = Mixed(levels=(n_levels,)).build(X)
        x = model.standardize(torch.tensor(X)).float()
        for flag in (0, 1, 2, 3):
            with Reciprocals():
                cell, seen, read = model._read(x + flag * model.stride)
            assert (read == flag).all()
            assert torch.equal(cell, x.long())
            assert seen.all()


def test_drawn_decimals_are_decimals_where_reciprocals_are_rounded():
    X = np.random.default_rng(0).integers(0, 900, (500, 1)) / 10
    model = build(X)
    output, draws = output_of(model).expand(1000, -1), []
    for mode in (contextlib.nullcontext(), Reciprocals()):
        with mode:
            draws.append(model.sample(output, torch.Generator().manual_seed(0)).numpy())
    np.testing.assert_array_equal(draws[1], draws[0])
    np.testing.assert_array_equal(draws[1], np.round(draws[1], 1))


# -- the specification ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bins", [0, 2.5, "many", True])
def test_bad_bins(n_bins):
    with pytest.raises(ValueError, match="n_bins"):
        Mixed(n_bins=n_bins).check(np.zeros((3, 1)))


def test_bad_levels():
    with pytest.raises(ValueError, match="one number each"):
        Mixed(levels=(2,)).check(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="column 1 that are not among its 2 levels"):
        Mixed(levels=(0, 2)).check(np.array([[0.5, 2.0]]))


def test_every_weight_learns(levels):
    X, n_levels = levels
    X = np.column_stack((np.random.default_rng(1).normal(size=200), X))
    model = build(X, levels=(0, *n_levels)).train()
    x = model.draw(model.standardize(torch.tensor(X)), torch.Generator().manual_seed(0))
    (model.row_log_prob(x, output_of(model, len(x))).sum() + model.features(x).square().sum()).backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


# -- what to expect -----------------------------------------------------------------------------------


@torch.no_grad()
def test_what_to_expect_given_a_later_column():
    """Against the sum over all values of the missing cell: an earlier column is told by later ones."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 400).astype(float)
    X = np.column_stack((first, rng.integers(0, 3, 400), (first + rng.integers(0, 2, 400)) % 3))
    model = build(X, levels=(None, 3, 3), size=0.1)
    output = output_of(model)
    rows = torch.tensor([[NAN, b, c] for b in range(3) for c in range(3)], dtype=torch.float64)
    values = torch.arange(5.0, dtype=torch.float64)
    wanted = []
    for row in rows:
        every = torch.column_stack((values, row[1:].expand(5, 2)))
        log_p = model.row_log_prob(model.standardize(every), output.expand(5, -1))
        wanted.append((torch.softmax(log_p, 0) @ values).item())
    assert np.ptp(wanted) > 1
    draws = 20_000
    got = model.expect(
        model.standardize(rows),
        output.expand(draws, len(rows), -1),
        torch.zeros(draws, len(rows), dtype=torch.float64),
        torch.Generator().manual_seed(0),
    )
    np.testing.assert_allclose(got[:, 0], wanted, atol=0.05)
