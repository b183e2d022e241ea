"""Types that public signatures share."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array: TypeAlias = npt.NDArray[Any]
Rows: TypeAlias = npt.ArrayLike  # DataFrames too: they can be taken for arrays
Table: TypeAlias = Any  # an array, or a DataFrame of a library that need not be there
RandomState: TypeAlias = int | np.random.RandomState | None
Builder: TypeAlias = Callable[[int, int], nn.Module]
Device: TypeAlias = str | torch.device
Record: TypeAlias = dict[str, float]  # the figures of one epoch, by name
History: TypeAlias = dict[str, list[float]]  # those of all epochs
