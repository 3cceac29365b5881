"""Training processes that are killed at random moments, and resumed, end with the weights of one that never was."""

import json
import os
import subprocess
import sys

# One process imports the library and forks the training processes, since every import costs seconds.
SCRIPT = """
import dataclasses, functools, json, os, random, signal, sys, time
from pathlib import Path
import torch, torch._dynamo, torch.distributed.fsdp  # what training would import
from ddim_lib import UNetConfig, __main__, commands

config = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4, dropout=0.1)
commands.PRESETS["mnist-5k"] = dataclasses.replace(commands.PRESETS["mnist-5k"], unet=config)
commands.make_tau = lambda T, S: torch.tensor([0, T])  # one evaluation a sheet
commands.load_pixels = functools.cache(commands.load_pixels)
commands.load_pixels("mnist-5k", "train")
folder, steps, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def begin(out):
    options = ["--steps", str(steps), "--checkpoint-every", "1", "--batch-size", "4", "--device", "cpu", "--resume"]
    if process := os.fork():
        return process
    try:
        os._exit(__main__.main(["train", "mnist-5k", *options, "--out", str(out)]))
    finally:
        os._exit(1)


def newest(out):
    return max([int(path.stem[-8:]) for path in out.glob("checkpoint-*.json")], default=0)


def alive(process):
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


began = time.monotonic()
assert os.waitpid(begin(folder / "whole"), 0)[1] == 0
seconds, rng, found, run = time.monotonic() - began, random.Random(0), [], 0
while len(found) < kills or sum(torn for _, torn in found) < kills // 4:
    out, kind = folder / f"killed-{run}", ("any time", "after a step", "in a checkpoint")[len(found) % 3]
    goal, process = newest(out) + rng.randint(1, steps // kills), begin(out)
    if kind == "any time":
        time.sleep(rng.uniform(0, seconds / 4))
    while kind != "any time" and alive(process) and newest(out) < goal:
        time.sleep(0.002)
    if kind == "after a step":
        time.sleep(rng.uniform(0, seconds / steps))
    while kind == "in a checkpoint" and alive(process) and not any(out.glob(f".*.{process}.tmp")):
        pass
    os.kill(process, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(process, 0)[1]):
        found.append((newest(out), any(out.glob(f".*.{process}.tmp"))))
    else:
        run += 1  # it had finished: kill another
        assert run < 5
for number in range(run + 1):
    assert os.waitpid(begin(folder / f"killed-{number}"), 0)[1] == 0
print(json.dumps(found))
"""


def test_killed_and_resumed_training_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    steps, kills = 40, 9
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(steps), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len({step for step, _ in found}) > kills // 3  # at many steps
    assert sum(torn for _, torn in found) >= kills // 4  # and while a checkpoint was being written
    for folder in tmp_path.glob("killed-*"):
        assert [path.name for path in folder.iterdir() if path.suffix == ".tmp"] == []
        for file in ("ema.safetensors", f"checkpoint-{steps:08d}.safetensors"):
            assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
