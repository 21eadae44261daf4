"""Instructions in words, and who sends a token to whom."""

import pytest

from coprune.report.disassembly import describe_instruction, find_senders, kind_of
from coprune_hw.contract.instructions import LoadKind, Opcode, prefix
from coprune_hw.contract.work import UNITS

from ..end_to_end.configurations import SMALL
from ..instructions import PLAIN

PLACE = {"base": 5, "plane_words": 8, "pitch": 2, "log2_stride": 0, "log2_bank_columns": 1}
NO_WINDOW = {"row_begin": 0, "rows": 0, "width": 0}
EXECUTE = {
    "prefix": prefix(Opcode.EXECUTE),
    "barrier": 0,
    **PLAIN,
    "slot_base": 10,
    "slot_count": 36,
    "tile_rows": 4,
    "tile_columns": 2,
    "row_begin": 0,
    "log2_bank_columns": 1,
    "output": PLACE,
}


def load(kind, **more):
    return {
        "prefix": prefix(Opcode.LOAD),
        "kind": kind,
        "source": 0x1240,
        "count": 0,
        "place": PLACE,
        "window": NO_WINDOW,
        "pixel_bytes": 0,
        **more,
    }


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (
            load(LoadKind.SLOTS, count=36),
            "36 slots, 540 bytes from 0x1240, to slot memory 5..40",
        ),
        (
            load(LoadKind.PARAMETERS, count=16),
            "16 channels' parameters, 128 bytes from 0x1240, to parameter memory 5..20",
        ),
        (
            load(LoadKind.PIXELS, window={"row_begin": 3, "rows": 2, "width": 32}, pixel_bytes=3),
            "rows 3..4, 32 pixels wide of input, 192 bytes from 0x1240, to bank words 5 and on",
        ),
        (
            EXECUTE,
            "8 tiles of 2 x 2 pixels, each 36 slots (10..45): 288 slots, to bank words 5 and on",
        ),
        (
            {**EXECUTE, "row_begin": 4, "maximum": 1, "barrier": 1},
            "8 tiles of 2 x 2 pixels, each 36 slots (10..45): 288 slots, to bank words 5 and on, "
            "from row 4 on, maximum, after a barrier",
        ),
        (
            {**EXECUTE, "interleaved": 1, "row_phase": 1, "tabulated": 1, "table": 1},
            "8 tiles of 2 x 2 pixels, each 36 slots (10..45): 288 slots, to bank words 5 and on, "
            "every second pixel from (1, 0) on, through table 1",
        ),
        (
            load(LoadKind.TABLES, count=256, place={**PLACE, "base": 256}),
            "256 values of an activation function, 256 bytes from 0x1240, to table memory 256..511",
        ),
        (
            {
                "prefix": prefix(Opcode.STORE),
                "destination": 0x21B40,
                "place": PLACE,
                "window": {"row_begin": 0, "rows": 1, "width": 10},
            },
            "row 0, 10 pixels wide, 80 bytes, from bank words 5 and on to 0x21b40",
        ),
    ],
)
def test_says_what_an_instruction_does(instruction, text):
    assert describe_instruction(instruction, config=SMALL) == text


def test_refuses_an_instruction_that_no_unit_runs():
    with pytest.raises(ValueError, match="opcode must be LOAD, EXECUTE or STORE, not END"):
        describe_instruction({"prefix": prefix(Opcode.END)}, config=SMALL)


def test_names_kinds():
    kinds = [kind_of(load(kind)) for kind in LoadKind]
    assert kinds == ["slots", "parameters", "pixels", "tables"]
    assert kind_of(EXECUTE) == "execute"


def test_tokens_are_taken_in_the_order_in_which_they_are_sent():
    instructions = [
        {"prefix": prefix(Opcode.HEADER)},
        {"prefix": prefix(Opcode.LOAD)},
        {"prefix": prefix(Opcode.LOAD, signal_next=True)},
        {"prefix": prefix(Opcode.LOAD, signal_next=True, wait_next=True)},
        {"prefix": prefix(Opcode.EXECUTE, wait_previous=True, signal_previous=True)},
        {"prefix": prefix(Opcode.EXECUTE, wait_previous=True, signal_next=True)},
        {"prefix": prefix(Opcode.STORE, wait_previous=True)},
        {"prefix": prefix(Opcode.END)},
    ]
    assert find_senders(instructions) == [(), (), (), (4,), (2,), (3,), (5,), ()]


@pytest.mark.parametrize("program", ["sparse", "dense", "odd", "single_layer"])
def test_every_token_of_a_program_has_a_sender_that_ends_before_it_is_taken(program, request):
    program = request.getfixturevalue(program)
    instructions = program.machine.instructions()
    timing = {one.index: one for one in program.cycles().timing.instructions}
    for index, senders in enumerate(find_senders(instructions)):
        taken = instructions[index]["prefix"]
        assert len(senders) == taken["wait_previous"] + taken["wait_next"]
        for sender in senders:
            sent = instructions[sender]["prefix"]
            assert abs(UNITS.index(sent["opcode"]) - UNITS.index(taken["opcode"])) == 1
            assert timing[sender].end <= timing[index].begin
