"""Draw the sheet of samples that the explorer shows: ``python tools/explorer.py`` (five minutes on one core).

It writes ``images/explorer.png``, a grey sheet of 28 x 28 cells without gaps, and ``images/explorer.json``, which says
what the cells are and how they were made. A column is a seed; a row is an eta and an S, with all S of the first eta on
top. A seed means the same starting noise in every row, and draws its own noise where eta > 0.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from tqdm import tqdm

from ddim_lib import Schedule, UNet, load_pretrained
from ddim_lib.commands import versions
from ddim_lib.files import write_atomic
from ddim_lib.grids import Cell
from ddim_lib.walks import last_state
from ddim_lib.weights import WEIGHTS, file_sha256

ROOT = Path(__file__).resolve().parent.parent
SHEET = ROOT / "images" / "explorer.png"
ABOUT = SHEET.with_suffix(".json")
MODEL = "mnist"
STEPS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 1000]
ETAS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
SEEDS = list(range(10))


def sample_row(unet: UNet, S: int, eta: float, seeds: Sequence[int]) -> np.ndarray:
    """One row of the sheet, uint8 (H, W * number of seeds): an image for each seed, whatever the other seeds are."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    xT = torch.stack([torch.randn(unet.config.image_shape, generator=generator) for generator in generators])
    x0 = last_state(Cell(eta, S).walk(unet, Schedule.linear(unet.config.T), xT, generators))
    grey = ((x0.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.hstack(grey[:, 0].numpy())


def describe(unet: UNet) -> dict[str, Any]:
    """What stands beside the sheet: the grid, the place of a cell, and how the sheet was made."""
    return {
        "command": "python tools/explorer.py",
        "model": MODEL,
        "model_sha256": file_sha256(WEIGHTS / f"{MODEL}.safetensors"),
        "T": unet.config.T,
        "spacing": "uniform",
        "S": STEPS,
        "eta": ETAS,
        "seeds": SEEDS,
        "cell": list(unet.config.image_shape[1:]),
        "order": "column: seed; row: (index of eta) * (number of S) + (index of S)",
        "versions": versions() | {"pillow": PIL.__version__},
    }


def main() -> None:
    """Sample every row, and write both files."""
    torch.set_num_threads(1)
    unet = load_pretrained(MODEL)
    with tqdm(total=len(ETAS) * sum(STEPS), unit="eval") as bar:
        rows = []
        for eta in ETAS:
            for S in STEPS:
                rows.append(sample_row(unet, S, eta, SEEDS))
                bar.update(S)
    file = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(file, format="PNG", optimize=True)
    SHEET.parent.mkdir(exist_ok=True)
    write_atomic({SHEET: file.getvalue(), ABOUT: (json.dumps(describe(unet), indent=1) + "\n").encode()})


if __name__ == "__main__":
    main()
