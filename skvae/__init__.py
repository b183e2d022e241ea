"""A variational autoencoder for scikit-learn."""

from .transformer import VAETransformer

__all__ = ["VAETransformer"]
__version__ = "0.1.0"
