"""What `train NAME` trains: the presets, and the options that change them."""

import dataclasses

import pytest
import torch

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig
from ddim_lib.commands import SETTINGS, _train_config
from ddim_lib.presets import PRESETS
from ddim_lib.weights import load_tensors, load_weights

CPU = torch.device("cpu")


def train_config(*options):
    return _train_config(cli.parser().parse_args(["train", *options, "--out", "runs"]), CPU)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("mnist", 1e6, 3e6), ("cifar10", 10e6, 40e6), ("cifar10-small", 1e6, 3e6)]
)
def test_a_preset_has_as_many_weights_as_it_says(name, least, most):
    with torch.device("meta"):
        unet = UNet(PRESETS[name].unet)
    assert least < sum(weight.numel() for weight in unet.parameters()) < most


def test_the_presets_of_cifar10_see_its_images_mirrored_and_in_color():
    for name in ("cifar10", "cifar10-small"):
        preset = PRESETS[name]
        assert (preset.dataset, preset.unet.image_shape, preset.train.flip) == ("cifar10", (3, 32, 32), True)


def test_the_large_network_has_dropout_a_moving_average_and_a_warm_up():
    preset = PRESETS["cifar10"]
    assert preset.unet.dropout > 0
    assert preset.train.ema > 0.999
    assert preset.train.warmup > 0


@pytest.mark.parametrize("name", PRESETS)
def test_without_options_the_preset_is_trained(name):
    assert train_config(name) == PRESETS[name].train


def test_every_setting_can_be_changed_and_changes_nothing_else():
    values = {"steps": 7, "batch_size": 6, "accumulate": 2, "lr": 0.5, "focus": 0.25, "ema": 0.5, "seed": 3}
    assert set(values) == set(SETTINGS)
    for name, value in values.items():
        changed = train_config("cifar10", f"--{name.replace('_', '-')}", str(value))
        assert changed == dataclasses.replace(PRESETS["cifar10"].train, **{name: value})


def test_zero_is_a_value_and_not_the_preset():
    assert train_config("cifar10-small", "--focus", "0").focus == 0


def test_half_precision_halves_the_file_and_loads_in_float32(tmp_path, monkeypatch):
    tiny = UNetConfig(patch=1, channels=(4, 8), attention=(False, False), groups=4)
    monkeypatch.setitem(PRESETS, "mnist-5k", dataclasses.replace(PRESETS["mnist-5k"], unet=tiny))
    monkeypatch.setattr(cli.commands, "make_tau", lambda T, S: torch.tensor([0, T]))  # one evaluation a sheet
    tensors = {}
    for name, options in {"whole": [], "half": ["--half"]}.items():
        run = ["train", "mnist-5k", "--steps", "2", "--batch-size", "4", "--device", "cpu"]
        assert cli.main([*run, "--out", str(tmp_path / name), *options]) == 0
        tensors[name], _ = load_tensors(tmp_path / name / "ema.safetensors")
    assert {tensor.dtype for tensor in tensors["half"].values()} == {torch.float16}
    loaded = load_weights(tmp_path / "half" / "ema.safetensors").state_dict()
    for name, tensor in tensors["whole"].items():
        assert torch.equal(loaded[name], tensor.half().float())
