"""Signals that ask a run to stop: caught, so that the present step is finished and saved first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.utils import gather

AGREE_EVERY = 10  # steps after which several processes ask each other


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT (Ctrl-C) and SIGTERM in a list, in place of what they do."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda found, frame: caught.append(found)) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed_signal(caught: list[int], step: int) -> int:
    """The signal at which every process stops after ``step``, the same in all of them, or 0.

    A process that stopped alone would leave the others waiting for its gradients, so they ask each other.
    """
    state, mine = PartialState(), caught[0] if caught else 0
    if state.num_processes == 1:
        return mine
    return int(gather(torch.tensor([mine], device=state.device)).max()) if step % AGREE_EVERY == 0 else 0
