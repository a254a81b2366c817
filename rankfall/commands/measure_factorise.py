"""``rankfall measure factorise``: ranks of stored weights and inputs, and what factorising saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rankfall.measuring import LABELS, Asked, options


@click.command("factorise", context_settings={"help_option_names": ["-h", "--help"]})
@options
@LABELS
@click.option(
    "--loss", type=float, default=0.01, show_default=True,
    help="Accuracy that replacing one layer may cost.",
)  # fmt: skip
@click.option("--layers", metavar="NAME,...", help="Module paths; every linear and convolution.")
@click.option("--csv", "file", type=click.Path(dir_okay=False, path_type=Path), help="The table.")
def command(loss: float, layers: str | None, file: Path | None, **shared: Any) -> int:
    """Rank of each linear and convolution layer of MODEL, and parameters saved by factorising it.

    The saving is measured: the layer is replaced by its truncated SVD and the network classifies
    the labelled images again (the held-out digits for digits networks).
    """
    from empirical.factorise import measure, records, to_csv
    from empirical.runs import write_whole
    from rankfall.show import TerminalProgress, table

    asked = Asked(**shared)
    line = asked.line("factorise", loss=loss, layers=layers)
    loaded = asked.load()
    data = asked.data(loaded)
    with TerminalProgress() as progress:
        progress.start(f"{loaded.name} on {len(data.labels)} images", 1)
        found = measure(
            loaded.model, data.images, data.labels, loss=loss, device=asked.device,
            layers=None if layers is None else [n for n in layers.split(",") if n],
            progress=lambda done, total: progress.tell(f"layer {done} of {total}"),
        )  # fmt: skip
    rows = records(found, loaded, data, asked.seed)
    asked.keep(rows, line)
    if file is not None:
        write_whole(file.parent, file.name, to_csv(found).encode())
    if asked.as_json:
        for record in rows:
            click.echo(record.to_json())
        return 0
    saved = sum(layer.saved for layer in found)
    table(
        f"{loaded.name}: {saved} of {sum(x.parameters for x in found)} weights saved one layer at a "
        f"time, at most {loss:g} of the accuracy {found[0].accuracy_original:.1%} lost each"
        if found else f"{loaded.name}: no linear or convolution layer",
        ("layer", "weight", "exact", "1e-3", "inputs", "kept", "saved", "accuracy"),
        [
            (
                x.name, f"{x.groups}x{x.rows}x{x.columns}" if x.groups > 1
                else f"{x.rows}x{x.columns}",
                str(x.exact) if x.proved else f"{x.exact}?", str(x.relative_3),
                "-" if x.input_rank is None else str(x.input_rank), str(x.kept_rank),
                str(x.saved), f"{x.accuracy:.1%}",
            )
            for x in found
        ],
    )  # fmt: skip
    return 0
