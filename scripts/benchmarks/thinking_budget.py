#!/usr/bin/env python3
"""What a thinking budget costs: share of right answers and tokens an answer, for the same sums asked with several budgets.

    scripts/benchmarks/thinking_budget.py out/tflite-xnnpack --most 0 16 48 --questions 24

The questions are made up by seed: sums of two whole numbers in words. `firsttoken evaluate` asks them (docs/evaluating.md). A model that is no
reasoner has no </think>; --thinking-end is then a token that begins its answer, such as "####", and what it writes before is its thinking.
Answers are kept in --answers, and an interrupted run goes on.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

from firsttoken.evaluate.evaluate import EvaluationSettings, evaluate
from firsttoken.evaluate.subject import Subject
from firsttoken.run.thinking import Thinking

THINGS = ("apples", "books", "coins", "stamps", "shells")


def questions(count, seed=1):
    """Lines of a maths task: what is asked, and the answer."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        has, more, what = draw.randint(2, 30), draw.randint(2, 20), draw.choice(THINGS)
        found.append({"question": f"Tom has {has} {what} and gets {more} more. What is {has} + {more}?", "answer": f"#### {has + more}"})
    return found


def budgets(options):
    """Name and budget of each row."""
    end = options.thinking_end
    rows = [("none", None)] + [(f"at most {most}", Thinking(most=most, end=end)) for most in options.most]
    return rows + [(f"at least {least}", Thinking(least=least, end=end)) for least in options.least]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint or bundle")
    parser.add_argument("--most", type=int, nargs="*", default=[0, 16, 48], help="bounds above, in tokens (default 0 16 48)")
    parser.add_argument("--least", type=int, nargs="*", default=[], help="bounds below, in tokens")
    parser.add_argument("--thinking-end", default="####", help='the token that ends thinking (default "####")')
    parser.add_argument("--questions", type=int, default=24, help="how many (default 24)")
    parser.add_argument("--max-tokens", type=int, default=128, help="of an answer, thinking and all (default 128)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    parser.add_argument("--answers", type=Path, default=Path("build/thinking_budget.jsonl"), help="where answers are kept")
    options = parser.parse_args()
    options.answers.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = Subject(options.model).tokenizer
    print("| thinking | right, % (95 %) | tokens an answer: mean, range |\n|:--|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder, "sums.jsonl")
        task.write_text("".join(json.dumps(line) + "\n" for line in questions(options.questions)), encoding="utf-8")
        for number, (name, thinking) in enumerate(budgets(options)):
            settings = EvaluationSettings(max_tokens=options.max_tokens, thinking=thinking)
            kept = options.answers.with_suffix(f".{number}.jsonl")
            [[score]] = evaluate([options.model], [f"maths={task}"], settings, answers=kept, threads=options.threads).values()
            lengths = [
                len(tokenizer.encode(json.loads(line)["answer"], begin=False)) for line in kept.read_text(encoding="utf-8").splitlines()
            ]
            print(
                f"| {name} | {100 * score.value:.0f} ({100 * score.low:.0f} to {100 * score.high:.0f}) | {statistics.fmean(lengths):.0f}, {min(lengths)} to {max(lengths)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
