"""What export makes of a chat template that cannot be written without Jinja: a bundle that says so, and a line while it works."""

import json
import shutil

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export

COUNTS_TURNS = "{% for m in messages %}[{{ messages | length }}] {{ m.content }}\n{% endfor %}>"


def test_the_reason_is_in_the_manifest_and_one_turn_goes_on(tmp_path):
    checkpoint, lines = shutil.copytree(checkpoint_path(), tmp_path / "odd"), []
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": COUNTS_TURNS}))
    [bundle] = export(checkpoint, tmp_path / "out", plan="int8", targets=("tflite-compat",), prove=False, say=lines.append)
    chat = read_manifest(bundle).chat
    assert chat.conversation is None and "otherwise" in chat.conversation_refused
    assert (chat.prefix.text, chat.suffix.text) == ("[1] ", "\n>")
    assert any("answer every question by itself" in line and chat.conversation_refused in line for line in lines)
