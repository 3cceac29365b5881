"""How processes share a batch: each takes its parts of one and the same, in turn if memory is short."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:  # accelerate is imported when training starts, so that importing the library stays quick
    from accelerate import Accelerator

    from .train import TrainConfig


def load_accelerate() -> ModuleType:
    """The package accelerate, which takes time to import, and asks for widgets in a notebook that has none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import accelerate
    return accelerate


def this_process(network: nn.Module) -> Accelerator:
    """Accelerate's view of this process, alone or one of several; ValueError if the network is on another's device."""
    accelerator = load_accelerate().Accelerator(device_placement=False, mixed_precision="no")  # TrainConfig says bf16
    found, own = next(network.parameters()).device, accelerator.device
    if accelerator.num_processes > 1 and (found.type, found.index or 0) != (own.type, own.index or 0):
        raise ValueError(f"unet is on {found}; move it to this process's device, {own}")
    return accelerator


def batch_parts(config: TrainConfig, accelerator: Accelerator) -> list[slice]:
    """The ``accumulate`` parts of every batch that this process takes, one after the other.

    Raises:
        ValueError: a batch that cannot be cut evenly.
    """
    size, rest = divmod(config.batch_size, accelerator.num_processes * config.accumulate)
    if rest:
        number = f"accumulate * processes = {config.accumulate} * {accelerator.num_processes}"
        raise ValueError(f"batch_size must be a multiple of {number}, got {config.batch_size}")
    first = accelerator.process_index * config.accumulate
    return [slice(i * size, (i + 1) * size) for i in range(first, first + config.accumulate)]


@contextmanager
def memory_advice(config: TrainConfig) -> Iterator[None]:
    """Turn PyTorch's errors about memory, on any device, into a MemoryError that says what to lower."""
    from accelerate.utils.memory import should_reduce_batch_size

    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        found = f"the memory is too small for batch_size = {config.batch_size} with accumulate = {config.accumulate}"
        advice = "lower batch_size, or raise accumulate, which takes the same batch in smaller parts"
        raise MemoryError(f"{found}: {advice}") from error
