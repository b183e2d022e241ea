"""Building the model of an estimator and training it: all that `fit` and `partial_fit` do."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import BuiltinFunctionType
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from torch import nn
from torch.nn.modules import module as torch_module

from ._arrays import Container, are_dependent, choose_rows, has_holes, merge_rows, split_rows, torch_dtype
from ._compat import EpochCallbacks, callback_state, warn
from ._defaults import choose_networks, choose_plan, choose_threads
from ._observation import Independent, ObservationModel, OfTable
from ._random import GlobalStream, draw_seed, global_seed, make_generator
from ._reading import read_classes, read_training, read_validation
from ._rows import AnyRows, Data, is_streamed, load_rows
from ._threads import as_told, threads, tiny_as_zero
from ._typing import Array, History
from ._validation import (
    OBJECTIVES,
    PARAMETER_CONSTRAINTS,
    PRIORS,
    build_network,
    resolve,
    resolve_device,
    resolve_likelihood,
)
from .likelihoods import Categorical, Mixed
from .model import VAE, posterior_of
from .objectives import MMD
from .priors import ByClass, PriorModel, by_class
from .training import Plan, extend_history, make_optimizer, to_history, train

HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"  # of layers
STRUCTURE = (  # what a fit that goes on cannot change
    "n_components",
    "hidden_layer_sizes",
    "activation",
    "encoder",
    "decoder",
    "likelihood",
    "categorical_features",
    "prior",
    "conditional",
)
ACTIVE = 0.01  # variance over rows of the posterior mean of a component in use
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in the repr of a function
LOWEST_TEMPERATURE = 0.01  # a standard deviation ten times as wide
FAST = 0.1  # share of its whole fall by which a loss that is not done falls near the peak of the rate
ORDER_ROWS = 10_000  # about so many rows tell the order of the components


def fit_model(
    vae: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    validation: tuple[Any, Any],
    *,
    continuing: bool,
    passing: bool = False,
) -> None:
    """Check, merge repeated rows, build the model or go on with it, train it; all or nothing.

    Parameters
    ----------
    vae : VAETransformer
    X, y, sample_weight
        As its `fit` gets them.
    validation : tuple
        X_val and y_val.
    continuing : bool
        Go on with the model that is there.
    passing : bool
        One pass of `partial_fit`.
    """
    shown = {"X": X, "y": y}
    with all_or_nothing(vae):
        if not continuing:
            vae.likelihood_ = resolve_likelihood(vae.likelihood, X, vae.categorical_features)
            vae._container = None if isinstance(vae.likelihood_, OfTable) else Container(X)
        X, y, weight = read_training(vae, X, y, sample_weight, first=not continuing)
        if continuing:
            check_continuing(vae, X)
        else:
            learn_classes(vae, y, weight)
        amount = len(X) if weight is None else weight.sum()
        codes = read_classes(vae, y, len(X))
        if not is_streamed(X):
            X, weight, codes = merge_rows(X, weight, codes)
        amount = max(amount, len(X))  # weights below 1 make no row less than a row
        data = Data(X, None if weight is None else weight * max(1.0, len(X) / weight.sum()), codes)
        held_out = vae.early_stopping and not passing and validation[0] is None
        with threads(), torch.inference_mode(False), torch.enable_grad(), as_told():
            if continuing:
                amount += vae._amount if passing else 0
                renew(vae)
            else:
                build_model(vae, data, amount, held_out)
            vae._amount = amount
            train_model(vae, data, read_validation(vae, *validation), passing, continuing, shown)


@contextmanager
def all_or_nothing(vae: object) -> Iterator[None]:
    """Put the estimator back as it was if the block raises."""
    before = dict(vars(vae))
    try:
        yield
    except BaseException:
        during = callback_state(vae)
        vars(vae).clear()
        vars(vae).update(before | during)
        raise


def check_continuing(vae: Any, X: Array) -> None:
    """Refuse what a trained model can no longer change, and rows outside its support."""
    for name, built in vae._built_with.items():
        value = getattr(vae, name)
        text = getattr(vae, "_built_as", {}).get(name, repr(built))  # what is built may have changed
        if hasattr(value, "get_params"):  # functions in it have other addresses in another process
            same = ADDRESS.sub("", repr(value)) == ADDRESS.sub("", text)
        else:
            same = value is built or repr(value) == text
        if not same:
            raise ValueError(
                f"Got {name}={value!r} for a model that was built with {name}={text}; a fit that goes "
                "on cannot change it. Call fit with warm_start=False, or use a clone."
            )
    vae.likelihood_.check(X)
    if isinstance(vae.likelihood_, Categorical):
        refuse_new_levels(vae, X)


def refuse_new_levels(vae: Any, X: Array) -> None:
    """Refuse codes of levels that the model was built without: they have no chance in it."""
    highest = torch.isfinite(vae.module_.likelihood.offset).sum(0).cpu().numpy() - 1
    above = (highest < X).any(axis=0)
    if above.any():
        j = int(above.argmax())
        raise ValueError(
            f"Got code {np.nanmax(X[:, j]):g} in column {j} for a model that was built on codes up to "
            f"{highest[j]}; a fit that goes on has no chance for others. Let the first rows hold the highest "
            "code of each column, or fit anew."
        )


def renew(vae: Any) -> None:
    """Replace a model by a copy where `device` says."""
    vae.device_ = resolve_device(vae.device)
    vae.module_ = copy.deepcopy(vae.module_).to(vae.device_)


def learn_classes(vae: Any, y: Any, weight: Array | None) -> None:
    """Set `classes_` if the estimator is conditional, else take those of an earlier fit away."""
    vars(vae).pop("classes_", None)
    if not vae.conditional:
        return
    if y.dtype == object and all(isinstance(label, (bool, np.bool_)) for label in y):
        y = y.astype(bool)  # as of a table whose booleans had holes
    check_classification_targets(y)
    vae.classes_, codes = np.unique(y, return_inverse=True)
    empty = np.zeros(0, dtype=int) if weight is None else np.flatnonzero(np.bincount(codes, weight) == 0)
    if len(empty):  # of a file that is read block by block, of which no row is left out
        raise ValueError(
            f"Got sample_weight with nothing but zeros for class {vae.classes_[empty].tolist()[0]!r}; at "
            "least one row of each must count. Leave such rows out of the file."
        )


def build_model(vae: Any, data: Data, amount: float, held_out: bool) -> None:
    """Build an untrained model of some data, of which `held_out` tells whether a part is set aside."""
    vae._built_with = {name: getattr(vae, name) for name in STRUCTURE}
    vae._built_as = {name: repr(value) for name, value in vae._built_with.items()}
    vae._seed = draw_seed(vae.random_state)
    vae._dtype = data.X.dtype
    vae.device_ = resolve_device(vae.device)
    vae.likelihood_.check(data.X)
    vae.prior_ = resolve(vae.prior, PRIORS)
    vae.n_iter_, vae.history_, vae._optimizer_state = 0, {}, None
    table = isinstance(vae.likelihood_, Mixed)
    default = choose_networks(vae.hidden_layer_sizes, vae.activation, amount, table)
    encoder, decoder = vae.encoder or default[0], vae.decoder or default[1]
    with global_seed(vae._seed):
        observation = vae.likelihood_.build(data.X, data.weight)
        if isinstance(observation, Independent):
            observation.show_holes(has_holes(data.X))
        n_in, n_out, k = observation.in_features, observation.out_features, vae.n_components
        encoder = build_network(encoder, "encoder", n_in, 2 * k)
        decoder = build_network(decoder, "decoder", k, n_out)
        index = split(vae, data)[0] if held_out else np.arange(len(data))
        prior = build_prior(vae, data, index, observation, encoder)
    vae.module_ = VAE(encoder, decoder, observation, prior, k).to(vae.device_)


def split(vae: Any, data: Data) -> tuple[Array, Array]:
    """Return the indices of the rows to train on and of those set aside for early stopping."""
    return split_rows(len(data), vae.validation_fraction, vae._seed)


def build_prior(vae: Any, data: Data, index: Array, observation: Any, encoder: nn.Module) -> PriorModel:
    """Return the model of p(z), or of p(z given y), which may start from the rows of `index`."""
    encode = partial(posterior_of, encoder)

    def some_rows(n: int, index: Array) -> torch.Tensor:
        chosen = data.X[index[choose_rows(len(index), n, vae._seed)]]
        x = torch.tensor(chosen, dtype=torch.float64)
        return observation.features(observation.standardize(x))

    if data.y is None:
        return vae.prior_.build(vae.n_components, encode, partial(some_rows, index=index))
    shares, rows = np.bincount(data.y, data.weight), []
    for code in range(len(shares)):
        of_class = index[data.y[index] == code]
        of_class = of_class if len(of_class) else np.flatnonzero(data.y == code)  # all set aside
        rows.append(partial(some_rows, index=of_class))
    return by_class(vae.prior_, shares, vae.n_components, encode, rows)


def train_model(
    vae: Any, data: Data, validation: Data | None, passing: bool, continuing: bool, shown: dict[str, Any]
) -> None:
    """Train a copy of `module_` and set what a fit learns beside it."""
    plan = make_plan(vae, data, passing)
    if plan.epochs == 0:
        if vae.max_iter != "auto" and vae.n_iter_ > vae.max_iter:
            warn_of_no_epochs(vae.max_iter, vae.n_iter_)
        return
    if vae.n_iter_ == 0 or vae.precision != "auto":
        vae._training_dtype = plan.dtype
    seed = vae._seed + vae.n_iter_
    rows, aside = on_device(vae, data, validation, setting_aside=plan.patience is not None)
    model = copy.deepcopy(vae.module_).to(vae.device_, vae._training_dtype)
    if continuing:  # rows may differ where they were all the same
        for part in model.likelihood.modules():
            if isinstance(part, ObservationModel):
                part.repeats_constants = False
    if passing and data.y is not None and isinstance(model.prior, ByClass):
        model.prior.count(vae._amount, torch.tensor(np.bincount(data.y, data.weight)))
    optimizer = make_optimizer(model, plan)
    if passing and vae._optimizer_state is not None:
        optimizer.load_state(vae._optimizer_state)
    before = vae.history_
    callbacks = EpochCallbacks(
        vae,
        shown,
        plan.epochs,
        show=lambda records: set_history(vae, before, to_history(records)),
        attributes=lambda: attributes_now(vae, model, rows),
    )
    with threads(choose_threads(model, plan.batch_size)), tiny_as_zero():
        history = train(
            model,
            rows,
            vae.objective_,
            plan,
            make_generator(seed, vae.device_),
            validation=aside,
            optimizer=optimizer,
            on_epoch=callbacks.on_epoch,
            drawing=GlobalStream(seed) if vae.encoder or vae.decoder else nullcontext(),  # dropout
        )
    vae._optimizer_state = optimizer.state() if passing else None
    take_over(vae, copy.deepcopy(model) if plan.compile else model, rows)  # a copy is not compiled
    set_history(vae, before, history)
    if not vae.n_active_components_ and not passing and are_dependent(data.X):
        warn_of_collapse(vae.beta)
    losses = history["loss"]
    if vae.max_iter != "auto" and plan.is_whole and len(losses) == plan.epochs and falls_fast(losses):
        warn_of_haste(plan.epochs)
    callbacks.end()


def make_plan(vae: Any, data: Data, passing: bool) -> Plan:
    """Set the objective and return the `Plan` of a fit."""
    vae.objective_ = resolve(vae.objective, OBJECTIVES)
    vae.objective_.check(vae.beta)
    n_before = 0 if passing else vae.n_iter_
    table = isinstance(vae.likelihood_, Mixed)
    params = {name: getattr(vae, name) for name in PARAMETER_CONSTRAINTS}  # a subclass may not take all
    plan = choose_plan(
        params,
        vae.objective_,
        n_rows=len(data),
        amount=vae._amount,
        n_columns=data.X.shape[1],
        n_before=n_before,
        passing=passing,
        table=table,
    )
    on_gpu = vae.device_.type == "cuda"
    return replace(plan, replay=can_replay(vae), tensor_float32=on_gpu and vae.precision == "auto")


def can_replay(vae: Any) -> bool:
    """Tell whether training steps can be recorded: no part may decide by itself, nor wait for the host."""
    numbers = getattr(vae.likelihood_, "numbers", None)
    parts = [vae.likelihood_, numbers, vae.prior_, vae.objective_]
    layers = [*vae.module_.encoder.modules(), *vae.module_.decoder.modules()]
    if vae.device_.type != "cpu" or not all(map(_is_known, layers)):
        parts += [vae.encoder, vae.decoder]
    ours = all(part is None or type(part).__module__.startswith("skvae.") for part in parts)
    waits = vae.conditional or isinstance(vae.objective_, MMD) or any(map(_has_hooks, layers))
    return vae.device_.type in ("cpu", "cuda") and ours and not waits and not vae.compile


def _is_known(layer: nn.Module) -> bool:
    """Tell whether a layer is one of torch's or of this package, as it came, with functions of torch's."""
    ours = type(layer).__module__.startswith(("torch.nn.modules.", "skvae."))
    functions = [f for f in vars(layer).values() if callable(f) and not isinstance(f, BuiltinFunctionType)]
    return ours and all(str(getattr(f, "__module__", "")).startswith("torch.") for f in functions)


def _has_hooks(layer: nn.Module) -> bool:
    return any(getattr(layer, kind) or getattr(torch_module, "_global" + kind) for kind in HOOKS)


def on_device(
    vae: Any, data: Data, validation: Data | None, *, setting_aside: bool
) -> tuple[AnyRows, AnyRows | None]:
    """Return the rows to train on and those to validate by, None without, where training computes.

    With `setting_aside`, a part of the data validates if nothing else does.
    """
    load = partial(
        load_rows, likelihood=vae.module_.likelihood, dtype=vae._training_dtype, device=vae.device_
    )
    if validation is not None:
        return load(data, None), load(validation, None)
    if not setting_aside:
        return load(data, None), None
    index, aside = split(vae, data)
    return load(data, index), load(data, aside)


def take_over(vae: Any, model: VAE, rows: AnyRows) -> None:
    """Keep a trained model in the type of the data, and find the order of its components."""
    exact = vae.module_.likelihood
    vae.module_ = model.to(torch_dtype(vae._dtype)).eval()
    vae.module_.temperature = max(LOWEST_TEMPERATURE, vae.objective_.temperature(vae.beta))
    for buffer, source in zip(model.likelihood.buffers(), exact.buffers(), strict=True):
        buffer.copy_(source)
    some = rows.some(ORDER_ROWS)
    x = some.x.to(torch_dtype(vae._dtype))
    weight = None if some.weight is None else some.weight.to(x)
    with torch.no_grad():
        information = model.information(x, weight).cpu().numpy()
        vae.n_active_components_ = int((model.activity(x, weight) > ACTIVE).sum())
    vae._order = np.argsort(-information, kind="stable")
    vae.kl_per_component_ = information[vae._order]


def set_history(vae: Any, before: History, history: History) -> None:
    """Set what tells the epochs that were run: those before this fit, and its own."""
    vae.history_ = extend_history(before, history)
    vae.n_iter_ = len(vae.history_["loss"])


def attributes_now(vae: Any, model: VAE, rows: AnyRows) -> dict[str, Any]:
    """Return the attributes of an estimator fitted up to now, for callbacks."""
    moment: Any = object.__new__(type(vae))
    model = copy.deepcopy(model)
    vars(moment).update(vars(vae))  # copy.copy would take it to the CPU
    model.autocast = None
    take_over(moment, model, rows)
    parameters = {*PARAMETER_CONSTRAINTS, *vae.get_params()}
    return {key: value for key, value in vars(moment).items() if key not in parameters}


def falls_fast(losses: list[float]) -> bool:
    """Tell whether the loss still fell by a tenth of all its way between 25 and 45 % of the epochs.

    There the learning rate is near its peak, so a loss that is done hovers; later it falls because
    the rate does, however long the run.
    """
    n = len(losses)
    if n < 4 or not losses[-1] < losses[0]:
        return False
    early, late = (np.mean(losses[start * n // 10 : 1 + (start + 1) * n // 10]) for start in (2, 4))
    return bool(early - late > FAST * (losses[0] - losses[-1]))


def warn_of_no_epochs(max_iter: int, epochs: int) -> None:
    """Say that a warm start had no epochs left."""
    warn(
        f"Got max_iter={max_iter} after {epochs} epochs and passes, so nothing was trained. It counts those "
        "of all fits together: raise it, or call partial_fit.",
        ConvergenceWarning,
    )


def warn_of_haste(epochs: int) -> None:
    """Say that there were too few epochs."""
    warn(
        f"The loss was still falling fast when the learning rate began to sink: max_iter={epochs} is few for "
        "these rows. Raise it, or leave it at 'auto'.",
        ConvergenceWarning,
    )


def warn_of_collapse(beta: float) -> None:
    """Say that no component is in use, and what to do about it."""
    remedy = f"beta={beta!r} is far too high; lower it" if beta > 1 else "train longer, or lower beta"
    warn(
        "Columns depend on each other, but no component tells anything about the rows (posterior collapse): "
        f"transform and inverse_transform give nearly the same for all. Likely {remedy}.",
        ConvergenceWarning,
    )
