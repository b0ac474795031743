"""Cloning repositories into a sandbox."""

from __future__ import annotations

from collections.abc import Callable

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.client import JSON
from sandcove.client._async.io import call_back
from sandcove.client.check import StrPath, check_callback, check_count, check_path, check_seconds, check_text
from sandcove.client.endpoint import Broken, answer_within
from sandcove.client.results import GitCheckout, GitProgress
from sandcove.errors import InvalidRequestError, SandboxNetworkError, error_from_wire
from sandcove.wire.codec import NOT_JSON, decoder_of, encode
from sandcove.wire.git import CheckoutAnswer, CheckoutEvent, CheckoutRequest, LoginRequest
from sandcove.wire.repository import check_branch, check_credentials, check_target, parse_repository
from sandcove.wire.sse import SseDecoder

__all__ = ["AsyncGit"]

_events = decoder_of(CheckoutEvent)


class AsyncGit:
    """What a sandbox and a session can both clone."""

    _agent: AsyncAgent
    _session_id: str

    async def git_checkout(
        self,
        url: str,
        *,
        branch: str | None = None,
        target_dir: StrPath | None = None,
        depth: int | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float | None = None,
        on_progress: Callable[[GitProgress], object] | None = None,
    ) -> GitCheckout:
        """Clones a repository by the sandbox's own git. When it fails, is cancelled or takes too long, nothing is left.

        Args:
            url: an http, https, ssh, git or file URL, ``user@host:path``, or an absolute path of the sandbox.
            branch: a branch, a tag, or a commit's id; without it the remote's default branch.
            target_dir: the folder to clone into, new or empty; without it one of the repository's name.
            depth: how many commits of its history; without it all.
            username, password: for http and https, for this one call: nothing keeps them. A token goes into either,
                as its issuer says. A user name and password in `url` are the same.
            timeout: seconds after which it is ended; None: no limit.
            on_progress: called with how far it is.

        Raises:
            GitError: git could not do it; the message says why and what to do.
            PathExistsError: `target_dir` exists and is not an empty folder.
            ExecutionTimeoutError: it took longer than `timeout`.
            InvalidRequestError: an argument is wrong.
        """
        check_callback("on_progress", on_progress)
        repository = parse_repository(check_text("url", url))
        login = _login(username, password)
        if repository.credentials is not None:
            if login is not None:
                raise InvalidRequestError("there are credentials in the URL and beside it; give them once")
            login = _login(*repository.credentials)
        request = CheckoutRequest(
            repo_url=repository.url,
            branch=None if branch is None else check_branch(check_text("branch", branch)),
            target_dir=None if target_dir is None else check_target(check_path(target_dir, "target_dir")),
            session_id=self._session_id,
            depth=check_count("depth", depth),
            credentials=login,
            timeout=check_seconds("timeout", timeout),
        )
        if on_progress is None:
            answer = await self._agent.call(
                "POST", "/api/git/checkout", CheckoutAnswer, request, within=answer_within(request.timeout)
            )
        else:
            answer = await self._watched(request, on_progress)
        if not answer.success:
            told = {"stderr": answer.stderr, "exitCode": answer.exit_code}
            raise error_from_wire(422, {"error": answer.error, "code": answer.code or "GIT_ERROR", **told})
        return GitCheckout(
            url=answer.repo_url, branch=answer.branch, target_dir=answer.target_dir, commit=answer.commit
        )

    async def _watched(self, request: CheckoutRequest, on_progress: Callable[[GitProgress], object]) -> CheckoutAnswer:
        response = await self._agent.open("POST", "/api/git/checkout/stream", encode(request), JSON)
        decoder = SseDecoder()
        try:
            while True:
                for message in decoder.feed(await response.next_piece()):
                    event = _events.decode(message.data)
                    if event.type == "error":
                        told = {"stderr": event.stderr, "exitCode": event.exit_code}
                        details = {name: value for name, value in told.items() if value is not None}
                        raise error_from_wire(500, {"error": event.error, "code": event.code, **details})
                    if event.result is not None:
                        await response.finish()
                        return event.result
                    if event.phase is not None:
                        progress = GitProgress(
                            phase=event.phase, percent=event.percent or 0, done=event.done or 0, total=event.total or 0
                        )
                        await call_back(on_progress, progress)
        except Broken as error:
            raise await self._agent.ended(error) from None
        except NOT_JSON as error:
            raise SandboxNetworkError(f"the agent's answer is not what this client understands: {error}") from None
        finally:
            response.close()


def _login(username: object, password: object) -> LoginRequest | None:
    if username is None and password is None:
        return None
    texts = []
    for name, value in (("username", username), ("password", password)):
        if not isinstance(value, str | None):
            # What it was is not shown: it may be the secret in another form.
            raise InvalidRequestError(f"{name} is a str, not {type(value).__name__}")
        texts.append(check_text(name, value or ""))
    credentials = check_credentials(*texts)
    return LoginRequest(username=credentials.username, password=credentials.password)
