"""The module between decoder and data: a likelihood fitted to the columns of one table."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ._random import bernoulli
from ._typing import Array


class Likelihood(BaseEstimator, ABC):
    """Specification of p(x given z): hyper-parameters without tensors.

    Attributes
    ----------
    name : str
        What users type as ``likelihood=``.
    """

    name: str

    @abstractmethod
    def check(self, X: Array) -> None:
        """Raise ValueError if a cell of X (NaN aside) lies outside the support.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            In the units of the data; also rows that are scored later.
        """

    @abstractmethod
    def build(self, X: Array, sample_weight: Array | None = None) -> nn.Module:
        """Return the module that the decoder feeds, made for some training data.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            NaN where a cell is missing.
        sample_weight : ndarray of shape (n_rows,), default=None

        Returns
        -------
        model : ObservationModel
        """


class OfTable(Likelihood):
    """Specification of p(x given z) of a table: columns of numbers and columns of levels.

    Attributes
    ----------
    levels : sequence of int or None
        For each column the number of its levels, coded 0, 1, 2 ..., or 0 if it is numeric. None:
        all are numeric.
    """

    levels: Sequence[int] | None

    def check(self, X: Array) -> None:
        """Accept any number in a numeric column, and codes of levels."""
        n_levels = self.count_levels(X)
        for j in np.flatnonzero(n_levels):
            column = X[:, j][~np.isnan(X[:, j])]
            if ((column < 0) | (column >= n_levels[j]) | (column != np.floor(column))).any():
                raise ValueError(
                    f"Got likelihood={self.name!r} with values in column {j} that are not among its "
                    f"{n_levels[j]} levels; expected codes 0, 1, 2 ..."
                )

    def count_levels(self, X: Array) -> Array:
        """Return `levels` as an array, one for each column of X."""
        n_levels = np.zeros(X.shape[1], dtype=int) if self.levels is None else np.asarray(self.levels)
        if n_levels.shape != (X.shape[1],):
            raise ValueError(
                f"Got levels={self.levels!r} for {X.shape[1]} columns; expected one number each."
            )
        return n_levels


class Independent(nn.Module, ABC):
    """What modules of p(x given z) share whose columns are independent given z."""

    @abstractmethod
    def show_holes(self, shows_holes: bool) -> None:
        """Set whether the encoder is told which cells are missing. Before networks are built."""

    @abstractmethod
    def row_log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return log p of each row in nats, in the units of the data, shape (..., B)."""

    @abstractmethod
    def sample(self, output: torch.Tensor, generator: torch.Generator, holes: bool = True) -> torch.Tensor:
        """Draw x given z in the units of the data, shape (..., n_features). It has no `holes` in any case."""

    @abstractmethod
    def average(self, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the mean, or the most probable level, over draws of z by their weights, shape (S, B)."""

    def fill(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        generator: torch.Generator,
        known: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the missing cells of standardised rows; `known` ones in the units of the data are not needed.

        Returns
        -------
        values : Tensor of shape (..., n_features)
            Values in the units of the data; NaN where a cell was not missing.
        log_prob : Tensor of shape (...)
            Log-density of the cells that were given.
        """
        drawn = self.sample(output, generator)
        return torch.where(torch.isnan(x), drawn, torch.nan), self.row_log_prob(x, output)

    def expect(
        self,
        x: torch.Tensor,
        output: torch.Tensor,
        log_ratio: torch.Tensor,
        generator: torch.Generator | None = None,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what to expect in the missing cells of standardised rows, given the others.

        Parameters
        ----------
        x : Tensor of shape (B, n_features)
        output : Tensor of shape (S, B, n_outputs)
            What the decoder made of draws of z.
        log_ratio : Tensor of shape (S, B)
            Log-density of the draws in the prior over that in what they were drawn from.
        generator : torch.Generator or None, default=None
            Not used.
        known : Tensor of shape (B, n_features) or None, default=None
            The rows in the units of the data. Not used.

        Returns
        -------
        Tensor of shape (B, n_features)
            E[x given the cells seen] in the units of the data; of levels the most probable one.
        """
        return self.average(output, torch.softmax(self.row_log_prob(x, output) + log_ratio, 0))


class ObservationModel(Independent):
    """Module of p(x given z): location and scale, learned constants, and a `Likelihood`.

    Parameters
    ----------
    likelihood : Likelihood
    location, scale : ndarray of shape (..., n_features)
        What is subtracted from a column, and what it is divided by, before the encoder sees it.
        A column of scale 0 is constant and hidden from the encoder.
    constants : sequence of float or ndarray, default=()
        Starting values of parameters that each column learns and z does not move.
    offset : ndarray of shape (n_params, n_features) or None, default=None
        Added to the decoder's outputs, so that an untrained decoder starts at the averages.
    features : {None, "log1p", "one_hot"}, default=None
        How a cell becomes what the encoder sees.
    n_params : int, default=1
        Decoder outputs per column.

    Attributes
    ----------
    shows_holes : bool
        Whether the encoder is told which cells are missing, by as many values again: 1 where one is.
        Otherwise a hole is the average to it.
    repeats_constants : bool
        Whether columns of scale 0 come out as they were, whatever the decoder says: until a fit goes on
        with other rows, where they may vary.
    """

    shows_holes: bool = False
    repeats_constants: bool = False

    location: torch.Tensor
    scale: torch.Tensor
    visible: torch.Tensor
    log_scale: torch.Tensor
    offset: torch.Tensor | None

    def __init__(
        self,
        likelihood: Likelihood,
        location: Array,
        scale: Array,
        *,
        constants: Sequence[Any] = (),
        offset: Array | None = None,
        features: str | None = None,
        n_params: int = 1,
    ) -> None:
        super().__init__()
        constant = scale == 0
        size = np.where(np.abs(location) > 0, np.abs(location), 1.0)
        scale = np.where(constant, size, scale)
        if not likelihood.standardized:
            location = np.nan_to_num(location)  # a column without an observed cell may get some later
        self.likelihood = likelihood
        self.n_params = n_params
        self.n_features = scale.shape[-1]
        self.feature_kind = features
        self.has_constant_columns = self.repeats_constants = bool(constant.any())
        self.register_buffer("location", torch.tensor(location, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("visible", torch.tensor(~constant, dtype=torch.float64))
        log_scale = np.log(scale) if likelihood.standardized else np.zeros(self.n_features)
        self.register_buffer("log_scale", torch.tensor(log_scale, dtype=torch.float64))
        self.register_buffer("offset", None if offset is None else torch.as_tensor(offset))
        start = [np.broadcast_to(c, self.n_features) for c in constants]
        self.constants = nn.Parameter(torch.tensor(np.array(start).reshape(-1, self.n_features)))

    @property
    def in_features(self) -> int:
        """Number of values per row that the encoder sees."""
        return self.location.numel() + self.n_features * self.shows_holes

    @property
    def out_features(self) -> int:
        """Number of values per row that the decoder gives."""
        return self.n_params * self.n_features

    def show_holes(self, shows_holes: bool) -> None:
        """Set `shows_holes`; levels side by side show their holes anyway. Before networks are built."""
        self.shows_holes = shows_holes and self.feature_kind != "one_hot"

    def standardize(self, x: torch.Tensor) -> torch.Tensor:
        """Turn rows in the units of the data into what the other methods take. NaN stays NaN."""
        if not self.likelihood.standardized:
            return x
        return (x - self.location).div_(self.scale)

    def draw(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw the zeros and ones of this pass where x holds probabilities; else return x."""
        if not self.likelihood.dynamic:
            return x
        return torch.where(torch.isnan(x), x, bernoulli(torch.nan_to_num(x), generator))

    def features(self, x: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return what the encoder sees of x, shape (B, in_features). A missing cell is 0, the average.

        `complete=True` promises that x has no NaN.
        """
        seen = None if complete else ~torch.isnan(x)
        filled = x if seen is None else torch.where(seen, x, 0.0)
        if self.feature_kind == "one_hot":
            levels = torch.arange(self.n_params, dtype=x.dtype, device=x.device)
            filled = (filled.unsqueeze(-2) == levels[:, None]).to(x.dtype)
        elif self.feature_kind == "log1p":
            filled = torch.log1p(filled)
        if not self.likelihood.standardized:
            filled = (filled - self.location) / self.scale
        if self.has_constant_columns:
            filled = filled * self.visible
        if seen is not None:
            filled = torch.where(seen.unsqueeze(-2) if filled.ndim > x.ndim else seen, filled, 0.0)
        filled = filled.flatten(1)
        if not self.shows_holes:
            return filled
        holes = torch.zeros_like(x) if seen is None else (~seen).to(x.dtype)
        return torch.cat((filled, holes), 1)

    def look(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the encoder sees of rows in the units of the data: in fewer passes, where it can."""
        if self.likelihood.standardized and self.feature_kind is None and not self.shows_holes:
            seen = (x - self.location).mul_(self.visible / self.scale)
            if not seen.sum().isnan():
                return seen
        return self.features(self.standardize(x))

    def log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return log p of each cell in nats, in the units of the data, shape (..., B, n_features).

        A missing cell gives 0. It is filled before the density is computed: a NaN masked only
        afterwards would still poison the gradient.
        """
        seen = None if complete else ~torch.isnan(x)
        filled = x if seen is None else torch.where(seen, x, 0.0)
        log_prob = self.likelihood.log_prob(filled, self._params(output), self.constants)
        if self.likelihood.standardized:
            log_prob = log_prob - self.log_scale
        return log_prob if seen is None else torch.where(seen, log_prob, 0.0)

    def row_log_prob(self, x: torch.Tensor, output: torch.Tensor, complete: bool = False) -> torch.Tensor:
        """Return log p of each row in nats, in the units of the data, shape (..., B)."""
        fused = getattr(self.likelihood, "row_log_prob", None)
        if not complete or fused is None:
            return self.log_prob(x, output, complete).sum(-1)
        return fused(x, self._params(output), self.constants) - self.log_scale.sum()

    @torch.no_grad()
    def tie_constants(self) -> None:
        """Give all columns the average constants, where columns have one unit: a standard deviation."""
        if self.likelihood.standardized:
            self.constants.copy_(self.constants.mean(1, keepdim=True).expand_as(self.constants))

    @torch.no_grad()
    def fit_constants(
        self, x: torch.Tensor, output: torch.Tensor, weight: torch.Tensor | None = None
    ) -> None:
        """Set the constants that were tied to what suits the residuals of some rows, by weight."""
        weight = x.new_ones(len(x)) if weight is None else weight
        fit = getattr(self.likelihood, "fit_constants", None)
        if fit is not None:
            seen = torch.where(torch.isnan(x), 0.0, weight[:, None])
            residual = torch.nan_to_num(x) - self.likelihood.mean(self._params(output), self.constants)
            squares = (seen * residual.square()).sum((0, 1))
            least = torch.finfo(x.dtype).tiny
            self.constants.copy_(fit(squares / (len(residual) * seen.sum(0)).clamp(min=least)))
        elif self.likelihood.standardized and len(self.constants):
            self._search_constants(x, output.detach(), weight)

    @torch.enable_grad()
    def _search_constants(self, x: torch.Tensor, output: torch.Tensor, weight: torch.Tensor) -> None:
        """Climb to the constants under which some rows are likeliest, given what the decoder says."""
        params = self._params(output).double()
        seen = torch.where(torch.isnan(x), 0.0, weight[:, None]).double()
        filled, shape = torch.nan_to_num(x).double(), self.constants.shape

        def loss(values: Array) -> tuple[float, Array]:
            constants = torch.tensor(values.reshape(shape), device=x.device, requires_grad=True)
            value = -(self.likelihood.log_prob(filled, params, constants) * seen).sum(-1).mean()
            (gradient,) = torch.autograd.grad(value, [constants])
            return value.item(), gradient.cpu().numpy().ravel()

        start = self.constants.detach().cpu().double().numpy().ravel()
        # torch.optim.LBFGS imports torch's compiler, which takes seconds
        found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x
        if np.isfinite(found).all():
            self.constants.data.copy_(torch.tensor(found.reshape(shape)))

    def mean(self, output: torch.Tensor) -> torch.Tensor:
        """Return E[x given z] in the units of the data, shape (..., n_features)."""
        return self._rescale(self.likelihood.mean(self._params(output), self.constants))

    def sample(self, output: torch.Tensor, generator: torch.Generator, holes: bool = True) -> torch.Tensor:
        """Draw x given z in the units of the data, shape (..., n_features). It has no `holes` in any case."""
        return self._rescale(self.likelihood.sample(self._params(output), self.constants, generator))

    def average(self, output: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the mean, or the most probable level, over draws of z by their weights, shape (S, B)."""
        params = self._params(output)
        mode = getattr(self.likelihood, "mode", None)
        if mode is not None:
            return mode(params, self.constants, weight)
        mean = self.likelihood.mean(params, self.constants)
        return self._rescale((weight.unsqueeze(-1) * mean).sum(0))

    def _params(self, output: torch.Tensor) -> torch.Tensor:
        params = output.unflatten(-1, (self.n_params, self.n_features))
        return params if self.offset is None else params + self.offset

    def _rescale(self, x: torch.Tensor) -> torch.Tensor:
        if not self.likelihood.standardized:
            return x
        return (x * self.visible if self.repeats_constants else x) * self.scale + self.location
