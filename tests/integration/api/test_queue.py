"""Batches: validated whole, recorded in one transaction, shown, retried, cancelled; and jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.errors import Fault
from orchestrator.ingest.payload.decoding import decode
from tests.integration.api.conftest import MAX_BATCH, House
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="module")
ORIGIN = "https://example.org/x.jpg"


@pytest_asyncio.fixture(loop_scope="module")
async def customer(house: House) -> int:
    return await house.customer()


def members(*names: str, origin: str = ORIGIN) -> dict[str, Any]:
    return {"member": [{"id": name, "space": 1, "origin": origin} for name in names]}


NOT_FOUND = "The origin answered 404."


async def fail(house: House, number: int, *, for_good: bool = True) -> None:
    """Claim this job as a worker would, and fail it, for good or until another attempt."""
    claims, others = house.services.catalog.claims, []
    while True:
        job = await claims.claim("test", ["ingest"], ["priority", "normal"], 1000)
        assert job is not None
        if job.id == number:
            break
        others.append(job)
    if for_good:
        fault = Fault("origin_not_found", "fetch", retryable=False, detail=NOT_FOUND)
        await claims.fail(job, fault)
    else:
        fault = Fault("origin_unavailable", "fetch", retryable=True, detail="No answer.")
        await claims.postpone(job, 60, fault=fault)
    for other in others:
        await claims.postpone(other, 0, is_counted=False)


async def test_a_batch_is_recorded_with_all_its_assets_declared(house: House, customer: int):
    queue = f"/customers/{customer}/queue"
    posted = await house.ask("POST", queue, members("a", "b", "c/d"))
    assert posted.status == 201, posted.body
    assert posted.headers["location"] == f"{queue}/batches/{posted.json['id']}"
    assert (posted.json["count"], posted.json["remaining"], posted.json["lane"]) == (3, 3, "normal")
    first = await house.ask("POST", f"{queue}/priority", {"members": members("z")["member"]})
    assert (first.status, first.json["lane"]) == (201, "priority")

    assert (await house.ask("GET", queue)).json == {
        "size": 3,
        "batchesWaiting": 1,
        "imagesWaiting": 3,
        "running": 0,
    }
    assert (await house.ask("GET", f"{queue}/priority")).json["size"] == 1
    shown = (await house.ask("GET", posted.headers["location"])).json
    assert (shown["completed"], shown["errors"], shown["finished"]) == (0, 0, None)
    assert shown["failures"] == []
    listed = (await house.ask("GET", f"{queue}/batches")).json["batches"]
    assert [each["id"] for each in listed] == [first.json["id"], posted.json["id"]]
    images = (await house.ask("GET", f"{posted.headers['location']}/images")).json["images"]
    names = {f"{customer}/1/a", f"{customer}/1/b", f"{customer}/1/c%2Fd"}
    assert {each["image"] for each in images} == names
    declared = (await house.ask("GET", f"/customers/{customer}/spaces/1/images/c%2Fd")).json
    assert (declared["state"], declared["batch"]) == ("ingesting", posted.json["id"])


async def test_the_recorded_payload_is_the_one_that_the_worker_reads(house: House, customer: int):
    member = {
        "ID": {"space": "3", "asset": "x"},
        "origin": ORIGIN,
        "thumbnailPolicy": "https://h/thumbnailPolicies/default",
        "roles": "a,b",
        "unknown": [1, 2],
    }
    posted = await house.ask("POST", f"/customers/{customer}/queue", [member])
    assert posted.status == 201, posted.body
    [job] = await house.services.catalog.jobs.page(batch=posted.json["id"])
    request = decode(dict(job.payload)).request
    assert (request.id.customer, request.id.space, request.id.name) == (customer, 3, "x")
    assert (request.thumbnail_policy, request.roles) == ("default", ("a", "b"))
    assert (job.host, job.asset, job.kind) == ("example.org", f"{customer}/3/x", "ingest")


async def test_the_faults_of_all_members_are_reported_and_nothing_is_recorded(
    house: House, customer: int
):
    body = {
        "member": [
            {"id": "good", "space": 1, "origin": ORIGIN},
            {"id": "twice", "space": 1, "origin": ORIGIN},
            {"id": "no-space", "origin": ORIGIN},
            {"id": "x", "space": 1, "origin": "gopher://x"},
            {"id": "y", "space": 1, "origin": ORIGIN, "maxUnauthorised": -9, "roles": 4},
            "text",
            {"id": f"{customer}/1/twice", "origin": ORIGIN},
            {"id": f"{customer + 1}/1/foreign", "origin": ORIGIN},
            {"id": "nowhere", "space": 1},
            {"id": "p", "space": 1, "origin": ORIGIN, "imageOptimisationPolicy": "none-such"},
            {"id": "file", "space": 1, "origin": "/etc/passwd"},
        ]
    }
    reply = await house.ask("POST", f"/customers/{customer}/queue", body)
    assert (reply.status, reply.code) == (400, "invalid_input")
    faults = reply.json["faults"]
    indexes = [int(fault.split(":")[0].removeprefix("member ")) for fault in faults]
    assert indexes == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert "maxUnauthorised" in faults[3]
    assert "roles" in faults[3]
    assert "10 of 11" in reply.json["error"]
    assert (await house.ask("GET", f"/customers/{customer}/queue/batches")).json["batches"] == []
    assert (await house.ask("GET", f"/customers/{customer}/spaces/1/images")).json["images"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"member": []},
        {"member": {}},
        {"member": None},
        [],
        {"member": [{"id": "x", "space": 1, "origin": ORIGIN}] * 2},
        members(*(str(number) for number in range(MAX_BATCH + 1))),
        "text",
        None,
    ],
    ids=range(9),
)
async def test_an_empty_batch_duplicates_and_too_many_members_are_refused(
    house: House, customer: int, body: Any
):
    sent = b"null" if body is None else body
    assert (await house.ask("POST", f"/customers/{customer}/queue", sent)).status == 400


async def test_a_batch_is_recorded_completely_or_not_at_all(house: House, customer: int):
    connection = await asyncpg.connect(house.services.settings.database.dsn.get_secret_value())
    await connection.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE 'no room'; END $$;
           CREATE TRIGGER poison BEFORE INSERT ON assets FOR EACH ROW
               WHEN (NEW.name = 'poison') EXECUTE FUNCTION refuse()"""
    )
    try:
        body = members("fine", "poison", "well")
        reply = await house.ask("POST", f"/customers/{customer}/queue", body)
        assert (reply.status, reply.json["retryable"]) == (503, True)
    finally:
        await connection.execute("DROP TRIGGER poison ON assets; DROP FUNCTION refuse()")
        await connection.close()
    assert (await house.ask("GET", f"/customers/{customer}/queue/batches")).json["batches"] == []
    assert (await house.ask("GET", "/jobs", key=customer)).json["jobs"] == []
    assert (await house.ask("GET", f"/customers/{customer}/spaces/1/images")).json["images"] == []


async def test_an_existing_asset_needs_no_origin_in_a_batch(house: House, customer: int):
    path = f"/customers/{customer}/spaces/1/images/known"
    assert (await house.ask("PUT", path, {"origin": house.picture()})).status == 201
    posted = await house.ask(
        "POST", f"/customers/{customer}/queue", [{"id": f"{customer}/1/known", "force": True}]
    )
    assert posted.status == 201, posted.body
    [job] = await house.services.catalog.jobs.page(batch=posted.json["id"])
    assert job.host == "127.0.0.1"
    still = (await house.ask("GET", path)).json
    assert (still["ingesting"], still["servable"]) == (True, True)


async def test_batches_with_the_same_assets_do_not_deadlock(house: House, customer: int):
    names = [f"n{at}" for at in range(30)]
    both = members(*names), members(*reversed(names))
    async with asyncio.timeout(20 * patience()):
        replies = await asyncio.gather(
            *(house.ask("POST", f"/customers/{customer}/queue", body) for body in both)
        )
    assert [reply.status for reply in replies] == [201, 201]


async def test_a_cancelled_batch_leaves_no_asset_waiting(house: House, customer: int):
    posted = await house.ask("POST", f"/customers/{customer}/queue", members("a", "b"))
    at = posted.headers["location"]
    cancelled = await house.ask("POST", f"{at}/cancel")
    assert (cancelled.status, cancelled.json["jobs"]) == (200, 2)
    shown = (await house.ask("GET", at)).json
    assert (shown["cancelled"], shown["remaining"]) == (2, 0)
    assert shown["finished"] == shown["estCompletion"] is not None
    image = (await house.ask("GET", f"/customers/{customer}/spaces/1/images/a")).json
    assert (image["state"], image["ingesting"]) == ("failed", False)
    assert "cancelled" in image["error"]
    assert (await house.ask("POST", f"{at}/cancel")).json["jobs"] == 0


async def test_a_batch_of_another_customer_is_404(house: House, customer: int):
    posted = await house.ask("POST", f"/customers/{customer}/queue", members("a"))
    number, other = posted.json["id"], await house.customer()
    for method, rest in (("GET", ""), ("GET", "/images"), ("POST", "/retry"), ("POST", "/cancel")):
        path = f"/customers/{other}/queue/batches/{number}{rest}"
        assert (await house.ask(method, path)).status == 404


async def test_batches_are_listed_page_by_page(house: House, customer: int):
    made = []
    for name in "abcde":
        posted = await house.ask("POST", f"/customers/{customer}/queue", members(name))
        made.append(posted.json["id"])
    await house.ask("POST", f"/customers/{customer}/queue/batches/{made[0]}/cancel")
    seen: list[int] = []
    page: str | None = f"/customers/{customer}/queue/batches?limit=2"
    while page:
        reply = (await house.ask("GET", page)).json
        seen += [batch["id"] for batch in reply["batches"]]
        page = reply["next"]
    assert seen == made[::-1]
    active = await house.ask("GET", f"/customers/{customer}/queue/batches?state=active")
    assert [batch["id"] for batch in active.json["batches"]] == made[:0:-1]


async def test_a_failure_is_shown_with_its_cause_and_can_be_retried(house: House, customer: int):
    posted = await house.ask("POST", f"/customers/{customer}/queue", members("good", "bad"))
    at = posted.headers["location"]
    jobs = {
        job.asset: job for job in await house.services.catalog.jobs.page(batch=posted.json["id"])
    }
    bad = jobs[f"{customer}/1/bad"]
    await fail(house, bad.id)
    shown = (await house.ask("GET", at)).json
    assert (shown["errors"], shown["remaining"]) == (1, 1)
    [failure] = shown["failures"]
    assert (failure["image"], failure["job"]) == (f"{customer}/1/bad", bad.id)
    assert failure["fault"] == {
        "code": "origin_not_found",
        "stage": "fetch",
        "retryable": False,
        "detail": NOT_FOUND,
    }
    failed = (await house.ask("GET", "/jobs?state=failed", key=customer)).json["jobs"]
    assert [job["id"] for job in failed] == [bad.id]

    again = await house.ask("POST", f"{at}/retry")
    assert (again.status, again.json["jobs"]) == (200, 1)
    shown = (await house.ask("GET", at)).json
    assert (shown["errors"], shown["remaining"], shown["failures"]) == (0, 2, [])

    await fail(house, bad.id)
    one = await house.ask("POST", f"/jobs/{bad.id}/retry", key=customer)
    assert (one.status, one.json["state"]) == (200, "queued")
    assert (await house.ask("POST", f"/jobs/{bad.id}/retry", key=customer)).status == 409


async def test_a_failure_is_shown_while_the_job_waits_for_another_attempt(
    house: House, customer: int
):
    posted = await house.ask("POST", f"/customers/{customer}/queue", members("good", "slow"))
    at = posted.headers["location"]
    jobs = await house.services.catalog.jobs.page(batch=posted.json["id"])
    [slow] = [job for job in jobs if job.asset == f"{customer}/1/slow"]
    await fail(house, slow.id, for_good=False)
    shown = (await house.ask("GET", at)).json
    assert (shown["errors"], shown["remaining"]) == (0, 2)
    [failure] = shown["failures"]
    assert (failure["image"], failure["job"]) == (f"{customer}/1/slow", slow.id)
    assert (failure["state"], failure["attempts"]) == ("queued", 1)
    assert failure["due"] > shown["submitted"]
    assert failure["fault"]["code"] == "origin_unavailable"


async def test_a_job_is_shown_to_its_customer_and_to_admins(house: House, customer: int):
    await house.ask("POST", f"/customers/{customer}/queue", members("a", "b", "c"))
    mine = (await house.ask("GET", "/jobs?limit=2", key=customer)).json
    assert len(mine["jobs"]) == 2
    rest = (await house.ask("GET", mine["next"], key=customer)).json
    assert len(rest["jobs"]) == 1
    assert rest["next"] is None
    number = rest["jobs"][0]["id"]
    for key, status in ((customer, 200), (house.admin, 200), (await house.customer(), 404)):
        assert (await house.ask("GET", f"/jobs/{number}", key=key)).status == status
    other = await house.customer()
    assert (await house.ask("POST", f"/jobs/{number}/cancel", key=other)).status == 404
    assert (await house.ask("GET", f"/jobs?customer={customer}", key=other)).status == 403
    cancelled = await house.ask("POST", f"/jobs/{number}/cancel", key=customer)
    assert cancelled.json["state"] == "cancelled"
    assert (await house.ask("POST", f"/jobs/{number}/cancel", key=customer)).status == 409
    image = (await house.ask("GET", f"/jobs?image={customer}/1/b", key=customer)).json["jobs"]
    assert [job["image"] for job in image] == [f"{customer}/1/b"]


async def test_active_and_recent_batches_are_listed_by_their_state_and_end(
    house: House, customer: int
):
    queue = f"/customers/{customer}/queue"
    for each in (await house.ask("GET", f"{queue}/active?limit=100")).json["batches"]:
        await house.services.submitter.cancel_batch(each["id"])
    posted = [
        (await house.ask("POST", queue, members(name))).json["id"] for name in ("r1", "r2", "r3")
    ]
    active = (await house.ask("GET", f"{queue}/active")).json
    assert [each["id"] for each in active["batches"]] == posted[::-1]
    for number in (posted[1], posted[0]):  # the second ends first
        await house.services.submitter.cancel_batch(number)
    active = (await house.ask("GET", f"{queue}/active")).json
    assert ([each["id"] for each in active["batches"]], active["next"]) == ([posted[2]], None)

    first = (await house.ask("GET", f"{queue}/recent?limit=1")).json
    assert [each["id"] for each in first["batches"]] == [posted[0]]
    second = (await house.ask("GET", first["next"])).json
    assert [each["id"] for each in second["batches"]] == [posted[1]]
    assert all(each["finished"] for each in first["batches"] + second["batches"])
    assert (await house.ask("GET", f"{queue}/recent?before=x")).status == 400
