"""Text of strangers controls no terminal, whichever way it comes out.

Authors
 * qlung_plugin contributors
"""

import io
import logging
import subprocess
import sys
import warnings
from argparse import ArgumentParser
from pathlib import Path

import pytest

from qlung_plugin.utils.text import guard_terminal, printable, printable_lines
from speechbrain.utils.logger import get_logger

ROOT = Path(__file__).resolve().parents[3]
ODD = "\x1b[2Jb\u202ea\x9b\udce9.wav"
# As a file system takes it: clear, bell, back to the line's start, backwards.
NAME = "\x1b[2J\x07\r\u202e\u2066b.wav"
SAID = r"\x1b[2J\x07\r\u202e\u2066b.wav"


@pytest.fixture
def guarded(monkeypatch):
    """A guarded process, until the test ends."""
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(ArgumentParser, "error", ArgumentParser.error)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    guard_terminal()
    yield
    logging.setLogRecordFactory(before)


@pytest.fixture
def log(guarded):
    """What is logged, as a console has it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_a_line_and_lines():
    assert printable(f"{ODD}\n") == r"\x1b[2Jb\u202ea\x9b\udce9.wav"
    table = f"a   b\n{ODD}  2\n"
    assert printable_lines(table) == table.replace(ODD, printable(ODD))


@pytest.mark.parametrize("logger", [logging.getLogger("a"), get_logger("b")])
def test_what_is_logged_is_printable(log, logger):
    logger.warning("%d files, such as %s:\n  table", 2, ODD)
    assert log.getvalue() == f"2 files, such as {printable(ODD)}:\n  table\n"


def test_a_traceback_is_printable(log):
    try:
        raise ValueError(ODD)
    except ValueError:
        logging.getLogger("a").exception("it failed")
    lines = log.getvalue().splitlines()
    assert lines[-1] == f"ValueError: {printable(ODD)}"
    assert lines[1] == "Traceback (most recent call last):"


def test_a_warning_is_printable(guarded):
    said = warnings.formatwarning(f"{ODD}\n2", UserWarning, "a.py", 1, "")
    assert said == f"a.py:1: UserWarning: {printable(ODD)}\n2\n"


def test_what_is_refused_is_printable(guarded, capsys):
    parser = ArgumentParser()
    commands = parser.add_subparsers()
    commands.add_parser("b").add_argument("--count", type=int)
    for words in (["b", ODD], ["b", f"--{ODD}"], ["b", "--c", ODD], [ODD]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        said = capsys.readouterr().err
        assert said.startswith("usage: ") and "x1b[2J" in said
        assert all(line.isprintable() for line in said.splitlines())


STARTS = {
    "qlung": "qlung_plugin.cli.main.main(['components', '--debug'])",
    "script": "qlung_plugin.runs.scripts.start_script(''); say(None)",
}
SAYS = """
import logging, sys, warnings
import qlung_plugin.cli.main, qlung_plugin.runs.scripts

def say(arguments):
    name = sys.argv[1]
    warnings.warn(name)
    logging.captureWarnings(True)
    warnings.warn(name + "2")
    logging.getLogger("another.package").warning(name)
    try:
        raise KeyError(name)
    except KeyError as error:
        raise {error}(name) from error

qlung_plugin.cli.main.components.run = say
"""


def run(*words):
    """What a process says in the end, of which no line controls a terminal."""
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, check=False
    )
    said = ended.stderr.decode()
    assert ended.returncode
    assert all(line.isprintable() for line in said.split("\n"))
    return said


@pytest.mark.parametrize(
    ("start", "error"), [("qlung", "TypeError"), ("script", "ValueError")]
)
def test_whatever_a_program_says_is_printable(start, error):
    program = SAYS.format(error=error) + STARTS[start]
    said = run("-c", program, NAME, "--debug")
    # A warning shows its name, the log too, and a traceback twice.
    assert said.count(SAID) >= 4
    assert f"UserWarning: {SAID}" in said
    assert f"{error}: {SAID}" in said
    assert said.count("Traceback") == 2
