"""Program files: what is saved comes back, and nothing else is taken for it."""

import dataclasses
import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

import coprune
from coprune import ProgramFileError, atomic_file
from coprune.program_file import GRAPH, IMAGE, MANIFEST, load
from coprune_hw.contract import AcceleratorConfig

from ..end_to_end.configurations import SMALL
from .networks import images, residual


@pytest.fixture(scope="module")
def program():
    return coprune.compile(residual(), SMALL, calibration=[images(8)], network="residual")


@pytest.fixture(scope="module")
def content(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "saved.coprune"
    program.save(path)
    return path.read_bytes()


@pytest.fixture
def rewrite(content, tmp_path):
    """Writes the saved file with some members changed, or left out where they are None."""

    def write(**changes: bytes | None):
        path = tmp_path / "changed.coprune"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members |= {
            {"manifest": MANIFEST, "image": IMAGE, "graph": GRAPH}[key]: value
            for key, value in changes.items()
        }
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                if data is not None:
                    archive.writestr(name, data)
        return path

    return write


@pytest.fixture
def manifest(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read(MANIFEST))


def encode(manifest: dict, *, seal: bool = True) -> bytes:
    """A manifest as bytes; `seal` gives it the checksum that it needs."""
    plain = {key: value for key, value in manifest.items() if key != "sha256"}
    if seal:
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        manifest = {**plain, "sha256": digest}
    return json.dumps(manifest).encode()


def assert_equal(actual, expected, *, path: str = "program") -> None:
    """Compare dataclasses, sequences and arrays field by field."""
    if dataclasses.is_dataclass(expected):
        assert type(actual) is type(expected), path
        for field in dataclasses.fields(expected):
            assert_equal(
                getattr(actual, field.name),
                getattr(expected, field.name),
                path=f"{path}.{field.name}",
            )
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype, path
        assert np.array_equal(actual, expected), path
    elif isinstance(expected, tuple):
        assert len(actual) == len(expected), path
        for number, pair in enumerate(zip(actual, expected, strict=True)):
            assert_equal(*pair, path=f"{path}[{number}]")
    else:
        assert actual == expected, path


def test_what_is_saved_comes_back(program, tmp_path):
    path = tmp_path / "saved.coprune"
    program.save(path)
    loaded = coprune.load(path)
    assert_equal(loaded, program)
    x = images(5, seed=9)
    assert np.array_equal(loaded.simulate(x), program.simulate(x))
    assert loaded.cycles() == program.cycles()


def test_the_same_program_gives_the_same_bytes(program, content, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    path = tmp_path / "again.coprune"
    program.save(str(path))
    assert path.read_bytes() == content
    coprune.load(path).save(path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["again.coprune"]


def test_loads_for_the_same_geometry_alone(content, tmp_path):
    path = tmp_path / "saved.coprune"
    path.write_bytes(content)
    load(path, config=SMALL)
    with pytest.raises(ProgramFileError, match=r"geometry 8x4 \(0x\w+\), not for 16x16 \(0x\w+\)"):
        load(path, config=AcceleratorConfig.preset("16x16"))


def test_refuses_a_file_that_is_cut(content, tmp_path):
    path = tmp_path / "cut.coprune"
    for length in [*range(0, len(content), len(content) // 40), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ProgramFileError, match="is damaged"):
            load(path)


def test_a_byte_that_flips_never_changes_the_program(program, content, tmp_path):
    path = tmp_path / "flipped.coprune"
    positions = [
        *range(0, len(content), len(content) // 150),
        *range(len(content) - 60, len(content)),
    ]
    refused = 0
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ProgramFileError:
            refused += 1
        else:
            # A date or a flag of the archive.
            assert_equal(loaded, program)
    assert refused > 0.8 * len(positions)


@pytest.mark.parametrize(("member", "name"), [("image", IMAGE), ("graph", GRAPH)])
def test_refuses_a_member_that_is_changed_or_missing(rewrite, member, name):
    with pytest.raises(ProgramFileError, match=f"the checksum of {name} is wrong"):
        load(rewrite(**{member: b"other"}))
    with pytest.raises(ProgramFileError, match=f"is damaged.*{name}"):
        load(rewrite(**{member: None}))


@pytest.mark.parametrize(
    "change",
    [
        {"network": "another"},
        {"output_shape": [7]},
        {"members": {}},
        {"sha256": "0" * 64},
        {"unknown": 1},
    ],
)
def test_refuses_a_manifest_that_is_changed(rewrite, manifest, change):
    path = rewrite(manifest=encode({**manifest, **change}, seal=False))
    with pytest.raises(ProgramFileError, match=f"the checksum of {MANIFEST} is wrong"):
        load(path)


@pytest.mark.parametrize(
    "field", ["geometry", "geometry_hash", "graph", "input_region", "layers", "members", "network"]
)
def test_refuses_a_sealed_manifest_that_lacks_a_field(rewrite, manifest, field):
    del manifest[field]
    with pytest.raises(ProgramFileError, match=f"lacks or mistakes '{field}'|checksum of {IMAGE}"):
        load(rewrite(manifest=encode(manifest)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format must be 'coprune-program', not 'other'"),
        ({"format_version": 99}, "format_version must be 2, not 99"),
        ({"contract_version": 0}, r"contract_version must be \d+, not 0"),
        ({"geometry_hash": 1}, "mistakes geometry_hash"),
        ({"geometry": {"lanes": 9}}, "lanes must be one of"),
        ({"geometry": {"lines": 8}}, "unknown field 'lines'"),
    ],
)
def test_refuses_another_version_or_geometry(rewrite, manifest, change, message):
    with pytest.raises(ProgramFileError, match=message):
        load(rewrite(manifest=encode({**manifest, **change})))


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff\xfe", b"null"])
def test_refuses_a_manifest_that_is_none(rewrite, data):
    with pytest.raises(ProgramFileError):
        load(rewrite(manifest=data))


def test_refuses_what_is_no_archive(tmp_path):
    path = tmp_path / "text.coprune"
    path.write_text("hello")
    with pytest.raises(ProgramFileError, match=r"text\.coprune is no program file"):
        load(path)
    for missing in (tmp_path / "missing.coprune", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such program file"):
            load(missing)


def test_a_save_that_fails_leaves_the_old_file(program, tmp_path, monkeypatch):
    path = tmp_path / "kept.coprune"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(atomic_file.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        program.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.coprune"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing/x", "there is no folder"), ("file/x", "is no folder"), ("folder", "is a folder")],
)
def test_refuses_a_path_that_cannot_be_written(program, tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=message):
        program.save(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_writes_through_a_link(program, content, tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.coprune"
    link.symlink_to(tmp_path / "folder" / "target.coprune")
    program.save(link)
    assert link.is_symlink()
    assert (tmp_path / "folder" / "target.coprune").read_bytes() == content
