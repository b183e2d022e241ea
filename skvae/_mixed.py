"""Mixed: the likelihood of a table, whose columns may depend on each other even given z."""

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ._cells import Cells, cut, flatten, levels, waves
from ._lookup import Lookup
from ._observation import OfTable
from ._order import Order, find_order
from ._random import spread, uniform
from ._typing import Array

Chance: TypeAlias = Callable[[torch.Tensor], torch.Tensor]  # numbers from 0 to 1 for keys of what is alike

ALONE = 0.3  # share of the rows in a training step whose columns are told by z alone
HOLED = 0.1  # share of the rows of which some cells, any share of them, are hidden from all
HOLED_OF_FEW, MANY = 0.03, 10_000  # the same where rows are few; rows from which on it is `HOLED`
MAX_BINS = 200
UNITS, MAX_UNITS = 2048, 128  # hidden units of all columns together, and of one
FREE = 0.1  # start of what each code has for itself, beside what it shares with those next to it
FREE_CODES = 16  # codes of a column that may differ freely; more of them differ by no more together
FREE_LEVELS = 3.2  # times as much a level may, which shares nothing
ENOUGH = 1000  # rows from which on this and wider networks pay
N_WAVES = 16
N_BLOCKS = 8  # of columns whose zeros the chain's product leaves out
MAX_VALUES = 64  # numbers that tell later columns what a cell holds
IMPOSSIBLE = 20.0  # nats that a draw loses which breaks a rule with what is given
MAX_CODES = 20_000  # of all columns together: bounds the bins of a wide table
ROWS_PER_BIN = 20
COMPARED_ROWS, COMPARED_CELLS = 20_000, 2**25  # that tell which columns are compared, of all pairs of them


class Mixed(OfTable):
    """A table: each column a distribution over levels or bins, given z and the columns before it.

    A numeric column is cut into bins of about equal mass, finer where there are enough rows, and
    values that many rows share are on their own, so any shape will do: spikes, bounds, heavy tails;
    the outermost bins get sparser outward. The density is constant within a cell and one per unit of
    the column: a whole or rounded number stands for an interval as wide as its step, so a whole number
    has its probability; where multiples of 5, 10, 100 ... are more frequent than the numbers beside
    them, they are so within every cell. Only a value that many rows share among unrounded ones is a
    point. Values never seen have 1 / (n_rows + 1) of the mass, half of it between the cells, if there
    are gaps, and the rest in tails beyond them: they have a density, and are never drawn.

    Columns come one after the other, p(x given z) = prod_j p(x_j given z, x_1 ... x_j-1), by one
    masked network for all (Germain, Gregor, Murray and Larochelle, 2015, MADE, arXiv:1502.03509).
    A part of the training rows is told by z alone, lest the columns explain each other and leave
    z without a use (Bowman et al., 2016, arXiv:1511.06349, section 3.3); single cells are hidden at
    random as well, so that the model knows what to do with holes.

    What a bin tells later columns, and what z and earlier ones tell it, is a smooth function of its
    rank plus a part of its own, so bins side by side learn from each other's rows. From 1,000 rows on
    that part is the smaller the more bins a column has, and larger for levels, which have nothing else.

    Where numbers of one column are never above those of an earlier one, or often equal to them, it is told
    which of its codes are less, equal or greater than that one's. Where they may be equal, within a bin, a
    draw is the other value plus a difference of training rows; the density knows of bins alone.

    In columns with missing cells, that a cell is missing is one more level. It is trained and
    drawn, but left out of scores.

    Parameters
    ----------
    n_bins : int or "auto", default="auto"
        Codes of a numeric column, about. "auto" is 200, or what leaves 20 rows to each.
    levels : sequence of int or None, default=None
        For each column the number of its levels, coded 0, 1, 2 ..., or 0 if it is numeric. None:
        all are numeric. `VAETransformer` sets it for a table.
    chain : bool, default=True
        Let columns depend on those before them. False makes them independent given z, as the other
        likelihoods do.
    """

    name = "mixed"

    def __init__(
        self, n_bins: int | Literal["auto"] = "auto", levels: Sequence[int] | None = None, chain: bool = True
    ) -> None:
        self.n_bins = n_bins
        self.levels = levels
        self.chain = chain

    def check(self, X: Array) -> None:
        """Accept any number in a numeric column, and codes of levels."""
        n_bins = self.n_bins
        if n_bins != "auto" and (not isinstance(n_bins, Integral) or isinstance(n_bins, bool) or n_bins < 1):
            raise ValueError(f"Got n_bins={n_bins!r}; expected 'auto' or a whole number of at least 1.")
        super().check(X)

    def build(self, X: Array, sample_weight: Array | None = None) -> "MixedModel":
        """Cut the columns into cells; return a `MixedModel`."""
        n_levels = self.count_levels(X)
        amount = len(X) if sample_weight is None else sample_weight.sum()
        n_bins = self.n_bins
        if n_bins == "auto":
            n_numeric = max(1, int((n_levels == 0).sum()))
            n_bins = int(min(MAX_BINS, max(10, amount // ROWS_PER_BIN), max(10, MAX_CODES // n_numeric)))
        columns = []
        for j, n in enumerate(n_levels):
            x = np.asarray(X[:, j], dtype=float)
            columns.append(levels(x, sample_weight, n) if n else cut(x, sample_weight, n_bins))
        missing = np.array([np.average(np.isnan(X[:, j]), weights=sample_weight) for j in range(X.shape[1])])
        model = MixedModel(columns, missing, 256 if amount >= ENOUGH else 128, self.chain)
        if self.chain:
            model.order = find_order(columns, model.sizes, *_some_rows(model, X, sample_weight))
        model.freedom = _choose_freedom(columns, amount)
        model.holed = float(np.clip(HOLED * amount / MANY, HOLED_OF_FEW, HOLED))
        return model


class MixedModel(nn.Module):
    """p(x given z) of a table: `Mixed` fitted to its columns.

    It has the methods of `ObservationModel`. Standardised rows hold the cells of the values: NaN
    where one is missing, and in a training step, what `draw` makes of them.

    Parameters
    ----------
    columns : sequence of Cells
    missing : ndarray of shape (n_features,)
        Share of missing cells.
    width : int
        Values per row that the encoder sees; the decoder gives twice as many.
    chain : bool

    Attributes
    ----------
    holed : float
        Share of the rows in a training step of which some cells are hidden.
    freedom : sequence of float
        By column, the scale of what each code has for itself, which a prior holds near 0.
    """

    holed = HOLED
    freedom: Sequence[float]
    columns: Any  # nn.ModuleList of Lookup, whose items have no methods to mypy
    target: torch.Tensor
    near: torch.Tensor
    log_density: torch.Tensor
    first_cell: torch.Tensor
    last_cell: torch.Tensor
    first_code: torch.Tensor
    is_incomplete: torch.Tensor
    waves: torch.Tensor

    def __init__(self, columns: Sequence[Cells], missing: Array, width: int, chain: bool) -> None:
        super().__init__()
        self.n_features = n = len(columns)
        n_units = int(np.clip(UNITS // n, 16, MAX_UNITS))
        n_values = min(n_units, MAX_VALUES)
        self.in_features, self.out_features, self.chain = width, n * n_units, chain
        self.columns = nn.ModuleList(map(Lookup, columns))
        self.incomplete = [bool(share > 0) for share in missing]
        self.sizes = [len(c.mass) + gap for c, gap in zip(columns, self.incomplete, strict=True)]
        # a cell, or the missing one, is below; a power of two, as a GPU divides by the reciprocal
        self.stride = float(2 ** max(len(c.code) for c in columns).bit_length())
        flat = flatten(columns, missing, self.sizes)
        for name, dtype in (("target", torch.long), ("near", torch.long), ("log_density", torch.float64)):
            self.register_buffer(name, torch.tensor(np.concatenate(flat[name]), dtype=dtype))
        n_cells = [len(part) for part in flat["target"]]
        self.register_buffer("first_cell", torch.tensor(np.cumsum([0, *n_cells[:-1]])))
        self.register_buffer("last_cell", torch.tensor(n_cells) - 1)  # of an incomplete column: missing
        self.register_buffer("first_code", torch.tensor(np.cumsum([0, *self.sizes[:-1]])))
        self.register_buffer("is_incomplete", torch.tensor(self.incomplete))
        n_codes = sum(self.sizes)
        self.embedding = nn.Parameter(torch.randn(n_codes + 1, width) / math.sqrt(n))
        smooth = [waves(cells, size, N_WAVES) for cells, size in zip(columns, self.sizes, strict=True)]
        self.register_buffer("waves", torch.tensor(np.concatenate(smooth)))
        self.values = nn.Parameter(FREE * torch.randn(n_codes, n_values))
        self.smooth_values = nn.Parameter(torch.randn(n, N_WAVES, n_values))
        self.context = nn.Parameter(torch.randn(self.out_features, n * n_values) / math.sqrt(n * n_values))
        self.link = nn.Parameter(0.5 * torch.randn(n, n_units, n_units) / math.sqrt(n_units))
        self.link_bias = nn.Parameter(torch.zeros(n, n_units))
        self.head = nn.Parameter(FREE * torch.randn(n_codes, n_units) / math.sqrt(n_units))
        self.smooth_head = nn.Parameter(0.5 * torch.randn(n, N_WAVES, n_units) / math.sqrt(n_units))
        self.head_bias = nn.Parameter(torch.tensor(np.log(np.concatenate(flat["mass"])), dtype=torch.float32))
        self.order = Order()

    # -- rows ----------------------------------------------------------------------------------

    def standardize(self, x: torch.Tensor) -> torch.Tensor:
        """Turn rows of values into rows of cells. NaN stays NaN."""
        return torch.stack([column.find(x[:, j]) for j, column in enumerate(self.columns)], 1)

    def draw(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Make a training step's rows: missing cells are told as such, and some cells are hidden.

        A cell that later columns may not see is raised by `stride`; one that the encoder may not
        see either, by twice as much.
        """
        x = torch.where(self.is_incomplete & torch.isnan(x), self.last_cell.to(x), x)
        if not self.chain:
            return x
        u = uniform((len(x), 2 + self.n_features), x, generator)
        kind, share, cells = u[:, :1], u[:, 1:2], u[:, 2:]
        alone = kind < ALONE
        holed = (kind > 1 - self.holed) & (cells < share)
        return x + self.stride * alone + 2 * self.stride * holed

    def _read(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the cells of all columns in one count, whether there is one, and whether it shows."""
        seen = ~torch.isnan(x)
        x = torch.where(seen, x, 0.0)
        flag = torch.floor(x / self.stride)
        cell = (x - flag * self.stride).long() + self.first_cell
        return cell, seen, flag

    def features(self, x: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return what the encoder sees of rows of cells, shape (B, width). A hole adds nothing."""
        cell, seen, flag = self._read(x)
        missing = self.is_incomplete & (cell == self.first_cell + self.last_cell)
        nothing = len(self.embedding) - 1
        code = torch.where(seen & ~missing & (flag < 2), self.near[cell], nothing)
        return F.embedding_bag(code, self.embedding, mode="sum", padding_idx=nothing)

    def look(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the encoder sees of rows of values."""
        return self.features(self.standardize(x))

    # -- the chain ------------------------------------------------------------------------------

    def _units(self, output: torch.Tensor) -> torch.Tensor:
        """Return the hidden units of each column, shape (..., n_features, n_units)."""
        units = F.silu(output.unflatten(-1, (self.n_features, -1)))
        return units + F.silu(torch.einsum("...ci,cio->...co", units, self.link) + self.link_bias)

    def _smoothed(self, free: torch.Tensor, smooth: torch.Tensor) -> torch.Tensor:
        """Return what each code has, and shares with codes beside it, shape (n_codes, ...)."""
        parts = zip(free.split(self.sizes), self.waves.split(self.sizes), smooth, self.freedom, strict=True)
        return torch.cat([torch.addmm(own, wave.to(own), part, beta=beta) for own, wave, part, beta in parts])

    def _heads(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the weights and biases of the logits of each column."""
        head = self._smoothed(self.head, self.smooth_head)
        return zip(head.split(self.sizes), self.head_bias.split(self.sizes), strict=True)

    def _logits(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of the codes of each column, a list."""
        units = self._units(output).unbind(-2)
        return [F.linear(u, *head) for u, head in zip(units, self._heads(), strict=True)]

    def _tell(self, code: torch.Tensor, shows: torch.Tensor) -> torch.Tensor:
        """Return what the columns that show tell those after them, shape (B, out_features).

        A product with a matrix that is zero from the diagonal on, by blocks of columns from the last
        to the first. Of a column of few codes the values, which are as few, are multiplied first.
        """
        n_units, n_values = self.link.shape[1], self.values.shape[1]
        tables = self._smoothed(self.values, self.smooth_values).split(self.sizes)
        contexts = self.context.split(n_values, 1)
        told = self.context.new_zeros(len(code), 0)
        columns = range(self.n_features - 1)
        for block in np.array_split(columns, min(N_BLOCKS, len(columns)))[::-1] if columns else ():
            values, weights = [], []
            for j in block:
                table, weight = tables[j], contexts[j][(j + 1) * n_units :]
                if len(table) < n_values:
                    eye = torch.eye(len(table), dtype=table.dtype, device=table.device)
                    table, weight = eye, weight @ table.T
                values.append(F.embedding(code[:, j], table) * shows[:, j, None])
                weights.append(F.pad(weight, (0, 0, (j - block[0]) * n_units, 0)))
            part = F.linear(torch.cat(values, 1), torch.cat(weights, 1))
            told = part + F.pad(told, (part.shape[1] - told.shape[1], 0))
        return F.pad(told, (n_units, 0))

    def log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return log p of each cell in nats given those before it, shape (..., B, n_features).

        In the units of the data; a missing cell gives 0, but in training, in a column that has
        some, the log-probability that it is missing.
        """
        cell, seen, flag = self._read(x)
        code, shows = self.near[cell] - self.first_code, seen & (flag == 0)
        codes = code.unbind(-1)
        if self.chain:
            output = output + self._tell(code, shows)
        target = self.target[cell]
        place = (target - self.first_code).clamp(min=0)
        log_probs = []
        for j, logits in enumerate(self._logits(output)):
            logits = self.order.add_to(logits, j, codes, shows)
            if self.incomplete[j] and not self.training:
                logits = logits[..., :-1]
            index = place[:, j, None].clamp(max=logits.shape[-1] - 1).expand(*logits.shape[:-1], 1)
            log_probs.append(torch.log_softmax(logits, -1).gather(-1, index).squeeze(-1))
        log_prob = torch.where(target >= 0, torch.stack(log_probs, -1), 0.0)
        log_prob = log_prob + self.log_density[cell].to(log_prob.dtype)
        return torch.where(seen, log_prob, 0.0)

    def row_log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return log p of each row in nats, in the units of the data, shape (..., B)."""
        return self.log_prob(x, output, complete).sum(-1)

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Return E[x given z], and the most probable of levels, shape (..., n_features)."""
        values = []
        for logits, column in zip(self._logits(output), self.columns, strict=True):
            part = logits[..., : column.n_codes]
            if column.nominal:
                values.append(part.argmax(-1).to(column.mean.dtype))
            else:
                values.append(torch.softmax(part, -1).to(column.mean.dtype) @ column.mean)
        return torch.stack(values, -1)

    def sample(self, output: torch.Tensor, generator: torch.Generator, holes: bool = True) -> torch.Tensor:
        """Draw x given z, shape (..., n_features); without `holes` no cell is missing.

        Rows that a column is told alike by z and earlier ones get values far apart, so that all rows
        together are nearer to the model than as many independent ones.
        """
        empty = output.new_full((*output.shape[:-1], self.n_features), torch.nan)
        return self._draw(empty, output, generator, holes, lambda key: spread(key, generator))[0]

    def fill(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        generator: torch.Generator,
        known: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the missing cells of rows of cells, column after column.

        With `known`, the rows in the units of the data, draws keep an order with what is given also within
        a bin; those that cannot count as next to impossible.

        Returns
        -------
        values : Tensor of shape (..., n_features)
            Values in the units of the data; NaN where a cell was not missing.
        log_prob : Tensor of shape (...)
            Log-density of the cells that were given, each given z and all columns before it.
        """

        def chance(key: torch.Tensor) -> torch.Tensor:
            return uniform(key.shape, key, generator)

        return self._draw(x, output, generator, False, chance, None if known is None else self._clip(known))

    def _draw(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        generator: torch.Generator,
        holes: bool,
        chance: Chance,
        known: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do what `fill` does, with any source of chance."""
        log_prob: Any = 0.0
        values: list[torch.Tensor] = []
        codes: list[torch.Tensor] = []
        for j, (column, given, _, code, told) in enumerate(self._follow(x, output, chance, holes)):
            log_prob = log_prob + told

            def find(value: torch.Tensor, j: int = j, column: Lookup = column) -> tuple[Any, Any]:
                value = column.snap(value)
                code = self.target[column.find(value).long() + self.first_cell[j]]
                return value, torch.where(code < 0, -1, code - self.first_code[j])

            beside, near = self.order.refine(j, code, codes, values, ~given, chance, find)
            codes.append(code.copy_(near))
            place = code.clamp(max=column.n_codes - 1)
            value = column.draw(place, generator, chance(place.to(column.mean)))
            value = torch.where(torch.isnan(beside), value, beside).where(code < column.n_codes, torch.nan)
            values.append(value.where(~given, torch.nan if known is None else known[..., j].to(value)))
            log_prob = log_prob - IMPOSSIBLE * (given & self.order.is_broken(j, values))
        return torch.stack(values, -1).where(torch.isnan(x), torch.nan), log_prob

    def _clip(self, known: torch.Tensor) -> torch.Tensor:
        """Return rows in which numbers beyond those of training are the nearest of these."""
        return torch.stack([column.clip(known[..., j]) for j, column in enumerate(self.columns)], -1)

    def expect(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        log_ratio: torch.Tensor,
        generator: torch.Generator,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what to expect in the missing cells of rows of cells; see `Independent.expect`.

        Columns told by earlier ones get draws of these, with the same noise for all rows. Of a column
        after all that are given its distribution is averaged, not a draw of it; of others the draws,
        which are likely where the given columns after them are. With `known`, means keep an order with
        each other and with what is given.
        """
        log_weight, parts = log_ratio, []

        def chance(key: torch.Tensor) -> torch.Tensor:
            return uniform((len(key), 1), key, generator)

        for _, _, log_p, code, told in self._follow(x, output, chance):
            log_weight = log_weight + told
            parts.append((log_p.exp(), code))
        weight, values = torch.softmax(log_weight, 0).to(output), []
        is_free = torch.isnan(x)
        for j, (column, (share, code)) in enumerate(zip(self.columns, parts, strict=True)):
            mass = torch.einsum("sb,sbc->bc", weight, share)
            if self.chain:
                drawn = torch.zeros_like(mass).scatter_add_(1, code.clamp(max=mass.shape[1] - 1).T, weight.T)
                mass = torch.where(is_free[:, j + 1 :].all(1, keepdim=True), mass, drawn)
            mass = mass.to(x.dtype)
            values.append(mass.argmax(-1).to(x.dtype) if column.nominal else mass @ column.mean.to(x.dtype))
        means = torch.stack(values, -1)
        if known is None:
            return means
        return self.order.keep(torch.where(is_free, means, self._clip(known).to(means)), is_free)

    def _follow(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        chance: Chance,
        holes: bool = False,
    ) -> Iterator[tuple[Lookup, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Go from column to column, telling the later ones what is given or drawn.

        Yields of each column: itself; whether its cells are given; the log-probabilities of its
        codes; those given, or drawn by `chance`, which later columns are told as they are by then; the
        log-density of what is given, else 0. A value never seen, which has the same density whatever z is,
        counts as the nearest one: as likely.
        """
        cell, seen, _ = self._read(x)
        context = self.context.split(self.values.shape[1], 1)
        table = self._smoothed(self.values, self.smooth_values)
        n_units, output = self.link.shape[1], output.clone()
        codes: list[torch.Tensor] = []
        for j, (column, (head, bias)) in enumerate(zip(self.columns, self._heads(), strict=True)):
            units = F.silu(output[..., j * n_units : (j + 1) * n_units])
            units = units + F.silu(units @ self.link[j] + self.link_bias[j])
            n_codes = len(head) if holes else column.n_codes
            logits = self.order.add_to(F.linear(units, head[:n_codes], bias[:n_codes]), j, codes)
            log_p = torch.log_softmax(logits, -1)
            given, target = seen[..., j], self.target[cell[..., j]]
            place = torch.where(target >= 0, target, self.near[cell[..., j]]) - self.first_code[j]
            place = place.clamp(0, n_codes - 1).expand(log_p.shape[:-1])
            told = log_p.gather(-1, place[..., None]).squeeze(-1)
            told = told + self.log_density[cell[..., j]].to(told.dtype)
            start, later = self.first_code[j], slice((j + 1) * n_units, None)
            code = torch.where(given, self.near[cell[..., j]] - start, _pick(log_p, chance))
            codes.append(code)
            yield column, given, log_p, code, torch.where(given, told, 0.0)
            if self.chain and j + 1 < self.n_features:
                own, weight = table[start : start + self.sizes[j]], context[j][later]
                if code.numel() > len(own):  # what each code tells is worth computing once
                    told = F.embedding(code, F.linear(own, weight))
                else:
                    told = F.linear(own[code], weight)
                output[..., later] += told

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights that a prior holds small, as it does those of the networks."""
        return [self.context, self.link, self.smooth_head, self.smooth_values, self.head, self.values]

    # -- what has no place here: a density without constants beside z -----------------------------

    def tie_constants(self) -> None:
        """Do nothing: there are no constants."""

    def fit_constants(
        self, x: torch.Tensor, output: torch.Tensor, weight: torch.Tensor | None = None
    ) -> None:
        """Do nothing: there are no constants."""


def _some_rows(model: MixedModel, X: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    """Return evenly spaced rows, their codes, -1 where missing, and their weights."""
    n_rows = min(COMPARED_ROWS, max(1000, COMPARED_CELLS // X.shape[1] ** 2))
    rows = slice(None, None, -(-len(X) // n_rows))
    some = np.asarray(X[rows], dtype=float)
    cell, seen, _ = model._read(model.standardize(torch.tensor(some)))
    code = torch.where(seen, model.near[cell] - model.first_code, -1).numpy()
    return some, code, np.ones(len(code)) if weight is None else weight[rows]


def _choose_freedom(columns: Sequence[Cells], amount: float) -> list[float]:
    """Return by column the scale of what each code has for itself, of a table of so many rows."""
    if amount < ENOUGH:
        return [1.0] * len(columns)
    return [
        (FREE_LEVELS if cells.nominal else 1.0) * math.sqrt(min(1.0, FREE_CODES / len(cells.mass)))
        for cells in columns
    ]


def _pick(log_p: torch.Tensor, chance: Chance) -> torch.Tensor:
    """Draw codes, shape log_p.shape[:-1]; distributions are alike if the codes expected are."""
    below = log_p.exp().cumsum(-1)
    u = chance(-below.sum(-1)).to(below).unsqueeze(-1)
    return (below <= u).sum(-1).clamp(max=log_p.shape[-1] - 1)
