"""``rankfall measure``: one measurement of one model; each is a module, imported when called."""

from __future__ import annotations

from importlib import import_module

import click

from theory.errors import UnsupportedError

#: measurement -> one line for ``--help``; the module is ``rankfall.commands.measure_NAME``
MEASUREMENTS = {
    "jacobian": "Rank of the Jacobian at every tap, exact or numerical.",
    "pca": "PCA dimension of the features around an image.",
    "classification": "Classification dimension of the final features.",
    "dependence": "Independence deficit of the logits.",
    "factorise": "Ranks of weights and inputs, and what factorising a layer saves.",
    "lyapunov": "Exponents of the Jacobian's singular values with depth.",
}


class LazyMeasurements(click.Group):
    """A group whose commands are imported only when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the paper."""
        return list(MEASUREMENTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``rankfall.commands.measure_NAME``, or None where no measurement has the name."""
        if cmd_name not in MEASUREMENTS:
            return None
        module = f"rankfall.commands.measure_{cmd_name}"
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise UnsupportedError(f"measure {cmd_name} is not part of this version") from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of measurements without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(MEASUREMENTS.items()))


@click.group(cls=LazyMeasurements, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """One measurement of one model: records, and a table on a terminal."""
