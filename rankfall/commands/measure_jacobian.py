"""``rankfall measure jacobian``: the Jacobian profile of a model on one or more images."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from theory.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from empirical.models import LoadedModel
    from empirical.profile import Profile
    from empirical.runs import Run

#: side of the patch in the paper
PATCH = 16
FIELDS = ("float32", "float64", "exact", "family", "architecture", "sandwich")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@click.command(name="jacobian", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--field", type=click.Choice(FIELDS), default="float64", show_default=True)
@click.option(
    "--estimator", type=click.Choice(["engine", "official"]), default="engine", show_default=True,
    help="official: reverse mode row by row, float32 J^T J (hours at 224).",
)  # fmt: skip
@click.option(
    "--patch", type=int, help="Side; 0 for all pixels; 16 by default, all of a smaller image."
)
@click.option("--at", metavar="ROW,COLUMN", help="Corner of the patch; centred by default.")
@click.option("--background", type=click.Choice(["image", "zero"]), default="image")
@click.option("--taps", metavar="PATH,...", help="Module paths; stem, blocks, pooled, logits.")
@click.option("--eps", metavar="E,...", default="1e-3,1.1920929e-07", show_default=True)
@click.option("--primes", type=click.IntRange(1, 16), default=3, show_default=True)
@click.option(
    "--images", metavar="NAME|FILE|DIR|DATASET",
    help="Embedded photograph, file, folder or timm data set; one embedded image by default.",
)  # fmt: skip
@click.option("--data-root", metavar="DIR", help="Folder of a timm data set.")
@click.option("--count", type=click.IntRange(1), help="Seeded choice of so many; all by default.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Local weights.")
@click.option("--random-weights", is_flag=True, help="Untrained weights drawn with --seed.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--memory", metavar="SIZE", help="Budget such as 3GB; directions go in blocks.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--out", type=click.Path(file_okay=False), help="Run folder, resumable.")
@click.option("--json", "as_json", is_flag=True, help="Records as JSON lines.")
def command(
    model: str,
    field: str,
    estimator: str,
    patch: int | None,
    at: str | None,
    background: str,
    taps: str | None,
    eps: str,
    primes: int,
    images: str | None,
    data_root: str | None,
    count: int | None,
    checkpoint: str | None,
    random_weights: bool,
    seed: int,
    memory: str | None,
    device: str,
    out: str | None,
    as_json: bool,
) -> int:
    """Rank of the Jacobian of MODEL along the pixels of a patch, at every tap."""
    import contextlib

    from empirical.data import pictures
    from empirical.images import pixel_hash
    from empirical.jacobian import jacobian_profile
    from empirical.machine import device_of
    from empirical.runs import Run
    from rankfall.show import load_shown

    options: dict[str, Any] = {
        "field": field,
        "patch": patch or None,
        "at": _pair(at),
        "background": background,
        "taps": [t for t in taps.split(",") if t] if taps else None,
        "eps": tuple(_number(e) for e in eps.split(",")),
        "primes": primes,
        "seed": seed,
        "memory": size_in_bytes(memory) if memory else None,
        "device": str(device_of(device)),
    }
    loaded = load_shown(model, checkpoint=checkpoint, random_weights=random_weights, seed=seed)
    if options["taps"] is None:
        options["taps"] = loaded.taps
    if patch is None:
        patch = PATCH if min(loaded.input_size[1:]) >= PATCH else 0
        options["patch"] = patch or None
    line = f"measure jacobian {model} --field {field} --patch {patch} --background {background}"
    line += f" --estimator {estimator}" if estimator != "engine" else ""
    line += f" --at {at or 'centre'} --taps {taps or 'default'} --eps {eps} --primes {primes}"
    with contextlib.ExitStack() as stack:
        run: Run | None = stack.enter_context(Run.open(out, line, seed)) if out else None
        asked = count if images else count or 1
        for name, tensor in pictures(loaded, images, asked, seed, root=data_root):
            image = pixel_hash(tensor)
            if run is not None and _done(run, image):
                continue
            with _progress(f"{loaded.name} on {name}") as tell:
                if estimator == "official":
                    profile = _official(loaded, tensor, options, tell)
                else:
                    profile = jacobian_profile(
                        loaded.model, tensor, name=loaded.name, weights=loaded.weights,
                        image_name=image, progress=tell, **options,
                    )  # fmt: skip
            profile = _labelled(profile, name)
            if run is not None:
                run.extend(profile.records)
                for tap, values in profile.spectra.items():
                    run.write_array(f"spectra/{image}-{tap}.npy", values)
                run.write(f"spectra/{image}.done", profile.title() + "\n")
            show(profile, as_json)
    return 0


def _official(loaded: LoadedModel, image: Tensor, options: dict[str, Any], tell: Any) -> Profile:
    """The official estimator's ranks as a profile without spectra of J."""
    import time

    from empirical.images import pixel_hash
    from empirical.official import jacobian_ranks, jacobian_records
    from empirical.profile import Profile
    from empirical.subject import Subject
    from empirical.taps import Tap, named_taps

    taps = options["taps"]
    if not all(isinstance(tap, Tap) for tap in taps):
        taps = named_taps(loaded.model, taps, loaded.input_size)
    started = time.perf_counter()
    asked = {key: options[key] for key in ("patch", "at", "background", "device")}
    found = jacobian_ranks(loaded.model, image, taps, progress=tell, **asked)
    subject = Subject(
        loaded.name, loaded.weights, pixel_hash(image), device=options["device"],
        seed=options["seed"],
    )  # fmt: skip
    seconds = time.perf_counter() - started
    settings = {key: options[key] for key in ("patch", "at", "background")}
    records = jacobian_records(found, taps, subject, seconds, settings)
    return Profile(records, {}, 0, seconds, ("the official estimator, for comparison",))


def show(profile: Profile, as_json: bool) -> None:
    """Records as JSON lines, a table on a terminal, or plain lines in a pipe."""
    if as_json:
        for record in profile.records:
            click.echo(record.to_json())
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(profile.table())
    else:
        click.echo(f"# {profile.title()}")
        for row in profile.lines():
            click.echo(row)
        for note in profile.notes:
            click.echo(f"# {note}")


def _labelled(profile: Profile, image: str) -> Profile:
    records = tuple(replace(r, extra={**r.extra, "image_name": image}) for r in profile.records)
    return replace(profile, records=records)


def _done(run: Run, image: str) -> bool:
    return (run.path / "spectra" / f"{image}.done").exists()


def _progress(title: str) -> Any:
    """A context that yields a function which shows the tap just done (on a terminal)."""
    import contextlib

    @contextlib.contextmanager
    def shown() -> Any:
        if not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console

        with Console(stderr=True).status(title) as status:
            yield lambda text: status.update(f"{title}: {text}")

    return shown()


def size_in_bytes(text: str) -> int:
    """Read ``3GB``, ``512MiB`` or a plain number of bytes.

    Raises:
        InputError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?)?B?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"cannot read the size {text!r}; write for example 3GB or 512MiB")
    return int(float(match[1]) * UNITS[(match[2] or "").upper()])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--eps takes numbers such as 1e-3, got {text!r}") from error


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if match is None:
        raise InputError(f"--at takes ROW,COLUMN such as 104,104, got {text!r}")
    return int(match[1]), int(match[2])
