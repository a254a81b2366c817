"""Classification dimension against scikit-learn's PCA and the official loop."""

import numpy as np
import pytest
import torch

from benchmarks.classification import sample
from empirical import incremental
from empirical.classification import crossings, measure
from empirical.official import classification_dimension as official
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


def every_k(scores, head, offset, labels):
    """Oracle: the logits of each k from a product of its own, float64."""
    return torch.stack(
        [
            (scores[:, :k] @ head[:, :k].T + offset).argmax(1) == labels
            for k in range(1, scores.shape[1] + 1)
        ],
        1,
    )


@pytest.mark.parametrize("classes", [3, 700])
@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_every_decision_is_that_of_its_own_projection(classes: int, decay: float) -> None:
    draw = torch.Generator().manual_seed(classes)
    scale = torch.arange(1, 131, dtype=torch.float64) ** -decay
    scores = torch.randn(250, 130, generator=draw, dtype=torch.float64) * scale
    head = torch.randn(classes, 130, generator=draw, dtype=torch.float64)
    offset = torch.randn(classes, generator=draw, dtype=torch.float64)
    labels = (scores @ head.T + offset + torch.randn(250, classes, generator=draw)).argmax(1)
    found = incremental.correct_by_rank(scores, head, offset, labels)
    assert torch.equal(found, every_k(scores, head, offset, labels))
    assert 0.05 < float(found.double().mean()) < 0.999


@pytest.mark.parametrize("copies", [1, 40])  # some pairs in doubt, and all of them
def test_ties_go_to_the_first_class_as_argmax_says(
    copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Integers, so that float64 is exact; equal rows of the head tie for every k."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randint(-4, 5, (120, 70), generator=draw).double()
    head = torch.randint(-3, 4, (41, 70), generator=draw).double()
    head[1 : 1 + copies] = head[0]
    offset = torch.zeros(41, dtype=torch.float64)
    labels = torch.arange(120) % 3  # the first two tie
    expected = every_k(scores, head, offset, labels)
    assert torch.equal(incremental.correct_by_rank(scores, head, offset, labels), expected)
    monkeypatch.setattr(incremental, "_recheck", lambda *a: None)  # float32 alone does not know
    assert not torch.equal(incremental.correct_by_rank(scores, head, offset, labels), expected)


def test_float32_alone_would_be_wrong_next_to_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival behind by 2^-30: seen in float64 only, so the rounding bound must send it there."""
    scores = torch.ones(4, 40, dtype=torch.float64)
    head = torch.ones(2, 40, dtype=torch.float64)
    head[1, 0] += 2.0**-30
    labels, offset = torch.tensor([0, 1, 0, 1]), torch.zeros(2, dtype=torch.float64)
    found = incremental.correct_by_rank(scores, head, offset, labels)
    assert found[:, 5].tolist() == [False, True, False, True]
    monkeypatch.setattr(incremental, "_recheck", lambda *a: None)
    assert not incremental.correct_by_rank(scores, head, offset, labels).any()


def test_the_official_estimator_is_the_official_loop() -> None:
    h, w, b, y = data()
    found = measure(h, w, b, y, estimator="official")
    assert found.first == official(h, w, b, y, 0.95) < 24
    assert len(found.curve) == 23  # k = n is never tried
    eye = torch.cat([torch.eye(6), -torch.eye(6)]).double()
    scaled = eye.repeat(4, 1) * torch.linspace(1, 0.9, 6, dtype=torch.float64)
    none = measure(
        scaled, eye, None, torch.arange(12).repeat(4), fraction=1.0, estimator="official"
    )
    (record,) = none.records(Subject(model="m"))
    assert record.value is None
    assert "no k below 6" in record.extra["note"]
    with pytest.raises(InputError, match="no estimator"):
        measure(h, w, b, y, estimator="fast")


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
