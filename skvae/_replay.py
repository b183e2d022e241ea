"""Training steps that are recorded and replayed: to call small kernels takes longer than to run them."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch

from ._branches import Branches
from ._kernels import KernelMode
from ._recording import Recording
from ._rows import Batch, Given

Step: TypeAlias = Callable[[Given, Any, Any], torch.Tensor]
Size: TypeAlias = tuple[Any, ...]

N_STREAMS = 4  # on which a GPU's kernels are recorded
WARM_UP = 3  # steps of a size before a GPU's are recorded: kernels load, libraries set up


@cache
def _streams(device: torch.device) -> list[Any]:
    """Return the streams that steps are recorded on: always the same, as libraries keep memory for each."""
    return [torch.cuda.Stream(device) for _ in range(N_STREAMS)]


class Recorded(NamedTuple):
    """A recorded step: what replays it, where that reads which rows, and where it leaves its result."""

    replay: Callable[[], None]
    inputs: Given
    figures: torch.Tensor


class Replay(ABC):
    """A training step that is recorded for each size of batch, and then replayed.

    What the step reads besides its arguments, and what it changes, must stay where it is in memory;
    it may not wait for the host, nor decide anything by what it computes.

    Parameters
    ----------
    step : callable
        Maps what `Rows.batches` yields, a rate and a weight of the KL term, tensors of shape (), to a tensor.
    generator : torch.Generator
        What the step draws from, on the device that it computes on.
    dtype : torch.dtype
        Of rows, and so of what is multiplied with the weight.
    """

    rate_dtype = torch.float64  # of Python's numbers, as rates are elsewhere

    def __init__(self, step: Step, generator: torch.Generator, dtype: torch.dtype) -> None:
        self.step, self.generator = step, generator
        self.rate = torch.zeros((), dtype=self.rate_dtype, device=generator.device)
        self.beta = torch.zeros((), dtype=dtype, device=generator.device)
        self.last_beta = 0.0
        self.recorded: dict[Size, Recorded | None] = {}

    def __call__(self, given: Given, rate: float, beta: float) -> torch.Tensor:
        """Take a step and return what it returns."""
        self.rate.fill_(rate)
        if beta != self.last_beta:
            self.beta.fill_(beta)
            self.last_beta = beta
        size = _size(given)
        if size not in self.recorded:
            return self._first(given, size)
        recorded = self.recorded[size]
        return self._again(recorded, given) if recorded else self.step(given, self.rate, self.beta)

    @staticmethod
    def _again(recorded: Recorded, given: Given) -> torch.Tensor:
        """Take a recorded step."""
        _fill(recorded.inputs, given)
        recorded.replay()
        return recorded.figures.clone()  # the next replay overwrites it

    @abstractmethod
    def _first(self, given: Given, size: Size) -> torch.Tensor:
        """Take a step of a size that is not recorded yet, and record it if it is time to."""


class KernelReplay(Replay):
    """Steps that are recorded kernel by kernel, on a CPU: see `Recording`, also for `fixed`."""

    memory: torch.UntypedStorage | None = None  # of all sizes

    def __init__(
        self,
        step: Step,
        generator: torch.Generator,
        dtype: torch.dtype,
        fixed: Sequence[torch.Tensor] = (),
    ) -> None:
        super().__init__(step, generator, dtype)
        self.fixed = fixed

    def _first(self, given: Given, size: Size) -> torch.Tensor:
        recording, inputs = Recording(self.memory, self.fixed), _copy(given)
        with recording:
            figures = self.step(inputs, self.rate, self.beta)
        if not recording.is_whole:
            self.recorded[size] = None
            return figures
        self.recorded[size] = Recorded(recording.replay, inputs, recording.finish(figures))
        self.memory = recording.memory
        return figures


class GraphReplay(Replay):
    """Steps that are recorded as CUDA graphs."""

    rate_dtype = torch.float32

    def __init__(self, step: Step, generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__(step, generator, dtype)
        self.streams = _streams(generator.device)
        self.n_seen: Counter[Size] = Counter()

    def _first(self, given: Given, size: Size) -> torch.Tensor:
        self.n_seen[size] += 1
        with KernelMode.lock:  # a process has one recording under way, and one user of the streams
            if self.n_seen[size] <= WARM_UP:
                return self._aside(given)
            self.recorded[size] = recorded = self._record(given)
        return self._again(recorded, given)

    def _aside(self, given: Given) -> torch.Tensor:
        """Take a step on the streams that steps are recorded on."""
        here = torch.cuda.current_stream(self.generator.device)
        self.streams[0].wait_stream(here)
        with torch.cuda.stream(self.streams[0]):
            figures = self._branched(given)
        here.wait_stream(self.streams[0])
        return figures

    def _branched(self, given: Given) -> torch.Tensor:
        """Take a step that begins and ends on the current stream."""
        with torch.autograd.set_multithreading_enabled(False), Branches(self.streams):
            return self.step(given, self.rate, self.beta)

    def _record(self, given: Given) -> Recorded:
        """Record a step, which is not taken by that, on copies of its inputs."""
        inputs = _copy(given)
        graph = torch.cuda.CUDAGraph()
        if hasattr(graph, "register_generator_state"):  # later versions of torch see by themselves what draws
            graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, stream=self.streams[0], capture_error_mode="thread_local"):
            figures = self._branched(inputs)
        # recording begins by resetting, on its own stream, what a replay sets on this one: where draws go on
        torch.cuda.current_stream(self.generator.device).wait_stream(self.streams[0])
        return Recorded(graph.replay, inputs, figures)


def _size(given: Given) -> Size:
    """Return what steps that were recorded once are the same by."""
    return tuple(x.shape if isinstance(x, torch.Tensor) else x for x in _parts(given))


def _copy(given: Given) -> Given:
    """Return what a recorded step reads, in memory of its own."""
    copied: list[Any] = [x.clone() if isinstance(x, torch.Tensor) else x for x in _parts(given)]
    return Batch(*copied) if isinstance(given, Batch) else copied[0]


def _fill(own: Given, given: Given) -> None:
    """Let a recorded step read something else of the same size."""
    for to, x in zip(_parts(own), _parts(given), strict=True):
        if isinstance(x, torch.Tensor):
            to.copy_(x)


def _parts(given: Given) -> tuple[Any, ...]:
    return given if isinstance(given, Batch) else (given,)
