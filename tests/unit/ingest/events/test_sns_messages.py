"""Messages of SNS: who signed them, and which subscriptions are confirmed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.errors import Forbidden, InvalidInput
from orchestrator.ingest.events.sns_messages import SnsMessages

TOPIC = "arn:aws:sns:eu-west-1:123456789012:pictures"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-abc.pem"
CONFIRMATION = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def a_certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(KEY, SHA256())
        .public_bytes(Encoding.PEM)
    )


class Sns:
    """The addresses of SNS, and what was requested of them."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.certificate = a_certificate()

    async def fetch(self, address: str) -> bytes:
        """The certificate, or an empty body."""
        self.requested.append(address)
        return self.certificate if address.endswith(".pem") else b""


def signed(kind: str = "Notification", version: str = "2", **changes: str) -> dict[str, Any]:
    """A message with the signature of the fields that SNS signs."""
    message = {
        "Type": kind,
        "MessageId": "id",
        "TopicArn": TOPIC,
        "Message": '{"Records": []}',
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
    }
    if kind != "Notification":
        message |= {"SubscribeURL": CONFIRMATION, "Token": "t"}
    message |= changes
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn"]
    lines = [f"{name}\n{message[name]}\n" for name in [*names, "Type"] if name in message]
    hashing = SHA1() if version == "1" else SHA256()
    signature = KEY.sign("".join(lines).encode(), padding.PKCS1v15(), hashing)
    return {**message, "Signature": base64.b64encode(signature).decode()}


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("more", [{}, {"Subject": "Amazon S3 Notification"}], ids=["plain", "full"])
async def test_a_signed_notification_is_accepted(version: str, more: dict[str, str]) -> None:
    sns = Sns()
    messages = SnsMessages([TOPIC], sns.fetch)
    assert await messages.check(signed(version=version, **more))
    assert await messages.check(signed(version=version, **more))
    assert sns.requested == [CERTIFICATE], "the certificate is fetched once"


@pytest.mark.parametrize(
    "change",
    [
        {"Message": '{"Records": [1]}'},
        {"Timestamp": "2026-01-02T00:00:00.000Z"},
        {"Signature": "AAAA"},
        {"Signature": "not base64!"},
        {"Signature": ""},
        {"SignatureVersion": "3"},
    ],
    ids=str,
)
async def test_a_message_that_was_changed_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        await SnsMessages([TOPIC], Sns().fetch).check({**signed(), **change})


@pytest.mark.parametrize(
    "address",
    [
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com.example.org/a.pem",
        "https://example.org/sns.eu-west-1.amazonaws.com/a.pem",
        "https://user@sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:444/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a/../b.pem",
        "https://bucket.s3.amazonaws.com/a.pem",
        "file:///etc/passwd.pem",
    ],
)
async def test_certificates_come_only_from_sns(address: str) -> None:
    sns = Sns()
    with pytest.raises(Forbidden):
        await SnsMessages([TOPIC], sns.fetch).check(signed(SigningCertURL=address))
    assert sns.requested == []


async def test_a_certificate_that_is_none_is_refused() -> None:
    sns = Sns()
    sns.certificate = b"<html>"
    with pytest.raises(Forbidden):
        await SnsMessages([TOPIC], sns.fetch).check(signed())


async def test_a_subscription_of_an_allowed_topic_is_confirmed() -> None:
    sns = Sns()
    assert not await SnsMessages([TOPIC], sns.fetch).check(signed("SubscriptionConfirmation"))
    assert sns.requested == [CERTIFICATE, CONFIRMATION]


async def test_the_end_of_a_subscription_is_not_undone() -> None:
    sns = Sns()
    assert not await SnsMessages([TOPIC], sns.fetch).check(signed("UnsubscribeConfirmation"))
    assert sns.requested == [CERTIFICATE]


async def test_messages_of_other_topics_are_refused_before_anything_is_fetched() -> None:
    sns = Sns()
    for kind in ("Notification", "SubscriptionConfirmation"):
        with pytest.raises(Forbidden):
            await SnsMessages(["arn:aws:sns:eu-west-1:1:other"], sns.fetch).check(signed(kind))
    assert sns.requested == []


async def test_a_subscription_is_confirmed_only_at_sns() -> None:
    sns = Sns()
    message = signed("SubscriptionConfirmation", SubscribeURL="https://example.org/?a=b")
    with pytest.raises(InvalidInput):
        await SnsMessages([TOPIC], sns.fetch).check(message)
    assert sns.requested == [CERTIFICATE]


async def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidInput):
        await SnsMessages([TOPIC], Sns().fetch).check({**signed(), "Type": ["Notification"]})
