"""The state of a training run on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .reading import brief, check_fields, is_number
from .train import TrainConfig, TrainState, check_finite, start
from .unet import UNet, UNetConfig
from .weights import WeightsError, load_tensors, misfits, save_tensors

MAY_DIFFER = ("steps", "accumulate")  # of a configuration, between the runs that share a folder


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest first; one without its JSON, which is written last, is none."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if path.with_suffix(".json").exists())


def save_checkpoint(folder: Path, state: TrainState, config: TrainConfig, keep: int = 2, dataset: str = "") -> Path:
    """Write ``checkpoint-STEP.safetensors`` and its JSON, then remove all but the newest ``keep``.

    Nothing older is touched until the new files are complete, so a full disk or a kill leaves the last checkpoint.

    Raises:
        ValueError: keep below 1.
        FloatingPointError: training diverged; nothing is written.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    check_finite(state, config)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
    tensors["generator"] = state.generator.get_state()
    tensors["running"] = torch.stack(state.running).cpu() if state.running else torch.zeros(0)
    path = folder / f"checkpoint-{state.step:08d}.safetensors"
    info = {"step": state.step, "unet": asdict(state.model.config), "train": asdict(config), "dataset": dataset}
    info |= {"loss": state.loss.item(), "history": state.history, "seconds": state.seconds}
    save_tensors(path, tensors, info)
    _tidy(folder, path, keep)
    return path


def _tidy(folder: Path, newest: Path, keep: int) -> None:
    """Remove what is older than the newest ``keep`` checkpoints, and what a killed process left half-written."""
    older = [path for path in checkpoint_files(folder) if path <= newest]
    kept = {path.stem for path in older[-keep:]}
    for path in sorted(folder.glob("checkpoint-*")):  # the JSON comes first: what has lost it is no checkpoint
        if path.stem < newest.stem and path.stem not in kept:
            path.unlink()
    for path in folder.glob(".checkpoint-*.tmp"):
        path.unlink()


def load_checkpoint(folder: Path, unet: UNet, config: TrainConfig, dataset: str = "") -> TrainState:
    """Load the newest checkpoint of ``folder`` into ``unet``; pass the state to :func:`train` to go on.

    A damaged one is passed over, with a warning, for the one before.

    Raises:
        WeightsError: no checkpoint, only damaged ones, or one of another configuration (``steps`` and ``accumulate``
            may differ), data set or kind of device.
    """
    path, tensors, info = _newest_whole(folder)
    state = start(unet, config)
    try:
        _check_same_run(info, unet, config, dataset)
        _check_whole(state, tensors, info)
        _restore(state, tensors, info)
    except ValueError as error:
        raise WeightsError(f"{path} {brief(error)}") from None
    except (KeyError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{path} was made by another version of ddim_lib: {brief(repr(error))}") from error
    return state


def _newest_whole(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    errors: list[str] = []
    for path in reversed(checkpoint_files(folder)):
        try:
            tensors, info = load_tensors(path)
        except WeightsError as error:
            errors.append(str(error))
            continue
        for text in errors:
            warnings.warn(f"{text}; going on from {path.name}", stacklevel=3)
        return path, tensors, info
    raise WeightsError(f"{errors[0]}; no older checkpoint is whole" if errors else f"no checkpoint in {folder}")


def _check_same_run(info: dict[str, Any], unet: UNet, config: TrainConfig, dataset: str) -> None:
    check_fields(UNetConfig, info["unet"])
    check_fields(TrainConfig, info["train"])
    stored = asdict(UNetConfig.from_json(info["unet"])) | asdict(TrainConfig(**info["train"]))
    stored["dataset"] = info.get("dataset", dataset)
    for key, value in (asdict(unet.config) | asdict(config) | {"dataset": dataset}).items():
        if stored[key] != value and key not in MAY_DIFFER:
            raise ValueError(f"was made with {key} = {brief(stored[key])}, this run asks for {value}")


def _check_whole(state: TrainState, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Raise ValueError or KeyError unless all is there that :func:`save_checkpoint` writes; changes nothing yet."""
    generator = state.generator.get_state()
    if tensors["generator"].shape != generator.shape:
        raise ValueError(f"was made on another kind of device than {state.generator.device}; choose that of its run")
    _check_numbers(info)
    wanted = {f"{part}.{name}": value for part in ("model", "ema") for name, value in state.model.state_dict().items()}
    wanted |= {"generator": generator, "running": torch.empty(tensors["running"].numel(), device="meta")}
    for index, weight in enumerate(state.model.parameters() if info["step"] else ()):
        wanted |= {f"adam.{index}.step": torch.empty(()), f"adam.{index}.exp_avg": weight}
        wanted |= {f"adam.{index}.exp_avg_sq": weight}
    if wrong := misfits(tensors, wanted):
        raise ValueError(f"was made by another version of ddim_lib: {'; '.join(wrong[:4])}")
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"is damaged: {name} holds NaN or infinity")
        if name.endswith(".step") and value != info["step"]:
            raise ValueError(f"is damaged: {name} is {value.item():g} after {info['step']} steps")


def _check_numbers(info: dict[str, Any]) -> None:
    for name in ("step", "seconds"):
        if not is_number(info[name]) or info[name] < 0 or (name == "step" and not isinstance(info[name], int)):
            raise ValueError(f"is damaged: {name} must be a number of 0 or more, got {brief(repr(info[name]))}")
    if not (isinstance(info["loss"], float) or is_number(info["loss"])):
        raise ValueError(f"is damaged: loss must be a number, got {brief(repr(info['loss']))}")
    history = info["history"]
    pairs = isinstance(history, list) and all(isinstance(point, list) and len(point) == 2 for point in history)
    if not pairs or not all(is_number(value) for point in history for value in point):
        raise ValueError(f"is damaged: history must be a list of (step, loss), got {brief(repr(history))}")


def _restore(state: TrainState, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    state.generator.set_state(tensors["generator"])
    state.model.load_state_dict(_part(tensors, "model."))
    state.ema.load_state_dict(_part(tensors, "ema."))
    adam, weights = state.optimizer.state_dict(), list(state.model.parameters())
    for name, value in _part(tensors, "adam.").items():
        index, moment = name.split(".")
        if value.ndim:  # in the memory format of its weights, which the file does not keep
            value = torch.empty_like(weights[int(index)]).copy_(value)
        adam["state"].setdefault(int(index), {})[moment] = value
    state.optimizer.load_state_dict(adam)
    state.step, state.seconds = info["step"], info["seconds"]
    state.loss = torch.tensor(info["loss"], device=weights[0].device)
    state.history = [tuple(point) for point in info["history"]]
    state.running = list(tensors["running"].to(weights[0].device))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
