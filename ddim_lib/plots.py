"""Drawing: functions that take an Axes and arrays, and the tiling of image batches.

matplotlib is imported where it is used: it takes longer than all else that ``import ddim_lib`` needs beside PyTorch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAYS = {
    "eta=0": ("o-", "η = 0"),
    "eta=0.2": ("s--", "η = 0.2"),
    "eta=0.5": ("D-.", "η = 0.5"),
    "eta=1": ("^:", "η = 1"),
    "sigma_hat": ("v-", "σ̂"),
}
"""The ways to sample of the paper's Table 1: marker and line, and what a legend says."""


def tile(images: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """Lay images out on one sheet, row by row, separated by white lines.

    Args:
        images: (N, C, H, W) in [-1, 1] (clipped to it), C = 1 or 3.
        columns: images a row.
        gap: white pixels between images.

    Returns:
        float32 (rows, columns, 3) in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 1 or 3, H, W), got {tuple(images.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.ones(3, rows * (h + gap) + gap, columns * (w + gap) + gap)
    for i, image in enumerate(images.detach().float().cpu().clamp(-1, 1) / 2 + 0.5):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    return sheet.permute(1, 2, 0).numpy()


def save_grid(path: Path, images: Tensor, columns: int = 10, scale: int = 2) -> None:
    """Write images as one PNG sheet, each pixel ``scale`` times enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic({path: sheet_png(images, columns, scale)})


def sheet_png(images: Tensor, columns: int = 10, scale: int = 2) -> bytes:
    """What :func:`save_grid` writes."""
    import matplotlib.image

    file = io.BytesIO()
    sheet = tile(images, columns).repeat(scale, axis=0).repeat(scale, axis=1)
    matplotlib.image.imsave(file, sheet, format="png")
    return file.getvalue()


def show_images(ax: Axes, images: Tensor, columns: int) -> None:
    """Show a batch of images (N, C, H, W) on an Axes, without ticks."""
    ax.imshow(tile(images, columns), interpolation="nearest")
    ax.set_axis_off()


def use_style() -> None:
    """Set matplotlib's defaults for the book: large type, and Okabe and Ito's colour-blind safe palette."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "axes.grid": True,
            "axes.prop_cycle": cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (7, 3.6),
            "font.size": 12,
            "grid.alpha": 0.3,
            "legend.frameon": False,
        }
    )


def plot_cells(ax: Axes, row: dict[float, dict[str, Any]], **look: Any) -> None:
    """Frechet distances of measured cells with bars of one standard error, over the keys of ``row``."""
    heights, errors = ([cell[key] for cell in row.values()] for key in ("frechet", "frechet_error"))
    ax.errorbar(list(row), heights, errors, capsize=3, ms=5, **look)


def plot_grid(ax: Axes, result: dict[str, Any]) -> None:
    """The paper's grid of a result file over S, a line for each way to sample; moved sideways for legibility."""
    for k, (way, (form, label)) in enumerate(WAYS.items()):
        row = {cell["S"]: cell for key, cell in result["cells"].items() if key.split()[0] == way}
        plot_cells(ax, {S * 1.04 ** (k - 2): row[S] for S in sorted(row)}, fmt=form, label=label)
    mark_floor(ax, result["floor"])


def mark_floor(ax: Axes, floor: dict[str, Any]) -> None:
    """A line, and a band of one standard error, where real images score."""
    height, error = floor["frechet"], floor["frechet_error"]
    ax.axhline(height, color="0.3", ls="--", label="floor")
    ax.axhspan(height - error, height + error, color="0.3", alpha=0.15, lw=0)


def log_axes(ax: Axes, xticks: Sequence[float], yticks: Sequence[float]) -> None:
    """Logarithmic axes with these ticks alone, in plain numbers."""
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(xticks, [f"{tick:g}" for tick in xticks])
    ax.set_yticks(yticks, [f"{tick:g}" for tick in yticks])
    ax.minorticks_off()
