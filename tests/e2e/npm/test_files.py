"""The published npm client: files."""

from __future__ import annotations

import base64
import os
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.npm.client import ClientError, NpmClient


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def done(answer: dict[str, Any], **fields: Any) -> bool:
    """Whether the answer says that all went well, and has these fields."""
    datetime.fromisoformat(answer["timestamp"])
    told = {name: answer[name] for name in fields}
    return answer["success"] is True and answer["exitCode"] == 0 and told == fields


@pytest.mark.parametrize("text", ["", "no newline", "a\n", "\n\n", "ä€😀\r\n\ttab", "$(touch x)\nSANDBOX_EOF\n'\""])
def test_a_text_comes_back_exactly(npm: NpmClient, session: str, text: str) -> None:
    assert done(npm.writeFile("a/b/text", text, None, session), path="a/b/text")
    read = npm.readFile("a/b/text", None, session)
    assert done(read, path="a/b/text", content=text, encoding="utf-8", isBinary=False, size=len(text.encode()))
    assert npm.readFile("a/b/text", "utf8", session)["content"] == text


def test_bytes_come_back_exactly(npm: NpmClient, session: str) -> None:
    data = bytes(range(256)) * 300
    assert done(npm.writeFile("picture.png", encoded(data), "base64", session))
    read = npm.readFile("picture.png", None, session)
    assert done(read, content=encoded(data), encoding="base64", isBinary=True, mimeType="image/png", size=len(data))
    assert npm.readFile("picture.png", "base64", session)["content"] == encoded(data)


def test_large_files_come_back_exactly(npm: NpmClient, session: str) -> None:
    text = "0123456789ä\n" * 400_000
    npm.writeFile("/tmp/large", text, None, session)
    assert npm.readFile("/tmp/large", None, session)["content"] == text
    assert npm.exec(session, "wc -c </tmp/large")["stdout"].strip() == str(len(text.encode()))


def test_relative_paths_begin_in_the_session_s_folder(npm: NpmClient, session: str) -> None:
    npm.mkdir("/tmp/deep/er", True, session)
    npm.exec(session, "cd /tmp/deep")
    npm.writeFile("er/note", "here", None, session)
    assert npm.exec(session, "cat /tmp/deep/er/note")["stdout"] == "here"
    assert [entry["name"] for entry in npm.listFiles("er", session)["files"]] == ["note"]


def test_a_folder_is_made(npm: NpmClient, session: str) -> None:
    assert done(npm.mkdir("/tmp/one", None, session), path="/tmp/one", recursive=False)
    with pytest.raises(ClientError, match="/tmp/one exists already"):
        npm.mkdir("/tmp/one", False, session)
    with pytest.raises(ClientError, match="does not exist"):
        npm.mkdir("/tmp/two/three", False, session)
    assert done(npm.mkdir("/tmp/two/three", True, session), recursive=True)
    assert done(npm.mkdir("/tmp/two/three", True, session))


def test_files_are_renamed_moved_and_deleted(npm: NpmClient, session: str) -> None:
    npm.writeFile("/tmp/old", "content", None, session)
    assert done(npm.renameFile("/tmp/old", "/tmp/new", session), oldPath="/tmp/old", newPath="/tmp/new")
    npm.mkdir("/tmp/into", False, session)
    moved = npm.moveFile("/tmp/new", "/tmp/into/moved", session)
    assert done(moved, sourcePath="/tmp/new", destinationPath="/tmp/into/moved")
    assert npm.readFile("/tmp/into/moved", None, session)["content"] == "content"
    assert done(npm.deleteFile("/tmp/into/moved", session), path="/tmp/into/moved")
    assert npm.listFiles("/tmp/into", session)["files"] == []


def test_what_is_not_there_is_an_error_that_names_it(npm: NpmClient, session: str) -> None:
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.readFile("/tmp/nowhere", None, session)
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.readFileStream("/tmp/nowhere", session)
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.deleteFile("/tmp/nowhere", session)
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.renameFile("/tmp/nowhere", "/tmp/x", session)
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.moveFile("/tmp/nowhere", "/tmp/x", session)
    with pytest.raises(ClientError, match="/tmp/nowhere does not exist"):
        npm.listFiles("/tmp/nowhere", session)
    with pytest.raises(ClientError, match="base64"):
        npm.writeFile("/tmp/x", "no base64!", "base64", session)


def test_a_list_tells_all_about_its_entries(npm: NpmClient, session: str) -> None:
    npm.exec(
        session,
        "mkdir -p /tmp/l/sub; cd /tmp/l; printf 12345 >file; chmod 750 file; ln -s file link; touch .dot sub/in",
    )
    listed = npm.listFiles("/tmp/l", session)
    assert done(listed, path="/tmp/l")
    by_name = {entry["name"]: entry for entry in listed["files"]}
    assert {name: entry["type"] for name, entry in by_name.items()} == {
        "file": "file",
        "link": "symlink",
        "sub": "directory",
    }
    entry = by_name["file"]
    assert (entry["absolutePath"], entry["relativePath"]) == ("/tmp/l/file", "file")
    assert (entry["size"], entry["mode"]) == (5, "rwxr-x---")
    assert entry["permissions"] == {"readable": True, "writable": True, "executable": True}
    datetime.fromisoformat(entry["modifiedAt"])

    def names(**options: bool) -> list[str]:
        return [entry["relativePath"] for entry in npm.listFiles("/tmp/l", session, options)["files"]]

    assert names(recursive=True) == ["file", "link", "sub", "sub/in"]
    assert names(includeHidden=True) == [".dot", "file", "link", "sub"]


@pytest.mark.parametrize("size", [0, 1, 196_608, 196_609, 1_000_000])
def test_a_stream_of_a_text_comes_whole(npm: NpmClient, session: str, size: int) -> None:
    text = ("ä€😀\n" * (size // 10 + 1)).encode()[:size].decode("utf-8", "ignore")
    npm.writeFile("/tmp/text.md", text, None, session)
    read = npm.readFileStream.file("/tmp/text.md", session)
    assert read["content"] == text
    assert read["bytes"] is False
    metadata = {"mimeType": "text/markdown", "size": len(text.encode()), "isBinary": False, "encoding": "utf-8"}
    assert read["metadata"] == metadata


@pytest.mark.parametrize("size", [1, 196_608, 196_610, 3_000_000])
def test_a_stream_of_bytes_comes_whole(npm: NpmClient, session: str, size: int) -> None:
    data = os.urandom(size - 1) + b"\xff"
    npm.writeFile("/tmp/data", encoded(data), "base64", session)
    read = npm.readFileStream.file("/tmp/data", session)
    assert base64.b64decode(read["content"]) == data
    assert read["bytes"] is True
    metadata = {"mimeType": "application/octet-stream", "size": size, "isBinary": True, "encoding": "base64"}
    assert read["metadata"] == metadata


@pytest.mark.parametrize("end", [b"\xe2\x82", b"\0\0"], ids=["half a character", "NUL"])
def test_text_that_ends_in_what_is_no_text_is_streamed_as_bytes(npm: NpmClient, session: str, end: bytes) -> None:
    data = b"text\n" * 100_000 + end
    npm.writeFile("/tmp/broken.txt", encoded(data), "base64", session)
    read = npm.readFileStream.file("/tmp/broken.txt", session)
    assert base64.b64decode(read["content"]) == data
    assert (read["bytes"], read["metadata"]["size"]) == (True, 500_002)
