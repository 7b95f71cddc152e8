"""Tests of what results depend on, and how two such states differ.

Authors
 * qlung_plugin contributors
"""

import pytest

import speechbrain as sb
from qlung_plugin.runs.configuration import (
    find_differences,
    flatten,
    resolve_yaml,
    run_options,
)

YAML = """
seed: 1
__set_seed: !apply:random.seed [!ref <seed>]
data_folder: !PLACEHOLDER
output_folder: !ref results/<seed>
number_of_epochs: 2
lr: 0.1
weights: null
quality: !new:a.Quality
    alpha: 0.7
    normalisation: fitted
margin: !new:a.Margin
    parts:
        - !new:a.One {kappa: 0.5}
        - !new:a.Other
modules:
    quality: !ref <quality>
opt_class: !name:a.Adam
    lr: !ref <lr>
lr_annealing: !new:a.Steps
    initial_value: !ref <lr>
epoch_counter: !new:a.Counter
    limit: !ref <number_of_epochs>
train_logger: !new:a.Logger
    save_file: !ref <output_folder>/log.txt
"""


@pytest.fixture
def configure(tmp_path):
    def configure(overrides="", text=YAML):
        (tmp_path / "a.yaml").write_text(text)
        if "data_folder" not in overrides:
            overrides = f"data_folder: d\n{overrides}"
        return flatten(resolve_yaml(tmp_path / "a.yaml", overrides))

    return configure


@pytest.mark.parametrize(
    "overrides, refused",
    [
        ("seed: 3", "seed, __set_seed[0]: it was 1, now it is 3"),
        (
            "lr: 0.2",
            "lr, opt_class.lr, lr_annealing.initial_value: it was 0.1, now it"
            " is 0.2",
        ),
        (
            "quality: {normalisation: absolute}",
            "quality.normalisation: it was fitted, now it is absolute",
        ),
        (
            "quality: {beta: 1}",
            "quality.beta: it was not there, now it is 1",
        ),
        (
            "number_of_epochs: 1",
            "number_of_epochs, epoch_counter.limit: it was 2, now it is 1",
        ),
        (
            "number_of_epochs: none",
            "number_of_epochs, epoch_counter.limit: it was 2, now it is none",
        ),
    ],
)
def test_what_results_depend_on_is_refused(configure, overrides, refused):
    differences = find_differences(configure(), configure(overrides))
    assert differences == ([refused], [])


@pytest.mark.parametrize(
    "old, new, key",
    [
        ("!new:a.Quality", "!new:b.Quality", "quality"),
        ("kappa: 0.5", "kappa: 0.6", "margin.parts[0].kappa"),
        ("!new:a.Other", "!new:a.Third", "margin.parts[1]"),
        ("!name:a.Adam", "!name:a.SGD", "opt_class"),
        ("!ref <quality>", "!new:a.Quality", "modules.quality"),
    ],
)
def test_another_component_is_refused(configure, old, new, key):
    assert old in YAML
    changed = configure(text=YAML.replace(old, new))
    [line], allowed = find_differences(configure(), changed)
    assert line.startswith(f"{key}: it was ") and not allowed


@pytest.mark.parametrize(
    "overrides",
    [
        "data_folder: /elsewhere",
        "output_folder: /elsewhere",
        "train_logger: {save_file: a}",
        "",
    ],
)
def test_what_changes_no_result_passes(configure, overrides):
    differences = find_differences(configure(), configure(overrides))
    assert differences == ([], [])


PREPARED = (
    "split: official\nprepare: !name:a.prepare\n    split: !ref <split>\n"
)


def test_a_folder_from_before_the_yaml_named_its_preparation(configure):
    """What it prepares is compared, and what is null is not used."""
    later = YAML + "prepare: !name:a.prepare {seed: 1}\nwindows: null\n"
    assert find_differences(configure(), configure(text=later)) == ([], [])
    [line], allowed = find_differences(
        configure(), configure(text=YAML.replace("fitted", "fitted\n    a:"))
    )
    assert line == "quality.a: it was not there, now it is null" and not allowed


def test_an_option_of_the_preparation_is_told_by_its_name(configure):
    text = YAML + PREPARED
    [line], allowed = find_differences(
        configure(text=text), configure("split: patient_folds", text)
    )
    assert line == "split: it was official, now it is patient_folds"
    assert not allowed


def test_more_epochs_pass_and_are_told(configure):
    now = configure("number_of_epochs: 3")
    refused, [allowed] = find_differences(configure(), now)
    assert not refused
    assert allowed.startswith("number_of_epochs, ") and "now it is 3" in allowed


def test_more_epochs_are_refused_where_the_rates_follow_them(configure):
    text = YAML + "    epochs: !ref <number_of_epochs>\n"
    text = text.replace("train_logger", "lr_schedule")
    [line], allowed = find_differences(
        configure(text=text), configure("number_of_epochs: 3", text)
    )
    assert "lr_schedule.epochs: it was 2, now it is 3" in line and not allowed


def test_a_file_is_compared_by_what_it_holds(configure, tmp_path):
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mn04.pt").write_bytes(content)
    one, same, other = (
        configure(f"weights: {tmp_path / name / 'mn04.pt'}") for name in "abc"
    )
    assert find_differences(one, same) == ([], [])
    [line], _ = find_differences(one, other)
    assert line.startswith("weights: it was mn04.pt (sha256 ")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], {}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--precision=fp32"], {}),
        (["--debug"], {"debug": True}),
        (["--max_grad_norm", "5.0"], {"max_grad_norm": 5.0}),
    ],
)
def test_options_of_speechbrain_count(arguments, expected, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    _, run_opts, _ = sb.parse_arguments(["a.yaml", *arguments])
    # The YAML clips gradients in its own way.
    result = run_options(run_opts, {"max_grad_norm": 1.0})
    assert result == {**expected, "processes": 1}


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        ("a: [", "", "is no YAML"),
        (YAML, "lr: 1\nlr: 2", "an option, is no YAML: .* duplicate key"),
        ("- a", "", "structure of the overrides"),
        (YAML, "nonsense: 3", "nonsense is no option of"),
        (YAML.replace("<quality>", "<none>"), "", '"none" is not valid'),
    ],
)
def test_a_wrong_yaml_or_option_is_named(configure, text, overrides, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        configure(overrides, text)


def test_a_long_mapping_with_names_of_several_words_is_read(configure):
    """Wherever a line of it would be broken."""
    text = YAML + "first: !name:a.Prepare [!ref <names>]\nnames: {}\n"
    for width in range(30):
        names = {
            f"{'x' * width}y": 1,
            **{f"an {n} old name": n for n in "abcdef"},
        }
        told = ", ".join(f"{key}: {value}" for key, value in names.items())
        flat = configure(f"names: {{{told}}}", text)
        assert {
            key.removeprefix("first[0]."): value
            for key, value in flat.items()
            if key.startswith("first[0].")
        } == names
