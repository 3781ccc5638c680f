"""The records of running installations."""

from pathlib import Path

from orchestrator.processes.running_installations import (
    EMBEDDED,
    Installation,
    find_running,
    installation_of,
    recorded,
    records_folder,
)
from orchestrator.settings import load


def an_installation(data_dir: Path) -> Installation:
    data_dir.mkdir()
    return Installation(data_dir, EMBEDDED)


def test_an_installation_is_found_while_it_runs(tmp_path):
    folder = tmp_path / "records"
    one, two = an_installation(tmp_path / "one"), an_installation(tmp_path / "two")
    with recorded(one, folder), recorded(two, folder):
        assert find_running(folder) == [one, two]
    assert find_running(folder) == []
    assert list(folder.iterdir()) == []


def test_the_record_of_a_killed_process_is_ignored_and_removed_with_its_directory(tmp_path):
    folder = tmp_path / "records"
    installation = an_installation(tmp_path / "data")
    with recorded(installation, folder):
        [record] = folder.iterdir()
        text = record.read_bytes()
    record.write_bytes(text)
    assert find_running(folder) == []
    with recorded(installation, folder):
        assert find_running(folder) == [installation]
    record.write_bytes(text)
    installation.data_dir.rmdir()
    assert find_running(folder) == []
    assert list(folder.iterdir()) == []


def test_an_installation_runs_without_a_place_for_its_record(tmp_path):
    (tmp_path / "file").touch()
    with recorded(an_installation(tmp_path / "data"), tmp_path / "file" / "records"):
        assert find_running(tmp_path / "file" / "records") == []


def test_a_record_never_has_the_credentials_of_the_database(tmp_path):
    address = "postgresql://reader:secret@db.example.org:5433/images"
    settings = load(None, {}, {"server.data_dir": str(tmp_path), "database.dsn": address})
    installation = installation_of(settings)
    assert installation.database == "db.example.org:5433/images"
    with recorded(installation, tmp_path / "records"):
        [record] = (tmp_path / "records").iterdir()
        assert b"secret" not in record.read_bytes()
        assert b"reader" not in record.read_bytes()


def test_records_are_in_the_state_directory_of_the_user():
    assert records_folder({"HOME": "/home/a"}) == Path("/home/a/.local/state/orchestrator/running")
    assert records_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/orchestrator/running")
