"""Tests of YAMLs that say only what they change in another one.

Authors
 * qlung_plugin contributors
"""

import os

import pytest
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.runs.hparams import check_keys, read_hparams

WHOLE = """\
# The whole
# Authors

# Comes first
seed: 1  # any

# How fast
lr: 0.1
width: 0.4

# What is made
model: !new:collections.Counter
    width: !ref <width>

    lr: !ref <lr>
names:
- a
- b
"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    write("whole.yaml", WHOLE)
    return write


def test_a_whole_yaml_stays_as_it_is(write):
    assert read_hparams(write("a.yaml", WHOLE)) == WHOLE


def test_without_changes_it_is_what_it_includes(write):
    path = write("a.yaml", "# Title\n\n!include:whole.yaml\n")
    _, _, keys = WHOLE.partition("# Comes")
    assert read_hparams(path) == f"# Title\n\n# Comes{keys}"


def test_blocks_stand_where_those_of_the_same_key_stood(write):
    path = write(
        "changes.yaml",
        """\
# The changes

# As there, but
!include:whole.yaml

# How slowly
lr: 0.2

names: [c]

model: !new:collections.Counter
    height: !ref <height>
width: !remove

height: 3
""",
    )
    assert (
        read_hparams(path)
        == """\
# The changes

# Comes first
seed: 1  # any

# How slowly
lr: 0.2
# What is made
model: !new:collections.Counter
    height: !ref <height>
names: [c]
height: 3
"""
    )
    made = load_hyperpyyaml(read_hparams(path), "height: 5")
    assert made["model"] == {"height": 5}


def test_what_is_included_may_include(write, tmp_path, monkeypatch):
    """From any folder, and through a link."""
    write("a.yaml", "!include:whole.yaml\nlr: 0.2\n")
    write("part.yaml", "!new:collections.Counter\na: 1\n")
    write("a b/b.yaml", "!include:../a.yaml\nmodel: !include:../part.yaml {}\n")
    write("c/d.yaml", f"!include:{tmp_path}/a%20b/b.yaml\nseed: 2\n")
    (tmp_path / "link.yaml").symlink_to("c/d.yaml")
    monkeypatch.chdir(os.sep)
    made = load_hyperpyyaml(read_hparams(tmp_path / "link.yaml"), "width: 2")
    assert (made["seed"], made["lr"], made["width"]) == (2, 0.2, 2)
    assert made["model"] == {"a": 1}


@pytest.mark.parametrize(
    "changes, message",
    [
        ("l_r: 0.2", "gives l_r, which .*whole.yaml does not have"),
        ("l_r: !remove", "gives l_r, which"),
        (
            "model: {lr: 3}",
            "replaces model .* !new:collections.Counter with all",
        ),
    ],
)
def test_a_change_that_does_not_fit_is_refused(write, changes, message):
    path = write("a.yaml", f"!include:whole.yaml\n{changes}\n")
    with pytest.raises(ValueError, match=f"a.yaml {message}"):
        read_hparams(path)


def test_an_option_of_brain_needs_no_reference(write):
    path = write("a.yaml", "!include:whole.yaml\nmax_grad_norm: 2.0\n")
    assert load_hyperpyyaml(read_hparams(path))["max_grad_norm"] == 2.0


def test_what_cannot_be_included_is_named(write):
    for name in ("a", "nothing", "empty"):
        write(f"of_{name}.yaml", f"!include:{name}.yaml\nlr: 1\n")
    write("empty.yaml", "")
    write("a.yaml", "!include:of_a.yaml\nlr: 1\n")
    for name, kind, message in (
        ("a", ValueError, "of_a.yaml includes itself"),
        ("nothing", FileNotFoundError, "nothing.yaml"),
        ("empty", ValueError, "empty.yaml, which holds no keys"),
    ):
        with pytest.raises(kind, match=message):
            read_hparams(
                write(f"of_{name}.yaml", f"!include:{name}.yaml\nlr: 1")
            )


def test_keys_that_a_script_looks_up_are_asked_for(write):
    script = write(
        "train.py",
        '''"""> python train.py hparams/a.yaml"""
prepare = hparams["prepare"]
self.hparams.score.clear()
''',
    )
    check_keys(script, "my.yaml", {"prepare": 1, "score": 2})
    message = (
        "my.yaml lacks prepare, score, which train.py needs: .* from hparams/a"
    )
    with pytest.raises(ValueError, match=message):
        check_keys(script, "my.yaml", {})
