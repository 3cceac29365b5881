"""Files of tensors: written whole or not at all, checked when read, never pickled."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .unet import UNet, UNetConfig

WEIGHTS = Path(__file__).parent / "weights"


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, altered or made for another network."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path`` and rename it into place, so that a failure leaves the older file as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write ``path`` (safetensors) and then, as the seal, ``path`` with suffix .json: ``info`` and the SHA-256."""
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_atomic(path, data)
    sealed = info | {"sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(path.with_suffix(".json"), (json.dumps(sealed, indent=1) + "\n").encode())


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
    found = hashlib.sha256(data).hexdigest()
    if not isinstance(info, dict) or found != info.get("sha256"):
        wanted = info.get("sha256") if isinstance(info, dict) else None
        raise WeightsError(
            f"{path} is truncated or altered: its SHA-256 is {found}, {path.with_suffix('.json').name} says {wanted}"
        )
    try:
        return safetensors.torch.load(data), info
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from None


def save_weights(path: Path, unet: UNet, provenance: dict[str, Any]) -> None:
    """Write a network's weights, with its configuration and ``provenance`` in the JSON beside them."""
    save_tensors(path, unet.state_dict(), {"config": asdict(unet.config)} | provenance)


def load_weights(path: Path) -> UNet:
    """The network stored by :func:`save_weights`, in eval mode on the CPU.

    Raises:
        WeightsError: a file that is missing, truncated or altered, or that does not fit its configuration.
    """
    tensors, info = load_tensors(path)
    try:
        unet = UNet(config_from_json(info["config"]))
        unet.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit its configuration: {error}") from None
    return unet.eval().requires_grad_(False)


def load_pretrained(name: str) -> UNet:
    """A network that this project trained, in eval mode on the CPU: ``"mnist"``.

    How it was trained stands in ``ddim_lib/weights/NAME.json``.

    Raises:
        ValueError: an unknown name.
        WeightsError: a damaged file.
    """
    names = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    if name not in names:
        raise ValueError(f"no pretrained model {name!r}; there are: {', '.join(names)}")
    return load_weights(WEIGHTS / f"{name}.safetensors")


def config_from_json(values: dict[str, Any]) -> UNetConfig:
    """UNetConfig from its JSON form, where tuples are lists."""
    return UNetConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
