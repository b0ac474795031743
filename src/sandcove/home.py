"""Where Sandcove keeps things on this machine: one folder, mode 0700, laid out here and nowhere else.

home/
  server.sock       the local server's Unix socket (mode 0600)
  server.lock       held by the running server
  server.log        its log, also of a server that started by itself, and the files before it: server.log.1, ...
  audit.log         who changed what, and the files before it: audit.log.1, ...
  registry.db       SQLite: which sandboxes exist, and the keys of callers over TCP, hashed
  token.secret      what sandbox tokens are signed with (mode 0600)
  templates/        read-only lower layers that rooms share
  sandboxes/<uid>/  one sandbox's files: upper layers of its mounts, its agent's saved state
  run/<uid>.sock    the agents' Unix sockets; <uid>.rest while its sandbox falls asleep
  previews.port     the port of 127.0.0.1 at which the local server's previews are
  spare/            a room made ahead for the next sandbox
  trash/            what is being deleted; a folder of the zygote's while it gets ready
  .doctor-<digits>/ where a `doctor` tries things out, for as long as that takes
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sandcove.errors import HostUnsupportedError

__all__ = ["Home"]

# sun_path holds 108 bytes with the final NUL; the longest name below `run/` is 63 + len(".sock").
LONGEST_HOME = 107 - len("/run/") - 63 - len(".sock")


@dataclass(frozen=True)
class Home:
    """The folder of one user's (or one test's) server."""

    path: Path

    @classmethod
    def default(cls) -> Home:
        """``$SANDCOVE_HOME``, else ``/var/lib/sandcove`` for root, else ``$XDG_STATE_HOME/sandcove``.

        Raises:
            HostUnsupportedError: the path is too long for the Unix sockets in it.
        """
        if given := os.environ.get("SANDCOVE_HOME"):
            path = Path(given).absolute()
        elif os.geteuid() == 0:
            path = Path("/var/lib/sandcove")
        else:
            state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
            path = Path(state) / "sandcove"
        if len(os.fsencode(path)) > LONGEST_HOME:
            raise HostUnsupportedError(
                f"Sandcove's folder {path} has a path of over {LONGEST_HOME} bytes, too long for the Unix "
                "sockets in it; set SANDCOVE_HOME to a shorter one"
            )
        return cls(path)

    @property
    def server_socket(self) -> Path:
        return self.path / "server.sock"

    @property
    def server_lock(self) -> Path:
        return self.path / "server.lock"

    @property
    def server_log(self) -> Path:
        return self.path / "server.log"

    @property
    def audit_log(self) -> Path:
        return self.path / "audit.log"

    @property
    def egress_log(self) -> Path:
        return self.path / "egress.log"

    @property
    def registry(self) -> Path:
        return self.path / "registry.db"

    @property
    def token_secret(self) -> Path:
        return self.path / "token.secret"

    @property
    def previews_port(self) -> Path:
        return self.path / "previews.port"

    @property
    def templates(self) -> Path:
        return self.path / "templates"

    @property
    def sandboxes(self) -> Path:
        return self.path / "sandboxes"

    @property
    def trash(self) -> Path:
        return self.path / "trash"

    @property
    def spare(self) -> Path:
        return self.path / "spare"

    @property
    def run(self) -> Path:
        return self.path / "run"

    def sandbox(self, uid: str) -> Path:
        return self.sandboxes / uid

    def agent_socket(self, uid: str) -> Path:
        return self.run / f"{uid}.sock"

    def resting_socket(self, uid: str) -> Path:
        return self.run / f"{uid}.rest"

    def make(self) -> None:
        """Makes the folders that are missing, readable by their owner alone.

        Raises:
            HostUnsupportedError: the folder is somebody else's, or none.
        """
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700, parents=True)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise HostUnsupportedError(
                f"Sandcove's folder {self.path} is not a folder of this user; set SANDCOVE_HOME to another"
            )
        os.chmod(self.path, 0o700)
        for folder in (self.templates, self.sandboxes, self.spare, self.trash, self.run):
            folder.mkdir(mode=0o700, exist_ok=True)
