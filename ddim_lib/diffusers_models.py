"""Networks in diffusers' folders: published weights come in, and those of this library go out."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from .diffusers_names import DEFAULTS, our_state, their_config, their_state, unet_config
from .files import LOCK, sole_writer, write_atomic
from .reading import brief, check_fields, read_json
from .unet import UNet, UNetConfig
from .weights import (
    WeightsError,
    load_pretrained,
    load_weights,
    misfits,
    parse_tensors,
    put,
    read_tensor_file,
    unfilled,
)

CONFIGS = ("config.json", "unet/config.json", "scheduler_config.json", "scheduler/scheduler_config.json")
TENSORS = "diffusion_pytorch_model.safetensors"
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def from_diffusers(path_or_repo: str | Path) -> UNet:
    """A ``UNet2DModel`` as a network of this library: in float32, in eval mode, on the CPU.

    It is asked at this book's times 1..T, where T is ``num_train_timesteps`` in the scheduler_config.json beside it, or
    1000 without that file. The betas are not read: those of the published DDPMs are ``Schedule.linear(T)``.

    Args:
        path_or_repo: a folder that holds config.json and diffusion_pytorch_model.safetensors, itself or in ``unet``;
            or, where there is no such folder, a name on the Hugging Face Hub such as ``google/ddpm-cifar10-32`` (this
            needs the package huggingface_hub).

    Raises:
        WeightsError: nothing there; an architecture that is not supported (the message names the field and what it may
            be); weights that are not in safetensors; or ones that do not fit (the message names the first of them).
    """
    folder = _fetched(path_or_repo, CONFIGS)
    inside = "" if (folder / "config.json").exists() else "unet/"
    values = _read_json(folder / inside / "config.json")
    try:
        config = unet_config(values, _largest_time(folder))
        check_fields(UNetConfig, json.loads(json.dumps(asdict(config))))
        unet = unfilled(config)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / inside / 'config.json'} is not supported: {brief(error)}") from None
    path = _fetched(path_or_repo, (inside + TENSORS,)) / inside / TENSORS
    tensors = _read_tensors(path)
    _check_fit(tensors, their_state(unet.state_dict(), config), path)
    cosines_first = values.get("flip_sin_to_cos", DEFAULTS["flip_sin_to_cos"])
    return put(unet, our_state(tensors, config, cosines_first))


def _fetched(path_or_repo: str | Path, names: tuple[str, ...]) -> Path:
    """The folder itself, or the one that holds the named files of a model on the Hub."""
    if Path(path_or_repo).is_dir():
        return Path(path_or_repo)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_repo)):
        raise WeightsError(
            f"no folder {brief(path_or_repo)}, and a model on the Hub has a name of the form 'owner/model'"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        problem = f"no folder {path_or_repo}, and to fetch it from the Hub the package huggingface_hub is needed"
        raise WeightsError(problem) from None
    try:
        return Path(snapshot_download(str(path_or_repo), allow_patterns=list(names)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"no folder {path_or_repo}, and none fetched from the Hub: {reason}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise WeightsError(f"no config.json in {path.parent.parent}, nor in its folder unet") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WeightsError(brief(error)) from None


def _largest_time(folder: Path) -> int:
    for name in CONFIGS[2:]:
        if (folder / name).exists():
            return _read_json(folder / name).get("num_train_timesteps", 1000)
    return 1000


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file, with the names of attention's layers that diffusers uses today."""
    try:
        tensors = parse_tensors(read_tensor_file(path), path)
    except FileNotFoundError:
        convert = "UNet2DModel.from_pretrained(OLD).save_pretrained(NEW)"
        raise WeightsError(
            f"no {path}; a .bin file is a pickle, never loaded: convert it by diffusers' {convert}"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WeightsError(brief(error)) from None
    old = re.compile(rf"(?<=\.)({'|'.join(OLD_NAMES)})(?=\.(weight|bias)$)")
    return {old.sub(lambda match: OLD_NAMES[match[0]], name): tensor for name, tensor in tensors.items()}


def _check_fit(found: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    if wrong := misfits(found, wanted):
        first = "; ".join(wrong[:4])
        raise WeightsError(f"{path} does not fit its config.json in {len(wrong)} of {len(wanted)} tensors: {first}")
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{path} is damaged: {name} holds NaN or infinity")


def departures(config: UNetConfig) -> list[str]:
    """What ``UNet2DModel`` does not have, so that none equals a network: empty where one does."""
    variant = config.variant
    needed = [("patch", config.patch, 1), ("residual", variant.residual, False), ("time_shift", variant.time_shift, 1)]
    return [f"{name} = {value}" for name, value, theirs in needed if value != theirs]


def to_diffusers(unet: UNet, folder: str | Path, size: int) -> None:
    """Write a folder that ``DDIMPipeline.from_pretrained`` opens, for images of ``size`` by ``size`` pixels.

    The scheduler is that of ``Schedule.linear(T)``, with leading times and no clipping. The network is a
    ``UNet2DModel`` where one equals it; :func:`departures` says why not. It is else stored with its code, which
    ``from_pretrained`` runs only if told ``trust_remote_code=True``.

    Raises:
        ValueError: a folder that holds files already, or a size that the network does not take.
    """
    folder, config = Path(folder), unet.config
    multiple = config.patch * 2 ** (len(config.channels) - 1)
    if size < 1 or size % multiple:
        raise ValueError(f"size must be a multiple of {multiple} for this network, got {size}")
    if any(path.is_file() and path.name != LOCK for path in folder.rglob("*")):
        raise ValueError(f"{folder} holds files already; name another folder")
    parts = _with_code(unet, size) if departures(config) else _as_unet_2d_model(unet, size)
    values, tensors, kind, code = parts
    index = {"_class_name": "DDIMPipeline", "scheduler": ["diffusers", "DDIMScheduler"], "unet": kind}
    texts = {"model_index.json": index, "unet/config.json": values}
    texts["scheduler/scheduler_config.json"] = _scheduler_config(config.T)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files = {name: (json.dumps(text, indent=2) + "\n").encode() for name, text in texts.items()} | code
    files[f"unet/{TENSORS}"] = safetensors.torch.save(tensors, metadata={"format": "pt"})
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_atomic({folder / name: data for name, data in files.items()})


Parts = tuple[dict[str, Any], dict[str, Tensor], list[str], dict[str, bytes]]
"""(fields of config.json, tensors, library and class for model_index.json, files of code)."""


def _as_unet_2d_model(unet: UNet, size: int) -> Parts:
    values = {"_class_name": "UNet2DModel", **their_config(unet.config, size)}
    return values, their_state(unet.state_dict(), unet.config), ["diffusers", "UNet2DModel"], {}


def _with_code(unet: UNet, size: int) -> Parts:
    values = {"_class_name": "BookUNet", "sample_size": size, "in_channels": unet.config.in_channels}
    tensors = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    here = Path(__file__).parent
    code = {f"unet/{name}": (here / name).read_bytes() for name in ("diffusers_unet.py", "unet.py", "variant.py")}
    return values | {"unet_config": asdict(unet.config)}, tensors, ["diffusers_unet", "BookUNet"], code


def _scheduler_config(T: int) -> dict[str, Any]:
    betas = {"num_train_timesteps": T, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    walk = {"timestep_spacing": "leading", "steps_offset": 0, "set_alpha_to_one": True, "clip_sample": False}
    return {"_class_name": "DDIMScheduler", **betas, **walk, "prediction_type": "epsilon"}


def run_export_diffusers(args: argparse.Namespace) -> None:
    """Write a trained model as a folder for diffusers, and say how it is opened."""
    with sole_writer(args.out, folder=True):
        unet = load_weights(args.weights) if args.weights else load_pretrained(args.model)
        to_diffusers(unet, args.out, args.size or unet.config.image_shape[-1])
    reasons, opened = departures(unet.config), f'DDIMPipeline.from_pretrained("{args.out}"'
    if reasons:
        print(f"No UNet2DModel has {', '.join(reasons)}: the network's code is in the folder beside its weights.")
        opened += ", trust_remote_code=True"
    print(f"{opened}) opens it")
