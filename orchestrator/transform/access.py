"""Which parameters a client may request: those of presets and of the allow-list, signed ones, or
any. Nothing is looked up here.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.errors import Expired, Forbidden, InvalidInput, KeyRequired, SettingsError
from orchestrator.settings import Ico
from orchestrator.transform.parameters import Parameters, parse_parameters
from orchestrator.transform.signatures import SignedText, is_signed

_UNSIGNED = "This URL needs a signature, and it has none. Request a preset or a signed URL."
_FORGED = "The signature is not that of this URL. Sign the parameters and the path as they are."
_EXPIRED = "This URL was valid until a time that is over. Request a new one."
_MAX_EXPIRY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Signed:
    """The query of a signed URL; both texts are "" without it."""

    exp: str = ""
    sig: str = ""

    @property
    def parameters(self) -> int:
        """How many query parameters it consists of."""
        return bool(self.exp) + bool(self.sig)


@dataclass(frozen=True, slots=True)
class Permitted:
    """Parameters that this client may request. `by_signature`: only because the URL is signed;
    then `until` is the Unix time in seconds until which it is valid, None if it does not expire.
    """

    parameters: Parameters
    by_signature: bool = False
    until: int | None = None


class AccessRules:
    """The rules of the settings."""

    def __init__(self, settings: Ico, now: Callable[[], float] = time.time) -> None:
        """Raises SettingsError for a preset or an allowed set that is not a list of parameters."""
        self._settings = settings
        self._now = now
        self._secrets = [secret.get_secret_value() for secret in settings.secrets]
        self._purge_secrets = [secret.get_secret_value() for secret in settings.purge_secrets]
        self._presets: Mapping[str, Parameters] = {
            name: self._configured(f"ico.presets: {name}", text)
            for name, text in settings.presets.items()
        }
        self._allowed = frozenset(
            self._configured("ico.allowed", text).canonical for text in settings.allowed
        )

    def parse(self, segment: str) -> Parameters:
        """The parameters that a path segment names: a preset, or parameters. Raises
        InvalidInput.
        """
        preset = self._presets.get(segment)
        return preset if preset is not None else self._parse(segment)

    def permit(self, segment: str, path: str, signed: Signed, bucket: str = "") -> Permitted:
        """The parameters of a request, if it may have them.

        Raises InvalidInput for what is no list of parameters, Forbidden without a valid signature,
        Expired.
        """
        parameters = self.parse(segment)
        if self._is_open(segment, parameters):
            return Permitted(parameters)
        if not self._secrets:
            raise Forbidden("These parameters are not allowed here. Request a preset.")
        if not signed.sig:
            raise Forbidden(_UNSIGNED)
        if not is_signed(self._secrets, SignedText(segment, path, signed.exp, bucket), signed.sig):
            raise Forbidden(_FORGED)
        return Permitted(parameters, by_signature=True, until=self._valid_until(signed.exp))

    def check_purge(self, authorization: str) -> None:
        """Raises KeyRequired without a bearer secret, and Forbidden for a wrong one."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise KeyRequired("Purging needs a secret: send it as Authorization: Bearer SECRET.")
        sent = given.strip().encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(each.encode(), sent) for each in self._purge_secrets]
        if not any(matches):
            raise Forbidden("This is not a secret for purging.")

    def _is_open(self, segment: str, parameters: Parameters) -> bool:
        return (
            self._settings.open or segment in self._presets or parameters.canonical in self._allowed
        )

    def _valid_until(self, exp: str) -> int | None:
        if not exp:
            return None
        if not (exp.isascii() and exp.isdecimal() and len(exp) <= _MAX_EXPIRY_DIGITS):
            raise InvalidInput("exp must be a Unix time in seconds.")
        if int(exp) <= self._now():
            raise Expired(_EXPIRED)
        return int(exp)

    def _parse(self, segment: str) -> Parameters:
        return parse_parameters(
            segment, focus_order=self._settings.focus_order, strict=self._settings.strict
        )

    def _configured(self, name: str, text: str) -> Parameters:
        try:
            return self._parse(text)
        except InvalidInput as error:
            raise SettingsError(f"{name}: {error.public}") from error
