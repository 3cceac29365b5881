import copy
import errno
import importlib
import math
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ddim_lib import Schedule, TrainConfig, UNet, UNetConfig, WeightsError, noise_prediction_loss, train
from ddim_lib.checkpoints import checkpoint_files, load_checkpoint, save_checkpoint
from ddim_lib.datasets import to_unit
from ddim_lib.train import draw_times, learning_rate, start, update_ema
from ddim_lib.variant import Variant
from ddim_lib.weights import load_tensors, save_tensors

TRAIN = importlib.import_module("ddim_lib.train")  # the name ddim_lib.train is the function
CONFIG = TrainConfig(steps=7, batch_size=4, warmup=2, seed=3)


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def last_of(states):
    for state in states:  # noqa: B007
        pass
    return state


def tensors_of(state):
    """Everything that a checkpoint must bring back, by name."""
    found = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    found |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for i, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"adam.{i}.{k}": v for k, v in moments.items()}
    found |= {f"running.{i}": loss for i, loss in enumerate(state.running)}
    return found | {"generator": state.generator.get_state(), "loss": state.loss}


# The loss


def test_a_model_that_knows_the_noise_has_no_loss(short):
    x0 = torch.rand(5, 1, 2, 2, dtype=torch.float64)

    def model(xt, t):
        ab = short.alpha_bar[t].view(-1, 1, 1, 1)
        return (xt - ab.sqrt() * x0) / (1 - ab).sqrt()

    assert noise_prediction_loss(model, short, x0) < 1e-20


def test_a_model_that_says_zero_loses_the_variance_of_the_noise(short):
    loss = noise_prediction_loss(
        lambda xt, t: 0 * xt, short, torch.zeros(4000, 1, 2, 2), torch.Generator().manual_seed(0)
    )
    assert loss.item() == pytest.approx(1, abs=4 * math.sqrt(2 / 16_000))


def test_times_are_uniform_on_1_to_T():
    seen, schedule = [], Schedule.linear(3)
    model = lambda xt, t: seen.append(t) or xt  # noqa: E731
    noise_prediction_loss(model, schedule, torch.zeros(3000, 1, 1, 1), torch.Generator().manual_seed(0))
    counts = torch.bincount(seen[0], minlength=5)
    assert counts[[0, 4]].tolist() == [0, 0]
    assert (counts[1:4] - 1000).abs().max() < 4 * math.sqrt(3000 * 1 / 3 * 2 / 3)


def test_the_model_sees_a_state_as_noisy_as_its_time():
    def model(xt, t):
        for time, variance in ((1, 0.36), (2, 0.75)):
            assert xt[t == time].std().item() == pytest.approx(math.sqrt(variance), rel=0.05)
            assert xt[t == time].mean().item() == pytest.approx({1: 0.8, 2: 0.5}[time], abs=0.05)
        return xt

    schedule = Schedule.from_alpha_bar([1.0, 0.64, 0.25])
    noise_prediction_loss(model, schedule, torch.ones(2000, 1, 2, 2), torch.Generator().manual_seed(0))


def test_the_loss_draws_from_the_given_generator_only(short):
    before = torch.get_rng_state()
    losses = [
        noise_prediction_loss(lambda xt, t: xt, short, torch.zeros(3, 1, 2, 2), torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)


# The pieces of training


def test_the_moving_average_by_hand():
    ema, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        for parameter, value in zip([*ema.parameters(), *model.parameters()], [1.0, 2.0, 3.0, -2.0], strict=True):
            parameter.fill_(value)
    update_ema(ema, model, 0.75)
    assert [p.item() for p in ema.parameters()] == [1.5, 1.0]
    assert [p.item() for p in model.parameters()] == [3.0, -2.0]


def test_the_average_follows_fast_in_the_first_steps(tiny_unet, images, short):
    before = copy.deepcopy(tiny_unet).state_dict()
    state = next(train(tiny_unet, images, short, CONFIG))
    for name, average in state.ema.state_dict().items():  # the first decay is 1 / 10
        wanted = 0.1 * before[name] + 0.9 * state.model.state_dict()[name]
        torch.testing.assert_close(average, wanted, rtol=0, atol=1e-6)


def test_the_decay_never_exceeds_the_configured_one(tiny_unet, images, short):
    state = next(train(tiny_unet, images, short, replace(CONFIG, ema=0.0)))
    for name, average in state.ema.state_dict().items():
        torch.testing.assert_close(average, state.model.state_dict()[name], rtol=0, atol=1e-7)


def test_the_learning_rate_by_hand():
    config = TrainConfig(steps=10, lr=2.0, warmup=4, cooldown=0.2)
    found = [learning_rate(step, config) for step in range(11)]
    assert found == pytest.approx([0.4, 0.8, 1.2, 1.6, 2, 2, 2, 2, 2, 1, 0])


def test_without_warmup_and_cooldown_the_learning_rate_is_constant():
    config = TrainConfig(steps=10, lr=2.0, warmup=0, cooldown=0.0)
    assert [learning_rate(step, config) for step in range(10)] == [2.0] * 10


def test_the_first_adam_step_moves_every_weight_by_the_learning_rate(tiny_unet, images, short):
    before = copy.deepcopy(tiny_unet).state_dict()
    config = replace(CONFIG, lr=1e-3, warmup=3)
    next(train(tiny_unet, images, short, config))
    moved = torch.cat([(tiny_unet.state_dict()[k] - v).abs().flatten() for k, v in before.items()])
    assert moved.median().item() == pytest.approx(1e-3 / 4, rel=0.01)  # a quarter of lr in the first of four steps


def test_the_average_starts_as_a_copy_that_does_not_train(tiny_unet):
    state = start(tiny_unet, CONFIG)
    assert not state.ema.training
    assert not any(p.requires_grad for p in state.ema.parameters())
    assert all(torch.equal(state.ema.state_dict()[k], v) for k, v in tiny_unet.state_dict().items())
    assert math.isnan(state.loss)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"cooldown": 1.0},
        {"cooldown": -0.1},
        {"ema": 1.0},
        {"ema": -0.1},
        {"focus": 1.5},
        {"warmup": -1},
        {"accumulate": 0},
        {"seed": -1},
        {"seed": 2**31},
    ],
    ids=str,
)
def test_a_configuration_that_is_none_is_refused_by_name(values):
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"{name} .*got {value}"):
        TrainConfig(**values)


# Training


def test_training_yields_every_step_and_then_stops(tiny_unet, images, short):
    assert [state.step for state in train(tiny_unet, images, short, CONFIG)] == [1, 2, 3, 4, 5, 6, 7]


def test_training_is_repeatable_bit_for_bit(tiny_unet, images, short):
    first, second = (tensors_of(last_of(train(copy.deepcopy(tiny_unet), images, short, CONFIG))) for _ in range(2))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_another_seed_trains_otherwise(tiny_unet, images, short):
    first, second = (next(train(copy.deepcopy(tiny_unet), images, short, replace(CONFIG, seed=i))) for i in (1, 2))
    assert first.loss != second.loss


def test_history_holds_the_mean_loss_of_each_stretch(tiny_unet, images, short, monkeypatch):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 3)
    losses = []
    for state in train(tiny_unet, images, short, CONFIG):
        losses.append(state.loss.item())
    assert [step for step, _ in state.history] == [3, 6]
    assert [mean for _, mean in state.history] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:6]) / 3])


def test_one_batch_can_be_overfitted_by_a_network_that_heeds_the_time(linear, mnist_5k):
    eight = torch.nn.functional.pad(mnist_5k[0][::625], (2, 2, 2, 2), value=-1)
    eight = torch.nn.functional.avg_pool2d(eight, 4)
    torch.manual_seed(0)
    unet = UNet(UNetConfig(channels=(16,), attention=(False,), groups=4))
    config = TrainConfig(steps=200, batch_size=32, lr=5e-3, warmup=20, ema=0.99)
    last_of(train(unet, eight, linear, config))
    unet.eval()
    many = eight.repeat(32, 1, 1, 1)
    with torch.no_grad():
        at_the_time, at_another = (
            noise_prediction_loss(model, linear, many, torch.Generator().manual_seed(9)).item()
            for model in (unet, lambda xt, t: unet(xt, 1001 - t))
        )
    assert at_the_time < 0.1  # an untrained network loses 1
    assert at_another > 2 * at_the_time  # a time-blind one would lose the same


def test_bf16_keeps_the_weights_in_float32(tiny_unet, images, short):
    state = last_of(train(tiny_unet, images, short, replace(CONFIG, bf16=True)))
    assert math.isfinite(state.loss)
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}


def test_training_on_a_device_leaves_everything_there(device, tiny_unet, images, short):
    state = last_of(train(tiny_unet.to(device), images, short, CONFIG))
    assert {p.device.type for net in (state.model, state.ema) for p in net.parameters()} == {device.type}


@pytest.mark.parametrize(
    "bad",
    [
        torch.full((2, 1, 8, 8), 1.01),
        torch.full((2, 1, 8, 8), -1.01),
        torch.full((2, 1, 8, 8), math.nan),
        torch.zeros(2, 1, 8, 8, dtype=torch.int64),
        torch.zeros(2, 8, 8),
        torch.zeros(0, 1, 8, 8),
    ],
    ids=["above 1", "below -1", "NaN", "int64", "no channels", "none"],
)
def test_images_that_are_none_are_refused_at_once(tiny_unet, short, bad):
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) floats in \[-1, 1\]"):
        train(tiny_unet, bad, short, CONFIG)


def test_a_loss_that_is_nan_stops_training(tiny_unet, images, short, monkeypatch):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 2)
    with torch.no_grad():
        tiny_unet.conv_out.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1, with the learning rate 0\.000333"):
        last_of(train(tiny_unet, images, short, CONFIG))


def test_a_loss_that_is_nan_is_found_at_the_end_of_a_short_run_too(tiny_unet, images, short):
    states = train(tiny_unet, images, short, CONFIG)
    next(states)
    with torch.no_grad():
        tiny_unet.conv_out.bias.fill_(math.inf)
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) at step 2, "):
        last_of(states)


def test_bytes_and_floats_train_alike(tiny_unet, short):
    pixels = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = (last_of(train(copy.deepcopy(tiny_unet), x, short, CONFIG)) for x in (pixels, to_unit(pixels)))
    assert pixels.dtype == torch.uint8
    assert all(torch.equal(tensors_of(first)[name], tensor) for name, tensor in tensors_of(second).items())


def test_a_batch_in_parts_has_the_gradient_of_the_whole(tiny_unet, images, short):
    config = replace(CONFIG, focus=0.5, flip=True)
    whole, parts = (
        list(losses_and_gradients(copy.deepcopy(tiny_unet), images, short, replace(config, accumulate=k)))
        for k in (1, 4)
    )
    for (loss, gradients), (other_loss, others) in zip(whole, parts, strict=True):
        torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(others, gradients, rtol=1e-3, atol=1e-5)


def losses_and_gradients(unet, images, schedule, config):
    for state in train(unet, images, schedule, config):
        yield state.loss, [p.grad.clone() for p in unet.parameters()]


def test_a_batch_that_cannot_be_cut_evenly_is_refused_at_once(tiny_unet, images, short):
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of accumulate \* processes = 3 \* 1, got 4"):
        train(tiny_unet, images, short, replace(CONFIG, accumulate=3))


def test_a_batch_too_large_for_memory_says_what_to_lower(tiny_unet, images, short):
    states = train(tiny_unet, images, short, replace(CONFIG, batch_size=10**14))  # more than can be addressed
    with pytest.raises(MemoryError, match=f"batch_size = {10**14} with accumulate = 1: lower batch_size, or raise"):
        next(states)


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(tiny_unet, images, short):
    tiny_unet.conv_out.bias = torch.nn.Parameter(torch.zeros(7))
    with pytest.raises(RuntimeError, match="expected bias"):
        next(train(tiny_unet, images, short, CONFIG))


def test_importing_the_library_does_not_import_accelerate():
    code = "import ddim_lib, sys; sys.exit('accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Checkpoints


def assert_resuming_is_exact(unet_config, images, schedule, folder, stop, config=CONFIG):
    torch.manual_seed(0)
    whole = last_of(train(UNet(unet_config), images, schedule, config))

    torch.manual_seed(0)
    for state in train(UNet(unet_config), images, schedule, config):
        if state.step == stop:
            save_checkpoint(folder, state, config)
            break
    torch.manual_seed(1)  # a new process
    unet = UNet(unet_config)
    resumed = load_checkpoint(folder, unet, config)
    assert (resumed.step, resumed.loss) == (stop, state.loss)
    resumed = last_of(train(unet, images, schedule, config, resumed))

    assert resumed.step == whole.step == 7
    assert resumed.history == whole.history
    assert len(whole.history) == 3
    wanted, found = tensors_of(whole), tensors_of(resumed)
    assert wanted.keys() == found.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tiny_config, images, short, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 2)
    assert_resuming_is_exact(tiny_config, images, short, tmp_path, stop)


def test_a_resumed_run_with_dropout_flips_and_parts_equals_an_uninterrupted_one(
    tiny_config, images, short, tmp_path, monkeypatch
):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 2)
    config = replace(CONFIG, flip=True, accumulate=2)
    assert_resuming_is_exact(replace(tiny_config, dropout=0.2), images, short, tmp_path, 3, config)


def test_loading_trains_the_network_it_was_given(tiny_config, images, short, tmp_path):
    save_checkpoint(tmp_path, next(train(UNet(tiny_config), images, short, CONFIG)), CONFIG)
    unet = UNet(tiny_config)
    assert load_checkpoint(tmp_path, unet, CONFIG).model is unet


def test_seconds_are_kept_over_runs(tiny_unet, images, short, tmp_path):
    state = next(train(tiny_unet, images, short, CONFIG))
    state.seconds = 1234.5
    save_checkpoint(tmp_path, state, CONFIG)
    assert load_checkpoint(tmp_path, tiny_unet, CONFIG).seconds == 1234.5


def test_a_checkpoint_from_before_there_were_variants_is_of_the_books_network(tiny_config, images, short, tmp_path):
    path = save_checkpoint(tmp_path, next(train(UNet(tiny_config), images, short, CONFIG)), CONFIG)
    tensors, info = load_tensors(path)
    del info["unet"]["variant"]
    save_tensors(path, tensors, info)
    assert load_checkpoint(tmp_path, UNet(tiny_config), CONFIG).step == 1
    with pytest.raises(WeightsError, match="made with variant = "):
        load_checkpoint(tmp_path, UNet(replace(tiny_config, variant=Variant(residual=False))), CONFIG)


@pytest.mark.parametrize(("keep", "steps"), [(1, [7]), (2, [6, 7]), (20, [1, 2, 3, 4, 5, 6, 7])])
def test_the_newest_checkpoints_are_kept(tiny_unet, images, short, tmp_path, keep, steps):
    (tmp_path / "ema.safetensors").write_bytes(b"not ours")
    for state in train(tiny_unet, images, short, CONFIG):
        save_checkpoint(tmp_path, state, CONFIG, keep)
    names = [f"checkpoint-{step:08d}{suffix}" for step in steps for suffix in (".json", ".safetensors")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "ema.safetensors"]


def test_keeping_no_checkpoint_is_refused(tiny_unet, images, short, tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG, keep=0)


def test_what_a_killed_process_left_is_cleared_up(tiny_unet, images, short, tmp_path):
    for name in (".checkpoint-00000002.safetensors.77.tmp", "checkpoint-00000001.safetensors"):  # without its JSON
        (tmp_path / name).write_bytes(b"part")
    *_, state = train(tiny_unet, images, short, CONFIG)
    save_checkpoint(tmp_path, state, CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"checkpoint-00000007.{x}" for x in ("json", "safetensors")
    ]


@pytest.fixture
def seven(tiny_unet, images, short, tmp_path):
    """A folder with the checkpoints of steps 1 to 7, oldest first."""
    for state in train(tiny_unet, images, short, CONFIG):
        save_checkpoint(tmp_path, state, CONFIG, keep=7)
    return checkpoint_files(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damaged", [1, 3])
def test_damaged_checkpoints_are_passed_over_with_a_warning(seven, tiny_config, suffix, damaged):
    for path in seven[-damaged:]:
        file = path.with_suffix(suffix)
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"truncated or altered|not valid JSON") as caught:
        state = load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)
    assert state.step == 7 - damaged
    for path, warning in zip(reversed(seven[-damaged:]), caught, strict=True):
        assert path.stem in str(warning.message)
        assert str(warning.message).endswith(f"going on from {seven[-damaged - 1].name}")


def test_a_damaged_checkpoint_never_crowds_out_a_whole_one(seven, tiny_unet, tiny_config, images, short):
    seven[-1].write_bytes(b"")
    with pytest.warns(UserWarning, match="going on from checkpoint-00000006"):
        state = load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)
    save_checkpoint(seven[0].parent, state, CONFIG, keep=1)
    assert [path.name for path in checkpoint_files(seven[0].parent)] == [path.name for path in seven[-2:]]


def test_if_all_checkpoints_are_damaged_the_newest_is_named(seven, tiny_config):
    for path in seven:
        path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"checkpoint-00000007.*truncated or altered.*no older checkpoint is whole"):
        load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)


def test_loaded_moments_have_the_memory_format_of_their_weights(seven, tiny_config):
    state = load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)
    for weight, moments in state.optimizer.state.items():
        assert all(moments[name].stride() == weight.stride() for name in ("exp_avg", "exp_avg_sq"))


def test_a_checkpoint_of_another_data_set_is_refused(tiny_unet, images, short, tmp_path):
    save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG, dataset="mnist")
    with pytest.raises(WeightsError, match="made with dataset = mnist, this run asks for mnist-5k"):
        load_checkpoint(tmp_path, tiny_unet, CONFIG, "mnist-5k")


def rewritten(path, change):
    """Seal a checkpoint again after a change of its tensors."""
    tensors, info = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors, info)


def test_a_checkpoint_of_another_kind_of_device_is_refused(seven, tiny_config):
    rewritten(seven[-1], lambda tensors: tensors.update(generator=torch.zeros(16, dtype=torch.uint8)))  # as CUDA's
    with pytest.raises(WeightsError, match="made on another kind of device than cpu"):
        load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)


@pytest.mark.parametrize("name", ["generator", "conv_in.weight", "running"])
def test_a_checkpoint_of_another_version_is_refused(seven, tiny_config, name):
    rewritten(seven[-1], lambda tensors: tensors.pop(name if name in tensors else f"model.{name}"))
    with pytest.raises(WeightsError, match="made by another version of ddim_lib: .*" + name):
        load_checkpoint(seven[0].parent, UNet(tiny_config), CONFIG)


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_a_state_that_diverged_is_not_saved(tiny_unet, images, short, tmp_path, what):
    state = next(train(tiny_unet, images, short, CONFIG))
    with torch.no_grad():
        (state.running[0] if what == "loss" else tiny_unet.conv_in.weight[0, 0, 0, 0]).fill_(math.nan)
    with pytest.raises(FloatingPointError, match=f"{what} is (nan|NaN or infinite) (at|after) step 1, with the"):
        save_checkpoint(tmp_path, state, CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("train_values", "unet_values", "message"),
    [
        ({"lr": 0.5}, {}, "made with lr = 0.001, this run asks for 0.5"),
        ({"batch_size": 5}, {}, "made with batch_size = 4, this run asks for 5"),
        ({"seed": 4}, {}, "made with seed = 3, this run asks for 4"),
        ({"ema": 0.5}, {}, "made with ema = 0.999, this run asks for 0.5"),
        ({}, {"blocks": 2}, "made with blocks = 1, this run asks for 2"),
        ({}, {"channels": (8, 8)}, r"made with channels = \(8, 16\), this run asks for \(8, 8\)"),
    ],
)
def test_resuming_with_another_configuration_is_refused_by_name(
    tiny_config, images, short, tmp_path, train_values, unet_values, message
):
    save_checkpoint(tmp_path, next(train(UNet(tiny_config), images, short, CONFIG)), CONFIG)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(tmp_path, UNet(replace(tiny_config, **unet_values)), replace(CONFIG, **train_values))


def test_resuming_may_ask_for_more_steps_and_more_parts(tiny_unet, images, short, tmp_path):
    save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG)
    more = replace(CONFIG, steps=9, accumulate=2)
    assert last_of(train(tiny_unet, images, short, more, load_checkpoint(tmp_path, tiny_unet, more))).step == 9


def test_a_folder_without_a_checkpoint_is_named(tiny_unet, tmp_path):
    with pytest.raises(WeightsError, match=f"no checkpoint in {re.escape(str(tmp_path))}"):
        load_checkpoint(tmp_path, tiny_unet, CONFIG)


def test_a_checkpoint_without_its_seal_is_not_one(tiny_unet, images, short, tmp_path):
    path = save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="no checkpoint in"):
        load_checkpoint(tmp_path, tiny_unet, CONFIG)


@pytest.mark.parametrize("at", [0.01, 0.5, 0.99])
def test_a_flipped_bit_in_a_checkpoint_is_found(tiny_unet, images, short, tmp_path, at):
    path = save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} is truncated or altered"):
        load_checkpoint(tmp_path, tiny_unet, CONFIG)


@pytest.mark.parametrize("field", ["step", "unet", "train", "history", "seconds", "sha256"])
def test_a_checkpoint_whose_json_lost_a_field_is_refused(tiny_unet, images, short, tmp_path, field):
    path = save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG).with_suffix(".json")
    text = path.read_text()
    assert f'"{field}"' in text
    path.write_text(text.replace(f'"{field}"', '"lost"', 1))
    with pytest.raises(WeightsError, match="checkpoint-00000001"):
        load_checkpoint(tmp_path, tiny_unet, CONFIG)


# A disk that fills


@contextmanager
def file_size_limit(size):
    """Let the kernel stop every write past ``size`` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ and raises OSError
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def two_states(tiny_unet, images, short, tmp_path):
    """A saved checkpoint of step 1, its tensors, and the state of step 2 that is to be saved over it."""
    states = train(tiny_unet, images, short, CONFIG)
    state = next(states)
    save_checkpoint(tmp_path, state, CONFIG)
    kept = {name: tensor.clone() for name, tensor in tensors_of(state).items()}
    return kept, next(states)


def assert_step_1_survives(folder, kept, tiny_config):
    assert [path.name for path in folder.iterdir() if "tmp" in path.name] == []
    state = load_checkpoint(folder, UNet(tiny_config), CONFIG)
    assert state.step == 1
    found = tensors_of(state)
    assert all(torch.equal(found[name], kept[name]) for name in kept if name != "loss")


@pytest.mark.parametrize("size", [0, 20_000])
def test_a_disk_that_fills_leaves_the_older_checkpoint(two_states, tiny_config, tmp_path, size):
    kept, state = two_states
    with pytest.raises(OSError, match="File too large"), file_size_limit(size):
        save_checkpoint(tmp_path, state, CONFIG)
    assert_step_1_survives(tmp_path, kept, tiny_config)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_disk_that_fills_at_any_of_its_calls_leaves_the_older_checkpoint(
    two_states, tiny_config, tmp_path, monkeypatch, call, which
):
    kept, state = two_states
    real, count = getattr(os, call), []

    def fails(*args):
        count.append(args)
        if len(count) == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, state, CONFIG)
    assert_step_1_survives(tmp_path, kept, tiny_config)


def test_after_a_full_disk_the_next_checkpoint_clears_up(two_states, tiny_config, tmp_path):
    _, state = two_states
    with pytest.raises(OSError, match="File too large"), file_size_limit(20_000):
        save_checkpoint(tmp_path, state, CONFIG)
    save_checkpoint(tmp_path, state, CONFIG)
    assert load_checkpoint(tmp_path, UNet(tiny_config), CONFIG).step == 2
    assert len(list(tmp_path.iterdir())) == 4


# The times


def test_times_are_uniform_over_1_to_T():
    t = draw_times(200_000, 10, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert t.dtype == torch.int64
    counts = t.bincount(minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11
    assert (counts[1:] - 20_000).abs().max() < 4 * (20_000 * 0.9) ** 0.5


def test_focus_draws_its_share_of_the_times_around_the_middle():
    t = draw_times(200_000, 1000, torch.Generator().manual_seed(0), torch.device("cpu"), focus=0.5)
    assert t.min() >= 1
    assert t.max() <= 1000
    # P(|z| < ln 4) = 0.8344 of a logit-normal lies between T / 5 and 4 T / 5, and 0.6 of a uniform one
    share = ((t > 200) & (t <= 800)).double()
    for part, expected in ((share[:100_000], 0.83436), (share[100_000:], 0.6)):
        assert abs(part.mean() - expected) < 4 * (expected * (1 - expected) / 100_000) ** 0.5
