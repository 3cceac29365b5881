"""Files of measurements that grow cell by cell, so that a long run can be stopped and called again."""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path
from typing import Any

import torch

from .files import write_atomic
from .reading import brief, is_number, read_json
from .unet import UNet
from .weights import json_sha256

REMEDY = "remove it, or write elsewhere"


def load_cells(path: Path, header: dict[str, Any], fields: set[str]) -> dict[str, dict[str, Any]]:
    """The finished cells at ``path``, none if there is no such file.

    Args:
        header: what the file must say, so that all its cells were made alike.
        fields: what every cell must hold.

    Raises:
        ValueError: a file that is damaged or altered, or that was made under another header.
    """
    if not path.exists():
        return {}
    try:
        found = read_json(path)
        if found.get("json_sha256", (right := json_sha256(found))) != right:  # older files have no hash
            raise ValueError("it does not match its json_sha256")
        cells = found.get("cells")
        if not isinstance(cells, dict) or not all(isinstance(cell, dict) for cell in cells.values()):
            raise ValueError(f"its cells must be a JSON object of such objects, got {brief(repr(cells))}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no result file: {brief(error)}; {REMEDY}") from None
    differing = [key for key in header if found.get(key) != header[key]]
    if differing:
        other = ", ".join(f"{key} = {brief(repr(found.get(key)))} instead of {header[key]!r}" for key in differing)
        raise ValueError(f"{path} was made with {other}; {REMEDY}")
    if damaged := [key for key, cell in cells.items() if not _finished(cell, fields, header)]:
        raise ValueError(f"{path} is damaged: {brief(repr(damaged[0]))} is no finished cell; {REMEDY}")
    return cells


def _finished(cell: dict[str, Any], fields: set[str], header: dict[str, Any]) -> bool:
    """Whether a cell holds a number for each field, measured on as many images as the header says."""
    numbers = fields <= cell.keys() and all(is_number(cell[name]) for name in fields)
    return numbers and cell.get("n") == header.get("n", cell.get("n"))


def write_result(path: Path, result: dict[str, Any], beside: dict[Path, bytes] | None = None) -> None:
    """Write a result file, with a hash of what it says, and before it the files ``beside`` it, whole or not at all."""
    result = {**result, "json_sha256": json_sha256(result)}
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
