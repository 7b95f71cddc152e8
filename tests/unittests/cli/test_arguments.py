"""Numbers on a command line: what is refused, by the option that reads it.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.cli.main import main


@pytest.mark.parametrize(
    "command, wrong, message",
    [
        ("quality a.wav --jobs", ["0", "-1", "two", "1.5"], "number above 0"),
        ("quality a.wav --channel", ["0", "\u00b2"], "number above 0"),
        (
            "classify a.wav --model m --shortest",
            ["-1", "nan", "inf", "long"],
            "number of seconds",
        ),
        ("report a -o b.html --sounds", ["-1", "many"], "number from 0 on"),
        (
            "demo --model m --port",
            ["80", "0", "65536", "http"],
            "port from 1024 to 65535",
        ),
    ],
)
def test_what_is_no_such_number_is_refused(command, wrong, message, capsys):
    *arguments, option = command.split()
    for text in wrong:
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, f"{option}={text}"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("usage: qlung")
        assert error.endswith(f" {option}: {text} is no {message}\n")
