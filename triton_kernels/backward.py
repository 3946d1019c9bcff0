"""The backward kernel: the gradient of the logits, from that of the sums and of cross-entropy.

    tile of logits -> state of each pixel (softmax) -> x, y -> g = d loss / d x
        softmax: dz = x (g - sum over classes of x g)
        sigmoid: dz = g x (1 - x)
        plus, for cross-entropy, (sum of w y) x - w y

A program walks over tiles of one image; the rule of g is the image's. With more classes than one
tile holds (CHUNKS > 1) pixels are looked at three times: for the softmax's state, for the sum over
classes, for the gradient. The second and third look find in cache what the first has read.

Bytes of memory: the logits, integers, dense target and mask read once, the gradient written once.
It may be written over the logits: a chunk is read for the last time before it is written.
"""

import triton
import triton.language as tl

from .columns import (
    CROSS_ENTROPY,
    N_SUMS,
    N_TOTALS,
)
from .pixel_math import (
    NONE,
    SIGMOID,
    SOFTMAX,
    cross_entropy_gradient,
    hard_gradient,
    integer_target,
    overlap_gradient,
    probabilities,
    tempered_probabilities,
)
from .targets import integers_of_pixels, look, merge_looks, poisoned, read_chunk
from .tile_io import locate, read_mask, store_tile, view_of


@triton.jit
def column_gradient(
    grad_sums, classes, step, COLUMN: tl.constexpr, COLUMNS: tl.constexpr, CLASSES: tl.constexpr
):
    """That of one sum, for each class: float64 (classes, 1), 0 where it was not asked for."""
    if COLUMNS & (1 << COLUMN):
        return tl.load(grad_sums + COLUMN * step + classes, mask=classes < CLASSES, other=0.0)
    else:
        return tl.zeros(classes.shape, tl.float64)


@triton.jit
def gradient_rule(
    grad_sums,
    factor,
    classes,
    step,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """(a, b, c, d) of g, see pixel_math."""
    tp = column_gradient(grad_sums, classes, step, 0, COLUMNS, CLASSES)
    fp = column_gradient(grad_sums, classes, step, 1, COLUMNS, CLASSES)
    fn = column_gradient(grad_sums, classes, step, 2, COLUMNS, CLASSES)
    xy = column_gradient(grad_sums, classes, step, 3, COLUMNS, CLASSES)
    xx = column_gradient(grad_sums, classes, step, 4, COLUMNS, CLASSES)
    a = (tp + fp - fn) * (0.5 * factor)
    b = (fp + fn - tp) * (0.5 * factor)
    return a.to(DTYPE), b.to(DTYPE), (factor * xy).to(DTYPE), (2.0 * factor * xx).to(DTYPE)


@triton.jit
def rules_of(
    grad_sums,
    grad_totals,
    grad_loss,
    class_weights,
    chunk,
    image,
    images,
    student_scale,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Of a chunk of classes, (integers' rule, their cross-entropy's weight, the dense target's)."""
    factor = tl.full([1, 1], 1.0, tl.float64)
    if grad_loss is not None:
        factor = tl.load(grad_loss).to(tl.float64) * factor
    classes = chunk * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    step = images.to(tl.int64) * CLASSES
    weights = tl.full(classes.shape, 1.0, tl.float64)
    if class_weights is not None:
        weights = tl.load(class_weights + classes, mask=classes < CLASSES, other=0.0).to(tl.float64)
    integer_rule = ()
    integer_weight = ()
    dense_rule = ()
    dense_weight = ()
    sums = grad_sums + image * CLASSES
    totals = grad_totals + image
    if INTEGERS:
        integer_rule = gradient_rule(sums, factor, classes, step, INTEGER_COLUMNS, CLASSES, DTYPE)
        if CROSS_ENTROPY & INTEGER_COLUMNS:
            integer_weight = ((weights * factor * tl.load(totals)).to(DTYPE),)
        weights = tl.full(classes.shape, 1.0, tl.float64)
        sums += step * N_SUMS
        totals += images * N_TOTALS
    if DENSE_COLUMNS:
        dense_rule = gradient_rule(sums, factor, classes, step, DENSE_COLUMNS, CLASSES, DTYPE)
        if CROSS_ENTROPY & DENSE_COLUMNS:
            dense_weight = ((weights * factor * tl.load(totals) * student_scale).to(DTYPE),)
    return integer_rule, integer_weight, dense_rule, dense_weight


@triton.jit
def pieces(
    values,
    looks,
    of_pixels,
    rules,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    HARD: tl.constexpr,
    TEACHER: tl.constexpr,
):
    """(x, 1 - x, g, y of the integers, y of the dense target) of a chunk."""
    _, inside, z, hit, valid, raw = values
    x, miss = probabilities(z, looks[0], ACTIVATION)
    g = tl.zeros_like(x)
    integer_y = ()
    dense_y = ()
    if INTEGERS:
        _, _, _, share, off = of_pixels
        y, gap = integer_target(hit, miss, x, share, tl.where(valid & inside, off, 0.0))
        if HARD:
            g = hard_gradient(rules[0], x, hit, INTEGER_COLUMNS)
        else:
            g = overlap_gradient(rules[0], x, y, gap, INTEGER_COLUMNS)
        integer_y = (y,)
    if DENSE_COLUMNS:
        y = raw
        if TEACHER:
            y = probabilities(raw, looks[1], ACTIVATION)[0]
        y = tl.where(valid, y, 0.0)
        g += overlap_gradient(rules[2], x, y, y - x, DENSE_COLUMNS)
        dense_y = (y,)
    return x, miss, g, integer_y, dense_y


@triton.jit
def look_again(
    source,
    looks,
    of_pixels,
    grad_sums,
    grad_totals,
    grad_loss,
    class_weights,
    chunk,
    image,
    images,
    student_scale,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    HARD: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """(values, rules, pieces) of a chunk that no registers hold any more."""
    values = read_chunk(
        source, chunk, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL, TEACHER, CLASSES, BLOCK_C,
        DTYPE,
    )  # fmt: skip
    rules = rules_of(
        grad_sums, grad_totals, grad_loss, class_weights, chunk, image, images, student_scale,
        INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    of_chunk = pieces(
        values, looks, of_pixels, rules, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, HARD,
        TEACHER,
    )  # fmt: skip
    return values, rules, of_chunk


@triton.jit
def over_classes(of_chunk, rules, INTEGER_COLUMNS: tl.constexpr, DENSE_COLUMNS: tl.constexpr):
    """Softmax: sums over the chunk's classes, of x g and of each cross-entropy's weight times y."""
    x, _, g, integer_y, dense_y = of_chunk
    dot = tl.sum(x * g, 0, keep_dims=True)
    integer_all = tl.zeros_like(dot)
    dense_all = tl.zeros_like(dot)
    if CROSS_ENTROPY & INTEGER_COLUMNS:
        integer_all = tl.sum(rules[1][0] * integer_y[0], 0, keep_dims=True)
    if CROSS_ENTROPY & DENSE_COLUMNS:
        dense_all = tl.sum(rules[3][0] * dense_y[0], 0, keep_dims=True)
    return dot, integer_all, dense_all


@triton.jit
def logits_gradient(
    values,
    looks,
    of_chunk,
    rules,
    over,
    student_scale,
    ACTIVATION: tl.constexpr,
    INDEPENDENT: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    TEMPERED: tl.constexpr,
):
    z = values[2]
    state = looks[0]
    x, miss, g, integer_y, dense_y = of_chunk
    dot, integer_all, dense_all = over
    if ACTIVATION == SOFTMAX:
        dz = x * (g - dot)
    elif ACTIVATION == SIGMOID:
        dz = g * x * miss
    else:
        dz = g
    if CROSS_ENTROPY & INTEGER_COLUMNS:
        dz += cross_entropy_gradient(
            z, x, integer_y[0], rules[1][0], integer_all, 1.0, ACTIVATION, INDEPENDENT
        )
    if CROSS_ENTROPY & DENSE_COLUMNS:
        p = x
        if TEMPERED:
            p = tempered_probabilities(z, state, student_scale, ACTIVATION)
        dz += cross_entropy_gradient(
            z, p, dense_y[0], rules[3][0], dense_all, student_scale, ACTIVATION, INDEPENDENT
        )
    # What does not count may hold anything.
    return tl.where(values[4], dz, 0.0)


@triton.jit(do_not_specialize=["images"])
def backward_kernel(
    grad,
    grad_strides,
    grad_sums,
    grad_totals,
    grad_loss,
    logits,
    logits_strides,
    integers,
    integers_strides,
    dense,
    dense_strides,
    mask,
    mask_strides,
    class_weights,
    depth,
    height,
    width,
    images,
    parts,
    ignore_index,
    share: tl.float64,
    off: tl.float64,
    teacher_scale: tl.float64,
    student_scale: tl.float64,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    HARD: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    WIDE: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """`grad`, a tile at a time; grad_loss, or None, multiplies all. Others as the forward's."""
    INDEPENDENT: tl.constexpr = ACTIVATION == SIGMOID or (ACTIVATION == NONE and CLASSES == 1)
    BINARY: tl.constexpr = CLASSES == 1 and ACTIVATION != SOFTMAX
    FIRST_LABEL: tl.constexpr = 1 if BINARY else 0
    LABEL_COUNT: tl.constexpr = 2 if BINARY else CLASSES

    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    grad_view = view_of(grad, grad_strides, image)
    logits_view = view_of(logits, logits_strides, image)
    integers_view = view_of(integers, integers_strides, image)
    dense_view = view_of(dense, dense_strides, image)
    mask_view = view_of(mask, mask_strides, image)
    pixels = depth * height * width
    rules = rules_of(
        grad_sums, grad_totals, grad_loss, class_weights, 0, image, images, student_scale, INTEGERS,
        INTEGER_COLUMNS, DENSE_COLUMNS, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    share = tl.full([1, 1], share, DTYPE)
    off = tl.full([1, 1], off, DTYPE)
    teacher_scale = tl.full([1, 1], teacher_scale, DTYPE)
    scale = tl.full([1, 1], student_scale, DTYPE)

    for tile in range(program % parts, tl.cdiv(pixels, BLOCK_P), parts):
        pixel = tile * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
        in_image = pixel < pixels
        position = locate(pixel, height, width, WIDE)
        counted = in_image
        if mask is not None:
            counted = read_mask(mask_view, position, in_image)
        of_pixels = integers_of_pixels(
            integers_view, position, in_image, counted, (depth, height, width), ignore_index,
            share, off, INTEGERS, LABEL_COUNT, WINDOW, SPATIAL, DTYPE,
        )  # fmt: skip
        source = (
            logits_view, integers_view, dense_view, of_pixels, position, in_image, ignore_index,
            teacher_scale,
        )  # fmt: skip
        values = read_chunk(
            source, 0, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL,
            TEACHER, CLASSES, BLOCK_C, DTYPE,
        )  # fmt: skip
        looks = look(
            values, scale, ACTIVATION, INTEGERS, TEACHER, False,
            False, TEMPERED, False,
        )  # fmt: skip
        for chunk in range(1, CHUNKS):
            others = read_chunk(
                source, chunk, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL,
                TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
            found = look(
                others, scale, ACTIVATION, INTEGERS, TEACHER, False, False, TEMPERED, False
            )
            looks = merge_looks(
                looks, found, scale, ACTIVATION, TEACHER, TEMPERED, False
            )  # fmt: skip
        looks = poisoned(looks, of_pixels[2], ACTIVATION, INTEGERS)

        of_chunk = pieces(
            values, looks, of_pixels, rules, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
            HARD, TEACHER,
        )  # fmt: skip
        over = over_classes(of_chunk, rules, INTEGER_COLUMNS, DENSE_COLUMNS)
        for chunk in range(1, CHUNKS):
            others, other_rules, of_others = look_again(
                source, looks, of_pixels, grad_sums, grad_totals, grad_loss, class_weights, chunk,
                image, images, student_scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
                HARD, FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
            found = over_classes(of_others, other_rules, INTEGER_COLUMNS, DENSE_COLUMNS)
            over = (over[0] + found[0], over[1] + found[1], over[2] + found[2])

        dz = logits_gradient(
            values, looks, of_chunk, rules, over, scale, ACTIVATION, INDEPENDENT, INTEGER_COLUMNS,
            DENSE_COLUMNS, TEMPERED,
        )  # fmt: skip
        store_tile(grad_view, values[0], position, values[1], dz)
        for chunk in range(1, CHUNKS):
            others, other_rules, of_others = look_again(
                source, looks, of_pixels, grad_sums, grad_totals, grad_loss, class_weights, chunk,
                image, images, student_scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
                HARD, FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
            dz = logits_gradient(
                others, looks, of_others, other_rules, over, scale, ACTIVATION, INDEPENDENT,
                INTEGER_COLUMNS, DENSE_COLUMNS, TEMPERED,
            )  # fmt: skip
            store_tile(grad_view, others[0], position, others[1], dz)
