"""How recipes of SpeechBrain call their parts, in the fewest lines.

What is here is the order of the calls and their arguments, in SpeechBrain 1.1:
of ``templates/speaker_id``, and of the ``train.py`` of UrbanSound8k, ESC50 and
VoxCeleb. Nothing knows of this package: its parts come in by YAML.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import re
from pathlib import Path

import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb

BASE = Path(__file__).with_name("base.yaml").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(\w+):.*\n(?:(?: .*)?\n)*", flags=re.M)
README = Path(__file__).with_name("README.md")
# Of the classes in training, in the order in which the encoder meets them.
LABELS, COUNTS = ("hum", "hiss", "click"), (6, 4, 2)
RATE = 16000


class Recipe(sb.Brain):
    """What the scripts have in common; ``losses`` are what it would log."""

    manifest = "json"  # of the training set
    losses: list[float]

    def on_stage_start(self, stage, epoch=None):
        if stage != sb.Stage.TRAIN:
            self.error_metrics = self.hparams.error_stats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        self.losses = [*getattr(self, "losses", []), float(stage_loss)]
        if stage != sb.Stage.VALID:
            self.train_loss = stage_loss
            return
        old_lr, new_lr = self.hparams.lr_annealing(epoch)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        error = self.error_metrics.summarize("average")
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": old_lr},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss, "error": error},
        )
        self.checkpointer.save_and_keep_only(
            meta={"error": error}, min_keys=["error"]
        )


class SpeakerId(Recipe):
    """``templates/speaker_id``, its fixed loss replaced by ``compute_cost``."""

    def compute_forward(self, batch, stage):
        wavs, lens = batch.to(self.device).sig
        self.should_augment = stage == sb.Stage.TRAIN
        if self.should_augment:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        return self.modules.classifier(
            self.modules.embedding_model(feats, lens)
        )

    def compute_objectives(self, predictions, batch, stage):
        lens, label = batch.sig.lengths, batch.label_encoded.data
        if self.should_augment:
            label = self.hparams.wav_augment.replicate_labels(label)
            lens = self.hparams.wav_augment.replicate_labels(lens)
        loss = self.hparams.compute_cost(predictions, label, lens)
        if stage != sb.Stage.TRAIN:
            self.error_metrics.append(batch.id, predictions, label, lens)
        return loss


class UrbanSound8k(Recipe):
    """Features without lengths, and a pair of predictions."""

    def compute_forward(self, batch, stage):
        wavs, lens = batch.to(self.device).sig
        if stage == sb.Stage.TRAIN:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        return self.modules.classifier(
            self.modules.embedding_model(feats)
        ), lens

    def compute_objectives(self, predictions, batch, stage):
        predictions, lens = predictions
        label, _ = batch.label_encoded
        if stage == sb.Stage.TRAIN:
            label = self.hparams.wav_augment.replicate_labels(label)
        loss = self.hparams.compute_cost(predictions, label, lens)
        if stage != sb.Stage.TRAIN:
            predictions.cpu().detach().numpy().argmax(-1).squeeze(-1)
            self.error_metrics.append(batch.id, predictions, label, lens)
        return loss


class VoxCeleb(UrbanSound8k):
    """The same calls for the cost, with manifests in CSV."""

    manifest = "csv"


class ESC50(Recipe):
    """A spectrum first, and labels repeated by the number of predictions.

    The call of ``compute_cost`` is a comment there.
    """

    def compute_forward(self, batch, stage):
        wavs, lens = batch.to(self.device).sig
        if stage == sb.Stage.TRAIN:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        spectrum = self.modules.compute_stft(wavs)
        spectrum = sb.processing.features.spectral_magnitude(spectrum)
        feats = torch.log1p(self.modules.compute_fbank(spectrum))
        outputs = self.modules.classifier(self.modules.embedding_model(feats))
        return outputs.unsqueeze(1) if outputs.ndim == 2 else outputs, lens

    def compute_objectives(self, predictions, batch, stage):
        predictions, lens = predictions
        label, _ = batch.label_encoded
        label = torch.cat(len(predictions) // len(label) * [label])
        loss = self.hparams.compute_cost(predictions.squeeze(1), label, lens)
        if stage != sb.Stage.TRAIN:
            self.error_metrics.append(batch.id, predictions, label, lens)
        return loss


RECIPES = {
    recipe.__name__: recipe
    for recipe in (SpeakerId, UrbanSound8k, VoxCeleb, ESC50)
}


def make_data(folder, samples=None):
    """Writes noises of some lengths, or all of one, and manifests of them."""
    generator = torch.Generator().manual_seed(0)
    for part, times in (("train", 1), ("valid", 0.5)):
        entries = {}
        for number, (label, count) in enumerate(zip(LABELS, COUNTS)):
            for i in range(int(count * times)):
                path = folder / f"{part}_{label}_{i}.wav"
                length = samples or RATE // (3 + i)
                noise = torch.randn(length, generator=generator)
                noise = noise.cumsum(0) / 50 if number else noise
                sound = 0.1 * (1 + i) / count * noise.clamp(-1, 1)
                soundfile.write(path, sound.numpy(), RATE)
                entries[path.stem] = {"wav": str(path), "class_string": label}
        (folder / f"{part}.json").write_text(json.dumps(entries))
        with open(folder / f"{part}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["ID", "wav", "class_string"])
            rows.writerows([key, *row.values()] for key, row in entries.items())


def with_blocks(blocks):
    """The base YAML, some of its top-level keys replaced or added by blocks."""
    text = BASE
    for key, block in ((m[1], m[0]) for m in BLOCK.finditer(blocks + "\n")):
        present = [m[0] for m in BLOCK.finditer(text) if m[1] == key]
        place = present[0] if present else "modules:\n"
        after = "" if present else place
        text = text.replace(place, block.rstrip() + "\n\n" + after, 1)
    return text


def train(name, folder, data, blocks="", **overrides):
    """Trains as a recipe's main part does; overrides are as on a command line."""
    recipe = RECIPES[name]
    overrides = {
        "data_folder": str(data),
        "output_folder": str(folder),
        **{
            f"{part}_annotation": str(data / f"{part}.{recipe.manifest}")
            for part in ("train", "valid")
        },
        **overrides,
    }
    hparams = load_hyperpyyaml(with_blocks(blocks), overrides)
    datasets = dataio_prep(hparams, recipe.manifest)
    brain = recipe(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts={"noprogressbar": True},
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        brain.hparams.epoch_counter,
        *datasets,
        train_loader_kwargs=hparams["dataloader_options"],
        valid_loader_kwargs=hparams["dataloader_options"],
    )
    return brain


def dataio_prep(hparams, manifest):
    """The data sets of training and validation, and a label encoder's file."""
    encoder = sb.dataio.encoder.CategoricalEncoder()

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav):
        return sb.dataio.dataio.read_audio(wav)

    @sb.utils.data_pipeline.takes("class_string")
    @sb.utils.data_pipeline.provides("class_string", "label_encoded")
    def label_pipeline(class_string):
        yield class_string
        yield encoder.encode_label_torch(class_string)

    read = getattr(sb.dataio.dataset.DynamicItemDataset, f"from_{manifest}")
    datasets = [
        read(
            hparams[f"{part}_annotation"],
            dynamic_items=[audio_pipeline, label_pipeline],
            output_keys=["id", "sig", "label_encoded"],
        )
        for part in ("train", "valid")
    ]
    encoder.load_or_create(
        path=f"{hparams['save_folder']}/label_encoder.txt",
        from_didatasets=[datasets[0]],
        output_key="class_string",
    )
    return datasets


def tables():
    """The tables of README.md: of each its cells, row by row."""
    text = README.read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        yield [
            [cell.strip() for cell in line.strip("| \n").split("|")]
            for line in table.splitlines()
            if "---" not in line
        ]
