"""Independence deficit against scikit-learn's Lasso on the samples, and against planted answers."""

from itertools import pairwise

import numpy as np
import pytest

from empirical.dependence import forced, measure
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
    """Subgradient steps (2,000 here, for time) leave no zeros; coordinate descent does."""
    z, y = logits(12, 600, 1)
    best = measure(z, y, held_out=(z, y), weight=20.0, samples="own", points=0)
    for c in best.classes[:3]:
        own = z[y == c.label]
        theta = np.random.default_rng(0).normal(size=12) * 0.1
        theta[c.label] = 0
        for step in range(2000):
            slope = -2 * own.T @ (own[:, c.label] - own @ theta) / len(own) + 20 * np.sign(theta)
            slope[c.label] = 0
            theta -= 1e-3 / (1 + step / 200) * slope
        assert c.objective <= dense_objective(own, c.label, theta, 20.0) + 1e-9
        assert c.zeros > int((np.delete(theta, c.label) == 0).sum())


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
    assert forced(rng.normal(size=(3, 9))).head == 0


def test_bad_input() -> None:
    z, y = logits()
    with pytest.raises(InputError, match="NaN"):
        measure(np.where(z > 8, np.nan, z), y)
    with pytest.raises(InputError, match="class 3 has no samples"):
        measure(z[y != 3], y[y != 3])
    with pytest.raises(InputError, match="at least 2 classes"):
        measure(z[:, 0], y)
