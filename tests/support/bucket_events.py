"""The buckets of pyramids on a real S3 server, and the events that S3, EventBridge and SNS send."""

from __future__ import annotations

import itertools
import json
import secrets
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote_plus

from botocore.exceptions import ClientError

from tests.support.weed import CREDENTIALS, s3_client

_sequencers = itertools.count(0x55AED6DCD90281E5)


@dataclass
class PyramidBuckets:
    """The source, process and image bucket of one installation; they are created on entry."""

    endpoint: str
    client: Any = field(init=False)
    source: str = field(init=False)
    process: str = field(init=False)
    image: str = field(init=False)

    def __enter__(self) -> Self:
        self.client = s3_client(self.endpoint)
        token = secrets.token_hex(4)
        self.source, self.process, self.image = (
            f"{name}-{token}" for name in ("rbsc", "process", "images")
        )
        for bucket in (self.source, self.process, self.image):
            self.client.create_bucket(Bucket=bucket)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The values of the section `pyramids`."""
        access, secret = CREDENTIALS
        return {
            "source_bucket": self.source,
            "process_bucket": self.process,
            "image_bucket": self.image,
            "endpoint": self.endpoint,
            "access_key": access,
            "secret_key": secret,
            **changes,
        }

    def put(self, key: str, body: bytes, bucket: str = "") -> str:
        """Write an object; its ETag without quotes."""
        answer = self.client.put_object(Bucket=bucket or self.source, Key=key, Body=body)
        return str(answer["ETag"]).strip('"')

    def delete(self, key: str, bucket: str = "") -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=bucket or self.source, Key=key)

    def read(self, bucket: str, key: str) -> bytes | None:
        """The bytes of an object, or None."""
        try:
            answer = self.client.get_object(Bucket=bucket, Key=key)
        except ClientError:
            return None
        with answer["Body"] as body:
            return bytes(body.read())

    def list_keys(self, bucket: str = "", prefix: str = "") -> list[str]:
        """The keys of a bucket (by default of the image bucket), in order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket or self.image, Prefix=prefix
        )
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def record(
        self, key: str, etag: str = "", name: str = "ObjectCreated:Put", **item: str
    ) -> dict[str, Any]:
        """A record of an S3 notification, with its key encoded as S3 does."""
        details = {"key": quote_plus(key, safe="/"), "eTag": etag, "sequencer": sequencer(), **item}
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventName": name,
            "s3": {"bucket": {"name": self.source}, "object": details},
        }

    def bridged(self, key: str, etag: str = "", kind: str = "Object Created") -> dict[str, Any]:
        """An event of EventBridge, with its key as it is."""
        return {
            "version": "0",
            "source": "aws.s3",
            "detail-type": kind,
            "detail": {
                "bucket": {"name": self.source},
                "object": {"key": key, "etag": etag, "sequencer": sequencer()},
                "reason": "PutObject",
            },
        }


def sequencer() -> str:
    """The sequencer of the next event."""
    return f"{next(_sequencers):018X}"


def notification(*records: dict[str, Any]) -> dict[str, Any]:
    """An S3 notification."""
    return {"Records": list(records)}


def enveloped(message: dict[str, Any], topic: str = "arn:aws:sns:us-east-1:1:t") -> dict[str, Any]:
    """A message of SNS without a signature, as SQS receives it."""
    return {
        "Type": "Notification",
        "MessageId": secrets.token_hex(8),
        "TopicArn": topic,
        "Message": json.dumps(message),
        "Timestamp": "2026-01-01T00:00:00.000Z",
    }
