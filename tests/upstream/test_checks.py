"""What tools/upstream.py writes passes SpeechBrain's own checks.

> SPEECHBRAIN=/path/to/checkout python -m pytest tests/upstream

Authors
 * qlung_plugin contributors
"""

import csv
import re

import pytest

pytestmark = pytest.mark.slow


def test_consistency(checkout):
    checkout.run("python", "-m", "pytest", "-q", "tests/consistency")


def test_docstrings(checkout):
    # The recipes have no check upstream; they pass it too.
    folders = [
        "speechbrain",
        "tools",
        "templates",
        "recipes/ICBHI",
        "recipes/SPRSound",
    ]
    checkout.run(
        "python",
        "-c",
        "from tests.utils.check_docstrings import check_docstrings\n"
        f"assert check_docstrings('.', {folders})",
    )


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check"),
        ("ruff", "format", "--check"),
    ],
    ids=" ".join,
)
def test_ruff(checkout, command):
    checkout.run(*command, *checkout.changed(".py"))


def test_yamllint(checkout):
    for name in checkout.changed(".yaml"):
        checkout.run("yamllint", "--strict", name)


def test_codespell(checkout):
    names = [
        n for n in checkout.changed("") if not n.endswith((".csv", ".wav"))
    ]
    words = "--ignore-words=.dict-speechbrain.txt"
    checkout.run("codespell", words, *names)


def test_whitespace_and_sizes(checkout):
    checkout.changed("")
    checkout.git("diff", "--cached", "--check")
    for name in checkout.changed(""):
        size = (checkout.folder / name).stat().st_size
        assert size <= 1024 * 1024, name
        if name.endswith(".py"):
            text = (checkout.folder / name).read_bytes()
            assert text.endswith(b"\n") and b"\r" not in text, name


core = pytest.mark.parametrize("checkout", ["margin", "quality"], indirect=True)
recipes = pytest.mark.parametrize(
    "checkout", ["icbhi", "sprsound"], indirect=True
)


@core
def test_doctests_and_unit_tests(checkout):
    names = checkout.changed(".py")
    modules = [name for name in names if name.startswith("speechbrain/")]
    tests = [name for name in names if name.startswith("tests/unittests/")]
    tests += [
        f"tests/unittests/test_{t}.py" for t in ("losses", "voice_analysis")
    ]
    checkout.run("python", "-m", "pytest", "-q", "--doctest-modules", *modules)
    checkout.run("python", "-m", "pytest", "-q", *tests)


SAME_BYTES = """
import importlib.util, torch
from torch.nn.functional import one_hot
def load(path):
    spec = importlib.util.spec_from_file_location(path[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
before, now = load("losses_before.py"), load("speechbrain/nnet/losses.py")
torch.manual_seed(0)
cosines = torch.rand(512, 1, 7) * 2 - 1
labels = torch.randint(7, (512, 1))
for name in ("AngularMargin", "AdditiveAngularMargin"):
    for options in ((), (0.2, 30), (1.6, 30), (0.2, 15, True)):
        if name == "AngularMargin" and len(options) == 3:
            continue
        results = []
        for losses in (before, now):
            inputs = cosines.clone().requires_grad_()
            margin = getattr(losses, name)(*options)
            targets = one_hot(labels.squeeze(1), 7).float()
            predictions = margin(inputs.squeeze(1), targets)
            loss = losses.LogSoftmaxWrapper(margin)(inputs, labels)
            loss.backward()
            results.append((predictions, loss, inputs.grad))
        for old, new in zip(*results):
            assert old.detach().numpy().tobytes() == new.detach().numpy().tobytes()
"""


@pytest.mark.parametrize("checkout", ["margin"], indirect=True)
def test_a_scalar_margin_gives_the_same_bytes_as_before(checkout):
    before = checkout.git("show", "HEAD:speechbrain/nnet/losses.py")
    path = checkout.folder / "losses_before.py"
    path.write_text(before, encoding="utf-8")
    checkout.run("python", "-c", SAME_BYTES)
    path.unlink()


SAME_SCORES = """
import torch
from qlung_plugin.lobes.quality import AudioQualityScore as Ours
from speechbrain.lobes.features import AudioQualityScore as Theirs
torch.manual_seed(0)
time = torch.arange(12345) / 16000
tone = torch.sin(2 * torch.pi * 440 * time)
sounds = [0.1 * tone + level * torch.randn(12345) + 0.05 for level in (0, 0.01, 0.3)]
sounds, lengths = torch.stack(sounds), torch.tensor([1.0, 0.4, 0.7])
ours = Ours(16000)
assert torch.allclose(ours(sounds, lengths), Theirs()(sounds, lengths), atol=1e-5)
assert torch.allclose(ours(sounds[:, :99]), Theirs()(sounds[:, :99]), atol=1e-5)
fitted = Ours(16000, normalisation="fitted")
fitted.fit(fitted.measure(sounds))
low, high = fitted.ranges.unbind(1)
theirs = Theirs(
    entropy_range=(low[0].item(), high[0].item()),
    level_range=(low[1].item(), high[1].item()),
)
assert torch.allclose(fitted(sounds, lengths), theirs(sounds, lengths), atol=1e-5)
"""


@pytest.mark.parametrize("checkout", ["quality"], indirect=True)
def test_the_quality_score_is_that_of_the_package(checkout):
    checkout.run("python", "-c", SAME_SCORES)


def test_links_of_readmes(checkout):
    for name in checkout.changed(".md"):
        text = (checkout.folder / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (checkout.folder / name).parent.joinpath(link).exists(), link


def test_nothing_of_this_repository_is_referred_to(checkout):
    for name in checkout.changed(".py", ".md", ".yaml"):
        text = (checkout.folder / name).read_text(encoding="utf-8")
        assert not re.search(r"`make |\{\{\w+\}\}\n", text), name
        if name.endswith("_prepare.py") or name.startswith("speechbrain/"):
            assert "import qlung_plugin" not in text, name
            assert "from qlung_plugin" not in text, name


@recipes
def test_recipes(checkout):
    tables = checkout.changed(".csv")
    tables = [name for name in tables if name.startswith("tests/recipes/")]
    (table,) = tables
    with open(checkout.folder / table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        filters = (
            f"filters_fields=['Hparam_file'], filters=['{row['Hparam_file']}']"
        )
        checkout.run(
            "python",
            "-c",
            "from tests.utils.recipe_tests import run_recipe_tests\n"
            f"assert run_recipe_tests({filters})",
        )
        assert not (checkout.folder / "results").exists()
