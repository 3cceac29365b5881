"""Training in several processes: the same as in one, but for rounding."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import ddim_lib.__main__ as cli
from ddim_lib import TrainConfig, UNet, UNetConfig, commands
from ddim_lib.parallel import batch_parts, this_process
from ddim_lib.weights import load_tensors

TINY = {"patch": 1, "channels": (4, 4, 8), "attention": (False, False, True), "groups": 4}
OPTIONS = ["train", "mnist-5k", "--device", "cpu", "--batch-size", "8", "--focus", "0.5", "--lr", "0.3"]
SCRIPT = f"""
import importlib, sys
from dataclasses import replace
from ddim_lib import UNetConfig, __main__, commands
commands.PRESETS["mnist-5k"] = replace(commands.PRESETS["mnist-5k"], unet=UNetConfig(**{TINY}))
commands.make_tau = lambda T, S: torch.tensor([0, T])  # one evaluation a sheet
importlib.import_module("ddim_lib.train").HISTORY_EVERY = 1  # the whole loss curve
"""
SCRIPT = f"import torch\n{SCRIPT}\nsys.exit(__main__.main(sys.argv[1:]))"


def torchrun(folder, *options):
    (folder / "script.py").write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / "script.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launch, *OPTIONS, *map(str, options)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def tiny(monkeypatch):
    preset = replace(commands.PRESETS["mnist-5k"], unet=UNetConfig(**TINY))
    monkeypatch.setitem(commands.PRESETS, "mnist-5k", preset)
    monkeypatch.setattr(commands, "make_tau", lambda T, S: torch.tensor([0, T]))
    monkeypatch.setattr(sys.modules["ddim_lib.train"], "HISTORY_EVERY", 1)


@pytest.mark.usefixtures("tiny")
def test_two_processes_follow_the_loss_curve_of_one(tmp_path):
    with torchrun(tmp_path, "--steps", "20", "--out", tmp_path / "two", "--accumulate", "2") as run:
        said, errors = run.communicate()
    assert run.returncode == 0, errors
    assert said.count("20 steps in") == 1  # by the main process alone
    assert cli.main([*OPTIONS, "--steps", "20", "--out", str(tmp_path / "one")]) == 0

    one, two = (json.loads((tmp_path / name / "ema.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert [step for step, _ in two["history"]] == list(range(1, 21))
    curves = (torch.tensor([loss for _, loss in run["history"]]) for run in (two, one))
    torch.testing.assert_close(*curves, rtol=1e-3, atol=0)
    torch.manual_seed(0)
    start, (trained, _) = UNet(UNetConfig(**TINY)), load_tensors(tmp_path / "one" / "ema.safetensors")
    assert (start.conv_out.weight - trained["conv_out.weight"]).abs().max() > 0.05  # far enough to matter


def test_a_signal_to_the_launcher_saves_and_stops_all_processes(tmp_path):
    folder = tmp_path / "run"
    with torchrun(tmp_path, "--steps", "100000", "--checkpoint-every", "1", "--out", folder) as run:
        while not [*folder.glob("checkpoint-*.json")]:
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    assert errors.count("stopped by SIGTERM after step") == 1


def process(index, count):
    return SimpleNamespace(process_index=index, num_processes=count)


def test_the_parts_of_all_processes_make_up_the_batch():
    config = TrainConfig(batch_size=24, accumulate=3)
    parts = [part for index in range(4) for part in batch_parts(config, process(index, 4))]
    assert [i for part in parts for i in range(24)[part]] == list(range(24))
    assert {len(range(24)[part]) for part in parts} == {2}


def test_processes_that_cannot_share_a_batch_evenly_are_refused():
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of accumulate \* processes = 2 \* 4, got 12"):
        batch_parts(TrainConfig(batch_size=12, accumulate=2), process(0, 4))


def test_a_network_on_the_device_of_another_process_is_refused(monkeypatch):
    found = SimpleNamespace(num_processes=2, device=torch.device("cuda:1"))
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: found)
    with pytest.raises(ValueError, match="unet is on cpu; move it to this process's device, cuda:1"):
        this_process(torch.nn.Linear(1, 1))
