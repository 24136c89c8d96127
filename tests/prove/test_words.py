"""The chat of a bundle's manifest against its checkpoint's template: conversations too, where the manifest has them."""

import json
import shutil
from datetime import date

import pytest
from manifest_variants import demo_manifest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.chat import chat_affixes
from firsttoken.demo import checkpoint_path
from firsttoken.prove.words import missed_words
from firsttoken.tokenizer import Tokenizer


@pytest.fixture
def bundle(demo_bundle):
    folder = demo_bundle("tflite-xnnpack")
    return folder, read_manifest(folder).model_copy(deep=True)


def test_a_bundle_from_before_conversations_misses_nothing(bundle):
    folder, manifest = bundle
    assert missed_words(folder, manifest, checkpoint_path()) == []
    manifest.chat.conversation = None
    assert missed_words(folder, manifest, checkpoint_path()) == []


def test_a_conversation_that_is_written_otherwise_is_a_miss(bundle):
    folder, manifest = bundle
    manifest.chat.conversation.assistant_to_user = "another"
    [miss] = missed_words(folder, manifest, checkpoint_path())
    assert "several turns" in miss


def test_an_affix_that_is_another_is_a_miss(bundle):
    folder, manifest = bundle
    manifest.chat.suffix.text += "!"
    [miss] = missed_words(folder, manifest, checkpoint_path())
    assert "a user turn is written" in miss


def test_a_bundle_whose_template_prints_the_date_is_proven_on_any_later_day(tmp_path):
    template = "{{ 'Today is ' + strftime_now('%d %b %Y') + '\\n' }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    for name in ("tokenizer.json", "config.json", "generation_config.json"):
        shutil.copy(checkpoint_path() / name, tmp_path / name)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|im_end|>"}))
    tokenizer = Tokenizer(tmp_path)
    exported = chat_affixes(tmp_path, tokenizer, date(2024, 7, 26))
    manifest = demo_manifest().model_copy(update={"chat": exported, "tokenizer": tokenizer.facts()})
    assert exported.rendered_on == "2024-07-26" and missed_words(tmp_path, manifest, tmp_path) == []
    for day in ("2024-07-27", "2024-99-99", None):  # not the one in its text
        wrong = manifest.model_copy(update={"chat": exported.model_copy(update={"rendered_on": day})})
        assert any("a user turn is written" in miss for miss in missed_words(tmp_path, wrong, tmp_path))
    trimmed = manifest.model_copy(update={"chat": exported.model_copy(update={"trim": "both"})})
    assert any("a user turn is written" in miss for miss in missed_words(tmp_path, trimmed, tmp_path))
