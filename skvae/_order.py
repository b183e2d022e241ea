"""Pairs of columns of which one is never above the other, or often equal to it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ._cells import Cells, ends
from ._typing import Array

EXCEPTIONS = 1e-3  # share of the rows that may break a rule
BY_CHANCE = 10.0  # more rows that would break it by chance
EXCESS = 0.05  # share of the rows that are equal beyond chance
PARTNERS, COMPARISONS = 3, 50  # earlier columns that one is compared with, and of all columns together
DRAWS = 16  # of differences, until one fits
DIFFERENCES = 1000  # that are kept
NEAR = 0.99  # of the rows with differences of one sign
EQUAL = 2  # place of the case between less and greater
UNSEEN = 0.5  # rows that each case counts as before any is seen


class Comparison(nn.Module):
    """What an earlier column adds to the logits of a later one for being less, equal or greater.

    Five numbers do for all codes. So a rule such as "ended is never before started, nor a month after" holds
    where no row has been, which is not so with what each code tells by itself.

    Parameters
    ----------
    earlier, later : int
        Places of the columns.
    cases : list of five ndarrays of bool, shape (n_codes_earlier, n_codes_later)
        Whether all values of the later code are far less than those of the earlier one, less, some may be
        equal, all are greater, or far greater; none of it where one of them stands for a missing cell.
    log_ratio : ndarray of shape (5,)
        Log of how many times as often as by chance each is the case: where training starts.
    never_less, never_greater : bool
        Whether that is a rule.
    differences : ndarray of shape (n,)
        Of the values, later less earlier, of rows with codes that may be equal: some, ascending.
    """

    cases: torch.Tensor
    differences: torch.Tensor

    def __init__(
        self,
        earlier: int,
        later: int,
        cases: Sequence[Array],
        log_ratio: Array,
        never_less: bool,
        never_greater: bool,
        differences: Array,
    ) -> None:
        super().__init__()
        self.earlier, self.later = earlier, later
        self.never_less, self.never_greater = never_less, never_greater
        self.register_buffer("cases", torch.tensor(np.stack(cases)))
        self.register_buffer("differences", torch.tensor(differences, dtype=torch.float64))
        self.log_ratio = nn.Parameter(torch.tensor(log_ratio, dtype=torch.float32))

    def forward(self, code: torch.Tensor, shows: torch.Tensor | None = None) -> torch.Tensor:
        """Return what is added, shape (..., n_codes_later), for earlier codes, where they show."""
        if shows is not None:
            code = torch.where(shows, code, self.cases.shape[1] - 1)
        table = self.log_ratio @ self.cases.flatten(1).to(self.log_ratio)  # in one product
        return F.embedding(code, table.view(self.cases.shape[1:]))

    def may_equal(self, earlier: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """Return whether codes stand for values of which some may be equal."""
        equal: torch.Tensor = self.cases[EQUAL][earlier, later]
        return equal

    def is_broken(self, value: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        """Return whether values break the rule, if there is one; beside NaN they do not."""
        return ((value < earlier) & self.never_less) | ((value > earlier) & self.never_greater)


class Order(nn.ModuleDict):
    """Comparisons of the columns of a table, by the place of the later one."""

    def of(self, later: int) -> Any:
        """Return the comparisons of a column with earlier ones, those first that tell most."""
        return self[str(later)] if str(later) in self else ()  # noqa: SIM401 -- it has no get

    def add_to(
        self,
        logits: torch.Tensor,
        later: int,
        codes: Sequence[torch.Tensor],
        shows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the logits of a column with what its comparisons add.

        Parameters
        ----------
        logits : Tensor of shape (..., n_codes)
            The code of a missing cell may be left out.
        later : int
            Place of the column.
        codes : sequence of Tensor of int
            Those of each column before it.
        shows : Tensor of bool, shape (B, n_columns), or None
            Whether columns show; None: all do.
        """
        for comparison in self.of(later):
            i = comparison.earlier
            told = comparison(codes[i], None if shows is None else shows[:, i])
            logits = logits + told[..., : logits.shape[-1]].to(logits)
        return logits

    def is_broken(self, later: int, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return whether values of a column, the last, break a rule with those of columns before it."""
        broken = torch.zeros_like(values[-1], dtype=torch.bool)
        for comparison in self.of(later):
            broken = broken | comparison.is_broken(values[-1], values[comparison.earlier])
        return broken

    def keep(self, values: torch.Tensor, is_free: torch.Tensor) -> torch.Tensor:
        """Return rows of values of which the free ones that break a rule are moved to the other's value.

        Parameters
        ----------
        values : Tensor of shape (B, n_columns)
            NaN where a value is not known.
        is_free : Tensor of bool, shape (B, n_columns)
        """
        columns, free = list(values.unbind(-1)), is_free.unbind(-1)
        for j in [*range(len(columns))] * 2:  # the second time after an earlier one has moved
            for comparison in self.of(j):
                i = comparison.earlier
                broken = comparison.is_broken(columns[j], columns[i])
                columns[j], columns[i] = (
                    torch.where(broken & free[j], columns[i], columns[j]),
                    torch.where(broken & free[i] & ~free[j], columns[j], columns[i]),
                )
        return torch.stack(columns, -1)

    def refine(
        self,
        later: int,
        code: torch.Tensor,
        codes: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        is_free: torch.Tensor,
        chance: Callable[[torch.Tensor], torch.Tensor],
        find: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw values of a column beside those of an earlier one that may be equal.

        Bins know nothing of a difference that is less than they are wide, so such a value is that of the
        earlier column and a difference of training rows; in the bin that was drawn, or if none of a few
        is, in one beside it.

        Parameters
        ----------
        later : int
            Place of the column.
        code : Tensor of int, shape (...)
            What was drawn; that of a missing cell is beyond the others.
        codes, values : sequence of Tensor of shape (...)
            Those of each column before it; NaN where a value is not known.
        is_free : Tensor of bool
            Whether a value is wanted.
        chance : callable
            Draws numbers from 0 to 1 for keys.
        find : callable
            Return the values nearest to some that the column may have, and their codes, -1 for none.

        Returns
        -------
        value : Tensor of float64
            NaN where it is not beside another.
        code : Tensor of int
        """
        value = torch.full(code.shape, torch.nan, dtype=torch.float64, device=code.device)
        for comparison in self.of(later):
            n, i = len(comparison.differences), comparison.earlier
            base = values[i].nan_to_num()
            is_open = is_free & torch.isnan(value) & ~torch.isnan(values[i])
            is_open = is_open & comparison.may_equal(codes[i], code)
            for turn in range(DRAWS if n else 0):
                if not is_open.any():
                    break
                place = (chance(base) * n).long().clamp(max=n - 1)
                new, at = find(base + comparison.differences[place])
                fits = at == code
                if turn >= DRAWS // 2:
                    fits = (at >= 0) & comparison.may_equal(codes[i], at.clamp(min=0))
                fits = fits & is_open & ~self.is_broken(later, [*values, new])
                value, code = torch.where(fits, new, value), torch.where(fits, at, code)
                is_open = is_open & ~fits
        return value, code


def find_order(
    columns: Sequence[Cells], sizes: Sequence[int], X: Array, codes: Array, weight: Array
) -> Order:
    """Return the comparisons that tell something, of a later column those three that tell most.

    A pair is compared if the one is above the other in at most one row of a thousand, where by chance
    it would be in ten rows more, or if both are equal in five of a hundred rows more than by chance.

    Parameters
    ----------
    columns : sequence of Cells
    sizes : sequence of int
        Codes of each column, with that of a missing cell.
    X : ndarray of shape (n_rows, n_columns)
        Some rows of values, NaN where a cell is missing.
    codes : ndarray of int, shape (n_rows, n_columns)
        Theirs; -1 where a cell is missing.
    weight : ndarray of shape (n_rows,)
        How many rows each counts as.
    """
    numeric = [j for j, cells in enumerate(columns) if not cells.nominal and len(cells.mass) > 2]
    ranges = {j: _ranges(columns[j]) for j in numeric}
    found: list[tuple[float, Comparison]] = []
    for later in numeric:
        told = []
        for earlier in numeric[: numeric.index(later)]:
            both = (codes[:, earlier] >= 0) & (codes[:, later] >= 0)
            first, second = codes[both, earlier], codes[both, later]
            apart = X[both, later] - X[both, earlier]
            counts = weight[both]
            cases = _cases(ranges[earlier], ranges[later], apart, counts)
            seen = np.array([counts @ case[first, second] for case in cases])
            masses = [
                np.bincount(code, counts, n) for code, n in zip((first, second), cases[0].shape, strict=True)
            ]
            expected = np.array([masses[0] @ case @ masses[1] for case in cases]) / (seen.sum() or 1.0)
            less, greater = slice(None, EQUAL), slice(EQUAL + 1, None)
            rules = [
                bool(
                    seen[s].sum() <= EXCEPTIONS * seen.sum() and expected[s].sum() > seen[s].sum() + BY_CHANCE
                )
                for s in (less, greater)
            ]
            if any(rules) or seen[EQUAL] > expected[EQUAL] + EXCESS * seen.sum():
                log_ratio = np.log((seen + UNSEEN) / (expected + UNSEEN))
                room = ((0, 1), (0, sizes[later] - len(columns[later].mass)))
                padded = [np.pad(case, room) for case in cases]
                equal = cases[EQUAL][first, second]
                n = min(DIFFERENCES, math.ceil(counts[equal].sum()))
                near = _quantiles(apart[equal], counts[equal], (np.arange(n) + 0.5) / max(1, n))
                comparison = Comparison(earlier, later, padded, log_ratio, rules[0], rules[1], near)
                told.append((float(seen @ log_ratio), comparison))
        found += sorted(told, key=lambda pair: -pair[0])[:PARTNERS]
    order = Order()
    for _, comparison in sorted(found, key=lambda pair: -pair[0])[:COMPARISONS]:
        order[str(comparison.later)] = nn.ModuleList((*order.of(comparison.later), comparison))
    return order


def _cases(
    earlier: tuple[Array, Array], later: tuple[Array, Array], apart: Array, weight: Array
) -> list[Array]:
    """Return whether codes of a later column are far less, less, equal, greater or far greater.

    Far are the greatest differences of either sign that one in a hundred of its rows has, or more do.
    """
    low, high = (part[:, None] for part in earlier)
    least, most = later
    reach = [
        _quantiles(side[side > 0], weight[side > 0], np.array([NEAR])).sum()  # 0 without any
        for side in (-apart, apart)
    ]
    less, greater = most < low, least > high
    far_less, far_greater = less & (most <= low - reach[0]), greater & (least >= high + reach[1])
    return [far_less, less & ~far_less, ~(less | greater), greater & ~far_greater, far_greater]


def _quantiles(values: Array, weight: Array, shares: Array) -> Array:
    """Return the values up to which these shares of all weight are; nothing if there is none."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    if not len(values) or not reached[-1]:
        return values[:0]
    return values[order][np.searchsorted(reached, shares * reached[-1]).clip(max=len(values) - 1)]


def _ranges(cells: Cells) -> tuple[Array, Array]:
    """Return the least and the greatest value of each code of a numeric column."""
    n_points = len(cells.points)
    drawn = np.flatnonzero((cells.code >= 0) & (cells.share > 0))
    points, rest = drawn[drawn < n_points], drawn[drawn >= n_points]
    interval = (rest - n_points) // len(cells.heaps)
    low, high = cells.edges[interval], cells.edges[interval + 1]
    if cells.lattice is None:
        high = np.nextafter(high, -np.inf)  # an edge is of the cell above it
    else:
        origin, step, unit = cells.lattice
        low, high = ((origin + step * place) / unit for place in ends(cells.lattice, low, high))
    least, most = np.full(len(cells.mass), np.inf), np.full(len(cells.mass), -np.inf)
    np.minimum.at(least, cells.code[drawn], np.r_[cells.points[points], low])
    np.maximum.at(most, cells.code[drawn], np.r_[cells.points[points], high])
    return least, most
