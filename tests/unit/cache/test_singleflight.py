"""Single-flight within a process, and failures that it and other processes remember."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.cache.failures import Failure
from orchestrator.cache.locks import release_and_remove, try_lock
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    InvalidImageRequest,
    OrchestratorError,
    Overloaded,
    StorageUnavailable,
    Superseded,
    TooManyRequests,
    Unavailable,
)
from tests.support.caches import ManualClock

Make = Callable[[], SingleFlight]


async def nothing() -> None:
    return None


class Work:
    """Counts its runs and ends when `finish` is set."""

    def __init__(self, result: str = "made", error: Exception | None = None) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.result, self.error = result, error

    async def __call__(self) -> str:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Make]:
    """Single-flights over one folder; each stands for another process of the host."""
    instances: list[SingleFlight] = []

    def one() -> SingleFlight:
        flights = SingleFlight(
            tmp_path / "flights",
            remember=lambda error: 0.0 if isinstance(error, Overloaded) else 10.0,
            now=clock,
            wall_clock=clock,
            jitter=lambda: 0.5,
        )
        instances.append(flights)
        return flights

    yield one
    for flights in instances:
        await flights.close()


async def test_a_thousand_callers_share_one_run(make: Make) -> None:
    flights, work = make(), Work()
    callers = [asyncio.create_task(flights.run("k", work, find=nothing)) for _ in range(1000)]
    await work.started.wait()
    work.go.set()
    assert set(await asyncio.gather(*callers)) == {"made"}
    assert (work.runs, flights.led, flights.joined) == (1, 1, 999)
    assert flights.in_flight == 0


async def test_the_work_continues_when_the_first_caller_leaves(make: Make) -> None:
    flights, work = make(), Work()
    first = asyncio.create_task(flights.run("k", work, find=nothing))
    await work.started.wait()
    second = asyncio.create_task(flights.run("k", work, find=nothing))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await second == "made"
    assert work.runs == 1


async def test_the_work_continues_when_all_callers_have_left(make: Make) -> None:
    flights, work = make(), Work(error=StorageUnavailable("away"))
    caller = asyncio.create_task(flights.run("k", work, find=nothing))
    await work.started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert flights.in_flight == 1
    work.go.set()
    while flights.in_flight:
        await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable):  # and its outcome is known
        await flights.run("k", work, find=nothing)
    assert work.runs == 1


async def test_callers_have_the_result_before_it_is_published(make: Make) -> None:
    published = Work()
    found: list[str] = []

    async def find() -> str | None:
        return found[0] if found else None

    async def publish(result: str) -> None:
        await published()
        found.append(result)

    async def produce() -> str:
        return "made"

    here, other = make(), make()
    assert await here.run("key", produce, find=nothing, publish=publish) == "made"
    await published.started.wait()
    assert here.in_flight == 1
    # A caller of this process has it at once, one of another process when it is published.
    never = Work()
    assert await here.run("key", never, find=nothing) == "made"
    elsewhere = asyncio.create_task(other.run("key", never, find=find))
    await asyncio.sleep(0.05)
    assert not elsewhere.done()
    published.go.set()
    assert await elsewhere == "made"
    assert (never.runs, here.in_flight) == (0, 0)


async def test_a_result_that_cannot_be_published_reaches_its_callers(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def publish(_result: str) -> None:
        raise OSError("the disk is away")

    async def produce() -> str:
        return "made"

    flights = make()
    assert await flights.run("key", produce, find=nothing, publish=publish) == "made"
    await flights.close(drain_s=5)
    assert "result not published" in caplog.text


async def test_an_existing_result_is_returned_without_work(make: Make) -> None:
    async def find() -> str:
        return "found"

    work = Work()
    assert await make().run("k", work, find=find) == "found"
    assert work.runs == 0


async def test_a_failure_reaches_every_waiter_and_is_repeated_for_its_time(
    make: Make, clock: ManualClock
) -> None:
    flights, work = make(), Work(error=StorageUnavailable("The store is away."))
    callers = [asyncio.create_task(flights.run("k", work, find=nothing)) for _ in range(10)]
    await work.started.wait()
    work.go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
    clock.advance(9.9)
    with pytest.raises(StorageUnavailable, match="The store is away"):
        await flights.run("k", work, find=nothing)
    assert work.runs == 1
    clock.advance(0.2)
    work.error = None
    assert await flights.run("k", work, find=nothing) == "made"
    assert work.runs == 2


async def test_a_failure_is_repeated_by_other_processes_and_then_tried_again(
    make: Make, clock: ManualClock
) -> None:
    work = Work(error=InvalidImageRequest("size", "The size is too large."))
    work.go.set()
    with pytest.raises(InvalidImageRequest):
        await make().run("k", work, find=nothing)
    other = make()
    with pytest.raises(InvalidImageRequest, match="too large") as raised:
        await other.run("k", work, find=nothing)
    assert raised.value.parameter == "size"
    assert work.runs == 1
    clock.advance(11)
    work.error = None
    assert await other.run("k", work, find=nothing) == "made"


async def test_an_existing_result_is_preferred_to_a_failure_that_another_process_noted(
    make: Make,
) -> None:
    work = Work(error=StorageUnavailable("away"))
    work.go.set()
    with pytest.raises(StorageUnavailable):
        await make().run("k", work, find=nothing)

    async def find() -> str:
        return "found"

    assert await make().run("k", work, find=find) == "found"


async def test_a_failure_with_no_time_is_not_remembered(make: Make) -> None:
    flights, work = make(), Work(error=Overloaded("busy"))
    work.go.set()
    for _ in range(3):
        with pytest.raises(Overloaded):
            await flights.run("k", work, find=nothing)
    assert work.runs == 3


async def test_a_bug_is_raised_unchanged_and_not_remembered(make: Make) -> None:
    flights, work = make(), Work(error=ZeroDivisionError())
    work.go.set()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await flights.run("k", work, find=nothing)
    assert work.runs == 2


async def test_waiters_of_a_stopping_server_get_an_error_that_is_not_remembered(make: Make) -> None:
    flights, work = make(), Work()
    caller = asyncio.create_task(flights.run("k", work, find=nothing))
    await work.started.wait()
    await flights.close()
    with pytest.raises(Unavailable, match="stopping"):
        await caller
    with pytest.raises(Unavailable, match="stopping"):
        await flights.run("k", work, find=nothing)
    work.go.set()
    assert await make().run("k", work, find=nothing) == "made"


async def test_close_lets_a_flight_finish_within_the_drain_time(make: Make) -> None:
    flights, work = make(), Work()
    caller = asyncio.create_task(flights.run("k", work, find=nothing))
    await work.started.wait()
    work.go.set()
    await flights.close(drain_s=10)
    assert await caller == "made"


async def test_a_caller_waits_for_another_process_and_then_looks_for_its_result(make: Make) -> None:
    one, other, work = make(), make(), Work()
    published: list[str] = []

    async def find() -> str | None:
        return published[0] if published else None

    async def produce() -> str:
        published.append(await work())
        return published[0]

    first = asyncio.create_task(one.run("k", produce, find=find))
    await work.started.wait()
    second = asyncio.create_task(other.run("k", produce, find=find))
    await asyncio.sleep(0.01)
    assert not second.done()
    work.go.set()
    assert await asyncio.gather(first, second) == ["made", "made"]
    assert work.runs == 1


async def test_the_wait_for_another_process_is_bounded(tmp_path: Path) -> None:
    one = SingleFlight(tmp_path, remember=lambda _: 0.0)
    other = SingleFlight(tmp_path, remember=lambda _: 0.0, wait_s=0.01)
    work = Work()
    first = asyncio.create_task(one.run("k", work, find=nothing))
    await work.started.wait()
    with pytest.raises(Unavailable, match="too long"):
        await other.run("k", work, find=nothing)
    work.go.set()
    await first


async def test_finished_flights_leave_no_file(make: Make, tmp_path: Path) -> None:
    flights, work = make(), Work()
    work.go.set()
    await asyncio.gather(*(flights.run(f"k{i}", work, find=nothing) for i in range(50)))
    assert list((tmp_path / "flights").iterdir()) == []


async def test_without_a_folder_for_locks_each_process_does_the_work(tmp_path: Path) -> None:
    (tmp_path / "flights").write_text("a file where the folder should be")
    flights, work = SingleFlight(tmp_path / "flights", remember=lambda _: 10.0), Work()
    work.go.set()
    assert await flights.run("k", work, find=nothing) == "made"
    work.error = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable):
        await flights.run("l", work, find=nothing)


async def test_a_sweep_removes_only_old_notes_and_locks_of_dead_processes(
    make: Make, tmp_path: Path, clock: ManualClock
) -> None:
    flights, folder = make(), tmp_path / "flights"
    failing = Work(error=StorageUnavailable("away"))
    failing.go.set()
    with pytest.raises(StorageUnavailable):
        await flights.run("failed", failing, find=nothing)
    (folder / "lock-of-the-dead").touch()
    held = try_lock(folder / "lock-of-the-living")
    assert held is not None
    assert flights.sweep() == 0, "all are fresh"
    for path in folder.iterdir():
        os.utime(path, (time.time() - 100,) * 2)
    assert flights.sweep() == 1, "the lock of a dead process"
    clock.advance(20)
    assert flights.sweep() == 1, "the note"
    assert [path.name for path in folder.iterdir()] == ["lock-of-the-living"]
    release_and_remove(folder / "lock-of-the-living", held)


def test_a_lock_file_that_was_removed_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    path.unlink()
    second = try_lock(path)
    assert second is not None
    os.close(first)
    assert try_lock(path) is None
    release_and_remove(path, second)
    assert not path.exists()


def _classes(root: type[OrchestratorError]) -> list[type[OrchestratorError]]:
    return [root, *(c for child in root.__subclasses__() for c in _classes(child))]


@pytest.mark.parametrize(
    "kind", [c for c in _classes(OrchestratorError) if c.__module__ == "orchestrator.errors"]
)
def test_every_error_is_the_same_after_it_was_noted_for_another_process(
    kind: type[OrchestratorError],
) -> None:
    arguments = {
        InvalidImageRequest: ("size", "No."),
        Overloaded: ("No.", 7.5),
        TooManyRequests: ("No.", 7.5),
        Superseded: (),
    }
    error = kind(*arguments.get(kind, ("No.",)))
    note = Failure.of(error, 1.0)
    again = Failure(note.kind, json.loads(json.dumps(dict(note.fields))), 1.0).error()
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_a_note_of_an_unknown_kind_becomes_unavailable() -> None:
    assert type(Failure("NewError", {"public": "x"}, 0.0).error()) is Unavailable
    assert type(Failure("annotations", {}, 0.0).error()) is Unavailable


async def test_a_failure_is_not_repeated_longer_after_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    steady, wall = ManualClock(), ManualClock()
    first, second = (
        SingleFlight(tmp_path / "flights", remember=lambda _error: 2.0, now=steady, wall_clock=wall)
        for _ in range(2)
    )
    produced = 0

    async def fail() -> bytes:
        nonlocal produced
        produced += 1
        raise Unavailable("The store does not answer.")

    async def find_nothing() -> bytes | None:
        return None

    async def ask(flights: SingleFlight) -> None:
        with pytest.raises(Unavailable):
            await flights.run("key", fail, find=find_nothing)

    await ask(first)
    await ask(second)
    assert produced == 1, "the note of the first process is repeated"
    wall.advance(-3600)
    await ask(first)
    await ask(second)
    assert produced == 1, "in memory it is remembered for its time"
    steady.advance(3)
    await ask(second)
    assert produced == 2, "a note from the future counts for nothing"
    for flights in (first, second):
        await flights.close()
