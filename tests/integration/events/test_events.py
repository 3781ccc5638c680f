"""From the events of a bucket to pyramids that are served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.integration.events.conftest import QUEUE, PyramidSystem, jpeg, png
from tests.support.bucket_events import enveloped, notification, sequencer

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_three_records_with_encoded_keys_are_three_pyramids(system: PyramidSystem) -> None:
    keys = ["enc/a b+c.jpg", "enc/100%/d%2Fe.jpg", "enc/ü.png"]
    records = []
    for seed, key in enumerate(keys):
        body = png(seed=seed) if key.endswith("png") else jpeg(seed=seed)
        records.append(system.buckets.record(key, system.buckets.put(key, body)))
    counts = await system.accept(*records)
    assert counts == {"accepted": 3, "repeated": 0, "outdated": 0, "ignored": 0}
    report = await system.run()
    assert (report.attempted, report.done, dict(report.failed)) == (3, 3, {}), report
    assert system.buckets.list_keys(prefix="enc/") == sorted(
        ["enc/a b+c.tif", "enc/100%/d%2Fe.tif", "enc/ü.tif"]
    )
    asset = await system.asset("enc/a b+c")
    assert asset is not None
    assert asset.source is not None
    assert asset.source.location.endswith("/enc/a%20b%2Bc.tif")
    assert (asset.width, asset.height) == (300, 200)


async def test_a_repeated_event_makes_no_second_pyramid(system: PyramidSystem) -> None:
    body = jpeg(seed=5)
    record = system.buckets.record("twice/1.jpg", system.buckets.put("twice/1.jpg", body))
    assert (await system.accept(record, record))["repeated"] == 1
    await system.run()
    stored = system.buckets.client.head_object(Bucket=system.buckets.image, Key="twice/1.tif")
    assert (await system.accept(record))["repeated"] == 1
    again = system.buckets.record("twice/1.jpg", system.buckets.put("twice/1.jpg", body))
    assert (await system.accept(again))["repeated"] == 1, "the same bytes, written again"
    older = system.buckets.record("twice/1.jpg", "0" * 32, sequencer="0001")
    assert (await system.accept(older))["outdated"] == 1
    assert (await system.run()).attempted == 0
    now = system.buckets.client.head_object(Bucket=system.buckets.image, Key="twice/1.tif")
    assert now["LastModified"] == stored["LastModified"]


async def test_an_object_that_is_replaced_gets_a_new_pyramid(system: PyramidSystem) -> None:
    await system.put("new/1.jpg", jpeg(300, 200))
    await system.run()
    before = await system.asset("new/1")
    await system.put("new/1.jpg", jpeg(400, 300))
    await system.put("new/1.jpg", jpeg(500, 400))
    report = await system.run()
    assert (report.attempted, report.failed) == (1, {})
    after = await system.asset("new/1")
    assert before is not None
    assert after is not None
    assert (after.width, after.height) == (500, 400)
    assert after.version > before.version
    assert system.buckets.list_keys(prefix="new/") == ["new/1.tif"]


@pytest.mark.parametrize(
    "name", ["CompleteMultipartUpload", "Copy", "Post"], ids=lambda name: str(name)
)
async def test_every_way_to_create_an_object_counts(system: PyramidSystem, name: str) -> None:
    key = f"ways/{name}.jpg"
    etag = system.buckets.put(key, jpeg())
    assert (await system.accept(system.buckets.record(key, etag, f"ObjectCreated:{name}")))[
        "accepted"
    ] == 1
    assert (await system.run()).done == 1


async def test_a_removed_object_takes_its_pyramid_with_it(system: PyramidSystem) -> None:
    await system.put("gone/1.jpg", jpeg())
    await system.run()
    assert await system.asset("gone/1") is not None
    system.buckets.delete("gone/1.jpg")
    await system.accept(system.buckets.record("gone/1.jpg", name="ObjectRemoved:Delete"))
    assert (await system.run()).done == 1
    assert system.buckets.list_keys(prefix="gone/") == []
    assert await system.asset("gone/1") is None
    assert (await system.source("gone/1.jpg")).state == "removed"
    await system.put("gone/1.jpg", jpeg())
    await system.run()
    assert system.buckets.list_keys(prefix="gone/") == ["gone/1.tif"]


async def test_a_pyramid_stays_if_only_a_version_of_its_object_was_removed(
    system: PyramidSystem,
) -> None:
    await system.put("version/1.jpg", jpeg())
    await system.run()
    removed = system.buckets.record("version/1.jpg", name="ObjectRemoved:Delete", versionId="v0")
    await system.accept(removed)
    await system.run()
    assert system.buckets.list_keys(prefix="version/") == ["version/1.tif"]
    assert await system.asset("version/1") is not None


async def test_two_sources_of_one_stem_keep_their_keys_in_any_order(system: PyramidSystem) -> None:
    await system.put("same/1.png", png())
    await system.put("same/1.jpg", jpeg())
    await system.put("other/1.jpg", jpeg(seed=9))
    await system.run()
    keys = ["other/1.tif", "same/1.jpg.tif", "same/1.tif"]
    assert [key for key in system.buckets.list_keys() if key.startswith(("same", "other"))] == keys
    for key, size in {"same/1": (200, 160), "same/1.jpg": (300, 200)}.items():
        asset = await system.asset(key)
        assert asset is not None
        assert (asset.width, asset.height) == size
    await system.put("same/1.jpg", jpeg(310, 200))  # in the other order
    await system.put("same/1.png", png(210, 160))
    await system.run()
    assert [key for key in system.buckets.list_keys() if key.startswith(("same", "other"))] == keys
    for key, size in {"same/1": (210, 160), "same/1.jpg": (310, 200)}.items():
        asset = await system.asset(key)
        assert asset is not None
        assert (asset.width, asset.height) == size


async def test_events_of_other_buckets_and_hidden_files_are_ignored(system: PyramidSystem) -> None:
    other = system.buckets.record("a/1.jpg")
    other["s3"]["bucket"]["name"] = "another"
    records = [other, system.buckets.record("a/.1.jpg"), system.buckets.record("a/folder/")]
    assert (await system.accept(*records))["ignored"] == 3
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": system.buckets.source}
    assert (await system.post(test)).json["ignored"] == 0
    restored = system.buckets.record("a/1.jpg", name="ObjectRestore:Completed")
    assert set((await system.accept(restored)).values()) == {0}


@pytest.mark.parametrize("form", ["raw", "sns", "eventbridge"])
async def test_events_arrive_through_sqs(system: PyramidSystem, form: str) -> None:
    key = f"sqs/{form} +%.jpg"
    etag = system.buckets.put(key, jpeg(seed=3))
    messages: dict[str, Any] = {
        "raw": notification(system.buckets.record(key, etag)),
        "sns": enveloped(notification(system.buckets.record(key, etag))),
        "eventbridge": system.buckets.bridged(key, etag),
    }
    address = system.sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    body = json.dumps(messages[form])
    system.sqs.send_message(QueueUrl=address, MessageBody=body)
    system.sqs.send_message(QueueUrl=address, MessageBody=body)
    report = await system.run()
    assert (report.attempted, report.done) == (1, 1)
    assert system.buckets.list_keys(prefix=f"sqs/{form}") == [f"sqs/{form} +%.tif"]
    counts = system.sqs.get_queue_attributes(QueueUrl=address, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_a_message_that_is_no_event_stays_in_the_queue(system: PyramidSystem) -> None:
    address = system.sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    system.sqs.send_message(QueueUrl=address, MessageBody='{"hello": 1}')
    etag = system.buckets.put("after/1.jpg", jpeg())
    body = json.dumps(notification(system.buckets.record("after/1.jpg", etag)))
    system.sqs.send_message(QueueUrl=address, MessageBody=body)
    assert (await system.run()).done == 1
    counts = system.sqs.get_queue_attributes(QueueUrl=address, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"
    system.sqs.purge_queue(QueueUrl=address)


async def test_only_known_senders_may_post_events(system: PyramidSystem) -> None:
    event = notification(system.buckets.record("auth/1.jpg"))
    stranger = await system.house.customer()
    assert (await system.post(event, key="")).status == 401
    assert (await system.post(event, key="wrong.secret")).status == 401
    assert (await system.post(event, key=system.house.keys[stranger])).status == 403
    assert (await system.post(event, key=system.house.keys[1])).status == 200
    basic = "Basic czM6dGhlIHNlY3JldCBvZiB0aGUgc2VuZGVycw=="  # s3:SECRET
    reply = await system.house.ask("POST", "/events/s3", event, key="", Authorization=basic)
    assert reply.json["repeated"] == 1
    assert (await system.post(enveloped(event))).status == 403, "no topic is allowed"
    await system.run()


@pytest.mark.parametrize(
    "message",
    [
        [],
        {},
        {"Records": [1]},
        {"Records": [{"eventName": "ObjectCreated:Put"}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}}}]},
        {"detail-type": "Object Created", "source": "aws.s3", "detail": {}},
    ],
    ids=str,
)
async def test_a_message_that_is_no_event_is_refused(system: PyramidSystem, message: Any) -> None:
    assert (await system.post(message)).status == 400


async def test_a_change_while_a_pyramid_is_made_replaces_it(system: PyramidSystem) -> None:
    await system.put("late/1.jpg", jpeg(2000, 1500))
    run = asyncio.create_task(system.run())
    while not run.done() and (await system.source("late/1.jpg")).attempts == 0:
        await asyncio.sleep(0.01)
    await system.put("late/1.jpg", jpeg(320, 240))
    await run
    await system.run()
    source, asset = await system.source("late/1.jpg"), await system.asset("late/1")
    assert (source.state, source.pyramids) == ("done", 1)
    assert asset is not None
    assert (asset.width, asset.height) == (320, 240)


async def test_sequencers_of_different_lengths_are_compared_as_s3_does(
    system: PyramidSystem,
) -> None:
    first = system.buckets.put("order/1.jpg", jpeg())
    start = sequencer().rstrip("0")
    await system.accept(system.buckets.record("order/1.jpg", first, sequencer=start))
    equal = system.buckets.record("order/1.jpg", "f" * 32, sequencer=f"{start}00")
    assert (await system.accept(equal))["repeated"] == 1
    later = system.buckets.record("order/1.jpg", "f" * 32, sequencer=f"{start}1")
    assert (await system.accept(later))["accepted"] == 1
    await system.run()
