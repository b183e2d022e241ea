"""Training steps that a GPU replays: to launch small kernels one by one takes longer than to run them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from ._rows import Batch

WARM_UP = 3  # steps of a size before one is recorded: kernels load, libraries set up


class Replay:
    """A training step that is recorded as a CUDA graph for each size of batch, and then replayed.

    What the step reads besides its arguments, and what it changes, must stay where it is in memory;
    it may not wait for the host, nor decide anything by what it computes.

    Parameters
    ----------
    step : callable
        Maps a `Batch`, a rate and a weight of the KL term, both tensors of shape (), to a tensor.
    generator : torch.Generator
        On a CUDA device; what the step draws from.
    """

    def __init__(self, step: Callable[[Batch, Any, Any], torch.Tensor], generator: torch.Generator) -> None:
        self.step, self.generator = step, generator
        self.stream = torch.cuda.Stream(generator.device)
        self.rate, self.beta = torch.zeros(2, dtype=torch.float32, device=generator.device).unbind()
        self.last_beta = 0.0
        self.n_seen: Counter[tuple[int, bool]] = Counter()
        self.recorded: dict[tuple[int, bool], tuple[torch.cuda.CUDAGraph, Batch, torch.Tensor]] = {}

    def __call__(self, batch: Batch, rate: float, beta: float) -> torch.Tensor:
        """Take a step and return what it returns."""
        self.rate.fill_(rate)
        if beta != self.last_beta:
            self.beta.fill_(beta)
            self.last_beta = beta
        size = (len(batch.x), batch.complete)
        if size not in self.recorded:
            self.n_seen[size] += 1
            if self.n_seen[size] <= WARM_UP:
                return self._aside(batch)
            self.recorded[size] = self._record(batch)
        graph, inputs, figures = self.recorded[size]
        for own, given in zip(_tensors(inputs), _tensors(batch), strict=True):
            own.copy_(given)
        graph.replay()
        return figures.clone()  # the next replay overwrites it

    def _aside(self, batch: Batch) -> torch.Tensor:
        """Take a step on the stream that steps are recorded on."""
        here = torch.cuda.current_stream(self.generator.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            figures = self.step(batch, self.rate, self.beta)
        here.wait_stream(self.stream)
        return figures

    def _record(self, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch, torch.Tensor]:
        """Record a step, which is not taken by that, on copies of its inputs."""
        weight, y = (None if part is None else part.clone() for part in (batch.weight, batch.y))
        inputs = Batch(batch.x.clone(), weight, y, batch.complete)
        graph = torch.cuda.CUDAGraph()
        if hasattr(graph, "register_generator_state"):  # later versions of torch see by themselves what draws
            graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            figures = self.step(inputs, self.rate, self.beta)
        # recording begins by resetting, on its own stream, what a replay sets on this one: where draws go on
        torch.cuda.current_stream(self.generator.device).wait_stream(self.stream)
        return graph, inputs, figures


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [part for part in (batch.x, batch.weight, batch.y) if part is not None]
