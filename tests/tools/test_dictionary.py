"""What a dictionary is trained on: shapes of answers, and nothing of what was asked or said."""

from __future__ import annotations

import json
import random
import re

import pytest
import zstandard

from askonce.core.secrets import secret_name
from askonce.core.zstd import DICTIONARY
from tools.dictionary.__main__ import FOLDER, trained
from tools.dictionary.check import PIECE, found_of
from tools.dictionary.samples import Sample, recorded, rewritten, vocabulary

PRIVATE = [
    "the merger with Initech is in the spring",
    "the diagnosis of the patient is a secret",
    "the prototype is in the basement of the lab",
    "the lawsuit is settled in the autumn quietly",
    "the password of the vault is a swordfish",
]
SHIPPED = (FOLDER / f"{DICTIONARY}.zdict").read_bytes()


def samples(number: int = 200) -> list[Sample]:
    """Answers of five projects: all have the protocol's words, and each has texts and ids of its own."""
    made = []
    for at in range(number):
        project = f"project/{at % 5}"
        answer = {"object": "chat.completion", "id": f"chatcmpl-{at:032x}", "usage": {"total_tokens": 1000 + at},
                  "user": f"somebody-{at % 5}", "choices": [{"message": {"content": PRIVATE[at % 5]}}]}  # fmt: skip
        made.append(Sample(project, f"{project}/{at}", '{"status":200,"headers":[]}', json.dumps(answer)))
    return made


def test_a_rewritten_answer_has_its_shape_and_the_words_of_the_protocol_and_nothing_else():
    some = samples()
    words, chance = vocabulary(some), random.Random(1)
    for one in some:
        text = rewritten(one, words, chance).decode("latin-1")
        shape = re.sub(r'"[^"]*"|\d+', "_", one.text)
        assert re.sub(r'"[^"]*"|\d+', "_", text[text.index("}{") + 1 :]) == shape
        assert '"object": "chat.completion"' in text
        for private in ("Initech", "merger", "patient", "swordfish", "somebody-"):
            assert private not in text


def test_a_word_that_only_one_project_recorded_is_no_word_of_a_protocol():
    words = vocabulary(samples())
    assert {"object", "chat.completion", "usage"} <= words.protocol
    assert not {"somebody-0", "somebody-1", *PRIVATE} & words.protocol
    assert set(words.prose) == {"the", "is", "of", "in"} & set(words.prose)


def test_a_dictionary_with_a_piece_of_an_answer_is_found_out():
    some = samples()
    assert found_of(trained([one for one in some for _ in range(9)], 2048), some) == []
    assert found_of(b"..." + PRIVATE[0][:PIECE].encode() + b"...", some)
    assert found_of(b"..." + PRIVATE[0][: PIECE - 1].encode() + b"...", some) == []


def test_training_is_repeatable():
    some = [one for one in samples() for _ in range(9)]
    assert trained(some, 2048) == trained(some, 2048)


def test_the_dictionary_that_is_shipped_has_its_number_and_no_address_and_no_credential():
    assert zstandard.ZstdCompressionDict(SHIPPED).dict_id() == DICTIONARY
    text = SHIPPED.decode("latin-1")
    assert not re.search(r"[\w.]+@[\w-]+\.\w+|https?://|sk-[A-Za-z0-9]{8}|AKIA|Bearer ", text)
    assert not [name for name in re.findall(r'\["([a-z0-9-]+)","', text) if secret_name(name)]


@pytest.mark.slow
def test_the_dictionary_that_is_shipped_holds_no_piece_of_the_recorded_answers(corpus_dir):
    assert found_of(SHIPPED, recorded(corpus_dir / "dev.jsonl.gz")) == []
