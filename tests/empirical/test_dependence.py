"""Independence deficit against scikit-learn's Lasso on the samples, and against planted answers."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from empirical import lasso
from empirical.dependence import measure
from empirical.forced import forced
from empirical.subject import Subject
from theory.errors import InputError

sklearn_linear = pytest.importorskip("sklearn.linear_model")


def logits(classes: int = 8, samples: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    z = rng.normal(size=(samples, classes)) * 3
    z[np.arange(samples), y] += 9
    return z, y


def dense_objective(z: np.ndarray, c: int, theta: np.ndarray, w: float) -> float:
    return float(((z[:, c] - z @ theta) ** 2).mean() + w * np.abs(theta).sum())


@pytest.mark.parametrize("samples", ["own", "all"])
@pytest.mark.parametrize("covariance", [False, True])
def test_against_lasso_on_the_samples(samples: str, covariance: bool) -> None:
    z, y = logits()
    found = measure(
        z, y, held_out=(z, y), weight=2.0, samples=samples, covariance=covariance, tolerance=1e-14
    )
    for c in found.classes:
        own = z[y == c.label] if samples == "own" else z
        x = np.delete(own, c.label, axis=1)
        oracle = sklearn_linear.Lasso(
            alpha=1.0, fit_intercept=covariance, tol=1e-14, max_iter=100_000
        ).fit(x, own[:, c.label])
        mine = np.delete(c.coefficients, c.label)
        np.testing.assert_allclose(mine, oracle.coef_, atol=1e-8)
        assert ((mine == 0) == (oracle.coef_ == 0)).all()
        centred = own - own.mean(0) if covariance else own
        expected = dense_objective(centred, c.label, c.coefficients, 2.0)
        assert c.objective == pytest.approx(expected, rel=1e-10)


def test_never_above_the_official_optimiser() -> None:
    """5,000 subgradient steps leave no zeros and end above; coordinate descent has exact zeros."""
    z, y = logits(40, 800, 1)
    best = measure(z, y, held_out=(z, y), weight=20.0, samples="own", points=0)
    theirs = measure(
        z, y, held_out=(z, y), weight=20.0, samples="own", points=0, estimator="official",
        classes=range(4),
    )  # fmt: skip
    for mine, other in zip(best.classes[:4], theirs.classes, strict=True):
        own = z[y == mine.label]
        for c in (mine, other):
            told = dense_objective(own, c.label, c.coefficients, 20.0)
            assert c.objective == pytest.approx(told, rel=1e-10)
        assert mine.objective <= other.objective
        assert mine.objective > 0.9 * other.objective  # the steps do descend
        assert (mine.zeros >= 36, other.zeros) == (True, 0)
    (record, _) = theirs.records(Subject(model="m"))
    assert record.settings["estimator"] == "official"
    assert record.extra["duality_gap"] is None


@pytest.mark.parametrize("samples", [12, 400])  # fewer and more than the classes
def test_duality_gap_bounds_the_excess(samples: int) -> None:
    """The gap of the minimiser is rounding; of any other point it is at least its true excess."""
    z, _ = logits(30, samples, 6)
    c = lasso.compress(z, False)
    others = np.delete(np.arange(30), 3)
    x, target = c.rows[:, others], c.rows[:, 3]
    rng = np.random.default_rng(0)
    for m in lasso.path(c, 3, [6.0, 1.0, 0.1]):
        assert m.gap <= 1e-8 * c.gram[3, 3]
        worse = m.theta[others] + 0.05 * rng.normal(size=29)
        full = np.zeros(30)
        full[others] = worse
        excess = lasso.objective(c, 3, full, m.weight) - m.objective
        assert excess > 1e-3
        assert lasso.duality_gap(x, target, worse, m.weight) >= excess


@pytest.mark.parametrize("samples", [12, 400])
def test_equal_and_constant_logits_do_not_stop_the_path(samples: int) -> None:
    """The homotopy is degenerate there; coordinate descent still reaches the minimum."""
    z, _ = logits(20, samples, 7)
    z[:, 5] = z[:, 6]
    z[:, 7] = 2.5
    z[:, 8] = 0.0
    c = lasso.compress(z, False)
    for label in (3, 5, 8):
        top = lasso.largest_weight(c, label)
        for m in lasso.path(c, label, (top * np.geomspace(0.9, 1e-3, 8)).tolist() or [1.0]):
            assert m.gap <= 1e-7 * max(c.gram[label, label], 1e-12)


def test_the_start_does_not_decide_the_minimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """From zero, coordinate descent ends where it ends from the homotopy's point."""
    z, _ = logits(15, 300, 8)
    c = lasso.compress(z, True)
    near = lasso.path(c, 2, [3.0, 0.5], 1e-14)
    monkeypatch.setattr(lasso, "_starts", lambda x, y, xy, g, w: [np.zeros(len(xy))] * len(w))
    for a, b in zip(near, lasso.path(c, 2, [3.0, 0.5], 1e-14), strict=True):
        np.testing.assert_allclose(a.theta, b.theta, atol=1e-8)
        assert ((a.theta == 0) == (b.theta == 0)).all()


def test_planted_dependence_is_found_and_its_accuracy_kept() -> None:
    z, y = logits(10, 1000, 2)
    z[:, 4] = 0.8 * z[:, 1] + 0.7 * z[:, 7]
    y = z.argmax(1)
    found = measure(z, y, weight=0.05, samples="all")
    planted, free = found.classes[4], found.classes[2]
    assert planted.carriers[0.99] == 2
    assert free.carriers[0.99] is None or free.carriers[0.99] > 2
    assert {1, 7} <= set(planted.support)
    assert planted.accuracy_class > 0.9 > free.accuracy_class
    assert len(found.records(Subject(model="m"))) == 2


def test_replacement_accuracy_against_the_definition() -> None:
    z, y = logits(6, 300, 3)
    for c in measure(z, y, held_out=(z, y), weight=0.5, samples="all", covariance=True).classes:
        own = z.copy()
        own[:, c.label] = (z - z.mean(0)) @ c.coefficients + z.mean(0)[c.label]
        right = own.argmax(1) == y
        assert c.accuracy == pytest.approx(right.mean(), abs=1e-12)
        assert c.accuracy_class == pytest.approx(right[y == c.label].mean(), abs=1e-12)


def test_path_is_monotone() -> None:
    z, y = logits(8, 400, 4)
    for c in measure(z, y, samples="all", tolerance=1e-12).classes:
        objectives = [p[2] for p in c.path]  # weights descend, so the minimum does
        assert all(a >= b - 1e-9 for a, b in pairwise(objectives))
        assert c.path[0][1] == 0  # nothing is left at the largest useful weight


def test_forced_dependencies() -> None:
    rng = np.random.default_rng(5)
    w = rng.integers(-4, 5, (7, 3)) @ rng.integers(-4, 5, (3, 9))
    found = forced(w.astype(float), rng.normal(size=(50, 2)) @ rng.normal(size=(2, 9)))
    assert (found.head, found.span, found.basis.shape) == (4, 5, (4, 7))
    assert found.residual < 1e-10  # entries below 150, rounding below 1e-13 a product
    assert forced(rng.normal(size=(3, 9))).head == 0  # full row rank
    told = forced(w.astype(float), bias=np.arange(7.0))
    x = rng.normal(size=(20, 9))
    combined = (x @ w.T + np.arange(7.0)) @ told.basis.T
    # the forced combinations of logits are the same constant on every input, others are not
    np.testing.assert_allclose(combined, np.tile(told.constants, (20, 1)), atol=1e-9)
    assert np.ptp(x @ w.T @ rng.normal(size=7)) > 1


def test_a_start_that_is_stopped_early_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the homotopy and with one sweep the gap stays, and the result says so."""
    z, y = logits(12, 400, 9)
    z = z @ np.random.default_rng(0).normal(size=(12, 12)) + 20  # correlated: sweeps are slow
    monkeypatch.setattr(lasso, "_starts", lambda x, y, xy, g, w: [np.zeros(len(xy))] * len(w))
    monkeypatch.setattr(lasso, "_SWEEPS", 1)
    found = measure(z, y, weight=0.5, samples="all", points=0)
    assert found.notes
    assert "duality gap" in found.notes[0]
    summary = found.records(Subject(model="m"))[1]
    assert summary.extra["notes"] == list(found.notes)


@pytest.mark.parametrize(
    ("text", "expected"), [("all", None), ("present", [0, 2]), ("2, 0", [2, 0])]
)
def test_classes_of_the_command(text: str, expected: list[int] | None) -> None:
    from rankfall.commands.measure_dependence import _classes

    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    assert _classes(text, labels, 4) == expected
    for bad in ("4", "zebra", ""):
        with pytest.raises(InputError, match="numbers below 4"):
            _classes(bad, labels, 4)
    with pytest.raises(InputError, match="no class has two images"):
        _classes("present", torch.tensor([0, 1]), 4)


def test_progress_is_told_class_by_class() -> None:
    z, y = logits(5, 100)
    told: list[tuple[int, int]] = []
    measure(z, y, points=0, progress=lambda a, b: told.append((a, b)))
    assert told == [(i, 5) for i in range(1, 6)]


def test_the_benchmark_runs_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import dependence

    monkeypatch.setattr("sys.argv", ["x", "--samples", "400", "--classes", "20", "--width", "16"])
    assert dependence.main() == 0
    assert "above the official optimiser: 0" in capsys.readouterr().out


def test_bad_input() -> None:
    z, y = logits()
    with pytest.raises(InputError, match="NaN"):
        measure(np.where(z > 8, np.nan, z), y)
    with pytest.raises(InputError, match="class 3 has no samples"):
        measure(z[y != 3], y[y != 3])
    with pytest.raises(InputError, match="no estimator is called 'best'"):
        measure(z, y, estimator="best")
    with pytest.raises(InputError, match="weight of the penalty is positive"):
        measure(z, y, weight=0.0)
    with pytest.raises(InputError, match="at least 2 classes"):
        measure(z[:, 0], y)
