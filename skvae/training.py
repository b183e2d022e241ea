"""The one training loop."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.autograd.function import once_differentiable

from ._adam import Adam
from ._compat import warn
from ._products import tensor_float32
from ._random import normal
from ._replay import GraphReplay, KernelReplay
from ._rows import AnyRows, Batch, Given
from ._typing import History, Record
from .model import VAE, Map, Terms
from .objectives import Objective

__all__ = ["Plan", "extend_history", "make_optimizer", "to_history", "train"]

Watcher: TypeAlias = Callable[[list[Record]], bool]
Step: TypeAlias = Callable[[Given, float, float], torch.Tensor]

RECOVERIES = 3  # how often a fit may return to its last good weights
CHECK_STEPS = 50  # steps between two looks at whether the loss is still finite
VALIDATION_ROWS = 4096  # rows evaluated at once
SOME_ROWS = 4096  # rows that tell where each column's own sigma, and the prior, start
FINISH_DRAWS, FINISH_NUMBERS = 100_000, 2**24  # of z, by which the prior finishes; of numbers in them
FINISH_DRAWS_OF_ROW = 30  # more of one row tell nothing more
REPLAYED_STEPS = 50  # below, recording one costs more than it saves
COOL_DOWN = 0.5  # of the epochs so far: what the rest of the schedule takes once patience has run out
PRINT_SECONDS = 0.5  # pause between two printed epochs


@dataclass(frozen=True)
class Plan:
    """How to train: everything that is a number.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Rows per step; the batches of an epoch differ by at most one row.
    copies : int
        Of each row in a step, each with draws of its own.
    learning_rate : float
        Peak rate.
    weight_decay : float
        Precision of the Gaussian prior on the networks' matrices, per row: half of it times their
        squares is added to the loss.
    beta : float
        Weight of the KL term.
    kl_warmup : float
        Fraction of all steps over which the weight rises from 0 to beta.
    input_noise : float
        Standard deviation of what is added to the encoder's (standardised) input: it keeps the
        encoder from learning few rows by heart. The bound stays a bound.
    tied : float
        Fraction of all steps in which the columns share one sigma. Each column's own, from the
        start, would soon leave out what is hard to predict.
    settle : float
        Fraction of all steps after which the prior goes to where the rows then are; 0 leaves it
        to the gradients alone, which may never catch up with a latent space that the low weight of
        the KL term let grow.
    cycle : bool
        Rate rising and falling over the whole run (one-cycle), after which the prior takes its last
        step; or constant.
    averaging : bool
        Leave in the model an average of the weights over the last tenth of all steps, which does
        as much for them as a falling rate, without an end in sight.
    dtype : torch.dtype
        Of rows and weights.
    autocast : torch.dtype or None
        Lower precision that the networks' products are computed in.
    tensor_float32 : bool
        Let a GPU round the factors of float32 products to 10 bits: see `tensor_float32`.
    compile : bool
        Compile the networks, by `torch.compile`.
    replay : bool
        Record steps and replay them where there are many: see `Replay` for what it asks of them.
    patience : int or None
        Epochs without an improvement of the validation loss by `tol` before stopping; with `cycle`,
        before the best weights go through what is left of the schedule in `COOL_DOWN` of the epochs
        so far, as the loss falls most while the rate does.
    tol : float
        In nats per row.
    verbose : int
        Print epochs if positive.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    beta: float = 1.0
    kl_warmup: float = 0.0
    input_noise: float = 0.0
    tied: float = 0.0
    settle: float = 0.0
    cycle: bool = True
    averaging: bool = False
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    tensor_float32: bool = False
    compile: bool = False
    replay: bool = False
    patience: int | None = None
    tol: float = 0.0
    copies: int = 1
    verbose: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether this is a run of its own, from start to end, whose objective soon stays the same."""
        return self.cycle and self.settle > 0 and self.kl_warmup <= 0.3

    def rate(self, progress: float) -> float:
        """Learning rate when `progress` (0 to 1) of the run is done: a line up, a cosine down.

        Smith and Topin (2019), super-convergence, arXiv:1708.07120.
        """
        if not self.cycle:
            return self.learning_rate
        rise, end = 0.25, 0.01
        if progress < rise:
            return self.learning_rate * progress / rise
        return self.learning_rate * max(end, 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))))

    def beta_at(self, progress: float) -> float:
        """Weight of the KL term when `progress` of the run is done."""
        return self.beta * min(1.0, progress / self.kl_warmup) if self.kl_warmup else self.beta


def train(
    model: VAE,
    rows: AnyRows,
    objective: Objective,
    plan: Plan,
    generator: torch.Generator,
    *,
    validation: AnyRows | None = None,
    optimizer: "Adam | None" = None,
    on_epoch: Watcher | None = None,
    drawing: "AbstractContextManager[None] | None" = None,
) -> History:
    """Maximise the objective; leave the trained weights in `model`.

    Parameters
    ----------
    model : VAE
    rows : Rows
    objective : Objective
    plan : Plan
    generator : torch.Generator
        On the device of the rows.
    validation : Rows or None
        Evaluated every epoch, and watched if ``plan.patience`` is set.
    optimizer : Adam or None
        From `make_optimizer`, to go on with its state.
    on_epoch : callable or None
        Gets the records of the epochs so far, a list of dicts, after each; true stops.
    drawing : context manager or None
        Entered for each epoch, for networks that draw by themselves.

    Returns
    -------
    history : dict of str to list of float
        One entry an epoch.
    """
    optimizer = optimizer or make_optimizer(model, plan)
    run = _Run(model, rows, objective, plan, generator, optimizer, validation)
    optimizer.swap_average()
    model.autocast = plan.autocast
    if plan.compile:
        model.encoder.compile(dynamic=True)  # batches differ by a row
        model.decoder.compile(dynamic=True)
    try:
        with tensor_float32() if plan.tensor_float32 else nullcontext():
            run.loop(on_epoch, drawing or nullcontext())
    except KeyboardInterrupt:
        if not run.is_sound():
            run.go_back()
            optimizer.reset()
        if not run.records:  # nothing to keep
            raise
        warn(
            f"Training was interrupted after {len(run.records)} epochs; the weights so far are kept.",
            ConvergenceWarning,
        )
    except RuntimeError as error:
        if plan.compile and type(error).__module__.startswith("torch._"):  # raised by torch's compiler
            reason = str(error).splitlines()[0]
            raise RuntimeError(
                f"Got compile=True, but the networks could not be compiled: {reason} Install a C++ compiler "
                "such as g++, or set compile=False."
            ) from error
        raise
    finally:
        model.autocast = None
        del run.take  # it refers to the run: what it holds is freed now, not when garbage is collected
    run.restore_best()
    if run.tied:  # stopped before its time
        run.untie()
    optimizer.swap_average()
    if run.records and plan.cycle and objective.n_draws and model.prior.finishes(len(rows)):
        run.finish()
    return to_history(run.records)


def make_optimizer(model: VAE, plan: Plan) -> Adam:
    """Return `Adam` whose prior is on the networks' matrices; frozen weights stay as they are."""
    tables: list[nn.Parameter] = getattr(model.likelihood, "matrices", list)()
    networks = [*model.encoder.parameters(), *model.decoder.parameters(), *tables]
    networks = [p for p in dict.fromkeys(networks) if p.requires_grad]  # a weight may be in both
    matrices, vectors = [p for p in networks if p.ndim > 1], [p for p in networks if p.ndim < 2]
    latent = [p for p in model.prior.parameters() if p.requires_grad and p not in {*networks}]
    rest = [p for p in model.parameters() if p.requires_grad and p not in {*networks, *latent}]
    groups = [
        (matrices, plan.weight_decay, 1.0),
        ([*vectors, *rest], 0.0, 1.0),
        (latent, 0.0, model.prior.pace),
    ]
    return Adam(groups, plan.averaging)


class _Run:
    """State of one run of the loop."""

    def __init__(
        self,
        model: VAE,
        rows: AnyRows,
        objective: Objective,
        plan: Plan,
        generator: torch.Generator,
        optimizer: Adam,
        validation: AnyRows | None,
    ) -> None:
        self.model, self.rows, self.objective, self.plan = model, rows, objective, plan
        self.generator, self.optimizer, self.validation = generator, optimizer, validation
        self.steps_per_epoch = max(1, round(len(rows) / plan.batch_size))
        self.take = self.make_step()
        self.tied = False
        self.good: dict[str, Any] = {}
        self.ascents: dict[int, torch.Tensor] = {}
        self.records: list[Record] = []
        self.rate_factor = 1.0
        self.recoveries = 0
        self.turn, self.end = (0, 0.0), plan.epochs  # epoch and progress from where a line leads to the end
        self.settled = plan.settle == 0
        self.best_loss, self.best_epoch = math.inf, 0
        self.best: dict[str, Any] | None = None
        self.printed = -math.inf
        if validation is not None:
            shape = (max(1, objective.n_draws), len(validation), model.latent_dim)
            self.validation_noise = torch.randn(
                shape, generator=generator, dtype=rows.dtype, device=rows.device
            )

    def make_step(self) -> Step:
        """Return what takes a step: `step`, or `step` replayed."""
        if not self.plan.replay or self.plan.epochs * self.steps_per_epoch < REPLAYED_STEPS:
            return self.step
        if self.rows.device.type == "cuda":
            return GraphReplay(self.step, self.generator, self.rows.dtype)
        fixed = [*self.model.likelihood.buffers()]
        return KernelReplay(self.step, self.generator, self.rows.dtype, fixed)

    def loop(self, on_epoch: Watcher | None, drawing: "AbstractContextManager[None]") -> None:
        """Run the epochs; return to the last good weights where a step came to nothing."""
        self.good, unchecked, stop = self.snapshot(), 0, False
        while len(self.records) < self.end and not stop:
            with drawing:
                record = self.epoch(len(self.records))
            self.records.append(record)
            unchecked += self.steps_per_epoch
            stop = self.watch(record)
            last = stop or len(self.records) == self.end
            if self.plan.verbose:
                self.report(record, last)
            asked = on_epoch is not None and on_epoch(self.records)
            if unchecked >= CHECK_STEPS or last or asked:
                if self.is_sound():
                    self.good = self.snapshot()
                else:
                    self.recover()
                    stop = False
                unchecked = 0
            stop = stop or asked

    def epoch(self, epoch: int) -> Record:
        """Take the steps of one epoch and return its record."""
        plan, model = self.plan, self.model.train()
        parts = []
        for i, given in enumerate(self.rows.batches(self.steps_per_epoch, self.generator)):
            progress = self.progress(epoch + (i + 0.5) / self.steps_per_epoch)
            rate, beta = plan.rate(progress) * self.rate_factor, plan.beta_at(progress)
            parts.append(self.take(given, rate, beta))
            if not self.settled and progress > plan.settle:
                self.settle()
                self.settled = True
            tied, self.tied = self.tied, progress < plan.tied
            if self.tied:
                model.likelihood.tie_constants()
            elif tied:
                self.untie()
        bound, reconstruction, kl = torch.cat(parts, 1).mean(1).tolist()
        record = {
            "loss": -bound,
            "reconstruction": reconstruction,
            "kl": kl,
            "beta": beta,
            "learning_rate": rate,
        }
        if self.validation is not None:
            record |= self.validate(self.validation)
        return record

    def progress(self, epoch: float) -> float:
        """Return how much of the run is done after so many epochs, 0 to 1."""
        start, done = self.turn
        return min(1.0, done + (1 - done) * (epoch - start) / (self.end - start))

    def step(self, given: Given, rate: Any, beta: Any) -> torch.Tensor:
        """Take a step; return the objective, its reconstruction and its KL of each row, shape (3, B).

        Each times the row's weight.
        """
        batch = self.rows.batch(given)  # type: ignore[arg-type]  # what the same rows yielded
        batch = batch if self.plan.copies == 1 else batch.repeat(self.plan.copies)
        n_rows = len(batch.x)
        batch = batch._replace(x=self.model.likelihood.draw(batch.x, self.generator))
        terms = self.terms(batch, self.noise(n_rows), self.corrupt)
        value = self.objective(terms, beta if self.plan.kl_warmup else self.plan.beta)
        ascent = self.ascent(n_rows) if batch.weight is None else batch.weight / -n_rows
        loss = _WithGradient.apply(value, ascent)
        gradients = torch.autograd.grad(loss, self.optimizer.parameters, allow_unused=True)
        uneven = not batch.complete and batch.weight is None  # by holes; a weight is meant to count
        self.optimizer.step(gradients, rate, clip=uneven)
        return _weighted(torch.stack((value, terms.reconstruction, terms.kl)).detach(), batch.weight)

    def terms(self, batch: Batch, noise: torch.Tensor | None, corrupt: Map | None = None) -> Terms:
        """Return the `Terms` of a batch."""
        return self.model.terms(batch.x, noise, batch.complete, corrupt, batch.weight, batch.y)

    def ascent(self, n_rows: int) -> torch.Tensor:
        """Return the gradient of the loss, minus the mean objective, by the objective of each row."""
        if n_rows not in self.ascents:
            self.ascents[n_rows] = torch.full(
                (n_rows,), -1 / n_rows, dtype=self.rows.dtype, device=self.rows.device
            )
        return self.ascents[n_rows]

    @torch.no_grad()
    def settle(self) -> None:
        """Send the prior to draws of q(z given x) for some of the rows."""
        some = self.rows.some(SOME_ROWS)
        noise = self.noise(len(some.x))
        if noise is not None:
            z = self.model.encode(some.x, some.complete, self.corrupt).rsample(noise)[0]
            self.model.prior.start(z, self.generator, some.y)

    @torch.no_grad()
    def finish(self) -> None:
        """Fit the prior to draws of q(z given x), of all rows or of many, several of each if few."""
        most = max(1, min(FINISH_DRAWS, FINISH_NUMBERS // self.model.latent_dim))
        n_draws = max(1, min(FINISH_DRAWS_OF_ROW, most // len(self.rows)))
        self.model.eval()
        parts: list[Any] = []
        for batch in self.rows.many(most):
            shape = (n_draws, len(batch.x), self.model.latent_dim)
            noise = torch.randn(
                shape, generator=self.generator, dtype=self.rows.dtype, device=self.rows.device
            )
            z = self.model.encode(batch.x, batch.complete).rsample(noise)
            parts.append((z, batch.weight, batch.y))
        draws, *others = zip(*parts, strict=True)
        self.model.prior.finish(
            torch.cat(draws, 1), *(None if part[0] is None else torch.cat(part) for part in others)
        )

    @torch.no_grad()
    def untie(self) -> None:
        """Start each column's own constants from the residuals of the moment."""
        some = self.rows.some(SOME_ROWS)
        terms = self.terms(some, self.noise(len(some.x)), self.corrupt)
        self.model.likelihood.fit_constants(some.x, terms.output, some.weight)

    def noise(self, n_rows: int) -> torch.Tensor | None:
        """Draw the noise of a step, shape (S, B, K)."""
        if self.objective.n_draws == 0:
            return None
        shape = (self.objective.n_draws, n_rows, self.model.latent_dim)
        return torch.randn(shape, generator=self.generator, dtype=self.rows.dtype, device=self.rows.device)

    @property
    def corrupt(self) -> Map | None:
        """What corrupts what the encoder sees."""
        return self.add_noise if self.plan.input_noise else None

    def add_noise(self, features: torch.Tensor) -> torch.Tensor:
        """Corrupt what the encoder sees."""
        noise = normal(features.shape, features, self.generator)
        return torch.add(features, noise, alpha=self.plan.input_noise)

    @torch.no_grad()
    def validate(self, rows: AnyRows) -> Record:
        """Evaluate the bound on the validation rows, with the same noise every time."""
        sums: Any = 0.0
        self.model.eval()
        for part, batch in rows.chunks(VALIDATION_ROWS):
            noise = None if self.objective.n_draws == 0 else self.validation_noise[:, part]
            terms = self.terms(batch, noise)
            value = self.objective(terms, self.plan.beta)
            values = (-value, terms.reconstruction, terms.kl)
            means = [_weighted(v, batch.weight).mean() for v in values]
            sums = sums + torch.stack(means) * (len(batch.x) / len(rows))
        loss, reconstruction, kl = sums.tolist()
        return {"validation_loss": loss, "validation_reconstruction": reconstruction, "validation_kl": kl}

    def watch(self, record: Record) -> bool:
        """Remember the best weights; return whether it is time to stop."""
        epochs, patience = len(self.records), self.plan.patience
        if patience is None or epochs <= self.plan.kl_warmup * self.plan.epochs:
            return False
        if not math.isfinite(record["loss"]):  # for `recover`
            return False
        if not any(math.isfinite(record["validation_loss"]) for record in self.records):
            raise ValueError(
                "Validation rows have probability 0: they hold levels or values that no training row has. "
                "Merge rare levels, pass an X_val without them, or set early_stopping=False."
            )
        if record["validation_loss"] < self.best_loss - self.plan.tol:
            self.best_loss, self.best_epoch = record["validation_loss"], epochs
            weights = _copy(self.model.state_dict())
            self.best = {"weights": weights, "tied": self.tied, "settled": self.settled}
        if epochs - self.best_epoch < patience or epochs == self.end or self.turn[0]:
            return False
        if self.plan.cycle:
            self.cool_down(epochs)
        return not self.plan.cycle

    def cool_down(self, epochs: int) -> None:
        """Go from the best weights, soon, to the end of the schedule."""
        self.restore_best()
        self.turn = epochs, self.progress(epochs)
        self.end = min(self.plan.epochs, epochs + math.ceil(COOL_DOWN * epochs))

    def restore_best(self) -> None:
        """Go back to the weights of the best validation loss, if one was watched."""
        if self.best is not None:
            self.model.load_state_dict(self.best["weights"])
            self.tied, self.settled = self.best["tied"], self.best["settled"]

    def is_sound(self) -> bool:
        """Whether all weights, and the losses since the last sound ones, are finite."""
        if not all(math.isfinite(record["loss"]) for record in self.records[self.good["epochs"] :]):
            return False
        with torch.no_grad():
            sums = torch.stack([p.sum() for p in self.optimizer.parameters])
        return bool(((sums - sums) == 0).all())

    def snapshot(self) -> dict[str, Any]:
        """Copy what `recover` needs."""
        return {"epochs": len(self.records), "weights": _copy(self.model.state_dict())}

    def recover(self) -> None:
        """Go back to good weights at a third of the rate, a few times at most."""
        if self.recoveries == RECOVERIES:
            raise ValueError(
                f"The loss was not finite, and {RECOVERIES} returns to the last good weights at lower rates "
                f"did not help. Likely causes: learning_rate={self.plan.learning_rate!r} is too high, X has "
                "extreme values that should be clipped or transformed (a logarithm, QuantileTransformer), or "
                "a custom network or likelihood overflows."
            )
        self.recoveries += 1
        self.rate_factor /= 3
        self.go_back()
        self.optimizer.reset()
        self.take = self.make_step()  # what was recorded goes by the moments that are forgotten

    def go_back(self) -> None:
        """Put back the last weights that were found sound."""
        self.model.load_state_dict(self.good["weights"])
        del self.records[self.good["epochs"] :]

    def report(self, record: Record, last: bool) -> None:
        """Print a line, unless one was printed a moment ago."""
        now = time.perf_counter()
        if last or now - self.printed > PRINT_SECONDS:
            self.printed = now
            values = "  ".join(f"{key} {value:.4g}" for key, value in record.items())
            print(f"Epoch {len(self.records)}/{self.end}  {values}")


class _WithGradient(torch.autograd.Function):
    """A number whose gradient by some values is given: torch imports sympy for those given to `grad`."""

    apply: Callable[..., torch.Tensor]  # torch has not annotated it

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return torch.zeros((), dtype=values.dtype, device=values.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.saved_tensors[0], None


def _weighted(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return values if weight is None else values * weight


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in state.items()}


def to_history(records: Sequence[Record]) -> History:
    """Return the figures of some epochs by name."""
    keys = records[0] if records else ("loss", "reconstruction", "kl", "beta", "learning_rate")
    return {key: [record[key] for record in records] for key in keys}


def extend_history(old: History, new: History) -> History:
    """Append the epochs of a run to a history; NaN where only one of both has a figure."""
    lengths = [len(history["loss"]) if history else 0 for history in (old, new)]
    blank = [[math.nan] * length for length in lengths]
    return {key: old.get(key, blank[0]) + new.get(key, blank[1]) for key in {**old, **new}}
