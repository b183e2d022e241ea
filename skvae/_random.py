"""Seeds and noise that leave every global generator as it was."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

from ._typing import Device, RandomState

_lock = threading.RLock()  # a builder may itself fit an estimator
STRATA = 16  # numbers that share 0 to 1 evenly
_SEEDS = 2**31 - 1  # what both RandomState.randint and torch accept


def draw_seed(random_state: RandomState) -> int:
    """Return an integer seed from what scikit-learn calls a `random_state`.

    None takes fresh entropy rather than NumPy's global generator, which stays untouched.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] % _SEEDS)
    return int(check_random_state(random_state).randint(_SEEDS))


def make_generator(seed: int, device: Device = "cpu") -> torch.Generator:
    """Return a torch generator on `device`, started from the integer `seed`."""
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for a block of float32, and put all back afterwards.

    Modules initialise their weights from the global generator, in the default type; there is no other way in.
    """
    with GlobalStream(seed):
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


class GlobalStream:
    """Seeded numbers of torch's global CPU generator for the blocks of `with`, which go on from each other.

    In between the global generator is as it was, and free for others.
    """

    def __init__(self, seed: int) -> None:
        self._state = make_generator(seed).get_state()

    def __enter__(self) -> None:
        _lock.acquire()
        self._before = torch.default_generator.get_state()
        torch.default_generator.set_state(self._state)

    def __exit__(self, *_: object) -> None:
        self._state = torch.default_generator.get_state()
        torch.default_generator.set_state(self._before)
        _lock.release()


# A generator on the CPU draws the same for every device; training draws on its own.


def uniform(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw numbers between 0 and 1, of the type and on the device of `like`."""
    u = torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return u.to(like.device)


def spread(key: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw a number between 0 and 1 for each key, those of keys next to each other far apart.

    Each number alone is as random as from `uniform`, whatever the keys and what was drawn before. Of 16 keys
    that follow each other in order, one number is in each sixteenth, in random order. Chains of such draws:
    L'Ecuyer, Lecot and Tuffin (2008), A randomized quasi-Monte Carlo simulation method for Markov chains,
    doi:10.1287/opre.1080.0556.

    Parameters
    ----------
    key : Tensor of any shape
    generator : torch.Generator

    Returns
    -------
    u : Tensor of float64, of the shape of the keys
    """
    n = key.numel()
    chance = torch.rand((2, n), generator=generator, dtype=torch.float64, device=generator.device)
    chance = chance.to(key.device)
    index = torch.arange(n, device=key.device)
    first = index // STRATA * STRATA
    place, u = torch.empty_like(index), torch.empty_like(chance[0])
    place[(first + chance[0]).argsort()] = index - first
    u[key.flatten().argsort(stable=True)] = (place + chance[1]) / (n - first).clamp(max=STRATA)
    return u.view(key.shape)


def normal(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw standard normal numbers, of the type and on the device of `like`."""
    noise = torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return noise.to(like.device)


def choose(probabilities: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n indices with replacement."""
    index = torch.multinomial(probabilities.to(generator.device), n, replacement=True, generator=generator)
    return index.to(probabilities.device)


def bernoulli(probabilities: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw zeros and ones."""
    return torch.bernoulli(probabilities.to(generator.device), generator=generator).to(probabilities.device)


def poisson(rates: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw counts."""
    return torch.poisson(rates.to(generator.device), generator=generator).to(rates.device)


def standard_gamma(concentration: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw from Gamma(concentration, 1), the only sampler that torch keeps behind an underscore."""
    drawn = torch._standard_gamma(concentration.to(generator.device), generator=generator)
    return drawn.to(concentration.device)
