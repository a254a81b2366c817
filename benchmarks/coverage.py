"""Which timm networks the engine treats, field by field: writes ``docs/coverage.md``.

    python benchmarks/coverage.py [NAME...]      check (again) the names, or what is missing
    python benchmarks/coverage.py --full [NAME...]    16 directions at native size (an hour)
    python benchmarks/coverage.py --table        only write the table from benchmarks/coverage.jsonl

"Works" means: random directions agree with ``torch.func.jvp`` in float64 to 1e-10 of the tap's
largest entry, at every default tap, and the exact or family field runs to the end. The short form
pushes 2 directions, and networks that take any size run at 64x64. Weights are random (seed 0).
Each check is one line of ``coverage.jsonl``, which says how it was made.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from engine import tap_values
from torch import Tensor, nn

from empirical.chunks import Costs
from empirical.engine import Engine
from empirical.fields import FloatField, ModField, random_primes
from empirical.models import load
from empirical.push import push
from empirical.taps import forward_order
from theory.errors import InputError, UnsupportedError

HERE = Path(__file__).parent
LINES = HERE / "coverage.jsonl"
TABLE = HERE.parent / "docs" / "coverage.md"
TOLERANCE = 1e-10
NAMES = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet18d",
    "resnet26t",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "res2net50_26w_4s",
    "seresnet50",
    "ecaresnet26t",
    "skresnet18",
    "resnetv2_50",
    "resnetblur50",
    "regnetx_002",
    "regnety_002",
    "gernet_s",
    "vgg11_bn",
    "repvgg_a0",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "efficientnet_b0",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "mnasnet_small",
    "densenet121",
    "dla34",
    "cspresnet50",
    "darknet53",
    "ghostnet_100",
    "rexnet_100",
    "hrnet_w18_small",
    "selecsls42b",
    "mixer_s32_224",
    "mixer_s16_224",
    "mixer_b16_224",
    "resmlp_12_224",
    "gmlp_ti16_224",
    "gmixer_12_224",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "cait_xxs24_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "pvt_v2_b0",
    "xcit_nano_12_p16_224",
    "twins_svt_small",
    "convnext_atto",
    "convnext_tiny",
    "convnextv2_atto",
    "poolformer_s12",
    "convmixer_768_32",
    "visformer_tiny",
    "levit_128s",
    "edgenext_xx_small",
    "mobilevit_xxs",
]


def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """Torch's own slope of hardsigmoid is 1/6 rounded to float32, off by 5e-9: the reference's."""
    return nn.functional.hardtanh(x + 3, 0.0, 6.0) / 6


def network(name: str) -> tuple[nn.Module, tuple[int, ...], list[str]]:
    """A network with random weights, its input size, and its taps: top modules where no default."""
    try:
        loaded = load(name, random_weights=True)
        return loaded.model, loaded.input_size, [tap.name for tap in loaded.taps]
    except InputError as error:
        if "recognised" not in str(error):
            raise
    torch.manual_seed(0)
    model = timm.create_model(name).eval().requires_grad_(False)
    size = model.pretrained_cfg["input_size"]
    order = forward_order(model, torch.zeros(1, *size))
    return model, size, list(dict.fromkeys(n for n, _ in order if n.count(".") <= 1))


def check(name: str, full: bool) -> dict[str, Any]:
    """One line of the table."""
    started = time.perf_counter()
    line: dict[str, Any] = {"name": name}
    model, native, taps = network(name)
    config = getattr(model, "pretrained_cfg", None) or {}
    size = native if full or config.get("fixed_input_size", False) else (3, 64, 64)
    count = 16 if full else 2
    model = model.double()
    generator = torch.Generator().manual_seed(1)
    shape = (1, *size)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    directions = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    line |= {"taps": len(taps), "size": size[1], "directions": count}
    line["float64"] = compare(model, taps, x, directions, line)
    for kind in ("exact", "family"):
        field = ModField(random_primes(1, 0)[0])
        engine = Engine(field, family=kind == "family", structural=kind == "exact")
        residues = torch.randint(-1000, 1000, directions.shape, generator=generator).double()
        primal = x if kind == "exact" else torch.randint(-1000, 1000, shape).double()
        try:
            push(model, primal, residues, engine, taps, lambda _n, _t: None)
            line[kind] = "works"
        except UnsupportedError as error:
            line[kind] = f"UNSUPPORTED {str(error).split(':')[0]}"
    line["seconds"] = round(time.perf_counter() - started, 1)
    return line


def compare(
    model: nn.Module, taps: list[str], x: Tensor, directions: Tensor, line: dict[str, Any]
) -> str:
    """Largest relative difference from torch.func.jvp over all taps, as a word."""
    engine, costs = Engine(FloatField()), Costs()
    worst = 0.0
    nn.functional.hardsigmoid = hardsigmoid
    try:
        push(model, x, directions[:1], Engine(FloatField()), taps, lambda _n, _t: None, costs=costs)
    except UnsupportedError as error:
        return f"UNSUPPORTED {str(error).split(':')[0]}"
    for start in range(0, len(directions), 4):  # all taps of all directions would not fit memory
        part = directions[start : start + 4]
        ours: dict[str, Tensor] = {}
        push(
            model, x, part, engine, taps, lambda n, t, ours=ours: ours.__setitem__(n, t.dense()),
            chunks=dict.fromkeys(costs.inside, 3),
        )  # fmt: skip
        reference = torch.func.vmap(
            lambda v: torch.func.jvp(lambda z: tap_values(model, taps, z), (x,), (v,))[1]
        )(part)
        for tap, theirs in zip(taps, reference, strict=True):
            top = float(theirs.abs().max())
            if not top > 0:
                return f"the reference is zero or NaN at {tap}"
            worst = max(worst, float((ours.pop(tap) - theirs).abs().max()) / top)
    line["error"] = worst
    line["fallbacks"] = sorted(engine.fallbacks)
    return "works" if worst <= TOLERANCE else f"differs by {worst:.1e}"


def table(lines: dict[str, dict[str, Any]]) -> str:
    """The document."""
    rows = [lines[name] for name in NAMES if name in lines]
    good = [r for r in rows if r["float64"] == "works" and "works" in (r.get("exact"), r["family"])]
    out = [
        "# Coverage", "",
        f"Written by `python benchmarks/coverage.py`: {len(good)} of {len(rows)} networks work.",
        "Random weights (seed 0), every default tap. *float64*: works when random directions (as",
        "many as *dirs*, at *size* pixels) agree with `torch.func.jvp` to 1e-10 of the tap's largest",
        "entry; *error* is the largest difference. *exact* and *family*: works when the field runs",
        "to the end. UNSUPPORTED names the operation and the module. *fallback*: operations that",
        "went through `torch.func.jvp`. The short form of the script uses 2 directions and 64x64",
        "pixels where a network takes any size; `--full` uses 16 at native size.", "",
        "| network | taps | size | dirs | float64 | error | exact | family | fallback |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        error = f"{r['error']:.0e}" if "error" in r else "-"
        fallback = ", ".join(f.removeprefix("aten.") for f in r.get("fallbacks", [])) or "-"
        out.append(
            f"| {r['name']} | {r.get('taps', '-')} | {r.get('size', '-')} | "
            f"{r.get('directions', '-')} | {r['float64']} | {error} | "
            f"{r.get('exact', '-')} | {r.get('family', '-')} | {fallback} |"
        )
    return "\n".join(out) + "\n"


def main(arguments: list[str]) -> int:
    """Check what is asked, then write the table; 1 where a check raised."""
    lines: dict[str, dict[str, Any]] = {}
    if LINES.exists():
        for text in LINES.read_text().splitlines():
            entry = json.loads(text)
            lines[entry["name"]] = entry
    status, full = 0, "--full" in arguments
    arguments = [a for a in arguments if a != "--full"]
    if arguments != ["--table"]:
        for name in arguments or [n for n in NAMES if n not in lines]:
            try:
                lines[name] = check(name, full)
            except Exception as error:  # one broken network must not hide the others
                lines[name] = {
                    "name": name,
                    "float64": f"ERROR {type(error).__name__}: {error}"[:200],
                    "exact": "-",
                    "family": "-",
                }
                status = 1
            print(json.dumps(lines[name]), flush=True)
            LINES.write_text("".join(json.dumps(lines[n]) + "\n" for n in NAMES if n in lines))
    TABLE.write_text(table(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
