"""Operators of ours in ONNX: attention in blocks, so that no (N, N) matrix is in memory, and suppression in batches."""

# mypy: ignore-errors
# onnxscript reads the functions as programs of ONNX; to mypy, its types are not those of Python.
from onnxscript import FLOAT, INT64, graph, script
from onnxscript import opset18 as op

BLOCK = 512
"""Queries whose logits are in memory together."""


@script()
def attention(
    q: FLOAT[...],
    k: FLOAT[...],
    v: FLOAT[...],
    bias_height: FLOAT[...],
    bias_width: FLOAT[...],
    scale: float,
    backend: str,
    members: int,
) -> tuple[FLOAT[...], FLOAT[...]]:
    """``torch.ops.botvision.attention`` of cells with one member, in the folded form (``backends/folded_sdpa.py``)."""
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    rows = op.Shape(bias_height, start=3, end=4)
    columns = op.Shape(bias_width, start=3, end=4)
    # The biases become a part of q k^T: keys are [k, onehot(row), onehot(column)].
    row = op.Unsqueeze(op.Range(op.Squeeze(zero), op.Squeeze(rows), op.Squeeze(one)), one)
    column = op.Unsqueeze(op.Range(op.Squeeze(zero), op.Squeeze(columns), op.Squeeze(one)), one)
    place = op.Unsqueeze(op.Range(op.Squeeze(zero), op.Squeeze(rows * columns), op.Squeeze(one)), zero)
    one_hot = op.CastLike(op.Concat(row == place / columns, column == op.Mod(place, columns), axis=0), q)
    in_batch = op.Concat(op.Shape(k, start=0, end=2), one, one, axis=0)
    keys = op.Concat(op.Transpose(k, perm=[0, 1, 3, 2]), op.Expand(one_hot, in_batch), axis=2)
    biases = op.Max(op.Concat(bias_height, bias_width, axis=3), op.CastLike(op.Constant(value_float=-1e30), q))
    folded = op.Concat(q * op.CastLike(scale, q), biases, axis=3)

    # As many blocks of one size as it takes, at the front; the last one ends with queries of zeros.
    heads = op.Shape(q, start=0, end=2)
    queries = op.Shape(q, start=2, end=3)
    blocks = (queries + op.Constant(value_ints=[BLOCK - 1])) / op.Constant(value_ints=[BLOCK])
    block = (queries + blocks - one) / blocks
    missing = op.Concat(zero, zero, zero, zero, zero, zero, blocks * block - queries, zero, axis=0)
    in_blocks = op.Reshape(op.Pad(folded, missing), op.Concat(heads, blocks, block, last, axis=0))

    @graph()
    def attend(some: FLOAT[...]):  # noqa: ANN202 (onnxscript takes an annotation for that of the function)
        return op.MatMul(op.Softmax(op.MatMul(some, keys), axis=-1), v)

    attended = op.Scan(op.Transpose(in_blocks, perm=[2, 0, 1, 3, 4]), body=attend, num_scan_inputs=1)
    whole = op.Reshape(op.Transpose(attended, perm=[1, 2, 0, 3, 4]), op.Concat(heads, blocks * block, last, axis=0))
    out = op.Slice(whole, zero, queries, op.Constant(value_ints=[2]))
    return out, op.ReduceSum(q - q, op.Constant(value_ints=[3]), keepdims=0)


@script()
def suppressed(
    boxes: FLOAT[...], scores: FLOAT[...], groups: INT64[...], group_count: int, threshold: float
) -> FLOAT[...]:
    """``torch.ops.botvision.suppressed``, each image and group by itself: ONNX has an axis for both."""
    one = op.Constant(value_ints=[1])
    absent = op.Expand(op.Constant(value_float=float("-inf")), op.Shape(scores))
    group = op.Range(op.Constant(value_int=0), op.CastLike(group_count, groups), op.Constant(value_int=1))
    is_own = op.Unsqueeze(groups, one) == op.Unsqueeze(group, one)
    of_groups = op.Where(is_own, op.Unsqueeze(scores, one), op.Unsqueeze(absent, one))
    least = op.Constant(value_floats=[-3e38])
    most = op.Shape(scores, start=1, end=2)
    iou = op.Reshape(op.CastLike(threshold, scores), one)
    chosen = op.NonMaxSuppression(boxes, of_groups, most, iou, least)
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)  # image and box
    return op.ScatterND(absent, places, op.GatherND(scores, places))


@script()
def sorted_stably(
    scores: FLOAT[...], stable: bool = True, dim: int = -1, descending: bool = False
) -> tuple[FLOAT[...], INT64[...]]:
    """``torch.sort`` that keeps the order of equal numbers, as TopK does; the exporter knows the other kind alone."""
    one = op.Constant(value_ints=[1])
    length = op.Reshape(op.Gather(op.Shape(scores), op.Constant(value_int=dim)), one)
    values, places = op.TopK(scores, length, axis=dim, largest=descending)
    return values, places
