"""`make peers`: its driver, page and plots, with peers that need no environment; and one real peer (slow)."""

from __future__ import annotations

import ast
import json
import re
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench import machine
from bench.peers import __main__ as program
from bench.peers import environments, measures
from bench.peers.adapter import Place
from bench.peers.catalog import USES, Peer, Room, Use, chosen
from bench.peers.driver import running, statement
from bench.peers.environments import Environment, plain, ready
from bench.peers.measures import Bench, Extent, everything, killed, lookups, stampedes
from bench.peers.page import page, plots, worse
from bench.peers.upstream import Counted
from bench.workers import Failed

TINY = Extent(
    turns=1,
    hits=2,
    misses=2,
    entries=3,
    pause=0.0,
    rounds=1,
    imports=1,
    processes=2,
    callers=2,
    call=0.2,
    lost=0.3,
    limit=5.0,
)
HERE = Room("here", (), (), "import json", "a dict")
OURS = Peer("ours, nowhere", HERE, "nothing:Dict", "", "a dict | of this process")
OTHER = OURS._replace(name="other, nowhere", ours=OURS.name)
BROKEN = Peer("broken, nowhere", HERE, "nothing:Broken", OURS.name, "it never answers")
ABSENT = Peer("absent, nowhere", Room("absent", (), (), "", "absent"), "no:Peer", OURS.name, "it cannot be installed")
USE = Use("A dict", (OURS, OTHER, BROKEN, ABSENT))

pytestmark = pytest.mark.servers


def here(room: Room, _folder: Path) -> Environment:
    """Peers of the tests run in this Python, except the absent one."""
    if room is HERE:
        return Environment(sys.executable, 1_000, {"a dict": "1.0"})
    raise Failed("not installed: ERROR: no such library")


@pytest.fixture(autouse=True)
def _no_environments(monkeypatch):
    monkeypatch.setattr(measures, "ready", here)


def run_of(peers: measures.Notes, extent: Extent = TINY) -> dict[str, Any]:
    return {"facts": {"commit": "abc (dirty)"}, "extent": extent._asdict(), "peers": peers}


@pytest.fixture(scope="module")
def notes():
    """The notes of one small run of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "ready", here)
        return everything(Bench([USE], Path("unused"), TINY, lambda _: None))


def test_a_run_has_every_number_of_every_peer_that_works(notes):
    for peer in (OURS, OTHER):
        note = notes[peer.name]
        assert note["failed"] == {}
        assert {"hit", "miss", "memory", "import", "first", "stampede", "killed", "size", "versions"} <= note.keys()
        for size in measures.SIZES:
            assert 0 < note["hit"][size]["p50"] <= note["hit"][size]["p99"]
        assert note["hit"]["2 KB"]["of"] == 2


def test_calls_are_counted_by_the_upstream_a_dict_shares_nothing_between_processes(notes):
    # Two processes of two callers without a lock: each process pays at least once, at most for each of its callers.
    assert 2 <= notes[OURS.name]["stampede"]["paid"][0] <= 4
    assert notes[OURS.name]["stampede"]["seconds"] >= 0.2
    assert notes[OURS.name]["killed"]["paid"] > 2


def test_a_peer_that_fails_is_a_row_with_its_reason_and_the_others_go_on(notes):
    text = page(run_of(notes), [USE])

    assert "RuntimeError: it never answers gpt-4.1-mini" in notes[BROKEN.name]["failed"]["lookups"]
    assert "no caller had an answer: RuntimeError" in notes[BROKEN.name]["failed"]["stampede"]
    for reason in ("it never answers gpt-4.1-mini", "not installed: ERROR: no such library", "no caller had an answer"):
        assert re.search(rf"^\| (broken|absent), nowhere \| [^|]*{reason}", text, re.MULTILINE), reason


def test_every_table_of_the_page_is_rectangular_and_every_link_has_its_plot(notes):
    text = page(run_of(notes), [USE])

    assert "- commit: abc (dirty)" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert set(re.findall(r"\(peers/(\w+)\.svg\)", text)) == plots(run_of(notes), [USE]).keys()


def test_plots_are_well_formed_and_have_a_bar_for_each_number(notes):
    for name, plot in plots(run_of(notes), [USE]).items():
        found = ET.fromstring(plot)
        drawn = [one for one in found.iter("{http://www.w3.org/2000/svg}rect") if one.get("class") != "page"]
        assert {one.get("class") for one in drawn} == {"ours", "theirs"}, name
        assert len(drawn) == 2, name
        assert all(
            0 < float(one.get("x", "")) + float(one.get("width", "")) < float(found.get("width", "")) for one in drawn
        )
        assert "prefers-color-scheme:dark" in plot


def noted(hit: float, size: int = 5) -> dict[str, Any]:
    return {"failed": {}, "hit": {"2 KB": {"p50": hit, "p99": hit}}, "size": size}


def test_the_page_says_where_askonce_is_not_better():
    notes = {OURS.name: noted(10.0), OTHER.name: noted(8.0, 6), BROKEN.name: {"failed": {}}, ABSENT.name: noted(9.9)}

    assert worse([USE], notes).splitlines()[2:] == [
        "| ours, nowhere | hit, 2 KB, p50 | 10 us | other 8 us |",
        "| ours, nowhere | hit, 2 KB, p99 | 10 us | other 8 us |",
    ]
    assert worse([USE], {**notes, OTHER.name: noted(10.0)}) == "None."


def test_a_cache_that_answers_early_is_told_with_the_calls_it_paid():
    lost = {"failed": {}, "killed": {"paid": 2, "seconds": 7.0}}
    notes = {one.name: lost for one in USE.peers} | {OTHER.name: {**lost, "killed": {"paid": 11, "seconds": 3.0}}}

    assert "| 7.00 s (2 paid) | other 3.00 s (11 paid) |" in worse([USE], notes)


def test_a_lookup_of_a_stored_answer_that_was_paid_is_no_hit():
    use = Use("none", (OURS._replace(adapter="nothing:Threads"),))
    bench = Bench([use], Path("unused"), TINY, lambda _: None)
    bench.prepare()
    with bench.served() as upstream:
        lookups(bench, upstream)

    assert "lookups of stored answers were paid" in bench.notes[OURS.name]["failed"]["lookups"]


def test_a_worker_that_dies_or_is_silent_is_told_by_its_reason(tmp_path):
    with running(1, sys.executable, "nothing:Dict", Place("", str(tmp_path))) as (worker,), Counted() as upstream:
        worker.order("crowd", url=upstream.url(2_000, 30.0), name="slow", callers=1, at=0.0)
        with pytest.raises(Failed, match=r"no reply within 0\.1 s"):
            worker.reply(0.1)
        worker.kill()
        with pytest.raises(Failed, match="its process died"):
            worker.reply()
    with (
        pytest.raises(Failed, match="No module named"),
        running(1, sys.executable, "nosuch:Peer", Place("", str(tmp_path))),
    ):
        pass


def test_an_import_that_fails_says_why():
    assert statement(sys.executable, "import json") < 60
    with pytest.raises(Failed, match="No module named 'nosuch'"):
        statement(sys.executable, "import nosuch")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "x\nERROR: No matching distribution found for nosuch\nHINT: y",
            "ERROR: No matching distribution found for nosuch",
        ),
        ("WARNING: a\nlast https://registry.example/simple/x failed", "last ... failed"),
        ("OSError: '/home/someone/cache/x' is full", "OSError: ... is full"),
        ("", "without a word"),
    ],
)
def test_a_reason_names_no_address_and_no_folder_of_the_machine(said, shown):
    assert plain(said) == shown


def test_an_environment_is_made_once_for_what_it_needs(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(environments, "_made", lambda room, place: made.append(room) or _folder(place))
    one = Room("one", ("this",))

    assert (
        ready(one, tmp_path) == ready(one, tmp_path) == Environment(str(tmp_path / "one/bin/python"), 7, {"this": "1"})
    )
    assert len(made) == 1
    ready(one._replace(also=("that",)), tmp_path)
    assert len(made) == 2


def _folder(place: Path) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    return {"size": 7, "versions": {"this": "1"}}


def test_each_peer_stands_once_beside_an_askonce_of_its_own_use():
    peers = [peer for use in USES for peer in use.peers]

    assert len({peer.name for peer in peers}) == len(peers)
    for use in USES:
        first, *others = use.peers
        assert first.ours == ""
        assert {peer.ours for peer in others} == {first.name}
        assert {peer.store for peer in use.peers if peer.cache} == {first.store}


def test_each_adapter_is_in_the_file_that_the_catalog_names():
    # Read and not imported: the peers are not installed here.
    for peer in (peer for use in USES for peer in use.peers):
        module, _, name = peer.adapter.partition(":")
        tree = ast.parse((machine.ROOT / f"bench/peers/adapters/{module}.py").read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, peer.adapter


def test_named_peers_are_measured_beside_askonce_alone_and_an_unknown_one_is_refused():
    names = {peer.name for use in chosen(["diskcache"]) for peer in use.peers}

    assert names == {"askonce, SQLite", "diskcache, SQLite"}
    assert chosen([]) == USES
    with pytest.raises(ValueError, match=r"no peer is called nosuch; there are .*cashews"):
        chosen(["nosuch"])


def test_numbers_are_kept_only_of_a_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "NOTES", tmp_path / "peers.json")
    monkeypatch.setattr(machine, "uncommitted", lambda: " M src/askonce/cache.py")
    monkeypatch.setattr(program, "everything", lambda _: pytest.fail("it was measured"))

    with pytest.raises(SystemExit, match=r"(?s)dirty.*M src/askonce/cache.py.*Commit it"):
        program.main([])

    assert not program.NOTES.exists()


def test_a_whole_run_writes_notes_page_and_plots_and_the_page_can_be_made_again(tmp_path, monkeypatch, capsys):
    peers = {peer.name: noted(10.0) for use in USES for peer in use.peers}
    monkeypatch.setattr(program, "NOTES", tmp_path / "peers.json")
    monkeypatch.setattr(program, "PAGE", tmp_path / "peers.md")
    monkeypatch.setattr(machine, "uncommitted", str)
    monkeypatch.setattr(program, "everything", lambda _: peers)

    assert program.main([]) == 0
    text = program.PAGE.read_text()
    assert json.loads(program.NOTES.read_text())["peers"] == peers
    program.PAGE.unlink()
    assert program.main(["--page"]) == 0

    assert program.PAGE.read_text() == text
    assert (tmp_path / "peers" / "stampede.svg").exists()
    capsys.readouterr()


@pytest.mark.slow
def test_a_real_peer_is_installed_and_pays_once(tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "ready", ready)
    uses = [Use("SQLite", tuple(peer for use in chosen(["diskcache"]) for peer in use.peers if peer.ours))]
    bench = Bench(uses, tmp_path, TINY, lambda _: None)
    bench.prepare()
    with bench.served() as upstream:
        stampedes(bench, upstream)
        killed(bench, upstream)

    note = bench.notes["diskcache, SQLite"]
    assert note["versions"]["diskcache"] >= version("diskcache")[:1]
    assert note["size"] > 100_000
    assert note["stampede"]["paid"] == [1]
