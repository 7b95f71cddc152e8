"""Text of strangers controls no terminal, whichever way it comes out.

Authors
 * qlung_plugin contributors
"""

import io
import logging

import pytest
from speechbrain.utils.logger import get_logger

from qlung_plugin.utils.text import log_printable, printable, printable_lines

ODD = "\x1b[2Jb\u202ea\x9b\udce9.wav"


@pytest.fixture
def log():
    """What is logged, as a console has it."""
    before, stream = logging.getLogRecordFactory(), io.StringIO()
    handler = logging.StreamHandler(stream)
    log_printable()
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)
    logging.setLogRecordFactory(before)


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
