"""Files of networks that run partly on the host: what is saved comes back, and nothing else."""

import hashlib
import io
import json
import re
import zipfile

import numpy as np
import pytest

import coprune
from coprune import ProgramFileError
from coprune.hybrid import HybridProgram
from coprune.program_file import MANIFEST
from coprune_hw.contract import AcceleratorConfig

from ..end_to_end.configurations import SMALL
from .hybrid_networks import SqueezeExcite, build
from .networks import images


@pytest.fixture(scope="module")
def hybrid():
    return coprune.compile(
        build(SqueezeExcite), SMALL, calibration=[images(8)], host_fallback=True, network="gated"
    )


@pytest.fixture(scope="module")
def content(hybrid, tmp_path_factory):
    path = tmp_path_factory.mktemp("hybrid") / "saved.coprune"
    hybrid.save(path)
    return path.read_bytes()


@pytest.fixture
def rewrite(content, tmp_path):
    """Writes the file with members changed, or left out where they are None, and sealed anew."""

    def write(manifest=None, **changes):
        path = tmp_path / "changed.coprune"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        described = {**json.loads(members.pop(MANIFEST)), **(manifest or {})}
        members |= {name.replace("_", "."): data for name, data in changes.items()}
        members = {name: data for name, data in members.items() if data is not None}
        described["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()
        }
        described = {key: value for key, value in described.items() if value is not None}
        del described["sha256"]
        text = json.dumps(described, sort_keys=True)
        described["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MANIFEST, json.dumps(described))
            for name, data in members.items():
                archive.writestr(name, data)
        return path

    return write


def test_what_is_saved_comes_back(hybrid, content, tmp_path):
    path = tmp_path / "saved.coprune"
    path.write_bytes(content)
    loaded = coprune.load(path)
    assert isinstance(loaded, HybridProgram)
    assert loaded.network == "gated"
    x = images(5, seed=9)
    assert np.array_equal(loaded.simulate(x), hybrid.simulate(x))
    assert loaded.cycles() == hybrid.cycles()
    loaded.save(path)
    assert np.array_equal(coprune.load(path).simulate(x), hybrid.simulate(x))


def test_the_same_network_gives_the_same_bytes(hybrid, content, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    hybrid.save(str(tmp_path / "again.coprune"))
    assert (tmp_path / "again.coprune").read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["again.coprune"]


def test_holds_a_member_for_each_stage(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [MANIFEST, "1.coprune", "2.pt2", "3.coprune"]


def test_loads_for_the_same_geometry_alone(content, tmp_path):
    path = tmp_path / "saved.coprune"
    path.write_bytes(content)
    coprune.load(path, config=SMALL)
    with pytest.raises(ProgramFileError, match=r"geometry 8x4 \(0x\w+\), not for 16x16 \(0x\w+\)"):
        coprune.load(path, config=AcceleratorConfig.preset("16x16"))


def test_refuses_a_file_that_is_damaged(hybrid, content, tmp_path):
    path = tmp_path / "damaged.coprune"
    # A stage within ends as the whole file does.
    ends = [match.end() + 18 for match in re.finditer(rb"PK\x05\x06", content)]
    assert ends.pop() == len(content)
    for length in [*range(0, len(content), len(content) // 20), *ends]:
        path.write_bytes(content[:length])
        with pytest.raises(ProgramFileError, match="is damaged"):
            coprune.load(path)
    x, refused = images(1), 0
    positions = range(0, len(content), len(content) // 60)
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        try:
            loaded = coprune.load(path)
        except ProgramFileError:
            refused += 1
        else:
            # A date or a flag of the archive.
            assert np.array_equal(loaded.simulate(x), hybrid.simulate(x))
    assert refused > 0.8 * len(positions)


def test_refuses_a_stage_that_is_none(rewrite):
    with pytest.raises(ProgramFileError, match=r"cannot read stage 2\.pt2, which 2\.\S+ wrote"):
        coprune.load(rewrite(**{"2_pt2": b"other"}))
    with pytest.raises(ProgramFileError, match=r"stage 3\.coprune is no program file, or is dam"):
        coprune.load(rewrite(**{"3_coprune": b"other"}))
    with pytest.raises(ProgramFileError, match=r"lacks or mistakes '2\.pt2'"):
        coprune.load(rewrite(**{"2_pt2": None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version must be 1, not 99"),
        ({"format": "other"}, "format must be 'coprune-program', not 'other'"),
        ({"stages": None}, "lacks or mistakes 'stages'"),
        ({"stages": ["2.pt2"]}, "lacks or mistakes 'stages'"),
        ({"stages": [3]}, "lacks or mistakes"),
        ({"network": None}, "lacks or mistakes 'network'"),
        ({"torch": None}, "lacks or mistakes 'torch'"),
    ],
)
def test_refuses_another_manifest(rewrite, change, message):
    with pytest.raises(ProgramFileError, match=message):
        coprune.load(rewrite(change))
