#!/usr/bin/env python3
"""GOLD's loss where tokens of two models meet: ours on the first token of a span, beside TRL's, which multiplies in the span's other tokens.

    PYTHONPATH=FOLDER:python scripts/benchmarks/gold_spans.py        FOLDER as train_step.py says

Student: the demo checkpoint; teacher: SmolLM2; one batch: the beginning of the demo's held-out text. Spans are the pieces of text between two places
where both end a token. Both losses are the hybrid one at temperature 1, beta 0.5, with the same matched tokens and a mean over the same spans. Printed
are the loss, and of its gradient to the student's logits the length, and the cosine with ours.
"""

import argparse
import os
import sys
from itertools import pairwise
from types import SimpleNamespace

import torch

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from trl.experimental.gold.gold_trainer import ULDLoss

from firsttoken.checkpoint_sources.open import checkpoint_folder
from firsttoken.demo import held_out_text
from firsttoken.distill.losses.cross_tokenizer import gold, sorted_distance, without
from firsttoken.distill.losses.divergence import jensen_shannon_of
from firsttoken.distill.models import load_decoder
from firsttoken.distill.text_alignment import TextAlignment, matched_tokens
from firsttoken.tokenizer import Tokenizer


def trl_loss(strategy, matched):
    """TRL's hybrid loss with a way of merging, told the matched tokens."""
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=1.0, uld_teacher_temperature=1.0, uld_skip_student_eos=False,
        uld_skip_teacher_eos=False, use_extended_uld=True, uld_token_merge_strategy=strategy, uld_use_hybrid_loss=True, beta=0.5,
    )  # fmt: skip
    loss, (ours, theirs) = ULDLoss(config), matched
    loss._vocab_mapping = dict(zip(theirs, ours, strict=True))
    loss._student_matched_ids, loss._teacher_matched_ids = set(ours), set(theirs)
    loss.mapping_tensor = torch.full((max(theirs) + 1,), -1)
    loss.mapping_tensor[torch.tensor(theirs)] = torch.tensor(ours)
    return loss


def spans(tokens, theirs, places):
    """Ends of the spans: the last token of each, the student's and the teacher's; the first is the place before the text's second span."""
    met = [(n, place) for n, place in enumerate(places) if place >= 0]
    return met if met[-1] == (len(tokens) - 1, len(theirs) - 1) else [*met, (len(tokens) - 1, len(theirs) - 1)]


def merged(probabilities, tokens, places):
    """What "bayesian" means, written again: the distribution of a span's last token times the probabilities of those before it, ``[spans, vocabulary]``."""
    rows = []
    for begin, end in pairwise(places):
        given = (
            torch.stack([probabilities[n, tokens[n + 1]] for n in range(begin, end - 1)]).clamp_min(1e-8).prod() if end - begin > 1 else 1.0
        )
        rows.append(probabilities[end - 1] * given)
    return torch.stack(rows)


def written_again(leaf, theirs, tokens, ends, matched):
    """The hybrid loss on merged distributions, by the formula of losses/cross_tokenizer.py without what it does to make them sum to one."""
    q, p = (
        merged(logits[0].softmax(-1), numbers, [end[pick] for end in ends])
        for pick, (logits, numbers) in enumerate(((leaf, tokens[0]), (theirs, tokens[1])))
    )
    ours, others = matched
    share = len(others) / p.shape[-1]
    log_p, log_q = p[:, others].clamp_min(1e-8).log(), q[:, ours].clamp_min(1e-8).log()
    return (share * jensen_shannon_of(log_p, log_q, 0.5) + (1 - share) * sorted_distance(without(p, others), without(q, ours))).mean()


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=3000, help="of the text (default 3000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folders = [checkpoint_folder(name) for name in ("demo", "smollm2")]
    student, teacher = (Tokenizer(folder) for folder in folders)
    text = "".join(letter for letter in held_out_text() if letter.isascii())[: options.characters]
    tokens = student.encode(text, begin=False)
    theirs, places = TextAlignment(student, teacher).align(tokens)
    ends = spans(tokens, theirs, places)
    matched = matched_tokens(student, teacher)
    with torch.no_grad():
        ids = [torch.tensor([each]) for each in (tokens, theirs)]
        first, second = (load_decoder(folder)(input_ids=each).logits for folder, each in zip(folders, ids, strict=True))
    several = sum(b[0] - a[0] > 1 or b[1] - a[1] > 1 for a, b in pairwise(ends))
    print(f"{len(tokens)} tokens of the student's, {len(theirs)} of the teacher's, {len(ends) - 1} spans, {several} of several tokens\n")

    def measured(loss_of):
        leaf = first.clone().requires_grad_(True)
        value = loss_of(leaf)
        [slope] = torch.autograd.grad(value, leaf)
        return value.item(), slope.flatten()

    # what is said of a span stands at the place before it
    before = torch.tensor([a for a, _ in ends[:-1]]), torch.tensor([b for _, b in ends[:-1]])
    pair = tuple(torch.tensor(each) for each in matched)
    ways = {"ours": lambda leaf: gold(leaf[0, before[0]], second[0, before[1]], 1.0, 0.5, pair).mean()}
    bytes_of = [offsets(each, [end[pick] for end in ends], pick) for pick, each in enumerate((tokens, theirs))]
    labels = [each.clone() for each in ids]
    for label, pick in zip(labels, (0, 1), strict=True):
        label[0, : ends[0][pick] + 1] = -100
    for strategy in ("bayesian", "observed"):
        loss = trl_loss(strategy, matched)
        ways[f"TRL, {strategy}"] = lambda leaf, loss=loss: loss(leaf, second, *labels, *ids, *bytes_of)
    ways["written again, bayesian"] = lambda leaf: written_again(leaf, second, (tokens, theirs), ends, pair)
    base, values = None, {}
    print("| | loss | gradient | cosine with ours |\n|:--|--:|--:|--:|")
    for name, loss_of in ways.items():
        value, slope = measured(loss_of)
        base, values[name] = slope if base is None else base, value
        print(f"| {name} | {value:.4f} | {slope.norm():.4f} | {torch.cosine_similarity(slope, base, dim=0):.3f} |")
    if abs(values["TRL, bayesian"] / values["written again, bayesian"] - 1) > 1e-3:
        sys.exit("TRL's loss is not what its merging says on these spans: they are not the same spans")


def offsets(tokens, last, odd):
    """Begin and end of every token in a count that both sides share: a span's number for its last token, and for others between two a number that the other side has not."""
    ends, number, inside, found = set(last), 0, 0, []
    for place in range(len(tokens)):
        if place in ends:
            number, inside = number + 1, 0
        else:
            inside += 2
        found.append((0, 1000 * number + inside + (odd if inside else 0)))
    return torch.tensor([found])


if __name__ == "__main__":
    main()
