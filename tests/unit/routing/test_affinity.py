"""Rendezvous hashing with bounded load: which node of a pool a request goes to."""

from __future__ import annotations

from collections import Counter

from orchestrator.routing.image_servers.affinity import rank, within_bound

NODES = [f"http://node-{number}:8182" for number in range(4)]
ASSETS = [f"1/1/page-{number}" for number in range(2000)]


def idle(nodes: list[str]) -> dict[str, int]:
    return dict.fromkeys(nodes, 0)


def test_an_asset_prefers_the_same_node_whatever_the_order_of_the_addresses() -> None:
    for asset in ASSETS[:50]:
        assert rank(asset, NODES) == rank(asset, NODES[::-1])


def test_the_assets_are_spread_evenly() -> None:
    shares = Counter(rank(asset, NODES)[0] for asset in ASSETS)
    assert set(shares) == set(NODES)
    assert max(shares.values()) < 1.15 * len(ASSETS) / len(NODES)


def test_a_node_that_leaves_moves_only_its_own_assets_and_spreads_them() -> None:
    gone, *rest = NODES
    moved = Counter()
    for asset in ASSETS:
        before, after = rank(asset, NODES), rank(asset, rest)
        if before[0] == gone:
            moved[after[0]] += 1
            assert after[0] == before[1]
        else:
            assert after[0] == before[0]
    assert set(moved) == set(rest), "its share goes to all the others"


def test_a_node_that_joins_takes_only_its_own_share() -> None:
    added = "http://node-new:8182"
    taken = 0
    for asset in ASSETS:
        before, after = rank(asset, NODES)[0], rank(asset, [*NODES, added])[0]
        assert after in (before, added)
        taken += after == added
    assert 0.8 < taken / (len(ASSETS) / (len(NODES) + 1)) < 1.2


def test_the_tiles_of_one_viewer_stay_on_one_node() -> None:
    loads = idle(NODES)
    ranked = rank("1/1/page", NODES)
    for _ in range(8):  # half of the connections
        loads[within_bound(ranked, loads, 16)[0]] += 1
    assert loads[ranked[0]] == 8


def test_a_node_with_much_more_to_do_than_the_others_is_passed_over() -> None:
    ranked = rank("1/1/page", NODES)
    loads = idle(NODES) | {ranked[0]: 8}
    assert within_bound(ranked, loads, 16)[0] == ranked[1]
    loads = dict.fromkeys(NODES, 8)
    assert within_bound(ranked, loads, 16)[0] == ranked[0], "all have as much to do"


def test_one_asset_uses_every_connection_before_anything_waits() -> None:
    loads, ranked = idle(NODES), rank("1/1/page", NODES)
    while free := within_bound(ranked, loads, 4):
        loads[free[0]] += 1
    assert set(loads.values()) == {4}


def test_no_node_has_room_when_all_connections_are_in_use() -> None:
    assert within_bound(NODES, dict.fromkeys(NODES, 4), 4) == []
    assert within_bound([], {}, 4) == []
