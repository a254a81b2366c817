"""Residues against Python's exact fractions; ranks mod p against flint over the rationals."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import empirical.fields as fields
from empirical.engine import Engine
from empirical.fields import FloatField, ModField, is_prime, random_primes
from empirical.finite import Sketch, rank_mod
from theory.errors import InputError

P = random_primes(1, 0)[0]
FIELD = ModField(P)


def residue(x: Fraction) -> int:
    return x.numerator * pow(x.denominator, -1, P) % P


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_is_the_residue_of_its_dyadic_rational(values):
    ours = FIELD.constant(torch.tensor(values, dtype=torch.float64)).remainder(P).long().tolist()
    assert ours == [residue(Fraction(v)) for v in values]
    assert [int(FIELD.scalar(v)) % P for v in values] == ours


@given(st.integers(-(2**52), 2**52))
def test_reduction_is_exact_and_centred(n):
    out = FIELD.reduce_(torch.tensor([float(n)], dtype=torch.float64))
    assert int(out) % P == n % P
    assert abs(int(out)) <= P // 2 + 1


def test_inverses():
    values = torch.arange(1, 5000).double()
    product = FIELD.reduce_(values * FIELD.inverse(values))
    assert torch.equal(product, torch.ones_like(product))


def test_random_functions_give_equal_outputs_for_equal_inputs():
    x = torch.tensor([5.0, 5.0 - P, 7.0, 5.0])
    y = FIELD.function("f", x, 0)
    assert y[0] == y[1] == y[3] != y[2]
    assert not torch.equal(y, FIELD.function("g", x, 0))


def test_primes_are_random_primes_of_twenty_bits():
    primes = random_primes(5, 3)
    assert len(set(primes)) == 5
    assert all(1 << 19 < p < 1 << 20 and is_prime(p) for p in primes)
    assert primes != random_primes(5, 4)
    with pytest.raises(InputError):
        random_primes(0, 0)


@pytest.mark.parametrize("bad", [4, 2, 1 << 20, 1048583])
def test_bad_primes(bad):
    with pytest.raises(InputError, match="odd prime"):
        ModField(bad)


@pytest.mark.parametrize(("rows", "rank"), [(12, 5), (400, 20), (40000, 23), (5, 5)])
def test_sketched_rank_in_blocks(rows, rank):
    """A tall matrix of known rank, most of whose rows are zero, in two blocks of columns."""
    generator = torch.Generator().manual_seed(rows)
    left = torch.zeros(rows, rank)
    left[:: max(1, rows // 40)] = torch.randint(
        -9, 10, left[:: max(1, rows // 40)].shape, generator=generator
    ).float()
    J = (left @ torch.randint(-9, 10, (rank, 30), generator=generator).float()).double()
    engine = Engine(FIELD)
    sketch = Sketch(30, FIELD, 1)
    for part in (range(0, 17), range(17, 30)):
        primal = torch.zeros(1, rows).double()
        sketch.add(engine.wrap(primal, J.T[part.start : part.stop][:, None]), part)
    assert sketch.rank() == min(rank, int(torch.linalg.matrix_rank(J)))


def test_rank_mod_p_is_a_lower_bound_that_a_bad_prime_misses():
    """diag(1, p) has rank 2 over the rationals and 1 mod p: a prime bounds from below only."""
    assert rank_mod(torch.diag(torch.tensor([1.0, float(P)])).double(), P) == 1
    other = random_primes(2, 0)[1]
    assert rank_mod(torch.diag(torch.tensor([1.0, float(P)])).double(), other) == 2


def test_not_finite_constants_are_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        FIELD.constant(torch.tensor([float("nan")]))
    assert FloatField().name == "float64"


@pytest.mark.parametrize("longest", [1 << 14, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("field", [ModField(1009), FloatField()], ids=["mod", "float"])
def test_products_into_a_place_and_onto_a_sum(monkeypatch, field, batch, longest):
    monkeypatch.setattr(fields, "LONGEST_SUM", longest)  # 7 products are summed in three parts
    a, b = (torch.randint(-500, 500, (*batch, *s)).double() for s in ((4, 7), (7, 5)))
    # sums of 7 products of integers below 500: float64 is exact
    expected = field.reduce_((a.long() @ b.long()).double())
    out = torch.empty(*batch, 4, 5, dtype=torch.float64)
    assert field.matmul(a, b, out=out) is out
    assert torch.equal(out, expected)
    assert torch.equal(field.matmul(a, b), expected)
    if batch:
        total = torch.ones_like(out)
        assert field.matmul(a, b, total) is total
        assert torch.equal(total, field.reduce_(expected + 1))
