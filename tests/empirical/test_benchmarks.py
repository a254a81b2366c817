"""The benchmark's verdict: a missed ratio is named, a met one is not."""

import importlib.util
import math
from pathlib import Path

import torch

from empirical.taps import forward_order

FILE = Path(__file__).parents[2] / "benchmarks" / "engine.py"


def engine():
    spec = importlib.util.spec_from_file_location("engine_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_missed_ratios_are_named():
    judge = engine().judge
    line = {"float32_ratio": 99, "float64_ratio": 51, "exact_over_float64": 1.3}
    assert judge(line, {"float64": 50, "exact": 1.31}) == []
    missed = judge(line, {"float32": 100, "float64": 50, "exact": 1.25})
    assert [text.split(":")[0] for text in missed] == ["float32", "exact"]


def test_missed_limits_and_budgets_are_named():
    judge = engine().judge
    line = {"network": "resmlp_12_224", "float32_over_limit": 1.9, "float64_budget_peak_GB": 2.9,
            "float64_budget_peak_GB_allowed": 3.0}  # fmt: skip
    assert judge(line, {}) == []
    missed = judge(line | {"float32_over_limit": 2.1, "float64_budget_peak_GB": 3.1}, {})
    assert [text.split(":")[0] for text in missed] == ["float32", "float64_budget_peak_GB"]
    assert judge(line | {"network": "resnet18", "float32_over_limit": 9}, {}) == []


def test_every_known_fault_of_the_official_estimators_shows(monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)
    reference = importlib.import_module("reference")
    cases = {case: (true, theirs) for case, true, theirs in reference.errors()}
    assert len(cases) == 9
    assert all(true != theirs for true, theirs in cases.values()), cases
    assert cases["linear chain, width 64, depth 1, 8, 24"][0] == [64, 64, 64]
    assert cases["diag(1, 2^-14), then its inverse"] == ([2, 2], [1, 2])


def test_reverse_mode_is_timed_at_every_tap_and_multiplied():
    from empirical.models import load

    loaded = load("digits-resnet", random_weights=True)
    image = torch.randn(loaded.input_size, dtype=torch.float64)
    rows = list(engine().official_rows(loaded, image, rows=1))
    assert [count for _, count in rows] == [math.prod(shape) for shape in tap_shapes(loaded, image)]
    assert all(took > 0 for took, _ in rows)


def tap_shapes(loaded, image):
    shapes = dict(forward_order(loaded.model, image.float()[None]))
    return [shapes[tap.name] for tap in loaded.taps]
