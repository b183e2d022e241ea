"""What users type, turned into objects; one place for it."""

import inspect
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone

from . import likelihoods, networks, objectives, priors
from ._compat import Interval, StrOptions


def named(module, base):
    """Map the names that users type to the concrete specifications of a module."""
    classes = (getattr(module, name) for name in module.__all__)
    return {
        cls.name: cls
        for cls in classes
        if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
    }


LIKELIHOODS = named(likelihoods, likelihoods.Likelihood)
PRIORS = named(priors, priors.Prior)
OBJECTIVES = named(objectives, objectives.Objective)

_positive = Interval(Real, 0, None, closed="neither")
_from_zero = Interval(Real, 0, None, closed="left")
_count = Interval(Integral, 1, None, closed="left")

PARAMETER_CONSTRAINTS = {
    "n_components": [_count],
    "hidden_layer_sizes": [StrOptions({"auto"}), "array-like"],
    "activation": [StrOptions(set(networks.ACTIVATIONS))],
    "encoder": [callable, None],
    "decoder": [callable, None],
    "likelihood": [StrOptions({"auto", *LIKELIHOODS}), likelihoods.Likelihood],
    "prior": [StrOptions(set(PRIORS)), priors.Prior],
    "objective": [StrOptions(set(OBJECTIVES)), objectives.Objective],
    "beta": [_from_zero],
    "kl_warmup": [Interval(Real, 0, 1, closed="left")],
    "max_iter": [StrOptions({"auto"}), _count],
    "batch_size": [StrOptions({"auto"}), _count],
    "learning_rate": [StrOptions({"auto"}), _positive],
    "weight_decay": [StrOptions({"auto"}), _from_zero],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_count],
    "tol": [_from_zero],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "float64"})],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def resolve(value, classes):
    """Return the specification that a name or an instance stands for, as a clone of its own."""
    return classes[value]() if isinstance(value, str) else clone(value)


def resolve_likelihood(value, boolean):
    """As `resolve`; "auto" goes by the type of the array, never by its values."""
    if isinstance(value, str) and value == "auto":
        value = "bernoulli" if boolean else "gaussian"
    return resolve(value, LIKELIHOODS)


def resolve_device(value):
    """Return the torch device; "auto" takes CUDA or MPS where there is one."""
    if value != "auto":
        try:
            return torch.device(value)
        except RuntimeError as error:
            raise ValueError(
                f"Got device={value!r}; expected 'auto' or a device of torch's. {error}"
            ) from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def check_sizes(sizes):
    """Return hidden layer sizes as a tuple of int."""
    values = np.asarray(sizes)
    if values.size and (values.ndim != 1 or values.dtype.kind not in "iu" or values.min() < 1):
        raise ValueError(f"Got hidden_layer_sizes={sizes!r}; expected positive whole numbers.")
    return tuple(values.tolist())


def check_network(network, name, in_features, out_features):
    """Return a module that a builder gave, or raise if its output has another shape."""
    if not isinstance(network, torch.nn.Module):
        raise TypeError(
            f"Got {name}={network!r}; expected a builder (in_features, out_features) -> torch.nn.Module."
        )
    training = network.training
    with torch.no_grad():
        got = tuple(network.eval()(torch.zeros(2, in_features)).shape)
    network.train(training)
    if got != (2, out_features):
        raise ValueError(
            f"The {name} turned an input of shape (2, {in_features}) into one of shape {got}; "
            f"expected (2, {out_features}). Build its last layer with the out_features that it is given."
        )
    return network


def check_beta(objective, beta):
    """Refuse a weight of the KL term that the objective has no use for."""
    if not objective.uses_beta and beta != 1:
        raise ValueError(
            f"Got beta={beta!r} with objective={objective.name!r}, which has no KL term to weigh; "
            "expected beta=1. Leave beta out or use objective='elbo'."
        )


def check_count(value, name):
    """Raise unless a value is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Got {name}={value!r}; expected a whole number of at least 1.")
