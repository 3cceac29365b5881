"""What ddim_lib samples from given noise with the playground's network, for ``playground.test.mjs``: JSON on stdout."""

import json
import sys

import torch

from ddim_lib import Schedule, ddim_sample, load_pretrained, make_tau, samplers
from ddim_lib.onnx_export import rounded
from ddim_lib.solvers import exponential_sample

CASES = [
    {"S": 20, "eta": 0.0, "solver": "ddim"},
    {"S": 20, "eta": 1.0, "solver": "ddim"},
    {"S": 10, "eta": 0.0, "solver": "exponential"},
]
IMAGES = 2


def sample(bits: int, case: dict, xT: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """x_0 of a case; ``noise`` holds what each step is to draw."""
    unet, schedule = rounded(load_pretrained("mnist"), bits), Schedule.linear(T=1000)
    tau, drawn = make_tau(schedule.T, case["S"]), iter(noise)
    samplers._randn_like = lambda x, generator: next(drawn)
    exponential = case["solver"] == "exponential"
    walk = (
        exponential_sample(unet, schedule, xT, tau)
        if exponential
        else ddim_sample(unet, schedule, xT, tau, case["eta"])
    )
    *_, last = walk
    return last.xt


def main(bits: int) -> None:
    """Write the cases, each with its noise and its samples."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for case in CASES:
        xT = torch.randn(IMAGES, 1, 28, 28, generator=generator)
        noise = torch.randn(case["S"] - 1, IMAGES, 1, 28, 28, generator=generator)
        x0 = sample(bits, case, xT, noise)
        arrays = {"xT": xT.flatten(), "noise": noise.flatten(1), "x0": x0.flatten()}
        cases.append(case | {name: array.tolist() for name, array in arrays.items()})
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
