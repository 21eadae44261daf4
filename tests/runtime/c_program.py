"""The driver in C in a process of its own, on a bus in this one."""

import math
import re
import subprocess
from pathlib import Path

import numpy as np

from coprune.program import Program
from coprune.runtime.c_driver import export_program
from coprune_hw.contract.registers import COUNTERS

MAIN = Path(__file__).parent / "c_driver_main.c"
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-pedantic")
STRICT += ("-Werror",)
C99 = ("gcc", "-std=c99", *STRICT, "-Wstrict-prototypes", "-Wmissing-prototypes", "-O2")
CPP = ("g++", "-std=c++11", *STRICT, "-O2")
SANITIZED = (*C99, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LONGEST_COMMAND_SECONDS = 60


def compile_c(compiler: tuple[str, ...], sources: list[Path], *, output: Path, flags=()) -> None:
    """Compile and link; a warning fails."""
    language = ["-x", "c++"] if compiler[0] == "g++" else []
    command = [*compiler, *flags, f"-I{output.parent}", *language, *map(str, sources)]
    finished = subprocess.run(
        [*command, "-o", str(output)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


def build(program: Program, folder: Path, *, compiler: tuple[str, ...] = C99) -> Path:
    """The executable of c_driver_main.c for a program."""
    export_program(program, folder, name="net")
    integer = "int32" if program.machine.output.raw else "int8"
    names = " ".join(f"PRINT({name})" for name in COUNTERS)
    flags = [f"-DINTEGER={integer}_t", f"-DUNPACK_INTEGERS=net_unpack_output_{integer}"]
    flags.append(f"-DCOUNTERS(PRINT)={names}")
    sources = [MAIN, folder / "coprune.c", folder / "net.c"]
    compile_c(compiler, sources, output=folder / "main", flags=flags)
    return folder / "main"


def result_codes(folder: Path) -> dict[str, int]:
    """Name without ``COPRUNE_`` and number of what the functions return, as coprune.h has it."""
    header = (folder / "coprune.h").read_text()
    body = re.search(r"enum coprune_result \{(.*?)\n\};", header, flags=re.DOTALL)[1]
    return {name: int(value) for name, value in re.findall(r"COPRUNE_(\w+) = (\d+),", body)}


class CDriver:
    """A process of c_driver_main.c; its accesses to registers and memory are those of `bus`."""

    def __init__(
        self, executable: Path, program: Program, bus, *, access="called", most_looks=1000, **memory
    ):
        self._folder, self._program, self._bus = executable.parent, program, bus
        self._codes = {code: name for name, code in result_codes(self._folder).items()}
        memory = {"address": bus.memory_address, "size": bus.memory_bytes} | memory
        arguments = [access, memory["address"], memory["size"], most_looks]
        self._process = subprocess.Popen(
            [executable, *map(str, arguments)],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _, errors = self._process.communicate(timeout=LONGEST_COMMAND_SECONDS)
        assert errors == ""
        assert self._process.returncode == 0

    def __call__(self, command: str) -> str:
        """Name of the command's result, without ``COPRUNE_``."""
        return self._codes[int(self.ask(command)[0])]

    def numbers(self, command: str) -> dict[str, int]:
        """What comes with the result of a command that succeeds."""
        code, *words = self.ask(command)
        assert self._codes[int(code)] == "OK"
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def layer_counters(self) -> dict[str, dict[str, int]]:
        layers = {}
        for number in range(len(self._program.machine.layers)):
            _, layer, *words = self.ask(f"layer {number}")
            layers[layer] = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        return layers

    def pack(self, image: np.ndarray) -> tuple[str, bytes]:
        """Result, and packed bytes of a float32 or int8 image."""
        is_float = image.dtype == np.float32
        (self._folder / ("input.f32" if is_float else "input.int8")).write_bytes(image.tobytes())
        result = self("pack" if is_float else "pack_int8")
        return result, (self._folder / "packed.bin").read_bytes()

    def run(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of a float32 image that runs: float32 and integers."""
        assert self.pack(image)[0] == "OK"
        assert self("run") == "OK"
        return self.outputs()

    def outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the last run."""
        shape, raw = self._program.output_shape, self._program.machine.output.raw
        values = np.fromfile(self._folder / "output.f32", np.float32)
        integers = np.fromfile(self._folder / "output.integers", np.int32 if raw else np.int8)
        assert len(values) == math.prod(shape)
        return values.reshape(shape), integers.reshape(shape)

    def ask(self, command: str) -> list[str]:
        """The words that answer a command; its accesses are done on the way."""
        self._send(command)
        while True:
            line = self._process.stdout.readline()
            assert line, self._process.stderr.read()
            kind, *words = line.split()
            if kind == "=":
                return words
            try:
                value = self._access(kind, *map(int, words))
            except OSError:
                self._send("1 0")
            else:
                self._send(f"0 {value or 0}")

    def _access(self, kind: str, *numbers: int) -> int | None:
        transfer = self._folder / "transfer.bin"
        if kind == "read":
            return self._bus.read_register(*numbers)
        if kind == "write":
            return self._bus.write_register(*numbers)
        if kind == "wait":
            return self._bus.wait()
        offset, size = numbers
        address = self._bus.memory_address + offset
        if kind == "put":
            content = transfer.read_bytes()
            assert len(content) == size
            return self._bus.write_memory(address, content)
        transfer.write_bytes(self._bus.read_memory(address, size))
        return None

    def _send(self, line: str) -> None:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
