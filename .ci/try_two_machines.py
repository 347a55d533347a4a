"""Train on two machines, lose one of them twice, and compare with one machine. For Linux, as root.

The machines are network namespaces of this computer with their own address, host name and processes. First all
processes of the second one are killed, later it is cut off from the network without a word. Each time another torchrun
takes its place with the same command. Weights and scores have to be those of four undisturbed processes on one machine.

    sudo .venv/bin/python .ci/try_two_machines.py DATA OUT      # DATA in COCO's layout; five minutes on two cores
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from botvision.checkpoint import read_checkpoint

ADDRESSES = {"machine1": "10.9.0.1", "machine2": "10.9.0.2", "machine3": "10.9.0.3"}
"""The third one takes the place of the second when its network is gone."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
RENDEZVOUS = "--nnodes 2 --nproc-per-node 2 --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint machine1:29500"
SETTINGS = "--device cpu --batch-size 4 --workers 0 --steps 60 --eval-every 10 --save-every 5"


def run(*words: str) -> None:
    """A command that has to succeed."""
    subprocess.run(words, check=True)


@contextmanager
def machines() -> Iterator[None]:
    """The namespaces, on one bridge in a namespace of its own."""
    hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
    try:
        run("ip", "netns", "add", "switch")
        run("ip", "-n", "switch", "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", "switch", "link", "set", "bridge", "up")
        for name, address in ADDRESSES.items():
            folder = Path("/etc/netns", name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(hosts)
            run("ip", "netns", "add", name)
            run("ip", "-n", "switch", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", "switch", "link", "set", name, "master", "bridge", "up")
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in ("switch", *ADDRESSES):
            kill(name)
            subprocess.run(["ip", "netns", "delete", name])
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


def kill(machine: str) -> None:
    """End all processes of a machine at once."""
    found = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, text=True).stdout.split()
    for process in found:
        os.kill(int(process), signal.SIGKILL)


def training(processes: str, data: str, out: Path) -> list[str]:
    """The words of a command that trains."""
    words = f"{processes} -m botvision train demo/botnet50 {SETTINGS}".split()
    return [str(Path(sys.executable).with_name("torchrun")), *words, "--data", data, "--out", str(out)]


def start(machine: str, data: str, out: Path) -> subprocess.Popen[bytes]:
    """The same command, on one of the machines."""
    script = f'hostname {machine} && exec "$@"'
    inside = ["ip", "netns", "exec", machine, "unshare", "--uts", "sh", "-c", script, "sh"]
    return subprocess.Popen([*inside, *training(RENDEZVOUS, data, out)], env={**os.environ, **ENVIRONMENT})


def wait_for(table: Path, rows: int, first: subprocess.Popen[bytes]) -> None:
    """Until so many evaluations are there."""
    while not table.exists() or len(table.read_text().splitlines()) <= rows:
        if first.poll() is not None:
            sys.exit("the first machine's torchrun has ended")
        time.sleep(0.5)


def scores(out: Path) -> list[list[str]]:
    """The evaluations of a run, without their times."""
    return [[row.split(",")[0], *row.split(",")[2:]] for row in (out / "evaluations.csv").read_text().splitlines()]


def main(data: str, folder: str) -> None:
    """Do it, say whether the runs are equal, and end with status 1 where they are not."""
    one, two = Path(folder, "one").resolve(), Path(folder, "two").resolve()
    subprocess.run(training("--nproc-per-node 4", data, one), check=True, env={**os.environ, **ENVIRONMENT})
    with machines():
        first = start("machine1", data, two)
        start("machine2", data, two)
        wait_for(two / "evaluations.csv", 1, first)
        kill("machine2")
        print(f"{time.strftime('%X')} machine2 is killed, and starts again", flush=True)
        start("machine2", data, two)
        wait_for(two / "evaluations.csv", 3, first)
        run("ip", "-n", "machine2", "link", "set", "eth0", "down")
        print(f"{time.strftime('%X')} machine2 is cut off, and machine3 starts", flush=True)
        start("machine3", data, two)
        if first.wait():
            sys.exit("the run failed")
    weights = [read_checkpoint(out / "checkpoints" / "last.ckpt")["state_dict"] for out in (one, two)]
    same_weights = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    same_scores = scores(one) == scores(two)
    print(f"weights equal to the bit: {same_weights}; all evaluations equal: {same_scores}")
    sys.exit(not (same_weights and same_scores))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
