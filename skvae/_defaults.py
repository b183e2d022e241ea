"""The numbers that "auto" stands for, chosen from the size of the data."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from ._validation import check_sizes
from .networks import MLP
from .objectives import Objective
from .training import Plan

FULL_BATCH = 256  # up to so many distinct rows train as one batch, in float64
LEAST_BATCH = 128  # rows of a table in a step, or what is drawn for so few of them says little
SMALL = 1000  # rows below which plain narrow networks generalise better than normalised wide ones
MEDIUM = 5000  # rows of numbers from which on the widest networks do not learn single rows
# Precision of the Gaussian prior on a weight, over all rows: for each of columns squared, as chance relates
# pairs of them; least; most. For arrays where rows are few, where the most is for up to 32 columns, and many.
PRECISIONS_OF_NUMBERS = (0.1, 2.5, 25.0), (0.4, 10.0, 200.0)
NARROW, WIDEST = 32, 320  # columns from which on, and up to which, few rows are learned by heart the more
PRECISIONS_OF_TABLES = 0.25, 0.05, 50.0  # the second is for each row: as many must say the same
ONE_THREAD_PRODUCTS = 30e6  # multiplications per step below which a second thread does not pay


def choose_networks(
    hidden_layer_sizes: Sequence[int] | Literal["auto"], activation: str, amount: float, table: bool
) -> tuple[MLP, MLP]:
    """Return the builders of encoder and decoder, mirror images of each other.

    `table` tells whether the encoder sees embedded columns, which nothing needs to tame.
    """
    large = amount >= SMALL
    if isinstance(hidden_layer_sizes, str):
        width = 128 if not large else 192 if amount < MEDIUM and not table else 256
        sizes: tuple[int, ...] = (width, width)
    else:
        sizes = check_sizes(hidden_layer_sizes)
    encoder = MLP(sizes, activation, norm=large, bend=large and len(sizes) > 0 and not table)
    return encoder, MLP(sizes[::-1], activation, norm=large)


def choose_plan(
    params: dict[str, Any],
    objective: Objective,
    *,
    n_rows: int,
    amount: float,
    n_columns: int,
    n_before: int,
    passing: bool,
    table: bool,
) -> Plan:
    """Return the `Plan` of a fit.

    Parameters
    ----------
    params : dict
        The estimator's parameters, "auto" among them.
    objective : Objective
    n_rows : int
        Distinct rows.
    amount : float
        How many rows they stand for: repetitions count, so do weights.
    n_columns : int
    n_before : int
        Epochs that a warm start goes on from.
    passing : bool
        One pass of `partial_fit`.
    table : bool
        Whether the likelihood is one of tables.
    """

    def auto(name: str, otherwise: Any) -> Any:
        return otherwise if params[name] == "auto" else params[name]

    full_batch = n_rows <= auto("batch_size", FULL_BATCH)
    batch_size = n_rows if full_batch else auto("batch_size", 512 if table and n_rows > 10_000 else 128)
    large = bool(amount >= SMALL)  # of a sum of weights: NumPy's own kind is no index
    if table:
        size = n_rows / 33_000  # rows beyond teach less, and a fit of 300,000 should take minutes
        steps = 500 if full_batch else max(600, 1600 * size ** (0.5 if size < 1 else 0.35))
    else:
        steps = 500 if full_batch else (2000 if large else 1500) * max(1.0, n_rows / 1500) ** 0.56
    epochs = auto("max_iter", max(1, round(steps / max(1, round(n_rows / batch_size)))))
    table_rate = 15e-3 if full_batch else 3e-3 if batch_size >= 512 else 6e-3
    rate = auto("learning_rate", table_rate if table else 6e-3)
    noise = 0.0 if table else choose_noise(amount, n_columns)
    per_pair, least, most = PRECISIONS_OF_TABLES if table else PRECISIONS_OF_NUMBERS[large]
    least *= amount if table else 1.0
    most *= 1.0 if table or large else min(max(NARROW, n_columns), WIDEST) / NARROW
    weight_precision = min(most, max(least, per_pair * n_columns**2))
    tied = 0.9 if params["n_components"] <= 3 else 0.4  # a map to look at, or a density
    going_on = passing or n_before > 0
    stopping = params["early_stopping"] and not passing
    return Plan(
        epochs=1 if passing else max(0, epochs - n_before),
        batch_size=batch_size,
        copies=-(-LEAST_BATCH // n_rows) if table and full_batch else 1,
        learning_rate=rate,
        weight_decay=auto("weight_decay", weight_precision / amount),
        beta=params["beta"],
        kl_warmup=0.0 if going_on else params["kl_warmup"],
        input_noise=noise if objective.n_draws else 0.0,
        tied=0.0 if going_on else tied,
        settle=0.0 if going_on else 0.3,
        cycle=not passing,
        averaging=passing,
        dtype=choose_dtype(params["precision"], full_batch and not table),
        autocast=torch.bfloat16 if params["precision"] == "bfloat16" else None,
        compile=params["compile"],
        patience=params["n_iter_no_change"] if stopping else None,
        tol=params["tol"],
        verbose=params["verbose"],
    )


def choose_noise(amount: float, n_columns: int) -> float:
    """Return the standard deviation of the noise that the encoder's input gets.

    It keeps rows of many columns from being told by heart: the others make up for what it hides of
    one. Few columns have nothing to make up for it.
    """
    most = 0.35 if amount >= SMALL else 0.4
    noise = most * math.sqrt(min(1.0, 1500 / amount)) * min(1.0, max(0.0, (n_columns - 10) / 20))
    return noise if noise > 0.1 else 0.0


def choose_dtype(precision: str, full_batch: bool) -> torch.dtype:
    """Return the type that training computes in."""
    if precision == "auto":
        return torch.float64 if full_batch else torch.float32
    return torch.float64 if precision == "float64" else torch.float32


def choose_threads(model: torch.nn.Module, batch_size: int) -> int:
    """Return how many threads a step is worth."""
    products = batch_size * sum(p.numel() for p in model.parameters())
    return 1 if products < ONE_THREAD_PRODUCTS else torch.get_num_threads()
