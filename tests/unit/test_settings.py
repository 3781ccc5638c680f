"""Settings: where values come from, which value overrides another, how faults are reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from orchestrator.errors import SettingsError
from orchestrator.settings import (
    auth_rules,
    default_toml,
    image_server_rules,
    load,
    load_with_origins,
)
from orchestrator.settings import consistency as rules
from orchestrator.settings.field_types import parse_bytes
from orchestrator.settings.loader import FIELDS
from orchestrator.settings.sections import Settings

HOME = {"HOME": "/home/someone"}
CONFIG = Path(__file__).parents[2] / "config"
SQS = {"jobs.kind": "sqs", "jobs.sqs_queue": "jobs", "jobs.sqs_priority_queue": "jobs-first"}
PYRAMIDS = {"pyramids.source_bucket": "s", "pyramids.image_bucket": "i"}


def write_settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def faults(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(file, {**HOME, **(environ or {})}, overrides or {})
    return caught.value.public.splitlines()


def test_without_any_source_the_defaults_apply_and_paths_are_in_the_users_data_directory() -> None:
    settings = load(None, HOME, {})
    assert settings.server.port == 8080
    assert settings.data_dir == Path("/home/someone/.local/share/orchestrator")
    assert settings.storage.root == settings.data_dir / "objects"


def test_the_data_directory_follows_the_users_xdg_folder() -> None:
    assert load(None, {**HOME, "XDG_DATA_HOME": "/srv/d"}, {}).data_dir == Path(
        "/srv/d/orchestrator"
    )


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(
        None, {**HOME, "ORCHESTRATOR_LOG__ACCESS": "access.log"}, {"server.data_dir": "."}
    )
    assert settings.data_dir == tmp_path
    assert settings.log.access == str(tmp_path / "access.log")


def test_a_tilde_is_the_home_folder() -> None:
    assert load(None, HOME, {"server.data_dir": "~"}).data_dir == Path("~").expanduser()


def test_the_command_line_overrides_the_environment_which_overrides_the_file(
    tmp_path: Path,
) -> None:
    file = write_settings(tmp_path, "[server]\nport = 1\nprivate_port = 2\nworkers = 3\n")
    environ = {
        **HOME,
        "ORCHESTRATOR_SERVER__PRIVATE_PORT": "20",
        "ORCHESTRATOR_SERVER__WORKERS": "30",
    }
    loaded = load_with_origins(file, environ, {"server.workers": 4})
    server = loaded.settings.server
    assert (server.port, server.private_port, server.workers) == (1, 20, 4)
    assert loaded.origins["server.port"] == f"{file}:2"
    assert loaded.origins["server.private_port"] == "ORCHESTRATOR_SERVER__PRIVATE_PORT"
    assert loaded.origins["server.workers"] == "command line"
    assert loaded.origins["server.host"] == "default"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1", ["10.0.0.0/8", "192.0.2.1"]),
        ("SERVER__TRUSTED_PROXIES", '["::1"]', ["::1"]),
        (
            "SERVER__PATH_TEMPLATES",
            '{"a.example": "/x/{identifier}"}',
            {"a.example": "/x/{identifier}"},
        ),
        ("SERVER__PATH_TEMPLATES", '{"a.example" = "/y"}', {"a.example": "/y"}),
        ("INGEST__THUMBNAIL_POLICY", "800,200", [800, 200]),
        ("INGEST__THUMBNAIL_POLICY", '[800, "!100,100"]', [800, "!100,100"]),
        ("CACHE__MEMORY", "64 MiB", 64 * 1024**2),
        ("IMAGING__SIBLINGS", "false", False),
        ("SERVER__DRAIN_S", "1.5", 1.5),
    ],
)
def test_a_variable_of_the_environment_can_hold_every_type_of_value(
    variable: str, text: str, expected: object
) -> None:
    settings = load(None, {**HOME, f"ORCHESTRATOR_{variable}": text}, {})
    section, _, key = variable.lower().partition("__")
    assert getattr(getattr(settings, section), key) == expected


def test_variables_that_kubernetes_sets_for_a_service_named_orchestrator_are_ignored() -> None:
    environ = {
        **HOME,
        "ORCHESTRATOR_PORT": "tcp://10.0.0.1:8080",
        "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
    }
    assert load(None, environ, {}).server.port == 8080


def test_all_faults_are_reported_at_once_with_their_place_and_a_suggestion(tmp_path: Path) -> None:
    file = write_settings(
        tmp_path,
        '[server]\nprot = 5\nport = "abc"\n\n[storgae]\nx = 1\n\n'
        '[image_server]\nkind = "iipimage"\n\n[ingest]\nmax_bytes = "5 parsecs"\n',
    )
    lines = faults(
        file,
        {"ORCHESTRATOR_CACHE__MEMROY": "1", "ORCHESTRATOR_SERVER__WORKERS": "0"},
        {"iiif.max_width": 0},
    )
    for expected in (
        f"{file}:2: server.prot is not a setting; did you mean server.port?",
        f"{file}:3: server.port: should be a valid integer",
        f"{file}:5: [storgae] is not a section; did you mean storage?",
        "ORCHESTRATOR_CACHE__MEMROY: cache.memroy is not a setting; did you mean cache.memory?",
        "ORCHESTRATOR_SERVER__WORKERS: server.workers: should be greater than or equal to 1",
        "command line: iiif.max_width: should be greater than or equal to 1",
        f"{file}:12: ingest.max_bytes: should be an amount of bytes",
        'default: image_server.addresses: image_server.kind = "iipimage" needs at least one',
    ):
        assert any(line.startswith(expected) for line in lines), (expected, lines)
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server.prot = 1", 1),
        ("# a comment\n[server]\n\nprot = 1", 4),
        ("server = {prot = 1}", 1),
        ('[log]\nlevel = "info"\n[server.prot]\nx = 1', 3),
        ('["server"]\n"prot" = 1', 2),
    ],
    ids=["dotted", "plain", "inline table", "sub-table", "quoted"],
)
def test_a_fault_names_its_line_however_the_key_is_written(
    tmp_path: Path, text: str, line: int
) -> None:
    file = write_settings(tmp_path, text)
    assert faults(file)[0].startswith(f"{file}:{line}: server.prot is not a setting")


def test_a_removed_setting_is_refused_with_advice_unless_its_value_was_off(tmp_path: Path) -> None:
    [fault] = faults(write_settings(tmp_path, "[cache]\nsources_shared = true"))
    assert "cache.sources_shared was removed" in fault
    assert "cache.sources_folder" in fault
    load(write_settings(tmp_path, "[cache]\nsources_shared = false"), HOME, {})
    load(None, {**HOME, "ORCHESTRATOR_CACHE__SOURCES_SHARED": "false"}, {})


def test_a_file_that_is_not_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in faults(write_settings(tmp_path, "[server]\nport = = 1"))[0]


def test_a_missing_file_is_reported_by_name() -> None:
    assert faults(Path("/nowhere/x.toml")) == [
        "/nowhere/x.toml: cannot be read: No such file or directory"
    ]


HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g"


def a_service(**values: Any) -> dict[str, Any]:
    return {"name": "staff", "roles": ["staff"], "label": "Library", **values}


def test_a_service_by_which_users_sign_in_is_accepted() -> None:
    values = {
        "auth.services": [a_service(), a_service(name="room", kind="kiosk", networks=["::1/128"])],
        "auth.users": [{"name": "ada", "password": HASH, "roles": ["staff"]}],
        "auth.viewer_origins": ["https://viewer.example.org:8443"],
        "auth.openid_issuer": "http://127.0.0.1:9400",
    }
    assert load(None, HOME, values).auth.services[1].networks == ["::1/128"]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"storage.kind": "s3"}, "storage.bucket"),
        ({"server.port": 9000, "server.private_port": 9000}, "server.private_port"),
        ({"server.port": 0, "server.workers": 2}, "server.port"),
        ({"storage.access_key": "a"}, "storage.secret_key"),
        ({"storage.endpoint": "minio:9000"}, "storage.endpoint"),
        ({"image_server.kind": "cantaloupe"}, "image_server.addresses"),
        ({"image_server.addresses": ["nowhere"]}, "image_server.addresses"),
        ({"image_server.addresses": ["http://a", "http://a"]}, "image_server.addresses"),
        ({"image_server.rules": [{"pool": "far"}]}, "image_server.rules"),
        ({"image_server.rules": [{"pool": "builtin", "asset_id": "("}]}, "image_server.rules"),
        (
            {"image_server.rules": [{"pool": "default", "min_pixels": 2, "max_pixels": 1}]},
            "image_server.rules",
        ),
        ({"image_server.pools": {"Far": {"addresses": ["http://a"]}}}, "image_server.pools"),
        ({"image_server.pools": {"special": {"addresses": ["http://a"]}}}, "image_server.pools"),
        ({"image_server.pools": {"far": {}}}, "image_server.pools"),
        ({"image_server.pools": {"far": {"addresses": ["a"]}}}, "image_server.pools"),
        (
            {"image_server.pools": {"far": {"kind": "builtin", "reads": "objects"}}},
            "image_server.pools",
        ),
        ({"image_server.path_template": "/{path}"}, "image_server.path_template"),
        (
            {
                "image_server.pools": {
                    "far": {"addresses": ["http://a"], "path_templates": {"3": "x"}}
                }
            },
            "image_server.pools",
        ),
        ({"database.pool_min": 9}, "database.pool_min"),
        ({"database.dsn": "mysql://x"}, "database.dsn"),
        ({"cache.memory_max_entry": "1GiB"}, "cache.memory_max_entry"),
        ({"cache.max_entry": "1TB"}, "cache.max_entry"),
        ({"ingest.thumbnail_policy": [0]}, "ingest.thumbnail_policy"),
        ({"ico.bucket": "b", "ico.folder": "/f"}, "ico.folder"),
        ({"ico.folder": "pictures"}, "ico.folder"),
        ({"ico.access_key": "a"}, "ico.secret_key"),
        ({"ico.endpoint": "minio:9000"}, "ico.endpoint"),
        ({"ico.buckets": [{"region": "eu", "bucket": "b", "access_key": "a"}]}, "ico.buckets"),
        ({"ico.secrets": ["short"]}, "ico.secrets"),
        ({"ico.purge_secrets": [""]}, "ico.purge_secrets"),
        ({"ico.presets": {"a/b": "width=5"}}, "ico.presets"),
        ({"ico.quota": "1TB"}, "ico.quota"),
        ({"ico.quota": "1GB", "cache.shares": {"ico": "2GB"}}, "ico.quota"),
        ({"pyramids.source_bucket": "s"}, "pyramids.image_bucket"),
        ({"pyramids.image_bucket": "i"}, "pyramids.source_bucket"),
        ({**PYRAMIDS, "pyramids.image_bucket": "s"}, "pyramids.image_prefix"),
        ({**PYRAMIDS, "storage.kind": "s3", "storage.bucket": "i"}, "pyramids.image_bucket"),
        ({"pyramids.write_notes": True}, "pyramids.process_bucket"),
        ({"pyramids.sqs_queue": "events"}, "pyramids.source_bucket"),
        ({"pyramids.access_key": "a"}, "pyramids.secret_key"),
        ({"pyramids.endpoint": "minio:9000"}, "pyramids.endpoint"),
        ({"pyramids.logins": {"image": {"endpoint": "minio:9000"}}}, "pyramids.logins"),
        ({"pyramids.event_secret": "short"}, "pyramids.event_secret"),
        ({"pyramids.sns_topics": ["topic"]}, "pyramids.sns_topics"),
        ({"pyramids.time_zone": "EDT5"}, "pyramids.time_zone"),
        ({"pyramids.schedule": "5:30am"}, "pyramids.schedule"),
        ({"pyramids.schedule": "0 0 31 2 *"}, "pyramids.schedule"),
        ({"iiif.default_space": "one"}, "iiif.default_space"),
        (
            {"delivery.upscale_rules": [{"asset_id": "(", "max_percent": 10}]},
            "delivery.upscale_rules",
        ),
        ({"server.trusted_proxies": ["proxy"]}, "server.trusted_proxies"),
        ({"auth.cookie": "a b"}, "auth.cookie"),
        ({"auth.services": [a_service()]}, "auth.services"),
        ({"auth.services": [a_service(password="secret")]}, "auth.services"),
        ({"auth.services": [a_service(name="token", password=HASH)]}, "auth.services"),
        ({"auth.services": [a_service(kind="kiosk")]}, "auth.services"),
        ({"auth.services": [a_service(kind="kiosk", networks=["here"])]}, "auth.services"),
        ({"auth.services": [a_service(kind="openid")]}, "auth.openid_issuer"),
        ({"auth.users": [{"name": "a", "password": "b", "roles": ["c"]}]}, "auth.users"),
        ({"auth.viewer_origins": ["https://a.example/viewer"]}, "auth.viewer_origins"),
        ({"auth.cookie_domain": "a;b"}, "auth.cookie_domain"),
        ({"auth.openid_issuer": "http://login.example.org"}, "auth.openid_issuer"),
        ({"jobs.lease_s": 20}, "jobs.lease_s"),
        ({**SQS, "jobs.sqs_queue": ""}, "jobs.sqs_queue"),
        ({**SQS, "jobs.sqs_priority_queue": ""}, "jobs.sqs_priority_queue"),
        ({**SQS, "jobs.sqs_priority_queue": "jobs"}, "jobs.sqs_priority_queue"),
        ({**SQS, "jobs.sqs_access_key": "id"}, "jobs.sqs_secret_key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_contradict_each_other_are_reported(
    values: dict[str, Any], name: str
) -> None:
    assert [line.partition(": ")[2].partition(":")[0] for line in faults(None, None, values)] == [
        name
    ]


def test_complete_settings_of_sqs_are_accepted() -> None:
    assert load(None, HOME, SQS).jobs.sqs_queue == "jobs"


@pytest.mark.parametrize("kind", ["postgresql", "pgqueuer"])
def test_the_queue_without_sqs_has_a_present_and_a_former_name(kind: str) -> None:
    assert load(None, HOME, {"jobs.kind": kind}).jobs.kind == "postgresql"


def test_each_missing_queue_of_sqs_is_reported_once() -> None:
    lines = faults(None, None, {"jobs.kind": "sqs"})
    assert [line.split(": ")[1] for line in lines] == ["jobs.sqs_queue", "jobs.sqs_priority_queue"]


def test_every_rule_of_the_module_is_applied() -> None:
    functions = [
        each
        for module, prefix in ((rules, "_"), (auth_rules, "check_"), (image_server_rules, "check_"))
        for name, each in vars(module).items()
        if isinstance(each, FunctionType) and name.startswith(prefix)
    ]
    assert set(rules.RULES) == set(functions)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE__DSN", "mysql://root:hunter2@db"),
        ("INGEST__PURGE_HEADERS", "Authorization: Bearer hunter2"),
        ("INGEST__PURGE_HEADERS", '{"Authorization": ["Bearer hunter2"]}'),
        ("INGEST__WEBHOOK_HEADERS", '["hunter2"]'),
        ("ICO__SECRETS", "hunter2"),
        ("ICO__BUCKETS", '[{"region": "eu", "secret_key": "hunter2"}]'),
    ],
)
def test_a_fault_never_contains_a_secret(variable: str, text: str) -> None:
    lines = faults(None, {f"ORCHESTRATOR_{variable}": text})
    assert not any("hunter2" in line for line in lines)


DOCUMENTED = {
    **HOME,
    "STORAGE_BACKEND": "s3",
    "TEMP_FOLDER": "/srv/images/temp",
    "INCOMING_FOLDER": "",
    "ACTIVE_FOLDER": "",
    "INCOMING_BUCKET": "incoming",
    "INCOMING_PREFIX": "EXO",
    "ACTIVE_BUCKET": "active",
    "ACTIVE_PREFIX": "EXO",
    "EXO_ENDPOINT": "https://sos.exo.io",
    "EXO_ACCESS_KEY_ID": "id",
    "EXO_SECRET_KEY": "secret",
    "API_SECRET_KEY": "12345",
}
"""The example of the upload service's document."""


def test_the_variables_of_the_upload_service_are_understood() -> None:
    uploads = load(None, DOCUMENTED, {}).uploads
    assert (uploads.backend, uploads.temp_folder) == ("s3", "/srv/images/temp")
    assert (uploads.incoming_bucket, uploads.active_bucket) == ("incoming", "active")
    assert uploads.incoming_endpoint == uploads.active_endpoint == "https://sos.exo.io"
    assert uploads.incoming_access_key.get_secret_value() == "id"
    assert uploads.active_secret_key.get_secret_value() == "secret"
    assert [each.get_secret_value() for each in uploads.secrets] == ["12345"]
    assert uploads.cache_control == "public, max-age=3600"
    assert uploads.enabled


def test_each_bucket_has_the_connection_of_its_own_prefix() -> None:
    environ = {
        **DOCUMENTED,
        "ACTIVE_PREFIX": "AWS",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "S3_SIGNATURE_VERSION": "s3v4",
        "ROUTE_PREFIX": "/images",
        "CACHE_CONTROL": "public, max-age=60",
        "AUTO_ORIENT_ORIGINAL": "1",
        "RESIZING_CONFIG": '[{"suffix": "L", "convert": ["-resize", "780x487>"]}]',
    }
    uploads = load(None, environ, {}).uploads
    assert (uploads.incoming_endpoint, uploads.active_endpoint) == ("https://sos.exo.io", "")
    assert uploads.active_access_key.get_secret_value() == ""
    assert (uploads.active_region, uploads.signature_version) == ("eu-west-1", "s3v4")
    assert (uploads.route_prefix, uploads.cache_control) == ("/images", "public, max-age=60")
    assert uploads.auto_orient_original
    assert [each.suffix for each in uploads.resizing] == ["L"]


def test_the_object_store_does_not_follow_the_variables_of_the_upload_service() -> None:
    settings = load(None, DOCUMENTED, {})
    assert (settings.storage.kind, settings.storage.bucket) == ("filesystem", "")


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"STORAGE_BACKEND": "local", "INCOMING_FOLDER": "/in"}, "ACTIVE_FOLDER"),
        ({"STORAGE_BACKEND": "local", "ACTIVE_FOLDER": "/out"}, "INCOMING_FOLDER"),
        ({"STORAGE_BACKEND": "s3", "INCOMING_BUCKET": "in"}, "ACTIVE_BUCKET"),
        (
            {"STORAGE_BACKEND": "s3", "ACTIVE_BUCKET": "out", "ACTIVE_FOLDER": "/a"},
            "INCOMING_BUCKET",
        ),
    ],
)
def test_a_backend_without_its_stores_is_a_fault_that_names_the_variable(
    environ: dict[str, str], missing: str
) -> None:
    (line,) = faults(None, environ)
    assert missing in line


def test_a_backend_that_does_not_exist_is_a_fault() -> None:
    (line,) = faults(None, {"STORAGE_BACKEND": "ftp"})
    assert line.startswith("STORAGE_BACKEND")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('[{"suffix": "BI", "convert": ["-resize", "10x10>", "-blur", "3"]}]', "-blur"),
        ('[{"suffix": "1", "convert": ["-resize", "10x10>"]}]', "suffix"),
        ('[{"suffix": "BI", "convert": ["-resize", "wide"]}]', "wide"),
        ('[{"suffix": "BI", "convert": []}, {"suffix": "BI", "convert": []}]', "twice"),
        ('[{"suffix": "BI", "convert": ["-resize", "10x10", "-extent", "20x20"]}]', "border"),
        ("no list", "RESIZING_CONFIG"),
    ],
)
def test_a_resizing_configuration_that_is_not_supported_is_a_fault(config: str, named: str) -> None:
    lines = faults(None, {"RESIZING_CONFIG": config})
    assert any(named in line for line in lines)
    assert all(line.startswith("RESIZING_CONFIG") for line in lines)


def test_the_variables_of_mash_configure_ico() -> None:
    environ = {
        **HOME,
        "MASH_ICO_QUOTA": "5000000",
        "MASH_ICO_S3_REGION": "eu-west-1",
        "MASH_ICO_S3_BUCKET": "press",
        "MASH_ICO_S3_ACCESS_KEY": "id",
        "MASH_ICO_S3_SECRET_KEY": "secret",
    }
    ico = load(None, environ, {}).ico
    assert (ico.quota, ico.region, ico.bucket) == (5_000_000, "eu-west-1", "press")
    assert ico.access_key.get_secret_value() == "id"
    assert ico.secret_key.get_secret_value() == "secret"


def test_the_variables_of_the_replaced_pyramid_system_are_understood() -> None:
    environ = {
        **HOME,
        "RBSC_BUCKET": "source",
        "PROCESS_BUCKET": "process",
        "IMAGE_BUCKET": "images",
        "MAX_THREADS": "3",
    }
    pyramids = load(None, environ, {}).pyramids
    assert (pyramids.source_bucket, pyramids.process_bucket) == ("source", "process")
    assert (pyramids.image_bucket, pyramids.max_threads) == ("images", 3)
    assert pyramids.has_buckets


def test_a_variable_of_the_product_overrides_an_alias() -> None:
    environ = {**HOME, "CACHE_CONTROL": "a", "ORCHESTRATOR_UPLOADS__CACHE_CONTROL": "b"}
    assert load(None, environ, {}).uploads.cache_control == "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("500MB", 500_000_000),
        ("2GiB", 2 * 1024**3),
        ("1.5 k", 1500),
        (" 3 TB ", 3 * 10**12),
    ],
)
def test_amounts_of_bytes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 XB", "5i", "1e9"])
def test_other_text_is_not_an_amount_of_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="amount of bytes"):
        parse_bytes(text)


def test_loaded_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load(None, HOME, {}).server.port = 1


def test_secrets_are_masked_where_settings_are_printed() -> None:
    settings = load(None, HOME, {"auth.token_secret": "hunter2"})
    assert "hunter2" not in repr(settings)


def test_every_setting_has_a_text() -> None:
    assert [name for name, info in FIELDS.items() if not info.description] == []


def test_every_secret_has_the_type_of_a_secret() -> None:
    names = ("secret", "password", "dsn", "access_key")
    secret = [name for name in FIELDS if name.rpartition(".")[2].endswith(names)]
    plain = [name for name in secret if FIELDS[name].annotation is not SecretStr]
    assert plain == ["delivery.cache_secret"]  # a Cache-Control header


def test_the_documented_defaults_are_the_defaults() -> None:
    assert load(CONFIG / "default.toml", HOME, {}) == load(None, HOME, {})


def test_default_toml_is_current() -> None:
    assert (CONFIG / "default.toml").read_text() == default_toml(), "run `make docs`"


@pytest.mark.parametrize("name", ["dev.toml", "test.toml"])
def test_a_profile_can_be_used(name: str) -> None:
    assert isinstance(load(CONFIG / name, HOME, {}), Settings)


def test_the_report_names_the_unknown_pool_of_a_rule_and_the_known_ones() -> None:
    values = {
        "image_server.pools": {"near": {"addresses": ["http://a"]}},
        "image_server.rules": [{"pool": "near"}, {"pool": "far"}],
    }
    (line,) = faults(None, None, values)
    assert "there is no pool far; the pools are builtin, default, near" in line
