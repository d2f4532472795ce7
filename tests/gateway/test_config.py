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
            "/askonce.toml:2: port = '8080' is not a whole number: write port = 1, without quotes",
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
