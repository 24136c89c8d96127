"""Chat templates that write what the families' own write (their formats, in words of ours), for conversations of several turns.

``TEMPLATES``: those that can be written without Jinja. ``INEXPRESSIBLE``: those that cannot, each with a word of the reason.
"""

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML_TURN = "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
ASSISTANT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

TEMPLATES = {
    "llama3": (
        "{% for m in messages %}{% set turn = '<|start_header_id|>' ~ m['role'] ~ '<|end_header_id|>\\n\\n' ~ m['content'] | trim ~ '<|eot_id|>' %}"
        "{{ bos_token ~ turn if loop.first else turn }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "llama3.1": (
        "{{- bos_token }}{%- if messages[0].role == 'system' %}{%- set said = messages[0].content | trim %}{%- set rest = messages[1:] %}"
        "{%- else %}{%- set said = '' %}{%- set rest = messages %}{%- endif %}"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' ~ said ~ '<|eot_id|>' }}"
        "{%- for m in rest %}{{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ m.content | trim ~ '<|eot_id|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set said = messages[0]['content'] %}{% else %}{% set rest = messages %}"
        "{% set said = false %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if loop.index0 == 0 and said is not false %}{% set content = '<<SYS>>\\n' ~ said ~ '\\n<</SYS>>\\n\\n' ~ m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}"
        "{% if m['role'] == 'user' %}{{ bos_token ~ '[INST] ' ~ content ~ ' [/INST]' }}{% else %}{{ ' ' ~ content.strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"
    ),
    "qwen2.5": (
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}{%- else %}"
        "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
        "{%- for m in messages %}{%- if m.role != 'system' or not loop.first %}" + CHATML_TURN + "{%- endif %}{%- endfor %}" + ASSISTANT
    ),
    "qwen3": (
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
        "{%- set found = namespace(searching=true, last=messages | length - 1) %}{%- for m in messages[::-1] %}{%- set place = messages | length - 1 - loop.index0 %}"
        "{%- if found.searching and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}"
        "{%- set found.searching = false %}{%- set found.last = place %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{%- set content = m.content %}{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}" + CHATML_TURN + ""
        "{%- elif m.role == 'assistant' %}{%- set thought = '' %}{%- if '</think>' in content %}"
        "{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
        "{%- if loop.index0 > found.last and (loop.last or thought) %}"
        "{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}"
        "{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
    ),
    "deepseek-r1": (
        "{% set ns = namespace(said='') %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.said = m['content'] %}{% endif %}{% endfor %}"
        "{{ bos_token }}{{ ns.said }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% endif %}"
        "{% if m['role'] == 'assistant' and m['content'] is not none %}{% set content = m['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
    ),
    "gemma2": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' ~ ('model' if m['role'] == 'assistant' else m['role']) ~ '\\n' ~ m['content'] | trim ~ '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "gemma3": (
        "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set begun = messages[0]['content'] ~ '\\n\\n' -%}{%- set rest = messages[1:] -%}{%- else -%}"
        "{%- set begun = '' -%}{%- set rest = messages -%}{%- endif -%}{%- for m in rest -%}"
        "{{ '<start_of_turn>' ~ ('model' if m['role'] == 'assistant' else m['role']) ~ '\\n' ~ (begun if loop.first else '') }}{{ m['content'] | trim }}{{ '<end_of_turn>\\n' }}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
    ),
    "mistral-v0.3": (
        "{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}"
        "{{- bos_token }}{%- for m in rest %}{%- if m['role'] == 'user' %}{%- if loop.last and said is defined %}{{- '[INST] ' + said + '\\n\\n' + m['content'] + '[/INST]' }}"
        "{%- else %}{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}{{- ' ' + m['content'] | trim + eos_token }}{%- endif %}{%- endfor %}"
    ),
    "phi3": (
        "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\\n' ~ m['content'] ~ '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "smollm2": (
        "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}" + CHATML_TURN + "{% endfor %}" + ASSISTANT
    ),
    "granite3": (
        "{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] %}{%- set rest = messages[1:] %}{%- else %}"
        "{%- set said = \"Knowledge Cutoff Date: April 2024.\\nToday's Date: \" ~ strftime_now('%B %d, %Y') ~ '.\\nYou are Granite, developed by IBM.' %}{%- set rest = messages %}{%- endif %}"
        "{{- '<|start_of_role|>system<|end_of_role|>' ~ said ~ '<|end_of_text|>\\n' }}"
        "{%- for m in rest %}{{- '<|start_of_role|>' ~ m['role'] ~ '<|end_of_role|>' ~ m['content'] ~ '<|end_of_text|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
    ),
    "seed-oss, turns joined": "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ eos_token }}{% endfor %}{{ bos_token ~ 'assistant: ' if add_generation_prompt }}",
}  # fmt: skip
INEXPRESSIBLE = {
    "the number of turns": ("{% for m in messages %}[{{ loop.index }}/{{ messages | length }}] {{ m.content }}\n{% endfor %}>", "1 question otherwise"),
    "no history": ("{{ messages[-1].content }}>", "0 times"),
    "contents twice": ("{% for m in messages %}{{ m.content }}|{% if messages | length > 1 %}{{ m.content }}{% endif %}{% endfor %}>", "2 times"),
    "contents changed": ("{% for m in messages %}{{ m.content | upper if m.role == 'assistant' else m.content }}|{% endfor %}>", "0 times"),
    "another white space": ("{% for m in messages %}{{ m.content | replace('\\n', ' ') }}|{% endfor %}>", "white space"),
    "thoughts written otherwise": ("{% for m in messages %}{{ m.content | replace('<think>', '<thought>') }}|{% endfor %}>", "thoughts"),
    "a hash of what was said": ("{% for m in messages %}{{ m.content }}{{ m.content | length if m.content | length > 30 }}|{% endfor %}>", "thoughts"),
    "one turn alone": ("{% if messages | length > 1 %}{{ raise_exception('one message at a time') }}{% endif %}{{ messages[0].content }}>", "one message at a time"),
    "the last turns only": ("{% for m in messages[-5:] %}{{ m.role }}: {{ m.content }}\n{% endfor %}>", "3 questions"),
}  # fmt: skip
