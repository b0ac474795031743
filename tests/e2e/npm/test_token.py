"""The client over TCP, where it can set no header: a token of the sandbox stands in its base URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.e2e.npm.client import ClientError, NpmClient
from tests.tenants import serving


def test_a_token_in_the_path_drives_one_sandbox(package: Path, capable: None) -> None:
    with serving() as server, Sandbox("box", url=server.url, api_key=server.key("blue").key) as box:
        token = box.create_token(expires_in=600)
        with NpmClient(package, f"{server.url}/v1/with/{token}") as npm:
            npm.createSession({"id": "npm"})
            assert npm.exec("npm", "echo $((6 * 7))")["stdout"] == "42\n"
            box.write_file("a", "by the SDK")
            assert npm.exec("npm", "cat /workspace/a")["stdout"] == "by the SDK"
            box.sleep()
            assert npm.exec("npm", "cat /workspace/a")["stdout"] == "by the SDK"
        with NpmClient(package, f"{server.url}/v1/with/{token[:-1]}") as npm, pytest.raises(ClientError):
            npm.exec("npm", "true")
