"""Kernels of a block on several streams of a GPU: beside each other where one does not need another."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch

from ._kernels import KernelMode, changed_by, keys_in, tensors_in

MOST_BYTES = 1 << 30  # that are kept until all streams meet


class Task(NamedTuple):
    """A kernel that was launched.

    Its stream; the last place in each stream that is done before, its own included; when it may be done;
    what tells that it is.
    """

    stream: int
    known: Sequence[int]
    end: int
    event: Any

    @property
    def place(self) -> int:
        """The place in its stream."""
        return self.known[self.stream]


class Branches(KernelMode):
    """A block whose kernels are launched on several streams, each after those that use the same memory.

    A kernel on little memory leaves most of a GPU idle: a gradient by weights, say, may be computed beside
    the next layer's. Kernels are taken in the order of the block, each where it can begin first if all
    take as long (list scheduling: Graham, 1966, doi:10.1002/j.1538-7305.1966.tb01709.x). What the block
    makes is kept until all streams meet, at its end or once it is `MOST_BYTES`, since memory is given away
    in the order of one stream.

    Parameters
    ----------
    streams : sequence of torch.cuda.Stream
        The block begins and ends on the first, which must be the current one.
    on : callable, default=torch.cuda.stream
        Makes a stream the current one in a context.
    """

    def __init__(
        self,
        streams: Sequence[Any],
        on: Callable[[Any], AbstractContextManager[Any]] = torch.cuda.stream,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.streams, self.on = streams, on

    def __enter__(self) -> Any:
        """Begin to launch kernels on all streams."""
        self._fork()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        """End it, once all are done."""
        super().__exit__(*raised)
        self._join()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Launch a kernel."""
        kwargs = kwargs or {}
        if any(x.alias_info and not x.alias_info.is_write for x in func._schema.returns):
            return func(*args, **kwargs)  # shows memory in another way
        if self.n_bytes > MOST_BYTES:
            self._join()
            self._fork()
        read, changed = keys_in((args, kwargs)), changed_by(func, args, kwargs)
        needs = [self.writers[key] for key in read if key in self.writers]
        needs += [task for key in changed for task in self.readers[key]]
        chosen, start = self._choose(needs)
        self._wait(chosen, needs)
        with self.on(self.streams[chosen]):
            result = func(*args, **kwargs)
        self.known[chosen][chosen] += 1
        self.ends[chosen] = start + 1
        task = Task(chosen, [*self.known[chosen]], start + 1, self.streams[chosen].record_event())
        for key in changed | (keys_in(result) - read):
            self.writers[key] = task
            self.readers[key] = []
        for key in read - changed:
            self.readers[key].append(task)
        self.kept.append((args, kwargs, result))
        self.n_bytes += sum(x.nbytes for x in tensors_in(result))
        return result

    def _fork(self) -> None:
        """Let the other streams go on from where the first is, with nothing that they need to know of."""
        for stream in self.streams[1:]:
            stream.wait_stream(self.streams[0])
        n = len(self.streams)
        self.ends = [0] * n  # of the last task of each stream
        self.known = [[0] * n for _ in range(n)]  # the last place in all streams that each has waited for
        self.writers: dict[int, Task] = {}  # of memory, by its key
        self.readers: defaultdict[int, list[Task]] = defaultdict(list)  # since it was written
        self.kept: list[Any] = []
        self.n_bytes = 0

    def _join(self) -> None:
        """Let the first stream wait for the others."""
        for stream in self.streams[1:]:
            self.streams[0].wait_stream(stream)
        self.kept = []

    def _choose(self, needs: Sequence[Task]) -> tuple[int, int]:
        """Return the stream on which a task can begin first, and when; that of a need if several can."""
        ready = max((task.end for task in needs), default=0)
        follows = {task.stream for task in needs if task.place == self.known[task.stream][task.stream]}
        start, _, chosen = min((max(end, ready), i not in follows, i) for i, end in enumerate(self.ends))
        return chosen, start

    def _wait(self, chosen: int, needs: Sequence[Task]) -> None:
        """Let a stream wait for tasks of others, unless it has waited for later ones."""
        for task in sorted(needs, key=lambda task: -task.end):
            if self.known[chosen][task.stream] < task.place:
                self.streams[chosen].wait_event(task.event)
                self.known[chosen] = [*map(max, self.known[chosen], task.known)]
