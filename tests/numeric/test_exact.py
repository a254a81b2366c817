"""Certified ranks against SymPy and Fractions; forged witnesses must fail the replay."""

from __future__ import annotations

import dataclasses
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from numeric.certificate import CertifiedRank, Witness
from numeric.exact import certified_rank, integer_matrix, rank, replay
from numeric.replay import CertificateError
from theory.errors import InputError


@st.composite
def low_rank(draw: st.DrawFn) -> list[list[int]]:
    """A product of two small integer matrices, so that every rank occurs."""
    rows, inner, columns = (draw(st.integers(1, 5)) for _ in range(3))
    entry = st.integers(-3, 3)
    left = draw(
        st.lists(st.lists(entry, min_size=inner, max_size=inner), min_size=rows, max_size=rows)
    )
    right = draw(
        st.lists(
            st.lists(entry, min_size=columns, max_size=columns), min_size=inner, max_size=inner
        )
    )
    return (np.array(left) @ np.array(right)).tolist()


@given(low_rank())
def test_rank_is_sympys_and_its_witness_replays(matrix: list[list[int]]) -> None:
    result = certified_rank(matrix)
    assert result.rank == rank(matrix) == sympy.Matrix(matrix).rank()
    replay(matrix, result)
    again = Witness.from_json(result.witness.to_json())
    assert again == result.witness
    replay(matrix, CertifiedRank.from_witness(again, result.rows, result.columns))


@given(low_rank(), st.sampled_from(["lower", "upper"]))
def test_no_witness_proves_a_wrong_bound(matrix: list[list[int]], which: str) -> None:
    result = certified_rank(matrix)
    wrong = {"lower": result.rank + 1, "upper": result.rank - 1}[which]
    with pytest.raises(CertificateError):
        replay(matrix, dataclasses.replace(result, **{which: wrong}))


@pytest.mark.parametrize("side", ["right", "left"])
def test_replay_rejects_a_kernel_of_another_matrix(side: str) -> None:
    matrix = np.outer([1, 2, 3, 4], [1, 2, 3]) + np.outer([0, 1, 0, 1], [1, 0, 1])
    matrix = matrix if side == "right" else matrix.T
    result = certified_rank(matrix)
    assert result.rank == 2
    assert result.witness.kernel is not None
    assert result.witness.kernel.side == side
    other = matrix.copy()
    other[-1, -1] += 1  # now of rank 3
    with pytest.raises(CertificateError, match="is not zero"):
        replay(other, result)


@given(low_rank())
def test_rational_matrices_of_flint_replay_on_either_side(matrix: list[list[int]]) -> None:
    rows = range(2, len(matrix) + 2)  # a denominator a row, so that scaling matters
    rational = flint.fmpq_mat(
        [[flint.fmpq(x, d) for x in row] for d, row in zip(rows, matrix, strict=True)]
    )
    for side in (rational, rational.transpose()):
        result = certified_rank(side)
        assert result.rank == sympy.Matrix(matrix).rank()
        replay(side, result)


def test_replay_rejects_repeated_pivots_and_zero_denominators() -> None:
    matrix = [[1, 2, 3], [2, 4, 6], [0, 0, 1]]
    result = certified_rank(matrix)
    witness = result.witness
    assert witness.kernel is not None
    kernels = (
        dataclasses.replace(witness.kernel, denominator=0),
        dataclasses.replace(witness.kernel, pivots=(0, 0)),
        dataclasses.replace(witness.kernel, block=()),
        dataclasses.replace(witness.kernel, side="up"),
    )
    for kernel in kernels:
        forged = dataclasses.replace(result, witness=dataclasses.replace(witness, kernel=kernel))
        with pytest.raises(CertificateError):
            replay(matrix, forged)
    repeated = dataclasses.replace(witness, pivot_rows=(0, 0))
    with pytest.raises(CertificateError, match="distinct"):
        replay(matrix, dataclasses.replace(result, witness=repeated))


THIRD = Fraction(1, 3)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[THIRD, 1], [1, 3]], 1),
        ([[1 / 3, 1.0], [1.0, 3.0]], 2),  # the float 1/3 is another number
        ([[Decimal("0.1"), 1], [1, 10]], 1),
        (np.array([[0.1, 1], [1, 10]]), 2),
        (np.array([[0.1, 1], [1, 10]], dtype=np.float32), 2),
        (np.array([[0.5, 1], [1, 2]], dtype=np.float16), 1),
        (np.array([[2**63, 2**63], [1, 1]], dtype=np.uint64), 1),
        (np.array([[THIRD, 1], [1, 3]], dtype=object), 1),
        (np.array([[1e300, 5e-324], [5e-324, 1e300]]), 2),
        (np.ones((2, 3), dtype=np.longdouble), 1),
        (torch.tensor([[0.1, 1.0], [0.1, 1.0]], dtype=torch.bfloat16), 1),
        (sympy.Matrix([[sympy.Rational(1, 3), 1], [1, 3]]), 1),
        (sympy.Matrix([[sympy.Float(0.1), 1], [1, 10]]), 2),
        (flint.fmpz_mat([[1, 2], [2, 4]]), 1),
        (flint.fmpq_mat([[flint.fmpq(1, 3), 1], [1, 3]]), 1),
        ([], 0),
        ([[], []], 0),
        (np.zeros((0, 4)), 0),
        (np.zeros((3, 4)), 0),
    ],
)
def test_every_kind_of_matrix_is_taken_for_what_it_stores(matrix: object, expected: int) -> None:
    result = certified_rank(matrix)
    assert result.rank == rank(matrix) == expected
    replay(matrix, result)


def test_entries_that_float64_cannot_tell_apart() -> None:
    big = 10**40
    assert rank([[big, big + 1], [big + 1, big + 2]]) == 2
    assert rank([[big, big], [big, big]]) == 1


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 2], [3]], "row 1 has 1 entries, row 0 has 2"),
        ([[1, float("nan")]], r"\(0, 1\) is nan"),
        (np.array([[1.0, np.inf]]), r"\(0, 1\) is inf"),
        ([[Decimal("Infinity")]], "not finite"),
        (sympy.Matrix([[sympy.oo]]), "not finite"),
        (sympy.Matrix([[sympy.sqrt(2)]]), "sqrt"),
        ([["a"]], "type str"),
        ([[1j]], "complex"),
        (np.array([[1j]]), "complex128"),
        (np.zeros(3), r"\(3,\)"),
        ([1, 2], "not a list"),
        ("12", "not a matrix"),
    ],
)
def test_what_is_no_matrix_is_refused_with_the_entry(matrix: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        certified_rank(matrix)


def test_a_prime_that_divides_every_minor_proves_less_and_says_so() -> None:
    matrix = [[7, 0], [0, 1]]
    result = certified_rank(matrix, prime=7)
    assert (result.lower, result.upper) == (1, 2)
    assert "divides every largest minor" in result.note
    with pytest.raises(InputError, match=r"\[1, 2\]"):
        _ = result.rank
    replay(matrix, result)  # the partial bounds are proved all the same
    with pytest.raises(InputError, match="15 is no prime"):
        certified_rank(matrix, prime=15)


def _product(n: int, inner: int) -> flint.fmpz_mat:
    """An exact product of two float64 matrices: rank ``inner``, entries of about 135 bits."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((n, inner)), rng.standard_normal((n, inner))
    return integer_matrix(left) * integer_matrix(right).transpose()


def test_a_timeout_gives_proved_bounds_an_estimate_and_is_kept() -> None:
    matrix = _product(128, 64)
    result = certified_rank(matrix, timeout=0.05)  # the kernel takes a second
    assert (result.lower, result.upper) == (64, 128)
    assert "estimate" in result.note
    assert "partial" in result.note
    replay(matrix, result)


def test_the_long_solve_is_ended_at_the_limit() -> None:
    from numeric.exact import pivots, random_prime
    from numeric.limits import kernel_within

    matrix = _product(
        320, 160
    )  # a minute's solve: the bound asks whether it is ended, not how fast
    started = time.perf_counter()
    kernel, finished = kernel_within(matrix, *pivots(matrix, random_prime()), seconds=0.3)
    assert time.perf_counter() - started < 20
    assert (kernel, finished) == (None, False)


def test_a_limit_that_is_no_limit_gives_the_rank() -> None:
    """An estimate that is far too high would refuse the kernel, which takes a twentieth of a second."""
    result = certified_rank(_product(64, 32), timeout=600)
    assert (result.lower, result.upper, result.note) == (32, 32, "")


def test_the_solve_in_its_own_process_gives_the_same_kernel() -> None:
    from numeric.exact import exact_kernel, pivots, random_prime
    from numeric.limits import kernel_within

    matrix = _product(12, 5)
    at = pivots(matrix, random_prime())
    assert kernel_within(matrix, *at, seconds=60.0) == (exact_kernel(matrix, *at), True)


def test_a_matrix_too_large_for_the_limit_gets_the_rank_of_a_block() -> None:
    matrix = np.random.default_rng(0).integers(-9, 9, (500, 500))
    result = certified_rank(matrix, timeout=0.01)
    assert 128 <= result.lower < result.upper == 500
    assert "block" in result.note


def test_float_answers_are_not_waited_for_beyond_the_limit() -> None:
    from numeric.floatrank import float_ranks

    matrix = np.eye(300)
    assert [answer.rank for answer in float_ranks(matrix, 300, 300)] == [300, 300]
    late = float_ranks(matrix, 300, 300, limit=1e-6)
    assert [answer.rank for answer in late] == [None, None]
    assert all("estimate" in answer.why for answer in late)


def test_a_certificate_is_one_elimination_and_one_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its cost beside flint's bare rank rests on (``benchmarks/exact_rank.py`` measures it)."""
    from numeric import exact

    work = []
    for name in ("pivots", "exact_kernel"):
        whole = getattr(exact, name)

        def counted(*at: Any, name: str = name, whole: Any = whole) -> Any:
            work.append(name)
            return whole(*at)

        monkeypatch.setattr(exact, name, counted)
    assert certified_rank(_product(64, 32)).rank == 32
    assert work == ["pivots", "exact_kernel"]
