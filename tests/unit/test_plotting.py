"""Hit ratio against quota, drawn."""

from __future__ import annotations

from xml.etree import ElementTree

from orchestrator.cli.plotting import human, svg, terminal
from orchestrator.scavenger.simulator import Outcome

POINTS = [
    Outcome(policy, quota, ratio, ratio)
    for policy, ratios in (("lru", (0.1, 0.5)), ("s3-fifo", (0.3, 1.0)))
    for quota, ratio in zip((10**6, 10**9), ratios, strict=True)
]


def test_the_terminal_plot_has_a_line_a_policy_in_its_bounds() -> None:
    lines = terminal(POINTS, 40, 11).splitlines()
    assert len(lines) == 14
    assert lines[0].startswith("100% |")
    assert lines[0].rstrip().endswith("x"), "all of it at the largest quota"
    assert lines[9].startswith("     |o"), "a tenth at the smallest"
    assert "1 MB" in lines[-2]
    assert lines[-2].endswith("1 GB")
    assert lines[-1].split() == ["o", "lru", "x", "s3-fifo"]
    assert max(len(line) for line in lines) <= 46


def test_one_quota_is_no_line_but_no_error_either() -> None:
    assert "o" in terminal(POINTS[:1], 20, 5)
    assert "<circle" in svg(POINTS[:1], "one")


def test_the_svg_is_sound_and_has_every_point() -> None:
    root = ElementTree.fromstring(svg(POINTS, "a < b & c"))
    names = {"s": "http://www.w3.org/2000/svg"}
    assert len(root.findall("s:polyline", names)) == 2
    assert len(root.findall("s:circle", names)) == 4
    assert "a < b & c" in (root.findtext("s:text", "", names))


def test_amounts_are_told_in_decimal_units() -> None:
    amounts = [human(n) for n in (999, 1500, 10**10, 2 * 10**12)]
    assert amounts == ["999 B", "1.5 kB", "10 GB", "2 TB"]
