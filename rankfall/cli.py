"""The command line; commands are imported when called, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from rankfall import __version__
from theory.errors import InputError, UnsupportedError

#: command name -> (module that defines ``command``, one line for ``--help``)
COMMANDS = {
    "verify": ("rankfall.commands.verify", "The main job on the embedded default."),
    "theory": ("rankfall.commands.theory", "Prove, refute, certify and audit rank statements."),
    "numeric": ("rankfall.commands.numeric", "Exact ranks and property checks."),
    "measure": ("rankfall.commands.measure", "One measurement of one model."),
    "validate": ("rankfall.commands.validate", "All measurements, the sandwich and the verdicts."),
    "report": ("rankfall.commands.report", "Turn a run folder into a page, plots and CSV."),
}


class LazyGroup(click.Group):
    """A click group whose commands are modules, imported only when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command ``cmd_name``, or None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rankfall")
def root() -> None:
    """What happens to rank when maps are composed: proved, checked exactly, and measured."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; bad input is exit status 2, an unsupported request 3."""
    try:
        status = root.main(args=argv, prog_name="rankfall", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UnsupportedError as error:
        click.echo(f"UNSUPPORTED: {error}", err=True)
        sys.exit(3)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; a run folder is kept and the next run continues it", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
