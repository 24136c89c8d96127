"""Tokens and chats side by side: the first difference, and which of transformers' two readings it is of."""

import pytest

from firsttoken.prove.witness_words import Said, missed_words

TEXTS, TOKENS = ["one text", "another"], [[1, 2, 3], [4]]
SAID = [Said("hi there", [5, 6]), Said(error="System role not supported")]
CHATS = [{"text": "hi there", "tokens": [5, 6]}, {"error": "TemplateError: System role not supported"}]
SAME = {"texts": TOKENS, "chats": CHATS, "written": TOKENS, "written_chats": CHATS, "tokenizer": "LlamaTokenizer"}


def test_both_alike():
    assert missed_words(TEXTS, TOKENS, SAID, SAME) == (None, None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"texts": [[1, 9, 3], [4]]}, "tokens: 'one text' is 3 tokens to firsttoken and 3 to transformers; at place 1 2 and 9"),
        ({"texts": [[1, 2, 3], [4, 7]]}, "tokens: 'another' is 1 tokens to firsttoken and 2 to transformers; at place 1 its end and 7"),
        ({"chats": None}, "chat: transformers finds no chat template"),
        (
            {"chats": [{"text": "hi, there", "tokens": [5, 6]}, CHATS[1]]},
            "chat: conversation 1 is written 'hi there' by firsttoken, but 'hi, there' by transformers, from character 2 on",
        ),
        (
            {"chats": [{"text": "hi there", "tokens": [5]}, CHATS[1]]},
            "tokens: conversation 1 is 2 tokens to firsttoken and 1 to transformers",
        ),
        (
            {"chats": [CHATS[0], CHATS[0]]},
            "chat: conversation 2 is refused (System role not supported) by firsttoken, but written by transformers",
        ),
        ({"chats": [CHATS[1], CHATS[1]]}, "chat: conversation 1 is written by firsttoken, but refused (TemplateError"),
    ],
)
def test_a_difference_is_named(answer, said):
    differing = {**SAME, **answer, "written": None, "written_chats": None}
    missed, remark = missed_words(TEXTS, TOKENS, SAID, differing)
    assert said in missed and remark is None
    also = {**SAME, **answer, "written": differing["texts"], "written_chats": differing["chats"]}
    assert missed_words(TEXTS, TOKENS, SAID, also) == (missed, None)


def test_a_tokenizer_that_transformers_builds_anew_is_only_remarked():
    missed, remark = missed_words(TEXTS, TOKENS, SAID, {**SAME, "texts": [[8], [4]]})
    assert missed is None and "as tokenizer.json is written; transformers' LlamaTokenizer builds a tokenizer of its own" in remark
