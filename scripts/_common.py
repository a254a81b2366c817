"""What the studies share: options, images, an estimate of their time, and where records go."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import torch

from empirical.data import Labelled, labelled, pictures
from empirical.features import Features, collect
from empirical.images import pixel_hash
from empirical.machine import device_of
from empirical.models import LoadedModel, load
from empirical.records import Record
from empirical.runs import Run, read_records
from empirical.subject import Subject, at_features, at_image
from theory.errors import InputError, UnsupportedError

SMOKE = "digits-resnet"


def arguments(text: str, models: tuple[str, ...] = ("resnet18",), count: int | None = None,
              smoke: int | None = 1) -> argparse.Namespace:  # fmt: skip
    """Parse the options of a study; ``--smoke`` takes the embedded digits network instead.

    Args:
        text: the study's docstring.
        models: networks by default.
        count: images a network by default.
        smoke: images of a smoke run.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("models", nargs="*", default=[], help=f"timm names ({' '.join(models)})")
    parser.add_argument("--images", help="folder of class folders, such as ImageNet's val")
    parser.add_argument("--labels", help="lines file,label for a flat folder")
    parser.add_argument("--count", type=int, default=count, help=f"images a network ({count})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--random-weights", action="store_true", help="untrained control")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="run folder; what is in it is not measured again")
    parser.add_argument("--smoke", action="store_true", help="seconds, on the embedded default")
    args = parser.parse_args()
    sys.excepthook = refuse
    args.models = args.models or list(models)
    if args.smoke:
        args.models, args.images, args.labels, args.count = [SMOKE], None, None, smoke
    return args


def refuse(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Bad input is one line and exit status 2; what was measured stays in the run folder."""
    if isinstance(error, InputError | UnsupportedError):
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2)
    sys.__excepthook__(kind, error, trace)


def say(what: str, done: int, total: int, seconds: float) -> None:
    """Print the estimate: what the first items took, and all of them at that rate."""
    whole = seconds * total / done
    text = f"{whole:.1f} s" if whole < 120 else f"{whole / 60:.0f} min"
    text = text if whole < 7200 else f"{whole / 3600:.1f} h"
    print(f"estimate: {what}: {done} of {total} took {seconds:.1f} s, all take about {text}",
          file=sys.stderr, flush=True)  # fmt: skip


def clock(what: str) -> Callable[[int, int], None]:
    """A progress callback that says the estimate once, after a hundredth of the work."""
    started, said = time.perf_counter(), [False]

    def tell(done: int, total: int) -> None:
        if not said[0] and done * 100 >= total:
            said[0] = True
            say(what, done, total, time.perf_counter() - started)

    return tell


def network(args: argparse.Namespace, name: str) -> LoadedModel:
    """The network, with an estimate while a digits network is trained."""
    device_of(args.device)  # before the network is loaded
    return load(
        name, random_weights=args.random_weights, seed=args.seed, progress=clock(f"training {name}")
    )


def images_of(
    args: argparse.Namespace, measurement: str
) -> Iterator[tuple[LoadedModel, Subject, torch.Tensor]]:
    """(network, subject, image) of each image of each network, with an estimate after the first.

    Images whose records of ``measurement`` are in the run folder already are passed over.
    """
    before = _before(args)
    done = {(r.weights, r.image) for r in before if r.measurement == measurement}
    total, fresh, spent = len(args.models) * args.count, 0, 0.0
    for name in args.models:
        loaded = network(args, name)
        for title, image in pictures(loaded, args.images, args.count, args.seed):
            key = pixel_hash(image)
            if (loaded.weights, key) in done:
                continue
            started = time.perf_counter()
            yield loaded, at_image(loaded, image, title, args.seed, args.device), image
            fresh, spent = fresh + 1, spent + time.perf_counter() - started
            if fresh == 1:
                say(f"{loaded.name}, image by image", 1, total - len(done), spent)


def features_of(
    args: argparse.Namespace,
) -> Iterator[tuple[LoadedModel, Subject, Labelled, Features]]:
    """(network, subject, images, features and logits) of each network, with an estimate."""
    for name in args.models:
        loaded = network(args, name)
        data = labelled(
            loaded, args.images, label_file=args.labels, count=args.count, seed=args.seed
        )
        seen = collect(
            loaded.model, data.images, device=args.device, progress=clock(f"{name}, features")
        )
        yield loaded, at_features(loaded, data, seen, args.seed, args.device), data, seen


def _before(args: argparse.Namespace) -> tuple[Record, ...]:
    there = args.out and (Path(args.out) / "run.json").exists()
    return read_records(args.out) if there else ()


def keep(records: Iterable[Record], args: argparse.Namespace, command: str) -> None:
    """Print one line a record, and add them to the run folder where one is asked for."""
    records = list(records)
    if args.out:
        with Run.open(args.out, command, args.seed) as run:
            run.extend(records)
    for r in records:
        note = r.extra.get("note", "")
        number = "-" if r.value is None else f"{r.value:g} [{r.low:g}, {r.high:g}]"
        print(f"{r.model}\t{r.tap}\t{r.notion}\t{number}\t{note}")
