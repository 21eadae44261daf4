"""As much of PYNQ as `PynqBus` needs, over simulated RTL, with the processors' cache between."""

from types import SimpleNamespace

import numpy as np

from coprune_hw.contract.registers import address_of


class Buffer(np.ndarray):
    """A `PynqBuffer`: what the processors see, until it is flushed or invalidated."""

    def __array_finalize__(self, other):
        if isinstance(other, Buffer):
            begin, origin = (item.__array_interface__["data"][0] for item in (self, other))
            self.simulated = other.simulated
            self.device_address = other.device_address + begin - origin

    def flush(self):
        self.simulated.write_memory(self.device_address, self.tobytes())

    def invalidate(self):
        content = self.simulated.read_memory(self.device_address, self.nbytes)
        self[:] = np.frombuffer(content, self.dtype)

    def freebuffer(self):
        self.simulated = None


class Mmio:
    """A `pynq.MMIO`: the machine computes while the host reads for the first time after a start."""

    def __init__(self, simulated):
        self._simulated = simulated
        self._runs = False

    def read(self, offset):
        if self._runs:
            self._simulated.wait()
            self._runs = False
        return self._simulated.read_register(offset)

    def write(self, offset, data):
        self._simulated.write_register(offset, data)
        self._runs = offset == address_of("control") and bool(data & 1)


def make_pynq(simulated):
    """A module `pynq`; its buffers lie at the beginning of the simulated memory."""

    def allocate(shape, dtype, *, cacheable):
        assert cacheable
        buffer = np.full(shape, 0xEE, dtype).view(Buffer)
        buffer.simulated, buffer.device_address = simulated, simulated.memory_address
        return buffer

    return SimpleNamespace(allocate=allocate)
