"""Denoising Diffusion Implicit Models, as the book derives them.

The whole of it::

    schedule = ddim_lib.Schedule.linear(T=1000)
    unet = ddim_lib.UNet(ddim_lib.UNetConfig())
    images, _ = ddim_lib.load_dataset("mnist-5k")
    for state in ddim_lib.train(unet, images, schedule, ddim_lib.TrainConfig(steps=1000)):
        ...
    tau = ddim_lib.make_tau(schedule.T, S=50)
    *_, last = ddim_lib.ddim_sample(state.ema, schedule, torch.randn(16, 1, 28, 28), tau, eta=0.0)
    digits = last.xt
"""

from . import oracle, plots
from .datasets import DatasetError, load_dataset
from .diffusers_models import from_diffusers
from .forward import predict_eps, predict_x0, q_sample
from .samplers import Step, ddim_coefficients, ddim_encode, ddim_sample, ddim_sigma, ddim_step, slerp
from .schedules import Schedule, make_tau
from .train import TrainConfig, TrainState, noise_prediction_loss, train
from .unet import EpsModel, UNet, UNetConfig
from .weights import WeightsError, load_pretrained

__version__ = "0.1.0"

__all__ = [
    "DatasetError",
    "EpsModel",
    "Schedule",
    "Step",
    "TrainConfig",
    "TrainState",
    "UNet",
    "UNetConfig",
    "WeightsError",
    "ddim_coefficients",
    "ddim_encode",
    "ddim_sample",
    "ddim_sigma",
    "ddim_step",
    "from_diffusers",
    "load_dataset",
    "load_pretrained",
    "make_tau",
    "noise_prediction_loss",
    "oracle",
    "plots",
    "predict_eps",
    "predict_x0",
    "q_sample",
    "slerp",
    "train",
]
