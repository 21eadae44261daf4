"""Zip archives with a manifest that has checksums of all that is in them, itself included."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "manifest.json"


class ProgramFileError(ValueError):
    """A file is no program, is damaged, or was made for something else."""


def pack(manifest: dict, members: dict[str, bytes]) -> bytes:
    """An archive of a manifest and other members; the same ones give the same bytes."""
    manifest = {
        **manifest,
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        },
    }
    manifest["sha256"] = _digest(manifest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ((MANIFEST, json.dumps(manifest, indent=1).encode()), *members.items()):
            # A fixed date: the same program gives the same file.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def read_manifest(data: bytes, *, origin: str | Path) -> dict:
    """The manifest of an archive, unchecked; `origin` is what messages call the archive.

    Raises
    ------
    ProgramFileError
        It is no archive, or its manifest is none.
    """
    manifest = _read(data, [MANIFEST], origin=origin)[MANIFEST]
    try:
        manifest = json.loads(manifest)
    except ValueError as error:
        raise _damaged(origin, error) from error
    if not isinstance(manifest, dict):
        raise ProgramFileError(f"{origin}: {MANIFEST} must be an object; compile it again")
    return manifest


def unpack(
    data: bytes, *, expected: dict[str, object], names: Sequence[str] = (), origin: str | Path
) -> tuple[dict, dict[str, bytes]]:
    """The manifest and the other members of an archive, with versions and checksums checked.

    Parameters
    ----------
    data : bytes
    expected : dict
        What fields of the manifest must be.
    names : sequence of str
        The members that there must be; those that the manifest names, where there are none.
    origin : str or Path
        What messages call the archive.

    Raises
    ------
    ProgramFileError
        It is no archive, is damaged, or not what is expected.
    """
    manifest = read_manifest(data, origin=origin)
    for key, value in expected.items():
        if manifest.get(key) != value:
            raise ProgramFileError(
                f"{origin}: {key} must be {value!r}, not {manifest.get(key)!r}; compile it again"
            )
    digest = manifest.pop("sha256", None)
    if digest != _digest(manifest):
        raise ProgramFileError(f"{origin}: the checksum of {MANIFEST} is wrong; compile it again")
    promised = manifest.get("members", {})
    members = _read(data, names or promised, origin=origin)
    for name, member in members.items():
        if hashlib.sha256(member).hexdigest() != promised.get(name, {}).get("sha256"):
            raise ProgramFileError(f"{origin}: the checksum of {name} is wrong; compile it again")
    return manifest, members


def _read(data: bytes, names: Sequence[str], *, origin: str | Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Where the end of an archive is cut off, zipfile finds one that lies within.
            if archive.getinfo(MANIFEST).header_offset:
                raise zipfile.BadZipFile(f"{MANIFEST} must come first")
            return {name: archive.read(name) for name in names}
    except Exception as error:
        # zipfile and zlib raise many types where an archive is damaged.
        raise _damaged(origin, error) from error


def _damaged(origin: str | Path, error: Exception) -> ProgramFileError:
    return ProgramFileError(
        f"{origin} is no program file, or is damaged ({error}); compile it again"
    )


def _digest(manifest: dict) -> str:
    """Checksum of a manifest that has none yet."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
