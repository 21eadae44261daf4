"""Starts, stops and resets the machine."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract.registers import ErrorCode, State


class Controller(wiring.Component):
    """Follow the machine through IDLE, RUNNING, DONE and ERROR.

    Start (ignored while RUNNING) and reset both halt the units, wait for the bus to be quiet and
    clear them; then the machine runs, or is IDLE. While it runs, the first error stops it.

    Members
    -------
    start, reset, acknowledge : In(1)
        Requests of the host, high for one cycle. Of a start and a reset at once, the reset counts.
    finished : In(1)
        The program has ended.
    error : In(ErrorCode)
        An error that a unit reports, or NONE.
    bus_busy : In(1)
        Bursts are under way.
    halt : Out(1)
        Units must begin no new bursts or instructions. 0 only while a program runs.
    clear : Out(1)
        Reset all units; high for one cycle, with a quiet bus.
    begin : Out(1)
        Fetch the program; high for one cycle, the one after `clear`.
    restart : Out(1)
        Set the counters to 0; high for one cycle, the one after a start.
    state : Out(State)
    error_code : Out(ErrorCode)
    interrupt : Out(1)
        The machine is done or stopped by an error, and this was not acknowledged.

    Notes
    -----
    `begin` comes three cycles after `start` where the bus is quiet.
    """

    start: In(1)
    reset: In(1)
    acknowledge: In(1)
    finished: In(1)
    error: In(ErrorCode)
    bus_busy: In(1)
    halt: Out(1, init=1)
    clear: Out(1)
    begin: Out(1)
    restart: Out(1)
    state: Out(State)
    error_code: Out(ErrorCode)
    interrupt: Out(1)

    def elaborate(self, platform):
        m = Module()
        # What follows the clearing under way: `state` says where to.
        clearing, clearing_soon = Signal(), Signal()
        to_idle = Signal()
        state_soon = Signal.like(self.state)
        is_running = self.state == State.RUNNING
        m.d.comb += [clearing_soon.eq(clearing), state_soon.eq(self.state)]
        m.d.sync += [
            clearing.eq(clearing_soon),
            self.state.eq(state_soon),
            self.halt.eq(clearing_soon | (state_soon != State.RUNNING)),
            # In a register, since it reaches most of the machine.
            self.clear.eq(clearing & ~self.bus_busy & ~self.clear),
            self.begin.eq(self.clear & ~to_idle & ~self.reset),
            self.restart.eq(0),
        ]

        with m.If(self.acknowledge):
            m.d.sync += self.interrupt.eq(0)

        with m.If(self.clear):
            m.d.comb += clearing_soon.eq(0)
            with m.If(to_idle):
                m.d.comb += state_soon.eq(State.IDLE)
                m.d.sync += [
                    to_idle.eq(0),
                    self.error_code.eq(ErrorCode.NONE),
                    self.interrupt.eq(0),
                ]
        with m.Elif(is_running & ~clearing):
            with m.If(self.error != ErrorCode.NONE):
                m.d.comb += state_soon.eq(State.ERROR)
                m.d.sync += [self.error_code.eq(self.error), self.interrupt.eq(1)]
            with m.Elif(self.finished):
                m.d.comb += state_soon.eq(State.DONE)
                m.d.sync += self.interrupt.eq(1)

        with m.If(self.reset):
            m.d.comb += clearing_soon.eq(1)
            m.d.sync += to_idle.eq(1)
        with m.Elif(self.start & ~is_running & ~clearing):
            m.d.comb += [clearing_soon.eq(1), state_soon.eq(State.RUNNING)]
            m.d.sync += [self.restart.eq(1), self.error_code.eq(ErrorCode.NONE)]
        return m
