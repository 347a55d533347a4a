"""What the paper says about speed: the accuracies that its Figure 5 draws, and how much longer one model takes."""

from botvision.benchmarks.pareto import Accuracy
from botvision.benchmarks.step_report import PublishedRatio
from botvision.experiments.paper import TABLES, Row

EFFICIENTNET = "AutoAugment"
"""The checkpoints of EfficientNet's authors that were trained with it (github.com/tensorflow/tpu)."""
B7 = "Section 4.7.4"
"""The paper gives T7's accuracy as that of B7 trained with RandAugment."""
DEIT = "DeiT's paper"
"""Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention"."""
VIT = "ViT's paper"
"""Dosovitskiy et al. 2021, trained on ImageNet's 1000 classes alone."""
OTHERS: dict[str, Accuracy] = {
    **{
        f"efficientnet_b{number}": Accuracy(f"B{number}", "EfficientNet", top1, EFFICIENTNET)
        for number, top1 in enumerate((77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0))
    },
    "efficientnet_b7": Accuracy("B7", "EfficientNet", 84.7, B7),
    "deit_tiny_patch16_224": Accuracy("DeiT-Ti", "DeiT", 72.2, DEIT),
    "deit_small_patch16_224": Accuracy("DeiT-S", "DeiT", 79.8, DEIT),
    "deit_base_patch16_224": Accuracy("DeiT-B", "DeiT", 81.8, DEIT),
    "deit_base_patch16_384": Accuracy("DeiT-B 384", "DeiT", 83.1, DEIT),
    "vit_base_patch16_384": Accuracy("ViT-B 384", "ViT", 77.9, VIT),
    "vit_large_patch16_384": Accuracy("ViT-L 384", "ViT", 76.5, VIT),
}
"""Of models that the paper did not train; it takes the numbers "from corresponding papers" (Figure 5)."""
FAMILIES = {"botnet_t": "BoTNet T", "senet_s": "SENet"}
TABLE_10 = {"resnet50": "R50", "botnet50": "BoT50", "botnet50_s1": "BoT-S1-50"}


def accuracies() -> dict[str, Accuracy]:
    """The models of Figure 5 by their names, and those of Table 10, which are trained for fewer epochs."""
    scaled = {
        name: Accuracy(name[-2:].upper(), FAMILIES[name[:-1]], top1_of(row), "Figure 5")
        for name, row in TABLES["figure5"].rows.items()
    }
    improved = {
        name: Accuracy(TABLE_10[name], "Table 10 (200 epochs)", top1_of(row), "Table 10")
        for name, row in TABLES["table10"].rows.items()
    }
    return {**scaled, **improved, **OTHERS}


def top1_of(row: Row) -> float | None:
    """The accuracy that is published for a row."""
    return row.published.get("top1")


def ratios() -> tuple[PublishedRatio, ...]:
    """The two comparisons of time that the paper makes."""
    rows = TABLES["table1"].rows
    bot, resnet = (rows[name].published["tpu_step_ms"] or 0.0 for name in ("botnet50", "resnet50"))
    return (
        PublishedRatio("botnet50", 1024, "resnet50", 1024, bot / resnet, "Table 1"),
        PublishedRatio("efficientnet_b7", 600, "botnet_t7", 384, 1.64, "Section 4.7.4"),
    )
