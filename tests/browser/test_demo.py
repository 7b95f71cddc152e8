"""The page of ``qlung demo`` in a browser, with a small model.

Authors
 * qlung_plugin contributors
"""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.browser.conftest import PATIENCE, WIDTHS
from tests.unittests.small_runs import make_run

# What Gradio's client says whenever it closes a stream of events, its player of
# what it cannot play, and its Svelte of a part that is gone while it is asked.
# Nothing turns it off.
HARMLESS = (
    "Method not implemented.",
    "Waveform load error: MediaError",
    "https://svelte.dev/e/derived_inert",
)

RATE = 4000


class Server:
    """``qlung demo`` in a process of its own."""

    def __init__(self, model, temporary):
        # Whatever is for another machine comes to this proxy, which waits.
        self.proxy = socket.create_server(("127.0.0.1", 0))
        self.proxy.setblocking(False)
        proxy = f"http://127.0.0.1:{self.proxy.getsockname()[1]}"
        # The environment tries to open what is to stay closed.
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SHARE": "True",
            "GRADIO_ANALYTICS_ENABLED": "True",
            "http_proxy": proxy,
            "https_proxy": proxy,
            "OMP_NUM_THREADS": "1",
        }
        self.port = free_port()
        self.temporary = temporary
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "qlung_plugin.cli.main", "demo"),
                *("--model", str(model), "--port", str(self.port)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        self.greeting = self.process.stdout.readline()

    @property
    def address(self):
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def asked_others(self):
        """Whether it wanted to talk to another machine."""
        try:
            self.proxy.accept()
        except BlockingIOError:
            return False
        return True

    def stop(self, number=signal.SIGTERM):
        """Ends the process, and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE / 1000)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("model") / "run")


@pytest.fixture(scope="module")
def server(browser, model, tmp_path_factory):
    """A server that all tests share.

    After all of them, nothing was sent to another machine, and nothing is left.
    """
    pytest.importorskip("gradio")
    server = Server(model, tmp_path_factory.mktemp("server"))
    yield server
    assert server.process.poll() is None
    assert not server.asked_others()
    assert server.stop() == 0
    assert not list(server.temporary.glob("qlung_demo_*"))
    server.proxy.close()


@pytest.fixture
def visit(open_page, server):
    """Opens the page of the server."""

    def opened(*arguments, **options):
        return open_page(
            server.address, *arguments, harmless=HARMLESS, **options
        )

    return opened


@pytest.fixture
def sound(tmp_path):
    """Writes noise of some seconds, and returns its path."""

    def write(name="noise.wav", seconds=12.5, rate=RATE, **options):
        noise = np.random.default_rng(0).normal(size=int(seconds * rate))
        soundfile.write(tmp_path / name, 0.1 * noise, rate, **options)
        return tmp_path / name

    return write


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_role("button", name="Trim audio to selection").wait_for()


def button(page):
    return page.get_by_role("button", name="Classify")


def classify(page):
    """Clicks, as soon as there is a sound to classify."""
    button(page).click()


@contextmanager
def held(page, path):
    """Keeps a request from its server until the end of the block."""
    waiting = []
    page.route(path, lambda route: waiting.append(route))
    yield
    for route in waiting:
        route.continue_()
    page.unroute(path)


def picture(page):
    """The shape of the picture that is seen."""
    return page.locator(".picture svg.cycles").filter(visible=True)


def failure(page):
    """The text of the message that something is wrong."""
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    return toast.inner_text()


def rows(page, count):
    """The texts of the table, without its header, once it is all there."""
    found = page.get_by_role("row").filter(has=page.get_by_role("gridcell"))
    last = found.nth(count - 1).get_by_role("gridcell").last
    last.filter(has_text=re.compile(r"\S")).wait_for()
    return [
        [text.strip() for text in row.get_by_role("gridcell").all_inner_texts()]
        for row in found.all()
    ]


def test_a_sound_in_an_answer_out(visit, sound, width, tmp_path):
    page = visit(width, scheme="dark" if width == "phone" else "light")
    page.get_by_text("This is no medical device").wait_for()
    # What is quoted of the model flows with the text, without boxes.
    quoted = page.locator(".about code").first
    ground = quoted.evaluate("code => getComputedStyle(code).backgroundColor")
    assert ground == "rgba(0, 0, 0, 0)"
    assert page.get_by_text("Nothing leaves this machine").is_visible()
    assert not picture(page).is_visible()
    page.get_by_label("Windows of 5 s").check()
    upload(page, sound())
    classify(page)
    picture(page).wait_for()
    # As wide as the screen, with letters that are large enough to be read, in
    # the colour of the page's other text.
    box = picture(page).bounding_box()
    assert box["width"] > 0.8 * WIDTHS[width][0]
    letters = picture(page).get_by_text("time (s)")
    assert letters.bounding_box()["height"] >= 10
    fill = letters.evaluate("l => getComputedStyle(l).fill")
    light = width == "phone"  # on dark
    assert (int(re.search(r"\d+", fill)[0]) > 128) == light
    page.get_by_text(re.compile(r"\d of 4 cycles \(\d+ %\)")).wait_for()
    assert [row[:3] for row in rows(page, 4)] == [
        ["1", "0.00", "5.00"],
        ["2", "2.50", "7.50"],
        ["3", "5.00", "10.00"],
        ["4", "7.50", "12.50"],
    ]
    # The picture begins where it is seen, and nothing makes the page wider.
    assert picture(page).bounding_box()["x"] >= 0
    wide, window = page.evaluate(
        "[document.documentElement.scrollWidth, innerWidth]"
    )
    assert wide <= window
    shot = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(shot) > 20_000


def test_an_annotation_of_one_s_own(visit, sound, tmp_path):
    annotation = tmp_path / "cycles.csv"
    annotation.write_text("start,end\n1,2.5\n3,4\n")
    page = visit()
    upload(page, sound())
    page.get_by_label("An annotation file").check()
    chooser = page.locator("input[type=file][accept*='.json']")
    chooser.wait_for(state="attached")
    classify(page)
    assert "Choose the annotation file" in failure(page)
    chooser.set_input_files(annotation)
    # The label of what is there; a text of this name is shown on its way only.
    page.get_by_label("cycles.csv").wait_for()
    classify(page)
    picture(page).wait_for()
    assert [row[1:3] for row in rows(page, 2)] == [
        ["1.00", "2.50"],
        ["3.00", "4.00"],
    ]
    page.get_by_text("Cycles: cycles.csv.").wait_for()


def test_without_a_sound_nothing_is_classified(visit, sound):
    page = visit()
    assert button(page).is_disabled()
    upload(page, sound())
    page.get_by_label("Clear").first.click()
    page.locator("button:disabled", has_text="Classify").wait_for()


def test_what_cannot_be_classified_is_told(visit, tmp_path, server):
    path = tmp_path / "text.wav"
    path.write_text("I am <b>no</b> sound.")
    page = visit()
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_label("Clear").first.wait_for()
    classify(page)
    message = failure(page)
    assert "text.wav is not readable" in message
    assert str(server.temporary) not in message and "Traceback" not in message
    assert not picture(page).is_visible()


def test_a_cycle_is_heard(visit, sound, width):
    page = visit(width)
    page.get_by_label("Windows of 5 s").check()
    upload(page, sound())
    classify(page)
    assert rows(page, 4)[2][:3] == ["3", "5.00", "10.00"]
    player = page.locator(".player audio")
    assert player.count() == 0
    for number, times in (("3", "5.00 to 10.00 s"), ("1", "0.00 to 5.00 s")):
        page.get_by_role("gridcell", name=number, exact=True).first.click()
        page.get_by_text(f"Cycle {number}, {times}").wait_for()
        played = player.evaluate(
            """async a => {
                if (a.readyState < 1)
                    await new Promise(done => a.onloadedmetadata = done);
                await a.play();
                await new Promise(done => a.ontimeupdate = done);
                return [a.src.slice(0, 15), a.duration, a.error];
            }"""
        )
        assert played == ["data:audio/mpeg", pytest.approx(5, abs=0.1), None]
    # The next answer has its own cycles.
    classify(page)
    player.wait_for(state="detached")


def test_in_a_sorted_table_the_chosen_row_is_heard(visit, sound):
    page = visit()
    page.get_by_label("Windows of 5 s").check()
    upload(page, sound())
    classify(page)
    rows(page, 4)
    header = page.get_by_role("columnheader", name="cycle").first
    header.hover()  # shows the button
    header.get_by_label("Open cell menu").click(timeout=15000)
    page.get_by_text("Sort descending").click(timeout=15000)
    page.get_by_role("gridcell").first.filter(has_text="4").wait_for()
    assert [row[0] for row in rows(page, 4)] == ["4", "3", "2", "1"]
    page.get_by_role("gridcell", name="2.50", exact=True).click()
    page.get_by_text("Cycle 2, 2.50 to 7.50 s").wait_for()


def test_a_new_sound_takes_the_old_answer_away(visit, sound):
    page = visit()
    page.get_by_label("Windows of 5 s").check()
    upload(page, sound())
    classify(page)
    picture(page).wait_for()
    page.get_by_label("Clear").first.click()
    picture(page).wait_for(state="hidden")
    # Also an answer that is on its way.
    upload(page, sound())
    answers = "**/queue/data?*"
    with held(page, answers):
        with page.expect_request(answers):  # the server has the question
            classify(page)
        page.get_by_text(re.compile(r"\d\.\ds")).wait_for()  # how long it takes
        page.get_by_label("Clear").first.click()
        page.locator("button:disabled", has_text="Classify").wait_for()
        upload(page, sound("short.wav", seconds=5))
        classify(page)
    picture(page).wait_for()
    # The table is drawn after the picture: until then it has its old rows.
    page.get_by_role("gridcell", name="5.00", exact=True).wait_for()
    assert [row[:3] for row in rows(page, 1)] == [["1", "0.00", "5.00"]]


def test_it_listens_to_this_machine_alone(server):
    assert server.greeting.startswith(f"Open {server.address} ")
    socket.create_connection(("127.0.0.1", server.port), 5).close()
    # Linux's own word on who listens; addresses in hexadecimal, reversed.
    listening = [
        line.split()[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if int(line.split()[1].split(":")[1], 16) == server.port
        and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F"]
    # All of 127/8 is this machine, and the server is on one address of it.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", server.port), 5)


def test_a_taken_port_is_one_line(server, model):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "qlung_plugin.cli.main", "demo"),
            *("--model", str(model), "--port", str(server.port)),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("qlung: ")
    assert str(server.port) in run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_too_large_is_not_taken(server):
    """Without a browser: whoever asks for the upload itself."""
    httpx = pytest.importorskip("httpx")
    from qlung_plugin.cli.demo.page import LARGEST

    answer = httpx.post(
        f"{server.address}gradio_api/upload",
        files={"files": ("large.wav", bytes(LARGEST * 2**20 + 1))},
        timeout=120,
        trust_env=False,
    )
    assert answer.status_code == 413
    kept = [p for p in server.temporary.rglob("*") if p.is_file()]
    assert all(p.stat().st_size <= LARGEST * 2**20 for p in kept)


def test_the_microphone(microphone_page, server):
    page = microphone_page
    page.goto(server.address)
    page.get_by_label("Windows of 5 s").check()
    page.get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    # Of what is recorded, which may begin late.
    page.get_by_text("0:02", exact=True).wait_for()
    with held(page, "**/upload"):
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_role("button", name="Trim audio to selection").wait_for()
        assert button(page).is_disabled()
    classify(page)
    picture(page).wait_for()
    number, start, end, *_ = rows(page, 1)[0]
    assert (number, start) == ("1", "0.00")
    assert float(end) > 1
