"""Heaping: multiples of 5, 10, 100 ... that a column holds more often than the numbers beside them."""

import numpy as np

from ._typing import Array

FACTORS = (2, 3, 5)
EVIDENCE = 4.0  # standard deviations of the number of multiples, were there no preference
EXCESS = 1.2  # how many times as many multiples as without a preference are worth telling
LEAST, SEVERAL = 20, 5  # rows and different values that tell anything about the next step
PRIOR_ROWS = 10  # that the preference of the runs around stands for beside the rows of a run
AROUND = 8  # runs by which their say falls to a third
BEYOND = 0.1  # rows that the preference of the whole column stands for beside those around


def find_heaps(place: Array, count: Array) -> Array:
    """Return the steps that values prefer, rising from 1, each a multiple of that before it.

    Of all such chains the one of the highest likelihood, less half the logarithm of the rows for each step
    (Schwarz, 1978, doi:10.1214/aos/1176344136).

    Parameters
    ----------
    place : ndarray of shape (n_values,)
        Whole numbers, all different.
    count : ndarray of shape (n_values,)
        How many rows have them.
    """
    price = 0.5 * np.log(max(1.0, count.sum()))
    best: dict[float, tuple[float, list[float]]] = {1.0: (0.0, [1.0])}  # gain and chain up to a step
    multiples = {1.0: (place, count)}
    while multiples:
        step = min(multiples)
        place, count = multiples.pop(step)
        n = count.sum()
        if n < LEAST or len(place) < SEVERAL:
            continue
        gain, chain = best[step]
        for factor in FACTORS:
            kept = np.fmod(place, step * factor) == 0
            of_next, even = count[kept].sum(), 1 / factor
            spread = np.sqrt(n * even * (1 - even))
            if of_next <= EXCESS * n * even or of_next - n * even < EVIDENCE * spread:
                continue
            share, longer = of_next / n, step * factor
            more = gain - price + of_next * np.log(share / even)
            if share < 1:
                more += (n - of_next) * np.log((1 - share) / (1 - even))
            multiples[longer] = (place[kept], count[kept])
            if longer not in best or more > best[longer][0]:
                best[longer] = (more, [*chain, longer])
    return np.array(max(best.values(), key=lambda found: found[0])[1])


def grades(place: Array, heaps: Array) -> Array:
    """Return the place in `heaps` of the largest step that a whole number is a multiple of."""
    return (np.fmod(place[:, None], heaps[1:]) == 0).sum(1)


def ratios(heaps: Array) -> Array:
    """Return by what each step is less than the next; infinity for the last."""
    return np.append(heaps[1:] / heaps[:-1], np.inf)


def members(first: Array, last: Array, heaps: Array) -> tuple[Array, Array]:
    """Count the whole numbers of each grade from `first` to `last`, both of shape (n_runs,).

    The i-th of all whole numbers of a grade, i = ..., -1, 0, 1, ..., is heap * (i + 1 + i // (ratio - 1)):
    of the multiples of its step those that are none of the next.

    Returns
    -------
    lowest, n : ndarray of shape (n_runs, n_grades)
        The place i of the first of them, and how many there are.
    """
    ratio = ratios(heaps)
    below, upto = np.ceil(first[:, None] / heaps) - 1, np.floor(last[:, None] / heaps)
    below, upto = below - np.floor(below / ratio), upto - np.floor(upto / ratio)
    return below, upto - below


def divide(counts: Array, places: Array) -> Array:
    """Return the share of each grade in the mass of each run, shape (n_runs, n_grades).

    The rows of the run tell it, and the preferences of the runs around where they are few: large numbers
    are rounded to larger steps than small ones.

    Parameters
    ----------
    counts, places : ndarray of shape (n_runs, n_grades)
        Rows and whole numbers of each grade, from the lowest run to the highest.
    """
    n, size = counts.sum(1, keepdims=True), places.sum(1, keepdims=True)
    several = size > 1
    seen, expected = several * counts, several * (n * places / size)
    overall = (seen.sum(0) + BEYOND) / (expected.sum(0) + BEYOND)
    prior = places * (_around(seen) + BEYOND * overall) / (_around(expected) + BEYOND)
    prior /= prior.sum(1, keepdims=True)
    return (counts + PRIOR_ROWS * prior) / (n + PRIOR_ROWS) * (places > 0)


def _around(values: Array) -> Array:
    """Return sums over the runs around each, nearer ones weighing more, shape (n_runs, n_grades)."""
    reach = 6 * AROUND
    weight = np.exp(-np.abs(np.arange(-reach, reach + 1)) / AROUND)
    sums = [np.convolve(column, weight)[reach : reach + len(values)] for column in values.T]
    return np.stack(sums, 1)
