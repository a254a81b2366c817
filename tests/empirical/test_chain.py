"""The chain of a small network against dense oracles, and rows that a doctored rank breaks."""

from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from empirical import bounds
from empirical.chain import Chain, chain, spectra
from empirical.chain_bounds import (
    all_rows,
    chain_rows,
    dependence_row,
    gram_row,
    kernel_rows,
    partial_rows,
    spectral_rows,
    sum_rows,
)
from empirical.depth import losses, segment_bounds
from empirical.digits import digits_data
from empirical.fields import ModField, random_primes
from empirical.models import load
from empirical.subject import Subject
from empirical.tally import Tally
from empirical.taps import Tap
from empirical.verdicts import CONFIRMED, CONTRADICTED, INAPPLICABLE
from tests.empirical.test_runs import record
from theory.errors import UnsupportedError


def of_matrices(*matrices: np.ndarray) -> Chain:
    """A chain of integer matrices, J_1 first."""
    field = ModField(random_primes(1, 0)[0])
    tensors = tuple(torch.tensor(m, dtype=torch.float64) for m in matrices)
    taps = tuple(Tap(f"t{i}", i, True, "block") for i in range(len(tensors)))
    return Chain(taps, tensors, tuple(field.constant(t) for t in tensors), field)


def random_chain(seed: int, widths: tuple[int, ...], ranks: tuple[int, ...]) -> Chain:
    rng = np.random.default_rng(seed)
    found = []
    for (n, m), r in zip(pairwise(widths), ranks, strict=True):
        found.append(rng.integers(-3, 4, (m, r)) @ rng.integers(-3, 4, (r, n)))
    return of_matrices(*found)


CHAIN = random_chain(0, (6, 6, 6, 5, 4), (5, 4, 4, 3))
HALF = torch.tensor([True, True, True, False, False, False])


class Doctored(Chain):
    """A chain whose table of ranks was tampered with."""

    @cached_property
    def table(self) -> dict[tuple[int, int], int]:
        truth = Chain(self.taps, self.matrices, self.residues, self.field).table
        return dict(truth) | self.lies

    lies: dict[tuple[int, int], int]


def doctored(base: Chain = CHAIN, **lies: int) -> Doctored:
    """``r02=6`` says that r(0,2) is 6."""
    found = Doctored(base.taps, base.matrices, base.residues, base.field)
    found.__dict__["lies"] = {(int(k[1]), int(k[2])): v for k, v in lies.items()}
    return found


def broken(rows: list[Tally]) -> set[str]:
    return {t.row for t in rows if t.verdict == CONTRADICTED}


def test_ranks_are_those_of_the_products() -> None:
    for (i, j), rank in CHAIN.table.items():
        product = np.eye(CHAIN.dimensions[i])
        for m in CHAIN.matrices[i:j]:
            product = m.numpy() @ product
        assert rank == np.linalg.matrix_rank(product), (i, j)


def test_every_row_holds_on_true_chains() -> None:
    for seed in range(5):
        c = random_chain(seed, (6, 6, 6, 5, 4), (6 - seed % 3, 4, 4, 3))
        rows = all_rows(c, HALF)
        assert broken(rows) == set()
        assert sum(t.checks for t in rows) > 150
        assert {t.row for t in rows if not t.checks} == set()


@pytest.mark.parametrize(
    ("lies", "rows"),
    [
        ({"r02": 6}, {"composition", "bottleneck", "diminishing"}),
        ({"r03": 0, "r04": 0}, {"sylvester", "frobenius", "completeness"}),
        ({"r04": 0, "r14": 0, "r24": 0}, {"chain-sylvester"}),
        ({"r13": 1}, {"frobenius", "completeness"}),
    ],
)
def test_a_false_rank_breaks_rows(lies: dict[str, int], rows: set[str]) -> None:
    assert broken(chain_rows(CHAIN)) == set()
    assert broken(chain_rows(doctored(**lies))) >= rows


def test_a_false_rank_breaks_the_rows_about_sums_parts_and_kernels() -> None:
    one = np.outer([1, 2, 0, 1, 0, 3], [0, 1, 1, 0, 2, 0])  # blocks I + G with G of rank 1
    residual = of_matrices(np.eye(6) + one, np.eye(6) + one.T, np.eye(6) + one)
    assert broken(sum_rows(residual)) == set()
    lower = {"residual-lower", "subadditive", "marsaglia-styan"}
    assert broken(sum_rows(doctored(residual, r12=4))) == lower
    assert broken(sum_rows(doctored(residual, r02=3))) == {"residual-loss", "residual-stack"}
    assert "stacking" in broken(sum_rows(doctored(residual, r02=9)))
    assert broken(partial_rows(doctored(r02=7), HALF)) == {"partial-drop", "partial-lower"}
    assert broken(kernel_rows(doctored(r02=5))) == {"loss-law", "structural-impetus"}


def test_the_barcode_of_a_known_chain() -> None:
    """diag(1, 0) then diag(0, 1): nothing gets through both."""
    c = of_matrices(np.diag([1, 0]), np.diag([0, 1]))
    assert c.table == {(0, 0): 2, (1, 1): 2, (2, 2): 2, (0, 1): 1, (1, 2): 1, (0, 2): 0}
    law = kernel_rows(c)[0]
    assert (law.checks, law.broken) == (1, "")


def test_spectral_rows_break_where_a_spectrum_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(spectral_rows(CHAIN)) == set()
    own, prefixes = spectra(CHAIN.matrices)
    lie = [prefixes[0], prefixes[1] * 1e3, *prefixes[2:]]
    monkeypatch.setattr("empirical.chain_bounds.spectra", lambda _: (own, lie))
    assert broken(spectral_rows(CHAIN)) >= {"log-majorisation"}
    flat = [prefixes[0], np.full(6, prefixes[1][0]), *prefixes[2:]]
    monkeypatch.setattr("empirical.chain_bounds.spectra", lambda _: (own, flat))
    assert broken(spectral_rows(CHAIN)) >= {"eps-calculus"}


def test_weyl_breaks_where_more_moved_than_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    true = torch.linalg.matrix_norm
    monkeypatch.setattr(torch.linalg, "matrix_norm", lambda *a: true(*a) * 0 - 1)
    assert "weyl" in broken(spectral_rows(CHAIN))


def test_gram_and_logit_dependence() -> None:
    assert gram_row(CHAIN).verdict == CONFIRMED
    generator = torch.Generator().manual_seed(0)
    h = (
        torch.randn(40, 3, generator=generator).double()
        @ torch.randn(3, 8, generator=generator).double()
    )
    w = torch.randn(5, 8, generator=generator).double()
    row = dependence_row(w, h, h @ w.T)
    assert (row.checks, row.verdict) == (2, CONFIRMED)
    assert row.tight == 1  # affine dimension 3 of both, rank W is 5
    noise = torch.randn(40, 5, generator=generator).double()  # logits that no head made
    assert dependence_row(w, h, noise).verdict == CONTRADICTED


def test_the_chain_of_a_network_is_its_jacobian() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    x = torch.linspace(-1, 1, 6).double().view(1, 2, 3)
    c = chain(net, x, (Tap("1", 0, True, "block"), Tap("3", 1, True, "logits")))
    J = torch.autograd.functional.jacobian(net, x[None]).reshape(3, 6)
    torch.testing.assert_close(c.matrices[1] @ c.matrices[0], J)
    assert c.dimensions == (6, 5, 3)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(6, 5000)).double().eval()
    with pytest.raises(UnsupportedError, match="5000 values"):
        chain(wide, x, (Tap("1", 0, True, "block"),))
    with pytest.raises(UnsupportedError, match="no chain"):
        chain(net, x, (Tap("1", 0, False, "block"),))


def test_a_wide_network_has_the_rows_of_its_patch() -> None:
    rows = [
        record("a", 9.0, shape=(20,)), record("b", 7.0, tap_index=1, shape=(10,)),
        record("c", 7.0, tap_index=2, shape=(8,)),
    ]  # fmt: skip
    diminishing, bottleneck = bounds.measured_rows(rows)
    assert (diminishing.verdict, bottleneck.verdict) == (CONFIRMED, CONFIRMED)
    assert (diminishing.checks, bottleneck.checks) == (2, 6)
    lie = replace(rows[2], value=9.0, low=9.0, high=9.0)
    diminishing, bottleneck = bounds.measured_rows([*rows[:2], lie])
    assert diminishing.broken == "c against b: 9 > 7"
    assert bottleneck.tap == "c"
    assert Tally("powers", why="shared weights").record(Subject()).extra["verdict"] == INAPPLICABLE


def test_a_residual_block_loses_at_most_its_branch() -> None:
    """EfficientNet's blocks: the bound is the inner width; a doctored rank contradicts it."""
    loaded = load("digits-vit", random_weights=True)
    image = digits_data().test_x[0].double()
    found, proofs = segment_bounds(loaded.model, image, loaded.taps)
    # 17 tokens of width 32: layer norm leaves 31 a token, attention and MLP each lose so much
    assert found["blocks.0"] == 2 * 17 * 31
    assert "residual-loss" in proofs["blocks.0"][0]
    resnet = load("digits-resnet", random_weights=True)
    found, _ = segment_bounds(resnet.model, image, resnet.taps)
    assert "layer1.0" not in found  # a projection shortcut has no such bound
    rows = [record("a", 500.0), record("b", 400.0, tap_index=1)]
    (loss,) = losses(rows, {"b": 100.0}, {"b": ("why",)})
    assert (loss.lost, loss.sure, loss.broken, loss.proof) == (100, 100, False, ("why",))
    assert losses(rows, {"b": 99.0})[0].broken
    floats = [replace(r, known="measured", high=None) for r in rows]
    (loss,) = losses(floats, {"b": 99.0})
    assert not loss.broken  # a float64 spectrum bounds no exact rank from above
    assert loss.sure == -np.inf
