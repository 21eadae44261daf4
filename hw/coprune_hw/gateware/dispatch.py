"""Sorts instructions into the queues of the three units."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import Execute, Load, Opcode, Store
from coprune_hw.contract.registers import ErrorCode

from .interfaces import Instruction
from .stream_fifo import StreamFifo


class Dispatcher(wiring.Component):
    """Check that the program is for this machine, and queue its instructions in order.

    The first instruction must be a HEADER of this contract version and geometry; later ones are
    checked as well. END ends the program: when every queue is empty and the units are idle, it is
    done.

    Members
    -------
    instructions : In(stream(Instruction))
    exhausted : In(1)
        No instruction will come after those on `instructions`.
    units_idle : In(1)
        No unit works on an instruction or has a completion to report. A unit must count as working
        from the cycle after it accepted an instruction.
    load, execute, store : Out(stream)
        Heads of the queues, each of `queue_depth` instructions.
    blocked : Out(1)
        No more instructions can enter the queues until one leaves: a queue is full, or END was
        reached.
    done : Out(1)
        The program has ended. Stays 1 until reset.
    error : Out(ErrorCode)
        GEOMETRY, BAD_OPCODE, or ADDRESS where the program's bytes end without END. Stays until
        reset.

    Notes
    -----
    An instruction is at the head of an empty queue `QUEUE_LATENCY` cycles after it was accepted.
    One instruction a cycle. `done` rises `DONE_LATENCY` cycles after queues and units are idle.
    """

    QUEUE_LATENCY = StreamFifo.BUFFERED_LATENCY
    DONE_LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "instructions": In(stream.Signature(Instruction)),
                "exhausted": In(1),
                "units_idle": In(1),
                "load": Out(stream.Signature(Load)),
                "execute": Out(stream.Signature(Execute)),
                "store": Out(stream.Signature(Store)),
                "blocked": Out(1),
                "done": Out(1),
                "error": Out(ErrorCode),
            }
        )

    def elaborate(self, platform):
        m = Module()
        instruction = self.instructions.payload
        queues = {}
        for name, layout in (("load", Load), ("execute", Execute), ("store", Store)):
            queue = StreamFifo(layout, depth=self._config.queue_depth, buffered=True)
            m.submodules[f"{name}_queue"] = queues[name] = queue
            connect(m, queue.o, flipped(getattr(self, name)))
            m.d.comb += queue.i.payload.eq(getattr(instruction, name))
        queues_empty = ~Cat(queue.level.any() for queue in queues.values()).any()

        is_ours = Signal()
        m.d.comb += is_ours.eq(
            (instruction.header.version == CONTRACT_VERSION)
            & (instruction.header.geometry_hash == self._config.geometry_hash)
        )

        def stop(code):
            m.d.sync += self.error.eq(code)
            m.next = "ERROR"

        with m.FSM(name="dispatch"):
            with m.State("HEADER"):
                m.d.comb += self.instructions.ready.eq(1)
                with m.If(self.instructions.valid):
                    m.next = "QUEUE"
                    with m.If((instruction.prefix.opcode != Opcode.HEADER) | ~is_ours):
                        stop(ErrorCode.GEOMETRY)
                with m.Elif(self.exhausted):
                    stop(ErrorCode.ADDRESS)
            with m.State("QUEUE"):
                with m.If(self.instructions.valid), m.Switch(instruction.prefix.opcode):
                    with m.Case(Opcode.HEADER):
                        m.d.comb += self.instructions.ready.eq(1)
                        with m.If(~is_ours):
                            stop(ErrorCode.GEOMETRY)
                    for name, queue in queues.items():
                        with m.Case(Opcode[name.upper()]):
                            m.d.comb += [
                                queue.i.valid.eq(1),
                                self.instructions.ready.eq(queue.i.ready),
                                self.blocked.eq(~queue.i.ready),
                            ]
                    with m.Case(Opcode.END):
                        m.d.comb += self.instructions.ready.eq(1)
                        m.next = "FINISH"
                    with m.Default():
                        stop(ErrorCode.BAD_OPCODE)
                with m.Elif(self.exhausted):
                    stop(ErrorCode.ADDRESS)
            with m.State("FINISH"):
                m.d.comb += self.blocked.eq(1)
                with m.If(queues_empty & self.units_idle):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
            with m.State("ERROR"):
                pass
        return m
