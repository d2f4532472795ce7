"""``askonce invalidate``: Cache.invalidate, from a shell."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from askonce.cache.selector import select
from askonce.cli import place, say
from askonce.cli.labels import model_of, scope_of, tag_of
from askonce.cli.looking import looking_at
from askonce.cli.place import AsJson, Place, Prefix, Url
from askonce.cli.reading import request_in
from askonce.core.urls import without_password
from askonce.errors import UsageError
from askonce.gateway.short_keys import checked
from askonce.runtime.drive import drive

Keys = Annotated[
    list[str] | None, typer.Option("--key", metavar="KEY", help="An answer's key, or the digits that it begins with.")
]
RequestFile = Annotated[
    str | None,
    typer.Option(
        "--request", metavar="FILE", help="A JSON file with the request given to fetch(); - reads standard input."
    ),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="PATH", callback=scope_of, help="A scope and all scopes below it."),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", callback=tag_of, help="All answers with this tag.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", callback=model_of, help="All answers of this model.")
]
Everything = Annotated[bool, typer.Option("--everything", help="All answers of the prefix; asks for confirmation.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="With --request: its tenant.")]
Variant = Annotated[str | None, typer.Option("--variant", metavar="TEXT", help="With --request: its variant.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the live entries that would be invalidated.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

DIGITS = 19  # of a number that is a variant
WAYS = "--key, --request, --scope, --tag, --model or --everything"


def invalidate(
    url: Url = None,
    prefix: Prefix = None,
    key: Keys = None,
    request: RequestFile = None,
    scope: Scopes = None,
    tag: Tags = None,
    model: Models = None,
    everything: Everything = False,
    tenant: Tenant = None,
    variant: Variant = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Invalidate answers in every process at once.

    A lookup that starts afterwards does not get them. Give one kind of selector; --key, --scope, --tag and --model may
    be repeated. With --request, --scope is the scope of the request. The command takes as long for a million answers
    as for one. A --dry-run has to count them.
    """
    said = _said(key=key, request=request, scope=scope, tag=tag, model=model, everything=everything)
    arguments = _checked(said, tenant, variant)
    where = place.find_kept(url, prefix)
    if everything and not (yes or dry_run):
        _confirm(where)
    with looking_at(where) as view:
        done = drive(view.invalidate(arguments, dry_run=dry_run))
    # A request is named by its file; a key is whole.
    told = {**asdict(done), "aim": {**said, **{name: done.aim[name] for name in said if name == "key"}}}
    _tell(told, as_json=as_json)


def _said(**ways: Any) -> dict[str, Any]:
    return {name: value for name, value in ways.items() if value}


def _checked(said: dict[str, Any], tenant: str | None, variant: str | None) -> dict[str, Any]:
    """The arguments of Cache.invalidate; errors of the command line come before those of the store."""
    _check(said, tenant, variant)
    if "request" in said:
        scope = said.get("scope", [None])[0]
        return {
            "request": request_in(said["request"], "--request"),
            "scope": scope,
            "tenant": tenant,
            "variant": number(variant),
        }
    for word in said.get("key", ()):
        checked(word)
    if "key" not in said:
        select(**said)
    return dict(said)


def _check(said: dict[str, Any], tenant: str | None, variant: str | None) -> None:
    ways = said.keys() - ({"scope"} if "request" in said else set())
    if len(ways) != 1:
        raise UsageError(f"say what to invalidate, in one way: {WAYS}")
    if "request" not in said and (tenant is not None or variant is not None):
        raise UsageError("--tenant and --variant need --request: they are part of its key")
    if "request" in said and len(said.get("scope", ())) > 1:
        raise UsageError("with --request, give one --scope: the scope of the request")


def number(variant: str | None) -> int | str | None:
    """A variant as it is given in code."""
    # variant=2 and variant="2" are one variant, but 0 is none.
    whole = variant is not None and variant.isascii() and variant.isdecimal() and len(variant) < DIGITS
    return int(variant) if variant is not None and whole else variant


def _confirm(where: Place) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("--everything asks for confirmation, and standard input is not a terminal: add --yes")
    named = f'of the prefix "{where.prefix}"' if where.prefix else "without a prefix"
    typer.confirm(
        f"Invalidate all answers {named} at {without_password(where.url)} (named by {where.source})?", abort=True
    )


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say.as_json(told)
        return
    selector = "; ".join(name if value is True else f"{name} {_listed(value)}" for name, value in told["aim"].items())
    if told["dry_run"]:
        text = f"would reach {say.count(told['reached'], 'live entry', 'live entries')}: {selector}"
    else:
        text = f"invalidated in {say.time(told['seconds'])}: {selector}"
    say.sentence(text)


def _listed(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
