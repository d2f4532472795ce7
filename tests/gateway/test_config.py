"""The configuration of a gateway: one file, the environment, flags; and what is said of a wrong one."""

from __future__ import annotations

import pytest

from askonce.errors import ConfigError
from askonce.gateway.config import load

WHOLE = """
[server]
host = "0.0.0.0"
port = 9000

[store]
url = "sqlite:////var/lib/askonce.db"
near = 0

[[upstream]]
path = "/openai/"
url = "https://api.openai.com/"

[[upstream]]
path = "/anthropic"
url = "https://api.anthropic.com"

[tenants]
by = "shared"
name = "team"

[admin]
token = "0123456789abcdef0123"

[[rule]]
ttl = 600

[[rule]]
path = "/openai/*"
model = ["gpt-4o*", "o3"]
mode = "off"
tags = ["doc:1"]
grace = 60
"""


def written(tmp_path, text):
    path = tmp_path / "askonce.toml"
    path.write_text(text, "utf-8")
    return path


def wrong(tmp_path, text, **more):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), **more)
    return str(caught.value).replace(str(tmp_path), "").splitlines()


def test_a_file_is_read_whole(tmp_path):
    config = load(written(tmp_path, WHOLE))
    assert (config.server.host, config.server.port, config.server.workers) == ("0.0.0.0", 9000, 1)
    assert [(one.path, one.url) for one in config.upstreams] == [
        ("/openai", "https://api.openai.com"),
        ("/anthropic", "https://api.anthropic.com"),
    ]
    assert [rule.policy.ttl for rule in config.rules] == [600, None]
    assert (config.rules[1].path, config.rules[1].model, config.rules[1].mode) == (
        ("/openai/*",),
        ("gpt-4o*", "o3"),
        "off",
    )
    assert config.rules[1].policy.grace == 60
    assert (config.tenants.by, config.tenants.name) == ("shared", "team")


def test_flags_go_before_the_environment_and_the_environment_before_the_file(tmp_path):
    path = written(tmp_path, "[server]\nport = 1\nworkers = 2\nhost = '10.0.0.1'\n")
    config = load(path, {"ASKONCE_PORT": "2", "ASKONCE_WORKERS": "3"}, {"server.port": 4, "server.host": None})
    assert (config.server.port, config.server.workers, config.server.host) == (4, 3, "10.0.0.1")


def test_upstreams_of_flags_replace_those_of_the_environment_and_of_the_file(tmp_path):
    path = written(tmp_path, "[[upstream]]\nurl = 'https://one.example'\n")
    environ = {"ASKONCE_UPSTREAM": "/a=https://two.example https://three.example:8443/v1/"}
    assert [(one.path, one.url) for one in load(path, environ).upstreams] == [
        ("/a", "https://two.example"),
        ("", "https://three.example:8443/v1"),
    ]
    config = load(path, environ, {"upstream": ["https://four.example"]})
    assert [one.url for one in config.upstreams] == ["https://four.example"]


def test_the_environment_can_name_the_file(tmp_path):
    path = written(tmp_path, "[server]\nport = 7\n")
    assert load(None, {"ASKONCE_CONFIG": str(path)}).server.port == 7


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[server]\n\nprot = 1", "/askonce.toml:3: 'prot' is unknown: write port"),
        ("[[rule]]\nttl = 1\n[[rule]]\nmodle = 'x'", "/askonce.toml:4: 'modle' is unknown: write model"),
        ("[sever]\nport = 1", "/askonce.toml:1: 'sever' is unknown: write server"),
        ("port = 1", "/askonce.toml:1: 'port' is unknown here: it belongs to [server]"),
        ("[server]\ntoken = 'x'", "/askonce.toml:2: 'token' is unknown here: it belongs to [admin]"),
        ("[rule]\nttl = 1", "/askonce.toml:1: rule is a list of tables: write [[rule]]"),
        ("[[server]]\nport = 1", "/askonce.toml:1: server is a table: write [server], and its keys below"),
        (
            "[server]\nport = '8080'",
            "/askonce.toml:2: port = '8080' is not a whole number: write port = 8181, without quotes",
        ),
        ("[server]\nport = 70000", "/askonce.toml:2: port = 70000: write a number from 0 to 65535"),
        (
            "[log]\nrequests = 'yes'",
            "/askonce.toml:2: requests = 'yes' is neither true nor false: write requests = true, without quotes",
        ),
        (
            "[tenants]\nby = 'team'",
            "/askonce.toml:2: by = 'team': write one of credential, header, file, shared",
        ),
    ],
)
def test_a_wrong_word_or_value_is_named_with_its_line_and_the_right_word(tmp_path, text, line):
    assert wrong(tmp_path, text) == [line]


SECRET = "sk-secret-0123456789"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[upstream]]\nurl = 'api.openai.com'", "2: url = 'api.openai.com' is no URL of http or https"),
        ("[[upstream]]\nurl = 'ftp://x'", "2: url = 'ftp://x' is no URL of http or https"),
        (
            "[[upstream]]\nurl = 'unix:/run/llm.sock'",
            "2: url = 'unix:/run/llm.sock': an upstream on a Unix socket cannot",
        ),
        (
            "[[upstream]]\nurl = 'http+unix://%2Frun%2Fllm.sock'",
            "an upstream on a Unix socket cannot be reached: let it",
        ),
        (
            "[server]\nhost = '/run/askonce.sock'",
            "2: host = '/run/askonce.sock': the gateway listens on no Unix socket",
        ),
        ("[server]\nhost = 'unix:/run/a.sock'", "listens on no Unix socket: write 127.0.0.1"),
        ("[[upstream]]\nurl = 'https://'", "2: url = 'https://' is no URL of http or https"),
        ("[[upstream]]\nurl = 'https://a b/'", "has characters that no plain URL has"),
        ("[[upstream]]\nurl = 'https://a/..'", "has characters that no plain URL has"),
        ("[[upstream]]\nurl = 'https://a:99999'", "2: url = no URL (Port out of range 0-65535)"),
        ("[[upstream]]\nurl = 'https://[::1'", "2: url = no URL (Invalid IPv6 URL)"),
        ("[[upstream]]\nurl = 'https://a?b=c'", "2: url = a URL with a query or a fragment"),
        (f"[[upstream]]\nurl = 'https://me:{SECRET}@a'", "2: url = a URL with a name or a password"),
        ("[[upstream]]\npath = '/a'", "1: an upstream without url"),
        ("[[upstream]]\nurl = 1", "2: url = 1 is not text"),
        ("[[upstream]]\nurl = 'https://a'\npath = 'a'", "3: path = 'a': begin the path with a slash, '/a'"),
        ("[[upstream]]\nurl = 'https://a'\npath = '/a/../b'", "is no plain path"),
        ("[[upstream]]\nurl = 'https://a'\npath = '/a%2f'", "is no plain path"),
        ("[[upstream]]\nurl = 'https://a'\npath = '//a'", "is no plain path"),
        ("[[upstream]]\nurl = 'https://a'\npath = '/_askonce/x'", "3: path = '/_askonce/x' belongs to the gateway"),
        (
            "[[upstream]]\nurl = 'https://a'\npath = '/a/'\n[[upstream]]\nurl = 'https://b'\npath = '/a'",
            "4: a second upstream for the path '/a'",
        ),
        ("[[upstream]]\nurl = 'https://a'\n[[upstream]]\nurl = 'https://b'\n", "3: a second upstream for the path '/'"),
        ("[admin]\ntoken = 'short'", "2: token = a token of 5 characters: write at least 16"),
        ("[admin]\ntoken = 'aaaaaaaaaaaaaaaaaaaaaaa'", "2: token = a token that is no random text"),
        (f"[admin]\ntoken = '{SECRET} {SECRET}'", "2: token = a token that is no random text"),
        (f"[admin]\ntoken = ['{SECRET}']", "2: token is no text: write it in quotes"),
        (f"[admin]\ntoken = '{SECRET}'\ntoken_file = 'x'", "3: token_file beside token"),
        ("[admin]\ntoken_file = 'nowhere'", "2: token_file"),
        ("[admin]\nbind = 'localhost'", "2: bind = 'localhost' is no IP address"),
        (f"[store]\nurl = ['redis://:{SECRET}@a']", "2: url is no text: write it in quotes"),
        ("[store]\nnear = '1 potato'", "2: near = '1 potato' is not a size"),
        ("[store]\nnear = 1000", "2: near = 1000: write at least '1MiB'"),
        ("[store]\nmode = 'auto'", "2: mode = 'auto': write one of on, off, refresh, only-if-cached"),
        ("[store]\ncompress = 'gzip'", "2: compress = 'gzip': write one of"),
        ("[limits]\nhead_timeout = '10s'", "2: head_timeout = '10s' is not a number of seconds"),
        ("[limits]\nhead_timeout = -1", "2: head_timeout = -1 is not a number of seconds"),
        ("[limits]\nhead_timeout = nan", "2: head_timeout = nan is not a number of seconds"),
        ("[limits]\nhead_timeout = inf", "2: head_timeout = inf is not a number of seconds"),
        ("[limits]\nhead_timeout = true", "2: head_timeout = True is not a number of seconds"),
        ("[limits]\nconcurrency = 1.5", "2: concurrency = 1.5 is not a whole number"),
        ("[tenants]\nby = 'file'", "2: by = 'file' needs file = 'tenants.txt'"),
        ("[tenants]\nby = 'file'\nfile = 'nowhere.txt'", "nowhere.txt: cannot be read"),
        ("[tenants]\nheader = 'x-team'", "2: header means something with by = 'header', and by is 'credential'"),
        ("[tenants]\nby = 'header'\nheader = 'X Team'", "3: header = 'X Team' is no name of a header"),
        ("[tenants]\nby = 'header'\nproxies = ['10.0.0.1/8']", "3: proxies = '10.0.0.1/8' is no network"),
        ("[tenants]\nby = 'shared'\nname = ''", "name = '' is no name of a tenant"),
        ("[tenants]\nby = 'shared'\nverify = false", "3: verify means something with by = 'header'"),
        ("[tenants]\nrecheck = 0", "2: recheck = 0.0: write a number from 1 to 86400"),
        ("[[rule]]\ntenant = 'red'", "[tenants]: a rule names a tenant"),
        ("[[rule]]\nttl = '1h'", "2: ttl='1h' is not a number"),
        ("[[rule]]\nttl = 60\nmax_age = 5", "1: max_age=5 contradicts ttl=60"),
        ("[[rule]]\ntool_calls = 'keep'", "2: tool_calls='keep': write one of"),
        ("[[rule]]\nmode = 'maybe'", "2: mode = 'maybe': write one of on, off, opt-in"),
        ("[[rule]]\npath = 'openai/*'", "1: path = 'openai/*' matches nothing: begin it with a slash"),
        ("[[rule]]\nmodel = ['']", "2: model = [''] is not a list of texts"),
        ("[[rule]]\nscope = 'a//b'", "1: scope 'a//b' has an empty part: write 'a/b'"),
        ("[[rule]]\nignore_fields = ['messages']", "1: ignore_fields: 'messages' leaves out 'messages'"),
        ("[[rule]]\nignore_fields = ['m*']", "1: ignore_fields: 'm*' leaves out 'model'"),
        ("[[rule]]\nignore_fields = ['a..b']", "1: ignore_fields: 'a..b' has an empty step"),
        ("[[rule]]\nignore_headers = ['authorization']", "1: ignore_headers: 'authorization' is a credential"),
        ("[[rule]]\nsame = ['a']", "1: same names one host"),
        ("[[rule]]\nsame = ['a', 'b']\nmodel = 'x'", "1: same cannot depend on a model"),
        ("[[rule]]\nsame = ['https://a', 'b']", "1: same_as: 'https://a' is not a host"),
        ("[[rule]]\nfold = ['vowels']", "1: fold=['vowels']: write any of"),
        ("a = ", ": is not valid TOML"),
        ("[server]\nport = 1\nport = 2", ": is not valid TOML"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_write_and_shows_no_secret(tmp_path, text, says):
    (line,) = wrong(tmp_path, text)
    assert says in line
    assert SECRET not in line


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path):
    text = "[server]\nport = 'x'\nhots = 1\n[[upstream]]\nurl = 'x'\n[[rule]]\nttl = -1\n[limits]\nhead = -5\n"
    lines = wrong(tmp_path, text)
    assert sorted(int(line.split(":")[1]) for line in lines) == [2, 3, 5, 7, 9]


@pytest.mark.parametrize(
    ("environ", "flags", "where"),
    [
        ({"ASKONCE_PORT": "http"}, {}, "$ASKONCE_PORT: port = 'http' is not a whole number"),
        ({"ASKONCE_LOG_REQUESTS": "maybe"}, {}, "$ASKONCE_LOG_REQUESTS: requests = 'maybe' is neither true nor false"),
        ({"ASKONCE_UPSTREAM": "/a=b"}, {}, "$ASKONCE_UPSTREAM: url = 'b' is no URL"),
        ({"ASKONCE_ADMIN_TOKEN": "x"}, {}, "$ASKONCE_ADMIN_TOKEN: token = a token of 1 characters"),
        ({}, {"server.port": -1}, "--port: port = -1: write a number from 0 to 65535"),
        ({}, {"upstream": ["x"]}, "--upstream: url = 'x' is no URL"),
        ({}, {"admin.bind": "x"}, "--admin-bind: bind = 'x' is no IP address"),
    ],
)
def test_a_wrong_variable_or_flag_is_named(environ, flags, where):
    with pytest.raises(ConfigError) as caught:
        load(None, environ, flags)
    assert str(caught.value).startswith(where)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml: cannot be read \(it is not UTF-8\)"):
        load(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (SECRET, "1: the line does not begin with a digest"),
        ("0" * 63 + " red", "1: the line does not begin with a digest"),
        ("0" * 64, "1: a digest without a name"),
        (f"{'0' * 64} red\n# x\n{'0' * 64} blue", "3: a digest that another line gives to another tenant"),
        (f"{'0' * 64} {'1' * 64}", "1: a digest in place of a name"),
        (f"{'0' * 64} {'n' * 101}", "is no name of a tenant"),
    ],
)
def test_a_wrong_line_of_the_file_of_tenants_is_named_and_shows_no_credential(tmp_path, line, says):
    (tmp_path / "tenants.txt").write_text(line)
    (found,) = wrong(tmp_path, "[tenants]\nby = 'file'\nfile = 'tenants.txt'")
    assert says in found
    assert SECRET not in found
    assert "0" * 64 not in found


def test_files_that_a_configuration_names_are_beside_it(tmp_path):
    (tmp_path / "tenants.txt").write_text(f"# the keys\n{'AB' * 32}   red team \n\n{'0' * 64} blue\n")
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "p.json").write_text('{"models": {}}')
    text = "[tenants]\nby = 'file'\nfile = 'tenants.txt'\n[admin]\ntoken_file = 'token'\n[prices]\nfile = 'p.json'\n"
    path = written(tmp_path, text + "[[upstream]]\nurl = 'https://a'\nca = 'ca.pem'\n")
    config = load(path)
    assert (config.upstreams[0].ca, config.prices.file) == (str(tmp_path / "ca.pem"), str(tmp_path / "p.json"))
    with pytest.raises(ConfigError, match=r"\$ASKONCE_ADMIN_TOKEN_FILE: token_file 'token' cannot be read"):
        load(written(tmp_path, ""), {"ASKONCE_ADMIN_TOKEN_FILE": "token"})
    assert config.tenant_names == {"ab" * 32: "red team", "0" * 64: "blue"}
    assert config.admin.token == SECRET
    assert SECRET not in repr(config)


def test_loading_changes_nothing_and_gives_the_same_again(tmp_path):
    path = written(tmp_path, WHOLE)
    assert load(path, {"ASKONCE_PORT": "1"}) == load(path, {"ASKONCE_PORT": "1"})
    assert load() == load(None, {}, {})
