"""The command line: what it prints, how it fails, how soon it is there.

Authors
 * qlung_plugin contributors
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qlung_plugin.cli import main as cli
from qlung_plugin.cli.main import main
from qlung_plugin.inference.components import find_components

HEAVY = (
    *("gradio", "numpy", "pandas", "speechbrain", "torch", "transformers"),
    "yaml",
)


def test_list_has_all_components_and_their_arguments(capsys):
    assert main(["components"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^  (!new:\S+)$", text, flags=re.M) == [
        component.tag for component in find_components().values()
    ]
    assert (
        """
classifier:
  !new:qlung_plugin.nnet.classifiers.AngularClassifier
      Logits that are scaled cosines: z_k = scale * cos(theta_k).
      (input_size, num_classes, scale=37.0, return_cosines=True)
"""
        in text
    )
    keys = re.findall(r"^(\w+):$", text, flags=re.M)
    assert len(keys) == len(set(keys))
    assert max(map(len, text.splitlines())) <= 80


def test_block_for_a_recipe_of_speechbrain(capsys):
    assert main(["components", "WeightedCrossEntropyLoss"]) == 0
    ours = capsys.readouterr().out
    command = ["components", "WeightedCrossEntropyLoss", "--for"]
    assert main([*command, "qlung"]) == 0
    assert capsys.readouterr().out == ours
    assert main([*command, "speechbrain"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert (
        """
compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
    class_counts: running
    scale: 1.0
    loss: !new:qlung_plugin.nnet.losses.WeightedCrossEntropyLoss
"""
        in text
    )
    assert "num_classes: !ref <out_n_neurons>\n" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["Mixup"], "Mixup cannot go into a recipe of SpeechBrain: it mixes"),
        (["Mixpu"], "no component is called Mixpu: did you mean Mixup"),
        ([], "--for needs the NAME of a component"),
    ],
)
def test_block_that_no_recipe_of_speechbrain_takes(arguments, message, capsys):
    assert main(["components", *arguments, "--for", "speechbrain"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and f"qlung: {message}" in captured.err


def test_unknown_name_is_one_line_with_close_matches(capsys):
    assert main(["components", "QualtyMargin"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "qlung: no component is called QualtyMargin: did you mean"
        " QualityMargin or QualityTap? `qlung components` lists them\n"
    )
    assert main(["components", "xyz"]) == 2
    assert capsys.readouterr().err == (
        "qlung: no component is called xyz: `qlung components` lists them\n"
    )


def test_debug_shows_where_an_error_arises():
    with pytest.raises(ValueError, match="no component is called xyz"):
        main(["components", "xyz", "--debug"])


@pytest.mark.parametrize(
    "arguments",
    [[], *([module.__name__.split(".")[-1]] for module in cli.COMMANDS)],
    ids=lambda arguments: " ".join(arguments) or "qlung",
)
def test_help_has_an_example_and_the_exit_codes(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    example = " ".join(["qlung", *arguments])
    assert re.search(rf"^examples?:\n  {example} ?", text, flags=re.M)
    assert max(map(len, text.splitlines())) <= 80
    assert cli.EXIT_CODES in text


def test_what_an_error_quotes_does_not_control_the_terminal(capsys):
    assert main(["components", "\x1b[2J\u202eb\udce9\n.md"]) == 2
    error = capsys.readouterr().err
    assert error.isascii() and error[:-1].isprintable()
    assert r"\x1b[2J\u202e" in error


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_text_that_the_terminal_lacks_stops_no_command(encoding, monkeypatch):
    name = "\u6c34\udce9.wav"  # a character, and a byte that is no text
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(cli.components, "run", lambda arguments: print(name))
    assert main(["components"]) == 0
    printed = terminal.buffer.getvalue().decode(encoding)
    assert printed.rstrip() in (name[0] + r"\udce9.wav", r"\u6c34\udce9.wav")


def test_interruption_has_a_code_of_its_own(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.components, "run", interrupted)
    assert main(["components"]) == 130


def test_help_imports_little():
    """Standard error of ``-X importtime`` names every module on a line."""
    run = subprocess.run(
        [
            *(sys.executable, "-X", "importtime"),
            *("-m", "qlung_plugin.cli.main", "classify", "--help"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert run.returncode == 0
    assert run.stdout.startswith("usage: qlung classify")
    modules = re.findall(r"\|\s+(\w[\w.]*)$", run.stderr, flags=re.M)
    assert "qlung_plugin.cli.classify" in modules
    assert not {module.split(".")[0] for module in modules} & {*HEAVY}


@pytest.mark.slow
def test_reader_may_close_the_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [sys.executable, "-m", "qlung_plugin.cli.main", "components"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, b"")


def test_a_report_prints_a_warning_once():
    code = """
import logging
from qlung_plugin.cli.report import each_warning_once
warn = logging.getLogger("qlung_plugin.scores").warning
for _ in range(2):
    with each_warning_once():
        for number in (1, 2, 1):
            warn("%d left out", number)
warn("1 left out")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stderr.splitlines() == [
        f"{number} left out" for number in (1, 2, 1, 2, 1)
    ]
