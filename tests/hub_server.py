"""A hub of a few files on this machine's loopback: what it serves, how it breaks, what it was asked."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class HubServer:
    """Serves `files` (path → bytes) as addresses, and `repositories` (repo → path → bytes) as the hub.

    refuse: path or repo → (status, X-Error-Code or None). tear: path → bytes after which an answer
    breaks off, once; the length that it announces is the whole one. asked: (path, Range) of each GET.
    ranges: whether a Range is honoured.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: set[str] = set()
        """Files that the hub keeps by sha256 (LFS); it tells no digest of the others."""
        self.refuse: dict[str, tuple[int, str | None]] = {}
        self.tear: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub._answer(self, body=False)

            def do_GET(self) -> None:
                hub.asked.append((self.path, self.headers.get("Range")))
                hub._answer(self, body=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = handler.path.partition("?")[0].lstrip("/")
        for subject, (status, code) in self.refuse.items():
            if subject in path:
                return _send(handler, status, {"X-Error-Code": code} if code else {}, b"", body)
        if path.startswith("api/models/"):
            repo = path.removeprefix("api/models/").partition("/revision/")[0]
            if repo not in self.repositories:
                return _send(handler, 404, {"X-Error-Code": "RepoNotFound"}, b"", body)
            content = json.dumps(self._facts(repo)).encode()
            return _send(handler, 200, {"Content-Type": "application/json"}, content, body)
        repo, found, rest = path.partition("/resolve/")
        headers = {}
        if found:
            content = self.repositories.get(repo, {}).get(rest.partition("/")[2])
            headers = {"X-Repo-Commit": COMMIT}
        else:
            content = self.files.get(path)
        if content is None:
            known = repo in self.repositories or not found
            code = "EntryNotFound" if known else "RepoNotFound"
            return _send(handler, 404, {"X-Error-Code": code}, b"", body)
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        asked, status, start = handler.headers.get("Range"), 200, 0
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return _send(handler, 416, headers, b"", body)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = 206
        torn = self.tear.pop(path, None) if body else None
        return _send(handler, status, headers, content[start:], body, torn)

    def _facts(self, repo: str) -> dict[str, object]:
        siblings = []
        for name, content in self.repositories[repo].items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(content)}
            if name in self.large:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": repo, "sha": COMMIT, "siblings": siblings}


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    content: bytes,
    body: bool,
    torn: int | None = None,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if body:
        handler.wfile.write(content if torn is None else content[:torn])
    if torn is not None:
        handler.close_connection = True
