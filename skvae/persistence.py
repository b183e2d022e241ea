"""Estimators as files: JSON and safetensors, without pickle.

A file is a safetensors file, the tensors by name, whose metadata hold one JSON document: parameters,
fitted attributes, the versions that wrote it and a checksum of the whole file.
"""

import copy
import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from torch import nn

from . import model
from ._compat import METADATA_REQUESTS
from ._files import write_file
from ._tree import Reader, Writer, name_of

__all__ = ["load", "save"]

FORMAT = 1
MAX_HEADER = 1 << 25  # bytes; JSON data take up to some 30 times as much memory
MAX_MODULES = 10_000  # calls of modules in all networks
BLANK = "0" * 64  # stands where the checksum will
MODULES = (  # of the classes that files name
    *("_arrays", "_flow", "_joint", "_lookup", "_marginals", "_mixed", "_observation", "_order", "columns"),
    *("imputer", "likelihoods", "model", "networks", "objectives", "outlier", "priors", "transformer"),
)
# fmt: off
LAYERS = [
    nn.AvgPool1d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.CELU, nn.Conv1d, nn.Conv2d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.ELU, nn.Flatten,
    nn.GELU, nn.GLU, nn.GroupNorm, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.InstanceNorm2d,
    nn.LayerNorm, nn.LeakyReLU, nn.Linear, nn.MaxPool1d, nn.MaxPool2d, nn.Mish, nn.ModuleDict,
    nn.ModuleList, nn.PReLU, nn.ParameterList, nn.PixelShuffle, nn.PixelUnshuffle, nn.ReLU, nn.ReLU6,
    nn.RMSNorm, nn.SELU, nn.Sequential, nn.SiLU, nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Tanh,
    nn.Unflatten, nn.Upsample,
]
# fmt: on
DAMAGE = (  # what data of the wrong shape raise
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file, fitted or not, that `load` reads without running code from it.

    Callbacks are left out. Tensors are saved as they would be on the CPU.

    Parameters
    ----------
    estimator : estimator
        One of skvae; others too, as far as they hold numbers, text, arrays, tensors and objects
        of such.
    path : str or path-like
        A file there is replaced in one step: whatever happens, it is the old one or the new one.

    Raises
    ------
    TypeError
        If it is no estimator.
    ValueError
        If it holds something that cannot be written, such as a lambda.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : Read it.

    Examples
    --------
    >>> import os, tempfile
    >>> import skvae
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.skvae")
    >>> skvae.save(skvae.VAETransformer(n_components=2), path)
    >>> skvae.load(path)
    VAETransformer(n_components=2)
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"Got estimator={estimator!r}; expected an instance of an estimator.")
    safetensors = _safetensors()
    writer = Writer()
    try:
        tree = writer.write(estimator)
    except RecursionError as error:
        raise ValueError(
            f"Got estimator={type(estimator).__name__} with values that nest too deep or hold themselves; "
            "expected less than a hundred levels."
        ) from error
    document = {"format": FORMAT, "sha256": BLANK, "versions": _versions(), "estimator": tree}
    text = json.dumps(document, allow_nan=False)
    data = safetensors.torch.save(writer.tensors, {"skvae": text})
    end = 8 + int.from_bytes(data[:8], "little")
    if end > MAX_HEADER:
        raise ValueError(
            f"Got estimator={type(estimator).__name__} with {end} bytes of parameters, names and history; "
            f"expected at most {MAX_HEADER}. Keep large values in NumPy arrays, which do not count."
        )
    head = data[:end].replace(BLANK.encode(), _checksum(data[:end], data[end:]).encode(), 1)
    write_file(path, head, memoryview(data)[end:])


def load(path: str | os.PathLike[str], trusted: Sequence[Any] = ()) -> Any:
    """Read an estimator that `save` wrote.

    Nothing in the file is run: attributes are put in place as data, and their classes are those of
    skvae and layers of torch.nn. Time and memory are in proportion to the size of the file.

    Parameters
    ----------
    path : str or path-like
    trusted : sequence of classes and functions, default=()
        Those of your own that the estimator is made of: modules, builders, likelihoods. They are
        code that you have, and will be run on what the file says.

    Returns
    -------
    estimator : estimator
        With its tensors on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, of a newer format, needs a class that is not trusted, or was never
        made by `save`.
    OSError
        If it cannot be read.
    TypeError
        If `trusted` is no sequence of classes and functions.
    ImportError
        If safetensors is not installed, or a library that the estimator's tables came from.

    See Also
    --------
    save : Write it.
    """
    safetensors = _safetensors()
    names = _known_names() | _trusted_names(trusted)
    with open(path, "rb") as file:
        try:
            document, data = _read(file)
            reader = Reader(safetensors.torch.load(data), names)
            estimator = reader.read(document["estimator"])
            if not isinstance(estimator, BaseEstimator):
                raise ValueError("it holds no estimator")  # noqa: TRY004 -- as all of a file
            if not trusted:  # else networks may do what only their own code knows
                _check_networks(reader.objects)
        except (*DAMAGE, safetensors.SafetensorError) as error:
            reason = _reason(error)
            raise ValueError(f"Got path={os.fspath(path)!r}, which cannot be loaded: {reason}.") from error
    return estimator


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("Saving and loading needs safetensors: pip install 'skvae[files]'.") from error
    return safetensors


def _reason(error: BaseException) -> str:
    # not its text: that could be made of an object which is not whole
    text = " ".join(arg for arg in error.args if isinstance(arg, str)).rstrip(".")
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def _versions() -> dict[str, str]:
    return {
        "skvae": sys.modules[__package__].__version__,
        "torch": str(torch.__version__),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
    }


def _known_names() -> dict[str, Any]:
    """Map the names that any file may use to what they stand for."""
    from sklearn.impute import MissingIndicator  # here, as it takes as long as skvae

    extra = ("oversampler",) if find_spec("imblearn") else ()  # without it there is none to load
    modules = [importlib.import_module(f".{name}", __package__) for name in (*MODULES, *extra)]
    ours = [thing for module in modules for thing in vars(module).values() if _is_known(thing, module)]
    types = [bool, int, float, str, *np.sctypeDict.values()]  # as a parameter dtype has them
    theirs = [*LAYERS, *METADATA_REQUESTS, MissingIndicator, FrozenEstimator, *types]
    known = [*ours, *theirs, model.posterior_of]
    return {name_of(thing): thing for thing in known}


def _is_known(thing: Any, module: Any) -> bool:
    return (
        isinstance(thing, type)
        and thing.__module__ == module.__name__
        and not issubclass(thing, torch.autograd.Function)
        and not inspect.isabstract(thing)
    )


def _trusted_names(trusted: Sequence[Any]) -> dict[str, Any]:
    trusted = list(trusted) if isinstance(trusted, list | tuple | set | frozenset) else [None]
    if not all(hasattr(thing, "__qualname__") and thing.__module__ for thing in trusted):
        raise TypeError(f"Got trusted={trusted!r}; expected a tuple of classes and functions.")
    return {name_of(thing): thing for thing in trusted}


def _read(file: Any) -> Any:
    """Return the JSON document and all bytes of an open file that is whole."""
    start = file.read(8)
    length, size = int.from_bytes(start, "little"), os.fstat(file.fileno()).st_size
    if len(start) < 8 or length > size - 8:
        raise ValueError("it is no file of skvae.save, or was cut short")
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; expected at most {MAX_HEADER}")
    start += file.read(length)
    header = json.loads(start[8:], object_pairs_hook=_without_repetition)
    if not isinstance(header, dict) or "skvae" not in header.get("__metadata__", {}):
        raise ValueError("it is no file of skvae.save. Load it with what wrote it, and save the estimator")
    document = json.loads(
        header["__metadata__"]["skvae"], object_pairs_hook=_without_repetition, parse_constant=_no_constant
    )
    if document["format"] != FORMAT:
        raise ValueError(
            f"it has format {document['format']!r}, written by {document.get('versions')!r}, and this skvae "
            f"knows formats up to {FORMAT}. Update skvae"
        )
    body = file.read(size - len(start))
    blank = start.replace(document["sha256"].encode(), BLANK.encode(), 1)
    if document["sha256"] != _checksum(blank, body):
        raise ValueError("its checksum is wrong: it was damaged or cut short on the way. Copy it again")
    return document, start + body


def _checksum(*chunks: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _without_repetition(pairs: Any) -> Any:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("its header gives one name twice")
    return dict(pairs)


def _no_constant(name: Any) -> None:
    raise ValueError(f"its header has {name}, which is no JSON")


def _check_networks(objects: Any) -> None:
    """Raise unless the networks of all models have the sizes they claim. Nothing is computed."""
    checked: set[Any] = set()
    left = MAX_MODULES
    for vae in (thing for thing in objects if isinstance(thing, model.VAE)):
        n_latent, likelihood = vae.latent_dim, vae.likelihood
        for name, sizes in {
            "encoder": (likelihood.in_features, 2 * n_latent),
            "decoder": (n_latent, likelihood.out_features),
        }.items():
            network = getattr(vae, name)
            if (id(network), sizes) in checked:
                continue
            checked.add((id(network), sizes))
            left -= _count_modules(network, left)
            if _output_shape(network, sizes[0]) != (2, sizes[1]):
                raise ValueError(f"its {name} does not map {sizes[0]} features to {sizes[1]}")


def _count_modules(network: nn.Module, most: int) -> int:
    """Count calls of modules, or raise: one that calls itself, or one many times, could take for ever."""
    stack = [network]
    for n in range(most):
        if not stack:
            return n
        stack.extend(child for child in stack.pop()._modules.values() if child is not None)
    raise ValueError(f"its networks take more than {MAX_MODULES} modules")


def _output_shape(network: nn.Module, in_features: int) -> tuple[int, ...]:
    """Return the shape that two rows get, by a twin of the network that has no memory."""
    tensors = list(chain(network.parameters(), network.buffers()))
    twin = copy.deepcopy(network, {id(tensor): tensor.detach().to("meta") for tensor in tensors})
    dtype = tensors[0].dtype if tensors else None
    with torch.no_grad():
        return tuple(twin(torch.empty(2, in_features, dtype=dtype, device="meta")).shape)
