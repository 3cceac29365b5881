"""Seconds that ``import ddim_lib`` adds to ``import torch``, beside those of diffusers and denoising-diffusion-pytorch.

Each import is timed in a fresh process, after PyTorch's; the processes take turns. denoising-diffusion-pytorch is
imported without torchvision and pytorch-fid, which it asks for and which would add to its time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from measures import summary

from ddim_lib.commands import versions
from ddim_lib.results import write_result

HERE = Path(__file__).resolve().parent
LINES = {
    "ddim_lib": "import ddim_lib",
    "diffusers": "from diffusers import DDIMScheduler, UNet2DModel",
    "denoising_diffusion_pytorch": "from nearest import load; load()",
}
TIMED = """
import time
began = time.perf_counter()
import torch
middle = time.perf_counter()
{line}
print(middle - began, time.perf_counter() - middle)
"""


def seconds_of_import(line: str) -> tuple[float, float]:
    """Of PyTorch, and of the line after it, in a process of their own."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TIMED.format(line=line)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    torch_took, line_took = (float(word) for word in done.stdout.split()[-2:])
    return torch_took, line_took


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of every import; a first round fills the caches of files and is left out."""
    found: dict[str, list[float]] = {name: [] for name in ("torch", *LINES)}
    for number in range(rounds + 1):
        for name, line in LINES.items():
            torch_took, line_took = seconds_of_import(line)
            if number > 0:
                found["torch"].append(torch_took)
                found[name].append(line_took)
    return {name: summary(seconds) for name, seconds in found.items()}


def main() -> None:
    """Measure, print, write the result file."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--rounds", type=int, default=10, help="at least 2, for quartiles")
    top.add_argument("--out", type=Path, default=Path("results/bench_import.json"))
    args = top.parse_args()
    packages = {name: importlib.metadata.version(name) for name in ("diffusers", "denoising-diffusion-pytorch")}
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "versions": versions() | packages}
    result |= {"rounds": args.rounds, "seconds": measure(args.rounds)}
    write_result(args.out, result)
    print(json.dumps(result["seconds"], indent=1))


if __name__ == "__main__":
    main()
