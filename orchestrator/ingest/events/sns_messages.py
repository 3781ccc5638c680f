"""Messages of SNS over HTTP: checks that an allowed topic signed them, and confirms subscriptions.

Certificates and confirmations are requested only from addresses of SNS itself, by the client that
checks network addresses. No library does this: those that exist fetch the certificate by
themselves, block, or need a newer Python.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from cachetools import LRUCache
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from orchestrator.errors import Forbidden, InvalidInput

log = logging.getLogger(__name__)
Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the body at an HTTPS address. Raises OriginUnavailable."""
_HOST = r"https://sns\.[a-z0-9-]{1,40}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE = re.compile(rf"{_HOST}/[A-Za-z0-9._-]{{1,200}}\.pem")
_CONFIRMATION = re.compile(rf"{_HOST}/\?\S{{1,2000}}")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ),
}
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]
"""The signed fields of each type of message (Amazon SNS Developer Guide, "Verifying the signatures
of Amazon SNS messages").
"""
_HASHES = {"1": SHA1, "2": SHA256}
_MAX_CERTIFICATES = 16


class SnsMessages:
    """Checks messages of the allowed topics."""

    def __init__(self, topics: Collection[str], fetch: Fetch) -> None:
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._keys: LRUCache[str, RSAPublicKey] = LRUCache(_MAX_CERTIFICATES)

    async def check(self, message: Mapping[str, Any]) -> bool:
        """Check the topic and the signature. True if the message is a notification, False if
        it was a confirmation, which is done then. Raises Forbidden, InvalidInput,
        OriginUnavailable.
        """
        topic = message.get("TopicArn")
        if topic not in self._topics:
            raise Forbidden("Messages of this SNS topic are not allowed. See pyramids.sns_topics.")
        kind = message.get("Type")
        signed = _SIGNED.get(kind) if isinstance(kind, str) else None
        if signed is None:
            raise InvalidInput("The SNS message has an unknown Type.")
        await self._check_signature(message, signed)
        if kind == "Notification":
            return True
        if kind == "SubscriptionConfirmation":
            await self._confirm(message)
        return False

    async def _check_signature(self, message: Mapping[str, Any], signed: tuple[str, ...]) -> None:
        hashing = _HASHES.get(str(message.get("SignatureVersion")))
        address = message.get("SigningCertURL")
        if hashing is None or not isinstance(address, str) or not _CERTIFICATE.fullmatch(address):
            raise _refusal()
        lines = [
            line
            for name in signed
            if isinstance(message.get(name), str)
            for line in (name, message[name])
        ]
        try:
            signature = base64.b64decode(str(message.get("Signature", "")), validate=True)
            key = await self._key(address)
            key.verify(
                signature, "".join(f"{line}\n" for line in lines).encode(), PKCS1v15(), hashing()
            )
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise _refusal() from error

    async def _key(self, address: str) -> RSAPublicKey:
        """The public key of the certificate at this address. Raises ValueError."""
        key = self._keys.get(address)
        if key is None:
            certificate = x509.load_pem_x509_certificate(await self._fetch(address))
            found = certificate.public_key()
            if not isinstance(found, RSAPublicKey):
                raise ValueError("not an RSA key")
            key = self._keys[address] = found
        return key

    async def _confirm(self, message: Mapping[str, Any]) -> None:
        address = message.get("SubscribeURL")
        if not isinstance(address, str) or not _CONFIRMATION.fullmatch(address):
            raise InvalidInput("The address that confirms the subscription is not one of SNS.")
        await self._fetch(address)
        log.info("subscription confirmed", extra={"topic": message["TopicArn"]})


def _refusal() -> Forbidden:
    return Forbidden("The signature of the SNS message is not valid.")
