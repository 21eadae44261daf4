"""The commands of driver.cpp for a program, and what it answers."""

from __future__ import annotations

from coprune_hw.contract.program import MachineProgram
from coprune_hw.contract.registers import COUNTERS, address_of

from .host import PROGRAM_ADDRESS, control_word, decode_status


def driver_script(program: MachineProgram, *, ports: dict[str, int], images: int) -> str:
    """Commands that run a program on every load_<index>.bin and read what it left.

    `ports` are the ports of bench.v to set before the reset, by name.
    """
    source = PROGRAM_ADDRESS + program.input.offset
    destination = PROGRAM_ADDRESS + program.output.offset
    size = len(program.image)
    commands = [f"set {name} {value}" for name, value in ports.items()]
    commands += ["reset", f"load 0 {PROGRAM_ADDRESS} {size}"]
    commands.append(f"write {address_of('program_address')} {PROGRAM_ADDRESS}")
    commands.append(f"write {address_of('program_bytes')} {size}")
    commands.append(f"write {address_of('interrupt_enable')} 1")
    control = address_of("control")
    for index in range(images):
        commands.append(f"load {index + 1} {source} {program.input.size_bytes}")
        commands += [f"observe {index}", f"write {control} {control_word('start')}", "run", "end"]
        commands.append(f"read {address_of('status')}")
        commands += [f"read {address_of(name)}" for name in COUNTERS]
        for record in program.layers:
            commands.append(f"write {address_of('mark_select')} {record.mark}")
            commands += [f"read {address_of(f'mark_{name}')}" for name in COUNTERS]
        commands.append(f"write {control} {control_word('acknowledge')}")
        commands.append(f"dump {index} {destination} {program.output.size_bytes}")
    return "\n".join(commands)


def read_driver_lines(lines: list[str]) -> dict:
    """Answers to the commands of one image, in the form of the cocotb bench's response."""
    interrupt, violation, cycles, seconds = lines[0].split()
    status = decode_status(int(lines[1]))
    values = [int(line) for line in lines[2:]]
    records = [
        dict(zip(COUNTERS, values[begin : begin + len(COUNTERS)], strict=True))
        for begin in range(0, len(values), len(COUNTERS))
    ]
    return {
        "interrupted": interrupt == "1",
        "violation": int(violation),
        "state": status["state"],
        "error": status["error"],
        "counters": records[0],
        "marks": records[1:],
        "cycles": int(cycles),
        "seconds": float(seconds),
    }
