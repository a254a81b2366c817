"""Classification dimension against scikit-learn's PCA and the official loop."""

import numpy as np
import pytest
import torch

from benchmarks.classification import official, sample
from empirical.classification import crossings, measure
from empirical.subject import Subject
from theory.errors import InputError


def data() -> tuple[torch.Tensor, ...]:
    return sample(300, 24, 12, 0.5)


@pytest.mark.parametrize("samples", [300, 15])  # 15 < 24 features: the covariance is singular
def test_curve_against_scikit_learn(samples: int) -> None:
    pca = pytest.importorskip("sklearn.decomposition").PCA
    h, w, b, y = (t[:samples] if len(t) == 300 else t for t in data())
    found = measure(h, w, b, y, bootstrap=0)
    full = min(samples, 24)
    fitted = pca(full, svd_solver="full").fit(h.numpy())
    for k in range(1, full):
        axes = fitted.components_[:k]
        low = fitted.mean_ + (h.numpy() - fitted.mean_) @ axes.T @ axes
        expected = ((low @ w.numpy().T + b.numpy()).argmax(1) == y.numpy()).mean()
        assert found.curve[k - 1] == pytest.approx(expected, abs=1e-12), k
    variance = fitted.explained_variance_[: full - 1] * (samples - 1) / samples
    np.testing.assert_allclose(found.spectrum[: full - 1], variance, rtol=1e-8)
    network = float(((h @ w.T + b).argmax(1) == y).double().mean())
    assert found.curve[-1] == network == found.accuracy  # k = n is the network itself


def test_same_answer_as_the_official_loop() -> None:
    h, w, b, y = data()
    assert measure(h, w, b, y, projection="official", bootstrap=0).first == official(
        h, w, b, y, 0.95
    )


def test_all_axes_needed_is_n_where_the_official_loop_has_no_answer() -> None:
    h = torch.cat([torch.eye(6), -torch.eye(6)]).double().repeat(4, 1)
    w, y = torch.cat([torch.eye(6), -torch.eye(6)]).double(), torch.arange(12).repeat(4)
    b = torch.zeros(12, dtype=torch.float64)
    h = h * torch.linspace(1, 0.9, 6, dtype=torch.float64)
    found = measure(h, w, b, y, bootstrap=0, fraction=1.0)
    assert found.first == 6 == found.last
    assert official(h, w, b, y, 1.0) is None


def test_many_classes_leave_out_losers_without_changing_a_decision() -> None:
    h, w, b, y = sample(64, 160, 200, 1.0)
    found = measure(h, w, b, y, bootstrap=0)
    _, vectors = np.linalg.eigh(np.cov(h.numpy().T, bias=True))
    mean = h.numpy().mean(0)
    for k in (3, 20, 33, 90, 140, 159):
        axes = vectors[:, ::-1][:, :k]
        low = mean + (h.numpy() - mean) @ axes @ axes.T
        expected = ((low @ w.numpy().T + b.numpy()).argmax(1) == y.numpy()).mean()
        assert found.curve[k - 1] == pytest.approx(expected, abs=1e-12), k


def test_first_and_last_crossing_of_a_curve_that_falls_again() -> None:
    hits = np.array([1, 96, 40, 94, 95, 100])
    assert crossings(hits, 100, 0.95) == (2, 5)
    assert crossings(np.array([1, 2, 3]), 100, 0.95) == (3, 3)


def test_bootstrap_interval_holds_the_dimension_and_a_record_carries_it() -> None:
    h, w, b, y = data()
    found = measure(h, w, b, y, bootstrap=100)
    assert found.low <= found.first <= found.high
    (record,) = found.records(Subject(model="m", shape=(24,)))
    assert (record.value, record.low, record.high) == (found.first, found.low, found.high)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h, w, b, y: (torch.ones_like(h), w, b, y), "constant"),
        (lambda h, w, b, y: (h * float("nan"), w, b, y), "NaN"),
        (lambda h, w, b, y: (h, w[:, 1:], b, y), "do not fit"),
        (lambda h, w, b, y: (h, w, b, y + 50), "labels run"),
        (lambda h, w, b, y: (h, w * 0, b, y * 0 + 3), "classified right"),
    ],
)
def test_bad_input(change, text) -> None:
    h, w, b, y = data()
    arguments = change(h, w, b * 0, y)
    with pytest.raises(InputError, match=text):
        measure(*arguments)
