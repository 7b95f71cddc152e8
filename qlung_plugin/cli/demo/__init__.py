"""``qlung demo``: a page on which one drops or records a sound.

Authors
 * qlung_plugin contributors
"""

import argparse
import signal
import sys
from functools import partial
from importlib.util import find_spec

from qlung_plugin.cli.arguments import whole_number
from qlung_plugin.cli.models import add_model, load
from qlung_plugin.pretrained import find_shipped

HELP = "a page on which one drops or records a sound"

DESCRIPTION = """\
Serves a page on which one drops or records a sound, and sees its
cycles, spectrogram, classes and quality. For research; no medical device."""

EXAMPLES = """\
The page is served to this machine alone and sends nothing anywhere. A sound is
deleted when the page's server ends, or after an hour.

examples:
  qlung demo
  qlung demo --model results/qlung/1234
  qlung demo --model exported/ --port 8000"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--port",
        type=partial(
            whole_number,
            low=1024,
            high=65535,
            meaning="port from 1024 to 65535",
        ),
        help="of the address (default: the first free one from 7860 on)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Serves the page until it is interrupted.

    If the model cannot be loaded, or the port is taken, it is an OSError or a
    ValueError; if Gradio is not installed, a RuntimeError.
    """
    if find_spec("gradio") is None:
        raise RuntimeError(
            'the page needs Gradio: pip install "qlung_plugin[demo]"'
        )
    from qlung_plugin.cli.demo.model import describe_model
    from qlung_plugin.cli.demo.page import serve
    from qlung_plugin.inference.provenance import describe_results
    from qlung_plugin.runs.folder import RunFolder

    model = load(arguments)
    # Ended by its service manager, too, it deletes what was uploaded.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    provenance = model.hparams.provenance
    run = RunFolder(find_shipped(arguments.model))
    if run.is_training:  # its results came after its model
        provenance = {
            **provenance,
            **describe_results(run, model.hparams.checkpoint),
        }
    about = describe_model(arguments.model, provenance)
    serve(model, about, arguments.port)
