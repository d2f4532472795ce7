"""The list of commands, and the handling of their errors.

A wrong command line ends in one line and the exit code 2, an unreachable store in one line and 1. Only a bug of askonce
shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from askonce import __version__
from askonce.cli import mistakes, remedies, say
from askonce.cli.dashboard import dashboard
from askonce.cli.demo import demo
from askonce.cli.digest import digest
from askonce.cli.doctor import doctor
from askonce.cli.flights import flights
from askonce.cli.invalidate import invalidate
from askonce.cli.ls import ls
from askonce.cli.output import ReaderLeft, discard, quietly
from askonce.cli.parsing import StrictCommand, StrictGroup
from askonce.cli.ring import keys
from askonce.cli.savings import savings
from askonce.cli.serve import serve
from askonce.cli.show import show
from askonce.cli.stats import stats
from askonce.cli.sweep import sweep
from askonce.cli.top import top
from askonce.cli.why import why
from askonce.errors import AskonceError, ConfigError, RequestError, UsageError
from askonce.store import StoreTrouble

# What typer raises for a wrong command line is click's. Of late it carries click along, under a private name.
_ClickError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    cls=StrictGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"askonce {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _askonce(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """A response cache for LLM calls: ask once, and every process gets the answer."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


EXAMPLES: dict[Callable[..., Any], str] = {
    serve: "askonce serve --upstream https://api.openai.com --workers 2",
    demo: "askonce demo --url redis://localhost:6379/0",
    doctor: "askonce doctor --url redis://localhost:6379/0 --prefix llm:v3",
    stats: "askonce stats --prefix llm:v3 --json",
    savings: "askonce savings --by model --days 7",
    ls: "askonce ls --scope support",
    show: "askonce show df606bd11b1d",
    top: "askonce top --every 5",
    dashboard: "askonce dashboard --url redis://localhost:6379/0 --open",
    why: "askonce why df606bd11b1d",
    flights: "askonce flights --url http://127.0.0.1:8181",
    invalidate: "askonce invalidate --scope support/triage --dry-run",
    sweep: "askonce sweep --old-prefix llm:v3",
    digest: "askonce digest --tenant red < key.txt >> tenants.txt",
    keys: "askonce keys --file /etc/askonce.keys",
}
for command, example in EXAMPLES.items():
    # Without it the list of commands cuts their first sentences in a narrow terminal.
    summary = (command.__doc__ or "").partition("\n")[0]
    app.command(cls=StrictCommand, epilog=f"Example: {example}", short_help=summary)(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; its exit code."""
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="askonce", standalone_mode=False)
    except ReaderLeft:
        discard()
        return 0
    except _ClickError as error:
        return _failed(mistakes.told(error, sys.argv[1:] if arguments is None else arguments), 2)
    except (ConfigError, RequestError, UsageError) as error:
        return _failed(error, 2)
    except (AskonceError, StoreTrouble) as error:
        return _failed(remedies.with_remedy(error), 1)
    except typer.Abort:
        return _failed("stopped: nothing was done", 1)
    return code if isinstance(code, int) else 0


def _failed(what: object, code: int) -> int:
    quietly(lambda: say.error(what))
    return code
