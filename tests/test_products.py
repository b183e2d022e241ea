"""A setting of the process for a while."""

import threading

import pytest
import torch

from skvae import _products
from skvae._products import tensor_float32

NEW = hasattr(torch.backends, "fp32_precision")  # torch 2.9


def settings():
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    new = [backend.fp32_precision for backend in backends] if NEW else []
    return [torch.get_float32_matmul_precision(), *new]


def test_products_are_rounded_in_the_block_alone():
    before = settings()
    assert before[0] == "highest"
    with tensor_float32():
        assert torch.get_float32_matmul_precision() == "high"
    assert settings() == before


def test_an_error_in_the_block_leaves_no_trace():
    before = settings()
    with pytest.raises(KeyError), tensor_float32():
        raise KeyError
    assert settings() == before


@pytest.mark.parametrize(
    "chosen", ["medium", "high", pytest.param("highest", marks=pytest.mark.skipif(not NEW, reason="unseen"))]
)
def test_a_choice_of_the_user_stays(chosen):
    before = settings()
    try:
        torch.set_float32_matmul_precision(chosen)
        with tensor_float32():
            assert torch.get_float32_matmul_precision() == chosen
        assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision("highest")
        if NEW:
            torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"
    assert settings() == before


def test_before_torch_2_9(monkeypatch):
    monkeypatch.setattr(_products, "_backends", lambda: ())
    try:
        with tensor_float32():
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")
        if NEW:
            torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_blocks_may_overlap():
    before, inside, done = settings(), threading.Event(), threading.Event()

    def other():
        with tensor_float32():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    with tensor_float32():
        thread.start()
        assert inside.wait(10)
    assert torch.get_float32_matmul_precision() == "high"  # the other still runs
    done.set()
    thread.join()
    assert settings() == before
