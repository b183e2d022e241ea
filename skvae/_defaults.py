"""The numbers that "auto" stands for, chosen from the size of the data."""

import torch

from .training import Plan

FULL_BATCH = 256  # up to so many distinct rows train as one batch, in float64
ONE_THREAD_PRODUCTS = 30e6  # multiplications per step below which a second thread does not pay


def choose_widths(n_rows, n_features, n_components):
    """Return the encoder's hidden layer sizes."""
    return (128, 128)


def choose_plan(params, n_rows, n_features, full_batch, passing):
    """Return the `Plan` of a fit.

    Parameters
    ----------
    params : dict
        The estimator's parameters, "auto" among them.
    n_rows, n_features : int
    full_batch : bool
        All rows make one batch.
    passing : bool
        One pass of `partial_fit`.
    """

    def auto(name, otherwise):
        return otherwise if params[name] == "auto" else params[name]

    batch_size = n_rows if full_batch else auto("batch_size", 128)
    steps_per_epoch = max(1, round(n_rows / batch_size))
    stopping = params["early_stopping"] is True and not passing
    return Plan(
        epochs=1 if passing else auto("max_iter", max(1, round(1000 / steps_per_epoch))),
        batch_size=batch_size,
        learning_rate=auto("learning_rate", 3e-3) * (0.3 if passing else 1.0),
        weight_decay=auto("weight_decay", 1e-2),
        beta=params["beta"],
        kl_warmup=0.0 if passing else params["kl_warmup"],
        cycle=not passing,
        patience=params["n_iter_no_change"] if stopping else None,
        tol=params["tol"],
        verbose=params["verbose"],
    )


def choose_dtype(precision, full_batch):
    """Return the type that training computes in."""
    if precision == "auto":
        return torch.float64 if full_batch else torch.float32
    return getattr(torch, precision)


def choose_threads(model, batch_size):
    """Return how many threads a step is worth."""
    products = batch_size * sum(p.numel() for p in model.parameters())
    return 1 if products < ONE_THREAD_PRODUCTS else torch.get_num_threads()
