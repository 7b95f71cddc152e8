"""What the demo's server refuses, and what it clears away.

Authors
 * qlung_plugin contributors
"""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from qlung_plugin.cli.demo.guard import OwnPageOnly, temporary_folder

OWN = {"host": "127.0.0.1:7860"}


def ask(guard, headers, method="GET", path="/"):
    """The status of the answer to a request."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "server": ("127.0.0.1", 7860),
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    # In a thread: a browser's tests leave a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, guard(scope, None, send)).result()
    return sent[0]["status"]


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 200),
        ({"host": "localhost:7860"}, 200),
        ({**OWN, "origin": "http://127.0.0.1:7860"}, 200),
        ({}, 403),
        ({"host": "evil.example:7860"}, 403),
        ({"host": "127.0.0.1:80"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({**OWN, "origin": "http://evil.example"}, 403),
        ({**OWN, "origin": "http://localhost:7860"}, 403),
        ({**OWN, "origin": "https://127.0.0.1:7860"}, 403),
        ({**OWN, "origin": "null"}, 403),
    ],
)
def test_only_the_own_page_is_answered(tmp_path, headers, status):
    assert ask(OwnPageOnly(answer, tmp_path, 10), headers) == status


def test_all_uploads_together_are_bounded(tmp_path):
    guard = OwnPageOnly(answer, tmp_path, 10)
    post = {"method": "POST", "path": "/gradio_api/upload"}
    assert ask(guard, {**OWN, "content-length": "10"}, **post) == 200
    assert ask(guard, {**OWN, "content-length": "11"}, **post) == 413
    assert ask(guard, OWN, **post) == 411
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sound.wav").write_bytes(b"12345")
    assert ask(guard, {**OWN, "content-length": "5"}, **post) == 200
    assert ask(guard, {**OWN, "content-length": "6"}, **post) == 413


def test_uploads_on_their_way_count(tmp_path):
    statuses = []

    async def slow(scope, receive, send):
        if not statuses:
            statuses.append(None)
            statuses.append(await asyncio.to_thread(again))
        await send({"type": "http.response.start", "status": 200})

    guard = OwnPageOnly(slow, tmp_path, 10)

    def again():
        headers = {**OWN, "content-length": "5"}
        return ask(guard, headers, "POST", "/gradio_api/upload")

    headers = {**OWN, "content-length": "6"}
    assert ask(guard, headers, "POST", "/gradio_api/upload") == 200
    assert statuses == [None, 413]


def test_leftovers_of_killed_servers_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from qlung_plugin.cli.demo.guard import temporary_folder\n"
        "with temporary_folder() as folder:\n"
        "    open(folder + '/a.wav', 'w').close(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    [left] = tmp_path.iterdir()
    (tmp_path / "qlung_demo_link").symlink_to(tmp_path.parent)
    with temporary_folder() as running:
        assert not left.exists()
        with temporary_folder() as another:  # leaves what is in use
            assert {p.name[:11] for p in tmp_path.iterdir()} == {"qlung_demo_"}
            assert len(list(tmp_path.iterdir())) == 3
        assert running != another
    assert [p.name for p in tmp_path.iterdir()] == ["qlung_demo_link"]
    assert tmp_path.parent.is_dir()
