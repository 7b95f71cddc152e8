"""Tests of where the cycles of a recording come from.

Authors
 * qlung_plugin contributors
"""

import json
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.dataio import cycle_sources
from qlung_plugin.dataio.cycle_sources import (
    Windows,
    find_cycles,
    segment_recording,
)
from qlung_plugin.dataio.icbhi import read_corpus
from qlung_plugin.dataio.recordings import Recording

NAME = "101_1b1_Al_sc_Meditron"
TIMES = [(0.5, 2.0), (2.0, 4.5)]
ICBHI = "0.5\t2.0\t0\t0\n2.0\t4.5\t1\t0\n"
CSV = "start,end\n0.5,2.0\n2.0,4.5\n"


def make_recording(folder, name=f"{NAME}.wav", seconds=10.0, rate=4000):
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.05, round(seconds * rate))
    soundfile.write(folder / name, noise, rate)
    return Recording(folder / name)


def sprsound(times):
    """An annotation of events, in milliseconds as text."""
    events = [
        {"start": f"{1000 * s:.0f}", "end": f"{1000 * e:.0f}", "type": "Normal"}
        for s, e in times
    ]
    content = {"record_annotation": "Normal", "event_annotation": events}
    return json.dumps(content)


@pytest.fixture
def recording(tmp_path):
    return make_recording(tmp_path / "recordings")


@pytest.fixture
def annotate(tmp_path):
    """Writes an annotation, and gives its path."""

    def write(content, name="cycles.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "name, content",
    [
        ("cycles.txt", ICBHI),
        ("cycles.TXT", "\ufeff" + ICBHI.replace("\n", "\r\n")),
        ("cycles.json", sprsound(TIMES)),
        ("cycles.csv", CSV),
        ("cycles.CSV", CSV),
    ],
)
def test_a_file_of_each_kind(recording, annotate, name, content):
    path = annotate(content, name)
    found = find_cycles(recording, path)
    assert found.times == TIMES
    assert found.source == str(path)
    assert found.confidence is None
    assert find_cycles(recording, str(path)).times == TIMES


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.replace(",", " , "),
        CSV + "\n\n",
        "end,label,start\n2.0,x,0.5\n4.5,,2.0\n",
        "start,end\n0.5,2.0,extra\n2.0,4.5\n",
        '"start","end"\n"0.5","2.0"\n"2.0","4.5"\n',
        "start,end,note\n0.5,2.0,\xe9t\xe9\n2.0,4.5,\n".encode("latin-1"),
    ],
)
def test_a_csv_as_programs_write_it(recording, annotate, content):
    assert find_cycles(recording, annotate(content)).times == TIMES


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "start;end\n1;2\n", "separated by commas"),
        ("a.csv", "start,end,start\n1,2,3\n", "several columns start"),
        ("a.csv", "start,end\n1\n", "a.csv:2: start or end is missing"),
        ("a.csv", "start,end\n1,2\n1,x\n", "a.csv:3: 'x' is not a number"),
        ("a.csv", "start,end\n\xe9,2\n".encode("latin-1"), "a.csv:2"),
        ("a.csv", "recording,start,end\nb,1,2\n", "no cycle of 101_1b1"),
        ("a.csv", f"start,end\n1,{'2' * 200_000}\n", "not readable as CSV"),
        ("a.xml", "<a/>", "is no annotation: expected is .txt, .json, .csv"),
        ("a.csv", "start,end\n2,2\n", "cycle 1: from 2 to 2 s is no stretch"),
        ("a.csv", "start,end\n1,2\n3,1\n", "cycle 2: from 3 to 1 s is no"),
        ("a.csv", "start,end\n10,12\n", "has no sample of .*10 s long"),
        ("a.csv", "start,end\n1,1.00001\n", "has no sample of"),
        ("a.csv", "start,end\n9,10.2\n", "ends past the end of .*10 s long"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    recording, annotate, name, content, message
):
    path = annotate(content, name)
    with pytest.raises(ValueError, match=message) as error:
        find_cycles(recording, path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.txt", ""),
        ("a.txt", "\n \n"),
        ("a.json", sprsound([])),
        ("a.csv", "start,end\n"),
    ],
)
def test_an_annotation_may_hold_no_cycle(recording, annotate, name, content):
    assert find_cycles(recording, annotate(content, name)).times == []


def test_cycles_are_clipped_to_the_recording(recording, annotate):
    path = annotate("start,end\n8,10.05\n0,10.1\n9.9,10.0001\n")
    assert find_cycles(recording, path).times == [
        (8.0, 10.0),
        (0.0, 10.0),
        (9.9, 10.0),
    ]


def test_a_cycle_of_more_than_a_minute_is_none(tmp_path):
    recording = make_recording(tmp_path, seconds=70, rate=1000)
    assert find_cycles(recording, [(5, 65)]).times == [(5.0, 65.0)]
    with pytest.raises(ValueError, match="longer than 60 s.*in windows"):
        find_cycles(recording, [(5, 65.5)])


def test_times_may_be_given(recording):
    found = find_cycles(recording, TIMES)
    assert found == (TIMES, "given", None)
    assert find_cycles(recording, np.array(TIMES)).times == TIMES
    assert find_cycles(recording, (pair for pair in TIMES)).times == TIMES
    assert find_cycles(recording, []).times == []
    # In the order given, overlapping or not.
    assert find_cycles(recording, [(3, 5), (1, 4)]).times == [(3, 5), (1, 4)]


@pytest.mark.parametrize(
    "cycle, message",
    [
        ((1, math.nan), "no stretch of time"),
        ((1, math.inf), "no stretch of time"),
        ((-1, 2), "no stretch of time"),
        (3.0, "no start and end in seconds"),
        ((1, 2, 3), "no start and end in seconds"),
        (("a", 2), "no start and end in seconds"),
    ],
)
def test_times_that_are_none_are_refused(recording, cycle, message):
    with pytest.raises(ValueError, match=f"given, cycle 2: .* is {message}"):
        find_cycles(recording, [(0, 1), cycle])


@pytest.mark.parametrize(
    "suffix, content",
    [(".TXT", ICBHI), (".json", sprsound(TIMES)), (".csv", CSV)],
)
def test_the_annotation_beside_a_recording(recording, suffix, content):
    path = recording.path.with_suffix(suffix)
    path.write_text(content)
    found = find_cycles(recording)
    assert found.times == TIMES
    assert found.source == str(path)
    assert find_cycles(recording, "auto") == found
    assert find_cycles(recording, "segmentation").source == "segmentation"


def test_without_annotation_it_is_segmented(recording):
    found = find_cycles(recording)
    assert found.source == "segmentation"
    assert 0 < found.confidence < 0.5  # noise
    assert found == find_cycles(recording, "segmentation")


def test_a_folder_is_searched_at_any_depth(annotate, tmp_path):
    """Also for a name that looks like a pattern."""
    recording = make_recording(tmp_path, "a[1]*.wav")
    folder = tmp_path / "annotations"
    path = annotate(ICBHI, "annotations/a/b/a[1]*.txt")
    annotate("no annotation", "annotations/a/a[1]*.log")
    annotate("start,end\n1,2\n", "annotations/c/a[1]*.old.csv")
    annotate("start,end\n1,2\n", "annotations/c/a1.csv")
    assert find_cycles(recording, folder).source == str(path)
    # The one that lies directly in it comes first; others are not chosen from.
    annotate(ICBHI, "annotations/d/a[1]*.txt")
    with pytest.raises(ValueError, match="2 annotations of .*; name one"):
        find_cycles(recording, folder)
    direct = annotate(CSV, "annotations/a[1]*.csv")
    assert find_cycles(recording, folder).source == str(direct)


def test_what_is_not_there(recording, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no annotation of .*101_1b1"):
        find_cycles(recording, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="segmentation or windows"):
        find_cycles(recording, "window")


@given(
    st.floats(0.01, 1e5),
    st.floats(0.5, 20),
    st.floats(0.3, 20),
)
@settings(max_examples=60, deadline=None)
def test_windows_cover_a_recording(duration, length, hop):
    hop = min(hop, length)
    duration = min(duration, 1000 * hop)
    found = Windows(duration, length, hop)
    assert len(found) == len(list(found))
    starts, ends = map(np.array, zip(*found))
    assert starts[0] == 0
    assert ends[-1] == pytest.approx(duration)
    assert ends - starts == pytest.approx(min(length, duration))
    # One after the other, no two the same, and nothing between them.
    assert (np.diff(starts) > 0).all()
    assert (starts[1:] <= ends[:-1] + 1e-9).all()


def test_windows_of_a_million_years_are_not_made_before_they_are_read():
    years = Windows(1e6 * 365 * 86400)
    assert years[0] == (0, 5)
    assert years[2:4] == [(5, 10), (7.5, 12.5)]
    assert years[-1] == (years.duration - 5, years.duration)
    with pytest.raises(IndexError):
        years[len(years)]


@pytest.mark.parametrize("rate", [4000, 7919])
def test_segmentation_does_not_depend_on_the_blocks(
    tmp_path, monkeypatch, rate
):
    recording = make_recording(tmp_path, seconds=33.37, rate=rate)
    whole = segment_recording(recording)
    monkeypatch.setattr(cycle_sources, "BLOCK", 7.0)
    blocks = segment_recording(recording)
    # But for the last frame, which ends with the recording.
    assert blocks.times == whole.times
    assert blocks.confidence == pytest.approx(whole.confidence, abs=1e-6)
    assert whole.times[-1][1] <= recording.duration
    # The last block may be a few samples.
    recording = make_recording(tmp_path, seconds=7.0005, rate=rate)
    end = segment_recording(recording).times[-1][1]
    assert 7 - 0.6 < end <= recording.duration


@pytest.mark.parametrize("samples", [1, 10, 3000])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_every_recording_has_a_cycle_to_classify(tmp_path, samples, level):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(samples, level), 4000)
    recording = Recording(path)
    found = segment_recording(recording)
    assert found.times == [(0.0, recording.duration)]
    assert found.confidence == 0
    assert len(recording.read(*found.times[0])) == samples


def test_annotations_are_read_without_speechbrain(recording, annotate):
    """Importing it takes seconds, which `qlung quality` does not need."""
    script = (
        "import sys\n"
        "from qlung_plugin.dataio.cycle_sources import find_cycles\n"
        "from qlung_plugin.dataio.recordings import Recording\n"
        "for path in sys.argv[2:]:\n"
        "    print(len(find_cycles(Recording(sys.argv[1]), path).times))\n"
        "print({'speechbrain', 'sklearn', 'pandas'} & {*sys.modules})\n"
    )
    paths = [
        annotate(CSV),
        annotate(sprsound(TIMES), "a.json"),
        annotate(ICBHI, "a.txt"),
    ]
    command = [sys.executable, "-c", script, recording.path, *paths]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["2", "2", "2", "set()"]


def test_real_breaths_are_counted(real_data):
    """On the side that the segmentation was made with: no worse than then.

    Without the period the number of cycles is off by 2.8, and by 4.2 if all
    have the median length.
    """
    cycles, _, _ = read_corpus(real_data / "icbhi_sc")
    counts = Counter(c["wav"] for c in cycles if c["side"] == "train")
    errors = [
        abs(len(segment_recording(Recording(path)).times) - annotated)
        for path, annotated in counts.items()
    ]
    assert len(errors) == 92
    assert np.mean(errors) < 2.2
