#!/usr/bin/env python3
"""Recipe for judging a model on a database that it was not trained on.

The model is loaded from the folder that its training left behind, or one that
`qlung export` wrote; the YAML names the preparation of the database, and the
recipes of other ones link to this script. To run this recipe, use the following command:
> python evaluate.py hparams/cross_dataset.yaml --data_folder /path/to/SPRSound
    --run_folder /path/to/results/qlung/1234 --partition inter

Authors
 * qlung_plugin contributors
"""

import sys
from pathlib import Path

import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from qlung_plugin.dataio.labels import LABELS, make_label_encoder
from qlung_plugin.dataio.lengths import equal_lengths
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.partitions import check_labels, with_labels
from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.inference.models import find_checkpoints, open_model
from qlung_plugin.inference.provenance import read_training_data
from qlung_plugin.lobes.models.device_adaptation import (
    check_standardises,
    standardise_by_device,
)
from qlung_plugin.nnet.classifiers import logits_and_cosines
from qlung_plugin.runs.configuration import file_checksums
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.runs.results import write_run_results
from qlung_plugin.runs.run_figures import write_run_figures
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.icbhi_score import RespiratoryScore
from qlung_plugin.scores.published import PUBLISHED
from qlung_plugin.scores.recordings import SHARE
from qlung_plugin.training.distribution import shard
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process, run_on_main


class EvaluationBrain(sb.Brain):
    """Collects the predictions of a trained model."""

    def compute_forward(self, batch, stage):
        """From features to logits.

        Arguments
        ---------
        batch : PaddedBatch
            With ``inputs``: features ``[batch, time, mel]``.
        stage : sb.Stage
            Always TEST.

        Returns
        -------
        torch.Tensor
            Logits ``[batch, class]``.
        """
        batch = batch.to(self.device)
        embeddings = self.modules.backbone(batch.inputs.data.float())
        logits, _ = logits_and_cosines(self.modules.classifier(embeddings))
        return logits.float()

    def compute_objectives(self, predictions, batch, stage):
        """Keeps the predictions.

        Arguments
        ---------
        predictions : torch.Tensor
            Logits ``[batch, class]``.
        batch : PaddedBatch
            With ``label_encoded``, ``[batch, 1]``.
        stage : sb.Stage
            Always TEST.

        Returns
        -------
        torch.Tensor
            The cross entropy, a scalar.
        """
        targets = batch.label_encoded.data.squeeze(1)
        self.score.append(batch.id, predictions.softmax(dim=-1), targets)
        return F.cross_entropy(predictions, targets)


def dataio_prep(hparams, run):
    """The entries of the manifest as the run's front end sees them.

    Arguments
    ---------
    hparams : dict
        The loaded YAML.
    run : dict
        What :func:`qlung_plugin.inference.models.open_model` returned.

    Returns
    -------
    dataset : DynamicItemDataset
        With ``id``, ``inputs`` and ``label_encoded``, of windows if the YAML
        asks for them.
    manifest : dict
        The entries by id.
    quality : dict
        Per quality measure, by its column's name, their quality by id.
    lengths : dict
        Of the inputs of the backbone, by id.
    """
    manifest = with_labels(
        read_manifest(hparams["test_annotation"], hparams["data_folder"]),
        run["labels"],
    )
    if not manifest:
        raise ValueError(f"{hparams['test_annotation']} holds no event")
    pieces = manifest
    if hparams["windows"] is not None:
        pieces = cut_windows(manifest, hparams["windows"])
    stored_inputs = run_on_main(
        store_cycles,
        args=[[pieces], run["cycle_features"], hparams["cache_folder"]],
    )
    get_inputs = stored_inputs.__getitem__
    if hparams["standardise_devices"]:
        get_inputs = standardise_by_device(
            run["backbone"],
            {key: stored_inputs[key] for key in pieces},
            {key: piece.get("device") for key, piece in pieces.items()},
        ).__getitem__
    # Nothing is fitted here: the run's own measure comes with its range.
    measures = {"quality": run["quality"]}
    for name, measure in hparams["further_quality"].items():
        measures[f"quality_{name}"] = measure
    quality = {
        name: cycle_quality(measure, [manifest], hparams["cache_folder"])
        for name, measure in measures.items()
    }

    # Methods: a local function could not be sent to the processes of a loader,
    # where they are not forked.
    dataset = DynamicItemDataset(pieces)
    dataset.add_dynamic_item(get_inputs, takes="id", provides="inputs")
    dataset.add_dynamic_item(
        make_label_encoder(run["labels"]).encode_label_torch,
        takes="label",
        provides="label_encoded",
    )
    dataset.set_output_keys(["id", "inputs", "label_encoded"])
    return dataset, manifest, quality, stored_inputs.lengths()


def cut_windows(manifest, windows):
    """Cuts every entry of a manifest into windows.

    Arguments
    ---------
    manifest : dict
        Entries by id.
    windows : callable
        From a duration to the windows' starts and ends, all in seconds.

    Returns
    -------
    dict
        Entries of windows, each with the id of its ``whole``.
    """
    pieces = {}
    for whole, entry in manifest.items():
        begin, rate = entry["wav"]["start"], entry["sample_rate"]
        for number, times in enumerate(windows(entry["duration"])):
            start, stop = (begin + round(time * rate) for time in times)
            wav = {**entry["wav"], "start": start, "stop": stop}
            pieces[f"{whole}_{number:03d}"] = {
                **entry,
                "wav": wav,
                "duration": (stop - start) / rate,
                "whole": whole,
            }
    return pieces


if __name__ == "__main__":
    # Reading command line arguments
    start_script(__doc__)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "data_folder:" not in overrides:
        sys.exit(
            f"Pass the database of {hparams_file}: --data_folder /path/to/it"
        )

    # Initialize ddp (useful only for multi-GPU DDP)
    sb.utils.distributed.ddp_init_group(run_opts)

    # Before anything is written or weights are looked for
    output = OutputFolder(__file__, hparams_file, run_opts, overrides)
    run_on_main(output.check)
    threads = set_threads(output.threads)

    # Load hyperparameters file with command-line overrides; the preparation
    # that it names is beside the script, or the link to it
    sys.path.append(str(Path(__file__).absolute().parent))
    hparams = load_hyperpyyaml(read_hparams(hparams_file), overrides)

    # Before anything is prepared: is there a model?
    if hparams["run_folder"] is None:
        sys.exit(
            "Pass a trained model: --run_folder /path/to/its/output_folder"
        )
    checkpoints = find_checkpoints(hparams["run_folder"], hparams["checkpoint"])
    run = open_model(hparams["run_folder"], checkpoints[0], hparams["trust"])

    labels = list(run["labels"])
    check_labels(labels, f"the run {hparams['run_folder']}")
    if hparams["standardise_devices"]:
        check_standardises(run["backbone"])

    # Is a folder with results of the same data?
    prepare, manifests = hparams["prepare"], [hparams["test_annotation"]]
    run_on_main(output.check_data, args=[manifests, prepare])

    # Create experiment directory
    sb.create_experiment_directory(hparams["output_folder"])
    explain_errors(output.log)

    # Data preparation, to be run on only one process
    data_summary = run_on_main(prepare)
    run_on_main(output.claim, args=[manifests, threads])
    if hparams["standardise_devices"]:
        data_summary["protocol"] += (
            "; unlabelled adaptation: embeddings standardised per device, over"
            " all that was evaluated"
        )
    data_summary["manifests"] = file_checksums(manifests)
    data_summary["training"] = {
        "folder": str(hparams["run_folder"]),
        "data": read_training_data(hparams["run_folder"], run["provenance"]),
    }

    # Evaluation of each checkpoint
    tables, epochs, points, validated = {}, {}, {}, False
    for name in checkpoints:
        run = open_model(hparams["run_folder"], name, hparams["trust"])
        dataset, manifest, quality, lengths = dataio_prep(hparams, run)
        score = RespiratoryScore(labels)
        brain = EvaluationBrain(
            modules={
                "backbone": run["backbone"],
                "classifier": run["classifier"],
            },
            run_opts=run_opts,
        )
        brain.score = score
        dataset = shard(dataset)
        brain.evaluate(
            dataset,
            test_loader_kwargs=equal_lengths(
                hparams["dataloader_options"], dataset, lengths
            ),
        )
        score.gather()
        if hparams["windows"] is not None:
            wholes = {
                key: piece["whole"] for key, piece in dataset.data.items()
            }
            called = score.predictions().set_index("id")["prediction"]
            share = (called != labels[0]).groupby(wholes).mean()
            score = score.averaged(wholes)
        tables[name] = predictions_table(score, manifest, **quality)
        if hparams["windows"] is not None:
            tables[name][SHARE] = tables[name]["id"].map(share)
        epochs[name] = run["epoch"]
        points[name] = run["operating_point"]
        validated = run["validated"]
    published = hparams["published"]
    if published not in PUBLISHED or labels != list(LABELS):
        published = None
    if if_main_process():
        metrics = write_run_results(
            hparams["output_folder"],
            tables=tables,
            epochs=epochs,
            data=data_summary,
            labels=labels,
            partition=hparams["tested_on"],
            validated=validated,
            published=published,
            points=points,
            abnormal_share=hparams["abnormal_share"],
        )
        write_run_figures(hparams["output_folder"], tables, metrics, labels)
