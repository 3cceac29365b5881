"""The state of a training run on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .train import TrainConfig, TrainState, start
from .unet import UNet
from .weights import WeightsError, load_tensors, save_tensors


def save_checkpoint(folder: Path, state: TrainState, config: TrainConfig) -> Path:
    """Write ``checkpoint-STEP.safetensors`` and its JSON, then remove the older ones.

    Nothing older is touched until the new files are complete, so a full disk or a kill leaves the last checkpoint.
    """
    if not all(p.isfinite().all() for p in state.model.parameters()):
        raise FloatingPointError(f"the weights are NaN or infinite after step {state.step}; no checkpoint was written")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
    tensors["generator"] = state.generator.get_state()
    tensors["running"] = torch.stack(state.running).cpu() if state.running else torch.zeros(0)
    path = folder / f"checkpoint-{state.step:08d}.safetensors"
    info = {"step": state.step, "unet": asdict(state.model.config), "train": asdict(config)}
    info |= {"history": state.history, "seconds": state.seconds}
    save_tensors(path, tensors, info)
    for old in folder.glob("checkpoint-*"):
        if old.stem < path.stem:
            old.unlink()
    return path


def load_checkpoint(folder: Path, unet: UNet, config: TrainConfig) -> TrainState:
    """Load the newest checkpoint of ``folder`` into ``unet``; pass the state to :func:`train` to go on.

    Raises:
        WeightsError: no checkpoint, a damaged one, or one of another configuration (``steps`` alone may differ).
    """
    sealed = sorted(path for path in folder.glob("checkpoint-*.safetensors") if path.with_suffix(".json").exists())
    if not sealed:
        raise WeightsError(f"no checkpoint in {folder}; train without --resume first")
    tensors, info = load_tensors(sealed[-1])
    _check_same_run(info, unet, config, sealed[-1])
    state = start(unet, config)
    state.model.load_state_dict(_part(tensors, "model."))
    state.ema.load_state_dict(_part(tensors, "ema."))
    adam = state.optimizer.state_dict()
    for name, value in _part(tensors, "adam.").items():
        index, moment = name.split(".")
        adam["state"].setdefault(int(index), {})[moment] = value
    state.optimizer.load_state_dict(adam)
    state.generator.set_state(tensors["generator"])
    state.step, state.seconds = info["step"], info["seconds"]
    state.history = [tuple(point) for point in info["history"]]
    state.running = list(tensors["running"].to(next(unet.parameters()).device))
    return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_same_run(info: dict[str, Any], unet: UNet, config: TrainConfig, path: Path) -> None:
    stored = {"unet": info["unet"], "train": info["train"] | {"steps": config.steps}}
    stored["unet"] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["unet"].items()}
    wanted = {"unet": asdict(unet.config), "train": asdict(config)}
    for part, values in wanted.items():
        for key, value in values.items():
            if stored[part].get(key) != value:
                raise WeightsError(f"{path} was made with {key} = {stored[part].get(key)}, this run asks for {value}")
