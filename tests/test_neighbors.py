"""Nearest neighbors, the figures on memorization that are made of them, and the command that writes these."""

import hashlib
import json
import math
import re

import matplotlib.image
import pytest
import torch
from conftest import assert_refused
from hypothesis import given
from hypothesis import strategies as st

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig, commands, measuring, memorization
from ddim_lib import weights as weights_module
from ddim_lib.datasets import to_unit
from ddim_lib.memorization import NEIGHBORS, neighbor_ratio, preference, report, summary
from ddim_lib.neighbors import nearest, neighbor_sheet
from ddim_lib.plots import sheet_png
from ddim_lib.weights import save_weights

seeds = st.integers(0, 10_000)


def bytes_of(*shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def floats_of(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_loops(images, among, k, mirrored=False):
    """Distances (N, k) and indices (N, k), pair by pair in float64."""
    distances = torch.empty(len(images), len(among), dtype=torch.float64)
    for i, a in enumerate(images.double()):
        for j, b in enumerate(among.double()):
            faces = [b, torch.flip(b, [-1])] if mirrored else [b]
            distances[i, j] = min(math.sqrt(((a - face) ** 2).sum().item() / a.numel()) for face in faces)
    return tuple(part[:, :k] for part in distances.sort(1))


# The search


@pytest.mark.parametrize("mirrored", [False, True])
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 12),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    k=st.integers(1, 12),
    batch_size=st.integers(1, 13),
    seed=seeds,
)
def test_neighbors_are_those_that_loops_find(mirrored, n, m, size, k, batch_size, seed):
    k = min(k, m)
    images, among = floats_of(n, *size, seed=seed), floats_of(m, *size, seed=seed + 1)
    distances, indices = nearest(images, among, k, batch_size, mirrored=mirrored)
    wanted, where = by_loops(images, among, k, mirrored)
    torch.testing.assert_close(distances, wanted, rtol=1e-12, atol=1e-14)
    assert torch.equal(indices, where)
    assert (distances.dtype, indices.dtype) == (torch.float64, torch.int64)


def test_the_distance_is_a_difference_of_values_on_minus_1_to_1():
    black, grey = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 51, dtype=torch.uint8)
    assert nearest(black, 255 - black)[0].item() == 2
    assert nearest(black, grey)[0].item() == pytest.approx(0.4, abs=1e-7)  # 51 of 255 are a fifth


def test_bytes_and_floats_are_the_same():
    images, among = bytes_of(4, 3, 5, 5), bytes_of(20, 3, 5, 5, seed=1)
    wanted = nearest(to_unit(images), to_unit(among), 3)
    for a, b in ((images, among), (to_unit(images), among), (images, to_unit(among).double())):
        assert all(torch.equal(found, part) for found, part in zip(nearest(a, b, 3), wanted, strict=True))


@given(seed=seeds, batch_size=st.integers(1, 40))
def test_a_copy_has_distance_0_exactly(seed, batch_size):
    among = bytes_of(30, 3, 6, 6, seed=seed)
    where = torch.randint(30, (5,), generator=torch.Generator().manual_seed(seed))
    distances, indices = nearest(to_unit(among[where]), among, 2, batch_size)
    assert torch.equal(indices[:, 0], where)
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_a_distance_that_is_lost_in_the_expansion_is_exact():
    among = floats_of(10, 3, 32, 32).double()
    images = among[3:4].clone()
    images[0, 0, 0, 0] += 1e-9  # its square is 1e-18, while |a|^2 is about 1,000
    distances, indices = nearest(images, among)
    assert indices.item() == 3
    assert distances.item() == pytest.approx(1e-9 / math.sqrt(3072), rel=1e-6)


def test_images_at_the_same_distance_stand_in_their_order():
    among = bytes_of(12, 1, 4, 4)
    among[[2, 5, 9]] = among[7].clone()
    for batch_size in (1, 4, 100):
        distances, indices = nearest(among[7:8], among, 5, batch_size)
        assert indices[0, :4].tolist() == [2, 5, 7, 9]
        assert (distances[0, :4] == 0).all()
        assert distances[0, 4] > 0


def test_a_mirror_image_is_found_only_where_it_counts():
    among = bytes_of(30, 3, 6, 6)
    image = to_unit(among[11:12].flip(-1))
    distances, indices = nearest(image, among, 2, mirrored=True)
    assert (distances[0, 0].item(), indices[0, 0].item()) == (0, 11)
    assert distances[0, 1] > 0  # an image and its mirror image are one neighbor
    assert nearest(image, among)[0].item() > 0
    upside_down = among[11:12].flip(-2)
    assert nearest(upside_down, among, mirrored=True)[0].item() > 0


def test_every_pair_is_told_once():
    told = []
    nearest(floats_of(5, 1, 2, 2), floats_of(7, 1, 2, 2), batch_size=3, mirrored=True, tell=told.append)
    assert sum(told) == 35
    assert len(told) == 6


def test_neighbors_are_found_on_any_device(device):
    images, among = floats_of(4, 3, 5, 5), bytes_of(20, 3, 5, 5, seed=1)
    distances, indices = nearest(images.to(device), among, 3)  # the others stay where they are
    assert distances.device.type == indices.device.type == device.type
    wanted, where = nearest(images, among, 3)
    torch.testing.assert_close(distances.cpu(), wanted, rtol=1e-12, atol=1e-14)
    assert torch.equal(indices.cpu(), where)


FEW, MANY = floats_of(2, 1, 4, 4), floats_of(5, 1, 4, 4, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FEW[0], MANY), "images must be (N, C, H, W) with N >= 1, got (1, 4, 4)"),
        ((FEW[:0], MANY), "images must be (N, C, H, W) with N >= 1, got (0, 1, 4, 4)"),
        ((FEW, MANY[:0]), "among must be (N, C, H, W) with N >= 1, got (0, 1, 4, 4)"),
        ((FEW.long(), MANY), "images must be uint8 or floating point, got torch.int64"),
        ((FEW, MANY.bool()), "among must be uint8 or floating point, got torch.bool"),
        ((FEW, torch.where(MANY > 0.9, math.inf, MANY)), "among must be finite, got NaN or infinity in"),
        ((FEW * math.nan, MANY), "images must be finite, got NaN or infinity in 2 of 2"),
        ((FEW, MANY[..., :3]), "images and among must have the same (C, H, W), got (1, 4, 4) and (1, 4, 3)"),
        ((FEW, MANY, 0), "k must be from 1 to the 5 images of among, got 0"),
        ((FEW, MANY, 6), "k must be from 1 to the 5 images of among, got 6"),
        ((FEW, MANY, 1, 0), "batch_size must be at least 1, got 0"),
    ],
    ids=lambda part: part[:30] if isinstance(part, str) else "",
)
def test_input_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        nearest(*arguments)


# The sheet


def test_a_sheet_shows_each_image_before_its_neighbors():
    images, among = floats_of(2, 3, 4, 4), bytes_of(6, 3, 4, 4)
    sheet = neighbor_sheet(images, among, torch.tensor([[4, 0, 1], [5, 3, 2]]))
    wanted = [images[0], *to_unit(among[[4, 0, 1]]), images[1], *to_unit(among[[5, 3, 2]])]
    assert torch.equal(sheet, torch.stack(wanted).double())


def test_a_sheet_shows_a_neighbor_as_it_was_found():
    among = bytes_of(3, 3, 4, 4)
    images = to_unit(torch.stack([among[2], among[1].flip(-1)]))
    sheet = neighbor_sheet(images, among, torch.tensor([[2], [1]]), mirrored=True)
    assert torch.equal(sheet, images.double().repeat_interleave(2, 0))


# The figures


def test_the_ratio_is_0_for_a_copy_and_1_where_all_are_as_far():
    distances = torch.tensor([[0.0, 2, 4], [3, 3, 3], [1, 2, 3], [0, 0, 0]], dtype=torch.float64)
    assert neighbor_ratio(distances).tolist() == [0, 1, 0.5, 0]


def test_the_summary_by_hand():
    distances = torch.tensor([[0.0, 1], [1, 1], [2, 6], [3, 3], [4, 4]], dtype=torch.float64)
    found = summary(distances)
    assert found["distance"] == {"minimum": 0, "quartile_1": 1, "median": 2, "quartile_3": 3}
    assert found["ratio"] == {"minimum": 0, "quartile_1": 0.5, "median": 1, "quartile_3": 1}
    assert found["suspected_copies"] == 1  # a ratio of 0.5 is none
    assert (found["distances"], found["ratios"]) == ([0, 1, 2, 3, 4], [0, 1, 0.5, 1, 1])


def test_the_preference_by_hand():
    found = preference(torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, 1, 3, 5]), training=300, test=100)
    assert (found["share"], found["by_chance"]) == (0.625, 0.75)
    assert found["error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)


@pytest.fixture(scope="module")
def digits(mnist_5k):
    """2,400 training, 1,200 test and 400 other images in a random order."""
    images = mnist_5k[0][torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    return images[:2400], images[2400:3600], images[3600:4000]


def blurred(images):
    return torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)


@pytest.mark.parametrize("blur", [False, True])
def test_images_that_copy_nothing_prefer_the_training_set_by_chance_only(digits, blur):
    training, test, others = digits
    found, _, _ = memorization.memorization(blurred(others) if blur else others, training, test)
    share = found["nearest_is_training"]
    assert (share["by_chance"], share["error"]) == pytest.approx((2 / 3, 0.0236), abs=1e-4)
    assert abs(share["share"] - share["by_chance"]) < 3 * share["error"]
    assert max(found[key]["suspected_copies"] for key in ("samples", "test")) <= 12  # 3 %, most of them ones
    nearer = found["samples"]["distance"]["median"] < 0.95 * found["test"]["distance"]["median"]
    assert nearer == blur  # the distance alone would call blurred images near to the training set


def test_a_model_that_copies_is_found_even_if_it_copies_badly(digits):
    training, test, others = digits
    noise = torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    found, _, indices = memorization.memorization((training[:400] + 0.1 * noise).clamp(-1, 1), training, test)
    assert indices[:, 0].tolist() == list(range(400))
    assert found["nearest_is_training"]["share"] == 1
    assert found["samples"]["suspected_copies"] >= 360
    assert found["nearer_than_5_percent_of_test"] > 0.9


def test_the_yardstick_is_the_first_test_images(digits):
    training, test, others = digits
    found, _, _ = memorization.memorization(others[:60], training[:200], test)
    wanted, _ = nearest(test[:60], training[:200], NEIGHBORS)
    assert found["test"] == summary(wanted)


def test_fewer_test_images_than_samples_are_refused(digits):
    training, test, others = digits
    with pytest.raises(ValueError, match="test must hold as many images as samples, 60, or more, got 59"):
        memorization.memorization(others[:60], training, test[:59])


# The command


TINY = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4)
COLOR = UNetConfig(3, patch=2, channels=(4, 8), attention=(False, False), groups=4)
RUN = ["--n", "50", "--show", "4", "--k", "2", "--steps", "1", "--batch-size", "50", "--device", "cpu"]
HEADER = {"n": 50, "S": 1, "eta": 0, "seed": 3, "bf16": False}


@pytest.fixture(params=["mnist", "cifar10"])
def stored(request, tmp_path, monkeypatch):
    """A folder with an untrained model of the data set's images, and 150 training and 60 test images of noise."""
    folder, config = tmp_path / "weights", TINY if request.param == "mnist" else COLOR
    folder.mkdir()
    torch.manual_seed(0)
    save_weights(folder / f"{request.param}.safetensors", UNet(config), {})
    for module in (weights_module, commands):
        monkeypatch.setattr(module, "WEIGHTS", folder)
    training, test = bytes_of(150, *config.image_shape), bytes_of(60, *config.image_shape, seed=1)
    pixels = {(request.param, "train"): training, (request.param, "test"): test}
    monkeypatch.setattr(memorization, "load_pixels", lambda name, split: (pixels[name, split], None))
    monkeypatch.setattr(measuring, "load_dataset", lambda name, split: (to_unit(pixels[name, split]), None))
    return folder, request.param, training


def test_the_command_writes_the_figures_and_two_sheets(stored, tmp_path, capsys):
    folder, dataset, training = stored
    out = tmp_path / "results" / "net_neighbors.json"
    assert cli.main(["neighbors", dataset, *RUN, "--seed", "3", "--out", str(out)]) == 0
    said, result = capsys.readouterr(), json.loads(out.read_text())
    assert HEADER.items() <= result.items()
    assert result["model"] == result["dataset"] == dataset
    assert result["mirrored"] == (dataset == "cifar10")
    assert result["model_sha256"] == hashlib.sha256((folder / f"{dataset}.safetensors").read_bytes()).hexdigest()
    assert result["command"].startswith("python -m ddim_lib neighbors " + dataset + " --n 50 ")
    assert result["versions"]["torch"] == torch.__version__
    assert (result["training_images"], result["test_images"]) == (150, 60)
    assert result["hardware"]
    assert result["unit"].startswith("root mean square")
    assert [len(result[key]) for key in ("nearest", "lowest_ratio")] == [4, 4]
    assert len(result["samples"]["distances"]) == len(result["test"]["ratios"]) == 50
    assert said.out.removesuffix("\n") == report(result, 150)
    assert "50.0/50.0" in said.err  # evaluations of the network
    assert "18.0k/18.0k" in said.err  # 50 samples and 50 test images against 150, samples against 60
    sheets = sorted(path.name for path in out.parent.iterdir())
    assert sheets == ["net_neighbors.json", "net_neighbors.png", "net_neighbors_by_ratio.png"]
    side = training.shape[-1] + 2
    picture = matplotlib.image.imread(out.with_suffix(".png"))
    assert picture.shape[:2] == (3 * (4 * side + 2), 3 * (3 * side + 2))  # 4 rows of a sample and 2 neighbors


def test_the_seed_decides_the_samples(stored, tmp_path):
    results = []
    for seed in ("1", "1", "2"):
        assert cli.main(["neighbors", stored[1], *RUN, "--seed", seed, "--out", str(tmp_path / "out.json")]) == 0
        results.append(json.loads((tmp_path / "out.json").read_text())["samples"])
    assert results[0] == results[1] != results[2]


def test_planted_copies_are_found_and_reported(stored, tmp_path, monkeypatch, capsys):
    _, dataset, training = stored
    samples = floats_of(50, *training.shape[1:], seed=5)
    samples[17], samples[30] = to_unit(training[123]), to_unit(training[7].flip(-1))
    monkeypatch.setattr(memorization, "sample_cell", lambda *args, **options: iter(samples.split(25)))
    out = tmp_path / "net.json"
    assert cli.main(["neighbors", dataset, *RUN, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    copies = [(17, 123), (30, 7)] if result["mirrored"] else [(17, 123)]  # a mirrored digit is no copy
    for key in ("nearest", "lowest_ratio"):
        found = [(row["sample"], row["neighbors"][0]) for row in result[key] if row["distance"] == row["ratio"] == 0]
        assert found == copies
    assert [result[key]["suspected_copies"] for key in ("samples", "test")] == [len(copies), 0]
    assert f"suspected copies (ratio < 0.5): {len(copies)}" in capsys.readouterr().out
    order = [row["sample"] for row in result["nearest"]]
    neighbors = torch.tensor([row["neighbors"] for row in result["nearest"]])
    sheet = neighbor_sheet(samples[order], training, neighbors, dataset == "cifar10")
    assert torch.equal(sheet[0], sheet[1])
    assert out.with_suffix(".png").read_bytes() == sheet_png(sheet, 3, scale=3)


def test_a_failure_leaves_the_older_files(stored, tmp_path, monkeypatch, capsys):
    old = {tmp_path / "net.json": b"{}", tmp_path / "net.png": b"old"}
    for path, data in old.items():
        path.write_bytes(data)
    broken = [torch.full((50, *stored[2].shape[1:]), math.nan)]
    monkeypatch.setattr(memorization, "sample_cell", lambda *args, **options: iter(broken))
    assert cli.main(["neighbors", stored[1], *RUN, "--out", str(tmp_path / "net.json")]) == 2
    *_, line = capsys.readouterr().err.splitlines()  # the progress bars stand above
    assert line == "error: images must be finite, got NaN or infinity in 50 of 50"
    assert {path: path.read_bytes() for path in old} == old
    assert not (tmp_path / "net_by_ratio.png").exists()


@pytest.mark.parametrize("stored", ["mnist"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "--n must be at least 1, got 0"),
        (["--n", "60"], "--n must be a multiple of 50, got 60"),
        (["--n", "100"], "--n must be at most 60, the number of test images, got 100"),
        (["--show", "51"], "--show must be at most --n = 50, got 51"),
        (["--k", "51"], "--k must be at most 50, got 51"),
        (["--steps", "0"], "S must be a whole number in 1..T = 1..1000, got 0"),
        (["--batch-size", "60"], "--batch-size must be a multiple of 50, got 60"),
        (["--out", "net.png"], "--out must end in .json, got net.png"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_options_out_of_range_are_refused(stored, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, ["neighbors", stored[1], *RUN, "--out", "net.json", *options], message)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_an_unknown_model_is_refused(tmp_path, capsys):
    assert_refused(capsys, ["neighbors", "imagenet", "--out", tmp_path / "x.json"], "no pretrained model 'imagenet'")
