"""The cells of a column in torch."""

import numpy as np
import torch
from torch import nn

from ._cells import Cells, ends
from ._heaps import members, ratios
from ._random import uniform


class Lookup(nn.Module):
    """From values of a column to cells, and from codes to values: its `Cells` in torch."""

    points: torch.Tensor
    edges: torch.Tensor
    heaps: torch.Tensor
    mean: torch.Tensor
    ladder: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    lowest: torch.Tensor
    n: torch.Tensor
    heap: torch.Tensor
    ratio: torch.Tensor

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.nominal = cells.nominal
        self.lattice = cells.lattice
        self.n_grades = len(cells.heaps)
        self.n_codes = len(cells.mass)
        drawn = np.flatnonzero((cells.code >= 0) & (cells.share > 0))
        drawn = drawn[np.argsort(cells.code[drawn], kind="stable")]
        code, share = cells.code[drawn], cells.share[drawn]
        before = np.cumsum(share) - share
        before -= before[np.searchsorted(code, code)]  # mass of the cells of the same code before each
        buffers = {
            "points": cells.points,
            "edges": cells.edges,
            "heaps": cells.heaps,
            "mean": cells.mean,
            "ladder": code + np.minimum(before, 1 - 1e-9),
        }
        if self.lattice is None:
            last = np.nextafter(cells.edges[1:], -np.inf)  # an edge is of the cell above it
            low, high = np.r_[cells.points, cells.edges[:-1]], np.r_[cells.points, last]
            buffers |= {"low": low[drawn], "high": high[drawn]}
        else:  # no points
            interval, grade = np.divmod(drawn, self.n_grades)
            first, last = ends(self.lattice, cells.edges[interval], cells.edges[interval + 1])
            lowest, n = (part[np.arange(len(drawn)), grade] for part in members(first, last, cells.heaps))
            buffers |= {"lowest": lowest, "n": n, "heap": cells.heaps[grade]}
            buffers |= {"ratio": ratios(cells.heaps)[grade]}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def find(self, x: torch.Tensor) -> torch.Tensor:
        """Return the cell of each value; NaN for NaN."""
        x = x.contiguous()
        n_points, n_intervals = len(self.points), len(self.edges) - 1
        cell = torch.zeros_like(x)
        if n_intervals:
            interval = torch.searchsorted(self.edges, x, right=True).sub_(1).clamp_(0, n_intervals - 1)
            cell = (interval * self.n_grades + n_points).to(x.dtype)
        if self.lattice is not None and self.n_grades > 1:
            origin, step, unit = self.lattice
            place = torch.nan_to_num((x.double() * unit - origin) / step).round()
            cell = cell + (torch.fmod(place[..., None], self.heaps[1:].double()) == 0).sum(-1)
        if n_points:
            point = torch.searchsorted(self.points, x).clamp_(max=n_points - 1)
            cell = torch.where(self.points[point] == x, point.to(x.dtype), cell)
        return torch.where(torch.isnan(x), x, cell)

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values nearest to some that the column may have."""
        if self.lattice is None:
            return x
        origin, step, unit = self.lattice
        return _exact_ratio(origin + step * torch.round((x * unit - origin) / step), unit)

    def draw(
        self, code: torch.Tensor, generator: torch.Generator, place: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw a value for each code: evenly within a cell, the one at the place of its mass, 0 to 1."""
        if place is None:
            place = uniform(code.shape, self.mean, generator)
        cell = torch.searchsorted(self.ladder, code + place, right=True).sub_(1)
        u = uniform(code.shape, self.mean, generator)
        if self.lattice is None:
            return torch.lerp(self.low[cell], self.high[cell], u)
        return self._member(cell, torch.floor(u * self.n[cell]).minimum(self.n[cell] - 1))

    def clip(self, x: torch.Tensor) -> torch.Tensor:
        """Return numbers, those beyond all that may be drawn as the nearest of these."""
        if self.nominal or not len(self.ladder):
            return x
        if self.lattice is None:
            low, high = self.low, self.high
        else:
            cell = torch.arange(len(self.ladder), device=x.device)
            low, high = self._member(cell, torch.zeros_like(self.n)), self._member(cell, self.n - 1)
        return x.clamp(low.min().to(x), high.max().to(x))

    def _member(self, cell: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        """Return the value at a place in a cell of a lattice."""
        origin, step, unit = self.lattice  # type: ignore[misc]
        i = self.lowest[cell] + i
        place = self.heap[cell] * (i + 1 + torch.floor(i / (self.ratio[cell] - 1)))
        return _exact_ratio(origin + step * place, unit)


def _exact_ratio(x: torch.Tensor, unit: float) -> torch.Tensor:
    """Divide by a number, for which a GPU would multiply by its rounded reciprocal: 12.3 is 123 / 10."""
    return x / x.new_full((), unit)
