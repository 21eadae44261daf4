"""The units' instructions in program order, and the tokens that keep the units in step.

Every unit completes its instructions in order, so what EXECUTE k needs of LOAD m covers all LOADs
before m as well. Each need that goes beyond those before it costs one token, sent by the
instruction needed and taken by the one that needs it. Tokens are taken in the order in which they
are sent, so counters suffice, and at the end of the program all are zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .rings import NOTHING
from .schedule import Schedule, Step


def interleave(schedule: Schedule, *, lookahead: int) -> Iterator[Step]:
    """Merge the units' instructions into program order.

    A LOAD comes as early as it can: behind the EXECUTE that it needs, and at most `lookahead` LOADs
    ahead of those that the next EXECUTE needs. With `lookahead` below the depth of LOAD's queue, no
    EXECUTE whose LOADs are done waits behind a LOAD that the queue does not take. The first
    EXECUTEs come with fewer LOADs ahead of them: those would be fetched before they can start.
    """
    loads = iter(enumerate(schedule.loads))
    stores = iter(schedule.stores)
    load_index, load = next(loads)
    store = next(stores)
    for index, execute in enumerate(schedule.executes):
        ahead = min(lookahead, index + 2)
        while (
            load is not None
            and load_index <= execute.needs_load + ahead
            and load.needs_execute < index
        ):
            yield load
            load_index, load = next(loads, (load_index + 1, None))
        yield execute
        while store is not None and store.needs_execute == index:
            yield store
            store = next(stores, None)


def token_pairs(needs: Sequence[int]) -> list[tuple[int, int]]:
    """Which instruction sends a token to which.

    Parameters
    ----------
    needs : sequence of int
        For every instruction of a unit, the one of its neighbour that it needs, or `NOTHING`.

    Returns
    -------
    list of (int, int)
        Sender and receiver. Both rise strictly.
    """
    pairs = []
    latest = NOTHING
    for receiver, sender in enumerate(needs):
        if sender > latest:
            pairs.append((sender, receiver))
            latest = sender
    return pairs
