import hashlib
import json
import pickle
import re
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from conftest import perturbed

from ddim_lib import Schedule, UNet, WeightsError, ddim_sample, load_pretrained, make_tau, noise_prediction_loss
from ddim_lib import weights as weights_module
from ddim_lib.datasets import dataset_sha256
from ddim_lib.presets import PRESETS
from ddim_lib.variant import Variant
from ddim_lib.weights import WEIGHTS, load_tensors, load_weights, save_tensors, save_weights

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "mnist.safetensors").exists(), reason="ddim_lib/weights/mnist.safetensors is not there"
)


@pytest.fixture
def stored(tiny_unet, tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(path, tiny_unet, {"steps": 3})
    return path


def reseal(path, data):
    """Replace the tensors' file, with hashes that fit: what a forger would do."""
    path.write_bytes(data)
    info = json.loads(path.with_suffix(".json").read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    info["json_sha256"] = weights_module.json_sha256(info)
    path.with_suffix(".json").write_text(json.dumps(info))


# Round trip


def test_a_round_trip_keeps_every_bit_and_the_configuration(stored, tiny_unet):
    loaded = load_weights(stored)
    assert loaded.config == tiny_unet.config
    wanted, found = tiny_unet.state_dict(), loaded.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_variant_survives_and_files_from_before_there_were_any_hold_the_books_network(tmp_path, tiny_config):
    unet = UNet(replace(tiny_config, variant=Variant(residual=False, asymmetric=True, head_width=4)))
    path = tmp_path / "net.safetensors"
    save_weights(path, unet, {})
    assert load_weights(path).config == unet.config
    tensors, info = load_tensors(path)
    del info["config"]["variant"]
    save_tensors(path, tensors, info)
    assert load_weights(path).config == tiny_config


def test_loaded_networks_are_for_sampling_only(stored):
    loaded = load_weights(stored)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_loaded_weights_are_channels_last(stored):
    kernels = [p for p in load_weights(stored).parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_tensors_of_every_type_survive(tmp_path):
    tensors = {
        "doubles": torch.tensor([1 / 3, float("nan")], dtype=torch.float64),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "bf16": torch.tensor([0.1], dtype=torch.bfloat16),
        "none": torch.zeros(0),
        "turned": torch.rand(3, 4).T,
        "scalar": torch.tensor(2.0),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"step": 1})
    found, info = load_tensors(tmp_path / "t.safetensors")
    assert info["step"] == 1
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].nan_to_num(-1), tensor.nan_to_num(-1))


def test_the_json_holds_provenance_and_the_files_hash(stored):
    info = json.loads(stored.with_suffix(".json").read_text())
    assert info["steps"] == 3
    assert info["sha256"] == hashlib.sha256(stored.read_bytes()).hexdigest()


def test_nothing_but_the_pair_is_left_in_the_folder(stored):
    assert sorted(path.name for path in stored.parent.iterdir()) == ["net.json", "net.safetensors"]


# Damage


@pytest.mark.parametrize("keep", [0, 1, 8, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(stored, keep):
    data = stored.read_bytes()
    stored.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(WeightsError, match=f"{re.escape(str(stored))} is truncated or altered"):
        load_weights(stored)


@pytest.mark.parametrize("at", [0, 0.001, 0.3, 0.7, 0.9999])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found(stored, at, bit):
    data = bytearray(stored.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    stored.write_bytes(data)
    with pytest.raises(WeightsError, match="truncated or altered"):
        load_weights(stored)


def test_weights_under_the_json_of_others_are_refused(stored, tiny_unet):
    other = stored.with_name("other.safetensors")
    save_weights(other, perturbed(tiny_unet, seed=1), {})
    other.with_suffix(".json").replace(stored.with_suffix(".json"))
    with pytest.raises(WeightsError, match=r"net.safetensors is truncated or altered"):
        load_weights(stored)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\xff\xfe"], ids=repr)
def test_a_json_that_is_none_is_refused(stored, text):
    stored.with_suffix(".json").write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=r"net\.(json|safetensors)"):
        load_weights(stored)


def test_a_truncated_json_is_refused(stored):
    path = stored.with_suffix(".json")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} is not valid JSON"):
        load_weights(stored)


def test_a_flipped_bit_in_the_json_never_gives_another_network(stored, tiny_unet):
    path = stored.with_suffix(".json")
    text = path.read_bytes()
    silent = []
    for at in range(text.index(b'"config"'), text.index(b'"steps"')):
        path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        try:
            loaded = load_weights(stored)
        except WeightsError:
            continue
        if loaded.config != tiny_unet.config:
            silent.append(path.read_text()[at - 12 : at + 5])
    assert silent == []


@pytest.mark.parametrize("missing", [".json", ".safetensors"])
def test_a_missing_half_is_named(stored, missing):
    stored.with_suffix(missing).unlink()
    with pytest.raises(WeightsError, match=f"no weights at {re.escape(str(stored.with_suffix(missing)))}"):
        load_weights(stored)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": [8, 8]},
        {"channels": []},
        {"channels": "wide"},
        {"channels": [8, 16, 32]},
        {"attention": [True]},
        {"groups": 0},
        {"groups": "four"},
        {"blocks": 2},
        {"depth": 3},
        {"variant": {"depth": 3}},
        {"variant": {"head_width": 3}},
        {"variant": []},
    ],
    ids=str,
)
def test_an_altered_configuration_is_refused(stored, change):
    tensors, info = load_tensors(stored)
    save_tensors(stored, tensors, info | {"config": info["config"] | change})
    with pytest.raises(WeightsError, match="does not fit its configuration"):
        load_weights(stored)


def test_weights_without_a_configuration_are_refused(stored):
    tensors, info = load_tensors(stored)
    del info["config"]
    save_tensors(stored, tensors, info)
    with pytest.raises(WeightsError, match="does not fit its configuration"):
        load_weights(stored)


def test_weights_of_another_network_are_refused(stored, tiny_config):
    other = UNet(replace(tiny_config, blocks=2)).state_dict()
    reseal(stored, safetensors.torch.save({k: v.contiguous() for k, v in other.items()}))
    with pytest.raises(WeightsError, match="does not fit its configuration"):
        load_weights(stored)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_refused_and_never_run(stored):
    reseal(stored, pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(stored)


def test_older_weights_survive_a_disk_that_fills_before_their_json(stored, tiny_unet, monkeypatch):
    kept = {name: tensor.clone() for name, tensor in tiny_unet.state_dict().items()}
    count = []

    def fails(descriptor):
        count.append(descriptor)
        if len(count) == 2:
            raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        save_weights(stored, perturbed(tiny_unet, seed=1), {"steps": 4})
    loaded = load_weights(stored).state_dict()
    assert all(torch.equal(loaded[name], kept[name]) for name in kept)


# The weights that come with the library


def test_an_unknown_pretrained_model_is_refused_by_name():
    with pytest.raises(ValueError, match="no pretrained model 'mnits'; there are: "):
        load_pretrained("mnits")


@needs_weights
@pytest.mark.parametrize(("name", "preset"), [("mnist", "mnist"), ("cifar10", "cifar10-small")])
def test_a_pretrained_network_says_how_it_was_trained(name, preset):
    info = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert info["command"].startswith(f"python -m ddim_lib train {preset} ")
    assert (info["dataset"], info["dataset_sha256"]) == (name, dataset_sha256(name))
    assert load_pretrained(name).config == PRESETS[preset].unet
    assert info["steps"] == info["train"]["steps"] > 0
    assert info["seed"] == info["train"]["seed"]
    assert 0 < info["final_loss"] < 0.05


@needs_weights
def test_the_pretrained_network_predicts_the_noise_in_digits(linear, mnist_5k):
    unet, generator = load_pretrained("mnist"), torch.Generator().manual_seed(0)
    images = mnist_5k[0][torch.randperm(5000, generator=generator)[:256]]
    assert noise_prediction_loss(unet, linear, images, generator) < 0.05


@needs_weights
def test_the_pretrained_network_draws_black_and_white_images_as_dark_as_mnist():
    unet = load_pretrained("mnist")
    xT = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    *_, last = ddim_sample(unet, Schedule.linear(unet.config.T), xT, make_tau(unet.config.T, 20))
    assert last.xt.mean().item() == pytest.approx(-0.74, abs=0.1)  # MNIST: 2 * 0.1307 - 1
    assert ((last.xt < -0.9) | (last.xt > 0)).double().mean() > 0.75


@needs_weights
def test_the_pretrained_network_draws_images_as_bright_and_as_smooth_as_photographs():
    unet = load_pretrained("cifar10")
    xT = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    *_, last = ddim_sample(unet, Schedule.linear(unet.config.T), xT, make_tau(unet.config.T, 20))
    color = last.xt.mean((0, 2, 3)) / 2 + 0.5
    torch.testing.assert_close(color, torch.tensor([0.4914, 0.4822, 0.4465]), rtol=0, atol=0.1)  # of the training set
    sides = torch.stack([last.xt[..., 1:].flatten(), last.xt[..., :-1].flatten()])
    assert torch.corrcoef(sides)[0, 1] > 0.85
