"""A gateway in place of a store: the same commands print the same, and errors say what to do."""

import contextlib
import io
import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from askonce import AsyncCache, Cache
from askonce.cli import remote
from askonce.runtime.drive import drive
from tests.gateway.mounted import OWN, SECRET, TOKEN, mounted
from tests.hosted import answering, served

STORY = [{"word": "once"}, {"word": "upon"}]


@pytest.fixture
def store(shared):
    with Cache(shared, prefix="llm") as cache:
        for number in range(6):
            scope = "support/triage" if number % 2 else "billing"
            answer = {"text": f"{SECRET} é {number}"}
            cache.fetch({"model": "m", "n": number}, lambda answer=answer: answer, scope=scope, tags=[f"doc:{number}"])
        list(cache.fetch_stream({"model": "s"}, lambda: iter(STORY)))
        cache.invalidate(tag="doc:5")
    return shared


@pytest.fixture
def gateway(store):
    with served(mounted(AsyncCache(store, prefix="llm"))) as url:
        yield url


@pytest.fixture
def shown(monkeypatch):
    """This environment has the token."""
    monkeypatch.setenv("ASKONCE_TOKEN", TOKEN)


def same(one, other):
    """Whether two outputs are the same but for the seconds that something took."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(name == "seconds" or same(one[name], other[name]) for name in one)
    return one == other


def columns(out):
    """The first two columns of each line: those that do not tell how much time is left."""
    return [line.split("\t")[:2] for line in out.splitlines()]


READS = [
    ("stats", "--json"),
    ("ls", "--json"),
    ("ls", "--json", "--dead", "--scope", "support"),
    ("ls", "--json", "--tag", "doc:2", "--model", "m"),
    ("ls", "--json", "--limit", "2"),
    ("ls", "--full"),
    ("savings", "--json"),
    ("savings", "--json", "--by", "model", "--days", "2"),
    ("savings", "--by", "scope"),
    ("flights", "--json"),
    ("flights",),
    ("invalidate", "--scope", "billing", "--scope", "x/y", "--dry-run", "--json"),
    ("invalidate", "--everything", "--dry-run", "--json"),
]


@pytest.mark.usefixtures("shown")
def test_a_command_prints_of_a_gateway_what_it_prints_of_its_store(askonce, store, gateway):
    for words in READS:
        of_store = askonce(*words, "--url", store, "--prefix", "llm")
        of_gateway = askonce(*words, "--url", gateway)
        assert (of_gateway.code, of_gateway.err) == (of_store.code, of_store.err), words
        if "--json" in words:
            assert same(json.loads(of_gateway.out), json.loads(of_store.out)), words
        else:
            assert columns(of_gateway.out) == columns(of_store.out), words


@pytest.mark.usefixtures("shown")
def test_show_prints_one_answer_in_every_form(askonce, store, gateway):
    for line in askonce("ls", "--url", gateway).out.splitlines()[1:]:
        key = line.split("\t")[0]
        for words in (("--json",), ("--raw",), ()):
            of_store = askonce("show", key[:10], "--url", store, "--prefix", "llm", *words)
            assert of_store.code == 0
            of_gateway = askonce("show", key[:10], "--url", gateway, *words)
            assert of_gateway.out.splitlines()[-1] == of_store.out.splitlines()[-1]
            assert len(of_gateway.out.splitlines()) == len(of_store.out.splitlines())


@pytest.mark.usefixtures("shown")
def test_invalidate_and_sweep_change_the_gateways_store(askonce, store, gateway, tmp_path):
    key = askonce("ls", "--url", gateway, "--tag", "doc:0").out.splitlines()[1].split("\t")[0]
    asked = tmp_path / "request.json"
    asked.write_text(json.dumps({"model": "m", "n": 2}))
    for aim in (("--key", key[:12]), ("--tag", "doc:1"), ("--request", str(asked), "--scope", "billing")):
        said = askonce("invalidate", *aim, "--url", gateway, "--json")
        assert said.code == 0, said.err
        assert json.loads(said.out)["reached"] is None
    # Two were deleted, as a key and a request are; one of those that are left was invalidated before.
    left = json.loads(askonce("stats", "--url", store, "--prefix", "llm", "--json").out)
    assert left["states"] == {"fresh": 3, "invalidated": 2}
    swept = askonce("sweep", "--url", gateway, "--json")
    assert json.loads(swept.out) == {"prefix": "llm", "met": 5, "deleted": 2, "old_prefixes": {}}


@pytest.mark.usefixtures("shown")
def test_errors_of_the_api_are_errors_of_the_command(askonce, gateway):
    wrong = [
        (("show", "zz"), 2, "has not the right form"),
        (("show", "0" * 64), 1, "no entry has the key"),
        (("invalidate", "--scope", "/a/"), 2, "empty part"),
        (("invalidate", "--key", "00000000"), 1, "no key begins with"),
        (("sweep", "--old-prefix", "old"), 2, "name its URL"),
        (("ls", "--prefix", "llm"), 2, "leave --prefix out"),
    ]
    for words, code, text in wrong:
        said = askonce(*words, "--url", gateway)
        assert (said.code, said.out) == (code, ""), words
        assert text in said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
class TestTokens:
    def test_without_one_the_error_says_where_it_is_looked_for(self, askonce, gateway):
        said = askonce("ls", "--url", gateway)
        assert said.code == 1
        assert "needs its admin token: set $ASKONCE_TOKEN" in said.err

    def test_a_wrong_one_is_named_by_its_source_and_not_repeated(self, askonce, gateway, monkeypatch, tmp_path):
        file = tmp_path / "token"
        file.write_text("another-token-of-somebody\n")
        for value, source in [("another-token-of-somebody", "$ASKONCE_TOKEN"), (f"file:{file}", str(file))]:
            monkeypatch.setenv("ASKONCE_TOKEN", value)
            said = askonce("ls", "--url", gateway)
            assert said.code == 1
            assert f"refuses the token of {source}" in said.err
            assert "another-token" not in said.err

    def test_it_may_be_in_a_file_or_in_the_gateways_own_variables(self, askonce, gateway, monkeypatch, tmp_path):
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n")
        for name, value in [
            ("ASKONCE_TOKEN", f"file:{file}"),
            ("ASKONCE_ADMIN_TOKEN", TOKEN),
            ("ASKONCE_ADMIN_TOKEN_FILE", str(file)),
        ]:
            monkeypatch.setenv(name, value)
            assert askonce("stats", "--url", gateway).code == 0
            monkeypatch.delenv(name)

    def test_a_file_that_cannot_be_read_or_is_empty_is_an_error(self, askonce, gateway, monkeypatch, tmp_path):
        (tmp_path / "empty").write_text("\n")
        for name, text in [("none", "cannot be read"), ("empty", "is empty"), ("", "cannot be read")]:
            monkeypatch.setenv("ASKONCE_TOKEN", f"file:{tmp_path / name}")
            said = askonce("ls", "--url", gateway)
            assert said.code == 2
            assert text in said.err

    def test_it_is_not_taken_from_the_address(self, askonce, gateway):
        said = askonce("ls", "--url", gateway.replace("http://", f"http://x:{TOKEN}@"))
        assert said.code == 2
        assert "set $ASKONCE_TOKEN instead" in said.err
        assert TOKEN not in said.err

    def test_a_token_that_no_header_may_have_is_refused_before_it_is_sent(self, askonce, gateway, monkeypatch):
        for token in ("two words of a token", "token\r\nx-injected: 1", "schlüssel-aus-vielen-zeichen"):
            monkeypatch.setenv("ASKONCE_TOKEN", token)
            assert askonce("ls", "--url", gateway).code == 2


NO_GATEWAYS = [
    (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", "is no gateway of askonce"),
    (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "is no gateway of askonce"),
    (b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n", "is no gateway of askonce"),
    (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", "is no gateway of askonce"),
    (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", "in another form"),
    (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n[1,2]", "in another form"),
    (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{", "broke off"),
    (b"-ERR unknown command\r\n", "what listens there is no gateway"),
    (b"", "what listens there is no gateway"),
    (b"\x15\x03\x01\x00\x02\x02\x46", "what listens there is no gateway"),
]


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(("reply", "text"), NO_GATEWAYS)
def test_what_is_no_gateway_is_told_in_one_line(askonce, reply, text):
    with answering(reply) as url:
        said = askonce("stats", "--url", url)
    assert (said.code, said.out) == (1, "")
    assert text in said.err
    assert said.err.count("\n") == 1


@pytest.mark.usefixtures("shown")
def test_an_address_where_nothing_answers_is_told_in_one_line(askonce, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(remote, "CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        monkeypatch.setattr(remote, "ASK", 0.2)
        wrong = {
            f"http://127.0.0.1:{port}": "nothing listens there",
            f"https://127.0.0.1:{port}": "nothing listens there",
            f"http://127.0.0.1:{silent.getsockname()[1]}": "does not answer in time",
            "http://no.such.host.invalid:80": "no address",
            "http://" + "x" * 70 + ".invalid": "no address",
            "http://": "write http://host:port",
            "http://127.0.0.1:port": "no valid port",
            "http://127.0.0.1:99999": "no valid port",
            "http://127.0.0.1/?a=1": "write http://host:port",
        }
        for url, text in wrong.items():
            said = askonce("ls", "--url", url)
            assert said.code in {1, 2}, url
            assert text in said.err, url
            assert said.err.count("\n") == 1


SLOW = ["stats", "ls", "savings", "top", "why", "flights", "sweep", "show", "invalidate", "doctor"]
WORDS = {"show": ["abc"], "top": ["--once"], "invalidate": ["--everything", "--yes"]}


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("how", ["silent", "trickles", "trickles its head", "hangs"])
def test_a_listener_that_never_ends_its_answer_ends_every_command_in_time(askonce, monkeypatch, how):
    monkeypatch.setattr(remote, "ASK", 0.1)
    with slow_listener(how) as url:
        for command in SLOW:
            said = askonce(command, *WORDS.get(command, []), "--url", url)
            assert said.code == 1
            told = "is no gateway of askonce" if (how, command) == ("hangs", "doctor") else "does not answer in time"
            assert re.search(f"{told}|does not answer in time", said.err + said.out)
            assert said.err.count("\n") == (command != "doctor")


@contextlib.contextmanager
def slow_listener(how: str) -> Iterator[str]:
    """What accepts requests: never answers, or answers with a byte now and then; or only its API does so."""
    over = threading.Event()

    def serve(caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            asked = caller.recv(65536)
            if how == "hangs" and b"/health" in asked:
                caller.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"status": "no"}')
                return
            if how == "trickles":
                caller.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
            while not over.wait(0.02):
                if how.startswith("trickles"):
                    caller.sendall(b"x")

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=serve, args=(listens.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listens:
        listens.settimeout(0.1)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listens.getsockname()[1]}"
        over.set()
        thread.join(10)


@pytest.mark.usefixtures("shown")
def test_a_walk_through_a_large_store_has_time_at_a_gateway_that_is_well(monkeypatch):
    asked: list[tuple[str, float | None]] = []

    def ask(
        self: remote.Gateway, method: str, path: str, body: object = None, limit: float | None = None
    ) -> remote.Reply:
        asked.append((path, limit))
        return remote.Reply(200, "application/json", b'{"status": "ok"}' if path == remote.HEALTH else b"[]")

    monkeypatch.setattr(remote.Gateway, "ask", ask)
    view = remote.GatewayView(remote.Gateway("http://127.0.0.1:1"))
    for _ in range(2):
        assert drive(view.flights()) == []
    walks = (f"{remote.API}/flights", remote.PATIENCE)
    assert asked == [(remote.HEALTH, None), walks, walks]


@pytest.mark.usefixtures("shown")
def test_a_gateway_without_tls_is_told_from_one_with_it(askonce):
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        said = askonce("ls", "--url", url.replace("http:", "https:"))
    assert said.code == 1
    assert "speaks no TLS" in said.err


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
class TestDoctor:
    def test_a_gateway_that_is_well_is_told_so(self, askonce, gateway, shown):
        said = askonce("doctor", "--url", gateway, "--json")
        told = json.loads(said.out)
        assert (said.code, told["ok"]) == (0, True)
        assert [one["name"] for one in told["checks"]] == [
            "askonce", "gateway", "reach", "ready", "admin", "store", "prefix",
        ]  # fmt: skip
        assert {one["state"] for one in told["checks"]} == {"ok"}

    def test_a_missing_token_is_bad_and_the_rest_is_still_told(self, askonce, gateway):
        said = askonce("doctor", "--url", gateway)
        assert said.code == 1
        assert "needs its admin token" in said.out

    def test_what_is_no_gateway_is_bad(self, askonce, store):
        with answering(NO_GATEWAYS[0][0]) as url:
            said = askonce("doctor", "--url", url)
        assert said.code == 1
        assert "is no gateway" in said.out

    def test_a_gateway_whose_store_is_away_is_bad_with_the_stores_remedy(self, askonce, shown, monkeypatch, store):
        monkeypatch.setitem(OWN, "/_askonce/ready", {"status": "uncached", "store": "store-refused"})
        with served(mounted(AsyncCache("memory://"))) as url:
            said = askonce("doctor", "--url", url)
        assert said.code == 1
        assert "calls go upstream uncached" in said.out
        assert "no server listens there" in said.out


@pytest.mark.usefixtures("shown")
def test_why_of_a_gateway_is_that_of_its_store(askonce, store, gateway, monkeypatch):
    keys = [line.split("\t")[0] for line in askonce("ls", "--dead", "--url", gateway).out.splitlines()[1:]]
    asked = json.dumps({"model": "m", "n": 3})
    http = ("--to", "https://api.openai.com/v1/chat/completions", "--header", "Authorization: Bearer sk-1")
    for words in (
        ("--limit", "3"), (keys[0],), (keys[-1][:12],), ("-",), ("-", "--scope", "billing", "--tag", "doc:2", "--stream"),
        ("-", *http), ("f" * 64,), ("-", "--model", "other", "--variant", "2", "--tenant", "t"),
    ):  # fmt: skip
        said = []
        for where in (("--url", store, "--prefix", "llm"), ("--url", gateway)):
            monkeypatch.setattr("sys.stdin", io.StringIO(asked))
            said.append(askonce("why", *words, "--json", *where))
        assert (said[0].code, said[0].err) == (said[1].code, said[1].err), words
        assert json.loads(said[0].out) == json.loads(said[1].out), words
