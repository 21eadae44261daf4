"""Keeps what takes long to build, from one process to the next."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where built models are kept: ``coprune`` in the user's cache folder."""
    if sys.platform == "darwin":
        default = Path.home() / "Library" / "Caches"
    else:
        default = Path.home() / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "coprune"


@contextmanager
def keep(name: str, *, folder: Path | None = None) -> Iterator[tuple[Path, bool]]:
    """Hold the lock on a cache entry, and put it in place when the block ends without an error.

    Parameters
    ----------
    name : str
        Of the entry, a folder.
    folder : Path, optional
        Instead of `cache_folder`.

    Yields
    ------
    path : Path
        The entry where it exists, else an empty folder to fill, which becomes the entry.
    exists : bool
    """
    parent = folder or cache_folder()
    parent.mkdir(parents=True, exist_ok=True)
    entry = parent / name
    with open(parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.exists():
            yield entry, True
            return
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as temporary:
            filled = Path(temporary) / "entry"
            filled.mkdir()
            yield filled, False
            filled.rename(entry)
