"""Rules between the settings of image servers; `consistency` applies them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.settings.image_server_section import BUILTIN, DEFAULT, SPECIAL
from orchestrator.settings.sections import Settings

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def check_addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the addresses of all pools."""
    server = settings.image_server
    if server.kind != "builtin" and not server.addresses:
        yield (
            "image_server.addresses",
            f'image_server.kind = "{server.kind}" needs at least one address',
        )
    places = [("addresses", server.addresses), ("special_addresses", server.special_addresses)]
    places += [("pools", pool.addresses) for pool in server.pools.values()]
    for setting, addresses in places:
        for address in addresses:
            if not re.match(r"https?://[^/]", address):
                yield (
                    f"image_server.{setting}",
                    f"{address} should begin with http:// or https:// and name a host",
                )
        for address in {each for each in addresses if addresses.count(each) > 1}:
            yield f"image_server.{setting}", f"{address} occurs twice"


def check_pools(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the names and kinds of pools."""
    for name, pool in settings.image_server.pools.items():
        if name in (BUILTIN, DEFAULT, SPECIAL) or not _NAME.fullmatch(name):
            yield (
                "image_server.pools",
                f"{name} should be another name: at most 32 of a-z, 0-9, _ and -, and not "
                f"{BUILTIN}, {DEFAULT} or {SPECIAL}",
            )
        if pool.kind != "builtin" and not pool.addresses:
            yield "image_server.pools", f"{name} needs at least one address"
        if pool.kind != "cantaloupe" and pool.reads == "objects":
            yield "image_server.pools", f'{name} reads objects, so its kind should be "cantaloupe"'


def check_purges(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the credentials of Cantaloupe's API."""
    for name, pool in settings.image_server.all_pools().items():
        has_secret = bool(pool.purge_secret.get_secret_value())
        if bool(pool.purge_user) != has_secret:
            yield "image_server.purge_user", f"{name} needs purge_user and purge_secret, or neither"
        elif has_secret and pool.kind == "iipimage":
            yield "image_server.purge_user", f"{name} is of IIPImage, which has no API for purges"


def check_path_templates(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the paths that are requested from image servers."""
    server = settings.image_server
    templates = [
        ("path_template", server.path_template),
        ("special_path_template", server.special_path_template),
    ]
    for pool in server.pools.values():
        templates += [
            ("pools", each) for each in (pool.path_template, *pool.path_templates.values())
        ]
    for setting, template in templates:
        if template and not _is_template(template):
            yield (
                f"image_server.{setting}",
                f"{template} should begin with / and contain {{path}} and {{image}}, and no other "
                "braces",
            )


def check_rules(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the rules that choose a pool."""
    server = settings.image_server
    names = server.all_pools().keys()
    for rule in server.rules:
        if rule.pool not in names:
            known = ", ".join(sorted(names))
            yield "image_server.rules", f"there is no pool {rule.pool}; the pools are {known}"
        try:
            re.compile(rule.asset_id)
        except re.error as error:
            yield "image_server.rules", f"{rule.asset_id} is not a regular expression: {error}"
        if 0 < rule.max_pixels < rule.min_pixels:
            yield "image_server.rules", f"max_pixels {rule.max_pixels} is less than min_pixels"


def _is_template(text: str) -> bool:
    rest = text.replace("{path}", "", 1).replace("{image}", "", 1)
    is_whole = len(rest) == len(text) - len("{path}{image}")
    return text.startswith("/") and is_whole and "{" not in rest and "}" not in rest


IMAGE_SERVER_RULES = (
    check_addresses,
    check_pools,
    check_purges,
    check_path_templates,
    check_rules,
)
"""Every rule, in the order in which faults are reported."""
