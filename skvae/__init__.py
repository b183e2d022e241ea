"""A variational autoencoder for scikit-learn."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ._versions import show_versions
from .export import export_onnx
from .imputer import VAEImputer
from .outlier import VAEOutlierDetector
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

if TYPE_CHECKING:
    from .oversampler import VAEOverSampler

__all__ = [
    "CorrelationDisplay",
    "LatentDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "MarginalsDisplay",
    "ReconstructionDisplay",
    "SampleDisplay",
    "VAEImputer",
    "VAEOutlierDetector",
    "VAETransformer",
    "export_onnx",
    "load",
    "privacy_report",
    "save",
    "show_versions",
]
if find_spec("imblearn"):
    __all__ += ["VAEOverSampler"]
__version__ = "0.1.0"


def __getattr__(name: str) -> type:
    if name == "VAEOverSampler":  # derives from a class of imbalanced-learn, which is optional
        from .oversampler import VAEOverSampler

        return VAEOverSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
