# Written by scripts/unasync.py from _async/sandbox.py. Change that file, not this one.
"""A sandbox, as its user holds it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.client import Client
from sandcove.client._sync.code import Code
from sandcove.client._sync.commands import Commands
from sandcove.client._sync.egress import Egress
from sandcove.client._sync.git import Git
from sandcove.client._sync.limits import Limits
from sandcove.client._sync.ports import Ports
from sandcove.client._sync.processes import Processes
from sandcove.client._sync.secrets import Secrets
from sandcove.client._sync.session import Session
from sandcove.client._sync.transfer import Transfer
from sandcove.client.check import (
    AnyLimits,
    StrPath,
    check_egress,
    check_env,
    check_flag,
    check_given_secrets,
    check_labels,
    check_limits,
    check_path,
    check_sandbox_id,
    check_seconds,
    check_session_id,
    check_text,
)
from sandcove.client.endpoint import Endpoint
from sandcove.client.hooks import Hooks, OnCommandComplete, OnCommandStart, OnOutput
from sandcove.client.results import SandboxInfo, log
from sandcove.errors import InvalidRequestError, SandboxError, SandboxNotFoundError, SessionNotFoundError
from sandcove.wire import models
from sandcove.wire.keys import CreateToken
from sandcove.wire.secrets import Secret

__all__ = ["Sandbox", "get_sandbox", "list_sandboxes"]


class Sandbox(
    Commands,
    Processes,
    Git,
    Transfer,
    Code,
    Ports,
    Egress,
    Limits,
    Secrets,
):
    """An isolated Linux machine in miniature: files that persist, commands, sessions.

    With an id it is the sandbox of that name: the first call creates it, or wakes it with its files, and it lives
    until it is destroyed. Without one it is anonymous: it is destroyed at the end of its ``with`` block, else when it
    is closed or collected, or the process ends.

    No I/O is done before the first call or the beginning of a ``with`` block.

    Args:
        id: 1 to 63 characters of ``a-z 0-9 -``.
        labels: to find it by, see `list_sandboxes`. They take the place of those that it has.
        env: environment variables of everything in it, added to those that it has.
        sleep_after: seconds of idleness after which it sleeps, 0 for never; its files stay, its processes end.
        keep_alive: only `sleep` puts it to sleep, whatever `sleep_after` is: for a service that has to run.
        time_to_live: seconds after the first call of this object at which it is destroyed, in use or not; see
            `set_time_to_live`.
        egress: what it may reach: ``"none"`` (a new one's default), ``"public"``, ``"unfiltered"`` (the machine's own
            network, if its operator lets it), or a list of presets (``"python"``, ``"node"``, ``"git"``, ``"debian"``)
            and hosts with or without a port: ``"pypi.org"``, ``"*.npmjs.org:443"``.
        limits: what it may use at most, as `ResourceLimits` or by name, such as ``{"memory": "2g", "cpus": 1.5}``; they
            take the place of those that it has. What is left out is as the server has it.
        secrets: by the names of variables, what requests to some hosts carry and the sandbox never has: see `Secret`.
            They are added to those that it has.
        url: the server, as ``http://host:port`` or ``https://host:port``; else ``$SANDCOVE_URL``, else the local server
            of this user, which is started when it does not run.
        api_key: the server's key, or a token of this sandbox; else ``$SANDCOVE_API_KEY``.
        on_command_start: for debugging, called with each command, its own and its sessions', before it is sent.
        on_output: called with ``"stdout"`` or ``"stderr"`` and each piece of a command's output, as text.
        on_command_complete: called with a command's `ExecResult`, or with the `SandboxError` that it ended in, such as
            a timeout; of `exec_stream` the result has no output. Not called when the command is cancelled.

    What one of these three functions raises, the call that it is called by raises; the command, if it runs, is ended.
    In the asyncio half they may be coroutine functions.
    """

    def __init__(
        self,
        id: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        sleep_after: float | None = None,
        keep_alive: bool | None = None,
        time_to_live: float | None = None,
        egress: str | Sequence[str] | None = None,
        limits: AnyLimits | None = None,
        secrets: Mapping[str, Secret] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        on_command_start: OnCommandStart | None = None,
        on_output: OnOutput | None = None,
        on_command_complete: OnCommandComplete | None = None,
    ) -> None:
        request = models.CreateSandbox(
            id=None if id is None else check_sandbox_id(id),
            labels=check_labels(labels),
            env=check_env(env),
            sleep_after=check_seconds("sleep_after", sleep_after, zero="never"),
            keep_alive=None if keep_alive is None else check_flag("keep_alive", keep_alive),
            time_to_live=check_seconds("time_to_live", time_to_live, zero="a life for good"),
            lease=id is None,
            egress=check_egress(egress),
            limits=check_limits(limits),
            secrets=check_given_secrets(secrets),
        )
        self._agent = Agent(request, _optional_text("url", url), _optional_text("api_key", api_key))
        self._session_id = models.DEFAULT_SESSION
        self._scope = None
        self._hooks = Hooks.of(on_command_start, on_output, on_command_complete)
        weakref.finalize(self, Agent.release, self._agent)

    @property
    def id(self) -> str:
        """The sandbox's id.

        Raises:
            InvalidRequestError: it is anonymous, and no call has created it yet.
        """
        if self._agent.id is None:
            raise InvalidRequestError("an anonymous sandbox has no id before its first call")
        return self._agent.id

    def __enter__(self) -> Self:
        self._agent.ensure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._agent.leased:
            try:
                self._agent.destroy()
            except SandboxNotFoundError:
                pass  # it is gone, as it should be
            except SandboxError as failed:
                if error is None:
                    raise
                log.warning("sandbox %s is left to the server to destroy: %s", self._agent.id, failed)
            finally:
                self._agent.release()

    def close(self) -> None:
        """Lets go of the sandbox: an anonymous one is destroyed, a named one stays."""
        self.__exit__(None, None, None)

    # --- its life ---

    def ping(self) -> None:
        """Returns when the sandbox answers; wakes it."""
        self._agent.call("GET", "/api/ping", dict, repeatable=True)

    def info(self) -> SandboxInfo:
        """What the server knows of it; does not wake it."""
        created = self._agent.created
        if self._agent.id is None:
            self._agent.ensure()
        client = self._agent.client()
        try:
            return SandboxInfo.of(client.info(self.id))
        except SandboxNotFoundError:
            if created:
                raise
            self._agent.ensure()
            return SandboxInfo.of(client.info(self.id))

    def sleep(self) -> SandboxInfo:
        """Puts it to sleep: its processes end, its files and environment stay. The next call wakes it."""
        return SandboxInfo.of(self._agent.sleep())

    def wake(self) -> SandboxInfo:
        """Wakes it, ahead of the next call."""
        return SandboxInfo.of(self._agent.wake())

    def set_time_to_live(self, seconds: float) -> SandboxInfo:
        """Has it destroyed, with its files, in use or not, so many seconds from now; 0: it lives for good.

        Called again before the time is over, this puts the end off. `info` tells it as `expires_at`.
        """
        milliseconds = check_seconds("seconds", seconds, zero="a life for good")
        self._agent.ensure()
        request = models.SetTimeToLive(time_to_live=milliseconds or 0)
        return SandboxInfo.of((self._agent.client()).set_time_to_live(self.id, request))

    def destroy(self) -> None:
        """Destroys it with its files.

        Raises:
            SandboxNotFoundError: there is none.
        """
        self._agent.destroy()

    def create_token(self, *, expires_in: float = 3600.0, scopes: Sequence[str] = ("api",)) -> str:
        """A token for this sandbox alone, to hand to a browser or another program that speaks to its server over TCP.

        It is used in the place of an API key, or in a URL: ``/v1/with/<token>/api/...``.

        Args:
            expires_in: seconds until it is refused, at most 30 days.
            scopes: ``api``: all that happens in the sandbox; ``life``: to wake, put to sleep and destroy it.
        """
        milliseconds = check_seconds("expires_in", expires_in)
        self._agent.ensure()
        request = CreateToken(expires_in=milliseconds or 0, scopes=[check_text("scopes", each) for each in scopes])
        return ((self._agent.client()).create_token(self.id, request)).token

    # --- its sessions ---

    def create_session(
        self,
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: StrPath = models.WORKSPACE,
        isolation: bool = True,
    ) -> Session:
        """Makes a session.

        Args:
            name: 1 to 128 characters of ``A-Z a-z 0-9 _ . @ : -``.
            env: environment variables of all that runs in it.
            cwd: where it starts.
            isolation: its processes don't see those of other sessions.

        Raises:
            SessionAlreadyExistsError: there is one of this name.
        """
        request = models.CreateSession(
            id=check_session_id(name),
            env=check_env(env),
            cwd=check_path(cwd, "cwd"),
            isolation=check_flag("isolation", isolation),
        )
        self._agent.call("POST", "/api/session/create", dict, request)
        return self._session(name)

    def get_session(self, name: str) -> Session:
        """The session of this name.

        Raises:
            SessionNotFoundError: there is none.
        """
        check_session_id(name)
        names = self.list_sessions()
        if name not in names:
            raise SessionNotFoundError(
                f"sandbox {self.id} has no session {name!r}; it has: {', '.join(names) or 'none'}",
                availableSessions=names,
            )
        return self._session(name)

    def list_sessions(self) -> list[str]:
        """The names of its sessions."""
        answer = self._agent.call("GET", "/api/session/list", models.SessionList, repeatable=True)
        return answer.sessions

    def delete_session(self, name: str) -> None:
        """Ends a session and all that runs in it.

        Raises:
            SessionNotFoundError: there is none of this name.
        """
        self._agent.call("DELETE", f"/api/session/{check_session_id(name)}", dict)

    def _session(self, name: str) -> Session:
        return Session(self._agent, name, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._agent.id or 'anonymous'!r}>"


def get_sandbox(
    id: str,
    *,
    labels: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    sleep_after: float | None = None,
    keep_alive: bool | None = None,
    time_to_live: float | None = None,
    egress: str | Sequence[str] | None = None,
    limits: AnyLimits | None = None,
    secrets: Mapping[str, Secret] | None = None,
    url: str | None = None,
    api_key: str | None = None,
    on_command_start: OnCommandStart | None = None,
    on_output: OnOutput | None = None,
    on_command_complete: OnCommandComplete | None = None,
) -> Sandbox:
    """The sandbox of this name, created at its first call when there is none. Arguments as for `Sandbox`."""
    return Sandbox(
        id,
        labels=labels,
        env=env,
        sleep_after=sleep_after,
        keep_alive=keep_alive,
        time_to_live=time_to_live,
        egress=egress,
        limits=limits,
        secrets=secrets,
        url=url,
        api_key=api_key,
        on_command_start=on_command_start,
        on_output=on_output,
        on_command_complete=on_command_complete,
    )


def list_sandboxes(
    labels: Mapping[str, str] | None = None, *, url: str | None = None, api_key: str | None = None
) -> list[SandboxInfo]:
    """The sandboxes of the server, all or those that have all of `labels`."""
    client = Client.of(Endpoint.server(_optional_text("url", url), _optional_text("api_key", api_key)))
    listing = client.list(check_labels(labels))
    return [SandboxInfo.of(info) for info in listing.sandboxes]


def _optional_text(name: str, value: object) -> str | None:
    return None if value is None else check_text(name, value)
