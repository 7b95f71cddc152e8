"""A page of one's own machine: a sound in, its cycles, classes and quality out.

The page needs Gradio (``pip install "qlung_plugin[demo]"``); what it shows is
computed without.

Authors
 * qlung_plugin contributors
"""

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

from qlung_plugin.cli.demo.analysis import LONGEST, analyse
from qlung_plugin.cli.demo.guard import OwnPageOnly, temporary_folder
from qlung_plugin.cli.demo.player import make_player

if TYPE_CHECKING:
    import gradio

    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

HOST = "127.0.0.1"  # this machine alone, whatever the environment says
LARGEST = 200  # MiB of a file: ten minutes of stereo at 48 kHz and 24 bits
KEPT_MB = 1000  # MiB of all files that are kept
WAITING = 8  # recordings in the queue; one is classified at a time
KEPT = 3600  # s that an uploaded file is kept, unless the server ends before
CLEANED = 60  # s between looks for files that are older

CYCLES = {
    "Breaths that are found in the recording": "segmentation",
    "Windows of 5 s, every 2.5 s": "windows",
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

# What the description of the model quotes is code, lest it be Markdown, and
# looks like the text around it. Of the picture's two shapes, the one that fits
# is seen. Its letters and lines are in the colour of the page's text, dark or
# light.
STYLE = """\
.about code { all: unset; }
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

# A new sound takes the answer of the old one away, and an answer is shown beside
# its own sound alone: what is on its way comes, and then the next one. Gradio can
# cancel it, but at times that hits the next one instead.
FOLLOW = """\
sound => [
  {__type__: "update", visible: false},
  {__type__: "update", interactive: sound !== null},
]
"""
SHOW = """\
(sound, answered) => ({
  __type__: "update",
  visible: sound !== null && sound.path === answered,
})
"""


def build(model: "RespiratorySoundClassifier", about: str) -> "gradio.Blocks":
    """Makes the page; ``about`` says in Markdown which model it is."""
    # Before the import: no word to Gradio's makers, nor to the Hugging Face.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    def show(path: str, source: str, annotation: str | None) -> tuple:
        cycles = annotation if CYCLES[source] == "file" else CYCLES[source]
        if cycles is None:
            raise _error("Choose the annotation file of this recording.")
        try:
            result = analyse(model, path, cycles)
        except (OSError, ValueError) as error:
            raise _error(error, path, annotation) from error
        return (
            path,
            *(result.summary, result.picture, result.table),
            (result.recording, result.times),
            "",
        )

    def hear(cuts: tuple, event: gr.SelectData) -> str:
        recording, times = cuts
        # The row tells its cycle, as the table may be sorted.
        number = int(event.row_value[0])
        try:
            return make_player(recording, number, *times[number - 1])
        except (OSError, ValueError) as error:
            raise _error(error, recording.path) from error

    def _error(error: Exception | str, *files: Path | str | None) -> gr.Error:
        message = str(error)
        for file in files:
            if file:
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
        gr.Markdown(about, elem_classes="about")
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
        answered = gr.Textbox(visible=False)  # path of the sound
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
            [answered, summary, figure, table, cuts, player],
            show_progress="minimal",
            show_progress_on=[sound],
            trigger_mode="always_last",
            api_visibility="private",
        )
        classified.success(
            None,
            [sound, answered],
            results,
            js=SHOW,
            trigger_mode="multiple",
            api_visibility="private",
        )
        # In the browser, at once: what is still on its way there cannot be
        # classified.
        sound.change(
            None,
            sound,
            [results, button],
            js=FOLLOW,
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


def serve(
    model: "RespiratorySoundClassifier", about: str, port: int | None = None
) -> None:
    """Serves the page to this machine, until it is interrupted.

    Without a port it takes the first free one from 7860 on. If the port is
    taken, it is an OSError.
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
