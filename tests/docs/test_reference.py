"""The tables of the reference have every option, and no other; every public name says what it is."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import askonce
import askonce.testing
from askonce.cache.opened import OpenedCache
from askonce.cache.options import CALL_OPTIONS
from askonce.cache.streams import AsyncStream, Stream
from askonce.core.policy import Policy, resolve
from askonce.core.rules import RULE_WORDS

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = (DOCS / "reference" / "options.md").read_text("utf-8")


def rows(title):
    table = re.search(rf"<!-- {title}: checked by [^>]*-->\n(.*?)<!-- end -->", OPTIONS, re.DOTALL)[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    found = {name.strip("`"): rest for name, *rest in cells}
    assert len(found) == len(cells), "each has one row"
    return found


def test_every_option_of_a_cache_is_in_the_reference_with_its_default():
    signature = inspect.signature(OpenedCache.__init__).parameters
    named = {name: one for name, one in signature.items() if name not in {"self", "more"}}
    assert rows("options of Cache").keys() == named.keys()
    for name, (default, _) in rows("options of Cache").items():
        said = named[name].default
        assert said in {None, ""} or default.strip("`") == str(said), name
    assert all(f"`{word}`" in OPTIONS for word in RULE_WORDS)


def test_every_field_of_a_policy_is_in_the_reference_with_its_default():
    terms = resolve()
    assert list(rows("fields of Policy")) == [field.name for field in fields(Policy)]
    for name, (default, _) in rows("fields of Policy").items():
        said, built_in = default.strip("`"), getattr(terms, name)
        shown = {"ttl / 4": terms.ttl / 4, "ttl / 24": terms.ttl / 24, "ttl": terms.ttl, "7 ttl": terms.ttl * 7}
        right = shown.get(said, 8 * 2**20 if said == "8 MiB" else said)
        assert str(right) == str(built_in) or float(right) == built_in, name


def test_every_option_of_a_call_is_in_the_reference():
    assert rows("options of a call").keys() == CALL_OPTIONS


def test_every_error_is_in_the_reference_with_what_to_do():
    page = (DOCS / "reference" / "errors.md").read_text("utf-8")
    for name in askonce.__all__:
        one = getattr(askonce, name)
        if inspect.isclass(one) and issubclass(one, Exception):
            assert f"autoexception:: askonce.{name}\n" in page
            assert name == "AskonceError" or f"| `{name}` |" in page


PUBLIC = [getattr(askonce, name) for name in askonce.__all__] + [Stream, AsyncStream]
MEMBERS = [
    pytest.param(member, id=f"{one.__name__}.{name}")
    for one in PUBLIC
    if inspect.isclass(one)
    for name, member in inspect.getmembers(one, inspect.isroutine)
    if not name.startswith("_") and getattr(member, "__module__", "").startswith("askonce")
]


API = (DOCS / "reference" / "api.md").read_text("utf-8")
ERRORS = (DOCS / "reference" / "errors.md").read_text("utf-8")


@pytest.mark.parametrize("module", [askonce, askonce.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module):
    shown = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", API + ERRORS, re.MULTILINE))
    called = {
        name for name in module.__all__ if inspect.isroutine(one := getattr(module, name)) or inspect.isclass(one)
    }
    assert {f"{module.__name__}.{name}" for name in called} - shown == set()
    assert len(called) > 12


@pytest.mark.parametrize("kind", [askonce.Cache, askonce.AsyncCache])
def test_the_reference_has_every_method_of_a_cache_and_none_that_is_not_public(kind):
    (members,) = re.findall(rf":: askonce\.{kind.__name__}\n   :members: (.*)", API)
    # What an editor completes: it reads classes, so no __dir__ can hide a name from it.
    assert kind.__dir__ is object.__dir__
    written = {name for one in kind.__mro__ for name in (*vars(one), *inspect.get_annotations(one))}
    assert sorted(members.split(", ")) == sorted(name for name in written if not name.startswith("_"))
    assert sorted(members.split(", ")) == [name for name in dir(kind("memory://")) if not name.startswith("_")]


@pytest.mark.parametrize("member", [*PUBLIC, *MEMBERS])
def test_every_public_name_has_a_docstring(member):
    assert inspect.getdoc(member)


def test_every_page_is_in_the_site():
    index = (DOCS / "index.md").read_text("utf-8") + (DOCS / "recipes" / "index.md").read_text("utf-8")
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.MULTILINE), page.name


def test_what_a_page_writes_as_an_attribute_of_askonce_is_one_without_another_import():
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    written = {name for page in pages for name in re.findall(r"`(askonce\.[\w.]+)\(", page.read_text("utf-8"))}
    assert {"askonce.metrics.prometheus", "askonce.otel.instrument", "askonce.configure"} <= written
    program = f"import askonce; print({', '.join(sorted(written))})"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    with pytest.raises(AttributeError, match="metric"):
        getattr(askonce, "metric")  # noqa: B009 - mypy finds it too
