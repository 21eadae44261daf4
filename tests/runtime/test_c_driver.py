"""The driver in C: it compiles without a warning, and does what the driver in Python does."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from amaranth.lib import data

import coprune
from coprune.program import compile_graph
from coprune.runtime import Device, SimulatedBus
from coprune.runtime.c_driver import driver, export_program, name_for, write_driver
from coprune_hw.contract import CONTRACT_VERSION
from coprune_hw.contract.layout import encode
from coprune_hw.contract.registers import (
    COUNTERS,
    ERROR_MEANING,
    IDENTITY,
    REGISTERS,
    Counter,
    ErrorCode,
    State,
    Status,
    address_of,
)
from coprune_sim.graph import RawScale

from ..end_to_end.configurations import SMALL, WIDE_BUS
from ..graphs import GRAPHS, GraphBuilder
from .c_program import C99, CPP, SANITIZED, CDriver, build, compile_c

DRIVER_PAGE = Path(__file__).parents[2] / "docs" / "driver.md"


def folded_graph():
    """The input's phases are channels, and its odd sizes leave pixels beyond the image."""
    builder = GraphBuilder(2, (7, 9), seed=5)
    builder.add(builder.conv("input", 12, stride=2))
    return builder.graph()


def scaled_graph():
    """Sums with a step and a bias for every channel."""
    graph = GRAPHS["raw"]()
    rng = np.random.default_rng(3)
    channels = graph.output.channels
    step = rng.uniform(1e-6, 1e-2, channels)
    return replace(graph, raw_scale=RawScale(step, rng.integers(-(2**31), 2**31, channels)))


PROGRAMS = {
    "odd": (GRAPHS["odd"], SMALL),
    "raw": (GRAPHS["raw"], SMALL),
    "scaled": (scaled_graph, SMALL),
    "folded": (folded_graph, SMALL),
    "padded": (GRAPHS["odd"], WIDE_BUS),
}


def make_program(name):
    graph, config = PROGRAMS[name]
    return compile_graph(graph(), config, network=name)


@pytest.fixture(scope="module")
def bus():
    with SimulatedBus(SMALL) as bus:
        yield bus


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Program and executable by name and compiler, each made once."""
    made = {}

    def make(name, *, compiler=C99):
        if (name, compiler) not in made:
            program = make_program(name)
            folder = tmp_path_factory.mktemp(name)
            made[name, compiler] = (program, build(program, folder, compiler=compiler))
        return made[name, compiler]

    return make


def draw_images(program, *, count=3, seed=0):
    rng = np.random.default_rng(seed)
    tensor = program.graph.input
    return rng.uniform(-140, 140, (count, *tensor.shape)).astype(np.float32) * np.float32(
        tensor.scale
    )


class Machine:
    """Registers and memory without a machine: what is asked for is as it was set."""

    memory_address, memory_bytes = 0x1000, 1 << 20

    def __init__(self, *, failing=None, **values):
        values = {"identity": IDENTITY, "version": CONTRACT_VERSION} | values
        self._values = {address_of(name): value for name, value in values.items()}
        self.failing = failing
        self.written = []
        self.memory = bytearray(b"\xaa" * self.memory_bytes)
        self.waits = 0

    def read_register(self, address):
        self._fail("read_register", address)
        return self._values.get(address, 0)

    def write_register(self, address, value):
        self._fail("write_register", address)
        self.written.append((address, value))

    def read_memory(self, address, size):
        self._fail("read_memory", address)
        begin = address - self.memory_address
        return bytes(self.memory[begin : begin + size])

    def write_memory(self, address, content):
        self._fail("write_memory", address)
        begin = address - self.memory_address
        self.memory[begin : begin + len(content)] = content

    def wait(self):
        self._fail("wait", 0)
        self.waits += 1

    def set(self, name, value):
        self._values[address_of(name)] = value

    def _fail(self, kind, address):
        if self.failing == kind:
            raise OSError(f"{kind} at {address:#x}")


def status_word(state, *, error=0):
    fields = {name: 0 for name, _ in data.Layout.cast(Status)}
    return encode(data.Layout.cast(Status), {**fields, "state": state, "error": error})


def idle_machine(program, **values):
    return Machine(**{"geometry_hash": program.config.geometry_hash} | values)


@pytest.mark.parametrize("compiler", [C99, CPP, SANITIZED], ids=["c99", "c++11", "sanitized"])
@pytest.mark.parametrize("name", ["odd", "raw", "scaled", "folded"])
def test_does_what_the_python_driver_does(bus, built, name, compiler):
    program, executable = built(name, compiler=compiler)
    images = draw_images(program)
    device = Device(bus)
    device.load(program)
    expected = []
    for image in images:
        outputs = [
            device.run(torch.from_numpy(image[None]), integer=flag) for flag in (False, True)
        ]
        expected.append((*outputs, device.counters(), device.layer_counters()))
    with CDriver(executable, program, bus) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        size = len(program.machine.image)
        assert bus.read_memory(bus.memory_address, size) == program.machine.image
        for image, (values, integers, counters, layers) in zip(images, expected, strict=True):
            c_values, c_integers = c.run(image)
            assert c_values.tobytes() == values[0].tobytes()
            assert c_integers.tobytes() == integers[0].tobytes()
            assert c.numbers("counters") == counters
            assert c.layer_counters() == layers
        geometry = {"lanes": SMALL.lanes, "columns": SMALL.columns, "bus_bytes": SMALL.bus_bytes}
        assert c.numbers("geometry") == geometry


def test_hooks_keep_a_cache_and_the_memory_equal(bus, built):
    program, executable = built("odd", compiler=SANITIZED)
    images = draw_images(program)
    with CDriver(executable, program, bus, access="cached") as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        for image in images:
            values, _ = c.run(image)
            assert np.array_equal(values, program.simulate(image[None])[0])


def test_accesses_mapped_registers_at_their_addresses(built):
    program, executable = built("odd", compiler=SANITIZED)
    registers = np.zeros(64, np.uint32)
    for name, value in (
        ("identity", IDENTITY),
        ("version", CONTRACT_VERSION),
        ("geometry_hash", program.config.geometry_hash),
    ):
        registers[address_of(name) // 4] = value
    path = executable.parent / "registers.bin"
    path.write_bytes(registers.tobytes())
    machine = Machine()
    with CDriver(executable, program, machine, access="mapped") as c:
        assert [c(command) for command in ("open", "load", "start")] == ["OK"] * 3
        assert c("registers") == "OK"
    registers[address_of("control") // 4] = 1
    registers[address_of("program_address") // 4] = machine.memory_address
    registers[address_of("program_bytes") // 4] = len(program.machine.image)
    registers[address_of("interrupt_enable") // 4] = 1
    assert np.array_equal(np.fromfile(path, np.uint32), registers)
    assert machine.memory[: len(program.machine.image)] == program.machine.image


def test_start_wait_and_an_interrupt_handler(bus, built):
    program, executable = built("odd")
    (image,) = draw_images(program, count=1)
    with CDriver(executable, program, bus) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        assert c.numbers("status")["state"] == State.IDLE
        c.run(image)
        assert c("start") == "OK"
        bus.wait()
        assert c.numbers("status") == {
            "state": State.DONE,
            "interrupt": 1,
            "bus_busy": 0,
            "error": ErrorCode.NONE,
        }
        assert c("acknowledge") == "OK"
        assert c.numbers("status")["interrupt"] == 0
        assert c("wait") == "OK"
        assert c("reset") == "OK"
        assert c.numbers("status")["state"] == State.IDLE


def test_an_error_of_the_machine_comes_out_and_a_load_brings_it_back(bus, built):
    program, executable = built("odd", compiler=SANITIZED)
    (image,) = draw_images(program, count=1)
    expected = program.simulate(image[None])[0]
    # The machine is told of an address where there is no memory.
    with CDriver(executable, program, bus, address=1 << 30) as c:
        assert (c("open"), c("load"), c.pack(image)[0]) == ("OK", "OK", "OK")
        assert c("run") == "STOPPED_AXI_READ"
    with CDriver(executable, program, bus) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        bus.write_register(address_of("program_bytes"), len(program.machine.image) // 2)
        assert c.pack(image)[0] == "OK"
        assert c("run") == "STOPPED_ADDRESS"
        assert c("load") == "OK"
        assert np.array_equal(c.run(image)[0], expected)
    # A program without a header, which no driver has looked at.
    with CDriver(executable, program, bus) as c:
        assert (c("open"), c("load"), c.pack(image)[0]) == ("OK", "OK", "OK")
        bus.write_memory(bus.memory_address, bytes(64))
        assert c("run") == "STOPPED_GEOMETRY"


@pytest.mark.parametrize("code", [*ErrorCode, 200])
def test_every_error_has_its_result_and_meaning(built, code):
    program, executable = built("odd")
    machine = idle_machine(program)
    with CDriver(executable, program, machine) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        machine.set("status", status_word(State.ERROR, error=code))
        number, *_ = c.ask("wait")
        meaning = " ".join(c.ask(f"say {number}"))
        if code in (ErrorCode.NONE, 200):
            assert meaning == driver.OWN_RESULTS["STOPPED_UNKNOWN"]
        else:
            assert int(number) == code
            assert meaning == f"the machine stopped: {ERROR_MEANING[code]}"
        assert " ".join(c.ask("say 999")) == "unknown result"
    assert machine.written[-1] == (address_of("control"), 4)


@pytest.mark.parametrize(
    ("values", "memory", "results"),
    [
        ({"identity": 0}, {}, ["NO_ACCELERATOR"]),
        ({"version": CONTRACT_VERSION + 1}, {}, ["OTHER_VERSION"]),
        ({"geometry_hash": 1}, {}, ["OK", "OTHER_GEOMETRY"]),
        ({}, {"size": 20479}, ["OK", "MEMORY_TOO_SMALL"]),
        ({}, {"address": 0x1800}, ["OK", "MEMORY_UNALIGNED"]),
        ({"status": status_word(State.RUNNING)}, {}, ["OK", "TIMEOUT"]),
    ],
)
def test_refuses(built, values, memory, results):
    program, executable = built("odd")
    assert len(program.machine.image) == 20480
    machine = idle_machine(program, **values)
    with CDriver(executable, program, machine, most_looks=3, **memory) as c:
        assert [c(command) for command in ("open", "load")[: len(results)]] == results
        for command in ("start", "run"):
            assert c(command) == "NO_PROGRAM"
        assert c("layer 0") == "NO_PROGRAM"
    assert machine.memory == b"\xaa" * machine.memory_bytes


def test_a_program_that_fills_the_memory_is_loaded_and_nothing_beyond_it(built):
    program, executable = built("odd")
    image, machine = program.machine.image, idle_machine(program)
    with CDriver(executable, program, machine, size=len(image)) as c:
        assert (c("open"), c("load"), c("layer 4")) == ("OK", "OK", "NO_LAYER")
    assert machine.memory == image + b"\xaa" * (machine.memory_bytes - len(image))


def test_does_not_wait_for_ever(built):
    program, executable = built("odd")
    machine = idle_machine(program)
    with CDriver(executable, program, machine, most_looks=5) as c:
        assert (c("open"), c("load"), c("start")) == ("OK", "OK", "OK")
        machine.set("status", status_word(State.RUNNING))
        assert c("wait") == "TIMEOUT"
        assert machine.waits == 4


@pytest.mark.parametrize(
    ("failing", "command", "state"),
    [
        ("read_register", "open", State.IDLE),
        ("write_register", "load", State.IDLE),
        ("write_memory", "load", State.IDLE),
        ("read_register", "wait", State.DONE),
        ("read_memory", "run", State.DONE),
    ],
)
def test_a_failing_access_is_told(built, failing, command, state):
    program, executable = built("odd")
    machine = idle_machine(program)
    with CDriver(executable, program, machine) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        machine.set("status", status_word(state))
        machine.failing = failing
        assert c(command) == "BUS_FAILED"
        machine.failing = None
        assert c("counters") == "OK"


def test_a_wait_that_gives_up_ends_the_wait_after_another_look(built):
    class EndsLate(Machine):
        def wait(self):
            self.set("status", status_word(self.late_state))
            raise OSError("the time is over")

    program, executable = built("odd")
    machine = EndsLate(geometry_hash=program.config.geometry_hash)
    with CDriver(executable, program, machine) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        for state, result in ((State.RUNNING, "TIMEOUT"), (State.DONE, "OK")):
            machine.set("status", status_word(State.RUNNING))
            machine.late_state = state
            assert c("wait") == result


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_quantizes_and_packs_as_the_program_does(built, name):
    program, executable = built(name, compiler=SANITIZED)
    tensor, machine = program.graph.input, Machine()
    rng = np.random.default_rng(7)
    images = draw_images(program, count=20, seed=8)
    # Halves, their neighbours, and what is far beyond the range.
    halves = (rng.integers(-300, 300, tensor.shape) + 0.5).astype(np.float32)
    halves *= np.float32(tensor.scale)
    far = (rng.choice([-1, 1], tensor.shape) * 10.0 ** rng.uniform(-44, 38, tensor.shape)).astype(
        np.float32
    )
    neighbours = [np.nextafter(halves, np.float32(sign * np.inf)) for sign in (-1, 1)]
    with CDriver(executable, program, machine) as c:
        for image in (*images, halves, *neighbours, far):
            pixels = program.quantize_input(image[None])[0]
            expected = program.machine.input.pack(pixels)
            assert c.pack(image) == ("OK", expected)
            assert c.pack(pixels) == ("OK", expected)
        for value in (np.nan, np.inf, -np.inf):
            image = images[0].copy()
            image[-1, -1, -1] = value
            assert c.pack(image)[0] == "NOT_FINITE"


@pytest.mark.parametrize("scale", [1.0, 0.1, 1 / 3, 7.3e-3, 1.9999999e-20, 250.0])
@pytest.mark.parametrize("zero", [-128, -7, 127])
def test_quantizes_with_any_grid(tmp_path, scale, zero):
    builder = GraphBuilder(1, (32, 32), seed=0)
    builder.tensors["input"] = replace(builder.tensors["input"], scale=scale, zero=zero)
    builder.add(builder.conv("input", 1, 1))
    program = compile_graph(builder.graph(), SMALL, network="grid")
    executable = build(program, tmp_path)
    steps = np.linspace(-300, 300, 32 * 32, dtype=np.float32).reshape(1, 32, 32)
    with CDriver(executable, program, Machine()) as c:
        for image in (steps * np.float32(scale), np.rint(2 * steps) / 2 * np.float32(scale)):
            expected = program.machine.input.pack(program.quantize_input(image[None])[0])
            assert c.pack(image) == ("OK", expected)


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_unpacks_and_dequantizes_as_the_program_does(built, name):
    program, executable = built(name, compiler=SANITIZED)
    region, machine = program.machine.output, idle_machine(program)
    rng = np.random.default_rng(9)
    with CDriver(executable, program, machine) as c:
        assert (c("open"), c("load")) == ("OK", "OK")
        machine.set("status", status_word(State.DONE))
        for _ in range(5):
            content = rng.bytes(region.size_bytes)
            machine.memory[region.offset : region.offset + len(content)] = content
            assert c("run") == "OK"
            values, integers = c.outputs()
            unpacked = region.unpack(content)[None]
            expected = program.finish_output(unpacked, integer=False)[0]
            assert values.tobytes() == expected.tobytes()
            expected = program.finish_output(unpacked, integer=True)[0]
            assert integers.tobytes() == expected.tobytes()


def test_the_header_has_every_register_of_the_contract(tmp_path):
    write_driver(tmp_path)
    header = (tmp_path / "coprune.h").read_text()
    found = dict(re.findall(r"#define COPRUNE_REGISTER_(\w+) (0x\w+)u", header))
    assert {name.lower(): int(value, 16) for name, value in found.items()} == {
        name: address_of(name) for name, _ in REGISTERS
    }


def test_a_counter_that_is_added_to_the_contract_appears(tmp_path, monkeypatch):
    registers = {name: field.shape for name, field in REGISTERS}
    registers |= {"lost_beats": Counter, "mark_lost_beats": Counter}
    monkeypatch.setitem(COUNTERS, "lost_beats", "beats that nobody took")
    monkeypatch.setattr(driver.registers, "REGISTERS", data.StructLayout(registers))
    write_driver(tmp_path)
    header = (tmp_path / "coprune.h").read_text()
    assert "#define COPRUNE_REGISTER_LOST_BEATS 0x60u /* beats that nobody took */" in header
    assert "  uint32_t lost_beats; /* beats that nobody took */" in header
    source = (tmp_path / "coprune.c").read_text()
    for prefix in ("", "MARK_"):
        read = f"counters->lost_beats = read_register(device, COPRUNE_REGISTER_{prefix}LOST_BEATS);"
        assert read in source
    compile_c((*C99, "-c"), [tmp_path / "coprune.c"], output=tmp_path / "coprune.o")


@pytest.mark.parametrize("compiler", [C99, CPP], ids=["c99", "c++11"])
@pytest.mark.parametrize("name", ["odd", "scaled"])
def test_the_example_compiles_and_says_what_is_wrong(tmp_path, name, compiler):
    program = make_program(name)
    paths = export_program(program, tmp_path, name=name)
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    example = tmp_path / "example_main"
    compile_c(compiler, [path for path in paths if path.suffix == ".c"], output=example)
    registers = np.zeros(1024, np.uint32)
    (image,) = draw_images(program, count=1)
    image.tofile(tmp_path / "image.f32")
    (tmp_path / "memory").write_bytes(bytes(1 << 18))

    def run():
        registers.tofile(tmp_path / "registers")
        command = [example, tmp_path / "registers", tmp_path / "memory", "0x1000", "0x20000"]
        command.append(tmp_path / "image.f32")
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.stdout == ""
        return finished.returncode, finished.stderr

    assert run() == (1, f"{driver.OWN_RESULTS['NO_ACCELERATOR']}\n")
    registers[address_of("identity") // 4] = IDENTITY
    registers[address_of("version") // 4] = CONTRACT_VERSION
    assert run() == (1, f"{driver.OWN_RESULTS['OTHER_GEOMETRY']}\n")
    registers[address_of("geometry_hash") // 4] = program.config.geometry_hash
    # Nothing computes, so the image's end never comes.
    assert run() == (1, f"{driver.OWN_RESULTS['TIMEOUT']}\n")
    memory = (tmp_path / "memory").read_bytes()
    region = program.machine.input
    assert memory[0x1000 : 0x1000 + region.offset] == program.machine.image[: region.offset]
    packed = region.pack(program.quantize_input(image[None])[0])
    assert memory[0x1000 + region.offset :][: len(packed)] == packed


def test_layers_and_names_may_have_any_characters(tmp_path):
    program = make_program("odd")
    odd_name = 'a"b\\c??/d\n*/é'
    layers = [replace(record, name=odd_name) for record in program.machine.layers]
    machine = replace(program.machine, layers=tuple(layers))
    export_program(replace(program, machine=machine), tmp_path, name="net")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\n'
        "int main(void) { return puts(net_program.layers[0].name) < 0; }\n"
    )
    sources = [tmp_path / name for name in ("main.c", "coprune.c", "net.c")]
    compile_c(C99, sources, output=tmp_path / "main")
    finished = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert finished.stdout.decode() == odd_name + "\n"


@pytest.mark.parametrize("name", ["", "9net", "my-net", "a b", "coprune", "example_main", "né"])
def test_refuses_a_name_that_is_none_in_c(tmp_path, name):
    with pytest.raises(ValueError, match="name must be of letters, digits and _"):
        export_program(make_program("folded"), tmp_path / "made", name=name)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet20", "resnet20"),
        ("mobilenetv1,width=0.5", "mobilenetv1_width_0_5"),
        ("4of16", "network_4of16"),
        ("é", "network"),
    ],
)
def test_makes_a_name_of_a_text(text, name):
    assert name_for(text) == name


def test_refuses_what_has_stages_on_the_host(tmp_path):
    class Picker(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return torch.cumsum(self.conv(x), 1)

    batch = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    hybrid = coprune.compile(Picker().eval(), SMALL, calibration=[batch], host_fallback=True)
    message = "program must be a .*, which runs wholly on the accelerator, not a HybridProgram"
    with pytest.raises(TypeError, match=message):
        export_program(hybrid, tmp_path / "made", name="net")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("compiler", [(*C99, "-Wno-missing-prototypes"), CPP], ids=["c99", "c++11"])
def test_examples_of_the_documentation_compile(tmp_path, compiler):
    examples = re.findall(r"```c\n(.*?)```", DRIVER_PAGE.read_text(), flags=re.DOTALL)
    assert examples
    export_program(make_program("folded"), tmp_path, name="resnet20")
    (tmp_path / "xil_cache.h").write_text(
        "#include <stdint.h>\n"
        "void Xil_DCacheFlushRange(intptr_t begin, uint32_t bytes);\n"
        "void Xil_DCacheInvalidateRange(intptr_t begin, uint32_t bytes);\n"
    )
    for number, example in enumerate(examples):
        source = tmp_path / f"example{number}.c"
        source.write_text(example)
        output = tmp_path / f"example{number}.o"
        compile_c((*compiler, "-c"), [source], output=output)
