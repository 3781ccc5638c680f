"""A process that ingests images, changes their rights and deletes them until a test kills it:
`python -m tests.support.endless_ingest DSN DATA FOLDER SEED`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import OrchestratorError
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId
from orchestrator.settings import Imaging
from tests.support.ingesting import open_ingest_system, settings_for


async def run(dsn: str, data: Path, folder: Path, seed: int) -> None:
    """Run until the process is killed; prints `done` after each operation."""
    random_numbers = random.Random(seed)
    pictures = sorted(folder.glob("*.jpg"))
    async with open_ingest_system(
        settings_for(dsn, data), ImagingPool(Imaging(processes=1))
    ) as system:
        while True:
            asset_id = AssetId(1, 1, random_numbers.choice("abcd"))
            picture = str(random_numbers.choice(pictures))
            with suppress(OrchestratorError):
                match random_numbers.randrange(6):
                    case 0:
                        await system.pipeline.editor.set_access(asset_id, roles=("r",))
                    case 1:
                        await system.pipeline.editor.set_access(asset_id, roles=())
                    case 2:
                        await system.pipeline.editor.delete(asset_id)
                    case _:
                        await system.pipeline.runner.ingest(Request(asset_id, picture, force=True))
                print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
