"""Tests that the YAML of a model runs nothing.

What the payloads would do is to create a file.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.plain_yaml import parse_architecture
from qlung_plugin.inference.run import read_hyperparameters
from tests.unittests.refusals import inference_yaml, refuses
from tests.unittests.small_runs import LABELS

# Appended to a file that is fine; the line that the refusal has to show.
CODE = {
    "apply": "x: !apply:os.system [touch {path}]",
    "new": "x: !new:subprocess.Popen [[touch, {path}]]",
    "name": "x: !name:os.system",
    "module": "x: !module:os",
    "include": "x: !include:/etc/hostname",
    "reference": "x: !ref <labels>",
    "copy": "x: !copy <labels>",
    "tuple": "x: !tuple (1, 2)",
    "python": "x: !!python/object/apply:os.system [touch {path}]",
    "python new": "x: !!python/object/new:os.system [touch {path}]",
    "python name": "x: !!python/name:os.system",
    "python module": "x: !!python/module:os",
    "verbatim": "x: !<tag:yaml.org,2002:python/object/apply:os.system> [a]",
    "binary": "x: !!binary aGVsbG8=",
    "timestamp": "x: 2020-01-01",
    "set": "x: !!set {{a}}",
    "ordered": "x: !!omap [a: 1]",
    "nested": "x: [1, {{a: [2, {{b: !apply:os.system [touch {path}]}}]}}]",
    "key": "? !apply:os.system [touch {path}]\n: 1",
    "merge": "x: {{<<: {{a: 1}}}}",
    "argument": (
        "x: !new:qlung_plugin.dataio.cycles.CycleResampler"
        " {{sample_rate: !apply:os.system [touch {path}]}}"
    ),
    "similar name": "x: !new:qlung_plugin.lobes.quality.base.os.system [a]",
    "of the package": "x: !new:qlung_plugin.inference.run.load_run [a]",
    "of torch": "x: !new:torch.load [a]",
    "of speechbrain": (
        "x: !new:speechbrain.utils.parameter_transfer.Pretrainer"
    ),
    "escaped": "x: !new:%73ubprocess.Popen [[touch, {path}]]",
    "scalar": "x: !new:torch.nn.Identity touch",
}


@pytest.mark.parametrize("case", CODE)
def test_line_with_code_is_refused_and_shown(run, tmp_path, case):
    line = CODE[case].format(path=tmp_path / "created")
    path = inference_yaml(run)
    number = path.read_text().count("\n") + 1
    path.write_text(path.read_text() + line + "\n")
    message = refuses(run, f"line {number}, ", "trust=True", "--trust")
    shown = line.splitlines()[0]
    assert f'"{shown[:100]}' in message or (
        '"... !apply:os.system [touch' in message and len(shown) > 100
    )
    assert not (tmp_path / "created").exists()


def test_code_in_the_place_of_a_component(run, tmp_path):
    path = inference_yaml(run)
    text = path.read_text()
    component = "!new:qlung_plugin.dataio.cycles.CycleResampler"
    assert component in text
    command = f"!new:os.system [touch {tmp_path / 'created'}] #"
    path.write_text(text.replace(component, command))
    refuses(run, "resampler: !new:os.system")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: &x !apply:os.system [ls]\nb: *x\n", "line 1, names code"),
        ("b:\n  <<: &x {c: !apply:os.system [ls]}\n", "line 2, names code"),
        ("%TAG !e! !apply:\n---\na: !e!os.system [ls]\n", "line 3, names"),
        (
            "%TAG !e! tag:yaml.org,2002:python/\n---\na: !e!name:os.system\n",
            "line 3, names code",
        ),
        ("!apply:os.system {a: ls}\n", "line 1, names code"),
        ("!apply:os.system [ls]\n", "holds no keys"),
        ("a: b\n--- !apply:os.system [ls]\n", "is no YAML"),
        ("a: !!python/object/apply:os.system\n- ls\n", "line 1, names code"),
    ],
)
def test_code_that_hides(text, message):
    with pytest.raises(ValueError, match=f"^a.yaml.*{message}"):
        parse_architecture(text, "a.yaml")


def test_trust_runs_what_the_file_says(run, tmp_path):
    """The payloads do create the file where they are run."""
    path = inference_yaml(run)
    line = CODE["apply"].format(path=tmp_path / "created")
    path.write_text(path.read_text() + line + "\n")
    open_model(run, trust=True)
    assert (tmp_path / "created").exists()


def test_yaml_layout_is_refused_with_its_line(exported):
    for name in ("model.json", "model.safetensors"):
        (exported / name).unlink()
    message = refuses(exported, "hyperparams.yaml, line ", "trust=True")
    assert '"pretrainer: !new:speechbrain' in message
    path = exported / "hyperparams.yaml"
    path.write_text(path.read_text() + CODE["module"])
    assert open_model(exported, trust=True)["labels"] == LABELS


def test_plain_files_are_taken_before_yaml(exported, tmp_path):
    line = CODE["apply"].format(path=tmp_path / "created")
    (exported / "hyperparams.yaml").write_text(line)
    (exported / "custom.py").write_text(f"open({str(tmp_path / 'b')!r}, 'w')")
    for trust in (False, True):
        assert open_model(exported, trust=trust)["labels"] == LABELS
    assert not (tmp_path / "created").exists()
    assert not (tmp_path / "b").exists()


def test_line_cannot_control_the_terminal(run):
    path = inference_yaml(run)
    line = 'x: !apply:os.system ["\u202e\u2066"]'  # text runs backwards
    path.write_text(path.read_text() + line, encoding="utf-8")
    message = refuses(run, "names code")
    assert message.isprintable() and '["??"]' in message


def test_of_a_long_line_the_tag_is_shown():
    text = f"a: [{'1, ' * 500} !apply:os.system [ls]]\n"
    with pytest.raises(ValueError, match=r'"\.\.\. !apply:os.system \[ls\]'):
        parse_architecture(text, "a.yaml")


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij")
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a]\n",
        f"a: {'[' * 30_000}\n",
        f"a: {'[' * 500}{']' * 500}\n",
        f"a: {'9' * 100_000}\n",
        f"a: [{'1, ' * 60_000}]\n",
        "a: \x00\n",
        "a: 1\na: 2\n",
        "1: 2\n",
        "- 1\n",
        "",
        "a: [1\n",
        "a: !!int x\n",
        "\t\n",
    ],
)
def test_yaml_that_is_none_or_too_much(run, text):
    inference_yaml(run).write_text(text)
    refuses(run)


MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 7)}]}}\n"
    for a, b in zip("abcdefghijklmn", "bcdefghijklmno")
)


@pytest.mark.parametrize(
    "text, message",
    [
        (f"{LAUGHS}loss: *j\n", "too many values"),
        (f"{MERGES}loss: *o\n", "too many values"),
        ("loss: &a {x: *a}\n", "too many values"),
        (f"a: &a {'x' * 90_000}\nloss: [{'*a, ' * 5_000}]\n", "too many"),
        (f"loss: {'[' * 30_000}\n", "too many brackets"),
        (f"lr: {'9' * 100_000}\n", "is no YAML"),
        ("lr: 2020-99-99\n", "is no YAML"),
    ],
)
def test_hyperparameters_that_would_fill_the_memory(
    run, tmp_path, text, message
):
    """They are no part of the model, but of what is told of it."""
    (run / "hyperparams.yaml").write_text(text)

    def export(folder):
        export_run(folder, tmp_path / "out")

    refuses(run, "hyperparams.yaml", message, opened_by=export)
    assert not (tmp_path / "out").exists()


def test_hyperparameters_may_have_anchors(run):
    """HyperPyYAML writes them for its references."""
    text = "a: &a !new:torch.nn.Linear [1, 2]\nb: [*a, *a]\n"
    (run / "hyperparams.yaml").write_text(text)
    read = read_hyperparameters(run)
    assert read["b"][0] is read["b"][1] is read["a"]


def test_yaml_too_large_or_no_text(run):
    path = inference_yaml(run)
    with open(path, "ab") as file:
        file.truncate(2**30)
    refuses(run, "too large")
    path.write_bytes(b"a: \xff\xfe\n")
    refuses(run, "no text")


def test_numbers_are_read_as_the_training_reads_them():
    text = "a: 1e-5\nb: yes\nc: 0o10\nd: 1_000\ne: null\nf: True\ng: '1'\n"
    assert parse_architecture(text, "a.yaml") == {
        "a": 1e-5,
        "b": "yes",
        "c": 8,
        "d": 1000,
        "e": None,
        "f": True,
        "g": "1",
    }
