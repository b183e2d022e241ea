"""Priors p(z), trained with the model, scored and sampled from.

A `Prior` is a specification; its `build` returns a `PriorModel`, the module that is trained.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ._flow import Coupling
from ._mixture import MIN_LOG_STD, MixtureLogProb, joint_log_prob
from ._prior import Prior, PriorModel
from ._random import choose, normal
from ._values import check_count

__all__ = ["ByClass", "Flow", "Mixture", "Prior", "PriorModel", "StandardNormal", "VampPrior", "by_class"]

LOG_2PI = math.log(2 * math.pi)
ROWS_PER_MODE = 20  # from which on EM raises the density of other rows too
MOST_FULL = 64  # components up to which modes get covariances unasked: their cost grows with the square
EM_STEPS = 10
NUMBERS_AT_ONCE = 2**22
ROWS_AT_ONCE = 2**14  # through a flow
EM_LEAST = 2.0  # rows of a mode in use
EM_FLOOR = 1e-3  # least variance of a mode, of the variance of all rows
UNUSED = -30.0  # log-weight of a mode that no row is near


class StandardNormal(Prior):
    """N(0, I), the prior of Kingma and Welling (2014), arXiv:1312.6114."""

    name = "normal"

    def build(self, latent_dim: int, encode: Any = None, rows: Any = None) -> PriorModel:
        """Return a module without parameters."""
        return _StandardNormalModel(latent_dim)


class _StandardNormalModel(PriorModel):
    zero: torch.Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim))

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return -0.5 * (z.square() + LOG_2PI).sum(-1)

    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        return normal((n_samples, len(self.zero)), self.zero, generator)

    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        return _StandardNormalKL.apply(posterior.mean, posterior.log_std, posterior.std.detach())


class _StandardNormalKL(torch.autograd.Function):
    """0.5 * sum(mean^2 + std^2 - 1 - 2 log_std), Kingma and Welling, appendix B, by fewer kernels."""

    apply: Callable[..., torch.Tensor]  # torch has not annotated it

    @staticmethod
    def forward(ctx: Any, mean: Any, log_std: Any, std: Any) -> Any:
        ctx.save_for_backward(mean, std)
        squares = torch.addcmul(torch.addcmul(log_std, mean, mean, value=-0.5), std, std, value=-0.5)
        return -0.5 * mean.shape[-1] - squares.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        mean, std = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return grad * mean, torch.addcmul(-grad, grad * std, std), None


class Mixture(Prior):
    """A mixture of Gaussians, learned with the model.

    Parameters
    ----------
    n_modes : int, default=50
        Number of Gaussians.
    covariance_type : {"auto", "diag", "full"}, default="auto"
        Whether components are independent within a mode, or each mode has a covariance matrix, as in
        `sklearn.mixture.GaussianMixture`. Training is the same; a last step by EM finds the
        covariances. "auto" takes it where a mode has 20 rows or more on average and there are at most
        64 components; with fewer rows single ones would be fitted. `partial_fit` has no last step.
    """

    name = "mixture"

    def __init__(self, n_modes: int = 50, covariance_type: Literal["auto", "diag", "full"] = "auto") -> None:
        self.n_modes = n_modes
        self.covariance_type = covariance_type

    def build(self, latent_dim: int, encode: Any = None, rows: Any = None) -> PriorModel:
        """Return modes scattered around zero, of equal weights."""
        check_count(self.n_modes, "n_modes")
        kinds = ("auto", "diag", "full")
        if self.covariance_type not in kinds:
            raise ValueError(f"Got covariance_type={self.covariance_type!r}; expected one of {kinds}.")
        shape = (self.n_modes, latent_dim)
        parts = (
            nn.Parameter(0.5 * torch.randn(shape)),
            nn.Parameter(torch.zeros(shape)),
            nn.Parameter(torch.zeros(self.n_modes)),
        )
        if self.covariance_type == "diag" or (self.covariance_type == "auto" and latent_dim > MOST_FULL):
            return _MixtureModel(*parts)
        return _FullMixtureModel(*parts, always=self.covariance_type == "full")


class _MixtureModel(PriorModel):
    """Modes that are parameters of their own, or made of other ones for the moment."""

    def __init__(self, means: torch.Tensor, log_stds: torch.Tensor, logits: torch.Tensor) -> None:
        super().__init__()
        self.means, self.log_stds, self.logits = means, log_stds, logits

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return MixtureLogProb.apply(z, self.means, self.log_stds, self.logits)

    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        mode = choose(torch.softmax(self.logits, 0), n_samples, generator)
        noise = normal((n_samples, self.means.shape[1]), self.means, generator)
        return self.means[mode] + self._scale(noise, mode)

    def _scale(self, noise: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        """Give standard normal numbers the covariance of their modes."""
        return noise * torch.exp(self.log_stds[mode].clamp(min=MIN_LOG_STD))

    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        return None

    def finishes(self, n_rows: int) -> bool:
        return n_rows >= ROWS_PER_MODE * len(self.logits)

    @torch.no_grad()
    def finish(
        self, z: torch.Tensor, weight: torch.Tensor | None = None, y: torch.Tensor | None = None
    ) -> None:
        # gradients raise the density where the rows are, but hardly ever empty a mode far from all
        # rows: that is nothing to the bound, and much to samples. EM does: Dempster, Laird and
        # Rubin (1977), doi:10.1111/j.2517-6161.1977.tb01600.x
        weight = torch.ones_like(z[0, :, 0]) if weight is None else weight / weight.mean()
        weight, z = weight.repeat(len(z)) / len(z), z.flatten(0, 1)  # all draws of a row count as one row
        floor = EM_FLOOR * z.var(0, correction=0)
        for _ in range(EM_STEPS):
            n: Any = 0.0
            first: Any = 0.0
            second: Any = 0.0
            for part, w in zip(self._parts(z), self._parts(weight), strict=True):
                share = torch.softmax(self._joint_log_prob(part), 1) * w[:, None]
                n, first = n + share.sum(0), first + share.T @ part
                second = second + share.T @ self._squares(part)
            total = n.sum()
            used = n[:, None] > EM_LEAST
            if not used.any():  # too many modes for the rows
                return
            n = n[:, None].clamp(min=EM_LEAST)
            mean = first / n
            self._spread(second / n - self._squares(mean), n, floor, used)
            self.means.copy_(torch.where(used, mean, self.means))
            self.logits.copy_(torch.where(used[:, 0], torch.log(n[:, 0] / total), UNUSED))

    def _parts(self, rows: torch.Tensor) -> Any:
        """Split rows into parts whose squares take bounded memory."""
        return rows.split(NUMBERS_AT_ONCE // self.means.shape[1])

    @staticmethod
    def _squares(z: torch.Tensor) -> torch.Tensor:
        """Return what the averages of which, less those of the means, are the covariances."""
        return z.square()

    def _spread(
        self, variance: torch.Tensor, n: torch.Tensor, floor: torch.Tensor, used: torch.Tensor
    ) -> None:
        """Set the covariances of the modes that `n` rows use, of some more than `floor`."""
        log_std = (0.5 * torch.log(variance.clamp(min=0) + floor)).clamp(min=MIN_LOG_STD)
        self.log_stds.copy_(torch.where(used, log_std, self.log_stds))

    def _joint_log_prob(self, z: torch.Tensor) -> Any:
        """Return the log-density of each mode with its weight, shape (N, n_modes)."""
        return joint_log_prob(z, self.means, self.log_stds, self.logits)[0]

    @torch.no_grad()
    def start(self, z: torch.Tensor, generator: torch.Generator, y: torch.Tensor | None = None) -> None:
        # random rows follow the density; seeds far apart (k-means++) would follow the outliers
        n_modes, latent_dim = self.means.shape
        order = torch.randperm(len(z), generator=generator, device=z.device)
        index = torch.arange(n_modes, device=z.device) % len(z)
        # Silverman (1986), Density estimation, section 4.3.2, for a kernel on each mode
        spread = z.std(0, correction=0) if len(z) > 1 else torch.ones_like(z[0])  # one tells none
        std = spread * n_modes ** (-1 / (latent_dim + 4))
        log_std = torch.log(std.clamp(min=math.exp(MIN_LOG_STD)))
        again = normal(self.means.shape, z, generator)
        again[: len(z)] = 0  # two modes of one row would stay one
        self.means.copy_(z[order[index]] + again * log_std.exp())
        self.log_stds.copy_(log_std.expand_as(self.log_stds))
        self.logits.zero_()


class _FullMixtureModel(_MixtureModel):
    """Modes that the last step gives covariances: until then they are diagonal, and as fast.

    (I + L) diag(1 / std) (z - mean) is white, L strictly lower triangular. `always` tells whether
    that step is taken however few the rows.
    """

    lower: torch.Tensor

    def __init__(
        self, means: torch.Tensor, log_stds: torch.Tensor, logits: torch.Tensor, always: bool
    ) -> None:
        super().__init__(means, log_stds, logits)
        n_modes, latent_dim = means.shape
        self.always = always
        self.is_full = False
        self.register_buffer("lower", torch.zeros(n_modes, latent_dim * (latent_dim - 1) // 2))

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        if not self.is_full:
            return super().log_prob(z)
        parts = self._parts(z.reshape(-1, z.shape[-1]))
        log_prob = torch.cat([torch.logsumexp(self._joint_log_prob(part), 1) for part in parts])
        return log_prob.view(z.shape[:-1]) - 0.5 * LOG_2PI * z.shape[-1]

    def finishes(self, n_rows: int) -> bool:
        return self.always or super().finishes(n_rows)

    def _unit(self) -> torch.Tensor:
        """Return I + L of each mode."""
        n_modes, latent_dim = self.means.shape
        row, column = torch.tril_indices(latent_dim, latent_dim, -1, device=self.lower.device)
        empty = self.lower.new_zeros(n_modes, latent_dim**2)
        lower = empty.index_copy(1, row * latent_dim + column, self.lower)
        identity = torch.eye(latent_dim, dtype=lower.dtype, device=lower.device)
        return lower.view(n_modes, latent_dim, latent_dim) + identity

    def _scale(self, noise: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        unit, loose = self._unit(), torch.empty_like(noise)
        for white, of_part, out in zip(*map(self._parts, (noise, mode, loose)), strict=True):
            part = torch.linalg.solve_triangular(
                unit[of_part], white.unsqueeze(-1), upper=False, unitriangular=True
            )
            out.copy_(part.squeeze(-1))
        return super()._scale(loose, mode)

    def _parts(self, rows: torch.Tensor) -> Any:
        return rows.split(max(1, NUMBERS_AT_ONCE // self.means.shape[1] ** 2))

    @staticmethod
    def _squares(z: torch.Tensor) -> torch.Tensor:
        return (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(1)

    def _spread(
        self, variance: torch.Tensor, n: torch.Tensor, floor: torch.Tensor, used: torch.Tensor
    ) -> None:
        covariance = variance.unflatten(1, (len(floor), len(floor)))
        own = torch.diag_embed(covariance.diagonal(dim1=1, dim2=2).clamp(min=0) + floor)
        # as if as many rows as there are components had been seen without a correlation
        share = (n / (n + len(floor))).unsqueeze(-1)
        covariance = share * (covariance + torch.diag(floor)) + (1 - share) * own
        identity = torch.eye(len(floor), dtype=floor.dtype, device=floor.device).expand_as(own)
        factor, failed = torch.linalg.cholesky_ex(torch.where(used.unsqueeze(-1), covariance, identity))
        used = used & (failed == 0).unsqueeze(1)  # rounding can spoil a mode far from zero: it stays
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        std = 1 / whitening.diagonal(dim1=1, dim2=2)
        row, column = torch.tril_indices(len(floor), len(floor), -1)
        lower = (whitening * std.unsqueeze(1))[:, row, column]
        self.lower.copy_(torch.where(used, lower, self.lower))
        self.is_full = True
        log_std = torch.log(std).clamp(min=MIN_LOG_STD)
        self.log_stds.copy_(torch.where(used, log_std, self.log_stds))

    def _joint_log_prob(self, z: torch.Tensor) -> Any:
        log_std = self.log_stds.clamp(min=MIN_LOG_STD)
        whitening = self._unit() * torch.exp(-log_std).unsqueeze(1)
        precision = whitening.mT @ whitening
        scaled = (precision @ self.means.unsqueeze(-1)).squeeze(-1)
        constant = torch.log_softmax(self.logits, 0) - log_std.sum(1) - 0.5 * (self.means * scaled).sum(1)
        # one product, as there is no tensor of shape (N, n_modes, K) then
        powers = torch.cat((z, self._squares(z)), 1)
        factors = torch.cat((scaled, -0.5 * precision.flatten(1)), 1)
        return torch.addmm(constant, powers, factors.t())

    @torch.no_grad()
    def start(self, z: torch.Tensor, generator: torch.Generator, y: torch.Tensor | None = None) -> None:
        super().start(z, generator)
        self.lower.zero_()
        self.is_full = False


class VampPrior(Prior):
    """A mixture of the encoder's posteriors at learned pseudo-inputs.

    The pseudo-inputs are what the encoder sees of rows that never were; they start from training
    rows. Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120, equations 9 and 10,
    with learned weights of the modes.

    Parameters
    ----------
    n_modes : int, default=50
        Number of pseudo-inputs; with fewer distinct rows, as many as rows.
    """

    name = "vamp"

    def __init__(self, n_modes: int = 50) -> None:
        self.n_modes = n_modes

    def build(self, latent_dim: int, encode: Any = None, rows: Any = None) -> PriorModel:
        """Return modes of equal weights at random training rows."""
        check_count(self.n_modes, "n_modes")
        if encode is None or rows is None:
            raise ValueError("VampPrior is made of the encoder and of rows; build it with both.")
        return _VampModel(encode, rows(self.n_modes))


class _VampModel(PriorModel):
    def __init__(self, encode: Callable[[torch.Tensor], Any], inputs: Any) -> None:
        super().__init__()
        self.encode = encode  # no module, so the encoder stays out of the state; copies keep it shared
        self.inputs = nn.Parameter(inputs.detach().clone())
        self.logits = nn.Parameter(torch.zeros(len(inputs)))

    def mixture(self) -> PriorModel:
        """Return the mixture that the encoder makes of the pseudo-inputs now."""
        posterior = self.encode(self.inputs)
        return _MixtureModel(posterior.mean, posterior.log_std, self.logits)

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.mixture().log_prob(z)

    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.mixture().sample(n_samples, generator)

    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        return None


class Flow(Prior):
    """N(0, I) bent by invertible networks: coupling layers of rational-quadratic splines.

    Flows as priors: Xu et al. (2019), On the necessity and effectiveness of learning
    the prior of variational auto-encoder, arXiv:1905.13452. The layers: Durkan et al. (2019),
    Neural spline flows, arXiv:1906.04032.

    Parameters
    ----------
    n_transforms : int, default=4
        Number of layers, each of which changes one half of the components, given the other.
    hidden_features : int, default=64
        Width of the two hidden layers of the network in each.
    """

    name = "flow"

    def __init__(self, n_transforms: int = 4, hidden_features: int = 64) -> None:
        self.n_transforms = n_transforms
        self.hidden_features = hidden_features

    def build(self, latent_dim: int, encode: Any = None, rows: Any = None) -> PriorModel:
        """Return a flow that is N(0, I) as yet."""
        check_count(self.n_transforms, "n_transforms")
        check_count(self.hidden_features, "hidden_features")
        couplings, half = [], latent_dim // 2
        order = torch.arange(latent_dim)
        for i in range(self.n_transforms):  # a random half changes, then the other one
            order = order.flip(0) if i % 2 else torch.randperm(latent_dim)
            couplings.append(Coupling(order[:half], order[half:], self.hidden_features))
        return _FlowModel(latent_dim, couplings)


class _FlowModel(PriorModel):
    pace = 1.0

    def __init__(self, latent_dim: int, couplings: Any) -> None:
        super().__init__()
        self.base = _StandardNormalModel(latent_dim)
        self.couplings = nn.ModuleList(couplings)

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        total = 0.0
        for coupling in self.couplings:
            z, log_determinant = coupling(z)
            total = total + log_determinant
        return self.base.log_prob(z) + total

    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        parts = []
        for z in self.base.sample(n_samples, generator).split(ROWS_AT_ONCE):
            for coupling in reversed(self.couplings):
                z, _ = coupling(z, inverse=True)
            parts.append(z)
        return torch.cat(parts)

    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        return None


class ByClass(PriorModel):
    """Prior p(z given y): a density for each class, and their mixture where the class is not known.

    Parameters
    ----------
    models : sequence of PriorModel
        The one of class 0, of class 1 and so on.
    shares : array-like of shape (n_classes,)
        How frequent the classes are, in any unit.
    """

    models: Any  # nn.ModuleList, whose items have no methods to mypy
    log_shares: torch.Tensor

    def __init__(self, models: Sequence[PriorModel], shares: Any) -> None:
        super().__init__()
        shares = torch.as_tensor(shares, dtype=torch.float64)
        if shares.shape != (len(models),) or not (shares > 0).all():
            raise ValueError(f"Got shares={shares.tolist()!r}; expected {len(models)} positive numbers.")
        self.models = nn.ModuleList(models)
        self.pace = models[0].pace
        self.register_buffer("log_shares", torch.log(shares / shares.sum()))

    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return log p(z given y), or log p(z) over all classes, shape (...)."""
        if y is None:
            joint = [model.log_prob(z) + log for model, log in zip(self.models, self.log_shares, strict=True)]
            return torch.logsumexp(torch.stack(joint, -1), -1)
        order, sizes = self._sort(y)
        parts = zip(self.models, z.index_select(-2, order).split(sizes, -2), strict=True)
        log_prob = [model.log_prob(part) for model, part in parts if part.shape[-2]]
        return torch.cat(log_prob, -1).index_select(-1, torch.argsort(order))

    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw z, shape (n_samples, latent_dim), of classes y or of classes at their shares."""
        if y is None:
            y = choose(self.log_shares.exp(), n_samples, generator)
        order, sizes = self._sort(y)
        parts = zip(self.models, sizes, strict=True)
        z = [model.sample(size, generator) for model, size in parts if size]
        return torch.cat(z).index_select(0, torch.argsort(order))

    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return None: what differs between classes was learned, and has no closed form."""
        return None

    def start(self, z: torch.Tensor, generator: torch.Generator, y: torch.Tensor | None = None) -> None:
        """Let each class go to where its rows are."""
        if y is None:
            parts = [z] * len(self.models)
        else:
            order, sizes = self._sort(y)
            parts = z[order].split(sizes)
        for model, part in zip(self.models, parts, strict=True):
            if len(part):
                model.start(part, generator)

    def count(self, amount: float, new: torch.Tensor) -> None:
        """Let the shares be those of all rows, whose amount includes new rows of each class."""
        before = self.log_shares.exp() * max(0.0, amount - float(new.sum()))
        added = torch.zeros_like(before)
        added[: len(new)] = new.to(before)
        self.log_shares.copy_(torch.log((before + added) / (before + added).sum()))

    def finishes(self, n_rows: int) -> bool:
        """Tell whether a class of so many rows would take a last step."""
        return any(model.finishes(n_rows) for model in self.models)

    def finish(
        self, z: torch.Tensor, weight: torch.Tensor | None = None, y: torch.Tensor | None = None
    ) -> None:
        """Let each class take its last step, if it has rows enough."""
        if y is None:
            return
        order, sizes = self._sort(y)
        weights = [None] * len(sizes) if weight is None else weight[order].split(sizes)
        for model, part, w in zip(self.models, z[:, order].split(sizes, 1), weights, strict=True):
            if part.shape[1] and model.finishes(part.shape[1]):
                model.finish(part, w)

    def _sort(self, y: torch.Tensor) -> Any:
        """Return the order that puts rows of one class together, and the classes' numbers of rows."""
        return torch.argsort(y, stable=True), torch.bincount(y, minlength=len(self.models)).tolist()


def by_class(spec: Prior, shares: Any, latent_dim: int, encode: Any = None, rows: Any = None) -> PriorModel:
    """Return `ByClass` of one prior per class, each built as `Prior.build` does.

    Parameters
    ----------
    spec : Prior
    shares : array-like of shape (n_classes,)
        How frequent the classes are.
    latent_dim : int
    encode : callable or None, default=None
        As in `Prior.build`.
    rows : sequence of callable or None, default=None
        As in `Prior.build`, those of each class.

    Returns
    -------
    model : ByClass
    """
    rows = [None] * len(shares) if rows is None else rows
    models = [spec.build(latent_dim, encode, some) for some in rows]
    if not any(True for _ in models[0].parameters()):
        raise ValueError(
            f"Got prior={spec.name!r}, which learns nothing and so is the same for every class; expected a "
            "prior that can differ between classes, such as 'mixture'."
        )
    return ByClass(models, shares)
