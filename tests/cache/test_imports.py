"""What `import askonce` costs, in a measure that does not depend on the machine: which modules it loads, and what it makes.

What only some programs need is imported when it is used, and never on the way of a lookup.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import typing

import pytest

import askonce
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern

MODULES = 155  # of askonce: each costs some tenths of a millisecond
DATACLASSES = 11  # each is made by generated code, and costs as much as ten plain classes
# Of the standard library, beside those that orjson and logging load: small ones that every lookup needs.
SMALL = frozenset(
    [
        "__future__",
        "base64",
        "binascii",
        "bisect",
        "contextvars",
        "fnmatch",
        "hashlib",
        "hmac",
        "math",
        "random",
        "struct",
        "typing",
        "unicodedata",
        "zlib",
    ]
)
LATE = (
    *("cli", "demo", "gateway", "http", "metrics", "otel", "recording", "testing", "pytest_plugin", "runtime.tasks"),
    *("store.memory", "store.sqlite", "store.redis", "store.inventory", "cache.savings", "cache.totals"),
    *("core.why", "core.savings", "core.headers", "core.differences", "core.field_names", "core.redact"),
    *("core.providers.operations", "core.providers.hosts", "engine.explaining"),
)

LOOK = """
import dataclasses, json, re, sys
import logging, orjson
before, made, compiled = set(sys.modules), [], []

def counted(real, names, of):
    def spy(*given, **more):
        names.append(of(given))
        return real(*given, **more)
    return spy

dataclasses._process_class = counted(dataclasses._process_class, made, lambda given: given[0].__module__)
re.compile = counted(re.compile, compiled, lambda given: sys._getframe(2).f_globals["__name__"])
import askonce
new = set(sys.modules) - before
print(json.dumps({"new": sorted(new), "made": made, "compiled": compiled}))
"""


@pytest.fixture(scope="module")
def loaded():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def ours(names):
    return [name for name in names if name.partition(".")[0] == "askonce"]


def test_an_import_loads_no_foreign_module_but_small_ones(loaded):
    others = {name.partition(".")[0] for name in loaded["new"]} - {"askonce"}
    assert {name for name in others if not name.startswith("_") or name == "__future__"} <= SMALL


def test_an_import_loads_nothing_that_only_some_programs_need(loaded):
    late = tuple(f"askonce.{name}" for name in LATE)
    assert [name for name in ours(loaded["new"]) if name.startswith(late)] == []
    assert len(ours(loaded["new"])) <= MODULES


def test_an_import_makes_few_dataclasses_and_compiles_no_pattern(loaded):
    assert len(ours(loaded["made"])) <= DATACLASSES
    assert ours(loaded["compiled"]) == []


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="typing compiles no annotations there")
def test_no_annotation_of_a_named_tuple_is_compiled_by_an_import(loaded):
    kinds = {
        one
        for name in ours(loaded["new"])
        for one in vars(sys.modules[name]).values()
        if isinstance(one, type) and issubclass(one, tuple) and one.__module__ == name
    }
    plain = [one for one in kinds if typing.Generic not in one.__mro__]
    assert len(plain) > 60
    assert {type(kind) for one in plain for kind in one.__annotations__.values()} == {str}


# --- the public names --------------------------------------------------------------------------------------------


def test_every_public_name_is_imported_listed_and_pickled_by_its_name():
    found: dict[str, object] = {}
    exec("from askonce import *", found)
    assert set(askonce.__all__) <= found.keys() & set(dir(askonce))
    for name in askonce.__all__:
        assert pickle.loads(pickle.dumps(found[name])) is getattr(askonce, name)


def test_the_annotations_that_others_read_are_resolved():
    # Containers of dependencies and frameworks read those of constructors, of functions and of values.
    for one in (
        *(askonce.Cache.__init__, askonce.AsyncCache.__init__, askonce.configure, askonce.get_or_set, askonce.carry),
        *(askonce.Cache.fetch, askonce.AsyncCache.fetch, askonce.Cache.scoped, askonce.Cache.invalidate),
        *(askonce.Policy, askonce.Event, askonce.Status, askonce.Outcome),
    ):
        assert typing.get_type_hints(one)


# --- a lookup imports nothing ------------------------------------------------------------------------------------

ASK = """
import sys
import askonce
cache = askonce.Cache(sys.argv[1])
before = set(sys.modules)
sys.meta_path.clear()  # as when Python ends: what is not imported now is not imported any more

def answer(**more):
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}

ANSWERS = [
    "text", {"own": 1}, answer(), answer(expires_at=9e9), answer(expires_at="2999-01-01T00:00:00Z"),
    answer(expires_at="Wed, 21 Oct 2999 07:28:00 GMT"), answer(expires_at="soon"),
    answer(url="https://a.example/x?Expires=9999999999&Signature=abc"), {"type": "message", "content": []},
]
QUESTIONS = [
    {"messages": []}, {"messages": [{"role": "user", "content": "a@b.example"}], "odd_field": {"a": 1}},
    {"input": "words", "model": "text-embedding-3-small"}, {"prompt": "words", "tools": [{"type": "web_search"}]},
]
for number, said in enumerate(ANSWERS):
    for question in QUESTIONS:
        for _ in range(2):
            assert cache.fetch({**question, "seed": number}, lambda: said).value == said
            list(cache.fetch_stream({**question, "user": number}, lambda: iter([said])))
cache.invalidate(tag="a")
cache.stats()
assert cache.stats()["hit"] > 10
cache.close()
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/a.db"], ids=["memory", "sqlite"])
def test_no_lookup_needs_an_import(url, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ASK, url.format(folder=tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


# --- what makes it cheap -----------------------------------------------------------------------------------------


def test_a_named_tuple_is_as_that_of_typing():
    body = """
class Both(NamedTuple):
    \"\"\"Two.\"\"\"

    one: int
    two: tuple[str, ...] = ()

    @property
    def double(self):
        return self.one * 2

    @classmethod
    def of(cls, one):
        return cls(one, ("of",))
"""
    made = []
    for maker in (NamedTuple, typing.NamedTuple):
        names = {"NamedTuple": maker, "__name__": __name__}
        exec(f"from __future__ import annotations\n{body}", names)
        made.append(names["Both"])
    mine, theirs = made
    for read in (
        *(lambda kind: kind(3).double, lambda kind: kind.of(3), lambda kind: repr(kind(1)), lambda kind: kind(1)[:]),
        *(lambda kind: kind._fields, lambda kind: kind._field_defaults, lambda kind: kind(1)._replace(two=("a",))),
        *(lambda kind: kind(1)._asdict(), typing.get_type_hints, lambda kind: kind.__match_args__),
        *(lambda kind: kind.__doc__, lambda kind: (kind.__name__, kind.__qualname__, kind.__module__)),
        *(lambda kind: kind.__bases__, lambda kind: hash(kind(1)), lambda kind: vars(kind).keys() - {"__orig_bases__"}),
    ):
        assert read(mine) == read(theirs)
    with pytest.raises(TypeError, match="missing"):
        mine()


@pytest.mark.parametrize("text", [r"(a+)-(\d)", rb"(a+)-(\d)"], ids=["text", "bytes"])
def test_a_pattern_is_compiled_when_it_is_used_and_matches_as_that_of_re(text, monkeypatch):
    import re

    compiled = []
    real = re.compile
    monkeypatch.setattr(re, "compile", lambda *given: compiled.append(given) or real(*given))
    late, now = pattern(text, re.IGNORECASE), real(text, re.IGNORECASE)
    assert compiled == []
    said = "x AA-1 aa-2" if isinstance(text, str) else b"x AA-1 aa-2"
    for method in ("findall", "split"):
        assert getattr(late, method)(said) == getattr(now, method)(said)
    assert late.search(said).groups() == now.search(said).groups()
    assert late.sub(said[:1], said) == now.sub(said[:1], said)
    assert [one.span() for one in late.finditer(said)] == [one.span() for one in now.finditer(said)]
    assert (late.match(said), late.fullmatch(said), late.pattern) == (None, None, text)
    assert len(compiled) == 1
    with pytest.raises(AttributeError):
        late.groupindex_of  # noqa: B018


def test_a_pattern_that_many_threads_use_first_matches_in_each(threads):
    late = pattern(r"\d+")
    found = [future.result(60) for future in [threads.start(lambda: late.findall("1 22")) for _ in range(8)]]
    assert found == [["1", "22"]] * 8
