"""Examples of every command, which its help shows at the end. Nothing here imports PyTorch or pydantic."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("botvision demo", "botvision demo --out runs/demo --steps 200"),
    "models": ("botvision models", "botvision models 'botnet_t*'", "botvision models botnet50 --tree --input-size 512"),
    "data": (
        "botvision data check my-data --out seen",
        "botvision data convert export/ --out my-coco",
        "botvision data split photos/ --out my-data",
    ),
    "data check": ("botvision data check my-data", "botvision data check my-data --out seen --pictures 20"),
    "data convert": (
        "botvision data convert export/ --out my-coco",
        "botvision data convert export/ --out my-coco --from yolo",
    ),
    "data split": (
        "botvision data split export/result.json --out my-data",
        "botvision data split photos/ --out my-data --val 0.1  # photos/ has a folder for each class",
    ),
    "train": (
        "botvision train finetune/botnet50 --data my-data",
        "botvision train imagenet/botnet50 --data my-images --smoke",
        "botvision train --resume runs/finetune-botnet50 --epochs 24",
    ),
    "eval": (
        "botvision eval runs/finetune-botnet50 --data my-data --classes",
        "botvision eval runs/finetune-botnet50/checkpoints/last.ckpt --data my-data --split test --out scores",
    ),
    "predict": (
        "botvision predict runs/finetune-botnet50 photos/ --out found",
        "botvision predict runs/finetune-botnet50 photo.jpg --out found --threshold 0.7 --json",
    ),
    "attend": (
        "botvision attend runs/finetune-botnet50 photo.jpg --at 320 240 --out seen",
        "botvision attend botnet50 photo.jpg --at 320 240 100 80 --out seen --block layer4.0",
    ),
    "serve": ("botvision serve runs/finetune-botnet50", "botvision serve runs/finetune-botnet50 --port 0 --device cpu"),
    "export": (
        "botvision export runs/finetune-botnet50 --format onnx --images photos/",
        "botvision export runs/finetune-botnet50 --format torch --out model.pt2",
    ),
    "paper": ("botvision paper table4", "botvision paper figure5 --markdown", "botvision paper --runs runs --json"),
    "paper context": (
        "botvision paper context",
        "botvision paper context --rows resnet botnet_qk_qr_relative --columns what --seeds 1",
    ),
    "report": ("botvision report runs/coco-botnet50", "botvision report runs/coco-botnet50 runs/coco-resnet50"),
    "shards": ("botvision shards my-images --out my-shards", "botvision shards my-images --out my-shards --split val"),
    "bench": ("botvision bench attention --sizes 32x32", "botvision bench step --models botnet50 --batch 4"),
    "bench attention": ("botvision bench attention --sizes 64x64 --ways botvision timm --out found",),
    "bench step": ("botvision bench step --models 'botnet_t*' --batch 8 --dtype bfloat16 --out step.json",),
    "bench inference": ("botvision bench inference --size 256 --batch 8",),
    "bench pareto": ("botvision bench pareto --times step.json --out found",),
    "bench growth": ("botvision bench growth --models botnet50 --sizes 256 512 --out found",),
    "bench detector": ("botvision bench detector --models torchvision botnet50 --size 512x512",),
    "bench data": ("botvision bench data --task detection --workers 4 --out data.png",),
    "bench evaluation": ("botvision bench evaluation --images 1000",),
    "bench blocks": ("botvision bench blocks --sizes 64x64 --head-widths 128",),
    "bench scale": ("botvision bench scale --model botnet50 --step-ms 120 --processes 1 8 64",),
}
"""By the words of a command, lines as the user types them."""


def examples(command: str) -> str:
    """The end of a command's help."""
    return "\n".join(["Examples:", *(f"  {line}" for line in EXAMPLES[command])])


def has_parts(command: str) -> bool:
    """Whether a command is an app of its own, with commands inside."""
    return any(words.startswith(f"{command} ") for words in EXAMPLES)


def train_examples(name: str, task: str) -> str:
    """The end of the help of an experiment of a task."""
    data = "my-images" if task == "classification" else "my-data"
    run = f"runs/{name.replace('/', '-')}"
    lines = (
        f"botvision train {name} --data {data}",
        f"botvision train {name} --data {data} --print-config  # the settings, and nothing else",
        f"botvision train --resume {run}  # goes on with it; so does the first line",
    )
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])
