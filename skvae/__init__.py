"""A variational autoencoder for scikit-learn."""

from .export import export_onnx
from .persistence import load, save
from .plotting import (
    CorrelationDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    MarginalsDisplay,
    ReconstructionDisplay,
    SampleDisplay,
)
from .privacy import privacy_report
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
    "export_onnx",
    "load",
    "privacy_report",
    "save",
]
__version__ = "0.1.0"
