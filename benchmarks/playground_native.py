"""ONNX Runtime in Python, for ``playground.mjs``: reads "network 1", "network 0" or "product" a line, writes ms."""

import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

SIZE = 512


def product() -> bytes:
    """A model of one matrix product, SIZE^3 multiplications and additions."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in "ABC"]
    graph = helper.make_graph([helper.make_node("MatMul", ["A", "B"], ["C"])], "product", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def session(model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session with so many threads; 0 leaves the number to ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main(path: str) -> None:
    """Answer each line with the milliseconds of one run."""
    xt = np.sin(np.arange(784, dtype=np.float32)).reshape(1, 1, 28, 28)
    image = {"xt": xt, "t": np.array([500])}
    square = np.ones((SIZE, SIZE), np.float32)
    runs = {"network 1": (session(path, 1), image), "network 0": (session(path, 0), image)}
    runs["product"] = (session(product(), 1), {"A": square, "B": square})
    for line in sys.stdin:
        model, feeds = runs[line.strip()]
        began = time.perf_counter()
        model.run(None, feeds)
        print((time.perf_counter() - began) * 1e3, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--write-product":
        onnx.save(onnx.load_from_string(product()), sys.argv[2])
    else:
        main(sys.argv[1])
