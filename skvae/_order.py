"""Pairs of columns of which one is never above the other, or often equal to it."""

from collections.abc import Callable, Iterator, Sequence
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
PARTNERS = 3  # earlier columns that one is compared with
REDRAWS = 16  # of values that break a rule
UNSEEN = 0.5  # rows that each case counts as before any is seen


class Comparison(nn.Module):
    """What an earlier column adds to the logits of a later one for being less, equal or greater.

    Three numbers do for all codes. So a rule such as "ended is never before started" holds where no row has
    been, which is not so with what each code tells by itself.

    Parameters
    ----------
    earlier, later : int
        Places of the columns.
    cases : tuple of three ndarrays of bool, shape (n_codes_earlier, n_codes_later)
        Whether all values of the later code are less than those of the earlier one, some may be equal, or all
        are greater; none of it where one of them stands for a missing cell.
    log_ratio : ndarray of shape (3,)
        Log of how many times as often as by chance each is the case: where training starts.
    never_less, never_greater : bool
        Whether that is a rule.
    """

    cases: torch.Tensor

    def __init__(
        self,
        earlier: int,
        later: int,
        cases: Sequence[Array],
        log_ratio: Array,
        never_less: bool,
        never_greater: bool,
    ) -> None:
        super().__init__()
        self.earlier, self.later = earlier, later
        self.never_less, self.never_greater = never_less, never_greater
        self.register_buffer("cases", torch.tensor(np.stack(cases)))
        self.log_ratio = nn.Parameter(torch.tensor(log_ratio, dtype=torch.float32))

    def forward(self, code: torch.Tensor, shows: torch.Tensor | None = None) -> torch.Tensor:
        """Return what is added, shape (..., n_codes_later), for earlier codes, where they show."""
        if shows is not None:
            code = torch.where(shows, code, self.cases.shape[1] - 1)
        less, equal, greater = (case * ratio for case, ratio in zip(self.cases, self.log_ratio, strict=True))
        return F.embedding(code, less + equal + greater)

    def is_broken(self, value: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        """Return whether values break the rule, if there is one; beside NaN they do not."""
        return ((value < earlier) & self.never_less) | ((value > earlier) & self.never_greater)


class Order(nn.ModuleDict):
    """Comparisons of the columns of a table, by the place of the later one."""

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
        if str(later) not in self:
            return logits
        comparisons: Any = self[str(later)]
        for comparison in comparisons:
            i = comparison.earlier
            told = comparison(codes[i], None if shows is None else shows[:, i])
            logits = logits + told[..., : logits.shape[-1]].to(logits)
        return logits

    def keep(
        self, later: int, values: Sequence[torch.Tensor], draw: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Return values of a column that `draw` makes: again where they break a rule, as some of a bin may.

        Parameters
        ----------
        later : int
        values : sequence of Tensor
            Those of each column before it.
        draw : callable
            Returns a value for every row.
        """
        value = draw()
        if str(later) not in self:
            return value
        comparisons: Any = self[str(later)]
        for _ in range(REDRAWS):
            broken = torch.stack([c.is_broken(value, values[c.earlier]) for c in comparisons]).any(0)
            if not broken.any():
                break
            value = torch.where(broken, draw(), value)
        return value


def find_order(columns: Sequence[Cells], sizes: Sequence[int], codes: Array, weight: Array) -> Order:
    """Return the comparisons that tell something, of a later column those three that tell most.

    A pair is compared if the one is above the other in at most one row of a thousand, where by chance
    it would be in ten rows more, or if both are equal in five of a hundred rows more than by chance.

    Parameters
    ----------
    columns : sequence of Cells
    sizes : sequence of int
        Codes of each column, with that of a missing cell.
    codes : ndarray of int, shape (n_rows, n_columns)
        Of some rows; -1 where a cell is missing.
    weight : ndarray of shape (n_rows,)
        How many rows each counts as.
    """
    numeric = [j for j, cells in enumerate(columns) if not cells.nominal and len(cells.mass) > 2]
    ranges = {j: _ranges(columns[j]) for j in numeric}
    found = Order()
    for later in numeric:
        told = []
        for earlier in numeric[: numeric.index(later)]:
            both = (codes[:, earlier] >= 0) & (codes[:, later] >= 0)
            cases = tuple(_cases(ranges[earlier], ranges[later]))
            first, second = codes[both, earlier], codes[both, later]
            seen = np.array([weight[both] @ case[first, second] for case in cases])
            masses = [
                np.bincount(code, weight[both], n)
                for code, n in zip((first, second), cases[0].shape, strict=True)
            ]
            expected = np.array([masses[0] @ case @ masses[1] for case in cases]) / (seen.sum() or 1.0)
            is_rule = (seen <= EXCEPTIONS * seen.sum()) & (expected > seen + BY_CHANCE)
            if is_rule[[0, 2]].any() or seen[1] > expected[1] + EXCESS * seen.sum():
                log_ratio = np.log((seen + UNSEEN) / (expected + UNSEEN))
                room = ((0, 1), (0, sizes[later] - len(columns[later].mass)))
                padded, rules = [np.pad(case, room) for case in cases], is_rule[[0, 2]].tolist()
                told.append((seen @ log_ratio, Comparison(earlier, later, padded, log_ratio, *rules)))
        told.sort(key=lambda pair: -pair[0])
        if told:
            found[str(later)] = nn.ModuleList(comparison for _, comparison in told[:PARTNERS])
    return found


def _cases(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> Iterator[Array]:
    """Yield whether codes of a later column are less than those of an earlier one, equal, or greater."""
    low, high = (part[:, None] for part in earlier)
    less, greater = later[1] < low, later[0] > high
    yield from (less, ~(less | greater), greater)


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
