"""The configuration of a gateway: flags over environment variables over one TOML file.

`load` reads it and checks all of it before anything runs; everything that is wrong is one ConfigError, a line each.
It changes nothing, so a running gateway loads the file again and takes the result if there is one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from askonce.cache import files, sealing
from askonce.cache.config import VARIABLES
from askonce.cache.near import is_redis
from askonce.cache.pricing import OFF, pricer_of
from askonce.cache.stores import check_scheme
from askonce.core.policy import Policy
from askonce.errors import ConfigError
from askonce.gateway import toml_lines
from askonce.gateway.operator_rules import POLICY_WORDS, RULE_WORDS, Rule, rule_problem
from askonce.gateway.sections import Given, Problems, known_words, section, unknown
from askonce.gateway.settings import (
    SECTIONS,
    AdminConfig,
    GatewayConfig,
    LimitsConfig,
    LogConfig,
    PricesConfig,
    ServerConfig,
    StoreConfig,
    TenantsConfig,
    needless_problem,
    tenants_problem,
    token_problem,
)
from askonce.gateway.tenant_file import read_tenants, text_of
from askonce.gateway.upstreams import FILES as OF_UPSTREAM
from askonce.gateway.upstreams import Upstream, files_problem, parse, plain

__all__ = [
    "AdminConfig",
    "GatewayConfig",
    "LimitsConfig",
    "LogConfig",
    "PricesConfig",
    "Rule",
    "ServerConfig",
    "StoreConfig",
    "TenantsConfig",
    "Upstream",
    "load",
]

CONDITIONS = {"path", "model", "tenant"}  # of a rule, which holds for all without them
TABLES = ("upstream", "rule")  # arrays of tables
NEAR = VARIABLES["near"]
UPSTREAMS = "ASKONCE_UPSTREAM"  # one or several, with spaces between
FILE = "ASKONCE_CONFIG"

Sections = dict[str, dict[str, Given]]
Tables = dict[str, list[tuple[str, dict[str, Given]]]]


def load(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> GatewayConfig:
    """The configuration from a file, the environment and flags; a later one goes before an earlier one.

    `path`: None reads the file that $ASKONCE_CONFIG names, if it names one. `environ`: variables (None: none, not those
    of the process: pass ``os.environ``). `flags`: values by ``section.key``, as ``{"server.port": 8080}``, and
    ``"upstream"``, a list of ``URL`` or ``/path=URL`` (None: none; a value of None is not given). Reads files and
    nothing else. ConfigError with a line for each problem.
    """
    environ, flags, problems = environ or {}, flags or {}, Problems()
    sections: Sections = {name: {} for name in SECTIONS}
    tables: Tables = {name: [] for name in TABLES}
    environ = {name: said for name, text in environ.items() if (said := text.strip())}
    named = path or environ.get(FILE)
    base = Path(named).parent if named else Path()
    if named:
        _read_file(Path(named), sections, tables, problems)
    _read_environment(environ, sections, tables)
    _read_flags(flags, sections, tables)
    _place_files(sections, tables, base)
    config = GatewayConfig(
        upstreams=_upstreams(tables["upstream"], problems),
        rules=_rules(tables["rule"], problems),
        **{name: section(kind, sections[name], problems) for name, kind in SECTIONS.items()},
    )
    config = _completed(config, sections, problems)
    problems.raise_if_any()
    return config


def _read_file(path: Path, sections: Sections, tables: Tables, problems: Problems) -> None:
    """All that a TOML file gives, each with its line."""
    text = text_of(path)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        line = _LINE.search(str(wrong))
        at = f"{path}:{line[1]}" if line else str(path)
        raise ConfigError(f"{at}: is not valid TOML: {wrong}; put texts in quotes, and tables in [brackets]") from None
    lines = toml_lines.positions(text)

    def given(table: dict[str, object], *way: str | int) -> dict[str, Given]:
        return {word: Given(one, where(*way, word)) for word, one in table.items()}

    def where(*way: str | int) -> str:
        return f"{path}:{lines.get(way, 1)}"

    for name, value in found.items():
        if name in SECTIONS and isinstance(value, dict):
            sections[name] |= given(value, name)
        elif name in TABLES and isinstance(value, list) and all(isinstance(one, dict) for one in value):
            tables[name] += [(where(name, at), given(table, name, at)) for at, table in enumerate(value)]
        else:
            problems.add(where(name), _misplaced(name))


_LINE = re.compile(r"at line (\d+)")
FILES = (("admin", "token_file"), ("tenants", "file"), ("prices", "file"), ("store", "encryption"))


def _place_files(sections: Sections, tables: Tables, base: Path) -> None:
    """Make the names of files in a file relative to its folder; those of variables and flags stay as they are."""
    named = [(sections[name], word) for name, word in FILES]
    named += [(given, word) for _, given in tables["upstream"] for word in OF_UPSTREAM]
    for given, word in named:
        one = given.get(word)
        if one is not None and not one.text and isinstance(one.value, str):
            given[word] = one._replace(value=_placed(word, one.value, base))


def _placed(word: str, value: str, base: Path) -> str:
    """The value of a key that names a file; a ring of keys, and the word off, name none."""
    before = sealing.FILE if word == "encryption" else ""
    name = value.removeprefix(before).strip()
    if not name or not value.startswith(before) or (word == "file" and name == OFF):
        return value
    return f"{before}{base / Path(name).expanduser()}"


def _misplaced(name: str) -> str:
    if name in TABLES:
        return f"{name} is a list of tables: write [[{name}]]"
    if name in SECTIONS:
        return f"{name} is a table: write [{name}], and its keys below"
    homes = _homes()
    if name in homes:
        return f"{name!r} is unknown here: it belongs to {homes[name]}"
    return unknown(name, (*SECTIONS, *TABLES, *homes))


def _read_environment(environ: Mapping[str, str], sections: Sections, tables: Tables) -> None:
    for name, kind in SECTIONS.items():
        for one in fields(kind):
            variable = one.metadata["env"]
            if variable and environ.get(variable):
                sections[name][one.name] = Given(environ[variable], f"${variable}", text=True)
    if environ.get(UPSTREAMS):
        tables["upstream"] = [_given_upstream(text, f"${UPSTREAMS}") for text in environ[UPSTREAMS].split()]


def _read_flags(flags: Mapping[str, object], sections: Sections, tables: Tables) -> None:
    for name, value in flags.items():
        home, _, word = name.partition(".")
        if name == "upstream" and value:
            texts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            tables["upstream"] = [_given_upstream(text, "--upstream") for text in texts]
        elif value is not None and home in SECTIONS:
            one = next(one for one in fields(SECTIONS[home]) if one.name == word)
            shown = f"--{one.metadata['flag'] or word.replace('_', '-')}"
            sections[home][word] = Given(value, shown, text=isinstance(value, str))


def _given_upstream(text: str, where: str) -> tuple[str, dict[str, Given]]:
    path, url = parse(text)
    return where, {"path": Given(path, where), "url": Given(url, where)}


# --- checking ----------------------------------------------------------------------------------------------------


def _upstreams(tables: list[tuple[str, dict[str, Given]]], problems: Problems) -> tuple[Upstream, ...]:
    found: dict[str, Upstream] = {}
    for where, given in tables:
        _check_words(given, known_words(Upstream), problems)
        if "url" not in given:
            problems.add(where, "an upstream without url: write url = 'https://api.openai.com'")
            continue
        one = section(Upstream, given, problems)
        one = replace(one, path=plain(one.path), url=plain(one.url))
        if problem := files_problem(one):
            problems.add(where, problem)
        if one.path in found:
            problems.add(where, f"a second upstream for the path {one.path or '/'!r}: give each a path of its own")
        found[one.path] = one
    return tuple(found.values())


def _rules(tables: list[tuple[str, dict[str, Given]]], problems: Problems) -> tuple[Rule, ...]:
    made = []
    for where, given in tables:
        _check_words(given, (*RULE_WORDS, *POLICY_WORDS), problems)
        for word in CONDITIONS & given.keys():
            if given[word].value == [] or (given[word].value == "" and word != "path"):  # of a path, more is told
                problems.add(given[word].where, f"{word} is empty: leave it out if the rule holds for each {word}")
        rule = section(Rule, {word: one for word, one in given.items() if word in RULE_WORDS}, problems)
        rule = replace(rule, policy=_policy(where, given, problems))
        if problem := rule_problem(rule):
            problems.add(where, problem)
        made.append(rule)
    return tuple(made)


def _policy(where: str, given: Mapping[str, Given], problems: Problems) -> Policy:
    """The fields of a policy in a rule's table."""
    said: dict[str, Any] = {word: one.value for word, one in given.items() if word in POLICY_WORDS}
    for word in list(said):
        try:
            Policy(**{word: said[word]})
        except ConfigError as wrong:
            problems.add(given[word].where, wrong)
            del said[word]
    try:
        return Policy(**said)
    except ConfigError as wrong:  # two of them contradict each other
        problems.add(where, wrong)
        return Policy()


def _check_words(given: Mapping[str, Given], known: tuple[str, ...], problems: Problems, home: str = "") -> None:
    """Note the unknown words of a table."""
    for word, one in given.items():
        if word not in known:
            problems.add(one.where, unknown(word, known, _homes(home)))


def _homes(but: str = "") -> dict[str, str]:
    """The section of each key, of all sections but one."""
    return {word: f"[{name}]" for name, kind in SECTIONS.items() if name != but for word in known_words(kind)}


def _completed(config: GatewayConfig, given: Sections, problems: Problems) -> GatewayConfig:
    """The configuration with what its files say, and checked as a whole."""
    for name, kind in SECTIONS.items():
        _check_words(given[name], known_words(kind), problems, name)
    admin, tenants = config.admin, config.tenants
    for word, one in given["tenants"].items():
        if problem := needless_problem(tenants, word):
            problems.add(one.where, problem)
    if tenants.by == "credential" and any(rule.tenant for rule in config.rules):
        problems.add("[tenants]", "a rule names a tenant, and by = 'credential' knows no names: write header, or file")
    if admin.token_file and "token" in given["admin"]:
        problems.add(given["admin"]["token_file"].where, "token_file beside token: write one of them")
    elif admin.token_file:
        where = given["admin"]["token_file"].where
        admin = replace(admin, token=_read_token(Path(admin.token_file), where, problems))
    where = next((one.where for one in given["tenants"].values()), "[tenants]")
    names: dict[str, str] = {}
    if problem := tenants_problem(tenants):
        problems.add(where, problem)
    elif tenants.by == "file":
        try:
            names = read_tenants(Path(tenants.file))
        except ConfigError as wrong:
            problems.add_all(str(wrong))
    return replace(config, admin=admin, tenant_names=names, store=_store(config, given, problems))


def _store(config: GatewayConfig, given: Sections, problems: Problems) -> StoreConfig:
    """The section of the store. What no cache could be made with is noted with its place."""
    store = config.store
    checks = (
        ("store", "url", store.url, check_scheme),
        ("store", "encryption", store.encryption, sealing.find_keys),
        ("prices", "file", config.prices.file, pricer_of),
    )
    for home, word, value, check in checks:
        try:
            if value and word in given[home]:
                check(value)
        except ConfigError as wrong:
            problems.add(given[home][word].where, wrong)
    near = given["store"].get("near")
    # As for a Cache: a variable holds where the store can have a near cache, and a file or a flag means this store.
    unmeant = store.near and near is not None and near.where == f"${NEAR}" and not is_redis(store.url)
    return replace(store, near=None) if unmeant else store


def _read_token(path: Path, where: str, problems: Problems) -> str:
    try:
        token = files.text_of(path).strip()
    except (OSError, UnicodeDecodeError) as wrong:
        problems.add(
            where,
            f"token_file {str(path)!r} cannot be read: {getattr(wrong, 'strerror', None) or 'no UTF-8'}; name a file"
            " that holds the token",
        )
        return ""
    if problem := token_problem(token) or ("" if token else "is empty: write a token into it"):
        problems.add(where, f"token_file {str(path)!r}: {problem}")
    return token
