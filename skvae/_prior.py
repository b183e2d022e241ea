"""What all priors p(z) are: a specification, and the density that it builds."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn


class Prior(BaseEstimator, ABC):
    """Specification of p(z).

    Attributes
    ----------
    name : str
        What users type as ``prior=``.
    """

    name: str

    @abstractmethod
    def build(self, latent_dim: int, encode: Any = None, rows: Any = None) -> "PriorModel":
        """Return the `PriorModel` over `latent_dim` dimensions.

        Weights start from torch's global generator, as those of modules do.

        Parameters
        ----------
        latent_dim : int
        encode : callable or None, default=None
            Maps what the encoder sees, shape (B, in_features), to its `Posterior`. The encoder in
            it belongs to the `VAE`; a prior refers to it and trains it along.
        rows : callable or None, default=None
            ``rows(n)`` returns what the encoder sees of n distinct training rows, or of all of
            them if there are fewer, shape (n, in_features).

        Returns
        -------
        model : PriorModel
        """


class PriorModel(nn.Module, ABC):
    """A density over latent vectors.

    Rows may have classes, codes y from 0 on. A prior that knows no classes is p(z given y) = p(z),
    so it takes y and leaves it aside.

    Attributes
    ----------
    pace : float
        Times the learning rate of the encoder and decoder: a prior of few parameters must keep up
        with the latent space, while networks at such a rate may lose their way.
    """

    pace: float = 3.0

    @abstractmethod
    def log_prob(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log-density of latent vectors.

        Parameters
        ----------
        z : Tensor of shape (..., latent_dim)
        y : Tensor of int, shape (B,), default=None
            Classes, where z has shape (..., B, latent_dim). None means any: log p(z).

        Returns
        -------
        log_prob : Tensor of shape (...)
            Nats.
        """

    @abstractmethod
    def sample(
        self, n_samples: int, generator: torch.Generator, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw latent vectors.

        Parameters
        ----------
        n_samples : int
        generator : torch.Generator
            The only source of chance, on the CPU whatever the device of the module.
        y : Tensor of int, shape (n_samples,), default=None
            Their classes. None means any.

        Returns
        -------
        z : Tensor of shape (n_samples, latent_dim)
        """

    @abstractmethod
    def kl_from(self, posterior: Any, y: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return KL(q || p) in closed form, or None if there is none.

        Parameters
        ----------
        posterior : Posterior
            q(z given x) of B rows.
        y : Tensor of int, shape (B,), default=None
            Their classes.

        Returns
        -------
        kl : Tensor of shape (B,) or None
        """

    def start(self, z: torch.Tensor, generator: torch.Generator, y: torch.Tensor | None = None) -> None:
        """Go to where the rows are; by default stay.

        Parameters
        ----------
        z : Tensor of shape (N, latent_dim)
            Draws from the posteriors of random training rows. Their means alone would make a
            component look narrow that the encoder does not use.
        generator : torch.Generator
        y : Tensor of int, shape (N,), default=None
        """
        return

    def finishes(self, n_rows: int) -> bool:
        """Tell whether `finish` does anything; by default it does not.

        Parameters
        ----------
        n_rows : int
            Number of training rows.

        Returns
        -------
        finishes : bool
        """
        return False

    def finish(
        self, z: torch.Tensor, weight: torch.Tensor | None = None, y: torch.Tensor | None = None
    ) -> None:
        """Take the last step by other means than gradients.

        Parameters
        ----------
        z : Tensor of shape (S, N, latent_dim)
            S draws from the posterior of each of N training rows.
        weight : Tensor of shape (N,), default=None
        y : Tensor of int, shape (N,), default=None
        """
        return
