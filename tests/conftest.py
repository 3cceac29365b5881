import pytest
import torch
from hypothesis import Phase, settings

import ddim_lib.__main__ as cli
from ddim_lib import Schedule, UNet, UNetConfig, load_dataset

settings.register_profile("ddim", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ddim")
# For `make mutants`, which asks whether a test fails, and not for the simplest example.
settings.register_profile("mutants", settings.get_profile("ddim"), phases=(Phase.explicit, Phase.generate))
torch.set_num_threads(1)  # the networks here are so small that threads only cost time


def pytest_addoption(parser):
    parser.addoption("--require-cuda", action="store_true", help="stop at once where there is no CUDA device")


def pytest_configure(config):
    if config.getoption("--require-cuda") and not torch.cuda.is_available():
        pytest.exit("--require-cuda: this machine has no CUDA device that torch can use; `make test` needs none", 2)


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NO_CUDA)])
def device(request):
    return torch.device(request.param)


@pytest.fixture(scope="session")
def linear():
    return Schedule.linear(T=1000)


@pytest.fixture(scope="session")
def short():
    """Forty steps that end as noisy as the usual thousand."""
    return Schedule.linear(T=40, beta_1=1e-3, beta_T=0.45)


@pytest.fixture(scope="session")
def two_steps():
    """Square roots that are known by heart: 1, 0.8 and 0.5 for the signal, 0 and 0.6 for the noise."""
    return Schedule.from_alpha_bar([1.0, 0.64, 0.25])


@pytest.fixture
def tiny_config():
    return UNetConfig(patch=1, channels=(8, 16), attention=(False, True), groups=4)


@pytest.fixture
def tiny_unet(tiny_config):
    """A network whose every weight differs from zero, so that every part of it has a say."""
    torch.manual_seed(0)
    return perturbed(UNet(tiny_config))


@pytest.fixture(scope="session")
def mnist_5k():
    return load_dataset("mnist-5k")


def perturbed(unet, scale=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return unet


def assert_refused(capsys, arguments, *parts):
    """Exit status 2 and one line on stderr that holds the parts."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.removesuffix("\n").split("\n")
    line = line.rsplit("\r")[-1]  # what a progress bar wrote is gone from the screen
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
