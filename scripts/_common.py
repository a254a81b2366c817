"""Options that the studies share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from empirical.records import Record
from empirical.runs import Run

SMOKE = "digits-resnet"


def arguments(text: str, default: str = "resnet18") -> argparse.Namespace:
    """Parse the options of a study; ``--smoke`` takes the embedded digits network instead."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("models", nargs="*", default=[default], help="timm names")
    parser.add_argument("--images", help="folder of class folders, such as ImageNet's val")
    parser.add_argument("--count", type=int, help="images a network")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="run folder")
    parser.add_argument("--smoke", action="store_true", help="seconds, on the embedded default")
    args = parser.parse_args()
    if args.smoke:
        args.models, args.images, args.count = [SMOKE], None, None
    return args


def answer(records: Iterable[Record], args: argparse.Namespace, command: str) -> None:
    """Print one line a record, and keep them in the run folder where one is asked for."""
    records = list(records)
    if args.out:
        with Run.open(args.out, command, args.seed) as run:
            run.extend(records)
    for r in records:
        note = r.extra.get("note", "")
        print(f"{r.model}\t{r.tap}\t{r.notion}\t{r.value:g} [{r.low:g}, {r.high:g}]\t{note}")
