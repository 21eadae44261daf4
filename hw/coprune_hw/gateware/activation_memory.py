"""The banked activation memory: one read and one write of every bank a cycle."""

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.slots import SlotControl

from .block_address import BlockAddress, TilePosition
from .crossbar import SLICE_BITS, Crossbar
from .delay import delay
from .fan_out import fan_out
from .interfaces import (
    pixel_read_signature,
    pixel_write_layout,
    pixel_write_signature,
)


class ActivationMemory(wiring.Component):
    """Banks of words, with the tile reads of EXECUTE, the word reads of STORE, and their writes.

    EXECUTE reads a word for every column in any cycle that it likes; STORE reads in the other
    cycles. The drain writes a word in any cycle that it likes; LOAD writes one, too, unless it is
    in the same bank.

    Members
    -------
    block : In
        Begins a block: `valid`, position of the tile, control bits of the slot.
    words, inside, pad : Out
        `block_latency` cycles later: the columns' words, which of them are inside the image, what
        to take in place of the others.
    words_soon : Out
        They come in the next cycle.
    out_of_range : Out
        With them: a column inside the image has an address beyond the banks.
    drain_write : In
        A write that always succeeds.
    drain_out_of_range : In
        Drop it: known too late for `load_write` to go ahead in its place.
    load_write : In
        Stream of writes.
    store_read : In
        Read requests and responses, `store_latency` cycles after acceptance.

    Notes
    -----
    A word that is written can be read by requests that are accepted two cycles later.
    """

    BANK_LATENCY = 2
    # From `block` to the cycle in which STORE's request is not accepted.
    BLOCKED_LATENCY = BlockAddress.ADDRESS_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        block = data.StructLayout({"valid": 1, "tile": TilePosition, "control": SlotControl})
        super().__init__(
            {
                "block": In(block),
                "words": Out(data.ArrayLayout(config.word_bits, config.columns)),
                "inside": Out(config.columns),
                "pad": Out(8),
                "words_soon": Out(1),
                "out_of_range": Out(1),
                "drain_write": In(stream.Signature(pixel_write_layout(config), always_ready=True)),
                "drain_out_of_range": In(1),
                "load_write": In(pixel_write_signature(config)),
                "store_read": In(pixel_read_signature(config)),
            }
        )

    @classmethod
    def block_latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from `block` to `words`."""
        return BlockAddress.ADDRESS_LATENCY + cls.store_latency(config)

    @classmethod
    def store_latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from an accepted request of STORE to its response."""
        return 1 + cls.BANK_LATENCY + Crossbar.latency(config)

    def elaborate(self, platform):
        config = self._config
        m = Module()
        m.submodules.block_address = block_address = BlockAddress(config)
        m.submodules.crossbar = crossbar = Crossbar(config, width=config.word_bits + 1)

        # The address of a block is ready in the same cycle as a request of STORE.
        request = self.store_read.request
        block_soon = delay(m, self.block.valid, self.BLOCKED_LATENCY, name="block_soon", init=0)
        m.d.comb += [
            block_address.tile.eq(self.block.tile),
            block_address.control.eq(self.block.control),
            request.ready.eq(~block_soon),
        ]

        # A bank alone is read by turning it to column 0 in a grid of one row.
        place = request.payload
        rotation = Mux(block_soon, block_address.rotation, place.bank)
        shape = Mux(block_soon, block_address.log2_bank_columns, config.log2_columns)
        lead = self.BANK_LATENCY - Crossbar.ROTATION_LEAD
        m.d.comb += [
            crossbar.rotation.eq(delay(m, rotation, 1 + lead, name="rotation")),
            crossbar.log2_bank_columns.eq(delay(m, shape, 1 + lead, name="shape")),
        ]
        writes = self._register_writes(m)
        for bank in range(config.columns):
            address_soon = Mux(block_soon, block_address.addresses[bank], place.address)
            address = delay(m, address_soon, 1, name=f"address_{bank}")
            word = self._add_bank(m, platform, bank, address, writes)
            in_range = address < config.activation_depth
            beyond = delay(m, ~in_range, self.BANK_LATENCY, name=f"beyond_{bank}")
            m.d.comb += crossbar.banks[bank].eq(Cat(word, beyond))

        block_latency = self.block_latency(config)
        soon_delay = block_latency - self.BLOCKED_LATENCY - 1
        words_soon = delay(m, block_soon, soon_delay, name="words_soon", init=0)
        words_valid = delay(m, words_soon, 1, name="words_valid", init=0)
        inside_delay = block_latency - BlockAddress.INSIDE_LATENCY
        inside = delay(m, block_address.inside, inside_delay, name="inside")
        beyond_columns = Cat(crossbar.columns[column][-1] for column in range(config.columns))
        m.d.comb += [
            self.words_soon.eq(words_soon),
            self.inside.eq(inside),
            self.pad.eq(delay(m, self.block.tile.pad, block_latency, name="pad")),
            self.out_of_range.eq(words_valid & (inside & beyond_columns).any()),
            self.store_read.response.payload.eq(crossbar.columns[0]),
            self.store_read.response.valid.eq(
                delay(
                    m,
                    request.valid & request.ready,
                    self.store_latency(config),
                    name="store_valid",
                    init=0,
                )
            ),
        ]
        for column in range(config.columns):
            m.d.comb += self.words[column].eq(crossbar.columns[column])
        return m

    def _register_writes(self, m):
        """The writes of drain and LOAD, a cycle later, and which bank has each in the cycle after.

        They are in different banks, or there is one of them.
        """
        drain, load = self.drain_write, self.load_write
        same_bank = drain.payload.bank == load.payload.bank
        m.d.comb += load.ready.eq(~(drain.valid & same_bank))
        writes = []
        for name, source, is_written in (
            ("drain", drain, drain.valid & ~self.drain_out_of_range),
            ("load", load, load.valid & load.ready),
        ):
            valid = delay(m, is_written, 1, name=f"{name}_write_valid", init=0)
            write = delay(m, source.payload, 1, name=f"{name}_write_soon")
            here = [valid & (write.bank == bank) for bank in range(self._config.columns)]
            writes.append((here, delay(m, write, 1, name=f"{name}_write")))
        return writes

    def _add_bank(self, m, platform, bank, address, writes):
        """A bank, read at `address`; returns its word, `BANK_LATENCY` cycles later."""
        config = self._config
        (drain_soon, drain), (load_soon, load) = writes
        # A choice for each block RAM, so that none reaches far.
        slices = range(0, config.word_bits, SLICE_BITS)
        drain_here, *drain_here_in_slice = fan_out(
            m, drain_soon[bank], 1 + len(slices), name=f"drain_here_{bank}", platform=platform
        )
        load_here = delay(m, load_soon[bank], 1, name=f"load_here_{bank}", init=0)
        word = Cat(
            Mux(here, drain.word, load.word)[begin : begin + SLICE_BITS]
            for begin, here in zip(slices, drain_here_in_slice, strict=True)
        )
        m.submodules[f"bank_{bank}"] = words = memory.Memory(
            shape=config.word_bits, depth=config.activation_depth, init=[]
        )
        write_port, read_port = words.write_port(), words.read_port()
        output = Signal(config.word_bits, name=f"bank_{bank}_output", reset_less=True)
        m.d.comb += [
            write_port.en.eq(drain_here | load_here),
            write_port.addr.eq(Mux(drain_here, drain.address, load.address)),
            write_port.data.eq(word),
            read_port.en.eq(1),
            read_port.addr.eq(address),
        ]
        m.d.sync += output.eq(read_port.data)
        return output
