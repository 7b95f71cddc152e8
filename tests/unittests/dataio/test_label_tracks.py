"""Labels of Audacity and Raven: written, read back, and recognised.

Authors
 * qlung_plugin contributors
"""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.dataio.annotations import find_labels, read_labels
from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.dataio.label_tracks import (
    check_labelled,
    format_audacity,
    format_raven,
    is_audacity,
    is_raven,
    parse_audacity,
    parse_raven,
)
from qlung_plugin.dataio.shares import share_out
from tests.unittests.dataio.test_cycle_sources import make_recording

TIMES = st.integers(0, 10**9).map(lambda n: n / 10**6)  # microseconds
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"),
    max_size=9,
).filter(lambda text: text == text.strip())
LABELS = st.lists(st.tuples(TIMES, TIMES, TEXTS), max_size=5)
RAVEN = (  # as Raven Pro 1.6 writes it: each view of a selection, tabs, no quotes
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)"
    "\tHigh Freq (Hz)\tBegin File\tFile Offset (s)\tAnnotation\n"
    "1\tWaveform 1\t1\t0.5\t2\t0\t4000\ta.wav\t0.5\twheeze\n"
    "1\tSpectrogram 1\t1\t0.5\t2\t100\t900\ta.wav\t0.5\twheeze\n"
    "2\tSpectrogram 1\t1\t11.25\t12.5\t100\t900\tb.wav\t1.25\t5'' \"fine\"\n"
)


@given(LABELS)
def test_what_is_written_is_read_back(labels):
    for write, read in (
        (format_audacity, parse_audacity),
        (partial(format_raven, highest=2000), parse_raven),
    ):
        found = read(write(labels), "x.txt")
        assert [label.text for label in found] == [text for *_, text in labels]
        for label, (start, end, _) in zip(found, labels):
            assert label.start == pytest.approx(start, abs=1e-6)
            assert label.end == pytest.approx(end, abs=1e-6)


@given(LABELS.filter(len))
def test_each_is_known_by_its_content(labels):
    track, table = format_audacity(labels), format_raven(labels, 2000)
    assert is_audacity(track) and not is_raven(track)
    assert is_raven(table) and not is_audacity(table)


def test_a_track_with_frequencies_points_and_decimal_commas():
    text = (
        "0,5\t2,25\tfine crackle\n\\\t100,0\t900,0\n\n3.0\t3.0\there\n4\t5\t\n"
    )
    labels = parse_audacity(text, "a.txt")
    assert [label[:4] for label in labels] == [
        (0.5, 2.25, "fine crackle", "a.txt:1"),
        (3.0, 3.0, "here", "a.txt:4"),
        (4.0, 5.0, "", "a.txt:5"),
    ]
    with pytest.raises(ValueError, match="a.txt:5: 1 of 3 labels have no text"):
        check_labelled(labels)
    with pytest.raises(ValueError, match="a.txt:4: 'here' is at a moment"):
        check_labelled(labels[:2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 2.0 wheeze\n", "a.txt:1: 1 fields, and not start, end and label"),
        ("0.5\t2\t0\n2\t3\t0\t1\n", "a.txt:2: 4 fields, and not start, end"),
        ("0.5\t2\tx\nlate\t3\ty\n", "a.txt:2: 'late' is not a number"),
        ("-1\t2\tx\n", "a.txt:1: '-1' is not a number of 0 or more"),
    ],
)
def test_a_line_that_is_no_label_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_audacity(text, "a.txt")


def test_views_of_a_selection_are_one_label_of_its_file():
    labels = parse_raven(RAVEN, "x.txt")
    assert [label[:3] for label in labels] == [
        (0.5, 2.0, "wheeze"),
        (1.25, 2.5, "5'' \"fine\""),
    ]
    assert [label.file for label in labels] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("End Time (s)", "Fin (s)", "x.txt lacks the columns End Time"),
        ("1\t0.5\t2\t100", "1\t0.5\t3\t100", "x.txt:3: selection 1 has other"),
        ("12.5", "soon", "x.txt:4: 'soon' is not a number"),
    ],
)
def test_a_malformed_table_says_where(old, new, message):
    with pytest.raises(ValueError, match=message):
        parse_raven(RAVEN.replace(old, new, 1), "x.txt")


@pytest.mark.parametrize(
    "name", ["Begin File\tBegin Path", "Begin Path", "Begin File"]
)
def test_a_row_names_its_recording_by_file_or_path(name):
    path = "C:\\lungs\\a.wav"
    value = {"Begin File": "a.wav", "Begin Path": path}.get(
        name, f"a.wav\t{path}"
    )
    text = RAVEN.replace("Begin File", name).replace("a.wav", value)
    text = text.replace("b.wav", value.replace("a.wav", "b.wav"))
    expected = "a.wav" if name == "Begin File" else path
    assert parse_raven(text, "x.txt")[0].file == expected


def test_selections_of_files_may_be_counted_anew():
    text = RAVEN.replace("\n2\t", "\n1\t")
    assert [x.file for x in parse_raven(text, "x.txt")] == ["a.wav", "b.wav"]


def test_without_offsets_a_table_is_of_one_recording():
    text = RAVEN.replace("File Offset (s)", "Offset")
    with pytest.raises(ValueError, match=r"x.txt:2: .* File Offset \(s\) is"):
        parse_raven(text, "x.txt")
    one = "".join(text.splitlines(keepends=True)[:3])
    assert [x[:3] for x in parse_raven(one, "x.txt")] == [(0.5, 2.0, "wheeze")]


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb", " a", "a "])
def test_a_label_that_no_line_can_hold_is_refused(text):
    for write in (format_audacity, partial(format_raven, highest=2000)):
        with pytest.raises(ValueError, match="tab, a line break, or blanks"):
            write([(0.0, 1.0, text)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", format_audacity([(0.5, 2, "wheeze"), (2, 3, "0 1")])),
        ("a.txt", format_raven([(0.5, 2, "wheeze"), (2, 3, "0 1")], 2000)),
        (
            "a.Table.1.selections.txt",
            format_raven([(0.5, 2, "wheeze"), (2, 3, "0 1")], 2000),
        ),
    ],
)
def test_labels_beside_a_recording_or_in_a_folder_are_its_cycles(
    tmp_path, name, text
):
    recording = make_recording(tmp_path, "a.wav")
    folder = tmp_path / "labels" / "deeper"
    folder.mkdir(parents=True)
    for path in (tmp_path / name, folder / name):
        path.write_text(text)
    expected = [(0.5, 2.0), (2.0, 3.0)]
    for source in ("auto", tmp_path / "labels", tmp_path / name):
        assert list(find_cycles(recording, source).times) == expected
    labels = read_labels(tmp_path / name, recording.path)
    assert [label.text for label in labels] == ["wheeze", "0 1"]


def test_icbhi_stays_icbhi(tmp_path):
    recording = make_recording(tmp_path, "a.wav")
    path = tmp_path / "a.txt"
    path.write_text("0.5\t2.0\t0\t1\n2.0\t3.0\t1\t1\n")
    labels = read_labels(path, recording.path)
    assert [label.text for label in labels] == ["wheeze", "both"]


def test_a_table_of_several_recordings_is_shared_out(tmp_path):
    table = tmp_path / "all.txt"
    table.write_text(RAVEN)
    recordings = [make_recording(tmp_path, f"{n}.wav").path for n in "abc"]
    shares, notes = share_out(str(table), recordings)
    assert [share.times() for share in shares[:2]] == [
        [(0.5, 2.0)],
        [(1.25, 2.5)],
    ]
    with pytest.raises(ValueError, match="no cycle of c.wav"):
        shares[2].times()
    assert notes == []
    _, [note] = share_out(str(table), recordings[1:])
    assert "1 of 2 rows name no recording given: a.wav" in note
    with pytest.raises(ValueError, match="no cycle of c.wav"):
        read_labels(table, recordings[2])
    assert [x.text for x in read_labels(table, Path("b.wav"))] == [
        "5'' \"fine\""
    ]


def test_a_table_of_another_recording_annotates_none(tmp_path):
    table = tmp_path / "all.txt"
    table.write_text("".join(RAVEN.splitlines(keepends=True)[:3]))
    other = make_recording(tmp_path, "b.wav")
    with pytest.raises(ValueError, match="no cycle of b.wav"):
        find_cycles(other, table)


def test_a_csv_may_have_labels_under_the_names_of_labelled_tables(tmp_path):
    recording = make_recording(tmp_path, "a.wav")
    table = tmp_path / "table.csv"
    table.write_text("path,start,end,label\na.wav,0.5,2,wheeze\nb.wav,0,1,x\n")
    [label] = read_labels(table, recording.path)
    assert label[:3] == (0.5, 2.0, "wheeze")
    assert label.where == f"{table}:2"
    assert find_cycles(recording, table).times == [(0.5, 2.0)]


def make_tracks(folder, *names):
    """Recordings, and the label tracks of them, which hold their names."""
    for name in names:
        (folder / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        make_recording(folder / "audio", f"{name}.wav")
        track = folder / "labels" / f"{name}.txt"
        track.parent.mkdir(parents=True, exist_ok=True)
        track.write_text(format_audacity([(0, 1, name)]))


def test_labels_are_those_in_folders_like_the_recordings(tmp_path):
    names = "a", "one/a", "two/a", "two/deep/a", "b"
    make_tracks(tmp_path, *names)
    for name in names:
        recording = tmp_path / "audio" / f"{name}.wav"
        (label,) = find_labels(str(tmp_path / "labels"), recording)
        assert label.text == name


def test_two_recordings_do_not_share_their_labels(tmp_path):
    names = "a", "one/a", "two/a", "b"
    make_tracks(tmp_path, *names)
    recordings = [tmp_path / "audio" / f"{name}.wav" for name in names]
    labels = tmp_path / "labels"

    def read():
        shares, _ = share_out(str(labels), recordings)
        found = []
        for share, recording in zip(shares, recordings):
            try:
                found.append(find_labels(share, recording)[0].text)
            except FileNotFoundError as error:
                assert f"{recording.stem}.txt" in str(error)
                found.append(None)
        return found

    assert read() == list(names)
    (labels / "one" / "a.txt").unlink()
    assert read() == ["a", None, "two/a", "b"]
    recordings.append(tmp_path / "audio" / "a.flac")
    assert read() == ["a", None, "two/a", "b", "a"]
    (labels / "a.txt").unlink()
    assert read() == [None, None, "two/a", "b", None]
    # In a folder that is called like none of theirs, it may be any one's.
    (labels / "two").rename(labels / "three")
    with pytest.raises(ValueError, match="three/a.txt may annotate .*a.wav or"):
        read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0.5 2 wheeze\n", "neither start, end, .* nor start, end and label"),
        ("0\t1\tGer\u00e4usch\n".encode("latin-1"), "no text in UTF-8"),
        ("0\t1\tx\n".encode("utf-16"), "in UTF-16: save it as UTF-8"),
    ],
)
def test_what_is_nearly_a_label_track_is_told(tmp_path, text, message):
    recording = make_recording(tmp_path, "a.wav")
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "a.txt"
    path.write_bytes(text)
    for source in (path, path.parent):
        with pytest.raises((OSError, ValueError), match=message):
            find_cycles(recording, source)


def test_labels_of_some_patients_are_not_those_of_others(tmp_path):
    names = [f"{patient}/1" for patient in range(4)]
    make_tracks(tmp_path, *names)
    labels = tmp_path / "labels"
    (labels / names[0]).with_suffix(".txt").unlink()
    recordings = [tmp_path / "audio" / f"{name}.wav" for name in names]
    shares, _ = share_out(str(labels), recordings)
    assert shares == [str(labels / f"{name}.txt") for name in names]


def test_a_malformed_annotation_of_icbhi_is_no_label_track(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0.036\t0.579\t0\n0.579\t2.45\t0\t1\n")
    with pytest.raises(ValueError, match="a.txt:2: 4 fields"):
        read_labels(path, tmp_path / "a.wav")
