"""Each run of an experiment as a job of Slurm, for which a command stands in.

Authors
 * qlung_plugin contributors
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.stand_in import starts, write_yaml

# Runs the job at once, as a shell on a machine of the cluster would.
SBATCH = """#!{python}
import json, pathlib, subprocess, sys
given = sys.argv[1:]
with open("jobs.txt", "a") as file:
    file.write(json.dumps(given) + "\\n")
if "full" in given:
    sys.exit("sbatch: error: the partition is full")
[wrap] = [given.removeprefix("--wrap=") for given in given if "--wrap=" in given]
subprocess.run(["sh", "-c", wrap])
print("Submitted batch job 1")
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A command that stands in for Slurm's; what it was called with."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(SBATCH.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
    return lambda: [
        json.loads(line) for line in Path("jobs.txt").read_text().splitlines()
    ]


SLURM = "--hparams a.yaml b.yaml --seeds 1 2 --icbhi ICBHI --output out".split()
SLURM += ["--sprsound", "SPRSound", "--slurm", "--gres gpu:1 --comment 'a b'"]


def test_each_run_is_a_job_of_slurm(experiments, sbatch, tmp_path, capsys):
    write_yaml(tmp_path / "b.yaml", "break 2;")
    assert experiments.main(SLURM) == 0
    assert "Submitted 4 of 4 runs. When they" in capsys.readouterr().out
    for run, given in zip(("a/1", "b/1", "a/2", "b/2"), sbatch()):
        folder = tmp_path / "out" / run
        assert given[:2] == ["--dependency=singleton", "--output=/dev/null"]
        assert given[2:6] == ["--gres", "gpu:1", "--comment", "a b"]
        assert given[6] == f"--job-name={folder}"
        assert len(starts(folder)) == 1
        assert (folder / "sprsound" / "metrics.json").exists() == (run != "b/2")
    assert (
        "line 99" in (tmp_path / "out" / "b" / "2" / "console.txt").read_text()
    )
    assert experiments.main(["--collect", "out"]) == 0
    assert (
        "b/2 has no metrics.json" in (tmp_path / "out/results.md").read_text()
    )
    # Only what is left is submitted, and when nothing is, there are tables.
    (tmp_path / "mended").touch()
    assert experiments.main(SLURM) == 0
    assert len(sbatch()) == 5 and len(starts(tmp_path / "out" / "b" / "2")) == 2
    capsys.readouterr()
    assert experiments.main(SLURM) == 0
    assert len(sbatch()) == 5
    assert "Tables: out/results.md" in capsys.readouterr().out
    # What was submitted twice is made once.
    wrap = sbatch()[0][-1].removeprefix("--wrap=")
    subprocess.run(["sh", "-c", wrap], check=True)
    assert len(starts(tmp_path / "out" / "a" / "1")) == 1


def test_what_slurm_refuses_is_told(experiments, sbatch, monkeypatch):
    with pytest.raises(OSError, match="refused a/1: .* the partition is full"):
        experiments.main([*SLURM[:-1], "-p full"])
    with pytest.raises(SystemExit):
        experiments.main([*SLURM, "--jobs", "2"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="--slurm needs the command"):
        experiments.main(SLURM)
