"""How much of a prompt has this replica computed before?

A prompt comes as a chain of blocks of 512 tokens, each named by everything up to its end (Mooncake's hash_ids), so equal
names mean equal prefixes. A replica keeps the blocks it used last, as many as its cache holds; of a new prompt the
leading blocks it has are not computed again, and at least one token always is, as engines do.

The lookup is made when a request joins a replica's queue, and the whole prompt counts as kept from then on: the queue is
first come, first served, so whoever is ahead will have been computed by then. What that overlooks is a block evicted
while its request waits. Caches live and die with their replica: new, flipped and restarted ones begin empty.
"""

from __future__ import annotations

from collections import OrderedDict

from autoscaler.simulator.workload import Request

BLOCK_TOKENS = 512


class PrefixCache:
    """The last `tokens` worth of blocks that went through one replica, least recently used first to go."""

    __slots__ = ("_blocks", "_most")

    def __init__(self, tokens: int) -> None:
        self._most = tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[int, None] = OrderedDict()  # in order of last use

    def __len__(self) -> int:
        return len(self._blocks)

    def uncached_tokens(self, request: Request) -> int:
        """Prompt tokens that would have to be computed; the cache stays as it is."""
        leading = 0
        for block in request.blocks:
            if block not in self._blocks:
                break
            leading += 1
        return max(1, request.prompt_tokens - leading * BLOCK_TOKENS)

    def use(self, request: Request) -> int:
        """The same, and the prompt's blocks are the last used from now on, its first block the very last: a prefix
        is of no use without its beginning, so a chain is given up from its end.
        """
        uncached, kept = self.uncached_tokens(request), self._blocks
        for block in reversed(request.blocks):
            kept[block] = None
            kept.move_to_end(block)
        while len(kept) > self._most:
            kept.popitem(last=False)
        return uncached
