"""Servers that the product is compared with, on free loopback ports: nginx for static files,
iipsrv behind nginx for IIIF.

Both are Debian packages (`nginx-light`, `iipimage-server`). A missing one raises
ServerMissingError with the package's name. They write only to a temporary folder, which is removed
when they stop.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import patience
from tests.support.serve_process import fetch, free_port

IIPSRV = Path("/usr/lib/iipimage-server/iipsrv.fcgi")
_LOG_FORMAT = (
    """'{"time":"$time_iso8601","request":"$request","status":$status,"bytes":$body_bytes_sent,"""
    """"ms":$request_time,"agent":"$http_user_agent"}'"""
)


class ServerMissingError(RuntimeError):
    """The program is not installed. The message names the package to install."""


@contextmanager
def nginx_static(folder: Path, *, access_log: bool = False) -> Iterator[str]:
    """nginx with one worker process that serves the files of `folder`; yields `http://127.0.0.1:P`.

    With `access_log` it writes one JSON line per request to a file, buffered as in production.
    """
    directives = (
        f"root {folder}; sendfile on; tcp_nopush on; open_file_cache max=1000 inactive=60s;"
    )
    with _nginx(f"location / {{ {directives} }}", access_log=access_log) as address:
        yield address


@contextmanager
def iipsrv(folder: Path, *, processes: int = 2, quality: int = 80, port: int = 0) -> Iterator[str]:
    """iipsrv in `processes` processes behind nginx; yields the prefix `http://127.0.0.1:P/iiif/2`,
    where P is `port` or a free one.

    An identifier is a path below `folder`, percent-encoded. Debian 12 has iipsrv 1.1, which
    implements only version 2 of the API.
    """
    with iipsrv_processes(folder, processes=processes, quality=quality, port=port) as server:
        yield server.prefix


@dataclass
class IipsrvProcesses:
    """The processes of one iipsrv, which take their requests from one socket."""

    prefix: str
    _start: Callable[[], subprocess.Popen[bytes]]
    _running: list[subprocess.Popen[bytes]]

    def kill_one(self) -> None:
        """Kill the process that runs longest, with the request that it works on."""
        process = self._running.pop(0)
        process.kill()
        process.wait()

    def start_one(self) -> None:
        """Start one more process."""
        self._running.append(self._start())


@contextmanager
def iipsrv_processes(
    folder: Path, *, processes: int = 2, quality: int = 80, port: int = 0
) -> Iterator[IipsrvProcesses]:
    """As `iipsrv`; yields its processes."""
    if not IIPSRV.exists():
        raise ServerMissingError("iipsrv is not installed: apt-get install iipimage-server")
    with ExitStack() as stack:
        home = Path(stack.enter_context(_temporary("iipsrv")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        path = home / "socket"
        listener.bind(str(path))
        listener.listen(512)
        settings = {
            "FILESYSTEM_PREFIX": f"{folder}/",
            "JPEG_QUALITY": str(quality),
            "CORS": "*",
            "LOGFILE": str(home / "log"),
            "VERBOSITY": "0",
        }

        def start() -> subprocess.Popen[bytes]:
            words = [str(IIPSRV)]
            return stack.enter_context(_process(words, env=settings, stdin=listener.fileno()))

        running = [start() for _ in range(processes)]
        address = stack.enter_context(_nginx(_fastcgi(path), port=port))
        yield IipsrvProcesses(f"{address}/iiif/2", start, running)


def _fastcgi(path: Path) -> str:
    """A location that passes the raw target to iipsrv, with %2F as the client wrote it. It accepts
    `/iiif/2/...` and `/fcgi-bin/iipsrv.fcgi?IIIF=...`.
    """
    return f"""
    location / {{
      set $query $query_string;
      if ($request_uri ~ "^/iiif/[0-9]/([^?]*)") {{ set $query "IIIF=$1"; }}
      fastcgi_pass unix:{path};
      fastcgi_param QUERY_STRING $query;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param REQUEST_URI $request_uri;
      fastcgi_param HTTP_HOST $http_host;
      fastcgi_param HTTP_ACCEPT $http_accept;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
      fastcgi_read_timeout 120s;
    }}"""


@contextmanager
def _nginx(locations: str, *, access_log: bool = False, port: int = 0) -> Iterator[str]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ServerMissingError("nginx is not installed: apt-get install nginx-light")
    with _temporary("nginx") as home:
        port = port or free_port()
        logging = (
            f"access_log {home}/access.log json buffer=64k flush=1s"
            if access_log
            else "access_log off"
        )
        scratch = "".join(
            f"{name}_temp_path {home}/{name}; "
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"""
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
daemon off;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 2048; }}
http {{
  types {{ image/jpeg jpg; application/json json; }}
  default_type application/octet-stream;
  {scratch}
  log_format json escape=json {_LOG_FORMAT};
  {logging};
  keepalive_requests 100000000;
  server {{ listen 127.0.0.1:{port} reuseport backlog=1024; merge_slashes off; {locations} }}
}}
"""
        configuration = Path(home) / "nginx.conf"
        configuration.write_text(text)
        with _process([program, "-p", home, "-e", f"{home}/error.log", "-c", str(configuration)]):
            _wait_for(f"http://127.0.0.1:{port}/", Path(home) / "error.log")
            yield f"http://127.0.0.1:{port}"


def _wait_for(address: str, log: Path) -> None:
    deadline = time.monotonic() + 10 * patience()
    while time.monotonic() < deadline:
        with suppress(OSError):
            fetch(address, timeout_s=2)
            return
        time.sleep(0.05)
    raise TimeoutError(f"{address} does not answer: {log.read_text() if log.exists() else ''}")


@contextmanager
def _temporary(name: str) -> Iterator[str]:
    home = tempfile.mkdtemp(prefix=f"reference-{name}-")
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _process(
    words: list[str], *, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        words,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
