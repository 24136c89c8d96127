"""Hostile chat templates end in seconds and in one line, whatever they compute; honest ones render as transformers renders them."""

import os
import time

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.template_process import RENDERER, rendered

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
VALUES = {"messages": MESSAGES, "add_generation_prompt": True, "tools": None, "documents": None, "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "it computes for more than 3 seconds"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'x' * 10**10 }}", "MiB of memory"),
        ("{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}", "MiB of memory"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{% for i in range(90000) %}{{ 'x' * 10000 }}{% endfor %}", "writes more than"),
        ("{{" + "(" * 50000, "RecursionError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ raise_exception('\x1b]0;title\x07') }}", r"\\x1b\]0;title\\x07"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_hostile_templates_are_one_line_within_seconds(template, said):
    started = time.monotonic()
    with pytest.raises(FirstTokenError, match=said) as caught:
        rendered(template, VALUES)
    assert time.monotonic() - started < 30
    assert str(caught.value).isprintable() and "correct chat_template" in str(caught.value)
    assert rendered("{{ messages[0].content }}", VALUES) == "hi", "the next template is none the worse"


def test_as_transformers_renders():
    from transformers.utils.chat_template_utils import render_jinja_template

    for template in (
        "{% for m in messages %}<{{ m.role }}>{% generation %}{{ m['content'] | trim }}{% endgeneration %}{{ eos_token }}\n{% endfor %}",
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
        "{% for m in messages %}\n  {% if loop.last %}{% break %}{% endif %}\n{{ m | tojson }}{{ {'é': 1} | tojson(indent=1) }}\n{% endfor %}",
        "{{ strftime_now('%Y') }}{% if add_generation_prompt %}assistant{% endif %}{{ tools is none }}",
    ):
        [expected], _ = render_jinja_template(
            conversations=[MESSAGES], chat_template=template, add_generation_prompt=True, eos_token="</s>"
        )
        assert rendered(template, VALUES) == expected


def test_one_process_renders_all_and_a_dead_one_is_replaced():
    rendered("a", VALUES)
    first = RENDERER.process
    rendered("b", VALUES)
    assert RENDERER.process is first
    first.kill()
    first.wait()
    assert rendered("c", VALUES) == "c" and RENDERER.process is not first


def test_a_fork_has_a_process_of_its_own():
    rendered("a", VALUES)
    child = os.fork()
    if child == 0:
        os._exit(0 if rendered("{{ messages|length }}", VALUES) == "2" else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert rendered("{{ 1 + 1 }}", VALUES) == "2"
