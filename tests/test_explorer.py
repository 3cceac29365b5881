"""The sheet of samples of the explorer: of the present weights, and what ``tools/explorer.py`` makes."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from test_style import ROOT

from ddim_lib import load_pretrained
from ddim_lib.weights import WEIGHTS, file_sha256

spec = importlib.util.spec_from_file_location("explorer_tool", ROOT / "tools" / "explorer.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
ABOUT = json.loads(tool.ABOUT.read_text())
SHEET = np.asarray(Image.open(tool.SHEET)).astype(int)
HEIGHT, WIDTH = ABOUT["cell"]


@pytest.fixture(scope="module")
def mnist():
    return load_pretrained(ABOUT["model"])


def row_of(S, eta):
    row = ABOUT["eta"].index(eta) * len(ABOUT["S"]) + ABOUT["S"].index(S)
    return SHEET[row * HEIGHT : (row + 1) * HEIGHT]


def digits(S, eta):
    return np.stack(np.hsplit(row_of(S, eta), len(ABOUT["seeds"])))


def test_the_sheet_has_a_row_for_every_eta_and_s_and_a_column_for_every_seed():
    assert SHEET.shape == (len(ABOUT["eta"]) * len(ABOUT["S"]) * HEIGHT, len(ABOUT["seeds"]) * WIDTH)
    assert ABOUT["seeds"] == list(range(10))
    assert [ABOUT["S"][i] for i in (0, -1)] == [1, ABOUT["T"]]
    assert [ABOUT["eta"][i] for i in (0, -1)] == [0, 1]


def test_the_sheet_is_small_enough_for_a_phone():
    assert tool.SHEET.stat().st_size < 300_000


def test_the_sheet_is_of_the_present_weights_and_of_the_present_grid(mnist):
    assert ABOUT["model_sha256"] == file_sha256(WEIGHTS / "mnist.safetensors"), "run `python tools/explorer.py`"
    assert tool.describe(mnist) | {"versions": None} == ABOUT | {"versions": None}


@pytest.mark.parametrize(("S", "eta"), [(1, 0.0), (2, 1.0), (5, 0.0), (5, 0.6), (10, 1.0)])
def test_a_row_sampled_anew_is_that_of_the_sheet(mnist, S, eta):
    assert np.abs(tool.sample_row(mnist, S, eta, ABOUT["seeds"]) - row_of(S, eta)).max() <= 2


def test_a_digit_does_not_depend_on_the_digits_beside_it(mnist):
    alone = tool.sample_row(mnist, 5, 0.6, ABOUT["seeds"][3:4])
    assert np.abs(alone - digits(5, 0.6)[3]).max() <= 2


def test_eta_does_not_matter_where_there_is_one_step():
    assert all((row_of(1, eta) == row_of(1, 0.0)).all() for eta in ABOUT["eta"])


def apart(a, b):
    return np.abs(a - b).mean()


def test_without_fresh_noise_a_seed_shows_one_digit_whatever_s_and_with_it_another():
    final = digits(ABOUT["T"], 0.0)
    unrelated = apart(final, np.roll(final, 1, axis=0))
    assert apart(digits(10, 0.0), final) < unrelated / 3
    assert apart(digits(50, 0.0), final) < unrelated / 5
    assert apart(digits(50, 1.0), final) > unrelated / 2


def test_a_little_fresh_noise_changes_the_digits_more_where_there_are_more_steps():
    changes = [apart(digits(S, 0.2), digits(S, 0.0)) for S in (5, 10, 50, 1000)]
    assert changes == sorted(changes)
