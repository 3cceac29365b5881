import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import predict_eps, predict_x0, q_sample

number = st.floats(-4, 4)
admissible = st.floats(1e-3, 0.999)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@given(number, number, admissible)
def test_q_sample_is_the_closed_form_at_50_digits(x0, noise, alpha_bar_t):
    found = q_sample(tensor(x0), alpha_bar_t, tensor(noise)).item()
    with mpmath.workdps(50):
        ab = mpmath.mpf(alpha_bar_t)
        assert abs(found - (mpmath.sqrt(ab) * x0 + mpmath.sqrt(1 - ab) * noise)) < 1e-14


def test_q_sample_by_hand():
    assert q_sample(tensor(1.0, -2.0), 0.64, tensor(3.0, 1.0)).tolist() == pytest.approx([2.6, -1.0], abs=1e-15)


@given(number, number, admissible)
def test_predict_x0_undoes_q_sample(x0, noise, alpha_bar_t):
    xt = q_sample(tensor(x0), alpha_bar_t, tensor(noise))
    assert predict_x0(xt, tensor(noise), alpha_bar_t).item() == pytest.approx(x0, abs=1e-12)


@given(number, number, admissible)
def test_predict_eps_undoes_q_sample(x0, noise, alpha_bar_t):
    xt = q_sample(tensor(x0), alpha_bar_t, tensor(noise))
    assert predict_eps(xt, tensor(x0), alpha_bar_t).item() == pytest.approx(noise, abs=1e-12)


@given(number, number, admissible)
def test_predict_eps_and_predict_x0_undo_each_other(xt, eps, alpha_bar_t):
    x0 = predict_x0(tensor(xt), tensor(eps), alpha_bar_t)
    assert predict_eps(tensor(xt), x0, alpha_bar_t).item() == pytest.approx(eps, abs=1e-11)


def test_each_sample_may_have_its_own_alpha_bar():
    x0 = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    xt = q_sample(x0, tensor(1.0, 0.64, 0.25), torch.zeros_like(x0))
    assert xt.amax((1, 2, 3)).tolist() == [1.0, 0.8, 0.5]
    assert xt.amin((1, 2, 3)).tolist() == [1.0, 0.8, 0.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_state_is_kept(dtype):
    x = torch.ones(2, 3, dtype=dtype)
    for coefficient in (0.5, tensor(0.5, 0.25)):
        for f in (q_sample, predict_x0, predict_eps):
            arguments = (x, coefficient, x) if f is q_sample else (x, x, coefficient)
            assert f(*arguments).dtype == dtype


def test_coefficients_follow_the_state_to_its_device():
    x = torch.zeros(2, 3, device="meta")  # a device without numbers, which every machine has
    assert q_sample(x, tensor(0.5, 0.25), x).device == x.device


def test_clean_data_stays_as_it_is():
    x0 = tensor(0.3, -0.7)
    assert torch.equal(q_sample(x0, 1.0, tensor(5.0, 5.0)), x0)


@pytest.mark.parametrize("alpha_bar_t", [0.0, -0.1, 1.1, float("nan")])
def test_alpha_bar_outside_0_to_1_is_refused(alpha_bar_t):
    x = tensor(1.0)
    for call in (lambda: q_sample(x, alpha_bar_t, x), lambda: predict_x0(x, x, alpha_bar_t)):
        with pytest.raises(ValueError, match=rf"alpha_bar_t must lie in \(0, 1\], got {alpha_bar_t}"):
            call()
    with pytest.raises(ValueError, match=rf"alpha_bar_t must lie in \(0, 1\], got \[0.5, {alpha_bar_t}\]"):
        q_sample(tensor(1.0, 1.0), tensor(0.5, alpha_bar_t), tensor(1.0, 1.0))


def test_noise_cannot_be_read_off_clean_data():
    with pytest.raises(
        ValueError, match=r"^alpha_bar_t must be below 1 to recover the noise, got 1 \(time 0 carries none\)$"
    ):
        predict_eps(tensor(1.0), tensor(1.0), 1.0)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"\(2, 3\) .*\(3, 2\)"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), r"torch.float32 .*torch.float64"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2), r"floating-point tensor, got torch.int64"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), r"floating-point tensor, got torch.int64"),
    ],
)
@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda a, b: q_sample(a, 0.5, b), "(x0|noise)"),
        (lambda a, b: predict_x0(a, b, 0.5), "(xt|eps)"),
        (lambda a, b: predict_eps(a, b, 0.5), "(xt|x0)"),
    ],
)
def test_states_that_do_not_match_are_refused_by_name(call, names, first, second, message):
    with pytest.raises(ValueError, match=f"{names} .*{message}"):
        call(first, second)


def test_a_coefficient_of_the_wrong_length_is_refused_by_name():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"alpha_bar_t.*\(2,\), got shape \(3,\)"):
        q_sample(x, tensor(0.5, 0.5, 0.5), x)
