"""The S3 server of the tests that run on both kinds of object store."""

from tests.support.server_fixtures import s3_server

__all__ = ["s3_server"]
