"""What the demo's server takes, and what it leaves behind.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # comes with Gradio
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "qlung_demo_"
NAMES = ("127.0.0.1", "localhost")


class OwnPageOnly:
    """Refuses requests that do not come from the page itself.

    Another site that is open in the browser must not send recordings here, nor,
    by a name of its own that leads to this machine, read what is here. And the
    uploads in a folder are bounded: together they have at most so many bytes.
    """

    def __init__(self, app: ASGIApp, folder: Path | str, largest: int) -> None:
        self.app, self.folder, self.largest = app, Path(folder), largest
        self.coming = 0  # bytes of the uploads that are on their way

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] not in ("http", "websocket"):  # its own start and end
            await self.app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        hosts = [f"{name}:{scope['server'][1]}".encode() for name in NAMES]
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host not in hosts or origin not in (None, b"http://" + host):
            await _refuse(send, 403, "This page answers to itself alone.")
        elif scope.get("method") == "POST" and "upload" in scope["path"]:
            await self._upload(scope, receive, send, headers)
        else:
            await self.app(scope, receive, send)

    async def _upload(
        self, scope: Scope, receive: Receive, send: Send, headers: dict
    ) -> None:
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            await _refuse(send, 411, "An upload has to tell its length.")
            return
        kept = sum(
            path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file()
        )
        if kept + self.coming + int(length) > self.largest:
            await _refuse(send, 413, "Too much is kept: restart the page.")
            return
        self.coming += int(length)
        try:
            await self.app(scope, receive, send)
        finally:
            self.coming -= int(length)


async def _refuse(send: Send, status: int, text: str) -> None:
    kind = [(b"content-type", b"text/plain; charset=utf-8")]
    start = {"type": "http.response.start", "status": status, "headers": kind}
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


@contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder for as long as the server runs; those of killed ones are deleted."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _delete_unused(path)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            # Of the process: the lock ends with it, however it ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(descriptor)


def _delete_unused(path: Path) -> None:
    """Deletes a folder of one's own that no process has locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:  # another one's, or no folder
        return
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:  # in use
        pass
    finally:
        os.close(descriptor)
