"""Files that were made to break what reads them: each is refused, at once, in one line that says what is wrong."""

import ast
import errno
import http.server
import json
import os
import re
import threading
import time
import tracemalloc
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import readers
import safetensors.torch
import torch
from command_lines import GOOD
from conftest import assert_refused
from damage import MARK, PICKLE, PLACES, hostile_archive, hostile_texts
from hypothesis import given
from hypothesis import strategies as st

import ddim_lib
import ddim_lib.__main__ as cli
from ddim_lib import DatasetError, UNetConfig, WeightsError, commands, datasets, from_diffusers, load_pretrained
from ddim_lib.checkpoints import load_checkpoint
from ddim_lib.classifier import load_reference
from ddim_lib.reading import LARGEST_JSON, LONGEST_LINE, brief, check_fields, read_bytes, read_json
from ddim_lib.results import load_cells
from ddim_lib.train import TrainConfig
from ddim_lib.weights import load_tensors, load_weights, parse_tensors, read_tensor_file, save_tensors, unfilled

FILES_OF_TENSORS = [
    (readers.write_network, readers.read_network, "net.safetensors"),
    (readers.write_folder, readers.read_folder, "unet/diffusion_pytorch_model.safetensors"),
]
TERABYTES = [
    ({"channels": [10**9, 10**9]}, "wrong|so large"),
    ({"channels": [2**40, 2**40]}, "so large"),
    ({"channels": [2**52, 2**52], "groups": 1}, "so large"),
    ({"in_channels": 10**12}, "wrong|so large"),
    ({"patch": 10**6}, "wrong|so large"),
    ({"blocks": 10**9}, "levels times blocks 200"),
    ({"channels": [4] * 1000, "attention": [False] * 1000}, "levels times blocks 200"),
    ({"T": 10**12}, "T can be 1,000,000 at most"),
]


# Messages


@pytest.mark.parametrize("text", ["short", "", "é☃", "two  spaces"])
def test_a_short_message_stays_as_it_is(text):
    assert brief(text) == text


@given(st.text(st.characters()) | st.integers(0, 1000).map("x\n".__mul__))
def test_a_message_is_one_short_line(text):
    line = brief(text)
    assert len(line) <= LONGEST_LINE
    assert line.isprintable()


@pytest.mark.parametrize("character", ["\u202e", "\u200b", "\ud800", "\x9b", "\u2029"], ids=ascii)
def test_characters_that_turn_or_hide_text_are_left_out(character):
    assert brief(f"a{character}b") == "a b"


def test_a_long_message_keeps_its_ends():
    line = brief("start" + "x" * 10**6 + "end")
    assert line.startswith("start")
    assert line.endswith("end")
    assert "(1,000,008 characters)" in line


# Places


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_never_read(tmp_path, place):
    path = tmp_path / "x.json"
    path.write_text("{}")
    PLACES[place](path)
    with pytest.raises((OSError, ValueError), match=re.escape(str(path))):
        read_bytes(path, 1000)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(ValueError, match="holds 5 bytes; at most 4 would be right"):
        read_bytes(path, 4)


# JSON


@pytest.mark.parametrize("name", hostile_texts(b'{"a": 1}'))
def test_hostile_json_is_refused_by_name_or_harmless(tmp_path, name):
    path = tmp_path / "x.json"
    path.write_bytes(hostile_texts(b'{"a": 1}')[name])
    if name in ("numbers beyond all", "lone surrogates", "200,000 lists", "a string of 10 MiB"):
        assert isinstance(read_json(path), dict)
        return
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} ") as caught:
        read_json(path)
    assert len(str(caught.value)) < LONGEST_LINE + 200


def test_the_key_that_stands_twice_is_found_at_once(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(hostile_texts(b"{}")["the last of 300,000 keys twice"])
    start = time.process_time()
    with pytest.raises(ValueError, match="the key '299999' stands there twice"):
        read_json(path)
    assert time.process_time() - start < 5


def test_json_takes_no_more_memory_than_thirty_times_its_size(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": [' + b"{}," * 50_000 + b"[]]}")
    tracemalloc.start()
    read_json(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * path.stat().st_size
    assert 30 * LARGEST_JSON < 1 << 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": True}, "blocks must be of type int, got True"),
        ({"blocks": 1.0}, "blocks must be of type int, got 1.0"),
        ({"channels": [4, "8"]}, "channels must be of type"),
        ({"attention": [0, 1]}, "attention must be of type"),
        ({"dropout": float("inf")}, "dropout must be of type float, got inf"),
        ({"T": 2**60}, "T must be of type int"),
        ({"depth": 1}, "there is no field 'depth'; the fields are in_channels, patch"),
        ({"variant": 1}, "Variant must be a JSON object, got 1"),
        ({"variant": {"residual": "no"}}, "residual must be of type bool, got 'no'"),
        ({"variant": {"head_width": 2.0}}, "head_width must be of type int | None"),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused_by_name(change, message):
    good = json.loads(json.dumps(asdict(UNetConfig())))
    check_fields(UNetConfig, good)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_fields(UNetConfig, good | change)


def test_every_field_of_the_configurations_has_a_type_that_json_can_hold():
    for values in (UNetConfig(), UNetConfig(variant=readers.THEIRS.variant), TrainConfig()):
        check_fields(type(values), json.loads(json.dumps(asdict(values))))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
FIELD = st.sampled_from([*UNetConfig.__dataclass_fields__, "other"])


@given(st.dictionaries(FIELD, VALUES | st.integers(-3, 9) | st.lists(st.integers(1, 2**40) | st.booleans())))
def test_any_values_make_a_network_or_one_error(change):
    values = json.loads(json.dumps(asdict(readers.TINY))) | change
    try:
        check_fields(UNetConfig, values)
        unfilled(UNetConfig.from_json(values))
    except ValueError:
        return
    assert json.loads(json.dumps(asdict(UNetConfig.from_json(values)))) == values


# Networks of terabytes


@pytest.mark.parametrize(("change", "message"), TERABYTES, ids=lambda part: str(part)[:40])
def test_a_network_of_terabytes_is_refused_before_memory_is_taken(tmp_path, change, message):
    readers.write_network(tmp_path)
    path = tmp_path / "net.safetensors"
    tensors, info = load_tensors(path)
    save_tensors(path, tensors, info | {"config": info["config"] | change})
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


@pytest.mark.parametrize("change", [{"block_out_channels": [2**40, 2**40]}, {"layers_per_block": 10**9}], ids=str)
def test_a_published_network_of_terabytes_is_refused_before_memory_is_taken(tmp_path, change):
    readers.write_folder(tmp_path)
    path = tmp_path / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match="is not supported"):
        from_diffusers(tmp_path)


@pytest.mark.parametrize("name", ["size", "in_channels", "width"])
def test_a_classifier_of_terabytes_is_refused_before_memory_is_taken(tmp_path, name):
    readers.write_classifier(tmp_path)
    path = tmp_path / "net.safetensors"
    tensors, info = load_tensors(path)
    save_tensors(path, tensors, info | {name: 2**30})
    with pytest.raises(WeightsError, match="holds no classifier"):
        readers.read_classifier(tmp_path) and load_reference(path=path)


def test_loading_draws_no_random_numbers():
    before = torch.get_rng_state()
    load_pretrained("mnist")
    assert torch.equal(torch.get_rng_state(), before)


# Tensors


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8, 101])
def test_a_header_that_is_longer_than_its_file_is_refused_with_both_sizes(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(90))
    with pytest.raises(WeightsError, match=f"100 bytes, with a header of {length:,}"):
        read_tensor_file(path)


@pytest.mark.parametrize("change", [1 << 30, -1])
@pytest.mark.parametrize(("write", "read", "name"), FILES_OF_TENSORS)
def test_a_file_of_another_size_than_its_header_promises_is_not_read(tmp_path, change, write, read, name):
    write(tmp_path)
    path = tmp_path / name
    os.truncate(path, path.stat().st_size + change)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"is not a safetensors file: .* which promises [\d,]+ more"):
        read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"{}}", b"[" * 10_000, b'{"a": 1}', b'{"a": {"data_offsets": [0, 1e999]}}']
)
def test_a_header_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="promises -1 more"):
        read_tensor_file(path)


def test_tensors_are_read_with_words_of_their_maker_in_the_header(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(safetensors.torch.save({"a": torch.ones(3)}, metadata={"format": "pt"}))
    assert parse_tensors(read_tensor_file(path), path)["a"].tolist() == [1, 1, 1]


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    readers.write_network(tmp_path)
    path = tmp_path / "net.safetensors"
    tensors, info = load_tensors(path)
    tensors["conv_in.bias"][0] = float("nan")
    save_tensors(path, tensors, info)
    with pytest.raises(WeightsError, match=r"conv_in\.bias holds NaN or infinity"):
        load_weights(path)


def test_weights_that_are_whole_numbers_are_refused(tmp_path):
    readers.write_network(tmp_path)
    path = tmp_path / "net.safetensors"
    tensors, info = load_tensors(path)
    save_tensors(path, {name: value.to(torch.int64) for name, value in tensors.items()}, info)
    with pytest.raises(WeightsError, match=r"time_mlp.0.weight is torch.int64 \(16, 4\), wanted \(16, 4\)"):
        load_weights(path)


# Checkpoints whose hashes are right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "step must be a number of 0 or more, got -1"),
        ({"step": 2.5}, "step must be a number of 0 or more, got 2.5"),
        ({"step": 3}, r"adam\.\d+\.step is 4 after 3 steps"),
        ({"seconds": "long"}, "seconds must be a number of 0 or more, got 'long'"),
        ({"loss": [1]}, r"loss must be a number, got \[1\]"),
        ({"history": "text"}, "history must be a list of"),
        ({"history": [[1, "x"]]}, "history must be a list of"),
        ({"history": [[1, 2, 3]]}, "history must be a list of"),
        ({"train": {"lr": True}}, "lr must be of type float, got True"),
        ({"unet": []}, r"UNetConfig must be a JSON object, got \[\]"),
    ],
    ids=str,
)
def test_a_checkpoint_with_nonsense_under_right_hashes_is_refused(tmp_path, change, message):
    readers.write_checkpoint(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    tensors, info = load_tensors(path)
    save_tensors(path, tensors, info | change)
    with pytest.raises(WeightsError, match=message):
        readers.read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
@pytest.mark.parametrize("value", [None, torch.zeros(1), torch.zeros(()).long(), torch.zeros(7, 7)], ids=range(4))
def test_moments_that_would_be_stretched_to_fit_are_refused(tmp_path, name, value):
    readers.write_checkpoint(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    tensors, info = load_tensors(path)
    del tensors[f"adam.0.{name}"]
    save_tensors(path, tensors if value is None else tensors | {f"adam.0.{name}": value}, info)
    with pytest.raises(WeightsError, match=f"adam.0.{name} is "):
        readers.read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
def test_moments_that_are_not_finite_are_refused_by_name(tmp_path, name):
    readers.write_checkpoint(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    tensors, info = load_tensors(path)
    tensors[f"adam.0.{name}"].fill_(float("nan"))
    save_tensors(path, tensors, info)
    with pytest.raises(WeightsError, match=rf"is damaged: adam\.0\.{name} holds NaN or infinity"):
        readers.read_checkpoint(tmp_path)


def test_a_folder_of_checkpoints_that_are_pipes_does_not_wait(tmp_path):
    for suffix in (".json", ".safetensors"):
        os.mkfifo(tmp_path / f"checkpoint-00000001{suffix}")
    with pytest.raises(WeightsError, match="pipe or device"):
        load_checkpoint(tmp_path, ddim_lib.UNet(readers.TINY), readers.TRAINING)


# Results


@pytest.mark.parametrize("cells", [None, [], 3, {"a": []}, {"a": None}], ids=repr)
def test_cells_that_are_none_are_refused_in_words(tmp_path, cells):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(readers.HEADER | {"cells": cells}))
    with pytest.raises(ValueError, match=re.escape(f"its cells must be a JSON object of such objects, got {cells!r};")):
        load_cells(path, readers.HEADER, readers.FIELDS)


@pytest.mark.parametrize("value", [None, True, "1.5", [1.5], float("nan"), float("inf"), 10**400, {}], ids=repr)
def test_a_cell_that_holds_no_number_is_refused(tmp_path, value):
    readers.write_results(tmp_path)
    path = tmp_path / "result.json"
    found = json.loads(path.read_text())
    del found["json_sha256"]
    found["cells"]["eta=1 S=10"]["frechet"] = value
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        load_cells(path, readers.HEADER, readers.FIELDS)


def test_an_altered_number_is_found_by_the_hash_which_older_files_do_not_have(tmp_path):
    readers.write_results(tmp_path)
    path = tmp_path / "result.json"
    text = path.read_text()
    path.write_text(text.replace("1.25", "1.24", 1))
    with pytest.raises(ValueError, match=r"result\.json is damaged .*does not match its json_sha256"):
        load_cells(path, readers.HEADER, readers.FIELDS)
    older = json.loads(text)
    del older["json_sha256"]
    path.write_text(json.dumps(older))
    assert len(load_cells(path, readers.HEADER, readers.FIELDS)) == 2


def test_a_cell_of_another_number_of_images_is_refused(tmp_path):
    readers.write_results(tmp_path)
    path = tmp_path / "result.json"
    found = json.loads(path.read_text())
    del found["json_sha256"]
    found["cells"]["eta=1 S=10"]["n"] = 50
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="'eta=1 S=10' is no finished cell"):
        load_cells(path, readers.HEADER, readers.FIELDS)


# Data sets and downloads


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with what ``answers`` holds for the path: bytes, or the address to go to; ``cut`` bytes are lacking."""

    answers, cut = {}, 0

    def do_GET(self):
        answer = self.answers[self.path]
        self.send_response(302 if isinstance(answer, str) else 200)
        if isinstance(answer, str):
            self.send_header("Location", answer)
            answer = b""
        self.send_header("Content-Length", str(len(answer) + self.cut))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """The server's class and address; the data sets are fetched from there."""
    monkeypatch.setattr(Server, "answers", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
        monkeypatch.setattr(datasets, "MNIST_URL", address)
        monkeypatch.setattr(datasets, "CIFAR10_URL", f"{address}archive")
        yield Server, address
        server.shutdown()


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_redirect_is_not_followed(server, tmp_path):
    handler, address = server
    for file in datasets.MNIST_SHA256:
        handler.answers[f"/{file}"] = f"{address}elsewhere"
    with pytest.raises(DatasetError, match=rf"mnist was not downloaded: .*gz sends to {address}elsewhere; only"):
        datasets.download("mnist", tmp_path)
    assert files_below(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path, monkeypatch):
    server[0].answers["/archive"] = b"part"
    monkeypatch.setattr(Server, "cut", 1000)
    with pytest.raises(OSError, match="IncompleteRead"):
        datasets.download("cifar10", tmp_path)
    assert files_below(tmp_path) == []


def test_an_archive_is_not_opened_before_its_hash_is_right(server, tmp_path, monkeypatch):
    server[0].answers["/archive"] = hostile_archive({"test_batch.bin": b"x"})
    monkeypatch.setattr(datasets.tarfile, "open", lambda *args: pytest.fail("it was opened"))
    with pytest.raises(DatasetError, match="does not match the known hash"):
        datasets.download("cifar10", tmp_path / "data")
    assert files_below(tmp_path) == []


def test_only_files_of_images_are_unpacked(tmp_path):
    readers.write_archive(tmp_path)
    archive = (tmp_path / "sent.tar.gz").rename(tmp_path / "cifar-10-binary.tar.gz")
    datasets._unpack_cifar10(str(archive), "download", None)
    folder = tmp_path / datasets.CIFAR10_FOLDER
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == sorted(
        path.relative_to(tmp_path) for path in [archive, folder, *(folder / file for file in readers.CIFAR10)]
    )
    assert not (tmp_path.parent / "escaped").exists()


def test_nothing_is_unzipped_before_its_hash_is_right(tmp_path, monkeypatch):
    readers.write_mnist(tmp_path)
    monkeypatch.setattr(datasets.gzip, "decompress", lambda data: pytest.fail("it was unzipped"))
    with pytest.raises(DatasetError, match="truncated or altered"):
        datasets.load_dataset("mnist", "train", tmp_path)


def test_every_address_in_the_library_is_https():
    texts = [
        node.value
        for path in Path(ddim_lib.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    addresses = [address for text in texts for address in re.findall(r"\b(?:https?|ftp)://\S*", text)]
    assert len(addresses) >= 2
    assert all(address.startswith("https://") for address in addresses)


# The command line


def test_memory_that_is_too_small_is_one_line_and_other_faults_are_not_hidden(monkeypatch, capsys):
    def fails(error):
        def overheads(*args):
            raise error

        return overheads

    memory = RuntimeError("DefaultCPUAllocator: can't allocate memory: \n you tried")
    monkeypatch.setattr(commands, "overheads", fails(memory))
    assert cli.main(["bench"]) == 2
    assert (
        capsys.readouterr().err
        == "error: the memory is too small: DefaultCPUAllocator: can't allocate memory:   you tried\n"
    )
    for fault in (RuntimeError("a fault of the library"), ZeroDivisionError("a fault of the library")):
        monkeypatch.setattr(commands, "overheads", fails(fault))
        with pytest.raises(type(fault), match="a fault of the library"):
            cli.main(["bench"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "mnist", "--seed", "-1"], "--seed must lie in 0..2147483647, got -1"),
        (["sample", "mnist", "--seed", str(10**30)], "--seed must lie in 0..2147483647, got 1"),
        (["sample", "mnist", "--n", str(10**30)], "--n must lie in"),
        (["sample", "mnist", "--n", str(10**12)], "--n must be at most 10,000"),
        (["sample", "mnist", "--eta", "nan"], "--eta must be a finite number, got nan"),
        (["sample", "mnist", "--eta", "1e999"], "--eta must be a finite number, got inf"),
        (["bench", "--steps", "0"], "S must be a whole number in 1..T"),
        (["bench", "--batch-size", "1", "0"], "--batch-size must be at least 1, got 0"),
        (["bench", "--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["train-classifier", "mnist-5k", "--width", str(10**9), "--out", "x.safetensors"], "--width must lie in"),
    ],
    ids=lambda part: " ".join(part)[:40] if isinstance(part, list) else "",
)
def test_numbers_that_no_command_takes_are_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [command for command, words in GOOD.items() if "--out" in words])
def test_no_command_waits_for_a_pipe_or_takes_the_place_of_a_device(tmp_path, capsys, command):
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path / "pipe", Path("/dev/null")):
        assert_refused(capsys, [command, *GOOD[command], "--out", out], f"got the pipe or device {out}")


def test_a_long_argument_is_not_repeated_at_length(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["x\n" * 100_000])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err) < 3000


def test_an_error_without_words_has_some(monkeypatch, capsys):
    def fails(*args):
        raise MemoryError

    monkeypatch.setattr(commands, "overheads", fails)
    assert cli.main(["bench"]) == 2
    assert capsys.readouterr().err == "error: the memory is too small\n"


def test_no_place_for_weights_takes_a_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, reader in enumerate(readers.READERS.values()):
        (folder := tmp_path / str(number)).mkdir()
        reader.write(folder)
        for path in files_below(folder):
            path.write_bytes(PICKLE)
        readers.forge_hashes(folder)
        with pytest.raises(reader.error):
            reader.read(folder)
    assert not (tmp_path / MARK).exists()


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path, monkeypatch):
    readers.write_network(tmp_path)
    path = tmp_path / "net.json"
    real = Path.stat

    def denied(self, **options):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} cannot be read: Permission denied"):
        load_weights(tmp_path / "net.safetensors")
