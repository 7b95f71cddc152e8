"""A quick stand-in for train.py and evaluate.py, and how it is called.

Authors
 * qlung_plugin contributors
"""

import json

# Writes what train.py and evaluate.py write; the YAML's text says how it fails.
STAND_IN = """
import json, os, pathlib, sys, time

yaml, given = sys.argv[1], sys.argv[2:]
options = dict(zip(given[::2], given[1::2]))
output = pathlib.Path(options["--output_folder"])
about = {"argv": sys.argv, "pid": os.getpid(), "start": time.time()}
about["environment"] = dict(os.environ)
seed = options.get("--seed", "")
behaviour = pathlib.Path(yaml).read_text()
with open(output / "starts.txt", "a") as file:
    file.write(json.dumps(about) + "\\n")
if f"hang {seed};" in behaviour and not (output / "half.txt").exists():
    (output / "half.txt").touch()
    time.sleep(600)
if f"break {seed};" in behaviour and not pathlib.Path("mended").exists():
    for line in range(100):
        print("line", line)
    sys.exit("the loss is not finite")
time.sleep(0.5 if "slow" in behaviour else 0)

database = "SPRSound 2022" if "--run_folder" in options else "ICBHI 2017"
labels = "normal crackle wheeze both".split()
def evaluate(folder):
    folder.mkdir(exist_ok=True)
    shares = [f"p_{label}" for label in labels]
    rows = [",".join(["id,patient,label,prediction,recording,device,age,sex",
                      "location,quality", *shares])]
    rows += [f"{k}_{i},{k},{label},{label},,,,,,," +
             ",".join(str(int(j == i)) for j in range(4))
             for k in range(3) for i, label in enumerate(labels)]
    score = dict.fromkeys("sp se score se_two_class score_two_class".split(), 100)
    counts = dict.fromkeys(labels, 3)
    score |= {"macro_f1": 100, "recall": dict.fromkeys(labels, 100),
              "patients": 3, "confusion": [[3 * (i == j) for j in range(4)]
                                           for i in range(4)]}
    metrics = {"data": {"database": database, "subset": None,
                        "split": "official", "protocol": "of the stand-in"}}
    for key in ("selected", "last"):
        table = folder / ("predictions" + "_last" * (key == "last") + ".csv")
        table.write_text("\\n".join([*rows, ""]))
        metrics[key] = {**score, "counts": counts, "epoch": 1, "selection": key}
    (folder / "metrics.json").write_text(json.dumps(metrics))
if "--run_folder" not in options:
    evaluate(output / "validation")
evaluate(output)
about["end"] = time.time()
(output / "ended.json").write_text(json.dumps(about))
"""


def write_yaml(path, behaviour="", lr=0.1):
    """What run_experiments passes on, and how the stand-in behaves."""
    path.write_text(
        f"# {behaviour}\nseed: 1\nlr: {lr}\nnumber_of_epochs: 2\n"
        "split: official\ntest_fold: 0\n"
        "valid_fraction: 0.2\nvalid_fold: 0\nvalid_device: null\ntest_each_epoch: True\n"
        "data_folder: !PLACEHOLDER\noutput_folder: out\ncache_folder: cache\n"
    )


CALL = (
    "--hparams a.yaml b.yaml --seeds 1 2 --icbhi ICBHI --output out --jobs 2"
).split()


def call(*changes):
    """The command line with other options, or others besides."""
    options = {}
    for word in (*CALL, *changes):
        if word.startswith("--"):
            options[word] = values = []
        else:
            values.append(word)
    return [word for name in options for word in (name, *options[name])]


ONE = call("--hparams", "b.yaml", "--seeds", "1")
RUNS = [f"{name}/{seed}" for name in ("a", "b") for seed in (1, 2)]


def starts(folder):
    """How often, and how, the stand-in was started for a folder."""
    lines = (folder / "starts.txt").read_text().splitlines()
    return [json.loads(line) for line in lines]


def options_of(start):
    given = start["argv"][2:]
    return dict(zip(given[::2], given[1::2]))
