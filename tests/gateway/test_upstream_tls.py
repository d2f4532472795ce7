"""TLS to upstreams: the certificate that the gateway shows, and files that change while it runs."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from askonce.errors import ConfigError
from askonce.gateway.config import load
from askonce.gateway.serving import check
from tests.gateway.asking import ask, was_hit
from tests.gateway.running import Running, Tap
from tests.http.test_connection import certificate


def wants(own: str, *trusted: str) -> ssl.SSLContext:
    """The context of an upstream that wants one of these certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    for one in trusted:
        context.load_verify_locations(one)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def secure(tap: Tap) -> str:
    return tap.url.replace("http:", "https:")


def written(folder: Path, text: str) -> Path:
    path = folder / "askonce.toml"
    path.write_text(f"[server]\nport = 0\n[store]\nurl = 'memory://'\n{text}")
    return path


def upstream(tap: Tap, path: str, **files: str) -> str:
    lines = [f"[[upstream]]\nurl = '{secure(tap)}'\npath = '{path}'\n", *(f"{n} = '{v}'\n" for n, v in files.items())]
    return "".join(lines)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {name: certificate(folder, name) for name in ("upstream", "one", "two", "stranger")}


def test_an_upstream_gets_the_certificate_that_its_table_names_and_two_of_them_are_two_accounts(tmp_path, files):
    with Tap(context=wants(files["upstream"], files["one"], files["two"])) as tap:
        text = "".join(
            [
                upstream(tap, "/one", ca=files["upstream"], cert=files["one"]),
                upstream(tap, "/two", ca=files["upstream"], cert=files["two"], cert_key=files["two"]),
                upstream(tap, "/none", ca=files["upstream"]),
                upstream(tap, "/other", ca=files["upstream"], cert=files["stranger"]),
                upstream(tap, "/distrusts", ca=files["stranger"], cert=files["one"]),
            ]
        )
        with Running(load(written(tmp_path, text))) as running:
            first, *more = [ask(running, path=f"/{at}/v1/chat/completions") for at in ("one", "one", "two", "two")]
            refused = [
                ask(running, text="another", path=f"/{at}/v1/chat/completions") for at in ("none", "other", "distrusts")
            ]
    assert first.status_code == 200
    assert [was_hit(one) for one in more] == [True, False, True]
    assert [one.status_code for one in refused] == [502, 502, 502]
    assert "does not verify" in refused[2].text
    assert len(tap.heard) == 2


@pytest.mark.slow
def test_a_certificate_that_is_renewed_in_its_place_is_shown_after_a_reload(tmp_path, files):
    shown = tmp_path / "shown.pem"
    shutil.copy(files["one"], shown)
    with Tap(context=wants(files["upstream"], files["two"])) as tap:
        file = written(tmp_path, upstream(tap, "", ca=files["upstream"], cert="shown.pem"))
        with Running(load(file)) as running:
            assert ask(running).status_code == 502
            shutil.copy(files["two"], shown)
            assert ask(running).status_code == 502
            running.reload(load(file))
            assert ask(running).status_code == 200
            shown.write_text("no certificate")
            with pytest.raises(ConfigError, match=r"the certificate for .*shown\.pem"):
                running.reload(load(file))
            assert ask(running, text="another").status_code == 200


def test_files_of_tls_that_cannot_be_used_are_told_at_the_start(tmp_path, files):
    pem = Path(files["one"]).read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    locked = serialization.BestAvailableEncryption(b"a password")
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    cases = {
        "cert = 'absent.pem'": r"the certificate for https://a cannot be read from .*absent\.pem",
        f"cert = '{files['one']}'\ncert_key = '{files['two']}'": "KEY_VALUES_MISMATCH",
        f"cert = '{files['one']}'\ncert_key = 'locked.pem'": "is encrypted: decrypt it",
        f"cert_key = '{files['one']}'": "cert_key without cert",
        "ca = 'absent.pem'": "write the path of a PEM file",
    }
    for text, said in cases.items():
        with pytest.raises(ConfigError, match=said):
            check(load(written(tmp_path, f"[[upstream]]\nurl = 'https://a'\n{text}\n")))
    with pytest.raises(ConfigError, match="ca and cert for an upstream without TLS: write url = 'https"):
        load(written(tmp_path, "[[upstream]]\nurl = 'http://a'\nca = 'a'\ncert = 'b'\n"))
