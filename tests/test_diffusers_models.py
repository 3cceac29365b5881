"""Networks to and from diffusers' folders; outputs are compared where diffusers is installed: `make diffusers`."""

import dataclasses
import importlib.util
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import perturbed
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim_lib
import ddim_lib.__main__ as cli
from ddim_lib import Schedule, UNet, UNetConfig, WeightsError, ddim_sample, from_diffusers, make_tau
from ddim_lib.diffusers_models import TENSORS, departures, to_diffusers
from ddim_lib.diffusers_names import DEFAULTS, their_config, their_state, unet_config
from ddim_lib.variant import BOOK, Variant
from ddim_lib.weights import save_weights

needs_diffusers = pytest.mark.skipif(
    not importlib.util.find_spec("diffusers"), reason="diffusers is not installed; `make diffusers` installs it"
)

BOUND = 1e-5
CIFAR10 = {  # config.json of google/ddpm-cifar10-32
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = {  # the same in small
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
}
SMALL = CIFAR10 | SMALL
THEIRS = Variant(residual=False, time_shift=1)


@st.composite
def their_configs(draw):
    """Fields of small UNet2DModels; those that are left out take the defaults of diffusers."""
    attention = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    fields = {
        "block_out_channels": [4 * draw(st.sampled_from([1, 2, 4])) for _ in attention],
        "down_block_types": [("DownBlock2D", "AttnDownBlock2D")[a] for a in attention],
        "up_block_types": [("UpBlock2D", "AttnUpBlock2D")[a] for a in reversed(attention)],
        "layers_per_block": draw(st.integers(1, 2)),
        "norm_num_groups": draw(st.sampled_from([1, 2, 4])),
        "attention_head_dim": draw(st.sampled_from([None, 2, 4])),
        "in_channels": (channels := draw(st.sampled_from([1, 3]))),
        "out_channels": channels,
    }
    choices = {
        "downsample_padding": [0, 1],
        "flip_sin_to_cos": [False, True],
        "freq_shift": [0, 1],
        "norm_eps": [1e-6, 1e-5, 1e-2],
        "act_fn": ["silu", "swish"],
        "dropout": [0.0, 0.1],
        "sample_size": [8, None],
    }
    return fields | {name: draw(st.sampled_from(values)) for name, values in choices.items() if draw(st.booleans())}


def their_model(fields, scale=0.05):
    """A UNet2DModel with its own random weights and, since those hold ones and zeros, some noise on each."""
    import diffusers

    torch.manual_seed(0)
    fields = {name: value for name, value in fields.items() if not name.startswith("_")}
    return perturbed(diffusers.UNet2DModel(**fields), scale).eval()


def inputs(channels=3, size=8):
    xt = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))
    return xt, torch.tensor([1, 500, 1000])


def difference(ours, theirs, xt, t):
    with torch.no_grad():
        found, wanted = ours(xt, t), theirs(xt, t - 1).sample
    assert wanted.abs().mean() > 0.01
    return (found - wanted).abs().max().item()


def written(folder, fields=SMALL, edit=None):
    """The folder of a network with these fields, as diffusers would write it; ``edit`` changes its tensors."""
    torch.manual_seed(0)
    config = unet_config(fields, 1000)
    tensors = their_state(perturbed(UNet(config)).state_dict(), config)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    tensors = {name: tensor.clone().contiguous() for name, tensor in (edit or dict)(tensors).items()}
    safetensors.torch.save_file(tensors, folder / TENSORS)
    return folder


# Outputs, both ways


@needs_diffusers
@given(fields=their_configs())
@settings(max_examples=20)
def test_random_models_of_diffusers_give_the_same_outputs_here(fields, tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("theirs"), their_model(fields)
    model.save_pretrained(folder)
    unet = from_diffusers(folder)
    assert difference(unet, model, *inputs(fields["in_channels"])) < BOUND


@needs_diffusers
@given(fields=their_configs())
@settings(max_examples=20)
def test_random_models_of_this_library_give_the_same_outputs_in_diffusers(fields, tmp_path_factory):
    import diffusers

    folder = tmp_path_factory.mktemp("ours")
    torch.manual_seed(1)
    unet = perturbed(UNet(unet_config({"_class_name": "UNet2DModel"} | fields, 1000)), scale=0.05).eval()
    to_diffusers(unet, folder, 8)
    model, report = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet", output_loading_info=True)
    assert not any(report.values()), report
    assert difference(unet, model, *inputs(fields["in_channels"])) < BOUND
    again = from_diffusers(folder)
    assert again.config == unet.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), unet.parameters(), strict=True))


@needs_diffusers
def test_the_published_architecture_at_full_size_gives_the_same_outputs_both_ways(tmp_path):
    import diffusers

    model = their_model(CIFAR10, scale=0.01)
    assert sum(p.numel() for p in model.parameters()) == 35_746_307
    model.save_pretrained(tmp_path / "theirs")
    unet = from_diffusers(tmp_path / "theirs")
    xt, t = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([700])
    assert difference(unet, model, xt, t) < BOUND
    to_diffusers(unet, tmp_path / "ours", 32)
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours", subfolder="unet")
    assert torch.equal(again(xt, t - 1).sample, model(xt, t - 1).sample)


@needs_diffusers
def test_the_old_names_of_attention_are_read(tmp_path):
    model = their_model(SMALL)
    model.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = safetensors.torch.load_file(tmp_path / TENSORS)
    renamed = {re.sub("to_[qkv]|to_out.0", lambda m: old[m[0]], name): tensor for name, tensor in tensors.items()}
    assert len(renamed.keys() - tensors.keys()) == 8 * 4
    safetensors.torch.save_file(renamed, tmp_path / TENSORS)
    assert difference(from_diffusers(tmp_path), model, *inputs()) < BOUND


@needs_diffusers
def test_the_defaults_are_those_of_diffusers():
    import diffusers

    parameters = inspect.signature(diffusers.UNet2DModel.__init__).parameters.values()
    theirs = {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}
    assert {name: value for name, value in theirs.items() if name != "self"} == DEFAULTS


# Pipelines


def pipeline_images(pipeline, S, eta):
    return pipeline(
        batch_size=2,
        generator=torch.Generator().manual_seed(3),
        eta=eta,
        num_inference_steps=S,
        output_type="pt",
    ).images


def our_images(unet, size, S, eta):
    generator, T = torch.Generator().manual_seed(3), unet.config.T
    xT = torch.randn(2, unet.config.in_channels, size, size, generator=generator)
    tau = make_tau(T, S, "leading")
    *_, last = ddim_sample(unet, Schedule.linear(T), xT, tau, eta, generator=generator)
    return (last.xt / 2 + 0.5).clamp(0, 1)


@needs_diffusers
@pytest.mark.parametrize(("S", "eta"), [(4, 0.0), (7, 0.0), (5, 1.0)])
def test_the_pipeline_of_an_exported_model_draws_the_images_of_our_sampler(tmp_path, S, eta):
    import diffusers

    torch.manual_seed(0)
    shape = {"channels": (8, 16), "attention": (False, True), "groups": 4}
    config = UNetConfig(3, patch=1, **shape, T=40, variant=THEIRS)  # so few times that x_T is not all noise
    unet = perturbed(UNet(config), scale=0.05).eval()
    to_diffusers(unet, tmp_path, 8)
    pipeline = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.unet) is diffusers.UNet2DModel
    found, wanted = pipeline_images(pipeline, S, eta), our_images(unet, 8, S, eta)
    assert ((wanted > 0) & (wanted < 1)).float().mean() > 0.5
    torch.testing.assert_close(found, wanted, rtol=0, atol=BOUND)


OPEN = """
import sys, torch, safetensors.torch
sys.modules["ddim_lib"] = None  # as where it is not installed
from diffusers import DDIMPipeline
pipeline = DDIMPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
images = pipeline(2, torch.Generator().manual_seed(3), num_inference_steps=4, output_type="pt").images
safetensors.torch.save_file({"images": images.contiguous()}, sys.argv[2])
"""


@needs_diffusers
def test_the_pretrained_model_is_exported_with_its_code_and_opens_without_this_library(tmp_path, capsys):
    import diffusers

    folder = tmp_path / "mnist"
    assert cli.main(["export-diffusers", "mnist", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "No UNet2DModel has patch = 2, residual = True, time_shift = 0: " in said
    assert f'DDIMPipeline.from_pretrained("{folder}", trust_remote_code=True) opens it' in said
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        diffusers.DDIMPipeline.from_pretrained(folder)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", OPEN, str(folder), str(tmp_path / "images")]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = safetensors.torch.load_file(tmp_path / "images")["images"]
    torch.testing.assert_close(found, our_images(ddim_lib.load_pretrained("mnist"), 28, 4, 0.0), rtol=0, atol=1e-5)


# What can be said without diffusers


def test_what_has_no_equal_is_named():
    assert departures(UNetConfig()) == ["patch = 2", "residual = True", "time_shift = 0"]
    assert departures(UNetConfig(patch=1, variant=THEIRS)) == []
    assert departures(UNetConfig(patch=1, variant=dataclasses.replace(THEIRS, residual=True))) == ["residual = True"]


def test_the_published_fields_survive_the_round_trip():
    config = unet_config(CIFAR10, 1000)
    assert config == UNetConfig(
        in_channels=3,
        patch=1,
        channels=(128, 256, 256, 256),
        blocks=2,
        attention=(False, True, False, False),
        groups=32,
        variant=Variant(residual=False, asymmetric=True, time_shift=1, freq_shift=1, guard=1e-6),
    )
    found = their_config(config, 32)
    assert {name: found[name] for name in CIFAR10 if name[0] != "_"} == {
        k: v for k, v in CIFAR10.items() if k[0] != "_"
    }


def test_a_folder_written_here_is_read_here(tmp_path):
    unet = from_diffusers(written(tmp_path / "published"))
    assert not unet.training
    assert not any(p.requires_grad for p in unet.parameters())
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in unet.parameters() if p.ndim == 4)
    to_diffusers(unet, tmp_path / "out", 8)
    again = from_diffusers(str(tmp_path / "out"))
    assert again.config == unet.config
    assert torch.equal(again(*inputs()), unet(*inputs()))


def test_weights_in_half_precision_come_in_float32(tmp_path):
    folder = written(tmp_path / "half", edit=lambda tensors: {name: t.half() for name, t in tensors.items()})
    assert {p.dtype for p in from_diffusers(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["scheduler_config.json", "scheduler/scheduler_config.json"])
def test_the_scheduler_beside_the_network_says_T(tmp_path, name):
    folder = written(tmp_path)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text('{"num_train_timesteps": 40}')
    assert from_diffusers(folder).config.T == 40


def test_a_name_on_the_hub_is_fetched_without_pickles(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    folder, asked = written(tmp_path / "snapshot"), []

    def snapshot_download(repo, allow_patterns):
        asked.append((repo, *allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert torch.equal(from_diffusers("owner/model")(*inputs()), from_diffusers(folder)(*inputs()))
    assert {repo for repo, *_ in asked} == {"owner/model"}
    assert {Path(name).suffix for _, *names in asked for name in names} == {".json", ".safetensors"}


def test_a_network_is_not_fetched_when_its_architecture_is_not_supported(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"act_fn": "gelu"}))
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda repo, allow_patterns: asked.append(allow_patterns) or tmp_path)
    with pytest.raises(WeightsError, match="act_fn"):
        from_diffusers("owner/model")
    assert not any(name.endswith(".safetensors") for names in asked for name in names)


def test_a_hub_that_does_not_answer_is_reported_in_one_line(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def fails(*_, **__):
        raise OSError("Cannot find the requested files\nand more")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(WeightsError, match=r"^no folder owner/model, and none fetched from the Hub: Cannot .* files$"):
        from_diffusers("owner/model")


def test_without_huggingface_hub_a_missing_folder_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"no folder owner/model, .* huggingface_hub is needed"):
        from_diffusers("owner/model")


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "_class_name must be 'UNet2DModel', got 'UNet2DConditionModel'"),
        ({"act_fn": "gelu"}, "act_fn must be 'silu' or 'swish', got 'gelu'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type must be 'positional', got 'fourier'"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift must be 'default', got 'scale_shift'"),
        ({"class_embed_type": "timestep"}, "class_embed_type must be None, got 'timestep'"),
        ({"num_class_embeds": 10}, "num_class_embeds must be None, got 10"),
        ({"add_attention": False}, "add_attention must be True, got False"),
        ({"mid_block_type": None}, "mid_block_type must be 'UNetMidBlock2D', got None"),
        ({"downsample_padding": 2}, "downsample_padding must be 0 or 1, got 2"),
        ({"downsample_type": "resnet"}, "downsample_type must be 'conv', got 'resnet'"),
        ({"out_channels": 6}, "out_channels must be 3, got 6"),
        ({"attn_norm_num_groups": 2}, "attn_norm_num_groups must be None or 4, got 2"),
        ({"time_embedding_dim": 16}, "time_embedding_dim must be None or 32, got 16"),
        (
            {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
            r"down_block_types must be of DownBlock2D and AttnDownBlock2D, got \['DownBlock2D', 'SkipDownBlock2D'\]",
        ),
        (
            {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]},
            r"up_block_types must be \['AttnUpBlock2D', 'UpBlock2D'\], got \['UpBlock2D', 'AttnUpBlock2D'\]",
        ),
        ({"encoder_hid_dim": 5}, "there must be no field 'encoder_hid_dim'; those known are sample_size, in_channels"),
        ({"norm_num_groups": 3}, "multiple of groups = 3"),
        ({"attention_head_dim": 3}, "multiple of the head width"),
        ({"block_out_channels": [8]}, "one entry a level"),
        ({"block_out_channels": []}, "is not supported"),
        ({"block_out_channels": None}, "is not supported"),
        ({"block_out_channels": ["8", "16"]}, "is not supported"),
        ({"layers_per_block": 0}, "blocks must be at least 1"),
        ({"norm_num_groups": None}, "is not supported"),
    ],
    ids=str,
)
def test_an_architecture_that_is_not_supported_is_refused_by_field(tmp_path, change, message):
    folder = written(tmp_path)
    (folder / "config.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(WeightsError, match=f"{re.escape(str(folder / 'config.json'))} is not supported: .*") as caught:
        from_diffusers(folder)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize("text", ["", "{", "\xff"], ids=repr)
def test_a_config_that_is_no_json_is_refused(tmp_path, text):
    (written(tmp_path) / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=r"config.json is not valid JSON"):
        from_diffusers(tmp_path)


def test_a_config_that_is_no_object_is_refused(tmp_path):
    (written(tmp_path) / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="must hold a JSON object, got list"):
        from_diffusers(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match=f"no folder {re.escape(str(tmp_path / 'x'))}, "):
        from_diffusers(tmp_path / "x")
    with pytest.raises(WeightsError, match=f"no config.json in {re.escape(str(tmp_path))}, nor in its folder unet"):
        from_diffusers(tmp_path)


def without(*names):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("conv_in.bias"), r"in 1 of \d+ tensors: conv_in.bias is missing, wanted \(8,\)$"),
        (
            lambda tensors: tensors | {"conv_in.weight": torch.zeros(8, 4, 3, 3)},
            r"in 1 of \d+ tensors: conv_in.weight is \(8, 4, 3, 3\), wanted \(8, 3, 3, 3\)$",
        ),
        (
            lambda tensors: tensors | {"class_embedding.weight": torch.zeros(10, 32)},
            r"in 1 of \d+ tensors: class_embedding.weight is \(10, 32\), wanted none$",
        ),
        (lambda tensors: {"x": torch.zeros(1)}, r"in (\d+) of \d+ tensors: time_embedding.*; .*; .*; [^;]*$"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_names_and_shapes(tmp_path, edit, message):
    folder = written(tmp_path, edit=edit)
    with pytest.raises(
        WeightsError, match=f"{re.escape(str(folder / TENSORS))} does not fit its config.json {message}"
    ):
        from_diffusers(folder)


def test_a_damaged_file_of_tensors_is_refused(tmp_path):
    path = written(tmp_path) / TENSORS
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} is truncated or altered, or is not a safeten"):
        from_diffusers(tmp_path)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_never_run_and_the_way_out_is_named(tmp_path):
    (written(tmp_path) / TENSORS).unlink()
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(
        WeightsError, match=rf"no .*{TENSORS}; a .bin file is a pickle, never loaded: convert .*save_pre"
    ):
        from_diffusers(tmp_path)
    (tmp_path / TENSORS).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        from_diffusers(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time_shift": 2}, "time_shift must be 0 or 1, got 2"),
        ({"freq_shift": -1}, "freq_shift must be 0 or 1, got -1"),
        ({"head_width": 0}, "head_width must be None or at least 1, got 0"),
        ({"guard": 0.0}, r"guard must lie in \(0, 1\), got 0.0"),
    ],
)
def test_a_variant_that_is_none_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BOOK, **values)


def test_the_narrowest_network_has_no_room_for_a_frequency_shift():
    with pytest.raises(ValueError, match="freq_shift of 1 needs a first width of at least 4"):
        UNetConfig(channels=(2,), attention=(False,), groups=1, variant=Variant(freq_shift=1))


# The command


def test_the_command_writes_a_plain_model_where_there_is_one(tmp_path, capsys):
    torch.manual_seed(0)
    unet = perturbed(UNet(unet_config(SMALL, 1000))).eval()
    save_weights(tmp_path / "net.safetensors", unet, {})
    arguments = ["export-diffusers", "mnist", "--weights", str(tmp_path / "net.safetensors"), "--out"]
    assert cli.main([*arguments, str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f'DDIMPipeline.from_pretrained("{tmp_path / "out"}") opens it\n'
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    wanted = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json", f"unet/{TENSORS}"}
    assert written == wanted
    assert json.loads((tmp_path / "out/unet/config.json").read_text())["sample_size"] == 32
    assert torch.equal(from_diffusers(tmp_path / "out")(*inputs()), unet(*inputs()))


def test_the_command_refuses_a_folder_in_use_and_a_size_that_does_not_fit(tmp_path, capsys):
    (tmp_path / "note").touch()
    assert cli.main(["export-diffusers", "mnist", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} holds files already" in capsys.readouterr().err
    assert cli.main(["export-diffusers", "mnist", "--size", "30", "--out", str(tmp_path / "new")]) == 2
    assert "size must be a multiple of 4 for this network, got 30" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_networks_with_their_code_are_not_read_back_by_class_name(tmp_path, tiny_unet):
    to_diffusers(tiny_unet, tmp_path, 8)
    with pytest.raises(WeightsError, match="_class_name must be 'UNet2DModel', got 'BookUNet'"):
        from_diffusers(tmp_path)
