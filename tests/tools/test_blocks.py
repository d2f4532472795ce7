"""The code blocks of the pages: found, named by page and line, run alone, or not run for a reason that the page says."""

import pytest

from tools import blocks

PAGE = """\
# Page

```python
import askonce
print(askonce.Cache)
```

<!-- not run: it needs a Cluster -->
```python
import no_such_module
```

```console
$ askonce demo
```

<!-- run: pytest -->
```python
import os
from openai import OpenAI

def test_it(askonce_cache):
    key = os.environ.get("OPENAI_API_KEY", "none")
    client = OpenAI(api_key=key, http_client=askonce_cache.http_client())
    asked = [{"role": "user", "content": "Hello"}]
    assert client.chat.completions.create(model="gpt-4.1-mini", messages=asked)
```
"""
FIRST, SECOND, TEST = blocks.of("page.md", PAGE)


@pytest.fixture(scope="module")
def around():
    with blocks.world() as around:
        yield around


def test_a_block_is_found_with_its_line_and_with_what_the_page_says_of_it():
    assert [str(block) for block in (FIRST, SECOND, TEST)] == ["page.md:3", "page.md:9", "page.md:18"]
    assert [(block.how, block.said) for block in (FIRST, SECOND, TEST)] == [
        ("", ""),
        ("not run", "it needs a Cluster"),
        ("run", "pytest"),
    ]


def test_every_fence_of_python_in_the_pages_is_found():
    pages = [blocks.ROOT / "README.md", *(blocks.ROOT / "docs").rglob("*.md")]
    texts = {page.relative_to(blocks.ROOT).as_posix(): page.read_text("utf-8") for page in pages}
    fences = sum(text.count("```python") for name, text in texts.items() if not name.startswith(blocks.HERE))
    assert len(blocks.blocks()) == fences > 25


def test_a_block_that_is_not_run_says_why():
    for block in blocks.blocks():
        assert block.how != "not run" or len(block.said.split()) >= 3, str(block)


def test_a_block_runs_and_one_that_fails_says_how(around):
    assert not blocks.run(FIRST, around)
    assert "no_such_module" in blocks.run(SECOND, around)


@pytest.mark.slow
def test_a_file_of_tests_is_recorded_and_then_run_without_a_key(around):
    assert not blocks.run(TEST, around)
    needs_key = TEST._replace(code=TEST.code.replace('.get("OPENAI_API_KEY", "none")', '["OPENAI_API_KEY"]'))
    assert "KeyError" in blocks.run(needs_key, around)
