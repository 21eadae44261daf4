"""The accelerator: the machine behind standard AXI pins."""

from amaranth.build import Platform
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig

from .conversion import convert
from .interfaces import AXI_BURST_INCR, BANK_ADDRESS_BITS, REGISTER_ADDRESS_BITS
from .machine import Machine
from .synchronizer import UNITS

TOP_NAME = "coprune_accelerator"

_AXI_CACHE = 0b0011  # normal, bufferable, as DMA engines use
_AXI_PROTECTION = 0  # unprivileged, secure, data


class Accelerator(wiring.Component):
    """The machine, with the pins that an integrator connects.

    Members
    -------
    m_axi_* : AXI4 master
        To the memory that holds program, weights, input and output. One ID, INCR bursts.
    s_axi_* : AXI4-Lite slave
        The registers.
    interrupt : Out
        Level: done, or stopped by an error, and enabled.
    observe_valid, observe_bank, observe_address, observe_word : Out
        The words that the drain writes to the activation memory.
    observe_running : Out
        The machine counts this cycle.
    observe_taken, observe_completed, observe_waiting : Out
        What LOAD (bit 0), EXECUTE and STORE do in this cycle: take an instruction; complete one;
        wait for the tokens of the one at the head of the queue.

    Notes
    -----
    The pins `observe_*` are for verification; leave them unconnected in a design.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(_pins(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = Machine(self._config)
        observed = machine.observe.drained
        m.d.comb += [
            self.interrupt.eq(machine.interrupt),
            self.observe_valid.eq(observed.valid),
            self.observe_bank.eq(observed.payload.bank),
            self.observe_address.eq(observed.payload.address),
            self.observe_word.eq(observed.payload.word),
            self.observe_running.eq(machine.observe.running),
            self.observe_taken.eq(machine.observe.taken),
            self.observe_completed.eq(machine.observe.completed),
            self.observe_waiting.eq(machine.observe.waiting),
        ]
        self._connect_memory(m, machine.memory)
        self._connect_host(m, machine.host)
        return m

    def _connect_memory(self, m, memory):
        for name, channel in (
            ("aw", memory.write.write_address),
            ("ar", memory.read.read_address),
        ):
            payload = channel.payload
            self._drive(m, f"m_axi_{name}", channel, addr=payload.address, len=payload.length)
            constants = {
                "id": 0,
                "size": (self._config.bus_bytes - 1).bit_length(),
                "burst": AXI_BURST_INCR,
                "lock": 0,
                "cache": _AXI_CACHE,
                "prot": _AXI_PROTECTION,
            }
            for signal, value in constants.items():
                m.d.comb += getattr(self, f"m_axi_{name}{signal}").eq(value)
        data = memory.write.write_data
        payload = data.payload
        self._drive(m, "m_axi_w", data, data=payload.data, strb=payload.strobe, last=payload.last)
        response = memory.write.write_response
        self._take(m, "m_axi_b", response, resp=response.payload.response)
        data = memory.read.read_data
        payload = data.payload
        self._take(m, "m_axi_r", data, data=payload.data, resp=payload.response, last=payload.last)

    def _connect_host(self, m, host):
        for name, channel in (("aw", host.write_address), ("ar", host.read_address)):
            self._take(m, f"s_axi_{name}", channel, addr=channel.payload.address)
        data = host.write_data
        self._take(m, "s_axi_w", data, data=data.payload.data, strb=data.payload.strobe)
        response = host.write_response
        self._drive(m, "s_axi_b", response, resp=response.payload.response)
        data = host.read_data
        self._drive(m, "s_axi_r", data, data=data.payload.data, resp=data.payload.response)

    def _drive(self, m, prefix, channel, **signals):
        """Pins that follow a stream of ours."""
        m.d.comb += [
            getattr(self, f"{prefix}valid").eq(channel.valid),
            channel.ready.eq(getattr(self, f"{prefix}ready")),
        ]
        for name, value in signals.items():
            m.d.comb += getattr(self, f"{prefix}{name}").eq(value)

    def _take(self, m, prefix, channel, **signals):
        """A stream of ours that follows pins."""
        m.d.comb += [
            channel.valid.eq(getattr(self, f"{prefix}valid")),
            getattr(self, f"{prefix}ready").eq(channel.ready),
        ]
        for name, value in signals.items():
            m.d.comb += Value.cast(value).eq(getattr(self, f"{prefix}{name}"))


def to_verilog(config: AcceleratorConfig, *, platform: Platform | None = None) -> str:
    """Convert the accelerator to Verilog: the module `TOP_NAME` and the modules that it needs.

    Without a `platform` it is of no vendor; with one it may instantiate the cells of its family.
    """
    return convert(Accelerator(config), name=TOP_NAME, platform=platform)


def list_ports(config: AcceleratorConfig) -> list[dict]:
    """Ports of `TOP_NAME`: `name`, `direction` (``"input"`` or ``"output"``) and `bits`."""
    ports = [{"name": name, "direction": "input", "bits": 1} for name in ("clk", "rst")]
    for name, member in _pins(config).items():
        direction = "output" if member.flow is Out else "input"
        ports.append({"name": name, "direction": direction, "bits": Shape.cast(member.shape).width})
    return ports


def _pins(config: AcceleratorConfig) -> dict[str, wiring.Member]:
    """All pins but clock and reset."""
    address = {"addr": 32, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3}
    lite_address = {"addr": REGISTER_ADDRESS_BITS, "prot": 3}
    data_bits, strobe_bits = config.bus_bits, config.bus_bytes
    return {
        **_channel("m_axi_aw", {"id": 1, **address}, direction=Out),
        **_channel("m_axi_w", {"data": data_bits, "strb": strobe_bits, "last": 1}, direction=Out),
        **_channel("m_axi_b", {"id": 1, "resp": 2}, direction=In),
        **_channel("m_axi_ar", {"id": 1, **address}, direction=Out),
        **_channel("m_axi_r", {"id": 1, "data": data_bits, "resp": 2, "last": 1}, direction=In),
        **_channel("s_axi_aw", lite_address, direction=In),
        **_channel("s_axi_w", {"data": 32, "strb": 4}, direction=In),
        **_channel("s_axi_b", {"resp": 2}, direction=Out),
        **_channel("s_axi_ar", lite_address, direction=In),
        **_channel("s_axi_r", {"data": 32, "resp": 2}, direction=Out),
        "interrupt": Out(1),
        "observe_valid": Out(1),
        "observe_bank": Out(config.log2_columns),
        "observe_address": Out(BANK_ADDRESS_BITS),
        "observe_word": Out(config.word_bits),
        "observe_running": Out(1),
        "observe_taken": Out(len(UNITS)),
        "observe_completed": Out(len(UNITS)),
        "observe_waiting": Out(len(UNITS)),
    }


def _channel(prefix: str, signals: dict[str, int], *, direction) -> dict[str, wiring.Member]:
    """Pins of an AXI channel whose payload goes in `direction`."""
    pins = {f"{prefix}{name}": direction(bits) for name, bits in signals.items()}
    pins[f"{prefix}valid"] = direction(1)
    pins[f"{prefix}ready"] = (In if direction is Out else Out)(1)
    return pins
