import pytest
import sympy as sp

from ddim_lib.symbols import alpha_bar_s, alpha_bar_t, eps, m, n, sigma, vanishes, x0, xt


@pytest.mark.parametrize(
    "identity",
    [
        (1 - alpha_bar_t) - sp.sqrt(1 - alpha_bar_t) ** 2,
        sp.sqrt((1 - alpha_bar_s) ** 2) - (1 - alpha_bar_s),
        sp.sqrt((alpha_bar_s - alpha_bar_t) ** 2) - (alpha_bar_s - alpha_bar_t),
        sp.sqrt((1 - alpha_bar_s) ** 2 - 2 * (1 - alpha_bar_s) * sigma**2 + sigma**4) - (1 - alpha_bar_s - sigma**2),
        (xt - x0) * (xt + x0) - xt**2 + x0**2 + 0 * eps,
        sp.sqrt(alpha_bar_t / alpha_bar_s) * sp.sqrt(alpha_bar_s) - sp.sqrt(alpha_bar_t),
    ],
    ids=str,
)
def test_an_identity_on_the_domain_vanishes(identity):
    assert vanishes(identity)


@pytest.mark.parametrize(
    "claim",
    [
        sp.Integer(1),
        sigma,
        1 - alpha_bar_t - alpha_bar_s,
        sp.sqrt((alpha_bar_s - alpha_bar_t) ** 2) - (alpha_bar_t - alpha_bar_s),  # the other root
        sp.sqrt(1 - alpha_bar_s - sigma**2) - sp.sqrt(1 - alpha_bar_s) + sigma,
        m - n,
        sp.sqrt(((1 - alpha_bar_s) ** 2 - sigma**2) / (1 - alpha_bar_t))
        - sp.sqrt((1 - alpha_bar_s - sigma**2) / (1 - alpha_bar_t)),  # a slip of one of the seeds
    ],
    ids=str,
)
def test_what_is_no_identity_does_not_vanish(claim):
    assert not vanishes(claim)
