"""The picture of a run shows what its tables hold."""

import numpy as np
from PIL import Image

from botvision.training.curves import draw_curves, draw_table


class Recorded:
    """Stands for a matplotlib axes, and keeps the lines."""

    def __init__(self):
        self.lines = {}

    def plot(self, x, y, label, marker):
        self.lines[label] = (list(x), list(y))

    def set(self, **_):
        pass

    grid = legend = set


METRICS = "step,time,epoch,lr,loss,box\n1,now,0.1,0.5,3.0,1.5\n2,now,0.2,0.5,2.0,\n3,now,0.3,0.5,1.0,0.5\n"


def test_every_column_of_the_task_is_a_line_without_its_gaps(tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text(METRICS)
    axes = Recorded()
    draw_table(axes, table, "losses")
    assert axes.lines == {"loss": ([1, 2, 3], [3.0, 2.0, 1.0]), "box": ([1, 3], [1.5, 0.5])}


def test_a_run_without_scores_yet_is_drawn_too(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "evaluations.csv").write_text("step,time,val_ap\n")
    empty = np.asarray(Image.open(draw_curves(tmp_path)).convert("L"))
    (tmp_path / "evaluations.csv").write_text("step,time,val_ap\n2,now,0.25\n3,now,0.5\n")
    scored = np.asarray(Image.open(draw_curves(tmp_path)).convert("L"))
    half = scored.shape[1] // 2
    assert (scored[:, half:] != empty[:, half:]).any()
    assert (empty[:, :half] < 250).any()
