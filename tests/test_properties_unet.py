"""The network, in evaluation, gives each image its own answer, whatever its layout, size, or place in a batch."""

import strategies as draws
import torch
from conftest import perturbed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import randn

from ddim_lib import UNet, UNetConfig
from ddim_lib.variant import Variant


@st.composite
def networks(draw):
    """(network in evaluation, the multiple that sides of its images have to be)"""
    levels, patch = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    config = UNetConfig(
        in_channels=draw(st.sampled_from([1, 3])),
        patch=patch,
        channels=(8, 16)[:levels],
        blocks=draw(st.integers(1, 2)),
        attention=tuple(draw(st.booleans()) for _ in range(levels)),
        groups=4,
        dropout=0.5,
        variant=draw(st.sampled_from([Variant(), Variant(head_width=4, residual=False, asymmetric=True)])),
    )
    torch.manual_seed(0)
    return perturbed(UNet(config)).eval().requires_grad_(False), patch * 2 ** (levels - 1)


@st.composite
def questions(draw):
    """(network, images, times): sides are odd multiples, too, and B may be 1."""
    unet, multiple = draw(networks())
    sides = st.integers(1, 3).map(lambda count: count * multiple)
    shape = draw(st.integers(1, 4)), unet.config.in_channels, draw(sides), draw(sides)
    times = draw(st.lists(st.integers(1, unet.config.T), min_size=shape[0], max_size=shape[0]))
    return unet, randn(*shape, seed=draw(draws.seeds), dtype=torch.float32), torch.tensor(times)


def assert_equal_but_for_rounding(found, wanted, scale=1e-4):
    torch.testing.assert_close(found, wanted, rtol=scale, atol=scale)


@given(questions(), draws.layouts)
def test_the_memory_layout_of_the_images_does_not_matter(question, layout):
    unet, xt, t = question
    xt = layout(xt)
    before = xt.clone(memory_format=torch.contiguous_format)
    found = unet(xt, t)
    assert (found.shape, found.dtype) == (xt.shape, torch.float32)
    assert torch.isfinite(found).all()
    assert_equal_but_for_rounding(found, unet(before, t))
    assert torch.equal(xt, before)


@given(questions(), st.integers(0, 4))
def test_splitting_a_batch_changes_an_image_s_answer_by_rounding_only(question, cut):
    unet, xt, t = question
    parts = [unet(xt[part], t[part]) for part in (slice(0, cut), slice(cut, None)) if len(xt[part])]
    assert_equal_but_for_rounding(torch.cat(parts), unet(xt, t))


@given(questions(), st.randoms())
def test_the_order_of_a_batch_does_not_matter(question, random):
    unet, xt, t = question
    order = list(range(len(xt)))
    random.shuffle(order)
    assert_equal_but_for_rounding(unet(xt[order], t[order]), unet(xt, t)[order])


@given(questions())
def test_double_precision_gives_the_same_answer_but_for_rounding(question):
    unet, xt, t = question
    coarse = unet(xt, t)
    fine = unet.double()(xt.double(), t)
    assert fine.dtype == torch.float64
    assert_equal_but_for_rounding(coarse.double(), fine)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions())
def test_a_device_changes_the_answer_by_rounding_only(device, question):
    unet, xt, t = question
    wanted = unet.double()(xt.double(), t)
    found = unet.to(device)(xt.double().to(device), t.to(device))
    assert found.device.type == device.type
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-10, atol=1e-10)
