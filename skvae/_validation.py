"""What users type, turned into objects; one place for it."""

import copy
import inspect
from collections.abc import Sequence
from numbers import Integral, Real
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from . import likelihoods, networks, objectives, priors
from ._compat import Interval, StrOptions
from ._observation import OfTable
from ._typing import Builder, Device, RandomState
from .columns import is_table


def named(module: ModuleType, base: type[Any]) -> dict[str, Any]:
    """Map the names that users type to the concrete specifications of a module."""
    things = (getattr(module, name) for name in module.__all__)
    classes: list[Any] = [
        thing
        for thing in things
        if isinstance(thing, type) and issubclass(thing, base) and not inspect.isabstract(thing)
    ]
    return {cls.name: cls for cls in classes}


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
    "categorical_features": [StrOptions({"auto"}), "array-like"],
    "conditional": ["boolean"],
    "objective": [StrOptions(set(OBJECTIVES)), objectives.Objective],
    "beta": [_from_zero],
    "kl_warmup": [Interval(Real, 0, 1, closed="left")],
    "max_iter": [StrOptions({"auto"}), _count],
    "batch_size": [StrOptions({"auto"}), _count],
    "learning_rate": [StrOptions({"auto"}), _positive],
    "weight_decay": [StrOptions({"auto"}), _from_zero],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_count],
    "tol": [_from_zero],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "bfloat16", "float32", "float64"})],
    "compile": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def resolve(value: Any, classes: dict[str, Any]) -> Any:
    """Return the specification that a name or an instance stands for, as a clone of its own."""
    return classes[value]() if isinstance(value, str) else clone(value)


def resolve_likelihood(value: str | likelihoods.Likelihood, X: Any, categorical_features: Any) -> Any:
    """As `resolve`; "auto" goes by the container of X and the types of its columns, never by values."""
    chosen = not isinstance(categorical_features, str)
    if isinstance(value, str) and value == "auto":
        if is_table(X) or chosen:
            value = "mixed"
        else:
            value = "bernoulli" if getattr(X, "dtype", None) == np.bool_ else "gaussian"
    likelihood = resolve(value, LIKELIHOODS)
    if chosen and not isinstance(likelihood, OfTable):
        raise ValueError(
            f"Got categorical_features={categorical_features!r} with likelihood={value!r}, which has no "
            "columns of levels. Set likelihood='auto', 'mixed' or 'heterogeneous'."
        )
    return likelihood


def resolve_device(value: Device) -> torch.device:
    """Return the torch device; "auto" takes CUDA where there is one."""
    if not isinstance(value, str) or value != "auto":
        try:
            device = torch.device(value)
            torch.zeros(1, dtype=torch.float64, device=device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
            raise ValueError(
                f"Got device={value!r}; expected 'auto' or a device that torch can compute on here, and in "
                "float64, such as 'cpu'. Apple's GPUs ('mps') have no float64."
            ) from error
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_estimator(estimator: Any, default: Any, random_state: RandomState = None, **params: Any) -> Any:
    """Return what a companion wraps: a frozen estimator itself, of any other an unfitted clone.

    The clone gets the companion's random_state, unless that is None, and `params`.
    """
    if isinstance(estimator, FrozenEstimator):
        if not isinstance(estimator.estimator, type(default)):
            raise TypeError(
                f"Got estimator={estimator!r}; expected a fitted {type(default).__name__} in FrozenEstimator."
            )
        return estimator
    if random_state is not None:
        params["random_state"] = random_state
    return clone(default if estimator is None else estimator).set_params(**params)


def refuse_classes(estimator: Any, companions: str) -> None:
    """Raise if the model that a companion is to fit would need classes, which the companion gets none of."""
    if estimator.conditional:
        raise ValueError(
            "Got an estimator with conditional=True; expected one that needs no classes, since "
            f"{companions} get none. Set conditional=False, or fit it first and pass it in FrozenEstimator."
        )


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return hidden layer sizes as a tuple of int."""
    values = np.asarray(sizes)
    if values.size and (values.ndim != 1 or values.dtype.kind not in "iu" or values.min() < 1):
        raise ValueError(f"Got hidden_layer_sizes={sizes!r}; expected positive whole numbers.")
    return tuple(values.tolist())


def _refuse_writing(network: torch.nn.Module, name: str, in_features: int) -> None:
    """Raise if a network changes what it is given, which are rows, or draws of z, that are used again."""
    given = torch.randn(2, in_features, generator=torch.Generator().manual_seed(0))
    draws = any(getattr(module, "inplace", False) for module in network.modules())
    for probe in (network, copy.deepcopy(network).train()) if draws else (network,):
        x = given.clone()
        with torch.random.fork_rng(devices=[]):
            probe(x)
        if not torch.equal(x, given):
            raise ValueError(
                f"The {name} changes its input in place, which is used again. Set inplace=False in its first "
                "layer."
            )


def build_network(builder: Builder, name: str, in_features: int, out_features: int) -> torch.nn.Module:
    """Return the module that a builder gives, or raise if it does not map in to out features.

    A builder whose encoders and decoders differ has methods `build_encoder` and `build_decoder`:
    the numbers of features alone need not tell which is wished.
    """
    wish = "a builder (in_features, out_features) -> torch.nn.Module"
    if isinstance(builder, torch.nn.Module):
        raise TypeError(f"Got {name}={builder!r}, a module; expected {wish}, such as torch.nn.Linear.")
    network = getattr(builder, f"build_{name}", builder)(in_features, out_features)
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"Got {name}={builder!r}, which returned {network!r}; expected {wish}.")
    given = f"The {name} was built for {in_features} features in and {out_features} out, but"
    remedy = "Size its layers by the in_features and out_features that the builder is given."
    training = network.training
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(2, in_features))
            _refuse_writing(network, name, in_features)
    except RuntimeError as error:
        raise ValueError(f"{given} fails on rows of shape (2, {in_features}): {error}. {remedy}") from error
    network.train(training)
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if got != (2, out_features):
        raise ValueError(
            f"{given} turned rows of shape (2, {in_features}) into {got}; "
            f"expected (2, {out_features}). {remedy}"
        )
    return network
