"""Kinds of scenes in which the class of an object is the colour of a cue elsewhere in the image."""

from dataclasses import dataclass

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 30), "blue": (40, 60, 230), "yellow": (225, 215, 30)}
"""The classes, and the colours of the cues in RGB; the object itself is white."""
RADIUS = 7
"""Pixels from the middle pixel of the object, or of a cue, to its sides: squares of 15 x 15 pixels."""
DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps in x and y from the object to its cues: left, right, up, down."""
VERSION = 1  # raise it when other settings stay and the pictures change


@dataclass(frozen=True)
class SceneKind:
    """A rule that gives the object its class, and where the cues lie."""

    description: str
    image_size: int
    """Height and width, in pixels."""
    distance: tuple[int, int]
    """Smallest and largest distance from the object to a cue, in pixels: the larger one of those in x and y, from
    middle to middle."""
    four_cues: bool
    """Four cues around the object, which is in the middle of the image; else one cue, both anywhere."""
    sideways: int = 0
    """Pixels that each of four cues may be off its axis."""


SCENES = {
    "what": SceneKind("one cue, far: its colour", 192, (100, 177), False),
    "which": SceneKind("four cues, far: the left one's colour", 256, (64, 76), True, sideways=6),
    "near": SceneKind("four cues, near: the left one's colour", 128, (17, 20), True, sideways=2),
}
"""The kinds of scenes.

Far cues lie outside of what the ResNets of :mod:`botvision.experiments.context` see at the object, near ones inside. In
"which" the squares are also so far apart, and so far from the edge, that no cell in front of the attention sees two of
them, or one and the zero padding behind the edge: either would tell the direction.
"""
