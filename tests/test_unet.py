import dataclasses
import math

import pytest
import torch
from conftest import perturbed

from ddim_lib import UNet, UNetConfig
from ddim_lib.unet import time_embedding


def inputs(batch=2, channels=1, size=8, seed=0):
    xt = torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return xt, torch.arange(1, batch + 1)


def test_the_default_network_has_1_to_3_million_parameters():
    assert 1e6 < sum(p.numel() for p in UNet(UNetConfig()).parameters()) < 3e6


@pytest.mark.parametrize("size", [28, 32])
def test_the_default_network_keeps_the_shape_of_its_images(size):
    xt, t = inputs(1, size=size)
    assert UNet(UNetConfig())(xt, t).shape == xt.shape


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("channels", [(8,), (8, 16), (4, 4, 8)])
def test_every_layout_keeps_shape_and_device(device, channels, blocks):
    attention = (False,) * (len(channels) - 1) + (True,)
    config = UNetConfig(in_channels=3, channels=channels, blocks=blocks, attention=attention, groups=4)
    xt, t = (x.to(device) for x in inputs(channels=3))
    out = UNet(config).to(device)(xt, t)
    assert (out.shape, out.device) == (xt.shape, xt.device)


def test_images_need_not_be_square(tiny_unet):
    assert tiny_unet(torch.zeros(1, 1, 4, 10), torch.tensor([1])).shape == (1, 1, 4, 10)


def test_the_weights_are_channels_last(tiny_unet):
    kernels = [p for p in tiny_unet.parameters() if p.ndim == 4]
    assert len(kernels) > 10
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_the_memory_layout_of_the_input_does_not_matter(tiny_unet):
    xt, t = inputs()
    other = xt.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(tiny_unet(xt, t), tiny_unet(other, t), rtol=0, atol=1e-6)


def test_a_new_network_takes_the_state_for_noise(tiny_config):
    xt, t = inputs()
    assert torch.equal(UNet(tiny_config)(xt, t), xt)


def test_the_output_depends_on_the_time(tiny_unet):
    xt, _ = inputs(1)
    early, late = (tiny_unet(xt, torch.tensor([t])) for t in (1, 1000))
    assert (early - late).abs().max() > 1e-2


def test_the_output_depends_on_every_pixel(tiny_unet):
    xt, t = inputs(1)
    xt.requires_grad_()
    tiny_unet(xt, t).square().sum().backward()
    assert (xt.grad != 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_reaches_every_parameter(tiny_unet, training):
    xt, t = inputs()
    tiny_unet.train(training)(xt, t).square().sum().backward()
    silent = [name for name, p in tiny_unet.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_samples_of_a_batch_do_not_see_each_other(tiny_unet):
    xt, t = inputs(3)
    rows = torch.cat([tiny_unet(xt[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(tiny_unet(xt, t), rows, rtol=0, atol=1e-5)


def test_the_same_input_gives_the_same_output_bit_for_bit(tiny_unet):
    xt, t = inputs()
    assert torch.equal(tiny_unet(xt, t), tiny_unet(xt, t))


def test_the_same_seed_gives_the_same_initial_weights(tiny_config):
    networks = []
    for _ in range(2):
        torch.manual_seed(4)
        networks.append(UNet(tiny_config).state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_dropout_acts_in_training_only(tiny_config):
    unet, (xt, t) = perturbed(UNet(dataclasses.replace(tiny_config, dropout=0.5))), inputs()
    assert not torch.equal(unet.train()(xt, t), unet(xt, t))
    assert torch.equal(unet.eval()(xt, t), unet(xt, t))


def test_a_device_changes_the_output_by_rounding_only(device, tiny_unet):
    xt, t = inputs()
    wanted = tiny_unet.double()(xt.double(), t)
    found = tiny_unet.to(device)(xt.double().to(device), t.to(device)).cpu()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_the_time_embedding_by_hand():
    found = time_embedding(torch.tensor([0, 2]), 4)  # frequencies 1 and 1/100
    wanted = [[0, 0, 1, 1], [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=1e-6)


def test_the_time_embedding_tells_all_times_apart():
    embedded = time_embedding(torch.arange(1, 1001), 24)
    assert torch.pdist(embedded).min() > 0.01


@pytest.mark.parametrize(
    ("xt", "t", "message"),
    [
        (torch.zeros(2, 8, 8), [1, 2], r"xt must have shape \(B, 1, H, W\) .*multiples of 2, got \(2, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), [1, 2], r"xt must have shape .*got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 7, 8), [1, 2], r"xt must have shape .*got \(2, 1, 7, 8\)"),
        (torch.zeros(2, 1, 8, 7), [1, 2], r"xt must have shape .*got \(2, 1, 8, 7\)"),
        (torch.zeros(2, 1, 8, 8).double(), [1, 2], r"xt must have the dtype .*float32, got torch.float64"),
        (torch.zeros(2, 1, 8, 8).long(), [1, 2], r"xt must have the dtype .*got torch.int64"),
        (torch.zeros(2, 1, 8, 8), [1], r"t must be int64 of shape \(2,\), got torch.int64 of shape \(1,\)"),
        (torch.zeros(2, 1, 8, 8), 1, r"t must be int64 of shape \(2,\), got torch.int64 of shape \(\)"),
        (torch.zeros(2, 1, 8, 8), [1.0, 2.0], r"t must be int64 of shape \(2,\), got torch.float32"),
        (torch.zeros(2, 1, 8, 8), [0, 5], r"t must lie in 1..T = 1..1000, got times from 0 to 5"),
        (torch.zeros(2, 1, 8, 8), [5, 1001], r"t must lie in 1..T = 1..1000, got times from 5 to 1001"),
        (torch.zeros(2, 1, 8, 8), [-1, 5], r"t must lie in 1..T = 1..1000, got times from -1 to 5"),
    ],
)
def test_bad_input_is_refused_by_name(tiny_unet, xt, t, message):
    with pytest.raises(ValueError, match=message):
        tiny_unet(xt, torch.tensor(t))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"attention": (True,)}, "attention"),
        ({"channels": (8, 10)}, "groups"),
        ({"channels": (), "attention": ()}, "channels"),
        ({"groups": 0}, "groups"),
        ({"in_channels": 0}, "in_channels"),
        ({"blocks": -1}, "blocks"),
        ({"dropout": 1.5}, "dropout"),
        ({"T": 0}, "T"),
    ],
)
def test_a_shape_that_is_none_is_refused_by_name(tiny_config, values, name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(tiny_config, **values)


def test_a_width_that_time_cannot_be_embedded_in_is_refused():
    with pytest.raises(ValueError, match="channels"):  # sines and cosines come in pairs
        UNetConfig(channels=(3,), attention=(False,), groups=3)


def test_patches_are_pixels_side_by_side(tiny_config):
    unet = perturbed(UNet(dataclasses.replace(tiny_config, patch=2)))
    xt, t = torch.randn(1, 1, 8, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([5])
    assert unet.conv_in.in_channels == unet.conv_out.out_channels == 4
    seen = []
    unet.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert unet(xt, t).shape == xt.shape
    assert torch.equal(seen[0][0, :, 1, 2], xt[0, 0, 2:4, 4:6].flatten())
    with pytest.raises(ValueError, match="multiples of 4"):
        unet(xt[:, :, :6], t)


def test_the_configuration_is_frozen(tiny_config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_config.T = 10
