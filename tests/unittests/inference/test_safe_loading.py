"""Tests that a stranger's model runs nothing, and takes no more than its size.

What the payloads would do is to create a file.

Authors
 * qlung_plugin contributors
"""

import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from speechbrain.utils import checkpoints

from qlung_plugin.inference import safe_files
from qlung_plugin.inference.models import open_model
from qlung_plugin.utils.ordinary_files import parse_json
from tests.unittests.refusals import edit_json, refuses
from tests.unittests.small_runs import LABELS, make_run

NAN, INFINITE = float("nan"), float("inf")

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


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
        "{",
        "[]",
        "null",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        f'{{"a": {"9" * 100_000}}}',
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        "{} {}",
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


@given(st.recursive(PLAIN, lambda inner: st.lists(inner), max_leaves=5))
def test_strict_json_is_json(value):
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return
    if all(len(digits) <= 20 for digits in text.replace(",", " ").split()):
        assert parse_json(text, "a.json") == json.loads(text)


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


def huge_shape(entries):
    entries[first_tensor(entries)]["shape"] = [10**12]


def huge_offsets(entries):
    entries[first_tensor(entries)]["data_offsets"] = [0, 10**15]


def negative(entries):
    entries[first_tensor(entries)]["shape"] = [-1]


def another_type(entries):
    others = {"F32": "I32", "I64": "U64"}  # of the same length
    found = entries[first_tensor(entries)]
    found["dtype"] = others[found["dtype"]]


def shorter_type(entries):
    entries[first_tensor(entries)]["dtype"] = "U8"


def unknown_type(entries):
    entries[first_tensor(entries)]["dtype"] = {"a": []}


def another_shape(entries):
    entries[first_tensor(entries)]["shape"].append(1)


def renamed(entries):
    entries["backbone.other"] = entries.pop(first_tensor(entries))


def additional(entries):
    entries["other"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def no_tensors(entries):
    return "[]"


@pytest.mark.parametrize(
    "change, message",
    [
        (huge_shape, "is damaged"),
        (huge_offsets, "is damaged"),
        (negative, "is damaged"),
        (another_type, "does not fit its architecture"),
        (another_shape, "does not fit its architecture"),
        (shorter_type, "is damaged"),
        (unknown_type, "is damaged"),
        (renamed, "missing: "),
        (additional, "unknown: other"),
        (no_tensors, "is damaged"),
        (lambda entries: "x" * 50, "is damaged"),
        (lambda entries: "{}", "is damaged"),
        (lambda entries: " " * 2**21, "no safetensors file"),
    ],
)
def test_header_that_lies(exported, change, message):
    header(exported, change)
    refuses(exported, "model.safetensors", message)


def test_refusal_of_what_is_long_is_short(exported):
    def long_type(entries):
        entries[first_tensor(entries)]["dtype"] = "F" * 10**5

    header(exported, long_type)
    with pytest.raises(ValueError, match="model.safetensors is damaged") as e:
        open_model(exported)
    assert len(str(e.value)) < 1000


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


@pytest.mark.parametrize("length", [2**60, 2**63 + 5, 10**6, 10**9])
def test_length_of_the_header_that_lies(exported, length):
    path = exported / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refuses(exported, "model.safetensors", f"a header of {length} bytes")


def test_sparse_weights_of_a_terabyte(exported):
    with open(exported / "model.safetensors", "ab") as file:
        file.truncate(2**40)
    refuses(exported, "model.safetensors", "too large")


def test_truncated_anywhere(exported):
    path = exported / "model.safetensors"
    content = path.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    lengths = {0, 1, 7, 8, 9, start - 1, start, start + 1, len(content) - 1}
    lengths |= set(range(10, len(content), len(content) // 25))
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="model.safetensors"):
            open_model(exported)
    path.write_bytes(content + b"\0")
    refuses(exported, "model.safetensors")
    path.write_bytes(content)
    assert open_model(exported)["labels"] == LABELS


def test_truncated_json_anywhere(exported):
    path = exported / "model.json"
    text = path.read_text().rstrip()
    for length in range(0, len(text), len(text) // 40):
        path.write_text(text[:length])
        with pytest.raises(ValueError, match="model.json"):
            open_model(exported)


@settings(max_examples=60, deadline=None)
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
        ("classifier.weight", INFINITE, "NaN or infinite"),
        ("backbone.features.0.0.weight", -INFINITE, "NaN or infinite"),
        (VARIANCE, NAN, "NaN or infinite"),
        (VARIANCE, -1.0, "negative variance"),
        ("quality.ranges", INFINITE, "NaN or infinite"),
        ("quality.ranges", NAN, "NaN or infinite"),
        ("quality.ranges", -1.0, "no training set has"),
    ],
)
@pytest.mark.parametrize("source", ["exported", "run", "trusted", "YAML"])
def test_tensor_that_holds_no_numbers(
    run, exported, source, name, value, message
):
    """One number of any tensor, in whatever way the model is opened."""
    part, _, key = name.partition(".")
    folder = run if source in ("run", "trusted") else exported
    if source == "exported":
        path = folder / "model.safetensors"
        tensors = {k: v.clone() for k, v in load_file(path).items()}
        tensors[name].view(-1)[1] = value
        save_file(tensors, path)
    else:
        (path,) = folder.glob(
            f"save/CKPT*/{part}.ckpt" if folder == run else f"{part}.ckpt"
        )
        state = torch.load(path)
        state[key].view(-1)[1] = value
        torch.save(state, path)
        (exported / "model.json").unlink()
    if source in ("exported", "run"):
        refuses(folder, name, message)
    else:
        with pytest.raises(ValueError, match=f"{folder}.*{name}.*{message}"):
            open_model(folder, trust=True)


def test_measure_that_was_not_fitted(run):
    (path,) = run.glob("save/CKPT*/quality.ckpt")
    torch.save({"ranges": torch.full((2, 2), NAN)}, path)
    refuses(run, "quality.ranges is NaN", "AudioQualityScore is to be fitted")


def test_measure_that_need_not_be_fitted(tmp_path):
    quality = "!new:qlung_plugin.lobes.quality.LearnedQualityScore {sample_rate: 8000}"
    run = make_run(tmp_path / "run", quality=quality)
    assert open_model(run)["quality"].standards.isnan().all()


def test_missing_weights(exported):
    (exported / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no model.safetensors"):
        open_model(exported)


# --- pickles ----------------------------------------------------------------


def pickled(payload):
    return pickle.dumps(payload)


def saved(payload):
    buffer = io.BytesIO()
    torch.save({"weight": payload}, buffer)
    return buffer.getvalue()


def saved_the_old_way(payload):
    buffer = io.BytesIO()
    torch.save(
        {"weight": payload}, buffer, _use_new_zipfile_serialization=False
    )
    return buffer.getvalue()


PICKLES = (pickled, saved, saved_the_old_way)


@pytest.mark.parametrize("make", PICKLES)
def test_pickles_are_not_unpickled(run, exported, tmp_path, make):
    created = tmp_path / "created"
    content = make(Payload(created))
    (exported / "model.safetensors").write_bytes(content)
    refuses(exported, "model.safetensors")
    (exported / "model.json").write_bytes(content)
    refuses(exported, "model.json")
    (checkpoint,) = run.glob("save/CKPT*/backbone.ckpt")
    checkpoint.write_bytes(content)
    refuses(run, "backbone.ckpt")
    for folder in (run, exported):  # which runs YAML, but no pickle
        with pytest.raises(ValueError):
            open_model(folder, trust=True)
    assert not created.exists()
    if make is pickled:  # it would have
        pickle.loads(content)
        assert created.exists()


def test_checkpoint_in_the_old_format(run):
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    refuses(run, "backbone.ckpt", "not a readable state dict")


def test_checkpoint_that_is_a_bomb(run):
    """Compressed zeros, which would be a gigabyte."""
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    deflated = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}
    with zipfile.ZipFile(path, "w", **deflated) as archive:
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(2**24))
    refuses(run, "backbone.ckpt", "claims to hold")


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL"])
@pytest.mark.parametrize(
    "instructions",
    [
        b"cbuiltins\nbytearray\n(L100000000000L\ntR.",
        b"ctorch\nTensor\n(L100000000000L\ntR.",
        b"\x8c\x08builtins\x8c\x09bytearray\x93(L100000000000L\ntR.",
        b"(L100000000000L\nibuiltins\nbytearray\n.",
        b"N" * 2**23 + b".",
    ],
)
def test_checkpoint_that_makes_something_large(run, name, instructions):
    """torch.load makes a hundred gigabytes of a dozen bytes."""
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    with zipfile.ZipFile(path) as archive:
        members = {i.filename: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            if member.endswith("data.pkl"):
                member = member.replace("data.pkl", name)
                content = b"\x80\x02" + instructions
            archive.writestr(member, content)
    refuses(run, "backbone.ckpt", "not a readable state dict")


def archive(*members):
    """A zip of a few texts by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in members:
            written.writestr(name, content)
    return buffer.getvalue()


def test_checkpoint_that_is_another_file_to_another_reader(run):
    """torch.load reads an older format from the start, zipfile from the end."""
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    bomb = b"\x80\x02cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR."
    path.write_bytes(bomb + archive(("a/data.pkl", b"\x80\x02}.")))
    refuses(run, "backbone.ckpt", "does not start as an archive")
    whole = archive(("a/data.pkl", b"\x80\x02}."))
    for content in (
        archive(("a/data.pkl", bomb)) + whole,  # one before the other
        whole[:-2] + b"\1\0#",  # a comment, which may hold another end
    ):
        path.write_bytes(content)
        refuses(run, "backbone.ckpt", "not a readable state dict")


@pytest.mark.parametrize("change", [1, 13])
def test_checkpoint_whose_members_overlap(run, change):
    """As a zip bomb's do: the same bytes are several tensors."""
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    content = bytearray(path.read_bytes())
    start = struct.unpack("<I", content[-6:-2])[0]
    entries = [
        match.start()
        for match in re.finditer(b"PK\1\2", content)
        if match.start() >= start
    ]
    place = entries[change] + 42  # of where the member is
    content[place : place + 4] = content[
        entries[change + 1] + 42 : entries[change + 1] + 46
    ]
    path.write_bytes(content)
    refuses(run, "backbone.ckpt", "is out of place")


@pytest.mark.parametrize("kind", ["sparse", "another", "truncated"])
def test_checkpoint_that_is_none(run, kind):
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    if kind == "sparse":
        with open(path, "ab") as file:
            file.truncate(2**40)
    elif kind == "another":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-300])
    refuses(run, "backbone.ckpt")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [touch {path}]",
        "epoch: !!python/object/apply:os.system [touch {path}]",
        "epoch: [1",
        "epoch: {{}}\nscore: 1",
        "score: {{}}",
        "[]",
        "",
        "score: 1",
        "epoch: abc\nscore: 1",
        "epoch: " + "[" * 1000,
        "a: &a {{b: 1}}\nc: &c {{<<: [*a, *a]}}\nepoch: 1\nscore: 1",
        "epoch: 1\nscore: 1\n" + "#" * 2**22,
    ],
)
@pytest.mark.parametrize("unsafe", [False, True])
def test_description_of_a_checkpoint(run, tmp_path, monkeypatch, text, unsafe):
    """No version of SpeechBrain runs it; 1.1.0 reads it with yaml.Loader."""
    if unsafe:
        old = SimpleNamespace(
            load=lambda file, Loader: yaml.load(file, yaml.Loader),
            SafeLoader=None,
        )
        monkeypatch.setattr(checkpoints, "yaml", old)
    (path,) = run.glob("save/CKPT*/CKPT.yaml")
    path.write_text(text.format(path=tmp_path / "created"))
    refuses(run, error=(ValueError, FileNotFoundError))
    assert not (tmp_path / "created").exists()


# --- files that lead elsewhere ----------------------------------------------
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("relative", [False, True])
def test_links_out_of_the_folder(exported, tmp_path, name, relative):
    path, outside = exported / name, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(Path("../outside") if relative else outside)
    refuses(exported, name, "a link out of its folder")


def test_links_of_a_run(run, tmp_path):
    (path,) = run.glob("save/CKPT*/backbone.ckpt")
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    refuses(run, "backbone.ckpt", "a link out of its folder")


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


def test_no_file_name_is_read_from_a_file(exported, tmp_path):
    """There is none in a model.json: what looks like one is refused."""

    def change(description):
        description["weights"] = "../../outside.safetensors"
        description["architecture"]["backbone"]["arguments"][
            "pretrained_weights"
        ] = "../../outside.safetensors"

    shutil.copy(
        exported / "model.safetensors", tmp_path / "outside.safetensors"
    )
    edit_json(exported, change)
    refuses(exported, "backbone.pretrained_weights", "outside of the model")


def test_limits_leave_room_for_the_models_there_are():
    """The largest published backbones have 90 million parameters."""
    assert safe_files.LARGEST_WEIGHTS > 4 * 90e6 * 4
