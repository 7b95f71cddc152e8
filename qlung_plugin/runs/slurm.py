"""Runs as jobs of Slurm, which knows best when there is a machine for each.

Authors
 * qlung_plugin contributors
"""

import shlex
import shutil
import subprocess
import sys

from qlung_plugin.runs.jobs import Step
from qlung_plugin.utils.text import printable


def submit(runs: dict[str, list[Step]], options: str) -> int:
    """Submits each run that is not finished as a job; returns how many these are.

    Its steps follow each other, but for those that are finished when it starts.
    The job is called like the folder of the first, and waits for others that are
    called so: submitted twice, a run is not made twice. The options are those of
    ``sbatch``.
    """
    if shutil.which("sbatch") is None:
        raise FileNotFoundError(
            "--slurm needs the command sbatch: is this a machine of the cluster?"
        )
    left = {
        name: steps
        for name, steps in runs.items()
        if not all(step.is_finished() for step in steps)
    }
    for name, steps in left.items():
        for step in steps:
            if not step.is_finished():
                step.record({})
        job = [
            *("sbatch", "--dependency=singleton", "--output=/dev/null"),
            *shlex.split(options),
            f"--job-name={steps[0].folder.absolute()}",
            f"--wrap={' && '.join(map(_command, steps))}",
        ]
        done = subprocess.run(job, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"sbatch refused {name}: {printable(done.stderr)}")
    return len(left)


def _command(step: Step) -> str:
    """For a shell: the script, if its results are not there yet."""
    script = shlex.join([sys.executable, *step.command])
    metrics, console = (
        shlex.quote(str(path)) for path in (step.run.metrics, step.run.console)
    )
    return f"{{ test -f {metrics} || {script} > {console} 2>&1; }}"
