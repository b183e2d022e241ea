"""ONNX files: onnxruntime gives what the estimator gives."""

import logging
import os
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from skvae import VAETransformer, export_onnx
from skvae.networks import MLP, Conv


def small(X, **params):
    return VAETransformer(
        3, **({"max_iter": 20, "random_state": 0, "hidden_layer_sizes": (8,)} | params)
    ).fit(X)


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "part.onnx")


def assert_equal_parts(vae, X, path):
    """Equal up to rounding, for any number of rows."""
    X = X.astype(np.float32)
    export_onnx(vae, path)
    mean, std = vae.posterior(X)
    for rows in (slice(None), slice(1)):
        out = run(path, x=X[rows])
        assert list(out) == ["mean", "std"]
        np.testing.assert_allclose(out["mean"], mean[rows], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["std"], std[rows], rtol=1e-4, atol=1e-6)
    export_onnx(vae, path, part="decoder")
    back = np.asarray(vae.inverse_transform(mean))
    for rows in (slice(None), slice(1)):
        np.testing.assert_allclose(run(path, z=mean[rows])["x"], back[rows], rtol=1e-4, atol=1e-4)


RNG = np.random.RandomState(0)
COUNTS = RNG.poisson(1.5, (60, 5)).astype(float)
NORMAL = RNG.randn(60, 1) + 0.3 * RNG.randn(60, 16)
HOLES = np.where(RNG.rand(60, 16) < 0.1, np.nan, 100 + 20 * NORMAL)


@pytest.mark.parametrize(
    ("X", "params"),
    [
        (HOLES, {}),
        (NORMAL, {"encoder": MLP((8,), norm=True, bend=True), "likelihood": "student_t", "prior": "vamp"}),
        ((COUNTS > 1).astype(float), {"likelihood": "bernoulli"}),
        (COUNTS, {"likelihood": "categorical"}),
        (COUNTS, {"likelihood": "negative_binomial"}),
        (HOLES, {"encoder": Conv((1, 4, 4), (4,), (8,)), "decoder": Conv((1, 4, 4), (4,), (8,))}),
    ],
    ids=["gaussian", "bend", "bernoulli", "categorical", "counts", "conv"],
)
def test_parts_are_equal(X, params, path):
    vae = small(X, **params)
    assert params or (vae._order != np.arange(3)).any(), "an order to undo makes the better test"
    assert_equal_parts(vae, X, path)


def test_tables_are_their_columns(path):
    frame = pd.DataFrame(NORMAL[:, :4], columns=list("abcd"))
    vae = small(frame)
    export_onnx(vae, path)
    out = run(path, x=frame.to_numpy(np.float32))
    np.testing.assert_allclose(out["mean"], vae.transform(frame.astype(np.float32)), rtol=1e-4, atol=1e-5)


def test_nothing_global_changes(path):
    vae = small(NORMAL, max_iter=2)
    before = (torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled())
    level, threads = logging.getLogger().level, torch.get_num_threads()
    export_onnx(vae, path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_default_dtype(), torch.is_grad_enabled())
    assert (level, threads) == (logging.getLogger().level, torch.get_num_threads())
    assert vae.module_.encoder.network[0].weight.dtype == torch.float64


@pytest.mark.parametrize(
    "setting", [torch.autocast("cpu", torch.bfloat16), torch.device("meta")], ids=["autocast", "device"]
)
def test_what_is_set_outside_changes_nothing(setting, path):
    vae = small(NORMAL, max_iter=2)
    with setting:
        assert_equal_parts(vae, NORMAL, path)


def test_wrong_arguments(path):
    vae = VAETransformer()
    with pytest.raises(NotFittedError):
        export_onnx(vae, path)
    with pytest.raises(ValueError, match=r"Got part='both'; expected 'encoder' or 'decoder'\."):
        export_onnx(vae, path, part="both")
    for likelihood in ("mixed", "heterogeneous"):
        vae = VAETransformer(1, likelihood=likelihood, max_iter=1)
        with pytest.raises(ValueError, match="Got part='encoder' of a model of tables"):
            export_onnx(vae.fit(pd.DataFrame({"a": ["x", "y"] * 10})), path)
    with pytest.raises(TypeError, match="expected a VAETransformer"):
        export_onnx(nn.Linear(1, 1), path)
    assert not os.path.exists(path)


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_without_onnx(path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'skvae\[onnx\]'"):
        export_onnx(small(NORMAL, max_iter=1), path)
