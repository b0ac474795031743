"""nginx, the peer of what the server passes on: in front of the same service, configured as one would for speed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.debian import program
from bench.harness import UnavailableError

__all__ = ["nginx", "nginx_or_none"]

# It speaks HTTP/1.1 with kept connections to the service, as we do, and says who asks; it stores no body on the disk.
_CONFIG = """
daemon off;
user root;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  proxy_set_header Host localhost;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header Connection $connection_upgrade;
  proxy_set_header Upgrade $http_upgrade;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream service {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://service; }} }}
}}
"""


@contextmanager
def nginx(upstream: str, inside: int | None = None) -> Iterator[int]:
    """Runs it on a port of 127.0.0.1, which is what is given.

    Args:
        upstream: the service: ``127.0.0.1:3000``, ``unix:/path``.
        inside: a process in whose network the service is. The port is of the caller's network all the same:
            nginx inherits the listening socket, and makes its connections in there, as the server does for previews.

    Raises:
        UnavailableError: there is no nginx here.
    """
    nginx_program = program("nginx", "-v")
    with (
        tempfile.TemporaryDirectory(prefix="nginx-", dir="/tmp") as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
    ):
        port = listener.getsockname()[1]
        config = Path(folder, "nginx.conf")
        config.write_text(_CONFIG.format(folder=folder, upstream=upstream, port=port))
        line = [str(nginx_program), "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        if inside is not None:
            line = ["nsenter", f"--net=/proc/{inside}/ns/net", *line]
        inherited = os.environ | {"NGINX": f"{listener.fileno()};"}
        with subprocess.Popen(line, env=inherited, pass_fds=[listener.fileno()]) as process:
            listener.close()
            try:
                yield port
            finally:
                process.terminate()


@contextmanager
def nginx_or_none(upstream: str, inside: int | None = None) -> Iterator[int | None]:
    """The same; None, and a line that says why, when there is none here."""
    try:
        program("nginx", "-v")
    except UnavailableError as error:
        print(f"left out, nginx can't be had here: {error}", file=sys.stderr)
        yield None
        return
    with nginx(upstream, inside) as port:
        yield port
