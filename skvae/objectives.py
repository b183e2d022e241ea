"""Objectives: what is maximised, row by row, from the terms of the bound."""

from abc import ABC, abstractmethod
from numbers import Integral

from sklearn.base import BaseEstimator

__all__ = ["ELBO", "Autoencoder", "Objective"]


class Objective(BaseEstimator, ABC):
    """Specification of what is maximised.

    Attributes
    ----------
    name : str
        What users type as ``objective=``.
    n_draws : int
        Latent draws per row; 0 decodes the posterior mean.
    """

    name: str
    n_draws = 1

    @abstractmethod
    def check(self, beta):
        """Raise ValueError for constants, or a weight of the KL term, that make no sense here."""

    @abstractmethod
    def __call__(self, terms, beta):
        """Return the objective of each row in nats, shape (B,).

        Parameters
        ----------
        terms : Terms
            The pieces of the bound, computed as they are asked for.
        beta : float
            Weight of the KL term at this step.
        """


class ELBO(Objective):
    """The evidence lower bound E[log p(x given z)] - beta KL(q(z given x) || p(z)).

    Kingma and Welling (2014), arXiv:1312.6114, equation 3; beta from Higgins et al. (2017),
    beta-VAE, equation 4.

    Parameters
    ----------
    n_draws : int, default=1
        Latent draws per row that the expectation is averaged over.
    """

    name = "elbo"

    def __init__(self, n_draws=1):
        self.n_draws = n_draws

    def check(self, beta):
        """Ask for at least one draw."""
        if not isinstance(self.n_draws, Integral) or self.n_draws < 1:
            raise ValueError(f"Got n_draws={self.n_draws!r}; expected a whole number of at least 1.")

    def __call__(self, terms, beta):
        """Return reconstruction - beta * kl."""
        return terms.reconstruction - beta * terms.kl


class Autoencoder(Objective):
    """log p(x given z) at the posterior mean: a plain autoencoder, for comparison.

    No noise and no KL term, so nothing keeps the codes together: `sample` of such a model draws
    from a prior that it was never trained with.
    """

    name = "autoencoder"
    n_draws = 0

    def check(self, beta):
        """Refuse a weight of the KL term, which is not there."""
        if beta != 1:
            raise ValueError(
                f"Got beta={beta!r} with objective={self.name!r}, which has no KL term to weigh; "
                "expected beta=1. Leave beta out or use objective='elbo'."
            )

    def __call__(self, terms, beta):
        """Return the reconstruction term alone."""
        return terms.reconstruction
