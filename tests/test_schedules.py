import dataclasses
import math
import re

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import Schedule, make_tau

SPACINGS = ("uniform", "leading", "quadratic")


def refuses(T, S, spacing):
    try:
        make_tau(T, S, spacing)
    except ValueError:
        return True
    return False


# The linear schedule


@pytest.mark.parametrize("T", [2, 10, 1000])
def test_alpha_bar_of_linear_is_a_falling_factorial(T):
    # prod_{i<t} (a - i d) = d^t a/d (a/d - 1) ... (a/d - t + 1), a = 1 - beta_1, d = (beta_T - beta_1) / (T - 1)
    found = Schedule.linear(T).alpha_bar.tolist()
    with mpmath.workdps(50):
        d = (mpmath.mpf("0.02") - mpmath.mpf("0.0001")) / (T - 1)
        top = (1 - mpmath.mpf("0.0001")) / d
        for t in range(T + 1):
            exact = d**t * mpmath.ff(top, t)
            assert abs(found[t] / exact - 1) < 1e-12, t


def test_linear_leaves_the_published_remnant_of_signal(linear):
    assert linear.alpha_bar[1000].item() == pytest.approx(4.0358e-05, rel=2e-5)  # alphas_cumprod[-1] of DDPM models


def test_linear_is_that_of_ho_et_al_where_nothing_else_is_said():
    usual, wanted = Schedule.linear(), Schedule.linear(T=1000, beta_1=1e-4, beta_T=0.02)
    assert torch.equal(usual.beta, wanted.beta)


def test_linear_runs_from_beta_1_to_beta_T(linear):
    assert [linear.beta[t].item() for t in (0, 1, 1000)] == [0.0, 1e-4, 0.02]
    assert linear.beta.diff()[1:].max() - linear.beta.diff()[1:].min() < 1e-16


def test_linear_with_one_step_has_beta_1_only():
    assert Schedule.linear(T=1, beta_1=0.25).alpha_bar.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.cosine, lambda T: Schedule.from_alpha_bar([1, 0.5, 0.25])])
def test_every_maker_gives_float64_of_length_T_plus_1(make):
    schedule = make(2)
    assert schedule.T == 2
    for values in (schedule.beta, schedule.alpha_bar):
        assert values.dtype == torch.float64
        assert values.shape == (3,)


@given(st.integers(1, 300))
def test_alpha_bar_starts_at_exactly_1_and_decreases_strictly(T):
    for schedule in (Schedule.linear(T), Schedule.cosine(T)):
        assert schedule.alpha_bar[0] == 1
        assert (schedule.alpha_bar.diff() < 0).all()
        assert (schedule.alpha_bar > 0).all()


@pytest.mark.parametrize("name", ["beta_1", "beta_T"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
def test_linear_refuses_a_beta_outside_0_to_1(name, value):
    with pytest.raises(ValueError, match=rf"{name} .*{value}"):
        Schedule.linear(10, **{name: value})


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.cosine])
@pytest.mark.parametrize("T", [0, -3])
def test_a_schedule_without_steps_is_refused(make, T):
    with pytest.raises(ValueError, match=f"T must be a whole number, 1 or more, got {T}"):
        make(T)


# The cosine schedule


def test_cosine_is_nichol_and_dhariwals_closed_form_where_beta_is_not_capped():
    T, found = 1000, Schedule.cosine(1000).alpha_bar.tolist()
    with mpmath.workdps(50):
        s = mpmath.mpf("0.008")

        def f(t):
            return mpmath.cos((mpmath.mpf(t) / T + s) / (1 + s) * mpmath.pi / 2) ** 2

        capped = [t for t in range(1, T + 1) if 1 - f(t) / f(t - 1) > mpmath.mpf("0.999")]
        assert capped == [T]  # f reaches 0 only at T
        for t in range(T):
            assert abs(found[t] - f(t) / f(0)) < 1e-13, t


def test_cosine_caps_beta_at_0_999():
    schedule = Schedule.cosine(1000)
    assert schedule.beta[-1] == 0.999
    assert schedule.beta[-2] < 0.999


# Given values


def test_from_alpha_bar_keeps_the_values_and_derives_beta_by_hand():
    schedule = Schedule.from_alpha_bar([1.0, 0.5, 0.125])
    assert schedule.alpha_bar.tolist() == [1.0, 0.5, 0.125]
    assert schedule.beta.tolist() == [0.0, 0.5, 0.75]


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=20))
def test_one_minus_beta_multiplies_back_to_alpha_bar(ratios):
    values = [1.0]
    for ratio in ratios:
        values.append(values[-1] * ratio)
    schedule = Schedule.from_alpha_bar(values)
    with mpmath.workdps(50):
        product = mpmath.mpf(1)
        for t, beta in enumerate(schedule.beta.tolist()):
            product *= 1 - mpmath.mpf(beta)
            assert abs(product - values[t]) < 1e-13


def test_from_alpha_bar_does_not_share_memory_with_its_argument():
    values = torch.tensor([1.0, 0.5], dtype=torch.float64)
    schedule = Schedule.from_alpha_bar(values)
    values[1] = 0.9
    assert schedule.alpha_bar[1] == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 0.5, 0.6], r"alpha_bar must decrease strictly, got alpha_bar\[1\] = 0.5 and alpha_bar\[2\] = 0.6"),
        ([1.0, 0.5, 0.5], r"alpha_bar must decrease strictly"),
        ([1.0, 1.0], r"alpha_bar must decrease strictly"),
        ([1.0, 0.5, 0.0], r"alpha_bar must lie in \(0, 1\], got alpha_bar\[2\] = 0.0"),
        ([1.0, -0.5], r"alpha_bar must lie in \(0, 1\], got alpha_bar\[1\] = -0.5"),
        ([1.0, 1.5, 0.5], r"alpha_bar must lie in \(0, 1\], got alpha_bar\[1\] = 1.5"),
        ([1.0, math.nan, 0.5], r"alpha_bar must lie in \(0, 1\], got alpha_bar\[1\] = nan"),
        ([0.99, 0.5], r"alpha_bar\[0\] must be exactly 1 .*got 0.99"),
        ([math.nan, 0.5], r"alpha_bar\[0\] must be exactly 1 .*got nan"),
        ([1.0], r"alpha_bar must be a list of at least 2 values, got shape \(1,\)"),
        ([], r"alpha_bar must be a list of at least 2 values, got shape \(0,\)"),
        ([[1.0, 0.5]], r"alpha_bar must be a list of at least 2 values, got shape \(1, 2\)"),
    ],
)
def test_a_schedule_that_is_none_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_alpha_bar(values)


@pytest.mark.parametrize("beta", [[0.0, 0.5, 0.5, 0.5], [0.0, 0.5, 0.6], [0.1, 0.5, 0.5], [0.0, float("nan"), 0.5]])
def test_a_beta_that_belongs_to_another_alpha_bar_is_refused(beta):
    values = {"alpha_bar": torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)}
    assert Schedule(beta=torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64), **values).T == 2
    with pytest.raises(ValueError, match="beta must be 1 - alpha_bar"):
        Schedule(beta=torch.tensor(beta, dtype=torch.float64), **values)


def test_a_tiny_beta_is_compared_closely():
    alpha_bar = torch.tensor([1.0, 1 - 1e-6], dtype=torch.float64)
    assert Schedule(beta=torch.tensor([0.0, 1e-6], dtype=torch.float64), alpha_bar=alpha_bar).T == 1
    with pytest.raises(ValueError, match="beta must be 1 - alpha_bar"):
        Schedule(beta=torch.tensor([0.0, 1.005e-6], dtype=torch.float64), alpha_bar=alpha_bar)


@pytest.mark.parametrize("name", ["beta", "alpha_bar"])
def test_a_schedule_of_another_dtype_is_refused(name):
    values = {"beta": [0.0, 0.5], "alpha_bar": [1.0, 0.5]}
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}
    with pytest.raises(ValueError, match=f"^{name} must be float64, got torch.float32$"):
        Schedule(**tensors | {name: tensors[name].float()})


def test_a_schedule_is_frozen(linear):
    with pytest.raises(dataclasses.FrozenInstanceError):
        linear.alpha_bar = torch.ones(2)


# Sub-sequences of times


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("T", [1, 2, 7, 50, 128])
def test_tau_is_increasing_int64_from_0_within_T_for_every_S(T, spacing):
    for S in range(1, T + 1):
        if spacing == "quadratic" and refuses(T, S, spacing):
            continue
        tau = make_tau(T, S, spacing)
        assert tau.dtype == torch.int64
        assert tau.shape == (S + 1,)
        assert tau[0] == 0
        assert (tau.diff() > 0).all()
        assert tau[-1] <= T


@given(st.integers(1, 1000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_uniform_tau_ends_at_T_with_gaps_that_differ_by_at_most_1(T_S):
    T, S = T_S
    tau = make_tau(T, S)
    assert tau[-1] == T
    assert tau.diff().max() - tau.diff().min() <= 1


@given(st.integers(1, 1000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_leading_tau_is_the_authors_range_shifted_to_1_based_times(T_S):
    T, S = T_S
    authors = list(range(0, T, T // S))  # runners/diffusion.py of ermongroup/ddim, skip_type "uniform"
    assert (make_tau(T, S, "leading")[1:] - 1).tolist() == authors[:S]


@given(st.integers(1, 1000))
def test_quadratic_tau_ends_at_T(T):
    assert make_tau(T, 1 + math.isqrt(T) // 3, "quadratic")[-1] == T


@pytest.mark.parametrize(
    ("T", "S", "spacing", "wanted"),
    [
        (10, 4, "uniform", [0, 2, 5, 7, 10]),
        (1000, 3, "uniform", [0, 333, 666, 1000]),
        (10, 4, "leading", [0, 1, 3, 5, 7]),
        (1000, 4, "leading", [0, 1, 251, 501, 751]),
        (1000, 5, "quadratic", [0, 40, 160, 360, 640, 1000]),
        (10, 3, "quadratic", [0, 2, 5, 10]),
    ],
)
def test_tau_by_hand(T, S, spacing, wanted):
    assert make_tau(T, S, spacing).tolist() == wanted


@pytest.mark.parametrize("spacing", ["uniform", "leading"])
def test_S_equal_to_T_visits_every_time(spacing):
    assert make_tau(37, 37, spacing).tolist() == list(range(38))


@pytest.mark.parametrize("T", [5, 10, 50, 100, 1000])
def test_the_largest_S_named_in_the_message_works_and_one_more_fails(T):
    with pytest.raises(ValueError, match="repeats a time") as caught:
        make_tau(T, T, "quadratic")
    largest = int(re.search(r"the largest S is (\d+)", str(caught.value))[1])
    assert not refuses(T, largest, "quadratic")
    assert all(refuses(T, S, "quadratic") for S in range(largest + 1, min(T, largest + 50) + 1))


def test_a_repeating_spacing_names_itself_S_and_T():
    with pytest.raises(ValueError, match=r"'quadratic' with S = 900 .*T = 1000"):
        make_tau(1000, 900, "quadratic")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("S", [0, -1, 11])
def test_S_outside_1_to_T_is_refused(S, spacing):
    with pytest.raises(ValueError, match=rf"S must be a whole number in 1..T = 1..10, got {S}"):
        make_tau(10, S, spacing)


def test_an_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match=r"spacing must be .*'quadratic', got 'cubic'"):
        make_tau(10, 5, "cubic")


def test_tau_over_no_times_is_refused():
    with pytest.raises(ValueError, match="T must be a whole number, 1 or more, got 0"):
        make_tau(0, 1)
