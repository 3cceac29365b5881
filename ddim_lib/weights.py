"""Files of tensors: written whole or not at all, checked when read, never pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .files import write_atomic
from .reading import brief, check_fields, check_file, read_json
from .unet import UNet, UNetConfig

WEIGHTS = Path(__file__).parent / "weights"
LARGEST_FILE, LARGEST_HEADER = 16 << 30, 4 << 20  # bytes, of a file of tensors and of the list of them at its start
NO_TENSORS = "is truncated or altered, or is not a safetensors file"
LARGEST_T, MOST_BLOCKS = 1_000_000, 200  # of a network in a file; building it, and its schedule, takes time and memory

Network = TypeVar("Network", bound=nn.Module)


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, altered or made for another network."""


def save_tensors(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write ``path`` (safetensors) and, beside it, a JSON file: ``info``, the SHA-256 of the tensors, and its own."""
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    info = {**info, "sha256": hashlib.sha256(data).hexdigest()}
    info["json_sha256"] = json_sha256(info)
    write_atomic({path: data, path.with_suffix(".json"): (json.dumps(info, indent=1) + "\n").encode()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote: (tensors on the CPU, info).

    Raises:
        WeightsError: a file that is missing, truncated or altered.
    """
    beside = path.with_suffix(".json")
    try:
        info, data = read_json(beside), read_tensor_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"no weights at {error.filename}") from None
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WeightsError(brief(error)) from None
    if info.get("json_sha256") != json_sha256(info):
        raise WeightsError(f"{beside} is truncated or altered: it does not match its json_sha256")
    found, wanted = hashlib.sha256(data).hexdigest(), info.get("sha256")
    if found != wanted:
        raise WeightsError(f"{path} is truncated or altered: its SHA-256 is {found}, its JSON says {brief(wanted)}")
    return parse_tensors(data, path), info


def read_tensor_file(path: Path) -> bytes:
    """The bytes of a safetensors file; one of another size than its header promises is refused before it is read.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: no file, or one that is too large, or whose header is none or does not fit its size.
    """
    size = check_file(path, LARGEST_FILE)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        sizes = f"{size:,} bytes, with a header of {header:,}"
        if header > min(size, LARGEST_HEADER):
            raise WeightsError(f"{path} {NO_TENSORS}: {sizes}")
        if 8 + header + (rest := _promised(file.read(header))) != size:
            raise WeightsError(f"{path} {NO_TENSORS}: {sizes}, which promises {brief(f'{rest:,}')} more")
        file.seek(0)
        return file.read(size)


def _promised(header: bytes) -> int:
    """How many bytes of tensors a header says there are, -1 if it is none."""
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        return max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError):
        return -1


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; raises WeightsError, which names the path, if they are none."""
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} {NO_TENSORS}: {brief(error)}") from None


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from a file from taking the place of those wanted: names, shapes and kinds of numbers."""
    shapes = [{name: _kind(tensor) for name, tensor in tensors.items()} for tensors in (found, wanted)]
    return [
        f"{brief(name)} is {shapes[0].get(name, 'missing')}, wanted {shapes[1].get(name, 'none')}"
        for name in dict.fromkeys([*wanted, *found])
        if shapes[0].get(name) != shapes[1].get(name)
    ]


def _kind(tensor: Tensor) -> str:
    """Shape, and type if the numbers are not of those that weights have, be it in half precision."""
    usual = tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return f"{tuple(tensor.shape)}" if usual else f"{tensor.dtype} {tuple(tensor.shape)}"


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless tensors from a file have the names, shapes and kinds wanted, and are finite."""
    if first := "; ".join((wrong := misfits(found, wanted))[:4]):
        raise ValueError(f"{len(wrong)} of {len(wanted)} tensors are wrong: {first}")
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def unfilled(config: UNetConfig) -> UNet:
    """A network that takes no memory yet, on the meta device, for a configuration from elsewhere.

    Raises:
        ValueError: one that is larger than any network, or than a tensor can be.
    """
    blocks = len(config.channels) * config.blocks
    if config.T > LARGEST_T or blocks > MOST_BLOCKS:
        limits = f"T can be {LARGEST_T:,} at most, and levels times blocks {MOST_BLOCKS}"
        raise ValueError(f"{limits}, got {config.T:,} and {blocks:,}")
    try:
        with torch.device("meta"):
            return UNet(config)
    except (OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f"no network can be so large: {brief(error)}") from None


def fill(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    """A network from the meta device with these weights: on the CPU, in float32, in eval mode, without gradients.

    Raises:
        ValueError: weights that are not finite, or do not fit; no memory was taken for the network then.
    """
    check_tensors(tensors, network.state_dict())
    return put(network, tensors)


def put(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    """What :func:`fill` does once the tensors are known to be good; they keep the network's layout in memory."""
    wanted = network.state_dict()  # not Module.to_empty, which imports SymPy: half a second
    laid_out = {
        name: torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).copy_(tensors[name])
        for name, value in wanted.items()
    }
    network.load_state_dict(laid_out, assign=True)
    return network.eval().requires_grad_(False)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def json_sha256(info: dict[str, Any]) -> str:
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
        check_fields(UNetConfig, info.get("config"))
        return fill(unfilled(UNetConfig.from_json(info["config"])), tensors)
    except ValueError as error:
        raise WeightsError(f"{path} does not fit its configuration: {brief(error)}") from None


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
