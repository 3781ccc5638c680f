"""Which nodes of a pool a request goes to, in order: rendezvous hashing with bounded load. Pure.

All requests for one asset prefer the same node, so that its file and page caches stay warm. A node
that leaves moves only the assets that preferred it, and a node that joins takes only its own share.
A node with much more to do than the others is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

_LOAD_FACTOR = 1.25
"""A node may have this many times the average load. With less, requests leave warm caches for small
differences; with more, the most wanted assets slow down one node while others are idle.
"""


def rank(asset: str, nodes: Sequence[str]) -> list[str]:
    """The nodes in the order in which this asset prefers them, whatever their load."""
    return sorted(nodes, key=lambda node: _weight(asset, node), reverse=True)


def within_bound(ranked: Sequence[str], loads: Mapping[str, int], connections: int) -> list[str]:
    """The nodes with room for one more request, the preferred one first: those within the bound of
    the load in their order, then the others. `loads` are the requests in flight of each node, and
    `connections` is the most that one may have.

    Up to half of its connections no node is passed over: the tiles that one viewer requests at
    once stay on one node.
    """
    total = sum(loads[node] for node in ranked) + 1
    fair = -(-total * _LOAD_FACTOR // len(ranked)) if ranked else 0
    bound = max(-(-connections // 2), fair)
    free = [node for node in ranked if loads[node] < connections]
    return sorted(free, key=lambda node: loads[node] >= bound)


def _weight(asset: str, node: str) -> bytes:
    return hashlib.blake2b(f"{node}\0{asset}".encode(), digest_size=8).digest()
