"""Networks as ONNX files: they must compute what PyTorch computes."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import assert_refused, perturbed
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import UNet, UNetConfig, load_pretrained
from ddim_lib.__main__ import main
from ddim_lib.onnx_export import quantize, rounded, to_onnx


def run(data, xt, t):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"xt": xt.numpy(), "t": t.numpy()})[0])


@pytest.fixture(scope="module", params=[None, 11], ids=["float32", "11 bits"])
def exported(request):
    unet = load_pretrained("mnist")
    expected = unet if request.param is None else rounded(unet, request.param)
    return expected, to_onnx(unet, request.param).SerializeToString()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("t", [1, 500, 1000])
def test_the_exported_network_agrees_with_torch(exported, batch, t):
    unet, data = exported
    xt = torch.randn(batch, 1, 28, 28, generator=torch.Generator().manual_seed(t))
    times = torch.full((batch,), t)
    with torch.no_grad():
        expected = unet(xt, times)
    assert (run(data, xt, times) - expected).abs().max() < 1e-5


def test_each_image_of_a_batch_has_its_own_time(exported):
    unet, data = exported
    xt = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([3, 900])
    with torch.no_grad():
        expected = unet(xt, times)
    assert (run(data, xt, times) - expected).abs().max() < 1e-5


def test_other_architectures_are_exported():
    torch.manual_seed(0)
    unet = perturbed(UNet(UNetConfig(in_channels=3, patch=1, channels=(8, 16), groups=4))).eval()
    xt, t = torch.randn(2, 3, 32, 32), torch.tensor([1, 1000])
    with torch.no_grad():
        expected = unet(xt, t)
    assert (run(to_onnx(unet).SerializeToString(), xt, t) - expected).abs().max() < 1e-4


def test_an_export_leaves_the_network_as_it_was(tiny_unet):
    unet = tiny_unet.train()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    to_onnx(unet, 9)
    assert unet.training
    assert all(torch.equal(before[name], tensor) for name, tensor in unet.state_dict().items())


def test_a_file_with_rounded_weights_takes_two_bytes_a_weight(exported):
    unet, data = exported
    of_a_weight = len(data) / sum(weight.numel() for weight in unet.parameters())
    assert of_a_weight == pytest.approx(2.05 if b"conv_in.weight.high" in data else 4.05, abs=0.05)


def test_rounding_to_11_bits_changes_a_noise_estimate_by_less_than_the_playground_says():
    unet = load_pretrained("mnist")
    xt, t = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.full((8,), 800)
    with torch.no_grad():
        difference = (unet(xt, t) - rounded(unet, 11)(xt, t)).abs()
    assert 1e-5 < difference.mean() < 2e-3
    assert difference.max() < 1e-2


@given(st.integers(9, 16), st.integers(0, 2**32 - 1))
def test_rounding_a_weight_errs_by_half_a_unit_at_most(bits, seed):
    weight = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(seed))
    q, scale = quantize(weight, bits)
    assert q.abs().amax((1, 2)).tolist() == [2 ** (bits - 1) - 1] * 4
    assert ((q * scale - weight).abs() <= 0.5001 * scale).all()


def test_a_row_of_zeros_stays_zero():
    q, scale = quantize(torch.zeros(2, 3), 9)
    assert (q * scale == 0).all()


@pytest.mark.parametrize("bits", [0, 8, 17])
def test_bits_out_of_range_are_refused(bits, tiny_unet):
    with pytest.raises(ValueError, match=f"bits must be 9 to 16.*got {bits}"):
        to_onnx(tiny_unet, bits)


def test_the_command_writes_the_network_and_one_evaluation(tmp_path, capsys):
    out = tmp_path / "new" / "mnist.onnx"
    assert main(["export-onnx", "mnist", "--bits", "11", "--out", str(out)]) == 0
    assert "2796740 weights" in capsys.readouterr().out
    info = json.loads(out.with_suffix(".json").read_text())
    xt = torch.from_numpy(np.sin(np.arange(784))).float().reshape(1, *info["shape"])
    eps = run(out.read_bytes(), xt, torch.tensor([info["T"] // 2]))
    assert np.allclose(eps.flatten(), info["eps"], atol=1e-5)
    assert info["bits"] == 11


def test_a_command_without_such_a_model_says_which_there_are(tmp_path, capsys):
    assert_refused(capsys, ["export-onnx", "imagenet", "--out", str(tmp_path / "x.onnx")], "there are: cifar10, mnist")
