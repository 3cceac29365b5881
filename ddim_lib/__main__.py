"""The command line: ``python -m ddim_lib COMMAND``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from . import commands, diffusers_models, measuring, memorization, onnx_export
from .grids import GRIDS
from .paper import TABLE_2
from .reading import brief

LARGEST = {"seed": 2**31 - 1, "width": 10_000}  # of an option; of any other 10^14, which no tensor could hold


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one short line, whatever the arguments."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2."""
        super().error(brief(message))


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = Parser(prog="python -m ddim_lib", description=__doc__)
    known = {
        "train": ("train a U-Net", _add_train),
        "sample": ("sample images from a trained model", _add_sample),
        "evaluate": ("measure samples over a grid of eta and S; may be stopped and called again", _add_evaluate),
        "invert": ("encode and decode test images with S steps; may be stopped and called again", _add_invert),
        "neighbors": ("find the training images that samples are nearest to", _add_neighbors),
        "train-classifier": ("train the classifier that evaluate measures with", _add_train_classifier),
        "export-diffusers": ("write a trained model as a folder that diffusers opens", _add_export_diffusers),
        "export-onnx": ("write a trained model as an ONNX file, which runs without PyTorch", _add_export_onnx),
        "download": ("fetch a data set into $DDIM_DATA or the user's cache", _add_download),
        "bench": ("measure the sampler against bare network evaluations", _add_bench),
    }
    subparsers = top.add_subparsers(required=True, metavar=f"{{{','.join(known)}}}")
    for name, (help_text, add_arguments) in known.items():
        add_arguments(subparsers.add_parser(name, help=help_text))
    return top


def _add_train(sub: argparse.ArgumentParser) -> None:
    what = "a network and how to train it; the options below change the latter"
    sub.add_argument("preset", choices=commands.PRESETS, help=what)
    sub.add_argument("--steps", type=int)
    sub.add_argument("--batch-size", type=int, help="of all processes together")
    what = "parts of a batch, one after the other, to save memory; the result is the same"
    sub.add_argument("--accumulate", type=int, metavar="PARTS", help=what)
    sub.add_argument("--out", type=Path, required=True, help="folder for checkpoints, sheets and weights")
    sub.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if any")
    sub.add_argument("--lr", type=float, help="Adam's learning rate after the warm-up")
    sub.add_argument("--focus", type=float, help="share of the times drawn around T / 2, 0 for DDPM's")
    sub.add_argument("--ema", type=float, help="decay of the averaged weights")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="default: on CUDA that has it")
    sub.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    sub.add_argument("--half", action="store_true", help="write the final weights in half precision")
    sub.add_argument("--checkpoint-every", type=int, default=500, metavar="STEPS")
    sub.add_argument("--keep", type=int, default=2, metavar="K", help="how many of the newest checkpoints to keep")
    sub.add_argument("--sample-every", type=int, default=2000, metavar="STEPS")
    sub.set_defaults(run=commands.run_train, out_is="folder")


def _add_network(sub: argparse.ArgumentParser) -> None:
    """What all commands that run a trained network have in common."""
    sub.add_argument("model", help="a pretrained model, named as its data set: mnist or cifar10")
    sub.add_argument("--weights", type=Path, help="a file of weights instead of the pretrained ones")
    sub.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    sub.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")


def _add_sample(sub: argparse.ArgumentParser) -> None:
    _add_network(sub)
    sub.add_argument("--steps", type=int, default=50, help="S, network evaluations an image")
    sub.add_argument("--eta", type=float, default=0.0, help="0 is DDIM, 1 is DDPM")
    sub.add_argument("--spacing", default="uniform", choices=("uniform", "leading", "quadratic"))
    sub.add_argument("--n", type=int, default=64, help="number of images")
    sub.add_argument("--batch-size", type=int, default=256)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path, default=Path("samples.png"))
    sub.set_defaults(run=commands.run_sample, out_is="file")


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    _add_network(sub)
    sub.add_argument("--grid", choices=GRIDS, default="paper", help="Table 1; conventions for tau; or solvers")
    sub.add_argument("--steps", type=int, nargs="+", metavar="S", help="other S; for solvers, evaluations")
    sub.add_argument("--n", type=int, required=True, help="number of images a cell, a multiple of 50")
    what = "those of the classifier trained here, or Inception's, for FID: needs pytorch-fid and in practice a GPU"
    sub.add_argument("--features", choices=("classifier", "inception"), default="classifier", help=what)
    sub.add_argument("--batch-size", type=int, default=250, help="a multiple of 50; does not change the samples")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--bf16", action="store_true", help="the network's matrix products in bfloat16")
    sub.add_argument("--out", type=Path, required=True, help="the result file; finished cells in it are kept")
    sub.set_defaults(run=measuring.run_evaluate, out_is="file")


def _add_invert(sub: argparse.ArgumentParser) -> None:
    _add_network(sub)
    sub.add_argument("--steps", type=int, nargs="+", default=list(TABLE_2), metavar="S")
    sub.add_argument("--n", type=int, required=True, help="number of images")
    sub.add_argument("--batch-size", type=int, default=100)
    sub.add_argument("--out", type=Path, required=True, help="the result file; finished cells in it are kept")
    sub.set_defaults(run=measuring.run_invert, out_is="file")


def _add_neighbors(sub: argparse.ArgumentParser) -> None:
    _add_network(sub)
    sub.add_argument("--n", type=int, default=1000, help="number of samples, and of test images, a multiple of 50")
    sub.add_argument("--show", type=int, default=8, metavar="ROWS", help="how many of the worst samples a sheet shows")
    sub.add_argument("--k", type=int, default=3, help="how many neighbors a sheet shows of each, at most 50")
    sub.add_argument("--steps", type=int, default=50, help="S, network evaluations an image")
    sub.add_argument("--batch-size", type=int, default=250, help="a multiple of 50; does not change the samples")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--bf16", action="store_true", help="the network's matrix products in bfloat16")
    sub.add_argument("--out", type=Path, required=True, help="the result file, .json; the sheets are written beside it")
    sub.set_defaults(run=memorization.run_neighbors, out_is="file")


def _add_train_classifier(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dataset", choices=("mnist", "mnist-5k", "cifar10"))
    sub.add_argument("--epochs", type=int, default=8)
    sub.add_argument("--width", type=int, default=32, help="channels of the first convolution")
    sub.add_argument("--bf16", action="store_true", help="the network's matrix products in bfloat16")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path, required=True, help="the file of weights; a JSON file is written beside it")
    sub.set_defaults(run=measuring.run_train_classifier, out_is="file")


def _add_export_diffusers(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", help="a pretrained model: mnist or cifar10")
    sub.add_argument("--weights", type=Path, help="a file of weights instead of the pretrained ones")
    sub.add_argument("--size", type=int, help="height and width of an image; default: 28 for grey ones, 32 for colour")
    sub.add_argument("--out", type=Path, required=True, help="a new folder")
    sub.set_defaults(run=diffusers_models.run_export_diffusers, out_is="folder")


def _add_export_onnx(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", help="a pretrained model: mnist or cifar10")
    sub.add_argument("--weights", type=Path, help="a file of weights instead of the pretrained ones")
    what = "round the weights to whole numbers of so many bits, 9 to 16, for a small download; default: float32"
    sub.add_argument("--bits", type=int, help=what)
    sub.add_argument("--out", type=Path, required=True, help="the file, .onnx; a JSON file is written beside it")
    sub.set_defaults(run=onnx_export.run_export_onnx, compile=False, out_is="file")


def _add_download(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dataset", choices=("mnist", "cifar10"))
    sub.set_defaults(run=commands.run_download)


def _add_bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--batch-size", type=int, nargs="+", default=[1, 50, 250])
    sub.add_argument("--steps", type=int, default=20)
    sub.add_argument("--repeats", type=int, default=7)
    sub.set_defaults(run=commands.run_bench)


def _check_out(out: Path, wanted: str) -> None:
    """Raise ValueError if ``--out`` is something else already than the file or folder that a command writes."""
    found = "folder" if out.is_dir() else "file" if out.is_file() else "pipe or device"
    if out.exists() and found != wanted:
        raise ValueError(f"--out must be a {wanted}, got the {found} {out}")


def _check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for what no command takes: a number that does not fit into 64 bits, a device to write to."""
    if "out" in args:
        _check_out(args.out, args.out_is)
    for name, value in vars(args).items():
        option = f"--{name.replace('_', '-')}"
        for number in value if isinstance(value, list) else [value]:
            least, largest = 0 if name == "seed" else -(10**14), LARGEST.get(name, 10**14)
            if type(number) is int and not least <= number <= largest:
                raise ValueError(f"{option} must lie in {least}..{largest}, got {brief(number)}")
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{option} must be a finite number, got {number}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; bad input ends in one line on stderr and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    args.command = shlex.join(["python", "-m", "ddim_lib", *argv])
    if hasattr(sys.stdout, "reconfigure"):  # a path may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_arguments(args)
        return args.run(args) or 0
    except (ValueError, OverflowError, FloatingPointError, MemoryError, OSError) as error:
        print(f"error: {brief(error) or 'the memory is too small'}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "alloc" not in str(error):  # PyTorch's error where memory is short
            raise
        print(f"error: the memory is too small: {brief(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
