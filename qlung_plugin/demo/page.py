"""A page of one's own machine: a sound in, its cycles, classes and quality out.

The page needs Gradio (``pip install "qlung_plugin[demo]"``); what it shows is
computed without.

Authors
 * qlung_plugin contributors
"""

import html
import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from qlung_plugin.demo.guard import OwnPageOnly, temporary_folder
from qlung_plugin.demo.player import make_player
from qlung_plugin.inference.classifier import NORMAL, UNUSABLE
from qlung_plugin.inference.recordings import Recording
from qlung_plugin.utils import run_schema
from qlung_plugin.utils.cycle_figures import (
    NARROW,
    WIDE,
    cycles_figure,
    picture,
)
from qlung_plugin.utils.text import printable

HOST = "127.0.0.1"  # this machine alone, whatever the environment says
LONGEST = 10  # minutes of a recording
LARGEST = 200  # MiB of a file: ten minutes of stereo at 48 kHz and 24 bits
KEPT_MB = 1000  # MiB of all files that are kept
WAITING = 8  # recordings in the queue; one is classified at a time
KEPT = 3600  # s that an uploaded file is kept, unless the server ends before
CLEANED = 60  # s between looks for files that are older

CYCLES = {
    "Breaths that are found in the recording": "segmentation",
    "Windows of 8 s, every 4 s": "windows",
    "An annotation file": "file",
}

INTRODUCTION = f"""\
# Respiratory sounds with QLung

Drop a recording of lung sounds, or record one. The model says of each breath
cycle which sounds it hears, and how good the recording of it is.

**For research. This is no medical device: do not diagnose or treat by it.**
Nothing leaves this machine: the sound is classified here, and deleted when the
page's server ends, or after an hour. At most {LONGEST} minutes and {LARGEST}
MiB.
"""

# Of the picture's two shapes, the one that fits is seen. Its letters and lines
# are in the colour of the page's text, dark or light.
STYLE = """\
.picture { color: var(--body-text-color); }
.block.picture .html-container, .block.player .html-container { padding: 0; }
.picture svg { display: block; width: 100%; height: auto; }
.picture .narrow { display: none; max-width: 600px; }
@media (max-width: 800px) {
  .picture .wide { display: none; }
  .picture .narrow { display: block; }
}
.player audio { display: block; width: 100%; max-width: 600px; }
.dark .player audio { color-scheme: dark; }
.player p { margin: 0 0 0.5em; }
footer { display: none !important; }
"""

# A new sound takes the answer of the old one away.
FOLLOW = """\
sound => [
  {__type__: "update", visible: false},
  {__type__: "update", interactive: sound !== null},
]
"""


class Analysis(NamedTuple):
    """What the page shows of a recording."""

    summary: str  # in Markdown
    picture: str  # HTML, for wide and for narrow screens
    table: pd.DataFrame  # a row per cycle, numbers as text
    recording: Recording  # to hear the cycles
    times: list  # of (start, end) of each cycle in seconds


def analyse(model, path, cycles="segmentation"):
    """Classifies a recording, for people who look rather than compute.

    Arguments
    ---------
    model : qlung_plugin.inference.classifier.RespiratorySoundClassifier
        The model.
    path : str or Path
        The recording.
    cycles : str or Path
        ``segmentation``, ``windows``, or an annotation; see
        :func:`qlung_plugin.inference.cycle_sources.find_cycles`.

    Returns
    -------
    Analysis

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the recording is no audio, empty, damaged, or longer than
        :data:`LONGEST` minutes, or the annotation does not fit.

    Example
    -------
    >>> analyse(None, __file__)
    Traceback (most recent call last):
        ...
    ValueError: ...page.py is not readable as audio (Format not recognised.)
    """
    recording = Recording(path)
    if recording.duration > 60 * LONGEST:
        raise ValueError(
            f"{path} is {recording.duration / 60:.1f} minutes long: the page"
            f" takes at most {LONGEST}; `qlung classify` has no limit"
        )
    classification = model.classify_file(path, cycles)
    cycles = classification.cycles
    return Analysis(
        describe(classification),
        draw(recording, cycles, model.labels),
        tabulate(cycles, model.labels),
        recording,
        list(zip(cycles["start"], cycles["end"])),
    )


def draw(recording, cycles, labels):
    """The picture of the page, of which the style shows the one that fits.

    Arguments
    ---------
    recording : qlung_plugin.inference.recordings.Recording
        The recording.
    cycles : pandas.DataFrame
        Of a ``Classification``.
    labels : list of str
        The classes.

    Returns
    -------
    str
        HTML.
    """
    shapes = {"wide": WIDE, "narrow": NARROW}
    about = "Spectrogram, and below it the cycles of the table"
    return "".join(
        f'<div class="{name}">'
        f"{picture(cycles_figure(recording, cycles, labels, shape), about)}"
        "</div>"
        for name, shape in shapes.items()
    )


def describe(classification):
    """The summary of a recording, with the rules by which it is made.

    Arguments
    ---------
    classification : qlung_plugin.inference.classifier.Classification
        Of the recording.

    Returns
    -------
    str
        Markdown.
    """
    cycles, summary = classification
    channels = summary["channels"]
    averaged = ", averaged" if channels > 1 else ""
    recording = (
        f"Recording: {summary['duration']:.1f} s at"
        f" {summary['sample_rate']:,} Hz,"
        f" {_count(channels, 'channel')}{averaged}."
    )
    source = _source(summary)
    if cycles.empty:
        return f"### No cycle\n\n{source}\n\n{recording}"
    abnormal = int((~cycles["prediction"].isin([NORMAL, UNUSABLE])).sum())
    usable = int((cycles["prediction"] != UNUSABLE).sum())
    head = "### No usable cycle"
    if usable:
        head = (
            f"### {abnormal} of {_count(usable, 'cycle')}"
            f" ({100 * summary['abnormal_fraction']:.0f} %) not normal"
        )
    if usable < len(cycles):
        head += (
            f"\n\n{_count(len(cycles) - usable, 'cycle')} without sound, or"
            " too short, got no class."
        )
    rule = (
        "A cycle counts as not normal if the most probable class is another"
        " than *normal*; all count the same, however long or overlapping."
    )
    quality = "This model measures no quality."
    if summary["worst_quality"] is not None:
        worst = int(cycles["quality"].argmin()) + 1
        quality = (
            f"Worst quality: **{summary['worst_quality']:.2f}**, of cycle"
            f" {worst} (0 is worst, 1 best)."
        )
    return "\n\n".join([head, rule, quality, source, recording])


def tabulate(cycles, labels):
    """The table of the page.

    Arguments
    ---------
    cycles : pandas.DataFrame
        Of a ``Classification``.
    labels : list of str
        The classes.

    Returns
    -------
    pandas.DataFrame
        Texts: the number of the cycle in the picture, start and end in
        seconds, class, probabilities in percent, quality.
    """
    shown = {"cycle": [str(i + 1) for i in range(len(cycles))]}
    for name in ("start", "end"):
        shown[f"{name} (s)"] = [f"{time:.2f}" for time in cycles[name]]
    shown["class"] = list(cycles["prediction"])
    for label in labels:
        shown[f"{label} (%)"] = [
            "-" if pd.isna(share) else f"{100 * share:.0f}"
            for share in cycles[f"p_{label}"]
        ]
    shown["quality"] = [
        "-" if pd.isna(value) else f"{value:.2f}" for value in cycles["quality"]
    ]
    return pd.DataFrame(shown, dtype=str)


def describe_model(source, provenance):
    """Which model it is, and what it has scored.

    Arguments
    ---------
    source : str
        Where it was loaded from.
    provenance : dict
        See :func:`qlung_plugin.inference.provenance.describe_training`, with
        ``checkpoint`` and ``epoch``; it may be a stranger's.

    Returns
    -------
    str
        Markdown, in which what it quotes is text.

    Example
    -------
    >>> about = {"checkpoint": "last", "epoch": 3, "results": []}
    >>> print(describe_model("results/ce/1", about))
    Model: `results/ce/1`, last checkpoint, epoch 3. No result of it is known.
    Its probabilities are not calibrated.
    """
    run_schema.check(provenance, run_schema.PROVENANCE, f"{source}: provenance")
    settings = provenance.get("settings", {})
    configuration = [
        f"{name} {settings[name]}"
        for name in ("split", "seed")
        if name in settings
    ]
    if isinstance(settings.get("loss"), dict):
        loss = str(settings["loss"].get("class", "")).rpartition(".")[2]
        configuration.append(f"loss {loss}")
    facts = [
        _code(source),
        f"{_code(provenance['checkpoint'], '')} checkpoint",
        f"epoch {provenance['epoch']}",
        *(_code(text) for text in configuration),
    ]
    lines = [f"Model: {', '.join(facts)}."]
    for one in provenance.get("results", []):
        data = one["data"]
        where = f"{data['database']}: {data.get('partition', '')}"
        about = f"{where} ({data['protocol']})"
        score = "n/a" if one["score"] is None else f"{one['score']:.2f} %"
        lines.append(
            f"Score (mean of specificity and sensitivity, exact class): {score}"
            f" on {_code(about)}, checkpoint by {_code(one['selection'])}."
        )
    if len(lines) == 1:
        lines[0] += " No result of it is known."
    return "\n".join([*lines, "Its probabilities are not calibrated."])


def _code(text, mark="`"):
    """A stranger's text in Markdown, which makes nothing of it."""
    return f"{mark}{printable(text).replace('`', chr(39))}{mark}"


def build(model, about):
    """Makes the page.

    Arguments
    ---------
    model : qlung_plugin.inference.classifier.RespiratorySoundClassifier
        The model.
    about : str
        From :func:`describe_model`.

    Returns
    -------
    gradio.Blocks
    """
    # Before the import: no word to Gradio's makers, nor to the Hugging Face.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    def show(path, source, annotation):
        cycles = CYCLES[source]
        if cycles == "file":
            cycles = annotation
        if cycles is None:
            raise _error("Choose the annotation file of this recording.")
        try:
            found = analyse(model, path, cycles)
        except (OSError, ValueError) as error:
            raise _error(error, path, annotation) from error
        return (
            gr.update(visible=True),
            *(found.summary, found.picture, found.table),
            (found.recording, found.times),
            "",
        )

    def hear(cuts, event: gr.SelectData):
        recording, times = cuts
        # The row tells its cycle, as the table may be sorted.
        number = int(event.row_value[0])
        try:
            return make_player(recording, number, *times[number - 1])
        except (OSError, ValueError) as error:
            raise _error(error, recording.path) from error

    def _error(error, *files):
        message = str(error)
        for file in filter(None, files):
            # People know the names of their files, not our folders.
            message = message.replace(str(file), Path(file).name)
        return gr.Error(
            html.escape(message), duration=None, print_exception=False
        )

    with gr.Blocks(
        title="QLung",
        analytics_enabled=False,
        delete_cache=(CLEANED, KEPT),
        fill_width=False,
    ) as page:
        gr.Markdown(INTRODUCTION)
        gr.Markdown(about)
        with gr.Row():
            sound = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Recording",
                buttons=[],
            )
            with gr.Column():
                source = gr.Radio(
                    list(CYCLES), value=next(iter(CYCLES)), label="Cycles"
                )
                annotation = gr.File(
                    label="Annotation: ICBHI .txt, SPRSound .json, or .csv"
                    " with the columns start and end",
                    file_types=[".txt", ".json", ".csv"],
                    height=120,
                    visible=False,
                )
                button = gr.Button(
                    "Classify", variant="primary", interactive=False
                )
        # There when there is something to see, and of this recording.
        with gr.Column(visible=False) as results:
            summary = gr.Markdown()
            figure = gr.HTML(elem_classes="picture")
            player = gr.HTML(elem_classes="player")
            table = gr.Dataframe(
                label="Cycles (choose one to hear it)", interactive=False
            )
        cuts = gr.State()
        source.change(
            lambda chosen: gr.update(visible=CYCLES[chosen] == "file"),
            source,
            annotation,
            show_progress="hidden",
            api_visibility="private",
        )
        classified = button.click(
            show,
            [sound, source, annotation],
            [results, summary, figure, table, cuts, player],
            api_visibility="private",
        )
        # In the browser, at once: what is still on its way there cannot be
        # classified, and no answer stands beside another sound.
        sound.change(
            None,
            sound,
            [results, button],
            js=FOLLOW,
            cancels=classified,
            api_visibility="private",
        )
        table.select(
            hear,
            cuts,
            player,
            show_progress="hidden",
            api_visibility="private",
        )
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    return page


def serve(model, about, port=None):
    """Serves the page to this machine, until it is interrupted.

    Arguments
    ---------
    model : qlung_plugin.inference.classifier.RespiratorySoundClassifier
        The model.
    about : str
        From :func:`describe_model`.
    port : int, optional
        Else the first free one from 7860 on.

    Raises
    ------
    OSError
        If the port is taken.
    """
    with temporary_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        # Gradio asks its own server whether it is there; a proxy is not to.
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
        page = build(model, about)
        import gradio as gr
        from starlette.middleware import Middleware

        guard = Middleware(OwnPageOnly, folder=folder, largest=KEPT_MB * 2**20)
        _, address, _ = page.launch(
            app_kwargs={"middleware": [guard]},
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            max_file_size=LARGEST * 2**20,
            allowed_paths=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
            show_error=False,
            quiet=True,
            prevent_thread_lock=True,
            css=STYLE,
            # The theme's own fonts would be fetched from Google.
            theme=gr.themes.Default(
                primary_hue="blue",
                font=["system-ui", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
        )
        try:
            print(f"Open {address} (Ctrl-C ends it)", flush=True)
            page.server.thread.join()
        finally:
            page.close(verbose=False)


def _source(summary):
    """How the cycles were found, as a sentence."""
    source, confidence = summary["cycle_source"], summary["confidence"]
    if confidence is None:
        return f"Cycles: {Path(source).name}."
    return (
        f"Cycles: {source}, with a confidence of {confidence:.2f} of 1. It says"
        " how clearly cycles are heard, not whether they are right: of the"
        " boundaries found in recordings that experts annotated, about half"
        " were within a quarter of a second of theirs. Look in the picture"
        " whether they are breaths."
    )


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
