"""Settings and data that all tests share."""

import os

# scikit-learn looks at it once, when it is first imported, and skips its array API checks without it
os.environ["SCIPY_ARRAY_API"] = "1"
os.environ["MPLBACKEND"] = "Agg"  # no windows

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits


def _frozen(X):
    X.setflags(write=False)  # a test that changed its input would change that of all others
    return X


@pytest.fixture(scope="session")
def digits():
    """200 handwritten digits, pixels in 0..1, and their labels."""
    X, y = load_digits(return_X_y=True)
    return _frozen(X[:200] / 16), y[:200]


@pytest.fixture(scope="session")
def cancer():
    """240 rows of breast cancer, 30 columns in their own units, and the diagnoses."""
    X, y = load_breast_cancer(return_X_y=True)
    return _frozen(X[:240].copy()), y[:240]


@pytest.fixture(scope="session")
def diabetes():
    """200 rows of diabetes, 10 columns, in about standard deviations."""
    X, _ = load_diabetes(return_X_y=True)
    return _frozen(X[:200] / np.std(X[:200], axis=0))
