"""Both ends of the host link: LinkBus on a HostLink, on good lines and on bad ones."""

import random

import pytest

from coprune.runtime.link_bus import LinkBus, LinkError
from coprune_hw.contract.link import MAX_WORDS

from .simulated_link import BASE, MEMORY_BYTES, SimulatedPort


def open_bus(port, **options):
    return LinkBus(port, poll_seconds=0, **options)


def some_memory(words=200):
    return {BASE + 4 * index: 0 for index in range(words)}


def content_of(port):
    return b"".join(word.to_bytes(4, "little") for word in port.memory.values())


@pytest.mark.parametrize("words", [1, 2, MAX_WORDS, MAX_WORDS + 1, 150])
def test_memory_is_written_and_read(words):
    port = SimulatedPort(memory=some_memory(), registers={0: 7})
    bus = open_bus(port)
    content = random.Random(words).randbytes(4 * words)
    bus.write_memory(BASE, content)
    assert content_of(port) == content + bytes(4 * (200 - words))
    assert bus.read_memory(BASE, len(content)) == content
    assert bus.repeated_frames == 0


def test_asks_where_the_memory_lies():
    bus = open_bus(SimulatedPort())
    assert (bus.memory_address, bus.memory_bytes) == (BASE, MEMORY_BYTES)


def test_registers_are_written_and_read():
    port = SimulatedPort(registers={0: 7, 4: 8, 8: 9})
    bus = open_bus(port)
    assert [bus.read_register(address) for address in (0, 4, 8)] == [7, 8, 9]
    bus.write_register(4, 0xDEADBEEF)
    assert port.registers == {0: 7, 4: 0xDEADBEEF, 8: 9}
    assert bus.read_register(4) == 0xDEADBEEF


@pytest.mark.parametrize("seed", range(2))
def test_one_byte_in_a_hundred_wrong_or_lost_does_no_harm(seed):
    port = SimulatedPort(memory=some_memory(), registers={0: 7, 16: 0}, errors=0.01, seed=seed)
    bus = open_bus(port)
    generator = random.Random(seed)
    content = generator.randbytes(800)
    bus.write_memory(BASE, content)
    assert content_of(port) == content
    assert bus.read_memory(BASE, 800) == content
    port.writes.clear()
    for value in range(20):
        bus.write_register(16, value)
    assert port.writes == [(True, 16, value) for value in range(20)]
    assert bus.repeated_frames > 0


def test_a_write_whose_answer_is_lost_is_done_once():
    port = SimulatedPort(registers={0: 7, 4: 0})
    bus = open_bus(port)
    receive, lost = port.read, []

    def lose_first(size):
        found = receive(size)
        if len(lost) < 1 and found:
            lost.append(found)
            port.reset_input_buffer()
            return b""
        return found

    port.read = lose_first
    bus.write_register(4, 5)
    assert lost
    assert bus.repeated_frames >= 1
    assert port.writes == [(True, 4, 5)]


def test_a_host_that_begins_anew_writes_at_once():
    """Its sequence numbers begin anew, too, and may be those of the last host's last write."""
    port = SimulatedPort(registers={0: 7, 4: 0})
    for value in (1, 2):
        open_bus(port).write_register(4, value)
    assert port.registers[4] == 2


def test_an_error_of_the_bus_is_told():
    bus = open_bus(SimulatedPort(registers={0: 7}))
    with pytest.raises(LinkError, match="READ_MEMORY of 2 words at 0x00001000 with an error"):
        bus.read_memory(BASE, 8)
    assert bus.read_register(0) == 7


def test_says_when_nobody_answers():
    class Dead:
        def write(self, content):
            pass

        def read(self, size):
            return b""

        def reset_input_buffer(self):
            pass

    with pytest.raises(LinkError, match="no answer to READ_REGISTERS at 0x00000100 in 3 attempts"):
        open_bus(Dead(), attempts=3)


def test_refuses_what_is_no_whole_word():
    bus = open_bus(SimulatedPort(registers={0: 7}))
    with pytest.raises(ValueError, match="must be multiples of 4, not 0x1002 and 4"):
        bus.read_memory(BASE + 2, 4)
    with pytest.raises(ValueError, match="must be multiples of 4, not 0x1000 and 3"):
        bus.write_memory(BASE, b"abc")
