"""Keypoints in COCO's format: their names and their skeleton in a category, their places in an annotation."""

from collections.abc import Sequence
from typing import Any

from botvision.data.masks import FARTHEST_COORDINATE, NUMBERS
from botvision.errors import printable, short

NO_KEYPOINTS, NOT_FINITE = "box without keypoints", "keypoints not finite"
OTHER_SIDE = {"left": "right", "right": "left"}


def names_and_skeleton(category: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """The names of the keypoints of a category, and the pairs of them that are joined, counted from 1.

    Raises:
        ValueError: a field that is there is not what COCO's format says.
    """
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"'keypoints' must be a list of names, not {short(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"'keypoints' must be names that differ from each other, not {short(names)}")
    skeleton = (category.get("skeleton") or []) if names else []
    if not isinstance(skeleton, list) or not all(_is_pair(pair, len(names)) for pair in skeleton):
        raise ValueError(f"'skeleton' must be a list of pairs of numbers from 1 to {len(names)}, not {short(skeleton)}")
    return tuple(map(printable, names)), tuple((first, second) for first, second in skeleton)


def _is_pair(pair: object, most: int) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and 1 <= n <= most for n in pair)


def usable_keypoints(keypoints: object, count: int) -> list[float] | str:
    """Check a `keypoints` field and bring it to one form.

    Args:
        keypoints: from the annotation file.
        count: how many keypoints the category has.

    Returns:
        x, y in pixels and the visibility of each keypoint, one after the other: 0 not labelled (x and y are 0 then),
        1 labelled and hidden, 2 visible. Where no keypoint can be used, the reason.

    Raises:
        ValueError: the field is not what COCO's format says.
    """
    if keypoints is None or keypoints == []:
        return NO_KEYPOINTS
    if not isinstance(keypoints, list) or len(keypoints) != 3 * count or not NUMBERS.issuperset(map(type, keypoints)):
        raise ValueError(
            f"must be {3 * count} numbers, x, y and visibility of {count} keypoints, not {short(keypoints)}"
        )
    points = list(zip(keypoints[0::3], keypoints[1::3], keypoints[2::3], strict=True))
    wrong = next((visibility for _, _, visibility in points if visibility not in (0, 1, 2)), None)
    if wrong is not None:
        raise ValueError(f"must have 0, 1 or 2 as each third number, the visibility, not {short(wrong)}")
    labelled = [(x, y) for x, y, visibility in points if visibility]
    if not all(abs(value) < FARTHEST_COORDINATE for place in labelled for value in place):  # NaN is not
        return NOT_FINITE
    return [value for x, y, v in points for value in ((x, y, v) if v else (0, 0, 0))] if labelled else NO_KEYPOINTS


def mirrored(names: Sequence[str]) -> list[int]:
    """For each keypoint the number, from 0 on, of the one that is at its place in a mirrored image.

    "left_x" and "right_x" are exchanged where both are there; every other keypoint stays what it is.
    """
    numbers = {name: number for number, name in enumerate(names)}

    def other(name: str) -> str:
        side, _, part = name.partition("_")
        return f"{OTHER_SIDE.get(side, side)}_{part}"

    return [numbers.get(other(name), number) for number, name in enumerate(names)]
