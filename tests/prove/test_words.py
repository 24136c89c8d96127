"""The chat of a bundle's manifest against its checkpoint's template: conversations too, where the manifest has them."""

import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.prove.words import missed_words


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
