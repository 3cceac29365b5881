"""The same command gives the same bits: in another process and, where PyTorch allows it, with two threads."""

import json
import sys

import pytest
import torch
from test_style import ROOT

sys.path.append(str(ROOT / "tools"))
import repeat
import same_html

RESULT = json.loads((ROOT / "results" / "repeat.json").read_text())
DIFFERENCES, BATCHES = RESULT["largest_differences"], RESULT["other_batches"]


@pytest.fixture(scope="module")
def here():
    """What this process, of one thread, finds."""
    return repeat.everything(quick=True)


def differing(here, tmp_path, threads):
    there = repeat.in_a_process(threads, tmp_path / "found", quick=True)
    assert there.keys() == here.keys()
    return {name: found for name in here if (found := repeat.difference(here[name], there[name]))}


def test_another_process_finds_the_same_bits(here, tmp_path):
    assert {name.split(":")[0] for name in here} == {"train mnist", "sample mnist", "train-classifier", "evaluate"}
    assert differing(here, tmp_path, threads=1) == {}


def test_with_two_threads_samples_and_features_are_the_same_and_training_nearly_is(here, tmp_path):
    found = differing(here, tmp_path, threads=2)
    same = {name: value for name, value in found.items() if name.startswith("sample") or name.endswith(("250", "50"))}
    assert all(value < 1e-4 for value in same.values())
    if torch.backends.cpu.get_cpu_capability() == RESULT["instructions"]:  # others may round otherwise
        assert same == {}
    assert found.pop("evaluate: distances", 0) < 1e-9
    assert all(value < 1e-5 for name, value in found.items() if name.startswith("train mnist"))


# What was measured with whole networks (`make repeat`), and what the page on reproducibility says of it


def between_threads(start):
    return {name: row["2 threads instead of 1"] for name, row in DIFFERENCES.items() if name.startswith(start)}


def test_the_same_command_gave_the_same_bits_in_everything():
    assert {name.split(":")[0] for name in DIFFERENCES} == {
        *("train mnist", "train cifar10-small", "train-classifier"),
        *("sample mnist", "sample cifar10", "evaluate", "operation"),
    }
    assert {row["same command again"] for row in DIFFERENCES.values()} == {0}


def test_two_threads_gave_the_same_samples_but_for_batches_of_one_image():
    found = between_threads("sample")
    alone = {name: found.pop(name) for name in [*found] if name.endswith(" 1")}
    assert set(found.values()) == {0}
    assert len(found) == 10
    assert all(0 < value < 1e-5 for value in alone.values())


def test_two_threads_train_alike_but_for_rounding_which_the_classifier_enlarges():
    for preset in ("mnist", "cifar10-small"):
        assert all(0 < value < 1e-6 for value in between_threads(f"train {preset}").values())
    assert 1e-3 < between_threads("train-classifier: loss")["train-classifier: loss"] < 0.1


def test_two_threads_change_the_operations_that_sum_over_what_they_share():
    found = {name.removeprefix("operation: ") for name, value in between_threads("operation").items() if value}
    assert found == {
        "batch normalization",
        "convolution, gradient of its weights",
        "eigenvalues in float64",
        "mean over all elements",
    }
    assert between_threads("evaluate: distances")["evaluate: distances"] < 1e-9


def test_smaller_batches_change_rounding_only():
    assert {BATCHES[f"sample {name}: eta = 0, batches of 25"] for name in ("mnist", "cifar10")} == {0}
    assert BATCHES["evaluate: features, batches of 50"] == 0
    assert all(0 < value < 2e-5 for name, value in BATCHES.items() if name.rsplit(" ", 1)[1] in ("10", "5", "1"))


# The checks find what they are for


def test_difference_is_zero_for_equal_bits_alone():
    one = torch.tensor([1.0, 0.0, -3.0])
    assert repeat.difference(one, one.clone()) == 0
    assert repeat.difference(one, one + torch.tensor([0, 0, 0.25])) == 0.25
    assert repeat.difference(torch.tensor([1.0]), torch.tensor([1.0]).nextafter(torch.tensor([2.0]))) == 1.2e-7
    with pytest.raises(ValueError, match="cannot be compared"):
        repeat.difference(one, one.double())


def test_two_folders_are_compared_file_by_file(tmp_path):
    for folder, files in (("a", {"x/1": "same", "2": "one", "3": ""}), ("b", {"x/1": "same", "2": "two", "4": ""})):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    assert same_html.differing(tmp_path / "a", tmp_path / "b") == ["2", "3", "4"]
    assert same_html.differing(tmp_path / "a", tmp_path / "a") == []
