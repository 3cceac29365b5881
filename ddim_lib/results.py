"""Files of measurements that grow cell by cell, so that a long run can be stopped and called again."""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path
from typing import Any

import torch

from .files import write_atomic
from .unet import UNet


def load_cells(path: Path, header: dict[str, Any], fields: set[str]) -> dict[str, dict[str, Any]]:
    """The finished cells at ``path``, none if there is no such file.

    Args:
        header: what the file must say, so that all its cells were made alike.
        fields: what every cell must hold.

    Raises:
        ValueError: a file that is damaged, or that was made under another header.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        differing = [key for key in header if found.get(key) != header[key]]
        cells = found["cells"]
        damaged = [key for key, cell in cells.items() if not fields <= cell.keys()]
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no result file: {error!r}; remove it, or write elsewhere") from None
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged[0]!r} is no finished cell; remove it, or write elsewhere")
    if differing:
        other = ", ".join(f"{key} = {found.get(key)!r} instead of {header[key]!r}" for key in differing)
        raise ValueError(f"{path} was made with {other}; remove it, or write elsewhere")
    return cells


def write_result(path: Path, result: dict[str, Any], beside: dict[Path, bytes] | None = None) -> None:
    """Write a result file, and before it the files ``beside`` it, whole or not at all."""
    write_atomic((beside or {}) | {path: (json.dumps(result, indent=1) + "\n").encode()})


def margin(worse: dict[str, Any], better: dict[str, Any], of: str = "frechet") -> float:
    """How far one measured cell lies above another, in standard errors of the difference, taken as independent."""
    return (worse[of] - better[of]) / math.hypot(worse[f"{of}_error"], better[f"{of}_error"])


def hardware(model: UNet) -> str:
    """The device in words."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
