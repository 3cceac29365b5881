"""Neither memory layout, dtype, batches nor the device change what is computed, for any schedule and any times."""

import pytest
import strategies as draws
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import randn

from ddim_lib import Schedule, ddim_encode, ddim_sample, ddim_step, predict_eps, predict_x0, q_sample, slerp
from ddim_lib.metrics import fit_gaussian, frechet_distance, kernel_distance
from ddim_lib.oracle import PointSet
from ddim_lib.solvers import adams_bashforth_sample, exponential_sample, heun_sample

WALKS = (ddim_sample, ddim_encode, heun_sample, adams_bashforth_sample, exponential_sample)


def model(xt, t):
    """A noise estimate that treats every number by itself, by operations that IEEE 754 says how to round."""
    return xt / (1 + xt * xt) + t.view(-1, *[1] * (xt.ndim - 1)).to(xt.dtype) / 64


@st.composite
def operations(draw):
    """A function of two states (B, ...), and of the range of samples that they are."""
    ab_t, ab_s = draw(draws.pairs(-3, 3))
    sigma = draw(st.floats(0, 0.99)) * (1 - ab_s) ** 0.5
    column = torch.linspace(ab_t, ab_s, 5, dtype=torch.float64)  # a level for each sample
    choices = [
        lambda x, y, part: q_sample(x, ab_t, y),
        lambda x, y, part: q_sample(x, column[part], y),
        lambda x, y, part: predict_x0(x, y, ab_t),
        lambda x, y, part: predict_x0(x, y, column[part]),
        lambda x, y, part: predict_eps(x, y, ab_s),
        lambda x, y, part: predict_eps(x, y, column[part]),
        lambda x, y, part: ddim_step(x, y, ab_t, ab_s, sigma, y),
        lambda x, y, part: ddim_step(x, y, column[part], ab_s, column[part] * sigma, y),
    ]
    return draw(st.sampled_from(choices))


@st.composite
def walking(draw, noise=True):
    """A function from a start (B, ...) and a seed for each sample to all tensors of a walk."""
    schedule, tau = draw(draws.walks())
    walk = draw(st.sampled_from(WALKS))
    kind = draw(draws.noise_kinds(schedule, tau)) if walk is ddim_sample and noise else {}

    def tensors(x, seeds):
        if walk is ddim_sample:
            kind["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [value for step in walk(model, schedule, x, tau, **kind) for value in (step.xt, step.x0_pred, step.eps)]

    return tensors


def plain(x):
    return x.clone(memory_format=torch.contiguous_format)


# Layout and dtype


@settings(max_examples=100)
@given(operations(), draws.shapes, draws.dtypes, draws.layouts, draws.layouts, draws.seeds)
def test_operations_do_not_depend_on_the_memory_layout(operation, shape, dtype, layout, other, seed):
    x, y = layout(randn(*shape, seed=seed, dtype=dtype)), other(randn(*shape, seed=seed + 1, dtype=dtype))
    before, samples = (plain(x), plain(y)), slice(0, shape[0])
    found = operation(x, y, samples)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    assert torch.equal(found, operation(*before, samples))
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@settings(max_examples=100)
@given(walking(), draws.shapes, draws.dtypes, draws.layouts, draws.seeds)
def test_walks_do_not_depend_on_the_memory_layout(walk, shape, dtype, layout, seed):
    x = layout(randn(*shape, seed=seed, dtype=dtype))
    before, seeds = plain(x), range(shape[0])
    for found, wanted in zip(walk(x, seeds), walk(before, seeds), strict=True):
        assert (found.shape, found.dtype) == (x.shape, dtype)
        assert torch.equal(found, wanted)
    assert torch.equal(x, before)


@given(st.floats(0, 1), draws.shapes, draws.dtypes, draws.layouts, draws.layouts, draws.seeds)
def test_interpolation_does_not_depend_on_the_memory_layout(weight, shape, dtype, layout, other, seed):
    x, y = layout(randn(*shape, seed=seed, dtype=dtype)), other(randn(*shape, seed=seed + 1, dtype=dtype))
    found = slerp(x, y, weight)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    torch.testing.assert_close(found, slerp(plain(x), plain(y), weight), rtol=1e-6, atol=1e-6)


@given(draws.mixtures(dimensions=(4,)), st.integers(1, 3), draws.dtypes, draws.layouts, draws.seeds)
def test_exact_estimates_depend_neither_on_layout_nor_shape(data, batch, dtype, layout, seed):
    schedule, images = Schedule.linear(40), layout(randn(batch, 1, 2, 2, seed=seed, dtype=dtype))
    t, before = torch.arange(1, batch + 1), plain(images)
    for model in (data.eps_model(schedule), PointSet(data.means).eps_model(schedule)):
        found = model(images, t)
        assert (found.shape, found.dtype) == (images.shape, dtype)
        assert torch.equal(found.flatten(1), model(before.flatten(1), t))
    assert torch.equal(images, before)


@given(draws.mixtures(dimensions=(1,)), st.integers(1, 5), draws.seeds)
def test_states_of_one_number_need_no_dimension_of_their_own(data, batch, seed):
    schedule, x, t = Schedule.linear(40), randn(batch, seed=seed), torch.arange(1, batch + 1)
    for model in (data.eps_model(schedule), PointSet(data.means).eps_model(schedule)):
        assert torch.equal(model(x, t), model(x[:, None], t)[:, 0])


@given(st.integers(6, 9), st.integers(1, 3), st.sampled_from([draws.transposed, draws.sliced]), draws.seeds)
def test_measures_depend_neither_on_the_layout_nor_on_the_dtype_of_equal_features(count, width, layout, seed):
    def measure(a, b):
        return frechet_distance(fit_gaussian(a), fit_gaussian(b)), *kernel_distance(a, b, 2)

    x, y = randn(2, count, width, seed=seed, dtype=torch.float32)
    for a, b in ((layout(x), layout(y)), (x.double(), y), (layout(x.double()), layout(y))):
        assert measure(a, b) == pytest.approx(measure(x, y), rel=1e-12, abs=1e-12)


# Batches


@settings(max_examples=100)
@given(operations(), draws.shapes, draws.dtypes, st.integers(0, 5), draws.seeds)
def test_operations_treat_each_sample_by_itself(operation, shape, dtype, cut, seed):
    x, y = randn(*shape, seed=seed, dtype=dtype), randn(*shape, seed=seed + 1, dtype=dtype)
    parts = [part for part in (slice(0, min(cut, shape[0])), slice(cut, shape[0])) if len(x[part])]
    found = torch.cat([operation(x[part], y[part], part) for part in parts])
    assert torch.equal(found, operation(x, y, slice(0, shape[0])))


@settings(max_examples=100)
@given(walking(), draws.shapes, draws.dtypes, st.integers(0, 5), draws.seeds)
def test_walks_do_not_depend_on_the_batches(walk, shape, dtype, cut, seed):
    x = randn(*shape, seed=seed, dtype=dtype)
    seeds = range(seed, seed + len(x))
    parts = [walk(x[part], seeds[part]) for part in (slice(0, cut), slice(cut, None)) if len(x[part])]
    for wanted, *found in zip(walk(x, seeds), *parts, strict=True):
        assert torch.equal(torch.cat(found), wanted)


# Precision and device


@given(walking(noise=False), draws.shapes, draws.seeds)  # noise drawn in float32 is other noise
def test_float32_differs_from_float64_by_rounding(walk, shape, seed):
    x = randn(*shape, seed=seed, dtype=torch.float32)
    seeds = range(len(x))
    for found, wanted in zip(walk(x, seeds), walk(x.double(), seeds), strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walking(), draws.shapes, draws.seeds)
def test_a_device_changes_walks_by_rounding_only(device, walk, shape, seed):
    x, seeds = randn(*shape, seed=seed), range(shape[0])
    for found, wanted in zip(walk(x.to(device), seeds), walk(x, seeds), strict=True):
        assert found.device.type == device.type
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-9, atol=1e-9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations(), draws.shapes, draws.dtypes, draws.seeds)
def test_a_device_changes_operations_by_rounding_only(device, operation, shape, dtype, seed):
    x, y = randn(*shape, seed=seed, dtype=dtype), randn(*shape, seed=seed + 1, dtype=dtype)
    samples, least = slice(0, shape[0]), 1e-12 if dtype is torch.float64 else 1e-4
    found = operation(x.to(device), y.to(device), samples)
    torch.testing.assert_close(found.cpu(), operation(x, y, samples), rtol=least, atol=least)
