"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: str | Path, data: bytes | str) -> None:
    """Write a file under a temporary name beside it, then rename it.

    What is no regular file, such as ``/dev/stdout``, is written to as it is.

    Raises
    ------
    OSError
        As `check`, or the file system is full.
    """
    check(path)
    path = Path(path)
    if isinstance(data, str):
        data = data.encode()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    temporary = path.with_name(f".coprune-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check(path: str | Path) -> None:
    """Refuse a path that cannot be written: before the work, not after it.

    Raises
    ------
    OSError
        The path is a folder, or its folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.exists():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {path.parent} is no folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: no permission to write to {path.parent}")


def make_folder(path: str | Path) -> None:
    """Make a folder, and those that it lies in, where they are missing.

    Raises
    ------
    OSError
        A part of the path is a file, or may not be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"cannot make the folder {path}: {error.strerror}") from error
