"""A variational autoencoder for scikit-learn."""

from .export import export_onnx
from .persistence import load, save
from .transformer import VAETransformer

__all__ = ["VAETransformer", "export_onnx", "load", "save"]
__version__ = "0.1.0"
