"""The machine: EXECUTE unit and access processor."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig

from .access_processor import AccessProcessor
from .activation_memory import ActivationMemory
from .delay import delay
from .execute import ExecuteUnit
from .interfaces import axi4_lite_signature, axi4_signature, pixel_write_layout
from .synchronizer import UNITS


class Machine(wiring.Component):
    """The whole machine, for designs in Amaranth; `Accelerator` has its pins.

    Members
    -------
    memory : Out(axi4_signature)
        To the memory that holds program, weights, input and output.
    host : In(axi4_lite_signature)
        The registers.
    interrupt : Out(1)
        Level: done, or stopped by an error, and enabled.
    observe : Out
        For verification; leave it unconnected in a design. `drained`, a stream, are the words that
        the drain writes to the activation memory. `running`: the machine counts this cycle.
        `taken`, `completed` and `waiting` are what LOAD (bit 0), EXECUTE and STORE do in this
        cycle: take an instruction; complete one; wait for the tokens of the one at the head of the
        queue.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "memory": Out(axi4_signature(config)),
                "host": In(axi4_lite_signature()),
                "interrupt": Out(1),
                "observe": Out(_observe_signature(config)),
            }
        )

    def elaborate(self, platform):
        config = self._config
        m = Module()
        m.submodules.access = access = AccessProcessor(
            config, read_latency=ActivationMemory.store_latency(config)
        )
        execute = ExecuteUnit(config)
        m.submodules.execute = ResetInserter(access.clear)(execute)
        connect(m, access.execute, execute.instruction)
        connect(m, execute.completion, access.execute_completions)
        connect(m, access.slot_writes, execute.slot_write)
        connect(m, access.parameter_writes, execute.parameter_write)
        connect(m, access.table_writes, execute.table_write)
        connect(m, access.pixel_writes, execute.pixel_write)
        connect(m, access.pixel_reads, execute.pixel_read)
        connect(m, access.memory, flipped(self.memory))
        connect(m, flipped(self.host), access.host)
        connect(m, execute.observe, flipped(self.observe.drained))
        m.d.comb += [
            # A cycle later, since it reaches far.
            execute.halt.eq(delay(m, access.halt, 1, name="execute_halt", init=1)),
            access.execute_busy.eq(execute.busy),
            access.execute_error.eq(execute.error),
            access.execute_error_code.eq(execute.error_code),
            access.slot_issued.eq(execute.slot_issued),
            access.barrier_stall.eq(execute.barrier_stall),
            access.drain_stall.eq(execute.drain_stall),
            self.interrupt.eq(access.interrupt),
            self.observe.running.eq(~access.halt),
            self.observe.taken.eq(access.taken),
            self.observe.completed.eq(access.completed),
            self.observe.waiting.eq(access.waiting),
        ]
        return m


def _observe_signature(config: AcceleratorConfig) -> wiring.Signature:
    return wiring.Signature(
        {
            "drained": Out(stream.Signature(pixel_write_layout(config), always_ready=True)),
            "running": Out(1),
            "taken": Out(len(UNITS)),
            "completed": Out(len(UNITS)),
            "waiting": Out(len(UNITS)),
        }
    )
