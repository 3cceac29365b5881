import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib.metrics import (
    FeatureStatistics,
    fit_gaussian,
    frechet_distance,
    frechet_standard_error,
    kernel_distance,
    least_images,
)

seeds = st.integers(0, 10_000)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed):
    return torch.linalg.qr(noise(d, d, seed=seed))[0]


def gaussian(mean, covariance):
    return FeatureStatistics(mean, covariance, 1000)


def random_gaussian(d, seed, rank=None):
    factor = noise(d, rank or d, seed=seed)
    return gaussian(noise(d, seed=seed + 1), factor @ factor.mT)


# Mean and covariance


def test_mean_and_covariance_by_hand():
    found = fit_gaussian(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0]]))
    assert torch.equal(found.mean, f64(2, 2))
    torch.testing.assert_close(found.covariance, f64([4, 6], [6, 12]), rtol=0, atol=1e-14)  # of the divisor n - 1 = 2
    assert found.n == 3
    assert found.mean.dtype == found.covariance.dtype == torch.float64


def test_features_of_one_number_have_a_covariance_of_one_by_one():
    found = fit_gaussian(f64([1.0], [3.0]))
    assert found.covariance.tolist() == [[2.0]]
    assert frechet_distance(found, gaussian(f64(0.0), f64([8.0]))) == pytest.approx(4 + 2)  # (2 - 0)^2 + (1 - 2)^2 * 2


def test_large_means_do_not_eat_the_covariance():
    features = noise(500, 3)
    torch.testing.assert_close(
        fit_gaussian(features + 1e6).covariance, fit_gaussian(features).covariance, rtol=0, atol=1e-8
    )


def test_as_many_images_as_numbers_in_a_feature_are_too_few():
    assert fit_gaussian(noise(4, 3)).n == 4
    with pytest.raises(ValueError, match="features of 3 numbers need at least 4 images, got 3"):
        fit_gaussian(noise(3, 3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (fit_gaussian, "features"),
        (lambda features: frechet_standard_error(features, random_gaussian(2, 0)), "features"),
        (lambda features: kernel_distance(features, noise(40, 2)), "x"),
        (lambda features: kernel_distance(noise(40, 2), features), "y"),
    ],
    ids=["fit_gaussian", "frechet_standard_error", "kernel_distance x", "kernel_distance y"],
)
def test_features_that_are_not_finite_are_refused_with_their_number(measure, name, bad):
    features = noise(40, 2)
    features[3, 0] = features[3, 1] = features[7, 0] = bad
    with pytest.raises(ValueError, match=f"^{name} must be finite, got NaN or infinity in 2 rows$"):
        measure(features)


@pytest.mark.parametrize("shape", [(40,), (40, 2, 1)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"features must have shape \(N, D\), got"):
        fit_gaussian(torch.zeros(shape))


# Frechet distance


@given(seeds, st.integers(1, 8))
def test_the_distance_of_gaussians_whose_covariances_commute(seed, d):
    q, a, b = rotation(d, seed), noise(d, seed=seed + 1).square(), noise(d, seed=seed + 2).square()
    x, y = gaussian(noise(d, seed=seed + 3), q * a @ q.mT), gaussian(noise(d, seed=seed + 4), q * b @ q.mT)
    wanted = (x.mean - y.mean).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(x, y) == pytest.approx(wanted.item(), rel=1e-10)


@given(seeds, st.integers(1, 12))
def test_the_distance_equals_scipys_matrix_root(seed, d):
    linalg = pytest.importorskip("scipy.linalg")
    x, y = random_gaussian(d, seed), random_gaussian(d, seed + 10)
    product = linalg.sqrtm((x.covariance @ y.covariance).numpy()).real.trace()
    wanted = (x.mean - y.mean).square().sum() + x.covariance.trace() + y.covariance.trace() - 2 * product
    assert frechet_distance(x, y) == pytest.approx(wanted.item(), rel=1e-6)


@given(seeds, st.integers(1, 64), st.integers(1, 64))
def test_the_distance_is_symmetric_and_0_from_itself_whatever_the_rank(seed, d, rank):
    x, y = random_gaussian(d, seed, rank), random_gaussian(d, seed + 10)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * x.covariance.trace().item())


@given(seeds, st.floats(1e-3, 1e3))
def test_the_distance_under_translation_rotation_and_scaling(seed, scale):
    x, y, q, shift = random_gaussian(5, seed), random_gaussian(5, seed + 10), rotation(5, seed + 2), noise(5, seed=seed)
    base = frechet_distance(x, y)

    def moved(one):
        return gaussian(scale * q @ one.mean + shift, scale**2 * q @ one.covariance @ q.mT)

    assert frechet_distance(moved(x), moved(y)) == pytest.approx(scale**2 * base, rel=1e-8)
    away = gaussian(x.mean + shift, x.covariance)
    assert frechet_distance(x, away) == pytest.approx(shift.square().sum().item(), rel=1e-9)


@given(seeds)
def test_the_distance_of_covariances_of_rank_1(seed):
    u, v = noise(6, seed=seed), noise(6, seed=seed + 1)
    x, y = gaussian(torch.zeros(6).double(), u.outer(u)), gaussian(torch.zeros(6).double(), v.outer(v))
    wanted = u @ u + v @ v - 2 * (u @ v).abs()  # of the segments along u and v
    assert frechet_distance(x, y) == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-30, 1e-16, 1e-8])
def test_the_distance_of_covariances_that_are_almost_singular(tiny):
    a, b = f64(4, 1, tiny, tiny), f64(1, 9, tiny, 0)
    q, zero = rotation(4, 0), torch.zeros(4).double()
    x, y = gaussian(zero, q * a @ q.mT), gaussian(zero, q * b @ q.mT)
    assert frechet_distance(x, y) == pytest.approx((2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-6)


def test_points_without_any_spread_are_their_distance_apart():
    x, y = gaussian(f64(0, 0), torch.zeros(2, 2).double()), gaussian(f64(3, 4), torch.zeros(2, 2).double())
    assert frechet_distance(x, y) == 25


def test_the_triangle_inequality_holds_for_the_root():
    for seed in range(20):
        x, y, z = (random_gaussian(4, seed + offset) for offset in (0, 100, 200))
        xy, yz, xz = (frechet_distance(*pair) ** 0.5 for pair in ((x, y), (y, z), (x, z)))
        assert xz <= xy + yz + 1e-9


def test_statistics_of_different_length_are_refused():
    with pytest.raises(ValueError, match="features must have the same length, got 2 and 3"):
        frechet_distance(random_gaussian(2, 0), random_gaussian(3, 0))


@pytest.mark.parametrize("part", ["mean", "covariance"])
def test_statistics_with_nan_are_refused_instead_of_being_at_distance_0(part):
    x, y = random_gaussian(2, 0), random_gaussian(2, 10)
    getattr(y, part)[0] = math.nan
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match=r"^mean and covariance must be finite, got NaN or infinity$"):
            frechet_distance(*pair)


def test_the_distance_of_samples_falls_towards_0_with_their_number():
    reference = gaussian(torch.zeros(4).double(), torch.eye(4).double())
    distances = [frechet_distance(fit_gaussian(noise(n, 4)), reference) for n in (50, 500, 5000, 50_000)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3 < 0.1 < distances[0]


# Its standard error


def test_the_jackknife_error_is_the_spread_over_independent_sets():
    reference = gaussian(torch.zeros(3).double(), torch.eye(3).double())
    features = [1.2 * noise(400, 3, seed=seed) + f64(1, 0, -0.5) for seed in range(150)]
    spread = torch.tensor([frechet_distance(fit_gaussian(part), reference) for part in features]).std()
    errors = torch.tensor([frechet_standard_error(part, reference) for part in features])
    assert errors.square().mean().sqrt() == pytest.approx(spread.item(), rel=0.2)  # 150 sets know it to 6 %


def test_the_jackknife_error_is_no_smaller_than_the_spread_where_both_sides_are_alike():
    reference = gaussian(torch.zeros(3).double(), torch.eye(3).double())
    features = [noise(400, 3, seed=seed) for seed in range(100)]
    spread = torch.tensor([frechet_distance(fit_gaussian(part), reference) for part in features]).std().item()
    errors = torch.tensor([frechet_standard_error(part, reference) for part in features])
    assert 0.9 * spread < errors.mean() < 3 * spread  # the distance is curved here, so that the jackknife is careful


def test_the_error_falls_like_the_root_of_the_number_of_images():
    reference = gaussian(torch.zeros(2).double(), torch.eye(2).double())
    few, many = (
        sum(frechet_standard_error(noise(n, 2, seed=seed) + 1, reference) for seed in range(20)) for n in (200, 3200)
    )
    assert few / many == pytest.approx(4, rel=0.3)


def test_the_jackknife_by_hand():
    features, reference = f64([0.0], [1.0], [5.0], [2.0]), gaussian(f64(0.0), f64([1.0]))
    halves = [frechet_distance(fit_gaussian(part), reference) for part in (features[2:], features[:2])]
    assert frechet_standard_error(features, reference, blocks=2) == pytest.approx(
        abs(halves[0] - halves[1]) / 2, rel=1e-12
    )


@pytest.mark.parametrize(("d", "blocks", "least"), [(64, 10, 73), (3, 2, 8), (1, 2, 4), (1, 3, 3), (4, 10, 10)])
def test_enough_images_are_left_without_any_block(d, blocks, least):
    assert least_images(d, blocks) == least
    reference = random_gaussian(d, 0)
    assert frechet_standard_error(noise(least, d), reference, blocks) > 0
    with pytest.raises(ValueError, match=f"features of {d} numbers in {blocks} blocks need {least} images, got"):
        frechet_standard_error(noise(least - 1, d), reference, blocks)


def test_there_are_ten_blocks_where_nothing_else_is_said():
    features, reference = noise(100, 3), random_gaussian(3, 0)
    assert frechet_standard_error(features, reference) == frechet_standard_error(features, reference, blocks=10)
    assert kernel_distance(features, features + 1) == kernel_distance(features, features + 1, blocks=10)
    assert least_images(64) == least_images(64, blocks=10)


@pytest.mark.parametrize("blocks", [1, 0, -3])
def test_fewer_than_two_blocks_are_refused(blocks):
    with pytest.raises(ValueError, match=f"blocks must be at least 2, got {blocks}"):
        frechet_standard_error(noise(100, 2), random_gaussian(2, 0), blocks)
    with pytest.raises(ValueError, match=f"blocks must be at least 2, got {blocks}"):
        kernel_distance(noise(100, 2), noise(100, 2), blocks)


# Kernel distance


def test_the_kernel_distance_by_its_definition():
    x, y, total = noise(5, 3), noise(5, 3, seed=1) + 1, 0.0

    def kernel(a, b):
        return ((a * b).sum().item() / 3 + 1) ** 3

    for i in range(5):
        for j in range(5):
            total += (i != j) * (kernel(x[i], x[j]) + kernel(y[i], y[j])) / 20 - 2 * kernel(x[i], y[j]) / 25
    other, shift = noise(5, 3, seed=2), noise(5, 3, seed=3)
    pairs = [(x, y), (other, shift)]
    estimates = [kernel_distance(torch.cat([a, a]), torch.cat([b, b]), blocks=2)[0] for a, b in pairs]
    assert estimates[0] == pytest.approx(total)
    mean, error = kernel_distance(torch.cat([x, other]), torch.cat([y, shift]), blocks=2)
    assert mean == pytest.approx(sum(estimates) / 2)
    assert error == pytest.approx(abs(estimates[0] - estimates[1]) / 2)


def draws(count, shift, n=200, d=3, blocks=10):
    return f64(
        *[kernel_distance(noise(n, d, seed=2 * i), noise(n, d, seed=2 * i + 1) + shift, blocks) for i in range(count)]
    )


def test_the_kernel_distance_of_equal_distributions_is_0_on_average_with_the_right_error():
    found, errors = draws(300, shift=0.0).unbind(1)
    spread = found.std()
    assert abs(found.mean()) < 4 * spread / 300**0.5
    assert (found < 0).any()
    assert errors.square().mean().sqrt() == pytest.approx(spread.item(), rel=0.2)


def test_the_kernel_distance_of_two_gaussians_on_a_line():
    """(x y + 1)^3 compares three moments: 3 (E x - E y)^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2."""
    found, errors = draws(300, shift=1.0, d=1).unbind(1)
    assert found.mean() == pytest.approx(3 * 1 + 3 * 1 + 4**2, abs=4 * found.std().item() / 300**0.5)
    assert errors.square().mean().sqrt() == pytest.approx(found.std().item(), rel=0.2)


def test_a_shift_is_detected():
    x = noise(2000, 8)
    near, near_error = kernel_distance(x, noise(2000, 8, seed=1))
    far, far_error = kernel_distance(x, noise(2000, 8, seed=1) + 0.2)
    assert abs(near) < 4 * near_error
    assert far > 5 * far_error


def test_the_kernel_distance_is_symmetric():
    x, y = noise(60, 3), noise(60, 3, seed=1) * 2
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x))


def test_images_that_fill_no_block_are_left_out():
    x, y = noise(59, 3), noise(80, 3, seed=1)
    assert kernel_distance(x, y) == kernel_distance(x[:50], y[:50])


@pytest.mark.parametrize(("n", "m", "blocks"), [(19, 40, 10), (40, 19, 10), (3, 3, 2), (0, 5, 2)])
def test_blocks_of_fewer_than_two_images_are_refused(n, m, blocks):
    message = f"{blocks} blocks need at least {2 * blocks} images on both sides, got {n} and {m}"
    with pytest.raises(ValueError, match=message):
        kernel_distance(noise(n, 2), noise(m, 2), blocks)
    enough = noise(2 * blocks, 2)
    assert math.isfinite(kernel_distance(enough, enough + 1, blocks)[0])


def test_kernel_features_of_different_length_are_refused():
    with pytest.raises(ValueError, match="features must have the same length, got 2 and 3"):
        kernel_distance(noise(40, 2), noise(40, 3))
