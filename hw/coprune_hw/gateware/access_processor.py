"""Everything around the EXECUTE unit: program, tokens, LOAD, STORE and the host's registers."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Execute
from coprune_hw.contract.registers import ErrorCode

from .controller import Controller
from .counters import Counters
from .dispatch import Dispatcher
from .fetch import Fetcher
from .interfaces import (
    axi4_lite_signature,
    axi4_signature,
    completion_signature,
    parameter_write_signature,
    pixel_read_signature,
    pixel_write_signature,
    slot_write_signature,
    table_write_signature,
)
from .load import Loader
from .read_arbiter import ReadArbiter
from .registers import RegisterFile
from .store import Storer
from .synchronizer import UNITS, Synchronizer


class AccessProcessor(wiring.Component):
    """The access half of a decoupled access-execute machine.

    Fetches and dispatches the program, carries out LOAD and STORE, hands EXECUTE instructions to
    their unit once their tokens are there, and answers the host.

    Parameters
    ----------
    config : AcceleratorConfig
    read_latency : int
        Cycles from an accepted request on `pixel_reads` to its response, at least 1.

    Members
    -------
    memory : Out(axi4_signature)
    host : In(axi4_lite_signature)
    interrupt : Out(1)
    execute : Out(stream(Execute))
        Instructions whose tokens are there.
    execute_completions : In(stream(Prefix))
    execute_busy : In(1)
        From the cycle after an instruction was accepted until its completion is valid.
    execute_error, execute_error_code : In
        EXECUTE found an error in this cycle.
    slot_issued, barrier_stall, drain_stall : In(1)
        What EXECUTE does in this cycle, for the counters.
    slot_writes, parameter_writes, table_writes, pixel_writes, pixel_reads : Out
        LOAD's and STORE's access to the memories of EXECUTE.
    halt : Out(1)
        Begin nothing more. 0 only while a program runs.
    clear : Out(1)
        Reset; high for one cycle, before every program.
    taken, completed, waiting : Out(3)
        Of the synchronizer, for verification.

    Notes
    -----
    An instruction that the synchronizer lets pass reaches its unit in the same cycle. For latencies
    see the components.
    """

    def __init__(self, config: AcceleratorConfig, *, read_latency: int):
        self._config = config
        self._read_latency = read_latency
        super().__init__(
            {
                "memory": Out(axi4_signature(config)),
                "host": In(axi4_lite_signature()),
                "interrupt": Out(1),
                "execute": Out(stream.Signature(Execute)),
                "execute_completions": In(completion_signature()),
                "execute_busy": In(1),
                "execute_error": In(1),
                "execute_error_code": In(ErrorCode),
                "slot_issued": In(1),
                "barrier_stall": In(1),
                "drain_stall": In(1),
                "slot_writes": Out(slot_write_signature(config)),
                "parameter_writes": Out(parameter_write_signature()),
                "table_writes": Out(table_write_signature()),
                "pixel_writes": Out(pixel_write_signature(config)),
                "pixel_reads": Out(pixel_read_signature(config)),
                "halt": Out(1),
                "clear": Out(1),
                "taken": Out(len(UNITS)),
                "completed": Out(len(UNITS)),
                "waiting": Out(len(UNITS)),
            }
        )

    def elaborate(self, platform):
        # The host's side (registers, controller, counters) outlives a program; all else is cleared
        # before each.
        m = Module()
        config = self._config
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.controller = controller = Controller()
        m.submodules.counters = counters = Counters(config)
        fetcher, dispatcher = Fetcher(config), Dispatcher(config)
        synchronizer, arbiter = Synchronizer(), ReadArbiter(config)
        loader, storer = Loader(config), Storer(config, read_latency=self._read_latency)
        for name, unit in (
            ("fetcher", fetcher),
            ("dispatcher", dispatcher),
            ("synchronizer", synchronizer),
            ("arbiter", arbiter),
            ("loader", loader),
            ("storer", storer),
        ):
            m.submodules[name] = ResetInserter(controller.clear)(unit)

        # The program: fetched, dispatched, let pass.
        connect(m, fetcher.instructions, dispatcher.instructions)
        for unit in UNITS:
            connect(m, getattr(dispatcher, unit), getattr(synchronizer, f"{unit}_queue"))
        connect(m, synchronizer.load, loader.instructions)
        connect(m, synchronizer.execute, flipped(self.execute))
        connect(m, synchronizer.store, storer.instructions)
        connect(m, loader.completions, synchronizer.load_completions)
        connect(m, flipped(self.execute_completions), synchronizer.execute_completions)
        connect(m, storer.completions, synchronizer.store_completions)
        connect(m, synchronizer.marks, counters.marks)
        m.d.comb += [
            synchronizer.load_busy.eq(loader.busy),
            synchronizer.execute_busy.eq(self.execute_busy),
            synchronizer.store_busy.eq(storer.busy),
            synchronizer.dispatch_blocked.eq(dispatcher.blocked),
            dispatcher.units_idle.eq(synchronizer.units_idle),
            dispatcher.exhausted.eq(fetcher.exhausted),
        ]

        # The data. Bursts of instructions are short and few, and so first.
        connect(m, fetcher.bus, arbiter.first)
        connect(m, loader.bus, arbiter.second)
        connect(m, arbiter.bus, flipped(self.memory.read))
        connect(m, storer.bus, flipped(self.memory.write))
        connect(m, loader.slots, flipped(self.slot_writes))
        connect(m, loader.parameters, flipped(self.parameter_writes))
        connect(m, loader.tables, flipped(self.table_writes))
        connect(m, loader.pixels, flipped(self.pixel_writes))
        connect(m, storer.pixels, flipped(self.pixel_reads))

        # The host.
        connect(m, flipped(self.host), registers.bus)
        for unit in (fetcher, loader, storer):
            m.d.comb += [
                unit.program_address.eq(registers.program_address),
                unit.program_bytes.eq(registers.program_bytes),
            ]
        m.d.comb += [
            controller.start.eq(registers.start),
            controller.reset.eq(registers.reset),
            controller.acknowledge.eq(registers.acknowledge),
            controller.bus_busy.eq(arbiter.busy | storer.bus_busy),
            controller.finished.eq(dispatcher.done),
            registers.state.eq(controller.state),
            registers.error_code.eq(controller.error_code),
            registers.bus_busy.eq(controller.bus_busy),
            registers.interrupt_pending.eq(controller.interrupt),
            registers.counters.eq(counters.values),
            registers.mark_counters.eq(counters.mark_values),
            counters.mark_select.eq(registers.mark_select),
            counters.restart.eq(controller.restart),
            counters.running.eq(~controller.halt),
            fetcher.start.eq(controller.begin),
            arbiter.halt.eq(controller.halt),
            storer.halt.eq(controller.halt),
            synchronizer.halt.eq(controller.halt),
            self.halt.eq(controller.halt),
            self.clear.eq(controller.clear),
            self.taken.eq(synchronizer.taken),
            self.completed.eq(synchronizer.completed),
            self.waiting.eq(synchronizer.waiting),
            self.interrupt.eq(registers.interrupt),
        ]
        # Of errors in one cycle the first in this list counts.
        with m.If(arbiter.error):
            m.d.comb += controller.error.eq(ErrorCode.AXI_READ)
        with m.Elif(dispatcher.error != ErrorCode.NONE):
            m.d.comb += controller.error.eq(dispatcher.error)
        with m.Elif(loader.error != ErrorCode.NONE):
            m.d.comb += controller.error.eq(loader.error)
        with m.Elif(storer.error != ErrorCode.NONE):
            m.d.comb += controller.error.eq(storer.error)
        with m.Elif(self.execute_error):
            m.d.comb += controller.error.eq(self.execute_error_code)
        with m.Elif(synchronizer.deadlock):
            m.d.comb += controller.error.eq(ErrorCode.DEADLOCK)

        load_beats, store_beats = loader.bus.read_data, storer.bus.write_data
        events = {
            "cycles": 1,
            "slots": self.slot_issued,
            "token_stalls": synchronizer.execute_waits | self.barrier_stall,
            "drain_stalls": self.drain_stall,
            "load_beats": load_beats.valid & load_beats.ready,
            "load_stalls": synchronizer.load_waits,
            "store_beats": store_beats.valid & store_beats.ready,
        }
        for name, event in events.items():
            m.d.comb += counters.events[name].eq(event)
        return m
