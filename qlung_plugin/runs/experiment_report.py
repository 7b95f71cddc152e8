"""What several configurations reach over several seeds, side by side.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qlung_plugin.dataio.labels import has_normal
from qlung_plugin.figures.comparison import scores_figure
from qlung_plugin.runs.comparison import (
    comparison_rows,
    format_mean,
    group_alike,
    results_table,
)
from qlung_plugin.runs.databases import patients_on_both_sides
from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.runs.experiments import in_order, natural
from qlung_plugin.runs.fold_report import fold_blocks
from qlung_plugin.runs.supervision import set_supervised_apart
from qlung_plugin.scores.duration import describe_duration, duration_alone
from qlung_plugin.scores.metrics import (
    always_the_same,
    metrics_in,
    metrics_of_labels,
)
from qlung_plugin.scores.published import (
    ICBHI_OFFICIAL,
    MARK,
    SPRSOUND_INTER,
    published_results,
)
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.files import write_figure, write_text
from qlung_plugin.utils.markdown import markdown_table
from qlung_plugin.utils.text import printable_lines

# With fewer, each one is printed too.
ENOUGH_SEEDS = 5
INTRODUCTION = """\
Mean ± standard deviation over the seeds. The 95 % intervals are percentiles of
10,000 two-way bootstraps: in each, patients are drawn jointly for all
configurations, and seeds as pairs. With few seeds they are rather too narrow;
with one seed they are over patients alone.
A difference is over the seeds that both configurations have. If its interval
holds 0, it is not told apart from chance; of many differences, chance alone
makes some whose interval does not.
"""
AT_POINT_NOTE = """\
At the operating point: as the offset of normal decides that gives the highest
Score on the validation predictions of each run. What is ahead of another by Score
alone, and neither there nor by AUROC, calls other shares of the cycles normal and
tells them apart no better.
"""
PUBLISHED_NOTE = """\
Four classes; ± over seeds where that was published. What was selected on the
test set is 2 to 5 points higher for it. Figures of a subset are not comparable
with them.
"""


def write_experiments(
    folder: Path | str,
    evaluations: list[Evaluation],
    configurations: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Writes ``results.csv``, ``scores.png``, and ``results.md``, its text.

    The first configuration is what the others are compared with.
    """
    evaluations = in_order(evaluations, configurations)
    evaluations = set_supervised_apart(evaluations)
    evaluations += _without_both_sides(evaluations)
    table = results_table(evaluations)
    text = format_experiments(evaluations, notes)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = table.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    write_text(rows, folder / "results.csv")
    write_text(printable_lines(text), folder / "results.md")
    floors = {}
    for evaluation in evaluations:
        name, floor = always_the_same(evaluation.counts)
        place = evaluation.database, evaluation.partition
        floors[place] = name, floor["score"]
    headings = dict.fromkeys(
        metrics_of_labels(evaluation.labels)["score"].heading
        for evaluation in evaluations
    )
    figure = scores_figure(table, floors, " or ".join(headings))
    write_figure(figure, folder / "scores.png")
    return text


def _without_both_sides(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Those with patients who were trained on, too, once more without them."""
    further = []
    for evaluation in evaluations:
        patients = patients_on_both_sides(evaluation.data)
        shared = evaluation.predictions["patient"].isin(patients)
        if shared.any() and not shared.all():
            who = "who are on both sides of the split"
            further.append(evaluation.without(patients, who))
    return further


def format_experiments(
    evaluations: list[Evaluation], notes: Sequence[str] = ()
) -> str:
    """The report in Markdown: a section per database and partition."""
    sections = group_alike(evaluations)
    seeds = _seeds_by_configuration(evaluations)
    notes = list(notes)
    for (database, partition, _), alike in sections.items():
        for name, present in _seeds_by_configuration(alike).items():
            lacking = sorted(seeds[name] - present, key=natural)
            if lacking:
                notes.append(
                    f"{database}, {partition}: {name} lacks"
                    f" seed {', '.join(lacking)}"
                )
    introduction = INTRODUCTION
    if any(has_normal(evaluation.labels) for evaluation in evaluations):
        introduction += AT_POINT_NOTE
    blocks = ["# Results\n", _rules(evaluations), introduction]
    if notes:
        blocks.append("**Incomplete.**\n\n" + _bullets(notes))
    blocks += [_section(alike) for alike in sections.values()]
    return "\n".join(blocks)


def _seeds_by_configuration(
    evaluations: Iterable[Evaluation],
) -> dict[str, set[str]]:
    seeds: dict[str, set[str]] = {}
    for evaluation in evaluations:
        seeds.setdefault(evaluation.configuration, set()).add(evaluation.seed)
    return seeds


def _rules(evaluations: Iterable[Evaluation]) -> str:
    rules = {
        f"{metric.heading}: {metric.rule}.": None
        for evaluation in evaluations
        for metric in metrics_of_labels(evaluation.labels).values()
    }
    return "In percent.\n\n" + _bullets(rules)


def _section(evaluations: list[Evaluation]) -> str:
    """The text on one database and partition."""
    first = evaluations[0]
    title = f"## {first.database}: {first.partition}\n"
    compared = comparison_rows(evaluations)
    shown = metrics_in("tables", first.labels)
    headings = [metric.heading for metric in shown.values()]
    name, floor = always_the_same(first.counts)
    floor_cells = [name, "", *(format_mean(floor[key]) for key in shown), ""]
    blocks = [title, _bullets(_facts(evaluations))]
    main = shown["score"].heading
    blocks.append(_score_table(compared, headings, floor_cells, main))
    blocks += fold_blocks(evaluations)
    configurations = list(dict.fromkeys(e.configuration for e in evaluations))
    if len(configurations) > 1:
        blocks.append(f"### Difference to {configurations[0]}\n")
        blocks.append(_difference_table(compared, headings))
    if any(row["seeds"] < ENOUGH_SEEDS for row in compared):
        blocks.append(f"### {main} of each seed\n")
        blocks.append(_seed_table(evaluations))
    benchmark = _benchmark(first)
    if benchmark:
        blocks.append(f"### {MARK.capitalize()}\n")
        blocks.append(PUBLISHED_NOTE)
        columns = ["Method", "Selected on", "Sp", "Se", "Score", "Source"]
        blocks.append(_table(columns, published_results(benchmark).values))
    return "\n".join(blocks)


def _facts(evaluations: list[Evaluation]) -> list[str]:
    """What the figures of a section are of."""
    facts = []
    for text, names in _by_text(evaluations, _describe_cycles).items():
        facts.append(f"Data{names}: {text}.")
    for text, names in _by_text(evaluations, lambda e: e.protocol).items():
        facts.append(f"Protocol{names}: {text}.")
    alone = duration_alone(evaluations[0].predictions, evaluations[0].labels)
    if alone is not None:
        facts.append(f"Durations alone: {describe_duration(alone)}.")
    for checkpoint in CHECKPOINTS:
        group = [e for e in evaluations if e.checkpoint == checkpoint]
        for text, names in _by_text(group, lambda e: e.selection).items():
            facts.append(f"Checkpoint {_short(checkpoint)}{names}: {text}.")
    return facts


def _by_text(
    evaluations: list[Evaluation], describe: Callable[[Evaluation], str]
) -> dict[str, str]:
    """Texts, each with the configurations it holds for, unless for all."""
    configurations: dict[str, list[str]] = {}
    for evaluation in evaluations:
        names = configurations.setdefault(describe(evaluation), [])
        if evaluation.configuration not in names:
            names.append(evaluation.configuration)
    if len(configurations) == 1:
        return dict.fromkeys(configurations, "")
    return {
        text: f" ({', '.join(names)})" for text, names in configurations.items()
    }


def _describe_cycles(evaluation: Evaluation) -> str:
    cycles = evaluation.predictions.drop_duplicates("id")
    counts = cycles["label"].value_counts()
    classes = ", ".join(
        f"{counts.get(name, 0):,} {name}" for name in evaluation.labels
    )
    return (
        f"{len(cycles):,} cycles of {cycles['patient'].nunique()} patients"
        f" ({classes})"
    )


def _score_table(
    compared: list[dict[str, Any]],
    headings: list[str],
    floor: list[str],
    main: str,
) -> str:
    rows = [["", *floor]]
    for row in compared:
        heading = CHECKPOINTS[row["checkpoint"]].heading + row["decision"]
        cells = [row["seeds"], *row["scores"], row["interval"]]
        rows.append([heading, row["configuration"], *cells])
    columns = ["Checkpoint", "Configuration", "Seeds", *headings]
    return _table([*columns, f"{main}, 95 % interval"], rows)


def _difference_table(
    compared: list[dict[str, Any]], headings: list[str]
) -> str:
    rows = []
    for row in compared:
        if row["differences"]:
            cells = [row["unpaired"] or row["pairs"], *row["differences"]]
            short = _short(row["checkpoint"]) + row["decision"]
            rows.append([short, row["configuration"], *cells])
    columns = ["Checkpoint", "Configuration", "Pairs of seeds"]
    return _table([*columns, *headings], rows)


def _seed_table(evaluations: list[Evaluation]) -> str:
    table = results_table(evaluations)
    seeds = sorted(table["seed"].unique(), key=natural)
    rows = []
    for checkpoint in CHECKPOINTS:
        group = table[table["checkpoint"] == checkpoint]
        for name, values in group.groupby("configuration", sort=False):
            scores = values.set_index("seed")["score"]
            cells = [
                format_mean(scores[s]) if s in scores else "" for s in seeds
            ]
            rows.append([_short(checkpoint), name, *cells])
    return _table(["Checkpoint", "Configuration", *seeds], rows)


def _benchmark(evaluation: Evaluation) -> str | None:
    """The published benchmark of the same data, or None."""
    if len(evaluation.labels) != 4 or evaluation.fold or evaluation.left_out:
        return None
    protocol, _, training = evaluation.protocol.partition("; trained on ")
    if (
        evaluation.database.startswith("ICBHI 2017")
        and protocol.startswith("official split,")
        and not training
    ):
        return ICBHI_OFFICIAL
    if (
        evaluation.database.startswith("SPRSound 2022")
        and protocol.startswith("tested on inter,")
        and training.startswith("ICBHI 2017")
    ):
        return SPRSOUND_INTER
    return None


def _short(checkpoint: str) -> str:
    return checkpoint.replace("_", "-")


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _table(columns: list[str], rows: Any) -> str:
    return markdown_table(pd.DataFrame(rows, columns=columns)) + "\n"
