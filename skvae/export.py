"""Encoder and decoder as ONNX files, which run without Python and torch."""

import copy
import os
import warnings
from typing import Any, Literal

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._files import write_file
from ._observation import OfTable
from ._threads import as_told
from .model import VAE
from .transformer import VAETransformer

__all__ = ["export_onnx"]

MAX_ROWS = 1 << 40  # torch 2.6 would else find that not all numbers of rows are allowed


def export_onnx(
    estimator: VAETransformer, path: str | os.PathLike[str], part: Literal["encoder", "decoder"] = "encoder"
) -> None:
    """Write the encoder or the decoder of a fitted `VAETransformer` as an ONNX file.

    Both compute in float32, for any number of rows.

    Parameters
    ----------
    estimator : VAETransformer
    path : str or path-like
        A file there is replaced in one step.
    part : {"encoder", "decoder"}, default="encoder"
        "encoder" maps "x", rows in the units of the data, NaN where a cell is missing, to "mean" and
        "std", as `VAETransformer.posterior` does. "decoder" maps "z" to "x", as
        `VAETransformer.inverse_transform` does.

    Raises
    ------
    TypeError
        If it is another estimator.
    ValueError
        If there is no such part, or it is the encoder of a model of tables.
    ImportError
        If onnx or onnxscript is not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> import skvae
    >>> from sklearn.datasets import load_iris
    >>> vae = skvae.VAETransformer(n_components=2, max_iter=10).fit(load_iris().data)
    >>> skvae.export_onnx(vae, os.path.join(tempfile.mkdtemp(), "encoder.onnx"))
    """
    if not isinstance(estimator, VAETransformer):
        raise TypeError(f"Got estimator={estimator!r}; expected a VAETransformer.")
    if part not in PARTS:
        raise ValueError(f"Got part={part!r}; expected 'encoder' or 'decoder'.")
    check_is_fitted(estimator)
    if part == "encoder" and isinstance(estimator.likelihood_, OfTable):
        raise ValueError(
            "Got part='encoder' of a model of tables, which looks its cells up as ONNX cannot; expected "
            "part='decoder', or a model of numbers."
        )
    build, source, targets = PARTS[part]
    vae = copy.deepcopy(estimator.module_).cpu().float()
    with as_told():
        module = build(vae, torch.tensor(estimator._order)).eval()
        model = _convert(module, source, targets)
    write_file(path, model.SerializeToString())


def _convert(module: Any, source: Any, targets: Any) -> Any:
    """Return the ONNX model of a module that maps any number of rows of `n_features` values."""
    try:
        import onnx  # noqa: F401 -- torch names only one of the two if it lacks both
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("The export needs onnx and onnxscript: pip install 'skvae[onnx]'.") from error
    example = torch.zeros(2, module.n_features)  # one row would be taken for the only number of rows
    with warnings.catch_warnings():
        # torch's exporter calls what torch itself has deprecated; a user can do nothing about it
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[source],
            output_names=targets,
            dynamic_shapes=({0: torch.export.Dim("rows", max=MAX_ROWS)},),
        )
    return program.model_proto  # type: ignore[union-attr]  # None comes without dynamo


class _Encoder(nn.Module):
    order: torch.Tensor

    def __init__(self, vae: VAE, order: torch.Tensor) -> None:
        super().__init__()
        self.vae = vae
        self.register_buffer("order", order)
        self.n_features = vae.likelihood.n_features

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.vae.encode(self.vae.likelihood.standardize(x))
        return posterior.mean[:, self.order], posterior.std[:, self.order]


class _Decoder(nn.Module):
    order: torch.Tensor

    def __init__(self, vae: VAE, order: torch.Tensor) -> None:
        super().__init__()
        self.vae = vae
        self.register_buffer("order", torch.argsort(order))
        self.n_features = len(order)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(z[:, self.order])


PARTS = {"encoder": (_Encoder, "x", ["mean", "std"]), "decoder": (_Decoder, "z", ["x"])}
