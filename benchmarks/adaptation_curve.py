#!/usr/bin/env python3
"""How many labelled patients a model needs for a device that it never heard.

Draws patients of SPRSound's training side, fits a head to their events as ``qlung
adapt`` does, and judges it on the events of ``intra``'s patients who are not among
the recordings that are drawn from: the same patients for every number. Embeddings
are computed once, and kept, as each draw is, in the output folder; called again,
it goes on.

> python benchmarks/adaptation_curve.py --train_folder /path/to/SPRSound
    --test_folder /path/to/SPRSound --output_folder results/adaptation_curve

Authors
 * qlung_plugin contributors
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from qlung_plugin.dataio.embedding_tables import embedding_columns, write_rows
from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.dataio.sprsound import TYPES, read_corpus
from qlung_plugin.figures.style import COLORS, legend_below, make_figure
from qlung_plugin.inference.adaptation import choose_point
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.labelled_cycles import hear_table
from qlung_plugin.scores.icbhi_score import label_codes, table_metrics
from qlung_plugin.scores.intervals import bootstrap_interval, patient_outcomes
from qlung_plugin.scores.metrics import METRICS
from qlung_plugin.scores.operating_point import AT_POINT, with_operating_point
from qlung_plugin.training.linear_head import choose_head
from qlung_plugin.utils.files import replacing, write_figure, write_text
from qlung_plugin.utils.markdown import markdown_table

# At the operating point; the last does not depend on it.
FIGURES = ("sp", "se", "score", "auroc")


def write_table(recordings, path):
    """The events of recordings as a labelled table."""
    rows = [
        {
            "path": recording["wav"],
            "start": event["start"],
            "end": event["end"],
            "label": TYPES[event["type"]],
            "patient": recording["patient"],
        }
        for recording in recordings
        for event in recording["events"]
    ]
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def embed(classifier, recordings, folder, name):
    """What the model makes of the events, from its file if it is there."""
    path = folder / f"{name}.csv"
    if not path.exists():
        table = folder / f"{name}_table.csv"
        write_table(recordings, table)
        with replacing(path) as temporary:
            write_rows(hear_table(classifier, table, embed=True), temporary)
    return pd.read_csv(path, dtype={"patient": str})


def judge(cycles, shares, point):
    """The figures of probabilities ``[cycle, class]`` in percent."""
    table = cycles[["label", "patient"]].assign(
        prediction=np.array(LABELS)[shares.argmax(1)],
        **dict(zip([f"p_{label}" for label in LABELS], shares.T)),
    )
    auroc = table_metrics(table, LABELS)["auroc"]
    table = with_operating_point(table, point, LABELS)
    if point is not None:
        table["prediction"] = table[AT_POINT]
    metrics = table_metrics(table, LABELS)
    return {**{k: metrics[k] for k in FIGURES}, "auroc": auroc}, table


def draw_patients(cycles, count, generator):
    """Rows of so many patients, of two classes or more, which adapt asks for."""
    patients = cycles["patient"].unique()
    while True:
        drawn = generator.choice(patients, count, replace=False)
        rows = cycles[cycles["patient"].isin(drawn)]
        if rows["label"].nunique() > 1:
            return rows


def adapt_once(train, test, count, draw, seed):
    """A row of the results: the figures of one draw."""
    rows = draw_patients(
        train, count, np.random.default_rng([seed, count, draw])
    )
    columns = embedding_columns(train)
    chosen = choose_head(
        rows[columns].to_numpy(float),
        label_codes(rows["label"]),
        rows["patient"].to_numpy(),
        len(LABELS),
        seed=draw,
    )
    point = choose_point(chosen.held_out, rows["label"], LABELS)
    shares = chosen.head.probabilities(test[columns].to_numpy(float))
    figures, _ = judge(test, shares, point)
    return {"patients": count, "draw": draw, "events": len(rows), **figures}


def summarise(results, base, interval):
    """The table in Markdown: mean, and the lowest and highest, of the draws."""
    rows = []
    for count, draws in results.groupby("patients"):
        figures = {
            METRICS[key].heading: f"{values.mean():.1f}"
            f" ({values.min():.1f} to {values.max():.1f})"
            for key, values in draws[list(FIGURES)].items()
        }
        events = f"{draws['events'].mean():.0f}"
        rows.append({"patients": count, "events": events, **figures})
    own = {
        METRICS[key].heading: f"{base[key]:.1f} [{interval[key][0]:.1f} to"
        f" {interval[key][1]:.1f}]"
        for key in FIGURES
    }
    rows.insert(0, {"patients": "0: as it was", "events": 0, **own})
    return markdown_table(pd.DataFrame(rows))


def curve_figure(results, base, title):
    """Score and AUROC of every draw, over the number of patients."""
    figure, *axes = make_figure((8.0, 4.2), title, (1, 2))
    for axis, key, color in zip(axes, ("score", "auroc"), COLORS):
        axis.scatter(
            *(results["patients"], results[key]),
            color=color,
            alpha=0.5,
            label="a draw" if key == "score" else None,
        )
        means = results.groupby("patients")[key].mean()
        label = "mean of the draws" if key == "score" else None
        axis.plot(means.index, means, color=color, label=label)
        as_it_was = "the model as it was" if key == "score" else None
        axis.axhline(base[key], color="grey", linestyle="--", label=as_it_was)
        axis.set_xscale("log")
        axis.set_xticks(means.index, means.index)
        axis.minorticks_off()
        axis.set(
            xlabel="labelled patients", ylabel=f"{METRICS[key].heading} (%)"
        )
        axis.grid(alpha=0.3)
    legend_below(axes[0], ncols=3)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train_folder", required=True)
    parser.add_argument("--test_folder", required=True)
    parser.add_argument("--output_folder", type=Path, required=True)
    parser.add_argument("--model", default="transfer")
    parser.add_argument(
        "--patients", type=int, nargs="+", default=[5, 10, 20, 40, 80]
    )
    parser.add_argument(
        "--pool",
        type=int,
        help="draw from so many patients of the training side, chosen at random,"
        " so that of the complete SPRSound some are left to judge on (all)",
    )
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.output_folder
    folder.mkdir(parents=True, exist_ok=True)
    drawn_from, _ = read_corpus(arguments.train_folder, ["train"])
    judged_on, _ = read_corpus(arguments.test_folder, ["intra"])
    known = sorted({recording["patient"] for recording in drawn_from})
    if arguments.pool is not None:
        generator = np.random.default_rng(arguments.seed)
        known = generator.choice(known, arguments.pool, replace=False).tolist()
    drawn_from = [r for r in drawn_from if r["patient"] in known]
    judged_on = [r for r in judged_on if r["patient"] not in known]
    if not judged_on:
        raise SystemExit(
            "no patient is left to judge on: give --pool, say, 120"
        )
    classifier = RespiratorySoundClassifier.from_hparams(arguments.model)
    train = embed(classifier, drawn_from, folder, "train")
    test = embed(classifier, judged_on, folder, "test")
    there = train["patient"].nunique()
    if max(arguments.patients) > there:
        raise SystemExit(f"--patients: {there} patients have events")
    path = folder / "results.csv"
    results = pd.read_csv(path) if path.exists() else pd.DataFrame()
    done = set() if results.empty else {*zip(results.patients, results.draw)}
    todo = [
        (count, draw)
        for count in arguments.patients
        for draw in range(arguments.draws)
        if (count, draw) not in done
    ]
    for count, draw in tqdm(todo, "Draws", disable=None):
        row = adapt_once(train, test, count, draw, arguments.seed)
        results = pd.concat([results, pd.DataFrame([row])], ignore_index=True)
        with replacing(path) as temporary:
            results.to_csv(temporary, index=False)
    shares = test[[f"p_{label}" for label in LABELS]].to_numpy()
    base, table = judge(test, shares, classifier.operating_point)
    interval = bootstrap_interval(patient_outcomes([table], LABELS))
    told = (
        f"{arguments.draws} draws of patients from {there}; judged on"
        f" {len(test)} events of {test['patient'].nunique()} other patients of"
        " intra; in percent, at the operating point; (lowest to highest draw),"
        " [95 % interval over the judged patients]"
    )
    text = f"{told}\n\n{summarise(results, base, interval)}\n"
    write_text(text, folder / "results.md")
    title = f"A head for another device on {arguments.model}"
    write_figure(curve_figure(results, base, title), folder / "curve.png")
    print(text, end="")


if __name__ == "__main__":
    main()
