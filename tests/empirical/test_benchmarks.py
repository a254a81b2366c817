"""The benchmark's verdict: a missed ratio is named, a met one is not."""

import importlib.util
from pathlib import Path

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
