"""What `make gpu` does: run the tests and benchmarks that need an NVIDIA card, and keep what they print.

Everything goes to docs/results/gpu-<card>/; README.md there has each command with its output. Without a card it says
so, and ends well.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import torch

RUN = Path("runs/gpu")
HALF = "--dtype bfloat16 --device cuda"
COMMANDS = {
    "Kernels beside float64": ("pytest tests/attention -q -k cuda -p no:cacheprovider", 180),
    "Block sizes": ("botvision bench blocks", 200),
    "Attention in a BoT block": (
        f"botvision bench attention {HALF} --batch 8 --repeats 20 --sizes 32x32 64x64 80x80 --out OUT/attention",
        150,
    ),
    "Attention with heads of 64, as in SAM": (
        f"botvision bench attention {HALF} --batch 8 --heads 12 --head-width 64 --repeats 20 --sizes 64x64 "
        "--ways botvision folded sdpa_mask flex sam-fast plain --out OUT/attention-sam",
        120,
    ),
    "Mask R-CNN": (f"botvision bench detector {HALF} --batch 4 --repeats 10", 150),
    "Models": (
        f"botvision bench step {HALF} --repeats 5 --models resnet50 botnet50 botnet50_s1 botnet_t7 efficientnet_b7 "
        "deit_base_patch16_224 --out OUT/step.json",
        150,
    ),
    "Table 1 at 1024 pixels": (f"botvision bench step {HALF} --size 1024 --batch 8 --repeats 5", 60),
    "A short training": (f"botvision demo --device cuda --precision bfloat16 --out {RUN}/demo", 180),
}
"""The commands, and how many seconds each may take: together less than 20 minutes."""


def measure(title: str, out: Path) -> str:
    """Run a command; returns its part of the page. One that fails, or takes too long, is part of the page too."""
    command, limit = COMMANDS[title]
    print(f"{title}: {command}", file=sys.stderr, flush=True)
    words = command.replace("OUT", str(out)).split()
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], text=True, timeout=limit, capture_output=True, check=False
        )
        status = "" if done.returncode == 0 else f" Ended with status {done.returncode}."
        shown = done.stdout if done.stdout.strip() else done.stderr
    except subprocess.TimeoutExpired as error:
        status, shown = f" Stopped after {limit} s: not measured.", (error.stdout or b"").decode()
    about = f"{time.perf_counter() - started:.0f} s.{status}"
    return f"## {title}\n\n{about}\n\n" + indented(f"{' '.join(words)}\n\n{shown.strip()}") + "\n"


def indented(text: str) -> str:
    """A block of Markdown that is shown as it is."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def main() -> None:
    """Measure, where there is a card."""
    if not torch.cuda.is_available():
        print("make gpu: there is no NVIDIA card here, so nothing was measured")
        return
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    out = Path("docs/results") / f"gpu-{name}"
    out.mkdir(parents=True, exist_ok=True)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"
    parts = [f"# {torch.cuda.get_device_name()}\n\nWritten by `make gpu`: {versions}.\n"]
    for title in COMMANDS:
        parts.append(measure(title, out))
        (out / "README.md").write_text("\n".join(parts), encoding="utf-8")  # what there is, should it be interrupted
    print(f"written: {out}/README.md")


if __name__ == "__main__":
    main()
