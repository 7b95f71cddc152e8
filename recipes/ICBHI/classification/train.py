#!/usr/bin/env python3
"""Recipe for training a respiratory sound classifier.

The YAML names the preparation of its database; the recipes of other databases
link to this script. To run this recipe, use the following command:
> python train.py hparams/qlung.yaml --data_folder /path/to/ICBHI

Other configurations, among them the cross-entropy baseline, are in hparams/.

Authors
 * qlung_plugin contributors
"""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from qlung_plugin.augment.batches import (
    augment_cycles,
    augment_features,
    check_augmentations,
)
from qlung_plugin.augment.mixing import mixed_loss
from qlung_plugin.augment.waveforms import fix_lengths
from qlung_plugin.dataio.labels import make_label_encoder
from qlung_plugin.dataio.lengths import equal_lengths
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.partitions import (
    check_manifests,
    count_labels,
    with_labels,
)
from qlung_plugin.dataio.quality import cycle_quality, quality_tensor
from qlung_plugin.dataio.store import (
    recording_reference,
    store_cycles,
    store_references,
)
from qlung_plugin.inference.trained_model import TrainedModel
from qlung_plugin.lobes.models.pooled import fit_standardisation
from qlung_plugin.nnet.classifiers import logits_and_cosines
from qlung_plugin.runs.configuration import file_checksums
from qlung_plugin.runs.hparams import read_hparams, whole_keys
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import DECIMALS, predictions_table
from qlung_plugin.runs.results import write_run_results
from qlung_plugin.runs.run_figures import write_run_figures
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.operating_point import (
    choose_operating_point,
    normal_point,
)
from qlung_plugin.training.compiling import compile_steps
from qlung_plugin.training.distribution import shard, wrap_on_cpu
from qlung_plugin.training.parts import adapt_parts, check_parts, naming_slots
from qlung_plugin.training.selection import CHECKPOINTS, selection_key
from qlung_plugin.utils.signatures import takes_lengths
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process, run_on_main
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class RespiratorySoundBrain(sb.Brain):
    """Trains a backbone and a classifier on respiratory cycles."""

    def compute_forward(self, batch, stage):
        """From cycles to logits.

        Arguments
        ---------
        batch : PaddedBatch
            With ``inputs``: features ``[batch, time, mel]``, or cycles ``[batch,
            time]`` if features are not cached, with the ``reference`` of their
            recordings, if it is needed; ``label_encoded`` and ``quality``,
            ``[batch, 1]``.
        stage : sb.Stage
            Whether to augment.

        Returns
        -------
        tuple
            Logits and cosines ``[batch, class]``, embeddings ``[batch, dim]``,
            targets and quality ``[batch]``, and what was mixed, or None.
        """
        batch = batch.to(self.device)
        inputs, lengths = batch.inputs
        inputs, mixture = inputs.float(), None
        labels = [batch.label_encoded.data[:, 0], batch.quality.data[:, 0]]
        train = stage == sb.Stage.TRAIN
        if not self.hparams.cache_features:
            # Of the recordings as they are, whatever is done to a cycle
            if hasattr(batch, "reference"):
                labels.append(batch.reference.data)
            if train and self.hparams.waveform_augmentation is not None:
                inputs, labels = augment_cycles(
                    self.hparams.waveform_augmentation,
                    self.hparams.fix_length,
                    *(inputs, lengths, labels, batch.sample_rate),
                )
            else:
                inputs = fix_lengths(inputs, lengths, self.hparams.fix_length)
            labels, references = labels[:2], labels[2:]
            inputs = self.modules.compute_features(inputs, *references)
        lengths = None  # no padding: cycles were repeated
        if train and self.hparams.augmentation is not None:
            inputs, lengths, labels = augment_features(
                self.hparams.augmentation, inputs, labels
            )
        if train and self.hparams.mixing is not None:
            embeddings, mixture = self.hparams.mixing(
                self.modules.backbone, inputs
            )
        elif lengths is not None and takes_lengths(self.hparams.backbone):
            embeddings = self.modules.backbone(inputs, lengths)
        else:
            embeddings = self.modules.backbone(inputs)
        logits, cosines = logits_and_cosines(
            self.modules.classifier(embeddings)
        )
        return logits, cosines, embeddings.flatten(1), *labels, mixture

    def compute_objectives(self, predictions, batch, stage):
        """The loss; outside training it is plain cross entropy.

        Arguments
        ---------
        predictions : tuple
            What :meth:`compute_forward` returned.
        batch : PaddedBatch
            With ``id``.
        stage : sb.Stage
            The margin is a matter of training alone.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        *outputs, mixture = predictions
        if stage == sb.Stage.TRAIN:
            if mixture is None:
                return self.modules.loss(*outputs)
            return mixed_loss(self.modules.loss, *outputs, mixture)
        logits, targets = outputs[0].float(), outputs[3]
        self.score.append(batch.id, logits.softmax(dim=-1), targets)
        return F.cross_entropy(logits, targets)

    def on_fit_batch_start(self, batch, should_step):
        """Tells a margin that grows where the training stands."""
        self.hparams.loss.set_progress(
            self.hparams.epoch_counter.current, self.optimizer_step
        )

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Learning rate of the next step, if it follows the steps."""
        if should_step:
            self.hparams.lr_annealing.after_step(
                self.optimizer, self.optimizer_step
            )

    def optimizers_step(self):
        """A step, after which weights may be averaged with those before."""
        averaging = self.hparams.weight_averaging
        if averaging is not None:
            averaging.before_step(self.optimizer)
        super().optimizers_step()
        if averaging is not None:
            averaging.after_step()

    def on_fit_start(self):
        """SpeechBrain's, but for what is compiled, and processes on CPUs.

        Compiled is the backbone, for the shape of a whole batch; on CPUs batch
        normalisation stays.
        """
        compiled, launched = self.compile, self.distributed_launch
        if compiled:
            compile_steps(
                self.modules,
                self.compile_module_keys or ["backbone"],
                mode=self.compile_mode,
                fullgraph=self.compile_using_fullgraph,
                dynamic=self.compile_using_dynamic_shape_tracing,
            )
            self.compile = False  # they are
        if launched and self.distributed_backend == "gloo":
            wrap_on_cpu(self.modules, self.find_unused_parameters)
            self.distributed_launch = False  # they are wrapped
        super().on_fit_start()
        self.compile, self.distributed_launch = compiled, launched

    def on_stage_start(self, stage, epoch=None):
        """Forgets the predictions of the last evaluation."""
        self.score = self.hparams.score
        self.score.clear()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Ends an epoch after its last stage.

        Arguments
        ---------
        stage : sb.Stage
            The stage that ended.
        stage_loss : float
            Its average loss on this process.
        epoch : int, optional
            Counted from 1.
        """
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            if self.valid_loader is None:
                # Brain resets these only after this call, but a checkpoint of
                # the epoch's end has to hold them as the next epoch needs them.
                self.step, self.avg_train_loss = 0, 0.0
                self.end_epoch(epoch, valid_stats=None)
            return
        self.score.gather()
        if stage == sb.Stage.VALID:
            valid_stats = {
                "loss": self.score.cross_entropy(),
                "score": self.score.summarize("score"),
            }
            self.end_epoch(epoch, valid_stats)

    def end_epoch(self, epoch, valid_stats):
        """Learning rate, test pass, log and checkpoint of an epoch.

        Arguments
        ---------
        epoch : int
            Counted from 1.
        valid_stats : dict or None
            ``loss`` and ``score``; None without a validation set.
        """
        lr = self.hparams.lr_annealing.after_epoch(
            self.optimizer, epoch, valid_stats and valid_stats["loss"]
        )
        meta, test_stats = {"epoch": epoch}, None
        if valid_stats is not None:
            meta["score"] = float(valid_stats["score"])
        if self.hparams.test_each_epoch:
            test_stats = {"score": self.test_score()}
            meta["test_score"] = test_stats["score"]
        self.hparams.history.append(
            epoch=epoch,
            lr=lr,
            train_loss=float(self.train_stats["loss"]),
            **{f"valid_{k}": float(v) for k, v in (valid_stats or {}).items()},
            **{f"test_{k}": float(v) for k, v in (test_stats or {}).items()},
        )
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": lr},
            train_stats=self.train_stats,
            valid_stats=valid_stats,
            test_stats=test_stats,
        )
        # The best on each key is kept, and the last.
        self.checkpointer.save_and_keep_only(
            meta=meta,
            max_keys=[key for key in ("score", "test_score") if key in meta],
        )

    @torch.no_grad()
    def test_score(self):
        """Score of the test set after an epoch, which steers nothing.

        It is there for the test-selected checkpoint, by which most results
        are published. It draws no random number.

        Returns
        -------
        float
            In percent.
        """
        self.modules.eval()
        self.score.clear()
        for batch in self.test_loader:
            self.evaluate_batch(batch, stage=sb.Stage.TEST)
        self.score.gather()
        return self.score.summarize("score")

    def on_evaluate_start(self, max_key=None, min_key=None):
        """SpeechBrain's, but insists on finding a checkpoint."""
        checkpoint = self.checkpointer.recover_if_possible(
            max_key=max_key, min_key=min_key
        )
        if checkpoint is None:
            raise FileNotFoundError(
                f"{self.checkpointer.checkpoints_dir} has no checkpoint with"
                f" {max_key or min_key}"
            )
        self.evaluated_epoch = int(checkpoint.meta["epoch"])


def dataio_prep(hparams):
    """Datasets, and everything that is learned from them before training.

    Arguments
    ---------
    hparams : dict
        The loaded YAML.

    Returns
    -------
    datasets : dict
        ``train``, ``valid`` (if any cycle validates) and ``test``, each a
        DynamicItemDataset.
    quality : dict
        Per quality measure, by its column's name, the cycles' quality by id.
    lengths : dict
        Of the inputs of the backbone, by id.
    """
    annotations = {
        "train": hparams["train_annotation"],
        "valid": hparams["valid_annotation"],
        "test": hparams["test_annotation"],
    }
    manifests = {
        name: with_labels(
            read_manifest(path, hparams["data_folder"]), hparams["labels"]
        )
        for name, path in annotations.items()
    }
    check_manifests(manifests, hparams["labels"])
    datasets = {
        name: DynamicItemDataset(manifest)
        for name, manifest in manifests.items()
        if manifest
    }

    # Fitted on the training set alone; a no-op where nothing is to be learned.
    measures = {"quality": hparams["quality"]}
    for name, measure in hparams["further_quality"].items():
        measures[f"quality_{name}"] = measure
    quality = {
        name: cycle_quality(
            measure,
            manifests.values(),
            hparams["cache_folder"],
            fit_on=manifests["train"],
        )
        for name, measure in measures.items()
    }
    hparams["loss"].fit(count_labels(manifests["train"], hparams["labels"]))

    # The expensive part is computed once; other runs find it in the cache.
    process, references = hparams["cycle_features"], None
    if not hparams["cache_features"]:
        references = run_on_main(
            store_references,
            args=[manifests.values(), process, hparams["cache_folder"]],
        )
        process = hparams["resampler"]
    stored_inputs = run_on_main(
        store_cycles,
        args=[manifests.values(), process, hparams["cache_folder"]],
    )
    fit_standardisation(
        hparams["backbone"], map(stored_inputs.__getitem__, manifests["train"])
    )

    # Methods and functions of modules: a local function could not be sent to
    # the processes of a loader, where they are not forked.
    add_item = partial(sb.dataio.dataset.add_dynamic_item, datasets.values())
    add_item(stored_inputs.__getitem__, takes="id", provides="inputs")
    add_item(
        partial(quality_tensor, quality["quality"]),
        takes="id",
        provides="quality",
    )
    add_item(
        make_label_encoder(hparams["labels"]).encode_label_torch,
        takes="label",
        provides="label_encoded",
    )
    keys = ["id", "inputs", "sample_rate", "quality", "label_encoded"]
    if references is not None:
        add_item(
            partial(recording_reference, references),
            takes="wav",
            provides="reference",
        )
        keys.append("reference")
    sb.dataio.dataset.set_output_keys(datasets.values(), keys)

    # A batch holds inputs of one length
    lengths = stored_inputs.lengths()
    if not hparams["cache_features"]:
        target = hparams["fix_length"].target
        lengths = {cycle: target(length) for cycle, length in lengths.items()}
    return datasets, quality, lengths


if __name__ == "__main__":
    # Reading command line arguments
    start_script(__doc__)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "data_folder:" not in overrides:
        sys.exit(
            f"Pass the database of {hparams_file}: --data_folder /path/to/it"
            " (`make demo` needs no data)"
        )

    # Initialize ddp (useful only for multi-GPU DDP training)
    sb.utils.distributed.ddp_init_group(run_opts)

    # Before anything is written or weights are looked for
    output = OutputFolder(__file__, hparams_file, run_opts, overrides)
    run_on_main(output.check)
    threads = set_threads(output.threads)

    # Load hyperparameters file with command-line overrides; the preparation
    # that it names is beside the script, or the link to it
    sys.path.append(str(Path(__file__).absolute().parent))
    with naming_slots(), whole_keys():
        hparams = load_hyperpyyaml(read_hparams(hparams_file), overrides)
    check_augmentations(hparams)
    adapt_parts(hparams)

    # Is a folder with results, or half a training, of the same data?
    prepare = hparams["prepare"]
    manifests = [
        hparams["train_annotation"],
        hparams["valid_annotation"],
        hparams["test_annotation"],
    ]
    run_on_main(output.check_data, args=[manifests, prepare])

    # Create experiment directory
    sb.create_experiment_directory(hparams["output_folder"])
    explain_errors(output.log)

    # Data preparation, to be run on only one process
    data_summary = run_on_main(prepare)
    run_on_main(output.claim, args=[manifests, threads])
    data_summary["quality_supervision"] = hparams["quality"].supervision
    data_summary["manifests"] = file_checksums(manifests)

    # Datasets, cached features and quality
    datasets, quality, lengths = dataio_prep(hparams)
    trained_model = TrainedModel(output.keys, hparams)

    brain = RespiratorySoundBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    check_parts(hparams, datasets, brain.device)
    eval_options = {**hparams["eval_dataloader_options"], "ckpt_prefix": None}
    loaders = {"valid": None}
    for name in datasets.keys() - {"train"}:
        dataset = shard(datasets[name])
        loaders[name] = brain.make_dataloader(
            dataset,
            sb.Stage[name.upper()],
            **equal_lengths(eval_options, dataset, lengths),
        )
    brain.valid_loader, brain.test_loader = loaders["valid"], loaders["test"]

    # Training
    train_options = dict(hparams["train_dataloader_options"])
    if callable(train_options.get("sampler")):  # a function of the manifest
        train_options["sampler"] = train_options["sampler"](
            datasets["train"].data
        )
    train_options = equal_lengths(train_options, datasets["train"], lengths)
    # Told of each epoch, unless it is SpeechBrain's own
    brain.train_sampler = train_options.get(
        "sampler", train_options.get("batch_sampler")
    )
    brain.fit(
        hparams["epoch_counter"],
        datasets["train"],
        brain.valid_loader,
        train_loader_kwargs=train_options,
    )
    # Of all epochs: a checkpoint that is loaded brings back the history until it.
    history = hparams["history"].table()

    # Evaluation of the checkpoints: on the validation set, which is for comparing
    # settings, and on the test set
    partitions, points = {}, {}
    if "valid" in datasets:
        partitions["valid"] = (
            brain.valid_loader,
            hparams["validation_folder"],
            "validation patients, on whom the checkpoint was selected",
        )
    partitions["test"] = (
        brain.test_loader,
        hparams["output_folder"],
        hparams["tested_on"],
    )
    given = hparams["normal_offset"]
    if given is not None:
        point = normal_point(given, hparams["labels"])
        points = dict.fromkeys(CHECKPOINTS, point)
    for partition, (loader, folder, description) in partitions.items():
        tables, epochs = {}, {}
        for name in CHECKPOINTS:
            if name == "test_selected" and (
                partition != "test" or not hparams["test_each_epoch"]
            ):
                continue
            brain.evaluate(
                loader, max_key=selection_key(name, "valid" in datasets)
            )
            tables[name] = predictions_table(
                hparams["score"], datasets[partition].data, **quality
            )
            epochs[name] = brain.evaluated_epoch
            if partition == "valid" and given is None:
                points[name] = choose_operating_point(
                    tables[name].round(DECIMALS), hparams["labels"]
                )
            if partition == "test" and if_main_process():
                trained_model.write(
                    output.run.model(name),
                    checkpoint=name,
                    epoch=brain.evaluated_epoch,
                    validated="valid" in datasets,
                    data=data_summary,
                    operating_point=points.get(name),
                )
        if if_main_process():
            metrics = write_run_results(
                folder,
                tables=tables,
                epochs=epochs,
                data=data_summary,
                labels=hparams["labels"],
                partition=description,
                validated="valid" in datasets,
                points=points,
            )
    if if_main_process():  # of the test set, which is evaluated last
        write_run_figures(folder, tables, metrics, hparams["labels"], history)
