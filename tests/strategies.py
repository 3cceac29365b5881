"""What the property tests draw: schedules, times, noise, states in every memory layout, and data of known estimates."""

import math

import torch
from hypothesis import strategies as st

from ddim_lib import Schedule, make_tau
from ddim_lib.oracle import GaussianMixture

SPACINGS = ("uniform", "leading", "quadratic")
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([torch.float32, torch.float64])


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alpha_bars(low=-12.0, high=12.0):
    """Numbers from 1 - 10^low to 10^-high, as near to both ends as to the middle."""
    return st.floats(low, high).map(lambda power: 1 / (1 + 10**power))


def pairs(low=-12.0, high=12.0):
    """(alpha_bar_t, alpha_bar_s), the former below the latter; some of them almost alike."""
    apart = st.tuples(alpha_bars(low, high), alpha_bars(low, high))
    near = st.tuples(alpha_bars(low, high), st.floats(-9, -1)).map(
        lambda pair: (pair[0], pair[0] * (1 - 10 ** pair[1]))
    )
    return (apart | near).map(sorted).filter(lambda pair: pair[0] < pair[1])


def falling(low, high, max_T):
    """Schedules of random noise levels, neighbors at least a millionth apart (in log10 of the odds of noise)."""
    powers = st.lists(st.floats(low, high), min_size=1, max_size=max_T, unique_by=lambda power: round(power, 6))
    return powers.map(lambda powers: [1.0, *(1 / (1 + 10**power) for power in sorted(powers))]).map(from_distinct)


def from_distinct(values):
    return Schedule.from_alpha_bar(sorted(set(values), reverse=True))


def schedules(low=-4.0, high=4.0, max_T=40):
    """Linear and cosine schedules, and others whose noise levels are random within 10^low and 10^high."""
    T, beta = st.integers(1, max_T), st.floats(1e-4, 0.2)
    return st.one_of(st.builds(Schedule.linear, T, beta, beta), T.map(Schedule.cosine), falling(low, high, max_T))


def taus(T):
    """The times of a spacing, or any increasing ones, of which the last need not be T."""
    spaced = st.tuples(st.integers(1, T), st.sampled_from(SPACINGS)).map(lambda choice: spacing_or_uniform(T, *choice))
    chosen = st.sets(st.integers(1, T), min_size=1).map(lambda times: torch.tensor([0, *sorted(times)]))
    return st.one_of(spaced, chosen)


def spacing_or_uniform(T, S, spacing):
    try:
        return make_tau(T, S, spacing)
    except ValueError:  # quadratic times would repeat
        return make_tau(T, S)


def largest_eta(schedule, tau):
    """The largest eta of a walk: at every step that adds noise, eta^2 beta_tilde is at most 1 - alpha_bar_s."""
    ab = schedule.alpha_bar[tau[1:]]  # the step to time 0 adds none
    return ((1 - ab[1:]) * ab[:-1] / (ab[:-1] - ab[1:])).sqrt().min().item() if len(ab) > 1 else 2.0


@st.composite
def walks(draw, **kind):
    """(schedule, tau)"""
    schedule = draw(schedules(**kind))
    return schedule, draw(taus(schedule.T))


@st.composite
def noise_kinds(draw, schedule, tau):
    """Arguments of ddim_sample: any eta that the walk admits, or the larger noise."""
    if draw(st.integers(0, 4)) == 0:
        return {"variance": "sigma_hat"}
    return {"eta": draw(st.sampled_from([0.0, 1.0]) | st.floats(0, 1)) * min(largest_eta(schedule, tau), 2.0) * 0.999}


side = st.integers(1, 5)
shapes = st.one_of(
    st.tuples(side), st.tuples(side, side), st.tuples(side, st.sampled_from([1, 3]), side, side)
)  # (B,), (B, D), (B, C, H, W), odd sides and B = 1 among them


def transposed(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def sliced(x):
    big = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), math.nan, dtype=x.dtype)
    big[..., 1::2] = x
    return big[..., 1::2]


def offset(x):
    big = torch.full((x.numel() + 3,), math.nan, dtype=x.dtype)
    big[3:] = x.flatten()
    return big[3:].view(x.shape)


def expanded(x):
    """The first sample, as often as there are samples, without a copy."""
    return x[:1].expand(x.shape)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else transposed(x)


layouts = st.sampled_from([transposed, sliced, offset, expanded, channels_last])


@st.composite
def mixtures(draw, dimensions=(1, 2), least=0.05):
    """Gaussian mixtures of up to three components within the unit cube, no narrower than sqrt(least)."""
    k, d, seed = draw(st.integers(1, 3)), draw(st.sampled_from(dimensions)), draw(seeds)
    roots = randn(k, d, d, seed=seed) * 0.3
    means = torch.rand(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    weights = torch.linspace(1, draw(st.floats(1, 3)), k)
    return GaussianMixture(means, roots @ roots.mT + least * torch.eye(d), weights)


def log_uniform(T, low=-2.0, high=1.0):
    """A schedule whose sigma_bar grows from 10^low to 10^high by one factor."""
    level = torch.logspace(low, high, T, dtype=torch.float64)
    return Schedule.from_alpha_bar(torch.cat([torch.ones(1), 1 / (1 + level**2)]))
