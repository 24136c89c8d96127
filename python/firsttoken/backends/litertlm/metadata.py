"""What LiteRT-LM is told about text: end tokens, the begin token, and a chat template that its conversations can render."""

from collections.abc import Sequence
from pathlib import Path

from firsttoken.chat import read_template
from firsttoken.tokenizer import Tokenizer

# A conversation gives a message's content as a text or as a list of parts; templates of checkpoints mostly know texts alone.
AS_TEXT = (
    "{%- set firsttoken = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is defined and message['content'] is not string and message['content'] is iterable"
    " and message['content'] is not mapping -%}"
    "{%- set part_texts = namespace(all='', only=true) -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part is mapping and part['type'] == 'text' -%}"
    "{%- set part_texts.all = part_texts.all ~ part['text'] -%}"
    "{%- else -%}{%- set part_texts.only = false -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set firsttoken.messages = firsttoken.messages + [dict(message, content=part_texts.all) if part_texts.only else message] -%}"
    "{%- else -%}"
    "{%- set firsttoken.messages = firsttoken.messages + [message] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = firsttoken.messages -%}"
)


def describe_words(folder: Path, cache_length: int, ends: Sequence[int]) -> bytes:
    """The serialized ``LlmMetadata`` of a checkpoint's tokenizer and template, for at most ``cache_length`` tokens and answers that end at ``ends``.

    Raises `FirstTokenError` for a tokenizer or template that cannot be read.
    """
    from litert_lm_builder.runtime.proto import llm_metadata_pb2, llm_model_type_pb2

    tokenizer = Tokenizer(folder)
    facts = tokenizer.facts()
    metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=cache_length)
    metadata.llm_model_type.CopyFrom(llm_model_type_pb2.LlmModelType(generic_model=llm_model_type_pb2.GenericModel()))
    for token in ends:  # as ids: a text is not always one token
        metadata.stop_tokens.add().token_ids.ids.append(token)
    if facts.begin is not None:
        metadata.start_token.token_ids.ids.append(facts.begin)
    template = read_template(folder, tokenizer.settings)
    if template is not None:
        metadata.jinja_prompt_template = AS_TEXT + template
    return metadata.SerializeToString(deterministic=True)
