"""The public strategies keep their promises, off kinks, fast, and shrink to readable cases."""

from fractions import Fraction

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from numeric.barcode import Barcode, barcode, rank_table
from numeric.decoding import Builder, Bytes
from numeric.networks import BALL, EXACT, Linear, Network, ReLU, Softmax
from numeric.strategies import (
    barcodes,
    chains,
    conv_networks,
    inputs,
    matrices,
    networks,
    smooth_networks,
)
from theory.errors import InputError


@given(st.data())
def test_matrices_have_the_prescribed_rank_and_size(data):
    m, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    rank = data.draw(st.integers(0, min(m, n)))
    matrix = data.draw(matrices(m, n, rank))
    assert (matrix.nrows(), matrix.ncols(), matrix.rank()) == (m, n, rank)


def test_every_rank_occurs():
    seen = set()

    @given(matrices((3, 3), (1, 4)))
    @settings(max_examples=300, database=None)
    def collect(matrix):
        seen.add((matrix.ncols(), matrix.rank()))

    collect()
    assert seen == {(n, r) for n in range(1, 5) for r in range(min(n, 3) + 1)}


@given(chains())
def test_chains_have_their_barcode(case):
    code, maps = case
    assert barcode(maps) == code


@given(chains(Barcode(2, ((0, 1, 2), (1, 2, 1), (2, 2, 1)))))
@settings(max_examples=30)
def test_a_chain_with_a_prescribed_barcode(case):
    code, maps = case
    assert rank_table(maps) == {(0, 0): 2, (1, 1): 3, (2, 2): 2, (0, 1): 2, (1, 2): 1, (0, 2): 0}
    assert code.dimensions == (2, 3, 2)


@given(barcodes())
def test_barcodes_are_sorted_and_positive(code):
    assert list(code.bars) == sorted(code.bars)
    assert all(0 <= i <= j <= code.depth and m >= 1 for i, j, m in code.bars)


@given(networks(depth=(1, 5)))
def test_rational_networks_stay_off_their_kinks(case):
    network, x = case
    network.elements(x)  # raises KinkError at any kink, whether its tangent matters or not


@given(conv_networks())
@settings(max_examples=40)
def test_convolutional_networks_stay_off_kinks_and_ties(case):
    network, x = case
    assert network.jacobian(x).ncols() == len(x)


@given(smooth_networks())
@settings(max_examples=40)
def test_smooth_networks_have_narrow_balls(case):
    network, x = case
    for entry in network.jacobian(x, BALL).entries():
        assert float(entry.rad()) < 1e-9


def test_kinks_would_be_met_without_the_offsets():
    # the false variant: the same grammar with integer biases meets kinks
    from numeric.scalars import KinkError

    class Naive(Builder):
        def bias(self, n):
            return tuple(self.b.integers(n))

    def decode(b):
        builder = Naive(b)
        return Network((2,), tuple(builder.block(2, 2)[0] for _ in range(1)))

    met = 0
    for k in range(200):
        network = decode(Bytes(bytes((k * 7 + i * (k + 3)) % 256 for i in range(60))))
        try:
            network.elements((1, -1))
        except KinkError:
            met += 1
    assert met > 10


def test_ranks_of_networks_vary():
    seen = {}

    @given(networks(depth=4, width=6))
    @settings(max_examples=300, database=None)
    def collect(case):
        rank = case[0].jacobian(case[1]).rank()
        seen[rank] = seen.get(rank, 0) + 1

    collect()
    assert set(seen) >= {0, 1, 2, 3, 4}, seen


def test_shrinks_to_small_readable_cases():
    smallest = find(matrices((1, 5), (1, 5)), lambda m: m.rank() == 2)
    assert smallest.tolist() == [[1, 0], [0, 1]]
    network, x = find(networks(), lambda case: case[0].jacobian(case[1], EXACT).rank() >= 1)
    assert len(network.layers) == 1
    assert all(v == 0 for v in x)
    text = repr(network)
    assert len(text) < 300, text


def test_inputs_of_a_given_network_are_off_its_kinks():
    kinked = Network((2,), (Linear(((1, -1), (2, 0))), ReLU()))
    seen = set()

    @given(inputs(kinked))
    @settings(database=None)
    def off(x):
        kinked.jacobian(x)
        seen.add(all(isinstance(v, int) for v in x))

    off()
    assert seen == {True, False}  # integers where they will do, moved where they are on a kink
    smooth = Network((2,), (Softmax(),))
    assert find(inputs(smooth, field=BALL), lambda x: True) == (0, 0)


def test_bytes_decode_simplest_first():
    assert Bytes(bytes(range(7))).integers(7) == [0, 1, -1, 2, -2, 3, -3]
    assert Bytes(bytes(range(11))).integers(11, 5)[-2:] == [5, -5]
    assert Bytes(b"").integers(2) == [0, 0]
    assert Bytes(b"\x05").below(3) == 2


def test_inputs_are_rationals():
    _, x = find(conv_networks(), lambda case: True)
    assert all(isinstance(v, Fraction) for v in x)


def test_bad_arguments_say_what_is_wrong():
    with pytest.raises(InputError, match="rank 4 does not fit matrices as small as 3 x 5"):
        matrices(3, 5, rank=4)
    with pytest.raises(InputError, match="rows must be a size or a range"):
        matrices((4, 2), 3)
    with pytest.raises(InputError, match="width must be at least 1"):
        networks(width=0)
