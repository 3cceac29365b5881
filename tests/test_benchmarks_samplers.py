"""The comparisons of samplers under benchmarks/: they end where they should, and the result files are comparable."""

import importlib.util
import json
import sys

import pytest
import torch
from conftest import perturbed
from test_style import ROOT

from ddim_lib import Schedule, UNet, UNetConfig, ddim_sample, make_tau
from ddim_lib.grids import Cell
from ddim_lib.walks import counting, last_state

needs_diffusers = pytest.mark.skipif(
    not importlib.util.find_spec("diffusers"), reason="diffusers is not installed; `make diffusers` installs it"
)


@pytest.fixture(scope="module")
def script():
    """A function that imports a script of benchmarks/ by its name."""
    sys.path.append(str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return perturbed(UNet(UNetConfig(patch=2, channels=(8, 16), attention=(False, True), groups=4)))


def noise(seed=0, size=3):
    return torch.randn(size, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@needs_diffusers
def test_all_ways_to_sample_agree_and_one_that_does_not_is_refused(script):
    overhead = script("overhead")
    ways = overhead.samplers(overhead.Returns(), batch_size=2, S=7)
    assert overhead.difference(ways) < 1e-5
    with pytest.raises(ValueError, match=r"the samplers must agree to 0\.0001, got a difference of 1\.0e-03"):
        overhead.difference(ways | {"moved": lambda: ways["ddim_sample"]() + 1e-3})


@needs_diffusers
def test_the_authors_loop_with_noise_is_the_books(script, monkeypatch, unet):
    overhead, tau, generator = script("overhead"), make_tau(1000, 5, "leading"), torch.Generator()
    book = last_state(ddim_sample(unet, Schedule.linear(1000), noise(), tau, 0.7, generator=generator.manual_seed(3)))
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, generator=generator))
    generator.manual_seed(3)
    torch.testing.assert_close(overhead.authors(unet, noise(), tau, 0.7), book, atol=1e-4, rtol=1e-4)


@needs_diffusers
def test_the_figures_of_a_cell_follow_from_each_other(script):
    overhead = script("overhead")
    cell = overhead.measure(overhead.Returns(), batch_size=2, S=4, rounds=3)
    for found in cell["ways"].values():
        assert found["images_per_second"] == pytest.approx(2 / 4 / found["seconds_a_step"]["median"])
    assert cell["ways"]["bare network"]["over_bare"] == {"median": 1, "lower": 1, "upper": 1}
    assert all(found["beside_network"]["median"] > 0 for found in list(cell["ways"].values())[1:])


@needs_diffusers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler, by NumPy 2
def test_every_sampler_makes_the_evaluations_that_its_cell_says(script, unet):
    quality, asked = script("quality"), []
    for cell in quality.cells((5, 10)):
        made = []
        model = counting(lambda x, t: asked.append(t) or 0.5 * x, made.append)
        xT = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        state = last_state(cell.walk(model, Schedule.linear(1000), xT, [torch.Generator()]))
        assert (len(made), state.shape) == (cell.evaluations, xT.shape), cell.key
        assert state.isfinite().all()
    assert {cell.row for cell in quality.cells((5,))} == {"eta=1", *quality.SAMPLERS}
    assert (min(int(t.min()) for t in asked), max(int(t.max()) for t in asked)) == (1, 1000)


@needs_diffusers
@pytest.mark.parametrize(("sampler", "spacing"), [("DDIM leading", "leading"), ("DDIM trailing", "uniform")])
def test_a_cell_of_diffusers_ddim_is_the_books(script, unet, sampler, spacing):
    walk = [unet, Schedule.linear(1000), noise(), [torch.Generator()]]
    theirs, ours = script("quality").PeerCell(sampler, 5).walk(*walk), Cell(0.0, 5, spacing=spacing).walk(*walk)
    torch.testing.assert_close(last_state(theirs), last_state(ours), atol=1e-3, rtol=1e-4)


@needs_diffusers
def test_an_unknown_sampler_is_refused_by_name(script):
    with pytest.raises(ValueError, match=r"sampler must be one of DDIM clipped, .*, got 'Heun'"):
        script("quality").PeerCell("Heun", 5)


def test_an_import_is_timed_after_pytorchs(script):
    torch_took, line_took = script("startup").seconds_of_import("time.sleep(0.2); assert torch.__version__")
    assert torch_took > 0.1
    assert line_took >= 0.2


@pytest.mark.skipif(
    not importlib.util.find_spec("denoising_diffusion_pytorch"),
    reason="`make bench` installs denoising-diffusion-pytorch",
)
def test_the_other_unet_is_loaded_without_torchvision_and_runs(script):
    there = "torchvision" in sys.modules
    unet = script("nearest").load().Unet(dim=8, dim_mults=(1, 2), channels=1)
    assert unet(noise(), torch.tensor([1, 2, 3])).shape == noise().shape
    assert ("torchvision" in sys.modules, "pytorch_fid" in sys.modules) == (there, there)


def test_the_peers_were_measured_as_the_books_samplers_were():
    ours, theirs = (json.loads((ROOT / f"results/mnist_{name}.json").read_text()) for name in ("solvers", "peers"))
    shared = ("model_sha256", "classifier_sha256", "dataset", "n", "seed", "bf16")
    assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}
    assert theirs["floor"]["frechet"] == pytest.approx(ours["floor"]["frechet"], rel=1e-4)
    assert {cell["n"] for cell in theirs["cells"].values()} == {ours["n"]}
    for S in (5, 10, 20):  # the same sampler in two libraries, but for rounding in bfloat16
        pair = theirs["cells"][f"DDIM trailing {S}"], ours["cells"][f"eta=0 S={S} uniform"]
        assert abs(pair[0]["frechet"] - pair[1]["frechet"]) < 0.1 * pair[0]["frechet_error"]
