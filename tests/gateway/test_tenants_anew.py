"""The file of tenants is read again by a reload: who is added, moved, or taken out, and a file with a mistake."""

from __future__ import annotations

from askonce.gateway.config import load
from askonce.gateway.tenant_file import digest_of
from tests.gateway.asking import Provider, ask, configured, told, was_hit
from tests.gateway.running import Running, Tap

TEXT = "[tenants]\nby = 'file'\nfile = 'tenants.txt'\n"


def test_a_reload_gives_and_takes_answers_by_the_file_as_it_is_now(tmp_path, caplog):
    names = tmp_path / "tenants.txt"

    def write(**tenants: str) -> None:
        names.write_text("".join(f"{digest_of(key.replace('_', '-'))} {name}\n" for key, name in tenants.items()))

    write(sk_a="red", sk_b="blue")
    with Tap(Provider()) as tap:
        config = configured(tmp_path, tap, TEXT)
        with Running(config, lambda: load(tmp_path / "askonce.toml")) as running:

            def reload() -> None:
                async def act() -> None:
                    running.server.reload()

                running.do(act())

            def ready(key: str) -> str:
                """What a key is told, once upstream has accepted it."""
                ask(running, key)
                again = ask(running, key)
                assert was_hit(again)
                return told(again)

            red, blue = ready("sk-a"), ready("sk-b")
            assert red != blue
            write(sk_a="red", sk_b="red")
            reload()
            assert told(ask(running, "sk-b")) == red, "moved: it was known already, and has the other answers now"
            write(sk_a="red")
            reload()
            assert told(ask(running, "sk-b")) not in {red, blue}, "taken out: it is a tenant of its own"
            names.write_text("sk-secret red\n")
            reload()
            assert told(ask(running, "sk-a")) == red, "a file with a mistake changes nothing"
    assert "the configuration is wrong, the one before stays in use" in caplog.text
    assert "sk-secret" not in caplog.text
