"""p(x given z) of a table by kinds of columns: one `ObservationModel` for each kind, side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ._observation import Independent
from ._typing import Array


class JointModel(Independent):
    """Several `ObservationModel`, each of some of the columns, which are independent given z.

    It has their methods, and puts what they give in the order of the columns.

    Parameters
    ----------
    parts : sequence of ObservationModel
    places : sequence of ndarray of int
        For each part its columns.
    """

    order: torch.Tensor
    place: torch.Tensor

    def __init__(self, parts: Sequence[nn.Module], places: Sequence[Array]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.n_features = sum(map(len, places))
        self.register_buffer("order", torch.as_tensor(np.concatenate(places)))
        self.register_buffer("place", torch.as_tensor(np.argsort(np.concatenate(places))))

    @property
    def in_features(self) -> int:
        """Number of values per row that the encoder sees."""
        return sum(part.in_features for part in self._parts())

    @property
    def out_features(self) -> int:
        """Number of values per row that the decoder gives."""
        return sum(part.out_features for part in self._parts())

    @property
    def feature_kind(self) -> str | None:
        """Of columns of counts "log1p", as in `ObservationModel`."""
        return "log1p" if any(part.feature_kind == "log1p" for part in self._parts()) else None

    def show_holes(self, shows_holes: bool) -> None:
        """See `ObservationModel.show_holes`."""
        for part in self._parts():
            part.show_holes(shows_holes)

    def standardize(self, x: torch.Tensor) -> torch.Tensor:
        """See `ObservationModel.standardize`."""
        return self._join(part.standardize(cells) for part, cells in self._split(x))

    def draw(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See `ObservationModel.draw`."""
        return self._join(part.draw(cells, generator) for part, cells in self._split(x))

    def features(self, x: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """See `ObservationModel.features`."""
        return torch.cat([part.features(cells, complete) for part, cells in self._split(x)], 1)

    def look(self, x: torch.Tensor) -> torch.Tensor:
        """See `ObservationModel.look`."""
        return torch.cat([part.look(cells) for part, cells in self._split(x)], 1)

    def log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """See `ObservationModel.log_prob`."""
        return self._join(part.log_prob(cells, o, complete) for part, cells, o in self._split(x, output))

    def row_log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """See `ObservationModel.row_log_prob`."""
        rows = [part.row_log_prob(cells, o, complete) for part, cells, o in self._split(x, output)]
        return torch.stack(rows).sum(0)

    def tie_constants(self) -> None:
        """See `ObservationModel.tie_constants`."""
        for part in self._parts():
            part.tie_constants()

    def fit_constants(
        self, x: torch.Tensor, output: torch.Tensor, weight: torch.Tensor | None = None
    ) -> None:
        """See `ObservationModel.fit_constants`."""
        for part, cells, o in self._split(x, output):
            part.fit_constants(cells, o, weight)

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Return E[x given z] in the units of the data, of levels the most probable one."""
        return self._join(part.mean(o) for part, o in self._decoded(output))

    def sample(self, output: torch.Tensor, generator: torch.Generator, holes: bool = True) -> torch.Tensor:
        """See `ObservationModel.sample`."""
        return self._join(part.sample(o, generator) for part, o in self._decoded(output))

    def average(self, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See `ObservationModel.average`."""
        return self._join(part.average(o, weight) for part, o in self._decoded(output))

    def _parts(self) -> Iterator[Any]:
        return iter(self.parts)

    def _decoded(self, output: torch.Tensor) -> Iterator[Any]:
        """Yield each part with what the decoder gives for it."""
        sizes = [part.out_features for part in self._parts()]
        return zip(self._parts(), output.split(sizes, -1), strict=True)

    def _split(self, x: torch.Tensor, *output: torch.Tensor) -> Iterator[Any]:
        """Yield each part with its cells, and what the decoder gives for them."""
        cells = x.index_select(-1, self.order).split([part.n_features for part in self._parts()], -1)
        decoded = [[piece for _, piece in self._decoded(o)] for o in output]
        return zip(self._parts(), cells, *decoded, strict=True)

    def _join(self, parts: Any) -> torch.Tensor:
        return torch.cat(list(parts), -1).index_select(-1, self.place)
