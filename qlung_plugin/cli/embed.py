"""``qlung embed``: recordings in, embeddings of their cycles out.

Authors
 * qlung_plugin contributors
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlung_plugin.cli.models import (
    add_engine,
    add_model,
    load,
    settings_of_model,
)
from qlung_plugin.cli.output import RESUMING, add_output, open_output
from qlung_plugin.cli.ray_runner import RUNNING, add_runner, run_on_ray
from qlung_plugin.cli.recordings import (
    CYCLES,
    CsvTable,
    add_cycles,
    add_recordings,
    for_each,
)
from qlung_plugin.pretrained import describe_shipped, is_shipped
from qlung_plugin.utils.text import print_note

if TYPE_CHECKING:
    import pandas as pd

    from qlung_plugin.inference.classification import Classification
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

HELP = "write what a model makes of the cycles of recordings, as embeddings"

DESCRIPTION = """\
Writes a table of embeddings: a row per respiratory cycle, window or recording,
to be searched, clustered, or classified by `qlung probe`."""

EXAMPLES = f"""\
The columns are those of the CSV of `qlung classify` (recording, start, end,
prediction, p_<label>, quality, ...), and e_0, e_1, ...: the input of the
model's classifier. By recording, these are the means over its cycles, each
counting the same; an unusable cycle has no embedding, and does not count.

The format is that of the name, and needs no torch to be read:
  .csv      by anything
  .parquet  by pandas.read_parquet; needs pip install "qlung_plugin[parquet]"
  .npz      by numpy.load: an array embeddings, and one per other column
A .parquet or .npz is there once all is done; until then, FILE.csv grows.

{CYCLES}

{RESUMING}

{RUNNING}

examples:
  qlung embed recordings/ --output embeddings.parquet
  qlung embed recordings/ --cycles windows --output embeddings.npz --resume
  qlung embed recordings/ --by recording --model exported/ --output e.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_recordings(parser)
    add_model(parser)
    add_engine(parser)
    parser.add_argument(
        "--by",
        default="cycle",
        choices=("cycle", "recording"),
        help="what a row is of (default: cycle; with --cycles windows, a window)",
    )
    add_cycles(parser)
    add_output(parser, "write this .csv, .parquet or .npz", required=True)
    add_runner(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes a table of embeddings; see :func:`for_each`.

    If the model cannot be loaded, or the table not written, it is an OSError or
    a ValueError.
    """
    from qlung_plugin.dataio.embedding_tables import (
        FLOAT,
        check_format,
        convert_rows,
    )

    function = partial(
        embed,
        by=arguments.by,
        channel=arguments.channel,
        allow_truncated=arguments.allow_truncated,
    )
    prepare = partial(load, arguments)
    if is_shipped(arguments.model):
        print_note(describe_shipped(arguments.model))
    if arguments.runner == "ray":
        return run_on_ray(
            arguments, prepare, function, rows_of, settings_of_model
        )[0]
    path = rows = Path(arguments.output)
    if check_format(path) != ".csv":
        rows = path.with_name(f"{path.name}.csv")
        begin_rows(path, rows, arguments.resume)
        arguments.output = str(rows)
    with open_output(arguments, settings_of_model) as output:
        assert output is not None  # it is required
        table = CsvTable(output, FLOAT)

        def write(path: Path, classification: "Classification") -> None:
            table.write(rows_of(str(path), classification))

        code = for_each(arguments, function, prepare, write, output)
    # Without a header, all failed.
    if rows != path and rows.stat().st_size:
        convert_rows(rows, path)
        rows.unlink()
    return code


def rows_of(name: str, classification: "Classification") -> "pd.DataFrame":
    """The rows of a recording: those of ``qlung classify``, and embeddings."""
    cycles, summary = classification
    truncated = int(summary["truncated"])
    cycles.insert(list(cycles).index("e_0"), "truncated", truncated)
    cycles.insert(0, "recording", name)
    return cycles


def begin_rows(path: Path, rows: Path, resume: bool) -> None:
    """Brings the rows of a finished table back, for what is to be added.

    A FileExistsError if it is not to be gone on with, or cannot be.
    """
    from qlung_plugin.dataio.embedding_tables import read_embeddings, write_rows
    from qlung_plugin.utils.journal import SUFFIX

    if not path.exists():
        return
    journal = rows.with_name(rows.name + SUFFIX)
    if not resume or not journal.exists():
        raise FileExistsError(
            f"{path} cannot be gone on with without its {journal.name}; name"
            " another --output"
            if resume
            else f"{path} exists: --resume goes on with it; else remove it, or"
            " name another --output"
        )
    if not rows.exists():
        write_rows(read_embeddings(path), rows)


def embed(
    model: "RespiratorySoundClassifier", path: Path, **options: Any
) -> "Classification":
    """Embeds a recording, see ``RespiratorySoundClassifier.embed_file``."""
    return model.embed_file(path, **options)
