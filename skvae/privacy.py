"""How near synthetic rows come to the rows that a model was trained on."""

from typing import Any

import numpy as np

from ._random import draw_seed
from ._statistics import convert_column, read_column, read_table
from ._typing import RandomState
from ._values import check_count

__all__ = ["privacy_report"]

CHUNK = 1 << 18  # distances at a time: 1 MB, which a processor keeps near
TIE = 1e-5  # columns' widths; distances are sums in float32
HOLE = 3.0  # a missing number, at least 1 from all that is scaled to 0 ... 1 and clipped to -1 ... 2


def privacy_report(
    train: Any, synthetic: Any, holdout: Any, *, max_rows: int | None = 3000, random_state: RandomState = None
) -> dict[str, float]:
    """Compare how near synthetic rows are to training rows and to rows that the model never saw.

    A model that has learned the distribution, and no rows, is as near to the ones as to the others.
    So each figure for training rows has one for held-out rows beside it, which tells what chance
    alone does. It shows memorised rows; it is no proof of privacy.

    The distance of two rows is Gower's: the average over columns of the difference of numbers and
    moments as a share of the range of the real ones, at most 1, and 0 or 1 for equal or different
    levels. A missing cell is 1 from all others, 0 from another missing one; infinity counts as missing.

    Parameters
    ----------
    train : array-like or DataFrame of shape (n_rows, n_features)
        The rows that the model was fitted to, all of them.
    synthetic : array-like or DataFrame of shape (n_synthetic_rows, n_features)
        Rows that it made up.
    holdout : array-like or DataFrame of shape (n_held_out_rows, n_features)
        Real rows from the same source that it never saw.
    max_rows : int or None, default=3000
        Synthetic rows that distances are taken of, drawn at random; None takes all. Copies are
        looked for among all of them, and training rows are never left out: a copy of one could hide.
    random_state : int, RandomState instance or None, default=None
        Draws the rows that are compared.

    Returns
    -------
    report : dict of str to float
        With these keys. "Matched" and all distances: of as many training as held-out rows. Where
        there are more of one kind, they are taken in parts of the other's number.

        - "copies": share of synthetic rows that equal a training row.
        - "copies_train_matched", "copies_holdout_matched": the same, matched, of training and of
          held-out rows.
        - "distance_train_median", "distance_train_quantile_05": of the distance to the nearest
          training row.
        - "distance_holdout_median", "distance_holdout_quantile_05": to the nearest held-out row.
        - "nearer_train": share of synthetic rows that are nearer to a training than to a held-out
          row, on the scale of equally many of both: 0.5 is chance, 1 is always. If a share f of rows
          were copies and all others new, it would be 0.5 + f / 2.
        - "nearer_train_se": its standard deviation if it were chance alone which of the real rows
          were trained on.

    Raises
    ------
    ValueError
        If one of the three has no rows, other columns than `train`, or two columns of one name.

    References
    ----------
    Gower (1971), A general coefficient of similarity and some of its properties, doi:10.2307/2528823.

    Platzer and Reutterer (2021), Holdout-based fidelity and privacy assessment of mixed-type
    synthetic data, arXiv:2104.00635.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import privacy_report
    >>> train, holdout = np.random.default_rng(0).normal(size=(2, 500, 4))
    >>> report = privacy_report(train, train, holdout)
    >>> report["copies"], report["copies_holdout_matched"], report["nearer_train"]
    (1.0, 0.0, 1.0)
    """
    if max_rows is not None:
        check_count(max_rows, "max_rows")
    columns = _align({"train": train, "synthetic": synthetic, "holdout": holdout})
    n_train, n_synthetic, n_holdout = (len(part) for part in columns[0])
    rng = np.random.default_rng(draw_seed(random_state))
    shuffled = np.concatenate((rng.permutation(n_train), n_train + rng.permutation(n_holdout)))
    shown = rng.permutation(n_synthetic)[:max_rows]

    made, real = _number_rows(columns)
    report = {"copies": np.isin(made, real[:n_train]).mean()}
    for name, parts in zip(("train", "holdout"), _match(real[shuffled], n_train), strict=True):
        report[f"copies_{name}_matched"] = np.mean([np.isin(made, part).mean() for part in parts])

    scaled = [_scale(*column) for column in columns]
    made, real = np.stack([own[shown] for own, _ in scaled]), np.stack([own[shuffled] for _, own in scaled])
    owned, distances = _find_nearest(made, real, n_train)
    for name, values in zip(("train", "holdout"), distances, strict=True):
        report[f"distance_{name}_median"] = np.median(values)
        report[f"distance_{name}_quantile_05"] = np.quantile(values, 0.05)

    chance = n_train / (n_train + n_holdout)
    share = owned[:n_train].sum() / len(shown)
    spread = np.sqrt(chance * n_holdout * owned.var(ddof=1)) / len(shown)  # if real rows changed sides
    report["nearer_train"] = max(0.0, 0.5 + 0.5 * (share - chance) / (1 - chance))
    report["nearer_train_se"] = 0.5 * spread / (1 - chance)
    return {name: float(value) for name, value in report.items()}


def _align(tables: Any) -> Any:
    """Return each column of train, as those of all tables: all floats with NaN, or all strings with None."""
    read = {key: read_table(table, key) for key, table in tables.items()}
    names, by_name = read["train"][0], all(hasattr(table, "columns") for table in tables.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice and by_name:
        raise ValueError(f"Got train with several columns named {twice[:5]!r}; expected distinct names.")
    for key, (others, columns) in read.items():
        if not len(columns[0] if columns else []):
            raise ValueError(f"Got {key} without a row or column; expected at least one.")
        absent = [name for name in names if name not in others] if by_name else []
        new = [name for name in others if name not in names] if by_name else []
        if absent or new:
            raise ValueError(
                f"Got {key} without the columns {absent[:5]!r} and with {new[:5]!r}, which train lacks; "
                "expected those of train."
            )
        if len(others) != len(names):
            raise ValueError(f"Got {key} with {len(others)} columns; expected {len(names)}, as in train.")
    aligned = []
    for i, name in enumerate(names):
        parts = [
            read_column(columns[others.index(name) if by_name else i]) for others, columns in read.values()
        ]
        is_empty = all(value is None or value != value for value in parts[0].tolist())
        numeric = all(part.dtype.kind == "f" for part in (parts if is_empty else parts[:1]))
        aligned.append(
            [convert_column(part, numeric, name, key) for part, key in zip(parts, read, strict=True)]
        )
    return aligned


def _number_rows(columns: Any) -> Any:
    """Return a number for each synthetic and each real row, the same for equal rows."""
    ids: Any = 0
    for parts in columns:
        codes = np.unique(_codes(parts), return_inverse=True)[1]
        ids = np.unique(ids * (codes.max() + 1) + codes, return_inverse=True)[1]
    n_train, n_synthetic = len(columns[0][0]), len(columns[0][1])
    train, made, holdout = np.split(ids, [n_train, n_train + n_synthetic])
    return made, np.concatenate((train, holdout))


def _codes(parts: Any) -> Any:
    """Return the cells of all tables as numbers that can be told apart, NaN only where they had it."""
    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        return values
    places = {level: float(i) for i, level in enumerate(dict.fromkeys(values.tolist()))}
    return np.array([places[value] for value in values.tolist()])


def _scale(train: Any, synthetic: Any, holdout: Any) -> Any:
    """Return synthetic and real cells as numbers whose difference, cut at 1, is their distance."""
    parts = [synthetic, np.concatenate((train, holdout))]
    if train.dtype.kind == "f":
        low, high = np.nanmin(parts[1], initial=np.inf), np.nanmax(parts[1], initial=-np.inf)
        width = high - low if high > low else np.finfo(float).tiny  # a constant: equal or not
        with np.errstate(over="ignore"):
            parts = [np.nan_to_num(np.clip((part - low) / width, -1, 2), nan=HOLE) for part in parts]
    else:
        parts = np.split(_codes(parts), [len(synthetic)])
    return [np.asarray(part, dtype=np.float32) for part in parts]


def _match(real: Any, n_train: Any) -> Any:
    """Cut values along the real rows into parts of equal length, of training and of held-out rows.

    Parameters
    ----------
    real : ndarray of shape (..., n_real_rows)
        Training rows first.
    n_train : int

    Returns
    -------
    train, holdout : ndarray of shape (n_parts, ..., n_matched)
        One of both has one part.
    """
    n_matched = min(n_train, real.shape[-1] - n_train)
    sides = []
    for side in (real[..., :n_train], real[..., n_train:]):
        n_parts = side.shape[-1] // n_matched
        parts = side[..., : n_parts * n_matched].reshape(*side.shape[:-1], n_parts, n_matched)
        sides.append(np.moveaxis(parts, -2, 0))
    return sides


def _find_nearest(made: Any, real: Any, n_train: Any) -> Any:
    """Find the real rows that are nearest to each synthetic one.

    Parameters
    ----------
    made, real : ndarray of shape (n_columns, n_rows)
        As `_scale` gives them, training rows first.
    n_train : int

    Returns
    -------
    owned : ndarray of shape (n_real_rows,)
        How many synthetic rows a real one is the nearest of; equally near ones share a row.
    distances : list of two ndarray
        To the nearest row of each of the parts of `_match`.
    """
    (n_columns, n_made), n_real = made.shape, real.shape[1]
    step = max(1, CHUNK // n_real)
    total, gap = np.empty((2, min(step, n_made), n_real), dtype=np.float32)
    owned = np.zeros(n_real)
    distances: tuple[list[Any], list[Any]] = ([], [])
    for start in range(0, n_made, step):
        chunk = made[:, start : start + step, None]
        total, gap = total[: chunk.shape[1]], gap[: chunk.shape[1]]
        total[:] = 0
        for own, other in zip(chunk, real, strict=True):
            np.subtract(own, other, out=gap)
            np.minimum(np.abs(gap, out=gap), 1, out=gap)
            np.add(total, gap, out=total)
        row, place = np.nonzero(total <= total.min(axis=1, keepdims=True) + TIE)
        owned += np.bincount(place, 1 / np.bincount(row)[row], minlength=n_real)
        for side, parts in zip(distances, _match(total, n_train), strict=True):
            side.append(parts.min(axis=-1) / n_columns)
    return owned, [np.concatenate(side, axis=-1) for side in distances]
