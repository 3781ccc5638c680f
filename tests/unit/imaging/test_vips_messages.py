"""Messages of libvips in a process of its own, which GLib may end."""

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support import pictures

PROGRAM = """
    import logging, sys
    import pyvips
    from orchestrator.imaging import vips

    vips.restrict(sandboxed=True)
    messages = []

    def decode():
        pyvips.Image.jpegload(sys.argv[1], fail_on="none").avg()

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())
            if len(messages) == 1:
                decode()  # as a garbage collection, which frees pictures

    logger = logging.getLogger("pyvips")
    logger.setLevel(logging.INFO)
    logger.addHandler(Handler())
    pyvips.Image.black(400, 400).gaussblur(2).avg()
    assert messages == [], messages
    decode()
    print(*messages)
"""


def test_a_message_inside_another_does_not_end_the_process(tmp_path: Path) -> None:
    whole = pictures.jpeg(tmp_path / "whole.jpg", 400, 300)
    cut = pictures.truncated(tmp_path / "cut.jpg", whole, 0.5)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(cut)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "warning" in run.stdout
