"""Boxes of non-zeros under reshapes, shifts and slices, against the dense tensor."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from empirical.engine import Engine
from empirical.fields import FloatField
from empirical.rules.reshape import cut, groups, merge, reshaped


def factors(n, draw):
    """A shape with n entries, ones included."""
    shape = []
    while n > 1:
        d = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))
        shape.append(d)
        n //= d
        if len(shape) > 5:
            return [*shape, n]
    return shape


@st.composite
def cases(draw):
    n = draw(st.sampled_from([1, 4, 6, 12, 36, 64]))
    old, new = factors(n, draw), factors(n, draw)
    offset = [draw(st.integers(0, s - 1)) for s in old]
    window = [draw(st.integers(1, s - o)) for s, o in zip(old, offset, strict=True)]
    return old, new, tuple(offset), window


def embed(data, offset, shape):
    """The block in a tensor of zeros."""
    out = torch.zeros(data.shape[0], *shape)
    box = (slice(o, o + n) for o, n in zip(offset, data.shape[1:], strict=True))
    out[(slice(None), *box)] = data
    return out


@given(cases())
def test_reshaped_is_the_reshape_of_the_dense_tensor(case):
    old, new, offset, window = case
    data = torch.arange(1.0, 1 + 2 * math.prod(window)).reshape(2, *window)
    moved, place = reshaped((data, offset), old, new)
    assert torch.equal(embed(moved, place, new), embed(data, offset, old).reshape(2, *new))


@given(cases())
def test_groups_hold_the_same_entries_and_cover_both_shapes(case):
    old, new, _, _ = case
    pairs = list(groups(old, new))
    assert [d for a, _ in pairs for d in range(len(old))[a]] == list(range(len(old)))
    assert [d for _, b in pairs for d in range(len(new))[b]] == list(range(len(new)))
    assert all(math.prod(old[a]) == math.prod(new[b]) for a, b in pairs)


def test_windows_of_tokens_keep_the_box_small():
    """A 4x4 patch in a 56x56 map cut into 7x7 windows: the windows it touches, not all 64."""
    data = torch.ones(1, 1, 4, 4, 3)
    block = reshaped((data, (0, 26, 26, 0)), (1, 56, 56, 3), (1, 8, 7, 8, 7, 3))
    assert (tuple(block[0].shape[1:]), block[1]) == ((1, 2, 7, 2, 7, 3), (0, 3, 0, 3, 0, 0))
    assert merge([(3, 2), (3, 2)], (8, 8)) == ([(3, 2), (0, 8)], (24, 16))
    assert cut((24, 16), (8, 8)) == ([(3, 2), (0, 8)], (24, 16))
    assert cut((26, 3), (8, 8)) == ([(3, 1), (2, 3)], (26, 3))


def tangent(shape, window, offset):
    """A tangent with that box."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, *window, generator=generator, dtype=torch.float64)
    return Engine(FloatField()).wrap(torch.zeros(shape, dtype=torch.float64), data, offset)


@pytest.mark.parametrize(
    ("move", "window"),
    [
        (lambda x: x.roll((2, -1), (0, 1)), (3, 4)),  # moves
        (lambda x: x.roll((4, 0), (0, 1)), (9, 4)),  # wraps in one dimension
        (lambda x: x[3:8], (3, 4)),
        (lambda x: x[:, 3::2], (3, 2)),
        (lambda x: x[4:6, 1:4], (2, 2)),
        (lambda x: x[:2], (2, 4)),  # misses the box: nothing is left but zeros
        (lambda x: x.expand(5, 9, 7), (5, 3, 4)),
    ],
)
def test_shifts_slices_and_expansions_carry_the_box(move, window):
    x = tangent((9, 7), (3, 4), (4, 2))
    with torch.no_grad():
        out = move(x)
    expected = torch.stack([move(row) for row in x.dense()])
    assert out.window == window
    assert torch.equal(out.dense(), expected)
