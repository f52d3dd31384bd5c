"""The job files for SLURM: what they run with SLURM and without, and that they put themselves in the queue again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "examples" / "slurm").glob("*.sbatch"))
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="job files are run by bash")
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "foveate", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """In place of the real ones: they write down how they are called."""
    scripts = {
        "foveate": f'echo "foveate $*" >> {tmp_path}/said; sleep "${{TAKES:-0}}"; exit "${{FAILS:-0}}"',
        "srun": f'echo "srun $1" >> {tmp_path}/said; shift; exec "$@"',
        "scontrol": f'echo "scontrol $*" >> {tmp_path}/said',
    }
    for name, script in scripts.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**kept, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_there_are_two() -> None:
    assert [file.stem for file in FILES] == ["train", "train_several"]


@each
def test_it_is_a_shell_script_with_what_a_job_needs(file: Path) -> None:
    subprocess.run(["bash", "-n", str(file)], check=True)
    orders = [line for line in file.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:USR1@120", "#SBATCH --open-mode=append"} <= set(orders)


@each
def test_without_slurm_one_process_begins_or_goes_on(file: Path, programs: dict[str, str], tmp_path: Path) -> None:
    environment = {**programs, "DATA": "images", "OUT": "kept"}
    subprocess.run(["bash", str(file)], env=environment, check=True)
    (said,) = (tmp_path / "said").read_text().splitlines()
    assert said.startswith("foveate train classification --data images")
    assert said.endswith("--resume --out kept")
    assert "--devices" not in said


@each
def test_with_slurm_a_task_is_a_process(file: Path, programs: dict[str, str], tmp_path: Path) -> None:
    failed = subprocess.run(["bash", str(file), "medical"], env={**programs, **JOB, "FAILS": "3"}, check=False)
    assert failed.returncode == 3
    assert (tmp_path / "said").read_text().splitlines() == [
        "srun --kill-on-bad-exit=1",
        "foveate train medical --nodes 2 --devices 4 --every 200 --resume --out runs/foveate",
    ]


@each
def test_when_time_is_nearly_over_it_queues_again_and_works_on(
    file: Path, programs: dict[str, str], tmp_path: Path
) -> None:
    job = subprocess.Popen(
        ["bash", str(file), "medical"], env={**programs, **JOB, "TAKES": "1"}, stdout=subprocess.PIPE
    )
    while not (tmp_path / "said").is_file() or "foveate" not in (tmp_path / "said").read_text():
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert (tmp_path / "said").read_text().splitlines()[-1] == "scontrol requeue 7"
    if job.stdout:
        job.stdout.close()
