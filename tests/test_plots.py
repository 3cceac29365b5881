import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ddim_lib import plots
from ddim_lib.plots import save_grid, show_images, tile, use_style


@pytest.fixture
def ax():
    return Figure().subplots()


def test_tiles_lie_row_by_row_between_white_lines():
    images = torch.stack([torch.full((1, 2, 3), value) for value in (-1.0, 0.0, -0.5)])
    sheet = tile(images, columns=2, gap=1)
    grey = [
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1, 0.5, 0.5, 0.5, 1],
        [1, 0, 0, 0, 1, 0.5, 0.5, 0.5, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0.25, 0.25, 0.25, 1, 1, 1, 1, 1],
        [1, 0.25, 0.25, 0.25, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert sheet.dtype == np.float32
    assert np.array_equal(sheet, np.repeat(np.array(grey, np.float32)[:, :, None], 3, axis=2))


def test_tiles_are_clipped_to_the_range_of_images():
    sheet = tile(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2), columns=1, gap=0)
    assert sheet[0, :, 0].tolist() == [0, 1]


def test_colours_stay_in_their_channels():
    sheet = tile(torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1), columns=1, gap=0)
    assert sheet[0, 0].tolist() == [0, 0.5, 1]


def test_tiling_leaves_its_argument_alone():
    images = torch.full((1, 1, 2, 2), 3.0)
    tile(images, 1)
    assert (images == 3).all()


@pytest.mark.parametrize("shape", [(2, 2), (1, 28, 28), (1, 2, 4, 4)])
def test_what_is_no_batch_of_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"images must be \(N, 1 or 3, H, W\), got \("):
        tile(torch.zeros(shape), 1)


@pytest.mark.parametrize("columns", [0, -1])
def test_a_sheet_without_columns_is_refused(columns):
    with pytest.raises(ValueError, match=f"columns .*{columns}"):
        tile(torch.zeros(2, 1, 4, 4), columns)


def test_a_saved_sheet_is_the_tiles_enlarged(tmp_path):
    path = tmp_path / "new" / "folder" / "sheet.png"
    images = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_grid(path, images, columns=2, scale=3)
    assert path.read_bytes().startswith(b"\x89PNG")
    found = matplotlib.image.imread(path)[:, :, :3]
    assert found.shape == (3 * (3 * (4 + 2) + 2), 3 * (2 * (6 + 2) + 2), 3)
    assert np.abs(found[1::3, 1::3] - tile(images, 2)).max() <= 1 / 255


def test_images_are_shown_without_axes():
    ax = Figure().subplots()
    show_images(ax, torch.zeros(4, 1, 5, 5), columns=2)
    (shown,) = ax.images
    assert shown.get_array().shape == (16, 16, 3)
    assert not ax.axison


def test_the_style_is_one_that_matplotlib_knows():
    with mpl.rc_context():
        use_style()
        colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(colours)) == len(colours) >= 6


def grid_cells():
    ways = [*plots.WAYS]
    rows = {f"{way} S={S} uniform": (way, S) for way in ways for S in (50, 10)}
    cell = {key: {"S": S, "frechet": S + ways.index(way), "frechet_error": 1.0} for key, (way, S) in rows.items()}
    return {"cells": cell, "floor": {"frechet": 2.0, "frechet_error": 0.5}}


def test_a_grid_is_drawn_with_a_line_of_rising_steps_for_each_way(ax):
    plots.plot_grid(ax, grid_cells())
    for k, (line, *_) in enumerate(ax.containers):
        steps, heights = line.get_data()
        assert [round(S / 1.04 ** (k - 2)) for S in steps] == [10, 50]
        assert list(heights) == [10 + k, 50 + k]
    assert ax.get_legend_handles_labels()[1] == ["floor", *(label for _, label in plots.WAYS.values())]


def test_the_floor_is_a_line_and_a_band_of_one_standard_error(ax):
    plots.mark_floor(ax, {"frechet": 2.0, "frechet_error": 0.5})
    assert list(ax.lines[0].get_ydata()) == [2.0, 2.0]
    (band,) = ax.patches
    assert (band.get_y(), band.get_height()) == (1.5, 1.0)


def test_logarithmic_axes_have_the_ticks_they_are_given(ax):
    plots.log_axes(ax, [10, 1000], [0.5, 20])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "1000"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.5", "20"]
