"""The tangent engine against the official method and against the machine, in one run.

    python benchmarks/engine.py [--repeat N] [NETWORK...]    the table of benchmarks/README.md
    python benchmarks/engine.py --short          a small network; exit status 1 when a ratio fails
    python benchmarks/engine.py --memory NETWORK FIELD [GB]    peak memory of a process of its own

The official method (the code published with the paper): reverse mode, one pass for each output of
each tap, float32. It would take hours, so some rows of every tap are timed and multiplied by the
number of rows. Everything is timed in the same run; only ratios are judged, never seconds.
A shared machine's rates move by 30 % within a minute: ``--repeat`` judges the median of several float32
passes, each against the rates around it. Random weights (seed 0), 16x16 patch in the image, every
default tap, spectra included.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from empirical.jacobian import jacobian_profile
from empirical.machine import peak_bytes
from empirical.models import LoadedModel, load

#: network -> (fields timed, smallest ratio to the official method in each float field; under "exact"
#: how many times the float64 pass one prime's pass may take)
NETWORKS: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "resnet18": (("float32", "float64", "exact"), {"float32": 1500, "float64": 500, "exact": 1.25}),
    "resnet50": (("float32", "float64", "exact"), {"float64": 2500}),
    "tf_efficientnet_lite0": (("float64", "exact"), {}),
    "vit_tiny_patch16_224": (("float32",), {}),
    "resmlp_12_224": (("float32",), {}),
    "swin_tiny_patch4_window7_224": (("float32",), {}),
    "mixer_b16_224": (("float32",), {}),
}
#: network -> (field, largest peak in GB without a budget, a budget in GB that must be obeyed)
MEMORY = {"resnet50": ("float64", 6.0, 3.0)}
#: times of the limit that a token network's float32 pass may take
LIMIT = 2.0
TOKENS = (
    "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resmlp_12_224", "mixer_b16_224",
)  # fmt: skip
#: the short form's network runs at 64x64 with an 8x8 patch, where fixed costs weigh more (the audit, the
#: pattern's certificate). Half or less of what an idle machine reaches (286, 199, 1.54): a crowded one too
SHORT = {"float32": 100.0, "float64": 50.0, "exact": 4.0}


def seconds(work: Callable[[], Any], least: float = 0.0) -> float:
    """Mean wall time of a call, over as many calls as take ``least`` seconds, one at least."""
    start, count = time.perf_counter(), 0
    while True:
        work()
        count += 1
        spent = time.perf_counter() - start
        if spent >= least:
            return spent / count


def sustained(work: Callable[[], Any]) -> float:
    """Time of a call as a long pass would see it: warm, and over a second."""
    work()
    return seconds(work, 1.0)


def rates() -> dict[str, float]:
    """The machine's own rates in FLOP/s: large matrix products and a large convolution."""
    out = {}
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(1536, 1536, dtype=dtype)
        took = sustained(lambda a=a: a @ a)
        out[f"matmul {str(dtype)[6:]}"] = 2 * 1536**3 / took
    x = torch.randn(64, 128, 28, 28).contiguous(memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).contiguous(memory_format=torch.channels_last)
    took = sustained(lambda: nn.functional.conv2d(x, w, padding=1))
    out["convolution float32"] = 2 * 64 * 128 * 28 * 28 * 128 * 9 / took
    return out


def tap_values(model: nn.Module, taps: list[str], x: Tensor) -> tuple[Tensor, ...]:
    """Outputs of the taps, through hooks."""
    found: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = [
        modules[t].register_forward_hook(lambda _m, _i, out, t=t: found.__setitem__(t, out.clone()))
        for t in taps
    ]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found[t] for t in taps)


def official(loaded: LoadedModel, image: Tensor, rows: int = 5) -> tuple[float, int]:
    """(extrapolated seconds, rows) of reverse mode over every output element of every tap."""
    taps = list(official_rows(loaded, image, rows))
    return sum(took * count for took, count in taps), sum(count for _, count in taps)


def official_rows(loaded: LoadedModel, image: Tensor, rows: int = 5) -> Iterator[tuple[float, int]]:
    """(seconds a row, number of rows) of each tap in reverse mode."""
    for tap in loaded.taps:
        x = image.float()[None].requires_grad_(True)
        flat = tap_values(loaded.model, [tap.name], x)[0].reshape(-1)
        torch.autograd.grad(flat[0], x, retain_graph=True)
        took = seconds(
            lambda flat=flat, x=x: [
                torch.autograd.grad(flat[i], x, retain_graph=True) for i in range(rows)
            ]
        )
        yield took / rows, flat.numel()


def flops(loaded: LoadedModel, image: Tensor) -> float:
    """Tangent FLOPs of one direction, without windows.

    A layer's tangent costs what the layer costs; a product of two values that both depend on the input
    (attention, the only batched products of these networks) has two terms: d(QK) = dQ K + Q dK.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        loaded.model(image.float()[None])
    found = counter.get_flop_counts()["Global"]
    return float(sum(found.values()) + found.get(torch.ops.aten.bmm, 0))


def measure(
    name: str, fields: tuple[str, ...], size: int | None = None, patch: int = 16, repeat: int = 1
) -> dict[str, Any]:
    """Times and ratios of one network; of ``repeat`` float32 passes the one of median ratio."""
    loaded = load(name, random_weights=True)
    shape = (3, size, size) if size else loaded.input_size
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, rows = official(loaded, image)
    reverse, took = [first], dict[str, float]()
    line: dict[str, Any] = {"network": name, "taps": len(loaded.taps), "rows": rows}
    work = flops(loaded, image) * 3 * patch**2
    # the engine's own fixed costs are paid once in a process
    jacobian_profile(loaded.model, image, field="float32", patch=1, taps=loaded.taps)
    before = rates()
    for field in fields:
        passes = []
        for _ in range(repeat if field == "float32" else 1):
            profile = jacobian_profile(
                loaded.model, image, field=field, taps=loaded.taps, primes=1, patch=patch
            )
            # a shared machine's rates move from minute to minute: those around the pass count
            after = rates()
            machine = {name: (before[name] + after[name]) / 2 for name in after}
            before = after
            limit = work / max(machine["matmul float32"], machine["convolution float32"])
            passes.append((profile.seconds / limit, limit, profile, machine))
            reverse.append(official(loaded, image)[0])
        over = [ratio for ratio, *_ in passes]
        ratio, limit, profile, machine = passes[over.index(statistics.median_low(over))]
        took[field] = profile.seconds
        line[f"{field}_s"] = round(profile.seconds, 2)
        line[f"{field}_peak_GiB"] = round(profile.peak_bytes / 2**30, 2)
        if field == "float32":
            if repeat > 1:
                line["float32_over_limit_each"] = [round(ratio, 2) for ratio in over]
            line["float32_limit_s"] = round(limit, 2)
            line["float32_over_limit"] = round(ratio, 2)
            line["rates_GFLOPs"] = {k: round(v / 1e9) for k, v in machine.items()}
        if field == "exact":
            # what another prime costs; the pattern's certificate is there once for all primes
            (one,) = profile.records[0].extra["seconds_a_prime"].values()
            line["exact_prime_s"] = round(one, 2)
        if field == "exact" and "float64_s" in line:
            line["exact_over_float64"] = round(line["exact_prime_s"] / line["float64_s"], 2)
    # before, between and after the passes: minutes differ by half, here as everywhere
    line["official_s"] = round(statistics.median(reverse))
    line["official_each"] = [round(one) for one in reverse]
    for field in fields:
        if field != "exact":
            line[f"{field}_ratio"] = round(statistics.median(reverse) / took[field])
    line["process_peak_GiB"] = round(peak_bytes() / 2**30, 2)
    line.setdefault("rates_GFLOPs", {k: round(v / 1e9) for k, v in machine.items()})
    line["threads"] = torch.get_num_threads()
    return line


def peak(name: str, field: str, budget: float | None = None) -> float:
    """Peak memory in GB of a process that measures one network, with or without a budget."""
    command = [
        sys.executable,
        __file__,
        "--memory",
        name,
        field,
        *([str(budget)] if budget else []),
    ]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(out.splitlines()[-1])["peak_GB"])


def memory(name: str, field: str, budget: str | None = None) -> dict[str, Any]:
    """What :func:`peak` runs: the profile, and this process's peak."""
    loaded = load(name, random_weights=True)
    image = torch.randn(
        loaded.input_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    profile = jacobian_profile(
        loaded.model, image, field=field, taps=loaded.taps, primes=1,
        memory=int(float(budget) * 1e9) if budget else None,
    )  # fmt: skip
    return {
        "network": name, "field": field, "budget_GB": budget, "seconds": round(profile.seconds, 1),
        "tangents_GB": round(profile.peak_bytes / 1e9, 2), "peak_GB": round(peak_bytes() / 1e9, 2),
    }  # fmt: skip


def judge(line: dict[str, Any], wanted: dict[str, float]) -> list[str]:
    """The ratios that are missed, in words."""
    missed = [
        f"{field}: {line[f'{field}_ratio']} times the official method, wanted {least:g}"
        for field, least in wanted.items()
        if field != "exact" and line[f"{field}_ratio"] < least
    ]
    over = line.get("float32_over_limit", 0)
    if line.get("network") in TOKENS and over > LIMIT:
        missed.append(f"float32: {over} times the limit, at most {LIMIT:g}")
    for key in ("float64_peak_GB", "float64_budget_peak_GB"):
        if key in line and line[key] > line[f"{key}_allowed"]:
            missed.append(f"{key}: {line[key]}, allowed {line[f'{key}_allowed']}")
    most = wanted.get("exact", math.inf)
    if line.get("exact_over_float64", 0) > most:
        missed.append(f"exact: {line['exact_over_float64']} of the float64 pass, at most {most}")
    return missed


def main() -> int:
    """Print one JSON line a network; 1 when a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--short", action="store_true", help="a small network, for CI")
    parser.add_argument("--repeat", type=int, default=1, help="float32 passes; the median counts")
    parser.add_argument("--memory", nargs="+", metavar="NETWORK FIELD [GB]", help="peak memory")
    args = parser.parse_args()
    if unknown := set(args.networks) - set(NETWORKS):
        parser.error(f"no targets for {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    status = 0
    if args.memory:
        print(json.dumps(memory(*args.memory)))
        return 0
    if args.short:
        for _ in range(2):  # a crowded minute costs a second try
            line = measure("resnet18", ("float32", "float64", "exact"), 64, 8)
            missed = judge(line, SHORT)
            print(json.dumps(line))
            print("\n".join(missed))
            if not missed:
                return 0
        return 1
    for name in args.networks or NETWORKS:
        fields, wanted = NETWORKS[name]
        line = measure(name, fields, repeat=args.repeat)
        if name in MEMORY:
            field, most, budget = MEMORY[name]
            line[f"{field}_peak_GB"] = peak(name, field)
            line[f"{field}_peak_GB_allowed"] = most
            line[f"{field}_budget_peak_GB"] = peak(name, field, budget)
            line[f"{field}_budget_peak_GB_allowed"] = budget
        line["missed"] = judge(line, wanted)
        status |= bool(line["missed"])
        print(json.dumps(line), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
