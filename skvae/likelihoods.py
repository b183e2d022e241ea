"""Likelihoods p(x given z): what a column of the data is made of.

A `Likelihood` is a specification: hyper-parameters and densities, without tensors. Its `build`
looks at the training data and returns an `ObservationModel`, the module that the decoder feeds.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from ._arrays import location_and_scale, moments, row_chunks
from ._joint import JointModel
from ._mixed import Mixed
from ._observation import Likelihood, ObservationModel, OfTable
from ._random import bernoulli, normal, poisson, standard_gamma, uniform
from ._typing import Array

__all__ = [
    "Bernoulli",
    "Categorical",
    "Columnwise",
    "ContinuousBernoulli",
    "Gaussian",
    "Heterogeneous",
    "Likelihood",
    "Mixed",
    "NegativeBinomial",
    "ObservationModel",
    "Poisson",
    "StudentT",
]

LOG_2PI = math.log(2 * math.pi)
MAX_LEVELS = 10_000  # of a categorical column; beyond, a column is an id
MAX_LOG_SIGMA = 10.0  # e^10 standard deviations of a column
MAX_LOG_RATE = 30.0  # e^30 is 1e13 counts; float32 overflows at e^88


class Columnwise(Likelihood):
    """Specification of p(x given z) for columns of one kind that are independent given z.

    To add one: derive from this class and give it a `name`, `check` and `build` of `Likelihood`, and the
    methods below. In their signatures x has shape (..., n_features), `params` (..., n_params,
    n_features) and `constants` (n_constants, n_features); x is standardised if `standardized` is true,
    and never NaN.

    One of levels has a method ``mode(params, constants, weight)`` as well: the likeliest value over S
    draws of z by weights of shape (S, n_rows), of shape (n_rows, n_features), which `impute` fills in.
    Without it that is the mean.

    Attributes
    ----------
    name : str
        What users type as ``likelihood=``.
    standardized : bool
        Whether the density is one of standardised values. `ObservationModel` then reports it in
        the units of the data.
    dynamic : bool
        Whether cells are probabilities, of which training draws zeros and ones at every pass.
    """

    standardized = False
    dynamic = False

    @abstractmethod
    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the log-density of each cell.

        Parameters
        ----------
        x : Tensor of shape (..., n_features)
            Cells, without NaN.
        params : Tensor of shape (..., n_params, n_features)
            What the decoder gives for each cell.
        constants : Tensor of shape (n_constants, n_features)
            What each column learns for itself.

        Returns
        -------
        log_prob : Tensor of shape (..., n_features)
            Nats.
        """

    @abstractmethod
    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the expectation of each cell.

        Parameters
        ----------
        params : Tensor of shape (..., n_params, n_features)
        constants : Tensor of shape (n_constants, n_features)

        Returns
        -------
        mean : Tensor of shape (..., n_features)
        """

    @abstractmethod
    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw each cell.

        Parameters
        ----------
        params : Tensor of shape (..., n_params, n_features)
        constants : Tensor of shape (n_constants, n_features)
        generator : torch.Generator
            The only source of chance, on the CPU whatever the device of the module.

        Returns
        -------
        x : Tensor of shape (..., n_features)
        """


def _refuse(likelihood: Any, X: Array, wish: Any, remedy: Any) -> None:
    low, high = np.nanmin(X), np.nanmax(X)
    raise ValueError(
        f"Got likelihood={likelihood.name!r} with X in [{low:.6g}, {high:.6g}]; expected {wish}. {remedy}"
    )


def _first(params: torch.Tensor) -> torch.Tensor:
    """Return the first parameter of each column; of one alone by a view that backward can undo."""
    return params.squeeze(-2) if params.shape[-2] == 1 else params[..., 0, :]


def _check_positive(value: Any, name: Any) -> None:
    if not isinstance(value, Real) or not float(value) > 0:
        raise ValueError(f"Got {name}={value!r}; expected a number above 0.")


def _any(X: Array, predicate: Any) -> Any:
    """Whether a predicate holds anywhere, looked at in chunks. NaN must make it false."""
    return any(bool(predicate(X[rows]).any()) for rows in row_chunks(*X.shape))


def _smoothed_log_mean(mean: Any) -> Any:
    """Logarithm of column means of counts, kept finite where a column is all zero or missing."""
    return np.log(np.maximum(np.nan_to_num(mean), 1e-3))


class Gaussian(Columnwise):
    """Normal density; the mean of each cell comes from the decoder, and sigma is learned.

    A learned sigma balances reconstruction against KL without a weight to tune: Rybkin,
    Daniilidis and Levine (2020), sigma-VAE, arXiv:2006.13202.

    Columns are standardised by their standard deviations. From 1,000 rows on, those with heavier tails
    than others are divided by more, as their eighth moments say, lest a column that is nearly always
    the same have most say.

    Parameters
    ----------
    sigma : {"cell", "feature", "shared"}, default="feature"
        One sigma for every cell, given by the decoder; one for every column; or one for all (in
        standardised units).
    min_sigma : float, default=0.01
        Soft floor of sigma, in the unit of a standardised column, without which a column that can
        be predicted exactly has an unbounded density.
    """

    name = "gaussian"
    standardized = True

    def __init__(
        self, sigma: Literal["cell", "feature", "shared"] = "feature", min_sigma: float = 0.01
    ) -> None:
        self.sigma = sigma
        self.min_sigma = min_sigma

    def check(self, X: Array) -> None:
        """Accept any real number; check the hyper-parameters."""
        if self.sigma not in ("cell", "feature", "shared"):
            raise ValueError(f"Got sigma={self.sigma!r}; expected 'cell', 'feature' or 'shared'.")
        _check_positive(self.min_sigma, "min_sigma")

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Standardise the columns and start from sigma 0.5."""
        n_params = 2 if self.sigma == "cell" else 1
        return ObservationModel(
            self, *location_and_scale(X, sample_weight), n_params=n_params, constants=[math.log(0.5)]
        )

    def log_sigma(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return log sigma in standardised units; it broadcasts to the cells."""
        log_sigma = constants.mean() if self.sigma == "shared" else constants.squeeze(0)
        if self.sigma == "cell":
            log_sigma = (log_sigma + params[..., 1, :]).clamp(max=MAX_LOG_SIGMA)
        floor = math.log(self.min_sigma)
        return floor + F.softplus(log_sigma - floor)

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return log N(x; mean, sigma^2)."""
        log_sigma = self.log_sigma(params, constants)
        squares = (x - _first(params)).mul(torch.exp(-log_sigma)).square()
        return squares.mul(-0.5) - (log_sigma + 0.5 * LOG_2PI)

    def fit_constants(self, squares: Any) -> Any:
        """Return the constants that make sigma^2 the mean squared residual of each column."""
        floor = math.log(self.min_sigma)
        above = (0.5 * torch.log(squares) - floor).clamp(min=1e-3)
        return (floor + torch.log(torch.expm1(above)))[None]

    def row_log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> Any:
        """Return the sum of `log_prob` over the columns, by a third of the kernels."""
        mean, log_sigma = _first(params), self.log_sigma(params, constants)
        if log_sigma.ndim < 2:  # shared by all rows
            log_sigma = log_sigma.expand(mean.shape[-1:])
        return _GaussianRows.apply(x, mean, log_sigma)

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the decoder's output itself."""
        return _first(params)

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Add noise of standard deviation sigma."""
        mean = _first(params)
        noise = normal(mean.shape, mean, generator)
        return mean + noise * torch.exp(self.log_sigma(params, constants))


class _GaussianRows(torch.autograd.Function):
    """`Gaussian.log_prob` of complete rows, summed over their columns, by fewer kernels."""

    apply: Callable[..., torch.Tensor]  # torch has not annotated it

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mean: Any, log_sigma: Any) -> Any:
        sigma = torch.exp(log_sigma)
        standard = (x - mean).div_(sigma)
        ctx.save_for_backward(standard, sigma)
        norm = torch.linalg.vector_norm(standard, dim=-1)
        constant = -0.5 * LOG_2PI * mean.shape[-1] - log_sigma.sum(-1)
        return torch.addcmul(constant, norm, norm, value=-0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        standard, sigma = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        scaled = standard * grad
        grad_log_sigma = torch.addcmul(-grad, scaled, standard).sum_to_size(sigma.shape)
        return None, scaled.div_(sigma), grad_log_sigma


class StudentT(Columnwise):
    """Student's t density: location from the decoder, scale and degrees of freedom by column.

    For heavy tails and outliers. The degrees of freedom stay above 2, so mean and variance exist.

    Parameters
    ----------
    min_scale : float, default=1e-3
        Soft floor of the scale, in the unit of a standardised column.
    """

    name = "student_t"
    standardized = True

    def __init__(self, min_scale: float = 1e-3) -> None:
        self.min_scale = min_scale

    def check(self, X: Array) -> None:
        """Accept any real number; check the hyper-parameters."""
        _check_positive(self.min_scale, "min_scale")

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Standardise the columns and start from scale 1 and 5 degrees of freedom."""
        start = [0.0, math.log(math.expm1(3.0))]
        return ObservationModel(self, *location_and_scale(X, sample_weight), constants=start)

    def _scale_and_df(self, constants: Any) -> tuple[torch.Tensor, torch.Tensor]:
        floor = math.log(self.min_scale)
        return floor + F.softplus(constants[0] - floor), 2.0 + F.softplus(constants[1])

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the log-density of location + scale * t(df)."""
        log_scale, df = self._scale_and_df(constants)
        standard = (x - _first(params)) * torch.exp(-log_scale)
        constant = torch.lgamma(0.5 * (df + 1)) - torch.lgamma(0.5 * df)
        constant = constant - 0.5 * torch.log(df * math.pi) - log_scale
        return constant - 0.5 * (df + 1) * torch.log1p(standard.square() / df)

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the location, which is the decoder's output."""
        return _first(params)

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw by the polar method of Bailey (1994), doi:10.2307/2153537."""
        log_scale, df = self._scale_and_df(constants)
        mean = _first(params)
        u, v = uniform((2, *mean.shape), mean, generator)
        radius = torch.sqrt(df * torch.expm1(-2.0 / df * torch.log1p(-u)))
        return mean + torch.exp(log_scale) * radius * torch.cos(2 * math.pi * v)


class Bernoulli(Columnwise):
    """Zeros and ones; the decoder gives logits.

    Parameters
    ----------
    dynamic : bool, default=False
        Take grey values in [0, 1] as probabilities and draw zeros and ones anew at every pass, as
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519, do with MNIST. A row of grey
        values is then scored by its expected log-density given z, a lower bound of the average
        score of its binarisations.
    """

    name = "bernoulli"

    def __init__(self, dynamic: bool = False) -> None:
        self.dynamic = dynamic

    def check(self, X: Array) -> None:
        """Accept 0 and 1, or all between with `dynamic`."""
        if self.dynamic:
            if _any(X, lambda x: (x < 0) | (x > 1)):
                _refuse(self, X, "values in [0, 1]", "Scale X or use likelihood='gaussian'.")
        elif _any(X, lambda x: (x != 0) & (x != 1) & ~np.isnan(x)):
            _refuse(
                self,
                X,
                "only 0 and 1",
                "For grey values in [0, 1] use skvae.likelihoods.Bernoulli(dynamic=True) or "
                "likelihood='continuous_bernoulli', else likelihood='gaussian'.",
            )

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Centre the columns for the encoder and start at their logits."""
        mean, std = moments(X, sample_weight)
        p = np.clip(np.nan_to_num(mean, nan=0.5), 1e-3, 1 - 1e-3)
        return ObservationModel(self, mean, np.where(std > 0, 1.0, 0.0), offset=np.log(p / (1 - p))[None])

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return x log p + (1 - x) log(1 - p)."""
        logits = _first(params)
        return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the probabilities of 1."""
        return torch.sigmoid(_first(params))

    def mode(self, params: torch.Tensor, constants: Any, weight: torch.Tensor) -> torch.Tensor:
        """Return the more probable one over S weighted draws of z, shape (B, D); of grey values the mean."""
        share = (weight.unsqueeze(-1) * self.mean(params, constants)).sum(0)
        return share if self.dynamic else share.round()

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw zeros and ones."""
        return bernoulli(torch.sigmoid(_first(params)), generator)


class ContinuousBernoulli(Columnwise):
    """Density on [0, 1] proportional to exp(eta x); the decoder gives eta.

    For grey values: the normaliser that a Bernoulli of grey values lacks. Loaiza-Ganem and
    Cunningham (2019), arXiv:1907.06845, with eta = logit(lambda).
    """

    name = "continuous_bernoulli"

    def check(self, X: Array) -> None:
        """Accept values in [0, 1]."""
        if _any(X, lambda x: (x < 0) | (x > 1)):
            _refuse(self, X, "values in [0, 1]", "Scale X or use likelihood='gaussian'.")

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Centre the columns for the encoder."""
        mean, std = moments(X, sample_weight)
        return ObservationModel(self, mean, np.where(std > 0, 1.0, 0.0))

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return eta x - log((e^eta - 1) / eta)."""
        eta = _first(params)
        half = 0.5 * eta
        small = half.abs() < 0.05
        safe = torch.where(small, 1.0, half.abs())
        series = half.square() * (1 / 6 - half.square() / 180)
        log_ratio = torch.where(
            small, series, safe + torch.log(-torch.expm1(-2 * safe)) - torch.log(2 * safe)
        )
        return eta * x - half - log_ratio

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return 1 / (1 - e^-eta) - 1 / eta."""
        eta = _first(params)
        small = eta.abs() < 0.1
        safe = torch.where(small, 1.0, eta)
        return torch.where(small, 0.5 + eta / 12 - eta**3 / 720, -1 / torch.expm1(-safe) - 1 / safe)

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Invert the distribution function, mirrored so that no exponential overflows."""
        eta = _first(params)
        u = uniform(eta.shape, eta, generator)
        small = eta.abs() < 1e-3
        size = torch.where(small, 1.0, eta.abs())
        x = -torch.log1p(u * torch.expm1(-size)) / size  # density proportional to exp(-size x)
        return torch.where(small, u, torch.where(eta > 0, 1 - x, x)).clamp(0.0, 1.0)


def _check_counts(likelihood: Any, X: Array) -> None:
    if _any(X, lambda x: (x < 0) | ((x != np.floor(x)) & ~np.isnan(x))):
        _refuse(likelihood, X, "whole numbers from 0 on", "Use likelihood='gaussian' for measurements.")


class Poisson(Columnwise):
    """Counts whose variance equals their mean; the decoder gives the log-rate."""

    name = "poisson"

    def check(self, X: Array) -> None:
        """Accept whole numbers from 0 on."""
        _check_counts(self, X)

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Show log(1 + x), standardised, to the encoder and start at the average rates."""
        return _count_model(self, X, sample_weight)

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return x log(rate) - rate - log x!."""
        log_rate = _first(params).clamp(max=MAX_LOG_RATE)
        return x * log_rate - torch.exp(log_rate) - torch.lgamma(x + 1)

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the rates."""
        return torch.exp(_first(params).clamp(max=MAX_LOG_RATE))

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw counts."""
        return poisson(self.mean(params, constants), generator)


class NegativeBinomial(Columnwise):
    """Overdispersed counts: log-mean from the decoder, inverse dispersion r by column.

    The variance is mean + mean^2 / r, as in scVI, Lopez et al. (2018), doi:10.1038/s41592-018-0229-2.
    """

    name = "negative_binomial"

    def check(self, X: Array) -> None:
        """Accept whole numbers from 0 on."""
        _check_counts(self, X)

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Show log(1 + x), standardised, to the encoder; start at the averages and r = 1."""
        return _count_model(self, X, sample_weight, constants=[0.0])

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the log-mass of the gamma-Poisson mixture."""
        log_mean = _first(params).clamp(max=MAX_LOG_RATE)
        log_r = constants[0].clamp(-10.0, 10.0)
        r = torch.exp(log_r)
        odds = log_mean - log_r
        choose = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
        return choose - r * F.softplus(odds) - x * F.softplus(-odds)

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the means."""
        return torch.exp(_first(params).clamp(max=MAX_LOG_RATE))

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw a gamma rate, then a Poisson count."""
        mean = self.mean(params, constants)
        r = torch.exp(constants[0].clamp(-10.0, 10.0)).expand_as(mean)
        return poisson(standard_gamma(r.contiguous(), generator) * mean / r, generator)


def _count_model(
    likelihood: Any, X: Array, sample_weight: Array | None, constants: Any = ()
) -> ObservationModel:
    mean, _ = moments(X, sample_weight)
    location, scale = moments(X, sample_weight, np.log1p)
    offset = _smoothed_log_mean(mean)[None]
    return ObservationModel(likelihood, location, scale, constants=constants, offset=offset, features="log1p")


class Categorical(Columnwise):
    """Levels coded 0, 1, 2 ...; the decoder gives a logit per level, the encoder sees one-hot.

    Every column gets as many logits as the column with most levels; those beyond a column's own
    highest code have no mass, nor have those above all of them.
    """

    name = "categorical"

    def check(self, X: Array) -> None:
        """Accept whole numbers from 0 on."""
        _check_counts(self, X)

    def build(self, X: Array, sample_weight: Array | None = None) -> ObservationModel:
        """Count the levels, centre the one-hot columns and start at the levels' log-shares."""
        own = np.nan_to_num(np.fmax.reduce(X, axis=0)).astype(int)  # fmax ignores NaN
        if own.max() >= MAX_LEVELS:
            raise ValueError(
                f"Got likelihood='categorical' with codes up to {own.max()}; expected at most "
                f"{MAX_LEVELS - 1}, as each level takes a logit in every column. Code the levels 0, 1, 2 ... "
                "or use likelihood='poisson' for counts."
            )
        return self.build_levels(X, own + 1, sample_weight)

    def build_levels(self, X: Array, own: Array, sample_weight: Array | None = None) -> ObservationModel:
        """As `build`, of columns whose numbers of levels, one at least, are known."""
        n_levels = int(own.max())
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        share = np.stack([((level == X) * weight[:, None]).sum(axis=0) for level in range(n_levels)])
        total = (~np.isnan(X) * weight[:, None]).sum(axis=0)
        share = (share + 0.5) / (total + 0.5 * n_levels)
        offset = np.where(np.arange(n_levels)[:, None] < own, np.log(share), -np.inf)
        scale = np.ones_like(share)
        return ObservationModel(self, share, scale, n_params=n_levels, offset=offset, features="one_hot")

    def log_prob(self, x: torch.Tensor, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the log-probability of each cell's level."""
        last = params.shape[-2] - 1
        index = x.clamp(0, last).long().expand(params.shape[:-2] + x.shape[-1:]).unsqueeze(-2)
        log_prob = torch.log_softmax(params, -2).gather(-2, index).squeeze(-2)
        return torch.where(x <= last, log_prob, -torch.inf)

    def mean(self, params: torch.Tensor, constants: Any) -> torch.Tensor:
        """Return the most probable level: levels have no average."""
        return params.argmax(-2).to(params.dtype)

    def mode(self, params: torch.Tensor, constants: Any, weight: torch.Tensor) -> torch.Tensor:
        """Return the most probable level in the average over S weighted draws of z."""
        share = torch.einsum("sb,sbld->bld", weight, torch.softmax(params, -2))
        return share.argmax(-2).to(params.dtype)

    def sample(self, params: torch.Tensor, constants: Any, generator: torch.Generator) -> torch.Tensor:
        """Draw levels by the Gumbel trick."""
        u = uniform(params.shape, params, generator)
        return (params - torch.log(-torch.log(u))).argmax(-2).to(params.dtype)


class Heterogeneous(OfTable):
    """A table whose columns are independent given z: numbers of one kind, and levels.

    The usual likelihood of autoencoders for tables: Nazabal, Olmos, Ghahramani and Valera (2020), HI-VAE,
    arXiv:1807.03653. Where `Mixed` learns any shape of a column, this one takes numbers for normal given z:
    less like the data when drawn, but with far fewer weights and outputs, so it needs fewer rows, and
    a fraction of the time.

    Parameters
    ----------
    numbers : Columnwise or None, default=None
        Likelihood of the columns of numbers. None: `Gaussian`.
    levels : sequence of int or None, default=None
        For each column the number of its levels, coded 0, 1, 2 ..., or 0 if it is numeric. None:
        all are numeric. `VAETransformer` sets it for a table.
    """

    name = "heterogeneous"

    def __init__(self, numbers: Columnwise | None = None, levels: Sequence[int] | None = None) -> None:
        self.numbers = numbers
        self.levels = levels

    def check(self, X: Array) -> None:
        """Accept what `numbers` accepts in a numeric column, and codes of levels."""
        if self.numbers is not None and not isinstance(self.numbers, Columnwise):
            raise ValueError(
                f"Got numbers={self.numbers!r}; expected a likelihood of columns of one kind, such as "
                "Gaussian()."
            )
        super().check(X)
        numeric = self.count_levels(X) == 0
        if numeric.any():
            try:
                self._numbers().check(X[:, numeric])
            except ValueError as error:
                raise ValueError(
                    f"The columns of numbers do not suit numbers={self._numbers()!r}: {error}"
                ) from error

    def build(self, X: Array, sample_weight: Array | None = None) -> JointModel:
        """Build a model of the numbers, and one for columns with about as many levels."""
        n_levels = self.count_levels(X)
        size = np.ceil(np.log2(np.maximum(n_levels, 1)))  # so no column gets twice the logits it needs
        kinds = np.where(n_levels == 0, -1, size)
        places = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
        parts = [
            Categorical().build_levels(X[:, place], n_levels[place], sample_weight)
            if n_levels[place[0]]
            else self._numbers().build(X[:, place], sample_weight)
            for place in places
        ]
        return JointModel(parts, places)

    def _numbers(self) -> Columnwise:
        return Gaussian() if self.numbers is None else self.numbers
