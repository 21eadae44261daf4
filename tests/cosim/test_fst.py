"""The writer of FST files, against a reader that others wrote."""

import random
from pathlib import Path

import pytest
import pywellen

from coprune_sim.cosim import fst

WIDTHS = {"bit": 1, "opcode": 4, "byte": 8, "address": 13, "bus": 64, "word": 128, "slot": 217}


def read(content: bytes, folder: Path) -> pywellen.Waveform:
    path = folder / "read.fst"
    path.write_bytes(content)
    return pywellen.Waveform(str(path))


def changes(variable) -> list[tuple[int, int]]:
    """When a signal got which value, without those that it had already."""
    kept = []
    for time, value in variable.tv:
        number = int(value, 2) if isinstance(value, str) else int(value)
        if not kept or kept[-1][1] != number:
            kept.append((time, number))
    return kept


@pytest.mark.parametrize("block_bytes", [1, 100, 2_000, 30_000, fst.BLOCK_BYTES])
@pytest.mark.parametrize("activity", [0.02, 0.5, 1.0])
def test_reads_back_what_was_written(tmp_path, monkeypatch, block_bytes, activity):
    monkeypatch.setattr(fst, "BLOCK_BYTES", block_bytes)
    source = random.Random(7)
    writer = fst.FstWriter(log10_seconds=-9)
    writer.enter_scope("top")
    signals = {
        name: writer.add_signal(f"{name} [{bits - 1}:0]" if bits > 1 else name, bits=bits)
        for name, bits in WIDTHS.items()
    }
    writer.leave_scope()
    expected = {name: [] for name in WIDTHS}
    for time in range(1_000, 13_000, 13):
        writer.set_time(time)
        for name, bits in WIDTHS.items():
            if not expected[name] or source.random() < activity:
                value = source.getrandbits(bits)
                writer.change(signals[name], value)
                if not expected[name] or expected[name][-1][1] != value:
                    expected[name].append((time, value))
    variables = {variable.name: variable for variable in read(writer.finish(), tmp_path).all_vars()}
    assert {name: variable.length for name, variable in variables.items()} == WIDTHS
    for name, variable in variables.items():
        assert changes(variable) == expected[name], name


def test_compresses_signals_of_any_length(tmp_path):
    # Where compression saves nothing, the format has the content as it is.
    source = random.Random(8)
    writer = fst.FstWriter(log10_seconds=-9)
    writer.enter_scope("top")
    signals = [writer.add_signal(f"signal{count}", bits=1) for count in range(1, 200)]
    writer.leave_scope()
    expected = {signal: [] for signal in signals}
    for time in range(1, 400):
        writer.set_time(time)
        for signal in signals:
            value = time % 2 if time > 1 and time - signal < 3 else source.getrandbits(1)
            if len(expected[signal]) < signal + 1:
                writer.change(signal, value)
                if not expected[signal] or expected[signal][-1][1] != value:
                    expected[signal].append((time, value))
    for signal, variable in enumerate(read(writer.finish(), tmp_path).all_vars()):
        assert changes(variable) == expected[signal], variable.name


def test_shows_modules_aliases_and_the_unit_of_time(tmp_path):
    writer = fst.FstWriter(log10_seconds=-9)
    writer.enter_scope("outer")
    first = writer.add_signal("valid", bits=1)
    writer.enter_scope("inner")
    assert writer.add_signal("payload.valid", bits=1, alias=first) == first
    second = writer.add_signal("data [7:0]", bits=8)
    writer.leave_scope()
    third = writer.add_signal("ready", bits=1)
    writer.leave_scope()
    assert (first, second, third) == (0, 1, 2)
    writer.set_time(20)
    for signal, value in ((first, 1), (second, 0xA5), (third, 0)):
        writer.change(signal, value)
    writer.set_time(30)
    writer.change(first, 0)
    waveform = read(writer.finish(), tmp_path)
    found = {variable.full_name: changes(variable) for variable in waveform.all_vars()}
    assert found == {
        "outer.valid": [(20, 1), (30, 0)],
        "outer.inner.payload.valid": [(20, 1), (30, 0)],
        "outer.inner.data": [(20, 0xA5)],
        "outer.ready": [(20, 0)],
    }
    assert str(waveform.timescale) == "1ns"
