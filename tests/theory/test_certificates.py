"""The checker accepts what the provers write and refuses every small change of it."""

from __future__ import annotations

import ast
import copy
import json
from fractions import Fraction
from pathlib import Path

import pytest

import theory.certificates as certificates
from theory.certificate_data import chain_certificate
from theory.certificates import CertificateError, check
from theory.errors import InputError
from theory.polymatroid import prove_dag
from theory.statements import parse

STATEMENTS = [
    (
        "rank(vstack(A, B)) + rank(vstack(A, C)) + rank(vstack(A, D)) + rank(vstack(B, C))"
        " + rank(vstack(B, D)) >= rank(A) + rank(B) + rank(vstack(C, D)) + rank(vstack(A, B, C))"
        " + rank(vstack(A, B, D))",
        (),
    ),
    ("rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)", ()),
    ("rank((I+G)*(I+H)) >= rows(G) - rank(G) - rank(H)", ()),
    ("rank(A) + rank(I-A) == rows(A)", ("A*A == A",)),
    (
        "rank(F) - rank(J*F) == rank(F) + rank(K) - rank(hstack(F, K))",
        ("J*K == 0", "rank(K) == cols(J) - rank(J)"),
    ),
    ("rank(A.T*B) <= rank(A)", ()),
    ("max(rank(A), rank(B)) <= rank(vstack(A, B))", ()),
    ("rank(A*B) <= 7", ("rank(A) <= 3", "rank(A) + rank(B) <= 9")),
    ("2*rank(A*B) <= rank(A) + rank(B)", ()),
]


def proved(text, given=()):
    certificate = prove_dag(parse(text, given), 20)
    assert certificate is not None, text
    return json.loads(json.dumps(certificate))  # what a file would hold


@pytest.mark.parametrize(("text", "given"), STATEMENTS)
def test_accepts_and_refuses_each_changed_multiplier(text, given):
    certificate = proved(text, given)
    check(certificate)
    for clause in range(len(certificate["clauses"])):
        for k in range(len(certificate["clauses"][clause]["steps"])):
            for change in (Fraction(1), Fraction(-1, 3)):
                bad = copy.deepcopy(certificate)
                step = bad["clauses"][clause]["steps"][k]
                step["times"] = str(Fraction(step["times"]) + change)
                with pytest.raises(CertificateError):
                    check(bad)


def test_refuses_a_missing_step_a_negative_multiplier_and_a_missing_clause():
    certificate = proved("rank(A) + rank(I-A) == rows(A)", ("A*A == A",))
    bad = copy.deepcopy(certificate)
    bad["clauses"].pop()
    with pytest.raises(CertificateError, match="clause"):
        check(bad)
    bad = copy.deepcopy(certificate)
    bad["clauses"][0]["steps"].pop(0)
    with pytest.raises(CertificateError, match="do not sum"):
        check(bad)
    bad = copy.deepcopy(certificate)
    bad["clauses"][0]["steps"][0]["times"] = "-1"
    with pytest.raises(CertificateError, match="negative"):
        check(bad)


def test_refuses_a_stronger_goal_and_a_dropped_hypothesis():
    certificate = proved("rank(A) + rank(I-A) == rows(A)", ("A*A == A",))
    stronger = copy.deepcopy(certificate)
    stronger["problem"]["goal"][0][0]["dims"][""] = "-1"
    with pytest.raises(CertificateError):
        check(stronger)
    free = copy.deepcopy(certificate)
    free["problem"]["vanishing"] = []  # A*A == A was needed
    with pytest.raises(CertificateError):
        check(free)


def test_refuses_matrices_that_do_not_compose():
    certificate = proved("rank(A*B) <= rank(B)")
    bad = copy.deepcopy(certificate)
    bad["problem"]["maps"]["A"] = list(reversed(bad["problem"]["maps"]["A"]))
    with pytest.raises(CertificateError, match="compose"):
        check(bad)


@pytest.mark.parametrize(
    "broken", [{}, {"problem": {}}, {"problem": 3, "clauses": []}, {"clauses": [1]}]
)
def test_malformed_data_is_bad_input(broken):
    with pytest.raises(InputError):
        check(broken)


def test_refuses_a_false_inverse_zero_and_rule():
    certificate = proved("rank(I+G) >= rows(G) - rank(G)")
    one = {"rows": ["n"], "cols": ["n"], "cells": [[{"": "1"}]]}
    g = {"rows": ["n"], "cols": ["n"], "cells": [[{"G": "1"}]]}
    for step in (
        {"rule": "inverse", "times": "1", "matrices": [g, one]},
        {"rule": "zero", "times": "1", "matrices": [g]},
        {"rule": "magic", "times": "1", "matrices": [g]},
        {
            "rule": "sum",
            "times": "1",
            "matrices": [g, {"rows": ["n"], "cols": ["n", "n"], "cells": [[{}, {}]]}],
        },
    ):
        bad = copy.deepcopy(certificate)
        bad["clauses"][0]["steps"].append(step)
        with pytest.raises(CertificateError):
            check(bad)


def test_chain_multipliers_become_a_certificate():
    statement = parse("rank(J3*J2*J1) >= rank(J1) + rank(J2) + rank(J3) - rows(J1) - rows(J2)")
    names = ("J1", "J2", "J3")
    good = {(1, 1): Fraction(1), (2, 2): Fraction(1), (1, 2): Fraction(1)}
    check(chain_certificate(statement, [(0, names, good)]))
    for interval in good:
        with pytest.raises(CertificateError):
            check(chain_certificate(statement, [(0, names, {**good, interval: Fraction(2)})]))


def test_the_checker_is_short_and_imports_no_prover():
    source = Path(certificates.__file__).read_text()
    assert len(source.splitlines()) < 200
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(a.name for a in node.names)
    assert names <= {"__future__", "collections.abc", "fractions", "typing", "theory.errors"}
