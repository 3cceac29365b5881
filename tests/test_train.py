import copy
import errno
import importlib
import math
import os
import re
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ddim_lib import Schedule, TrainConfig, UNet, UNetConfig, WeightsError, noise_prediction_loss, train
from ddim_lib.checkpoints import load_checkpoint, save_checkpoint
from ddim_lib.train import draw_times, learning_rate, start, update_ema

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
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 8, 8),
        torch.zeros(0, 1, 8, 8),
    ],
    ids=["above 1", "below -1", "NaN", "uint8", "no channels", "none"],
)
def test_images_that_are_none_are_refused_at_once(tiny_unet, short, bad):
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) floats in \[-1, 1\]"):
        train(tiny_unet, bad, short, CONFIG)


def test_a_loss_that_is_nan_stops_training(tiny_unet, images, short, monkeypatch):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 2)
    with torch.no_grad():
        tiny_unet.conv_out.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan in the 2 steps up to 2"):
        last_of(train(tiny_unet, images, short, CONFIG))


# Checkpoints


def assert_resuming_is_exact(config, images, schedule, folder, stop):
    torch.manual_seed(0)
    whole = last_of(train(UNet(config), images, schedule, CONFIG))

    torch.manual_seed(0)
    for state in train(UNet(config), images, schedule, CONFIG):
        if state.step == stop:
            save_checkpoint(folder, state, CONFIG)
            break
    torch.manual_seed(1)  # a new process
    unet = UNet(config)
    resumed = load_checkpoint(folder, unet, CONFIG)
    assert resumed.step == stop
    resumed = last_of(train(unet, images, schedule, CONFIG, resumed))

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


def test_a_resumed_run_with_dropout_equals_an_uninterrupted_one(tiny_config, images, short, tmp_path, monkeypatch):
    monkeypatch.setattr(TRAIN, "HISTORY_EVERY", 2)
    assert_resuming_is_exact(replace(tiny_config, dropout=0.2), images, short, tmp_path, 3)


def test_loading_trains_the_network_it_was_given(tiny_config, images, short, tmp_path):
    save_checkpoint(tmp_path, next(train(UNet(tiny_config), images, short, CONFIG)), CONFIG)
    unet = UNet(tiny_config)
    assert load_checkpoint(tmp_path, unet, CONFIG).model is unet


def test_seconds_are_kept_over_runs(tiny_unet, images, short, tmp_path):
    state = next(train(tiny_unet, images, short, CONFIG))
    state.seconds = 1234.5
    save_checkpoint(tmp_path, state, CONFIG)
    assert load_checkpoint(tmp_path, tiny_unet, CONFIG).seconds == 1234.5


def test_only_the_newest_checkpoint_is_kept(tiny_unet, images, short, tmp_path):
    (tmp_path / "ema.safetensors").write_bytes(b"not ours")
    for state in train(tiny_unet, images, short, CONFIG):
        save_checkpoint(tmp_path, state, CONFIG)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000007.json", "checkpoint-00000007.safetensors", "ema.safetensors"]


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


def test_resuming_may_ask_for_more_steps(tiny_unet, images, short, tmp_path):
    save_checkpoint(tmp_path, next(train(tiny_unet, images, short, CONFIG)), CONFIG)
    more = replace(CONFIG, steps=9)
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
    assert len(list(tmp_path.iterdir())) == 2


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
