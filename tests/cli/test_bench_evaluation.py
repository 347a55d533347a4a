"""`botvision bench evaluation` from end to end, on few images."""

import json

import pytest


def test_every_implementation_comes_to_the_same_numbers(run):
    status, out, _ = run("bench", "evaluation", "--images", 4, "--json")
    assert status == 0
    found = json.loads(out)
    for kind in ("box", "mask"):
        numbers = {one["name"]: one["numbers"] for one in found if one["kind"] == kind}
        assert {"botvision", "pycocotools", "hotcoco"} <= numbers.keys()
        for other in numbers.values():
            assert other == pytest.approx(numbers["pycocotools"], abs=1e-6)
        assert all(0 < number < 1 for number in numbers["botvision"])


def test_a_table_is_printed(run):
    status, out, _ = run("bench", "evaluation", "--images", 2)
    assert status == 0
    assert out.count("pycocotools") >= 2
