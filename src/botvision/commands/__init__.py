"""The commands: a class of arguments and a short function for each.

Results go to standard output, progress and messages to standard error.
"""

from collections.abc import Callable, Sequence

from botvision.commands.attend import attend
from botvision.commands.bench import bench
from botvision.commands.demo import demo
from botvision.commands.evaluate import evaluate
from botvision.commands.models import models
from botvision.commands.predict import predict
from botvision.commands.shards import shards
from botvision.commands.train import train

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "models": models,
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "attend": attend,
    "shards": shards,
    "bench": bench,
}
