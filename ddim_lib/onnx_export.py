"""A trained network as an ONNX file, which runs without PyTorch: in a browser, for one.

The file holds ``eps = model(xt, t)`` as the book writes it: xt float32 (B, C, H, W), t int64 (B,) in 1..T.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .commands import load_network, model_sha256
from .files import sole_writer, write_atomic
from .unet import UNet

if TYPE_CHECKING:
    import onnx

OPSET = 18
BITS = range(9, 17)


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers of ``bits`` bits, int32 in the shape of ``weight``, and a float32 scale for each first index.

    ``q * scale`` is the weight, rounded to the nearest of 2^bits - 1 values that span the largest of its row.
    """
    largest = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-30)
    scale = (largest / (2 ** (bits - 1) - 1)).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.detach() / scale).round().int(), scale


def rounded(unet: UNet, bits: int) -> UNet:
    """A copy of the network with the weights that :func:`to_onnx` stores in so many bits; biases stay as they are."""
    unet = copy.deepcopy(unet)
    for weight in _matrices(unet).values():
        q, scale = quantize(weight, bits)
        weight.data.copy_(q * scale)
    return unet


def to_onnx(unet: UNet, bits: int | None = None) -> onnx.ModelProto:
    """The network as an ONNX model for any batch size, of images of its data set's height and width.

    Args:
        unet: the network, on the CPU.
        bits: store each weight as a whole number of so many bits, its high byte apart from its low one (zip then finds
            the pattern), and let the model put them together when it is loaded. None keeps float32.

    Raises:
        ValueError: bits outside 9..16, or the packages onnx and onnxscript are missing.
    """
    if bits is not None and bits not in BITS:
        raise ValueError(f"bits must be {BITS[0]} to {BITS[-1]}, or None for float32, got {bits}")
    unet = copy.deepcopy(unet).eval()
    model = _traced(unet)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # torch's notes on its own source files
        node.ClearField("doc_string")
    if bits is not None:
        _store_in_bytes(model, _matrices(unet), bits)
    return model


def run_export_onnx(args: argparse.Namespace) -> None:
    """Write the model, and beside it a JSON file with one evaluation to check a run of it against."""
    with sole_writer(args.out):
        _export(args)


def _export(args: argparse.Namespace) -> None:
    unet = load_network(args, torch.device("cpu"))
    data = to_onnx(unet, args.bits).SerializeToString()
    xt, t = _example(unet)
    with torch.no_grad():
        eps = (rounded(unet, args.bits) if args.bits else unet)(xt, t)
    info = {"model": args.model, "model_sha256": model_sha256(args), "T": unet.config.T, "bits": args.bits or 32}
    info |= {"command": args.command, "shape": list(xt.shape[1:]), "input": "xt[k] = sin(k), t = T / 2"}
    info["eps"] = [round(value, 6) for value in eps.flatten().tolist()]
    write_atomic({args.out: data, args.out.with_suffix(".json"): (json.dumps(info) + "\n").encode()})
    print(f"{args.out}: {len(data) / 1e6:.1f} MB, {sum(p.numel() for p in unet.parameters())} weights")


def _example(unet: UNet) -> tuple[Tensor, Tensor]:
    shape = unet.config.image_shape
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return k.sin().float().reshape(1, *shape), torch.tensor([unet.config.T // 2])


def _matrices(unet: UNet) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers by name; biases and norms are few."""
    return {name: weight for name, weight in unet.named_parameters() if weight.ndim > 1}


def _traced(unet: UNet) -> onnx.ModelProto:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export-onnx needs the packages onnx and onnxscript: {error}") from None
    xt, t = (part.repeat(2, *[1] * (part.ndim - 1)) for part in _example(unet))  # a batch of 1 would be taken as fixed
    batch = {0: torch.export.Dim("B", min=1, max=4096)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            unet, (xt, t), dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
            input_names=["xt", "t"], output_names=["eps"], dynamic_shapes={"xt": batch, "t": batch},
        )  # fmt: skip
    return program.model_proto


def _store_in_bytes(model: onnx.ModelProto, matrices: dict[str, Tensor], bits: int) -> None:
    """Replace each matrix by nodes that compute it, (256 high + low) * scale; runtimes do so once, when loading."""
    from onnx import TensorProto, helper, numpy_helper

    graph, nodes = model.graph, []
    graph.initializer.append(numpy_helper.from_array(torch.tensor(256.0).numpy(), "two_to_8"))
    for name, weight in matrices.items():
        q, scale = quantize(weight, bits)
        parts: dict[str, Any] = {"high": (q >> 8).to(torch.int8), "low": (q & 255).to(torch.uint8), "scale": scale}
        graph.initializer.remove(next(one for one in graph.initializer if one.name == name))
        graph.initializer.extend(
            numpy_helper.from_array(part.contiguous().numpy(), f"{name}.{key}") for key, part in parts.items()
        )
        nodes += [
            helper.make_node("Cast", [f"{name}.high"], [f"{name}.h"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [f"{name}.low"], [f"{name}.l"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.h", "two_to_8"], [f"{name}.256h"]),
            helper.make_node("Add", [f"{name}.256h", f"{name}.l"], [f"{name}.q"]),
            helper.make_node("Mul", [f"{name}.q", f"{name}.scale"], [name]),
        ]
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
