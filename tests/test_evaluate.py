import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from ddim_lib import Schedule, UNet, UNetConfig, ddim_sample, make_tau
from ddim_lib.classifier import Classifier, extract_features
from ddim_lib.evaluate import Measure, cell_features, evaluate_grid, pending, sample_cell, table
from ddim_lib.grids import SOLVERS, Cell, paper_grid
from ddim_lib.metrics import fit_gaussian, frechet_distance, frechet_standard_error, kernel_distance
from ddim_lib.results import margin
from ddim_lib.weights import json_sha256, save_weights

TINY = UNetConfig(patch=2, channels=(4, 8), attention=(False, False), groups=4)
HEADER = {"model": "tiny", "model_sha256": "0a", "classifier_sha256": "0b", "dataset": "none", "n": 100, "seed": 0}
HEADER |= {"bf16": False}
ABOUT = {"command": "python -m ddim_lib evaluate tiny", "versions": {"torch": "2"}, "floor": {"frechet": 0.5}}
CELLS = [Cell(0.0, 1), Cell(1.0, 2), Cell(1.0, 2, "sigma_hat"), Cell(0.5, 3)]


class Corners(nn.Module):
    """The smallest classifier: its four features are the means of an image's quarters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, images):
        return self.scale * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    unet = UNet(TINY).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return unet.requires_grad_(False)


@pytest.fixture(scope="module")
def measure():
    return make_measure()


def make_measure():
    images = torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = extract_features(Corners(), images)
    return Measure(Corners(), fit_gaussian(features[:200]), features[200:])


@pytest.fixture
def evaluate(unet, measure, tmp_path):
    """Call evaluate_grid with what is small, but for what the test says."""

    def call(cells=CELLS, path=tmp_path / "result.json", header=HEADER, about=ABOUT, model=unet, **options):
        return evaluate_grid(model, measure, cells, path, header, about, **({"batch_size": 50} | options))

    return call


@pytest.fixture(scope="module")
def whole(unet, measure, tmp_path_factory):
    """The file of a run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "result.json"
    evaluate_grid(unet, measure, CELLS, path, HEADER, ABOUT, batch_size=50)
    return path


def samples(unet, cell, n=100, seed=0, batch_size=50, **options):
    return torch.cat(list(sample_cell(unet, cell, range(n // 50), seed, batch_size, **options)))


def timeless(result):
    """The cells without how long they took."""
    return {key: {k: v for k, v in cell.items() if k != "seconds"} for key, cell in result["cells"].items()}


def test_an_empty_grid_is_refused(evaluate, tmp_path):
    with pytest.raises(ValueError, match="the grid is empty: give at least one cell"):
        evaluate(cells=[])
    assert list(tmp_path.iterdir()) == []


# Samples


def test_samples_are_those_of_the_sampler(unet):
    cell, schedule = Cell(0.7, 3), Schedule.linear(1000)
    generator = torch.Generator().manual_seed(1_000_003 * 4 + 1)  # the second stream of seed 4
    xT = torch.randn(50, 1, 28, 28, generator=generator)
    *_, last = ddim_sample(unet, schedule, xT, make_tau(1000, 3), 0.7, generator=generator)
    assert torch.equal(samples(unet, cell, seed=4)[50:], last.xt)


def test_sigma_hat_is_sampled_with_its_own_noise(unet):
    generator = torch.Generator().manual_seed(0)
    xT = torch.randn(50, 1, 28, 28, generator=generator)
    walk = ddim_sample(unet, Schedule.linear(1000), xT, make_tau(1000, 2), variance="sigma_hat", generator=generator)
    *_, last = walk
    assert torch.equal(samples(unet, Cell(1.0, 2, "sigma_hat"), n=50), last.xt)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.key)
def test_an_image_is_the_same_whatever_n_is(unet, cell):
    assert torch.equal(samples(unet, cell, n=150)[:50], samples(unet, cell, n=50))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.key)
def test_an_image_is_the_same_up_to_rounding_whatever_the_batches_are(unet, cell):
    wanted = samples(unet, cell, n=150)
    for batch_size in (100, 1000):
        torch.testing.assert_close(samples(unet, cell, 150, batch_size=batch_size), wanted, rtol=1e-3, atol=1e-3)


def test_every_stream_and_every_seed_gives_other_images(unet):
    found = torch.cat([samples(unet, Cell(1.0, 2), n=100, seed=seed) for seed in (0, 1)])
    assert len(found.flatten(1).unique(dim=0)) == 200


def test_the_global_random_numbers_are_neither_read_nor_moved(unet):
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), samples(unet, Cell(1.0, 2), n=50)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(samples(unet, Cell(1.0, 2), n=50), first)


@pytest.mark.parametrize("batch_size", [50, 100, 250])
def test_every_evaluation_is_told_once_with_its_number_of_images(unet, batch_size):
    told = []
    samples(unet, Cell(0.2, 3), n=250, batch_size=batch_size, tell=told.append)
    assert sum(told) == 250 * 3
    assert len(told) == 3 * -(-250 // batch_size)
    assert set(told) <= {batch_size, 250 % batch_size}


@pytest.mark.parametrize("batch_size", [64, 0, -50])
def test_streams_are_not_divided(unet, measure, batch_size):
    message = f"batch_size must be a positive multiple of 50, got {batch_size}"
    with pytest.raises(ValueError, match=message):
        samples(unet, Cell(0.0, 1), batch_size=batch_size)
    with pytest.raises(ValueError, match="n must be a positive multiple of 50, got 75"):
        cell_features(unet, measure.classifier, Cell(0.0, 1), 75, 0, 50)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_cell_of_a_solver_is_sampled_by_it(unet, solver):
    told, cell = [], Cell(0.0, 3, solver=solver)
    xT = torch.randn(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    *_, last = SOLVERS[solver](unet, Schedule.linear(1000), xT, make_tau(1000, 3))
    assert torch.equal(samples(unet, cell, n=50, tell=told.append), last.xt)
    assert sum(told) == 50 * cell.evaluations


def test_bfloat16_changes_samples_by_its_rounding_only(unet):
    exact, rounded = (samples(unet, Cell(0.5, 3), bf16=bf16) for bf16 in (False, True))
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).square().mean().sqrt() < 0.02


def test_two_processes_find_the_features_that_one_finds(unet, tmp_path):
    save_weights(tmp_path / "net.safetensors", unet, {})
    (tmp_path / "script.py").write_text(TWO.format(folder=tmp_path))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *launch], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    wanted = cell_features(unet, Classifier().eval(), Cell(1.0, 2), 150, 0, 50)
    for rank in range(2):  # both have all of them
        assert torch.equal(torch.load(tmp_path / f"features-{rank}-of-2", weights_only=True), wanted)


TWO = """
import torch
from accelerate import PartialState
from pathlib import Path
from ddim_lib.classifier import Classifier
from ddim_lib.evaluate import cell_features
from ddim_lib.grids import Cell
from ddim_lib.weights import load_weights

state = PartialState(cpu=True)
torch.manual_seed(0)
classifier = Classifier().eval()
features = cell_features(load_weights(Path("{folder}/net.safetensors")), classifier, Cell(1.0, 2), 150, 0, 50)
torch.save(features, f"{folder}/features-{{state.process_index}}-of-{{state.num_processes}}")
state.destroy_process_group()
"""


def test_colour_images_have_32_pixels_a_side():
    unet = UNet(UNetConfig(3, patch=2, channels=(4, 8), attention=(False, False), groups=4)).eval()
    assert samples(unet, Cell(0.0, 1), n=50).shape == (50, 3, 32, 32)


# The result file


def test_the_file_holds_what_is_returned(evaluate, tmp_path):
    result = evaluate()
    assert json.loads((tmp_path / "result.json").read_text()) == result | {"json_sha256": json_sha256(result)}
    assert {key: result[key] for key in HEADER | ABOUT} == HEADER | ABOUT
    assert list(result["cells"]) == [cell.key for cell in CELLS]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_cell_says_what_it_is_what_it_measured_and_what_it_cost(evaluate, unet, measure):
    cell, found = CELLS[2], evaluate()["cells"]["sigma_hat S=2 uniform"]
    features = extract_features(Corners(), samples(unet, cell).clamp(-1, 1))
    assert found.pop("seconds") >= 0
    assert found.pop("hardware").endswith("CPU, 1 threads")
    assert found == {
        "eta": 1.0,
        "S": 2,
        "variance": "sigma_hat",
        "spacing": "uniform",
        "solver": "ddim",
        "n": 100,
        "frechet": pytest.approx(frechet_distance(fit_gaussian(features), measure.reference)),
        "frechet_error": pytest.approx(frechet_standard_error(features, measure.reference)),
        "kernel": pytest.approx(kernel_distance(features, measure.real[:100])[0]),
        "kernel_error": pytest.approx(kernel_distance(features, measure.real[:100])[1]),
        "evaluations": 2,
        "processes": 1,
    }


def test_the_same_run_gives_the_same_numbers(evaluate, whole, tmp_path):
    assert timeless(evaluate()) == timeless(json.loads(whole.read_text()))


def test_the_batch_size_changes_numbers_by_rounding_only(evaluate, whole):
    wanted, found = timeless(json.loads(whole.read_text())), timeless(evaluate(batch_size=100))
    assert found.keys() == wanted.keys()
    for key, cell in wanted.items():
        for field in ("frechet", "frechet_error", "kernel", "kernel_error"):
            assert found[key].pop(field) == pytest.approx(cell.pop(field), rel=1e-3, abs=1e-6)
    assert found == wanted


def test_a_cell_named_twice_is_measured_once(evaluate):
    told = []
    evaluate(cells=[Cell(0.0, 1), Cell(0.0, 1)], tell=told.append)
    assert sum(told) == 100


# Stopped and called again


class StoppedError(Exception):
    pass


def stopping_after(images):
    """A ``tell`` that raises once so many images were evaluated."""
    told = []

    def tell(count):
        told.append(count)
        if sum(told) > images:
            raise StoppedError

    return tell


def raw_cells(path):
    """The text of every cell as it stands in the file."""
    return dict(re.findall(r'^  "([^"]+)": (\{.*?^  \})', path.read_text(), re.MULTILINE | re.DOTALL))


def test_a_run_stopped_within_a_cell_goes_on_with_that_cell(evaluate, whole, tmp_path, unet, measure):
    path = tmp_path / "result.json"
    with pytest.raises(StoppedError):
        evaluate(tell=stopping_after(100 + 200 + 150))  # in the second step of the third cell
    kept = raw_cells(path)
    assert list(kept) == [cell.key for cell in CELLS[:2]]
    assert pending(unet, measure, CELLS, path, HEADER) == CELLS[2:]

    told = []
    result = evaluate(about=ABOUT | {"command": "again"}, tell=told.append)
    assert sum(told) == 100 * (2 + 3)
    assert {key: text for key, text in raw_cells(path).items() if key in kept} == kept
    assert result["command"] == "again"
    assert timeless(result) == timeless(json.loads(whole.read_text()))


def test_a_run_that_is_killed_loses_the_cell_under_way_and_nothing_else(evaluate, whole, unet, tmp_path):
    path = tmp_path / "result.json"
    save_weights(tmp_path / "net.safetensors", unet, {})
    script = KILLED.format(tests=Path(__file__).parent, folder=tmp_path)
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}) as run:
        while not (path.exists() and len(raw_cells(path)) >= 2):
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    kept = raw_cells(path)
    assert 2 <= len(kept) < len(CELLS)
    told = []
    result = evaluate(tell=told.append)
    assert sum(told) == 100 * sum(cell.S for cell in CELLS[len(kept) :])
    assert {key: text for key, text in raw_cells(path).items() if key in kept} == kept
    assert timeless(result) == timeless(json.loads(whole.read_text()))


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "{tests}")
from ddim_lib.weights import load_weights
from test_evaluate import ABOUT, CELLS, HEADER, evaluate_grid, make_measure

folder = Path("{folder}")
unet = load_weights(folder / "net.safetensors").eval()
slow = lambda images: time.sleep(0.3)
evaluate_grid(unet, make_measure(), CELLS, folder / "result.json", HEADER, ABOUT, batch_size=50, tell=slow)
"""


def test_a_run_stopped_in_its_first_cell_leaves_no_file(evaluate, tmp_path):
    with pytest.raises(StoppedError):
        evaluate(tell=stopping_after(50))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_done_twice(evaluate, tmp_path):
    first, path = evaluate(), tmp_path / "result.json"
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    assert evaluate(tell=stopping_after(0))["cells"] == first["cells"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, written)


def test_a_larger_grid_keeps_the_cells_of_a_smaller_one(evaluate, whole, tmp_path):
    evaluate(cells=CELLS[1:3])
    kept = raw_cells(tmp_path / "result.json")
    evaluate()
    assert kept.items() <= raw_cells(tmp_path / "result.json").items()
    assert timeless(json.loads((tmp_path / "result.json").read_text())) == timeless(json.loads(whole.read_text()))


def test_a_disk_that_fills_leaves_the_cells_before(evaluate, tmp_path, monkeypatch):
    evaluate(cells=CELLS[:1])
    before = (tmp_path / "result.json").read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate()
    assert (tmp_path / "result.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


# What is refused


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 1), ("n", 150), ("model", "other"), ("model_sha256", "ff"), ("classifier_sha256", "ff")]
)
def test_the_file_of_another_run_is_refused_and_left_alone(evaluate, tmp_path, key, value):
    evaluate(cells=CELLS[:1])
    path = tmp_path / "result.json"
    before = path.read_bytes()
    message = f"{re.escape(str(path))} was made with {key} = {HEADER[key]!r} instead of {value!r}; remove it, or write"
    with pytest.raises(ValueError, match=message):
        evaluate(header=HEADER | {key: value}, tell=stopping_after(0))
    assert path.read_bytes() == before


def test_a_truncated_file_is_refused_and_left_alone(evaluate, tmp_path):
    evaluate(cells=CELLS[:1])
    path = tmp_path / "result.json"
    data = path.read_bytes()
    for keep in (0, 1, len(data) // 2, len(data) - 2):
        path.write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"result\.json is damaged or no result file: .*; remove it, or write"):
            evaluate(tell=stopping_after(0))
        assert path.read_bytes() == data[:keep]


@pytest.mark.parametrize("text", ["[]", "null", "3", "{}", '{"cells": []}', '{"cells": {"a": 1}}', "\xff"], ids=repr)
def test_what_is_no_result_file_is_refused(evaluate, tmp_path, text):
    (tmp_path / "result.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"result\.json is damaged or no result file"):
        evaluate(tell=stopping_after(0))


def test_a_cell_that_lost_a_number_is_refused_by_name(evaluate, tmp_path):
    result = evaluate(cells=CELLS[:2])
    del result["cells"]["eta=1 S=2 uniform"]["kernel"]
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="is damaged: 'eta=1 S=2 uniform' is no finished cell"):
        evaluate(tell=stopping_after(0))


@pytest.mark.parametrize("n", [0, 75, 99, 250, -100])
def test_an_n_that_cannot_be_measured_is_refused_at_once(evaluate, measure, n):
    message = rf"n must be a multiple of 50 from 50 \(.*\) to 200 \(.*\), got {n}"
    with pytest.raises(ValueError, match=message):
        evaluate(header=HEADER | {"n": n}, tell=stopping_after(0))
    with pytest.raises(ValueError, match=message):
        measure.floor(n)


def test_64_features_need_100_images():
    measure = Measure(None, fit_gaussian(torch.randn(70, 64)), torch.randn(200, 64))
    assert measure.floor(100)["n"] == 100
    with pytest.raises(ValueError, match="n must be a multiple of 50 from 100 "):
        measure.floor(50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": [Cell(0.0, 1), Cell(0.0, 1001)]}, "S must be a whole number in 1..T = 1..1000, got 1001"),
        ({"cells": [Cell(0.0, 1), Cell(0.0, 0)]}, "S must be a whole number in 1..T = 1..1000, got 0"),
        ({"cells": [Cell(0.0, 1), Cell(0.0, 2, spacing="odd")]}, "odd"),
        ({"batch_size": 60}, "batch_size must be a positive multiple of 50, got 60"),
    ],
    ids=["S too large", "S too small", "spacing", "batch size"],
)
def test_bad_numbers_are_refused_before_anything_is_sampled(evaluate, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tell=stopping_after(0), **options)


# The floor and the table


def test_the_floor_is_what_as_many_real_images_score(measure):
    floor = measure.floor(150)
    assert floor["frechet"] == frechet_distance(fit_gaussian(measure.real[:150]), measure.reference)
    assert floor["frechet_error"] == frechet_standard_error(measure.real[:150], measure.reference)
    assert floor["n"] == 150


def test_the_table_has_a_row_for_each_eta_and_a_column_for_each_s():
    cells = [*paper_grid((20, 10)), Cell(0.0, 1000)]
    floor = {"frechet": 0.5, "frechet_error": 0.1234}
    entries = {cell.key: {"frechet": i + 0.25, "frechet_error": 0.01 * i} for i, cell in enumerate(cells)}
    lines = table({"n": 100, "floor": floor, "cells": entries}, cells).splitlines()
    assert "n = 100" in lines[0]
    assert lines[1].split() == ["evaluations", "10", "20", "1000"]
    assert [line.split()[0] for line in lines[2:7]] == ["eta=0", "eta=0.2", "eta=0.5", "eta=1", "sigma_hat"]
    assert lines[2].split()[1:] == ["0.25", "+-", "0.00", "5.25", "+-", "0.05", "10.25", "+-", "0.10"]
    assert lines[6].split()[1:] == ["4.25", "+-", "0.04", "9.25", "+-", "0.09", "-"]
    assert lines[7].split() == ["real", "images", "0.50", "+-", "0.12"]
    assert len({len(line) for line in lines[1:7]}) == 1
    assert "FID" not in "\n".join(lines).upper()


# Cost


def test_sampling_costs_little_beside_the_bare_network():
    torch.manual_seed(0)
    unet, x, cell = UNet(UNetConfig(channels=(32, 64))).eval(), torch.randn(50, 1, 28, 28), Cell(1.0, 4)
    times = [torch.full((50,), int(t)) for t in make_tau(1000, cell.S)[1:]]

    @torch.no_grad()
    def bare():
        for t in times:
            unet(x, t)

    found = {bare: [], lambda: samples(unet, cell, n=50): []}
    for _ in range(3):
        for run, seconds in found.items():
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
    network, sampled = (statistics.median(seconds[1:]) for seconds in found.values())
    print(f"bare network {network:.3f} s, sample_cell {sampled:.3f} s ({100 * (sampled / network - 1):+.1f} %)")
    assert sampled < 2 * network


def test_a_margin_is_the_difference_in_units_of_its_standard_error():
    one, other = ({"kernel": value, "kernel_error": error} for value, error in ((9.0, 3.0), (4.0, 4.0)))
    assert margin(one, other, of="kernel") == -margin(other, one, of="kernel") == 1.0
