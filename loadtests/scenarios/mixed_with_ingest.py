"""The traffic of a web site while a batch is ingested.

    INGEST_ADDRESS=http://127.0.0.1:8081 INGEST_KEY=... INGEST_ORIGIN=/pictures/one.tif \
        locust -f loadtests/scenarios/mixed_with_ingest.py --host http://127.0.0.1:8080
"""

from __future__ import annotations

import os
import uuid

from locust import FastHttpUser, constant, task
from locust.exception import StopUser

from loadtests.scenarios.mixed import Mixed

__all__ = ["Ingest", "Mixed"]


class Ingest(FastHttpUser):
    """One client that ingests the same origin under a new name, replaces the image by another
    ingest, and deletes it, again and again.
    """

    fixed_count = 1
    wait_time = constant(0)
    network_timeout = 300.0

    @task
    def ingest(self) -> None:
        key, origin = os.environ.get("INGEST_KEY", ""), os.environ.get("INGEST_ORIGIN", "")
        if not (key and origin):
            print("Set INGEST_KEY and INGEST_ORIGIN: nothing is ingested.")
            raise StopUser
        name = f"load-{uuid.uuid4().hex[:12]}"
        # A whole address: --host is the public port.
        address = os.environ.get("INGEST_ADDRESS", "http://127.0.0.1:8081")
        image = f"{address}/customers/1/spaces/1/images/{name}"
        headers = {"Authorization": f"Bearer {key}"}
        for done in ("ingest", "ingest again"):
            body = {"origin": origin, "string1": done}
            self.client.put(image, json=body, headers=headers, name=done)
        self.client.delete(image, headers=headers, name="delete")
