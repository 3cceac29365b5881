"""Files of tensors: written whole or not at all, checked when read, never pickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .files import write_atomic
from .unet import UNet, UNetConfig

WEIGHTS = Path(__file__).parent / "weights"


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, altered or made for another network."""


def save_tensors(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write ``path`` (safetensors) and, beside it, a JSON file: ``info``, the SHA-256 of the tensors, and its own."""
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    info = {**info, "sha256": hashlib.sha256(data).hexdigest()}
    info["json_sha256"] = _json_sha256(info)
    write_atomic({path: data, path.with_suffix(".json"): (json.dumps(info, indent=1) + "\n").encode()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote: (tensors on the CPU, info).

    Raises:
        WeightsError: a file that is missing, truncated or altered.
    """
    try:
        info = json.loads(path.with_suffix(".json").read_bytes())
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"no weights at {error.filename}") from None
    except ValueError as error:
        raise WeightsError(f"{path.with_suffix('.json')} is not valid JSON: {error}") from None
    if not isinstance(info, dict) or info.get("json_sha256") != _json_sha256(info):
        raise WeightsError(f"{path.with_suffix('.json')} is truncated or altered: it does not match its json_sha256")
    found = hashlib.sha256(data).hexdigest()
    if found != info["sha256"]:
        raise WeightsError(f"{path} is truncated or altered: its SHA-256 is {found}, its JSON says {info['sha256']}")
    try:
        return safetensors.torch.load(data), info
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json_sha256(info: dict[str, Any]) -> str:
    """The hash of all of ``info`` but the hash itself, whatever its layout in the file."""
    rest = {key: value for key, value in info.items() if key != "json_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def save_weights(path: Path, unet: UNet, provenance: dict[str, Any]) -> None:
    """Write a network's weights, with its configuration and ``provenance`` in the JSON beside them."""
    save_tensors(path, unet.state_dict(), {"config": asdict(unet.config)} | provenance)


def load_weights(path: Path) -> UNet:
    """The network stored by :func:`save_weights`, in eval mode on the CPU, in float32 also where the file is in half.

    Raises:
        WeightsError: a file that is missing, truncated or altered, or that does not fit its configuration.
    """
    tensors, info = load_tensors(path)
    try:
        unet = UNet(UNetConfig.from_json(info["config"]))
        unet.load_state_dict(tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit its configuration: {error}") from None
    return unet.eval().requires_grad_(False)


def load_pretrained(name: str) -> UNet:
    """A network that this project trained, in eval mode on the CPU: ``"mnist"`` or ``"cifar10"``.

    How it was trained, and of which preset it is, stands in ``ddim_lib/weights/NAME.json``.

    Raises:
        ValueError: an unknown name.
        WeightsError: a damaged file.
    """
    names = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    if name not in names:
        raise ValueError(f"no pretrained model {name!r}; there are: {', '.join(names)}")
    return load_weights(WEIGHTS / f"{name}.safetensors")
