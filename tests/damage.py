"""Damaged and hostile files: what the fuzz tests and ``tools/fuzz.py`` put in the place of good ones."""

import copy
import gzip
import io
import json
import os
import pickle
import tarfile
import tempfile

import torch

MARK = "unpickled"  # the folder that a pickle below makes where it is loaded


class Payload:
    def __reduce__(self):
        return (os.mkdir, (MARK,))


PICKLE = pickle.dumps(Payload())
GZIP_BOMB = gzip.compress(gzip.compress(bytes(64 << 20), 9, mtime=0), 9, mtime=0)


# Bytes


def truncated(data, rng):
    return data[: rng.randrange(len(data))]


def bit_flipped(data, rng):
    return _changed(data, rng.randrange(len(data)), lambda byte: byte ^ 1 << rng.randrange(8))


def byte_replaced(data, rng):
    return _changed(data, rng.randrange(len(data)), lambda byte: (byte + rng.randrange(1, 256)) % 256)


def start_overwritten(data, rng):
    return rng.randbytes(count := rng.randrange(1, 64)) + data[count:]


def part_cut_out(data, rng):
    first, last = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:first] + data[last:]


def part_doubled(data, rng):
    first, last = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:last] + data[first:]


def part_zeroed(data, rng):
    first, last = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:first] + bytes(last - first) + data[last:]


def junk_appended(data, rng):
    return data + rng.randbytes(rng.randrange(1, 4000))


def foreign_file(data, rng):
    return rng.choice(
        [b"", PICKLE, GZIP_BOMB, b"PK\x03\x04" + data, b"\x89PNG\r\n\x1a\n", rng.randbytes(500), b"\0" * 99]
    )


def _changed(data, at, change):
    return data[:at] + bytes([change(data[at])]) + data[at + 1 :]


BYTES = [truncated, bit_flipped, byte_replaced, start_overwritten, part_cut_out, part_doubled, part_zeroed]
BYTES += [junk_appended, foreign_file]


# JSON

WRONG = [None, True, False, -1, 0, 1, 2.5, 1e308, -1e-320, 2**31, 2**53 + 2, 10**12, 10**30, 10**4000]
WRONG += [float("nan"), float("inf"), "", "x", "1", "é\ud800\0\n\x1b[31m", "long" * 50_000, [], {}, [[]], [1, "a"]]
WRONG += [[0] * 5000, {"a": {"b": []}}, [10**9], [10**9] * 3, [[[]] * 3], "../../etc/passwd", 1e-30]


def edited(values, rng):
    """A copy of JSON values with one to three of them, anywhere, replaced, dropped, renamed or joined by another."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, 3)):
        node, key = rng.choice([*_places(values)])
        how = rng.randrange(5)
        if how == 3 or isinstance(node, list):
            node[key] = rng.choice(WRONG)
        elif how == 4:
            node.pop(key)
        elif how == 0:
            node[str(key) + rng.choice(["", "2", "\0"])] = node.pop(key)
        elif how == 1:
            node["extra"] = rng.choice(WRONG)
        else:
            node[key] = _nudged(node[key], rng)
    return values


def _places(node):
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _nudged(value, rng):
    """The value in another type or size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return rng.choice([[value], str(value), not value])
    return rng.choice([-value, value + 1, value * 10**9, value + 0.5, str(value), [value], bool(value)])


DEEP = {"lists": b"[" * 100_000, "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}
LARGE = {"lists": b'{"a": [' + b"[]," * 6_000_000 + b"[]]}", "string": b'{"' + b"a" * (10 << 20) + b'": 1}'}

MANY = b",".join(b'"%d": 0' % number for number in range(300_000))


def hostile_texts(good):
    """Texts in the place of the JSON ``good``, bytes, by name."""
    inside = good.rstrip()[1:-1]
    return {
        "lists nested 100,000 deep": DEEP["lists"],
        "objects nested 100,000 deep": DEEP["objects"],
        "lists nested 900 deep": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        "lists nested 900 deep beside the rest": b'{"a":' + b"[" * 900 + b"]" * 900 + b"," + inside + b"}",
        "an integer of 5,000 digits": b'{"n":' + b"9" * 5000 + b"," + inside + b"}",
        "numbers beyond all": b'{"n": 1e999, "m": -1e999, "k": NaN, "l": Infinity}',
        "keys that stand twice": b"{" + inside + b"," + inside + b"}",
        "the last of 300,000 keys twice": b"{" + MANY + b',"299999": 1}',
        "one key twice": b'{"cells": {}, "cells": {},' + inside + b"}",
        "UTF-16": good.decode().encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "no UTF-8": b"\xff" + good,
        "lone surrogates": b'{"\\ud800": "\\udfff"}',
        "200,000 lists": b'{"a": [' + b"[]," * 200_000 + b"[]]}",
        "more than 16 MiB": LARGE["lists"],
        "a string of 10 MiB": LARGE["string"],
        "a list": b"[1]",
        "null": b"null",
        "a pickle": PICKLE,
    }


# safetensors


def hostile_tensors(rng):
    """(name, bytes of a safetensors file whose header lies)."""
    forms = {
        "promises terabytes": {"a": _tensor("F32", [2**40], 0, 2**42)},
        "a shape that overflows": {"a": _tensor("F32", [2**32, 2**32, 2**32], 0, 4)},
        "a negative size": {"a": _tensor("F32", [-1], 0, 4)},
        "a negative offset": {"a": _tensor("F32", [1], -4, 0)},
        "offsets the wrong way round": {"a": _tensor("F32", [1], 8, 4)},
        "overlapping tensors": {"a": _tensor("F32", [2], 0, 8), "b": _tensor("F32", [2], 4, 12)},
        "a hole": {"a": _tensor("F32", [1], 0, 4), "b": _tensor("F32", [1], 8, 12)},
        "an unknown type": {"a": _tensor("F999", [1], 0, 4)},
        "four bits": {"a": _tensor("F4", [8], 0, 4)},
        "six bits": {"a": _tensor("F6_E2M3", [16], 0, 12)},
        "bytes of scales": {"a": _tensor("F8_E8M0", [4], 0, 4)},
        "complex numbers": {"conv_in.weight": _tensor("C64", [1], 0, 8)},
        "no tensor": {},
        "an empty tensor": {"": _tensor("F32", [0], 0, 0)},
        "a shape with many zeros": {"a": _tensor("F32", [2**62, 0, 2**62], 0, 0)},
        "a thousand axes": {"a": _tensor("F32", [1] * 1000, 0, 4)},
        "a shape that is none": {"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}},
        "a tensor without fields": {"a": {}},
        "metadata that is none": {"__metadata__": [1], "a": _tensor("F32", [1], 0, 4)},
        "names to upset a terminal": {"\x1b[2J\n" * 1000: _tensor("F32", [1], 0, 4)},
        "fifty thousand tensors": {f"t{i}": _tensor("U8", [0], 0, 0) for i in range(50_000)},
    }
    lengths = {
        "a header of 2^63 bytes": 2**63,
        "a header of 2^64 - 1 bytes": 2**64 - 1,
        "a header of 99 MB": 99_000_000,
    }
    name = rng.choice([*forms, *lengths, "a nested header", "a header of nothing", "a header that is no text"])
    if name in lengths:
        return name, lengths[name].to_bytes(8, "little") + b"{}" + bytes(100)
    if name in forms:
        size = max([each["data_offsets"][1] for each in forms[name].values() if "data_offsets" in each], default=0)
        return name, headed(json.dumps(forms[name]).encode()) + bytes(min(size, 64)) if name != "a tensor" else b""
    texts = {"a nested header": b'{"a":' * 5000 + b"1" + b"}" * 5000, "a header of nothing": b""}
    return name, headed(texts.get(name, b"\xff" * 40)) + bytes(8)


def headed(header):
    return len(header).to_bytes(8, "little") + header


def _tensor(kind, shape, first, last):
    return {"dtype": kind, "shape": shape, "data_offsets": [first, last]}


STRANGERS = ["x", "adam.9999.exp_avg", "adam.x.y", "adam.0", "model.", "ema.x.y.z", "reference."]  # among tensors


def edited_tensors(tensors, rng):
    """(name, tensors of which one is missing, added, of another shape or type, or not finite)."""
    tensors, name = dict(tensors), rng.choice([*tensors])
    value = tensors[name]
    edits = {
        "lost": None,
        "flat": value.flatten()[None],
        "a scalar": torch.tensor(1.0),
        "a row more": torch.cat([value, value]) if value.ndim else value.repeat(2),
        "empty": value.flatten()[:0],
        "int64": value.to(torch.int64),
        "complex": value.to(torch.complex64),
        "bool": value.bool(),
        "float8": value.to(torch.float8_e5m2),
        "NaN": torch.full(value.shape, float("nan"), dtype=torch.float32),
        "infinity": torch.full(value.shape, -float("inf"), dtype=torch.float32),
        "random bytes": torch.randint(256, value.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    }
    kind = rng.choice([*edits, "renamed", "one more"])
    if kind == "renamed":
        tensors[name + rng.choice([".x", "\0", " ", ".0.0"])] = tensors.pop(name)
    elif kind == "one more":
        tensors[rng.choice(STRANGERS)] = value.clone()
    elif kind == "lost":
        del tensors[name]
    else:
        tensors[name] = edits[kind].clone()
    return kind, tensors


# Places


def _in_place_of(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


HIDDEN = "not to be read"
PLACES = {
    "missing": lambda path: path.unlink(),
    "a folder": _in_place_of(lambda path: path.mkdir()),
    "a pipe": _in_place_of(os.mkfifo),
    "a link to itself": _in_place_of(lambda path: path.symlink_to(path.name)),
    "a link to nowhere": _in_place_of(lambda path: path.symlink_to("nowhere")),
    "a link to endless zeros": _in_place_of(lambda path: path.symlink_to("/dev/zero")),
    "a link to a terminal": _in_place_of(lambda path: path.symlink_to("/dev/tty")),
    "a hole of 4 TiB": lambda path: os.truncate(path, 4 << 40),
    "a hole of 2 GiB": lambda path: os.truncate(path, 2 << 30),
}
if os.geteuid():  # root may read all
    PLACES[HIDDEN] = lambda path: path.chmod(0)

# Archives

OUTSIDE = f"{tempfile.gettempdir()}/ddim-escaped-{os.getpid()}"  # of this run


def hostile_archive(good):
    """A tar file that writes outside its folder in every known way, and holds the members of ``good`` as well."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("../escaped", OUTSIDE, "a/../../escaped", "cifar-10-batches-bin/../../escaped"):
            _add(tar, name, b"escaped")
        for kind, name in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard")):
            _add(tar, f"cifar-10-batches-bin/{name}", type=kind, linkname="../..")
            _add(tar, f"cifar-10-batches-bin/{name}/escaped", b"escaped")
        for kind, name in ((tarfile.CHRTYPE, "device"), (tarfile.FIFOTYPE, "pipe"), (tarfile.BLKTYPE, "disk")):
            _add(tar, f"cifar-10-batches-bin/{name}", type=kind)
        for name, data in good.items():
            _add(tar, f"cifar-10-batches-bin/{name}", data)
    return gzip.compress(file.getvalue(), mtime=0)


def _add(tar, name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
