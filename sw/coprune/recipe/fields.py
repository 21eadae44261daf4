"""TOML tables to dataclasses, with errors that name the key."""

from __future__ import annotations

import dataclasses
import tomllib
import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Fields = TypeVar("_Fields")


def read_fields(kind: type[_Fields], table: Mapping[str, Any], *, key: str) -> _Fields:
    """Make a dataclass of a table's values.

    Parameters
    ----------
    key
        Of the table, such as ``train``; empty for the whole file.

    Raises
    ------
    ValueError
        A key is unknown, is missing or has a value of a wrong type, or `kind` refuses a value.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    check_keys(table, known=fields, key=key)
    for name, field in fields.items():
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if name not in table and not has_default:
            raise ValueError(f"{join(key, name)} is missing")
    values = {
        name: _convert(value, hints[name], key=join(key, name)) for name, value in table.items()
    }
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{key}.{error}" if key else str(error)) from error


def check_keys(table: Mapping[str, Any], *, known: Sequence[str], key: str) -> None:
    """Refuse keys that are not ``known``."""
    for name in table:
        if name not in known:
            raise ValueError(
                f"{join(key, name)} is no key of a recipe; known here are {', '.join(known)}"
            )


def join(key: str, name: str) -> str:
    """Return the dotted name of a key within a table."""
    return f"{key}.{name}" if key else name


def set_value(table: dict[str, Any], assignment: str) -> None:
    """Change a value of a recipe's table by an assignment such as ``train.epochs=3``.

    What is no TOML value is a string, so that quotes may be left out.

    Raises
    ------
    ValueError
        It is no assignment, or a part of its key is no table.
    """
    path, equals, text = assignment.partition("=")
    *tables, name = path.strip().split(".")
    if not equals or not name:
        raise ValueError(f"an assignment must be KEY=VALUE, as train.epochs=3, not {assignment!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"{part} of {assignment!r} is no table of the recipe")
    table[name] = value


def _convert(value: Any, kind: Any, *, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert(value, next(each for each in arguments if each is not type(None)), key=key)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{key} must be a list, not {value!r}")
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{key} must have {len(kinds)} elements, not {value!r}")
        return tuple(
            _convert(each, inner, key=key) for each, inner in zip(value, kinds, strict=True)
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    if kind in names and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
        raise ValueError(f"{key} must be {names[kind]}, not {value!r}")
    return value
