"""What every component of a kind has to keep, whoever defined it.

The components are made as their YAML blocks say. What is special to one is
tested where its file is.

Authors
 * qlung_plugin contributors
"""

import contextlib
import inspect
import json
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml
from safetensors.torch import load, save

from qlung_plugin.inference.architecture import (
    COMPONENTS as ALLOWED,
    build,
    check,
)
from qlung_plugin.inference.component_blocks import yaml_block
from qlung_plugin.lobes.models.pooled import fit_standardisation
from qlung_plugin.nnet.losses import AngularMarginLoss
from tests.unittests.catalogue import (
    COMPONENTS,
    each,
    each_backbone,
    make,
    plain,
    with_references,
)

COUNTS = torch.tensor([2063, 1215, 501, 363])
HALF = (torch.float16, torch.bfloat16)
MODEL_KINDS = ("quality", "compute_features", "backbone", "classifier")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(size=12, dim=6):
    """Logits, cosines and embeddings of four classes; targets; qualities."""
    embeddings = 30 * noise(size, dim)
    weights = F.normalize(noise(4, dim, seed=1), dim=1)
    cosines = F.normalize(embeddings, dim=1) @ weights.T
    targets = torch.arange(size) % 4
    return 7 * cosines, cosines, embeddings, targets, torch.linspace(0, 1, size)


def reloaded(module, fresh):
    """``fresh`` with the state of ``module``, as safetensors, which share none."""
    state = {k: v.contiguous() for k, v in module.state_dict().items()}
    fresh.load_state_dict(load(save(state)))
    return fresh


def built_from_json(architecture, module):
    """The same module made of plain data, as an exported model is."""
    text = json.dumps({"part": architecture})
    return reloaded(module, build(json.loads(text))["part"]).eval()


# --- margins ----------------------------------------------------------------


def margin_in_training(name):
    margin = make(name)
    margin.fit(COUNTS)
    margin.set_progress(3, 100)
    return margin


@each("margin")
def test_margin_is_a_number_per_sample(name):
    _, _, embeddings, targets, quality = batch_of()
    margin = margin_in_training(name)
    margins = margin(targets, quality=quality, embeddings=embeddings)
    assert margins.shape == targets.shape
    assert margins.dtype == torch.float32
    assert margins.isfinite().all() and margins.abs().sum() > 0
    alone = [
        margin(targets[i, None], quality[i, None], embeddings[i, None])
        for i in range(len(targets))
    ]
    torch.testing.assert_close(margins, torch.cat(alone))
    empty = margin(targets[:0], quality[:0], embeddings[:0])
    assert empty.shape == (0,)


@each("margin")
def test_margin_has_a_finite_gradient_in_a_loss(name):
    logits, cosines, embeddings, targets, quality = batch_of()
    cosines.requires_grad_()
    embeddings.requires_grad_()
    loss = AngularMarginLoss(margin_in_training(name))
    loss(logits, cosines, embeddings, targets, quality).backward()
    assert cosines.grad.isfinite().all() and cosines.grad.abs().sum() > 0
    assert embeddings.grad is None or embeddings.grad.isfinite().all()


@each("margin")
def test_margin_is_saved_as_it_was_fitted(name):
    _, _, embeddings, targets, quality = batch_of()
    margin = margin_in_training(name)
    again = reloaded(margin, make(name))
    assert torch.equal(
        again(targets, quality, embeddings),
        margin(targets, quality, embeddings),
    )


# --- losses -----------------------------------------------------------------


def loss_in_training(name):
    loss = make(name)
    loss.fit(COUNTS)
    loss.set_progress(3, 100)
    return loss


@each("loss")
def test_loss_is_a_number_with_a_finite_gradient(name):
    logits, cosines, embeddings, *rest = batch_of()
    inputs = [
        x.detach().requires_grad_() for x in (logits, cosines, embeddings)
    ]
    loss = loss_in_training(name)(*inputs, *rest)
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    gradients = [x.grad for x in inputs if x.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


@each("loss")
@pytest.mark.parametrize("dtype", HALF)
def test_loss_of_half_precision_is_computed_in_float32(name, dtype):
    logits, cosines, embeddings, *rest = batch_of()
    embeddings = embeddings / 5  # float16 ends at 65504, also for squares
    inputs = [x.to(dtype) for x in (logits, cosines, embeddings)]
    measured = loss_in_training(name)(*inputs, *rest)
    expected = loss_in_training(name)(*(x.float() for x in inputs), *rest)
    assert measured.dtype == torch.float32
    assert torch.equal(measured, expected)


@each("loss")
@pytest.mark.parametrize("wrong", [-100, -1, 4])
def test_loss_names_a_wrong_label(name, wrong):
    logits, cosines, embeddings, targets, quality = batch_of()
    targets[2] = wrong
    with pytest.raises(ValueError, match=f"targets .*0..3, but hold {wrong}"):
        loss_in_training(name)(logits, cosines, embeddings, targets, quality)


@each("loss")
def test_loss_is_saved_as_it_was_in_training(name):
    batch = batch_of()
    loss = loss_in_training(name)
    loss(*batch)  # running statistics
    again = reloaded(loss, make(name))
    assert torch.equal(again.eval()(*batch), loss.eval()(*batch))


@each("margin", "loss")
def test_no_model_has_a_part_of_the_objective(name):
    with pytest.raises(ValueError, match="none of the components"):
        check({"part": {"class": COMPONENTS[name].path}})


# --- qualities --------------------------------------------------------------


def cycles(quality):
    """Noises of falling level and width, of 1 s, and half a second of one."""
    waveforms = noise(6, quality.sample_rate) * 0.5 ** torch.arange(6)[:, None]
    smooth = F.avg_pool1d(waveforms[3:, None], 9, 1, padding=4)[:, 0]
    waveforms = torch.cat([waveforms[:3], smooth])
    waveforms[5, quality.sample_rate // 2 :] = 0
    return waveforms.clamp(-0.9, 0.9), torch.tensor([1.0, 1, 1, 1, 1, 0.5])


def measured(quality):
    """The measurements of some cycles, as a manifest would have them."""
    waveforms, lengths = cycles(quality)
    # For those that read it of the manifest.
    entries = {
        str(i): dict.fromkeys(quality.names, i / 10)
        for i in range(len(waveforms))
    }
    parts = []
    for part in quality.parts:
        stated = part.measure_entries(entries)
        if stated is None:
            stated = part.measure(waveforms, lengths)
        parts.append(stated)
    return torch.cat(parts, dim=-1)


@each("quality")
def test_quality_is_between_0_and_1_and_its_own(name):
    quality = make(name)
    values = measured(quality)
    assert values.dtype == torch.float32
    assert len(set(quality.names)) == values.shape[1]
    quality.fit(values)
    quality.check_fitted()
    scores = quality.score(values)
    assert scores.shape == (6,) and scores.dtype == torch.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    # What was learned does not enter what is measured, and is stored.
    torch.testing.assert_close(
        measured(quality), values, rtol=0, atol=0, equal_nan=True
    )
    alone = torch.cat([quality.score(row[None]) for row in values])
    torch.testing.assert_close(scores, alone)
    if quality.of_waveforms:
        torch.testing.assert_close(quality(*cycles(quality)), scores)
        assert quality.measure(torch.zeros(0, 100)).shape == (
            0,
            values.shape[1],
        )


@each("quality")
def test_quality_of_a_waveform_does_not_depend_on_the_others(name):
    quality = make(name)
    if not quality.of_waveforms:
        with pytest.raises(ValueError, match="measure it with another"):
            quality.measure(torch.zeros(1, 100))
        return
    waveforms, lengths = cycles(quality)
    quality.fit(measured(quality))
    together = quality(waveforms, lengths)
    for waveform, length, score in zip(waveforms, lengths, together):
        alone = waveform[None, : int(length * len(waveform))]
        torch.testing.assert_close(
            quality(alone)[0], score, atol=1e-4, rtol=1e-4
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each("quality")
def test_quality_is_the_same_on_a_gpu(name):
    quality = make(name)
    if quality.of_waveforms:
        quality.fit(measured(quality))
        expected = quality(*cycles(quality))
        waveforms, lengths = (tensor.cuda() for tensor in cycles(quality))
        with torch.autocast("cuda", torch.float16):
            scores = quality.cuda()(waveforms, lengths)
        torch.testing.assert_close(scores.cpu(), expected, atol=1e-3, rtol=0)


@each("quality")
def test_quality_is_saved_and_exported_as_it_was_fitted(name):
    quality = make(name)
    values = measured(quality)
    quality.fit(values)
    architecture = plain(yaml_block(name, COMPONENTS) + "\n")
    for again in (
        reloaded(quality, make(name)),
        built_from_json(architecture, quality),
        pickle.loads(pickle.dumps(quality)),  # as a loader's process has it
    ):
        again.check_fitted()
        assert torch.equal(again.score(values), quality.score(values))
        torch.testing.assert_close(
            measured(again), values, rtol=0, atol=0, equal_nan=True
        )


# --- front ends -------------------------------------------------------------


@each("compute_features")
def test_front_end_makes_features(name):
    front_end = make(name)
    levels = torch.tensor([[0.1], [0.001], [0.3]])
    waveforms = levels * noise(3, front_end.sample_rate)
    waveforms.requires_grad_()
    features = front_end(waveforms)
    batch, frames, bands = features.shape
    assert batch == 3 and frames > 1 and bands > 1
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert waveforms.grad.isfinite().all() and waveforms.grad.abs().sum() > 0
    alone = torch.cat([front_end(row[None]) for row in waveforms.detach()])
    torch.testing.assert_close(features.detach(), alone, atol=1e-4, rtol=0)
    for dtype in HALF:
        with torch.autocast("cpu", dtype):
            inside = front_end(waveforms)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, features)
    assert not front_end.state_dict()  # all of it follows from its settings


@pytest.mark.parametrize(
    "name", [name for name, c in COMPONENTS.items() if c.key == "log_mel"]
)
def test_front_end_tells_what_a_decibel_is(name):
    front_end = make(name)
    waveforms = 0.1 * noise(2, front_end.sample_rate)
    rise = front_end(waveforms * 10 ** (6 / 20)) - front_end(waveforms)
    # The lowest bands may be empty, or at the front end's floor.
    rise = rise[..., rise.shape[-1] // 2 :] / front_end.decibel
    torch.testing.assert_close(
        rise, torch.full_like(rise, 6.0), atol=0.05, rtol=0
    )


@each("compute_features")
def test_front_end_is_exported(name):
    front_end = make(name).eval()
    waveforms = 0.1 * noise(2, front_end.sample_rate)
    architecture = plain(yaml_block(name, COMPONENTS) + "\n")
    for again in (
        built_from_json(architecture, front_end),
        pickle.loads(pickle.dumps(front_end)),  # as a loader's process has it
    ):
        assert torch.equal(again(waveforms), front_end(waveforms))


# --- backbones --------------------------------------------------------------


def small_backbone(backbone, **arguments):
    """A backbone, and features of its front end."""
    text = (
        "pretrained_weights: null\n"
        f"features: {backbone.features}\nbackbone: {backbone.backbone}\n"
    )
    torch.manual_seed(0)
    made = load_hyperpyyaml(text, {"backbone": arguments} if arguments else {})
    features = made["features"](0.1 * noise(4, backbone.rate))
    fit_standardisation(made["backbone"], features)
    return made["backbone"], features.detach()


def embeddings_of(backbone, features, *lengths):
    torch.manual_seed(0)  # SpeechBrain's x-vector adds a little noise
    with torch.no_grad():
        return backbone.eval()(features, *lengths)


@each_backbone
def test_backbone_makes_embeddings(backbone):
    made, features = small_backbone(backbone)
    embeddings = embeddings_of(made, features)
    assert embeddings.shape == (4, backbone.dim) == (4, made.embedding_dim)
    assert embeddings.isfinite().all()
    alone = torch.cat([embeddings_of(made, row[None]) for row in features])
    torch.testing.assert_close(embeddings, alone, atol=1e-3, rtol=1e-3)


@each_backbone
def test_backbone_is_called_as_speechbrains_recipes_do(backbone):
    made, features = small_backbone(backbone)
    expected = embeddings_of(made, features)
    whole = embeddings_of(made, features, torch.ones(len(features)))
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-4)
    kept, _ = small_backbone(backbone, keepdim=True)
    assert torch.equal(
        embeddings_of(reloaded(made, kept), features), expected[:, None]
    )


@each_backbone
def test_backbone_uses_lengths_or_says_that_it_does_not(backbone, caplog):
    made, features = small_backbone(backbone)
    whole = embeddings_of(made, features, torch.ones(len(features)))
    assert not caplog.records
    half = torch.full((len(features),), 0.5)
    used = [embeddings_of(made, features, half) for _ in range(2)]
    # SpeechBrain's ResNet takes lengths, and does nothing with them.
    uses = getattr(made, "passes_lengths", not torch.equal(used[0], whole))
    assert len(caplog.records) == (0 if uses else 1)
    assert uses or "sees padding as signal" in caplog.text


@each_backbone
def test_backbone_learns(backbone):
    made, features = small_backbone(backbone)
    features.requires_grad_()
    made.train()(features).square().sum().backward()
    assert features.grad.abs().sum() > 0
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@each_backbone
def test_backbone_in_half_precision(backbone):
    made, features = small_backbone(backbone)
    exact = embeddings_of(made, features)
    with torch.autocast("cpu", torch.bfloat16):
        rough = embeddings_of(made, features)
    # Anew: torch 2.7 would take the weights as they were cast without gradients
    with torch.autocast("cpu", torch.bfloat16):
        made.train()(features.requires_grad_()).square().sum().backward()
    similarity = torch.cosine_similarity(exact, rough.float())
    assert (similarity > 0.99).all()
    for name, parameter in made.named_parameters():
        assert parameter.grad.isfinite().all(), name


@each_backbone
def test_frozen_backbone_stays_as_it_is(backbone):
    made, features = small_backbone(backbone)
    if "freeze" in inspect.signature(type(made)).parameters:
        made, features = small_backbone(backbone, freeze=True)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    made.train()(features.requires_grad_()).square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in made.parameters())
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with torch.no_grad():  # nor does anything drop out
        torch.testing.assert_close(
            made(features), made(features), atol=1e-3, rtol=0
        )


@each_backbone
def test_backbone_is_saved_and_exported(backbone):
    made, features = small_backbone(backbone)
    expected = embeddings_of(made, features)
    for again in (
        reloaded(made, small_backbone(backbone)[0]),
        built_from_json(plain(f"backbone: {backbone.backbone}\n"), made),
    ):
        assert torch.equal(embeddings_of(again, features), expected)


# --- classifiers ------------------------------------------------------------


@each("classifier")
def test_classifier_makes_logits_and_cosines(name):
    architecture = plain(yaml_block(name, COMPONENTS) + "\n")
    classifier = build({"part": architecture})["part"]
    embeddings = noise(5, 6).requires_grad_()
    logits, cosines = classifier(embeddings)
    assert logits.shape == cosines.shape == (5, 4)
    assert (cosines.abs() <= 1 + 1e-6).all()
    (logits + cosines).square().sum().backward()
    assert embeddings.grad.isfinite().all()
    for parameter in classifier.parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any()
    again = built_from_json(architecture, classifier)
    assert torch.equal(again(embeddings).logits, classifier(embeddings).logits)
    for dtype in HALF:
        with torch.autocast("cpu", dtype):
            assert classifier(embeddings).cosines.dtype == torch.float32


@each("classifier")
def test_classifier_returns_the_logits_alone_if_asked(name):
    torch.manual_seed(0)
    classifier = make(name)
    dim = max(classifier.state_dict().values(), key=torch.numel).shape[1]
    embeddings = noise(5, dim)
    logits, cosines = classifier(embeddings)
    both = classifier(embeddings[:, None])
    assert torch.equal(both.logits, logits[:, None])
    assert torch.equal(both.cosines, cosines[:, None])
    block = with_references(yaml_block(name, COMPONENTS) + "\n")
    alone = load_hyperpyyaml(block, {"classifier": {"return_cosines": False}})
    alone = reloaded(classifier, alone["classifier"])
    assert torch.equal(alone(embeddings), logits)
    assert torch.equal(alone(embeddings[:, None]), logits[:, None])


# --- what a stranger's model may have ----------------------------------------

SECRET = "a-file-that-no-model-names"
watching, seen = [], []


def watch(event, arguments):
    """Remembers whatever is done with what is called :data:`SECRET`."""
    if watching and SECRET in repr(arguments):
        seen.append(event)


sys.addaudithook(watch)


@contextlib.contextmanager
def nothing_is_looked_for():
    """No file is opened, and no address resolved, of that name."""
    watching.append(True)
    try:
        yield
    finally:
        watching.clear()
        events = seen.copy()
        seen.clear()
    assert not events


def test_looking_for_it_would_be_seen():
    with pytest.raises(AssertionError, match="open"):
        with nothing_is_looked_for():
            with pytest.raises(FileNotFoundError):
                open(SECRET)


@each(*MODEL_KINDS)
def test_no_argument_leads_out_of_a_model(name, tmp_path):
    component = COMPONENTS[name]
    assert component.path in ALLOWED
    (tmp_path / SECRET).write_text("{}")
    block = plain(yaml_block(name, COMPONENTS) + "\n")
    for argument in component.arguments:
        for value in (
            str(tmp_path / SECRET),
            f"http://{SECRET}.invalid/weights",
            [str(tmp_path / SECRET)],
            {"file": str(tmp_path / SECRET)},
        ):
            arguments = {**block["arguments"], argument.name: value}
            part = {"class": component.path, "arguments": arguments}
            with nothing_is_looked_for(), contextlib.suppress(ValueError):
                build({"part": part}, "meta")


@each(*MODEL_KINDS)
def test_unknown_fields_of_a_mapping_are_refused(name):
    """A library may take any field, also such as make it fetch code."""
    component = COMPONENTS[name]
    block = plain(yaml_block(name, COMPONENTS) + "\n")
    for argument in component.arguments:
        if "dict" in argument.annotation:
            arguments = {**block["arguments"], argument.name: {"_fetch": "a/b"}}
            part = {"class": component.path, "arguments": arguments}
            with pytest.raises(ValueError, match="part"):
                build({"part": part}, "meta")
