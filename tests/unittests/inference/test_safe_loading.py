"""Tests that a stranger's model runs nothing, and takes no more than its size.

What the payloads would do is to create a file.

Authors
 * qlung_plugin contributors
"""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from safetensors.torch import load_file, save_file

from qlung_plugin.inference.models import open_model
from tests.unittests.refusals import refuses
from tests.unittests.small_runs import LABELS, make_run

NAN, INFINITE = float("nan"), float("inf")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


# --- JSON -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        f'{{"a": {"9" * 100_000}}}',
        "[" * 100_000 + "]" * 100_000,
        "!apply:os.system [ls]",
    ],
)
def test_json_that_is_none(exported, text):
    (exported / "model.json").write_text(text)
    refuses(exported, "model.json")


def test_json_too_large_or_no_text(exported):
    path = exported / "model.json"
    with open(path, "ab") as file:
        file.truncate(2**30)  # sparse
    refuses(exported, "model.json", "too large")
    path.write_bytes(b'{"a": "\xff"}')
    refuses(exported, "model.json", "no text")


# --- weights ----------------------------------------------------------------


def header(folder, change):
    """Rewrites the header of model.safetensors."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    entries = json.loads(content[8 : 8 + length])
    text = change(entries) or json.dumps(entries)
    start = text.encode()
    path.write_bytes(
        struct.pack("<Q", len(start)) + start + content[8 + length :]
    )


def first_tensor(entries):
    return next(key for key in entries if key != "__metadata__")


def of_first(**lie):
    """Changes what is said of the first tensor."""
    return lambda entries: entries[first_tensor(entries)].update(lie)


def another_shape(entries):
    entries[first_tensor(entries)]["shape"].append(1)


def renamed(entries):
    entries["backbone.other"] = entries.pop(first_tensor(entries))


def additional(entries):
    entries["other"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    "change, message",
    [
        (of_first(shape=[10**12]), "is damaged"),
        (of_first(shape=[-1]), "is damaged"),
        (of_first(data_offsets=[0, 10**15]), "is damaged"),
        (another_shape, "does not fit its architecture"),
        (of_first(dtype="F" * 10**5), "is damaged"),
        (renamed, "missing: "),
        (additional, "unknown: other"),
        (lambda entries: "[]", "is damaged"),
        (lambda entries: "{}", "is damaged"),
        (lambda entries: " " * 2**21, "is damaged"),
    ],
)
def test_header_that_lies(exported, change, message):
    header(exported, change)
    assert len(refuses(exported, "model.safetensors", message)) < 1000


@pytest.mark.parametrize("lie_is_last", [False, True])
def test_what_is_checked_of_a_repeated_name_is_what_is_read(
    exported, lie_is_last
):
    def repeat(entries):
        key = first_tensor(entries)
        lie = {**entries[key], "shape": [*entries[key]["shape"], 1]}
        parts = [f"{json.dumps(key)}: {json.dumps(lie)}"]
        parts.insert(0 if lie_is_last else 1, json.dumps(entries)[1:-1])
        return f"{{{', '.join(parts)}}}"

    header(exported, repeat)
    if lie_is_last:
        refuses(exported, "model.safetensors", "does not fit its architecture")
    else:
        assert open_model(exported)["labels"] == LABELS


@pytest.mark.parametrize("length", [2**63 + 5, 10**6])
def test_length_of_the_header_that_lies(exported, length):
    path = exported / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refuses(exported, "model.safetensors", "is damaged")


def test_sparse_weights_of_a_terabyte(exported):
    with open(exported / "model.safetensors", "ab") as file:
        file.truncate(2**40)
    refuses(exported, "model.safetensors", "too large")


def test_truncated_anywhere(exported):
    path = exported / "model.safetensors"
    content = path.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    lengths = {0, 1, 7, 8, 9, start - 1, start, start + 1, len(content) - 1}
    lengths |= set(range(10, len(content), len(content) // 10))
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="model.safetensors"):
            open_model(exported)
    path.write_bytes(content + b"\0")
    refuses(exported, "model.safetensors")
    path.write_bytes(content)
    assert open_model(exported)["labels"] == LABELS


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_bytes_overwritten_at_random(originals, tmp_path_factory, data):
    """Whatever is damaged, the outcome is a model or a ValueError."""
    folder = tmp_path_factory.mktemp("damaged") / "exported"
    shutil.copytree(originals / "exported", folder)
    name = data.draw(st.sampled_from(["model.json", "model.safetensors"]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 4000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    try:
        assert open_model(folder).keys() > {"labels", "backbone"}
    except ValueError as error:
        assert str(folder) in str(error)
    shutil.rmtree(folder)


VARIANCE = "backbone.features.0.1.running_var"


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("classifier.weight", NAN, "NaN or infinite"),
        ("backbone.features.0.0.weight", -INFINITE, "NaN or infinite"),
        (VARIANCE, -1.0, "negative variance"),
        ("quality.ranges", NAN, "NaN or infinite"),
        ("quality.ranges", -1.0, "no training set has"),
    ],
)
def test_tensor_that_holds_no_numbers(exported, name, value, message):
    change_tensor(exported, name, value)
    refuses(exported, name, message)


def test_measure_that_was_not_fitted(exported):
    change_tensor(exported, "quality.ranges", NAN, slice(None))
    refuses(
        exported, "quality.ranges is NaN", "AudioQualityScore is to be fitted"
    )


def change_tensor(folder, name, value, place=1):
    """Puts a number into a tensor of model.safetensors."""
    path = folder / "model.safetensors"
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    tensors[name].view(-1)[place] = value
    save_file(tensors, path)


def test_measure_that_need_not_be_fitted(tmp_path):
    quality = "!new:qlung_plugin.lobes.quality.LearnedQualityScore {sample_rate: 8000}"
    run = make_run(tmp_path / "run", quality=quality)
    assert open_model(run)["quality"].standards.isnan().all()


def test_missing_weights(exported):
    (exported / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no model.safetensors"):
        open_model(exported)


# --- pickles ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_pickles_are_not_unpickled(exported, tmp_path, name):
    created = tmp_path / "created"
    content = pickle.dumps(Payload(created))
    (exported / name).write_bytes(content)
    refuses(exported, name)
    assert not created.exists()
    pickle.loads(content)  # it would have
    assert created.exists()


def test_nothing_else_of_a_folder_is_read(run, exported, tmp_path):
    """YAML, pickles and code beside a model, of a run and of an export."""
    created = tmp_path / "created"
    for folder in (run, exported, run / "model" / "selected"):
        for name in ("hyperparams.yaml", "save/inference.yaml"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"a: !apply:os.system [touch {created}]")
        (folder / "backbone.ckpt").write_bytes(pickle.dumps(Payload(created)))
        (folder / "custom.py").write_text(f"open({str(created)!r}, 'w')")
        assert open_model(folder)["labels"] == LABELS
    assert not created.exists()


# --- files that lead elsewhere ----------------------------------------------
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("relative", [False, True])
def test_links_out_of_the_folder(exported, tmp_path, name, relative):
    path, outside = exported / name, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(Path("../outside") if relative else outside)
    refuses(exported, name, "a link out of its folder")


def test_links_within_the_folder_and_to_it(exported, tmp_path):
    (exported / "model.json").rename(exported / "a.json")
    (exported / "model.json").symlink_to("a.json")
    (tmp_path / "link").symlink_to(exported)
    assert open_model(tmp_path / "link")["labels"] == LABELS


def test_folder_called_like_a_cached_one_is_none(exported, tmp_path):
    folder = tmp_path / "snapshots" / "0123abc"
    folder.parent.mkdir()
    exported.rename(folder)
    (folder / "model.json").rename(tmp_path / "outside")
    (folder / "model.json").symlink_to(tmp_path / "outside")
    refuses(folder, "a link out of its folder")


def test_link_to_itself(exported):
    (exported / "model.json").unlink()
    (exported / "model.json").symlink_to("model.json")
    with pytest.raises((ValueError, OSError)):
        open_model(exported)


def test_what_is_no_ordinary_file(exported):
    for name in ("model.safetensors", "model.json"):
        (exported / name).unlink()
        os.mkfifo(exported / name)
        refuses(exported, name, "no ordinary file")
        (exported / name).unlink()
        (exported / name).mkdir()
        refuses(exported, name, "no ordinary file")
