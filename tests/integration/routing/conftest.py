"""The object store in both forms."""

from tests.support.server_fixtures import s3_server

__all__ = ["s3_server"]
