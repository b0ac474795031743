"""`create`, `ls` and `rm`."""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace

from sandcove.cli.secrets import given
from sandcove.client._sync.client import Client
from sandcove.client._sync.sandbox import Sandbox
from sandcove.client.check import check_labels, check_sandbox_id
from sandcove.client.endpoint import Endpoint
from sandcove.errors import InvalidRequestError, SandboxError, SandboxNotFoundError
from sandcove.wire.codec import encode
from sandcove.wire.models import SandboxInfo

__all__ = ["client", "create", "existing", "known", "ls", "rm"]


def client() -> Client:
    """The client of the server that the environment names."""
    return Client.of(Endpoint.server(None, None))


def known(name: str) -> SandboxInfo:
    """What the server knows of the sandbox of this name; does not wake it.

    Raises:
        SandboxNotFoundError: there is none.
    """
    try:
        return client().info(check_sandbox_id(name))
    except SandboxNotFoundError:
        raise SandboxNotFoundError(
            f"there is no sandbox {name!r}; `sandcove ls` shows those there are, `sandcove create {name}` makes it"
        ) from None


def existing(name: str) -> Sandbox:
    """The sandbox of this name, as `known`: a slip of the pen shall not make a new one."""
    return Sandbox(known(name).id)


def create(options: Namespace) -> int:
    """`sandcove create`."""
    name = f"box-{secrets.token_hex(4)}" if options.name is None else options.name
    sandbox = Sandbox(
        name,
        labels=dict(options.label) or None,
        env=dict(options.env) or None,
        sleep_after=options.sleep_after,
        keep_alive=options.keep_alive or None,
        time_to_live=options.time_to_live,
        egress=options.egress,
        limits=dict(options.limit) or None,
        secrets=given(options),
    )
    sandbox.wake()
    print(encode(client().info(name)).decode() if options.json else name)
    return 0


def ls(options: Namespace) -> int:
    """`sandcove ls`."""
    listing = client().list(check_labels(dict(options.label)))
    if options.json:
        print(encode(listing).decode())
        return 0
    rows = [
        [
            info.id + (" (anonymous)" if info.anonymous else ""),
            info.state + (" (unfiltered network)" if info.egress == "unfiltered" else ""),
            info.created_at,
            info.last_active_at,
            info.expires_at or "never",
            " ".join(f"{name}={value}" for name, value in sorted(info.labels.items())),
        ]
        for info in listing.sandboxes
    ]
    from sandcove.cli.draw import table

    table(["name", "state", "created", "last active", "expires", "labels"], rows)
    return 0


def rm(options: Namespace) -> int:
    """`sandcove rm`."""
    if options.all == bool(options.names):
        raise InvalidRequestError("give the names of the sandboxes to destroy, or --all")
    names = [info.id for info in client().list(None).sandboxes] if options.all else options.names
    failed = 0
    for name in names:
        try:
            client().destroy(check_sandbox_id(name))
        except SandboxNotFoundError as error:
            if not options.all:  # else somebody else was faster
                failed = _fail(error)
        except SandboxError as error:
            failed = _fail(error)
        else:
            print(name, flush=True)
    return failed


def _fail(error: SandboxError) -> int:
    print("sandcove:", error.message, file=sys.stderr)
    return 1
