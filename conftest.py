"""What is not collected with scikit-learn below 1.9, which has no callbacks, and what runs on a GPU."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each of the processes has a core for itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")

sklearn = Path(find_spec("sklearn").origin)  # not imported yet: tests/conftest.py has settings for that
collect_ignore = []
if not sklearn.with_name("callback").is_dir():
    collect_ignore += ["skvae/callbacks.py", "tests/test_callbacks.py"]

ON_GPU = ("test_gpu", "test_sklearn_api", "test_tables")


@pytest.fixture(scope="module", autouse=True)
def _device(request):
    """Let "auto" be the CPU for the modules that compare bits or hand a model tensors of their own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] not in ON_GPU:
            patch.setattr("torch.cuda.is_available", lambda: False)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # of other processes
        yield
