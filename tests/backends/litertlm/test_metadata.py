"""What LiteRT-LM is told: end tokens as ids, the begin token, and a template for contents of both forms."""

import json

import pytest
from fuzz.good_files import TEMPLATES, tokenizers
from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata
from tokenizers import Tokenizer as Engine
from tokenizers.processors import TemplateProcessing

from firsttoken.backends.litertlm.metadata import AS_TEXT, describe_words
from firsttoken.chat import read_template, render
from firsttoken.tokenizer import Tokenizer


def parts(messages):
    return [{**message, "content": [{"type": "text", "text": half} for half in halves(message["content"])]} for message in messages]


def halves(text):
    return [text[: len(text) // 2], text[len(text) // 2 :]]


@pytest.mark.parametrize("template", TEMPLATES)
def test_both_forms_of_content_render_as_the_checkpoints_own_template(template):
    settings = {"bos_token": "<s>", "eos_token": "</s>"}
    messages = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}, {"role": "user", "content": "four"}]
    wanted = render(template, messages, settings)
    assert "one two" in wanted
    assert render(AS_TEXT + template, messages, settings) == wanted
    assert render(AS_TEXT + template, parts(messages), settings) == wanted


def test_contents_that_are_no_texts_stay_the_templates_business():
    image = [{"role": "user", "content": [{"type": "image", "url": "u"}]}]
    assert render(AS_TEXT + "{{ messages[0].content[0].type }}", image, {}) == "image"


def test_the_demo_checkpoint(demo):
    found = LlmMetadata.FromString(describe_words(demo, 1280, Tokenizer(demo).facts().end))
    facts = Tokenizer(demo).facts()
    assert [stop.token_ids.ids[0] for stop in found.stop_tokens] == facts.end and facts.end
    assert found.max_num_tokens == 1280 and found.llm_model_type.WhichOneof("model_type") == "generic_model"
    assert found.jinja_prompt_template == AS_TEXT + read_template(demo, Tokenizer(demo).settings)


def test_a_begin_token_and_no_template(tmp_path):
    tokenizers(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    engine = Engine.from_file(str(tmp_path / "tokenizer.json"))
    engine.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", engine.token_to_id("<s>"))])
    engine.save(str(tmp_path / "tokenizer.json"))
    found, facts = LlmMetadata.FromString(describe_words(tmp_path, 64, [2])), Tokenizer(tmp_path).facts()
    assert [stop.token_ids.ids[0] for stop in found.stop_tokens] == [2]
    assert facts.begin is not None and list(found.start_token.token_ids.ids) == [facts.begin]
    assert not found.jinja_prompt_template
