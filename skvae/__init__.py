"""A variational autoencoder for scikit-learn."""

from .plotting import (
    CorrelationDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    MarginalsDisplay,
    ReconstructionDisplay,
    SampleDisplay,
)
from .transformer import VAETransformer

__all__ = [
    "CorrelationDisplay",
    "LatentDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "MarginalsDisplay",
    "ReconstructionDisplay",
    "SampleDisplay",
    "VAETransformer",
]
__version__ = "0.1.0"
