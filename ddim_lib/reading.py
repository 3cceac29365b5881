"""Files from elsewhere: read within bounds, checked before they are used, and told of in one short line."""

from __future__ import annotations

import dataclasses
import json
import math
import stat
import types
import typing
from pathlib import Path
from typing import Any

LARGEST_JSON = 16 << 20  # bytes; Python may need twenty times as many for the objects
DEEPEST_JSON = 20
LONGEST_LINE = 1000


def brief(text: object) -> str:
    """A message on one line of at most 1,000 printable characters, its middle left out if need be.

    What a file or a command line holds gets into messages, and may be long, or written to upset a terminal.
    """
    line = "".join(character if character.isprintable() else " " for character in str(text))
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE - 320]} ... ({len(line):,} characters) ... {line[-280:]}"


def check_file(path: Path, largest: int) -> int:
    """The size of a file, in bytes.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is a folder, a device or a pipe, which could wait for ever, or larger than ``largest`` bytes.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no file but a {'folder' if stat.S_ISDIR(found.st_mode) else 'pipe or device'}")
    if found.st_size > largest:
        raise ValueError(f"{path} holds {found.st_size:,} bytes; at most {largest:,} would be right")
    return found.st_size


def read_bytes(path: Path, largest: int) -> bytes:
    """The whole of a file; raises what :func:`check_file` does."""
    check_file(path, largest)
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: as :func:`read_bytes` does.
        ValueError: that, too; or no JSON in UTF-8, no object, a key that stands twice, or lists within lists too deep.
    """
    data = read_bytes(path, LARGEST_JSON)
    try:
        values = json.loads(data.decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError(f"{path} is not valid JSON: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {brief(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
    if _deeper_than(DEEPEST_JSON, values):
        raise ValueError(f"{path} is nested too deep; at most {DEEPEST_JSON} levels would be right")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} stands there twice")
        values[key] = value
    return values


def _deeper_than(depth: int, value: Any) -> bool:
    level = [value]
    for _ in range(depth):
        inner = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list))
        level = [child for children in inner for child in children]
    return bool(level)


def check_fields(kind: type, values: Any) -> None:
    """Raise ValueError unless ``values``, from a JSON file, are fields of the dataclass ``kind`` with their types.

    Python itself would take 1 for True, "no" for True, and 2.5 for a count; a list stands for a tuple.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} must be a JSON object, got {brief(repr(values))}")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"there is no field {brief(repr(name))}; the fields are {', '.join(hints)}")
        if dataclasses.is_dataclass(hints[name]):
            check_fields(hints[name], value)
        elif not _fits(value, hints[name]):
            wanted = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise ValueError(f"{name} must be of type {wanted}, got {brief(repr(value))}")


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, kind) for kind in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if hint in (int, float):
        return is_number(value) and (hint is float or isinstance(value, int))
    return type(value) is hint


def is_number(value: Any) -> bool:
    """Whether a value from a JSON file is a finite number that a float64 holds to the last digit, and no bool."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= 2**53
    return isinstance(value, float) and math.isfinite(value)
