"""Which smoothing brings a model nearer: each is tried on calibration text that was not looked at, and kept only if its KL divergence is clearly the lowest."""

from collections.abc import Iterable, Mapping

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.integer_facts import CalibrationFacts, Smoothing
from firsttoken.bundle.lineage import proof_reference
from firsttoken.calibration.integers import with_integers
from firsttoken.calibration.largest import held_back, largest_inputs
from firsttoken.calibration.smoothed import EMBEDDING, KINDS, Site, SmoothedCheckpoint, column_sizes, sites, smoothed_for
from firsttoken.calibration.text import CalibrationText, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.progress import Report, silent
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.divergence import diverge_at
from firsttoken.prove.reference import logits_in
from firsttoken.prove.twin import planned
from firsttoken.quant.plan import Plan
from firsttoken.tokenizer import Tokenizer

STRENGTHS = (0.35, 0.5, 0.65)
KEPT_BELOW = 0.9  # of the KL divergence without: less was gained by chance, and lost again on other text (the demo checkpoint)
TOKENS = 128  # of each window that was held back


def sites_for(decoder: Decoder, precisions: Mapping[str, str], backend: Backend) -> list[Site]:
    """Where inputs can be smoothed on this backend. Raises `FirstTokenError` for a decoder without such places."""
    return sites(decoder, smoothed_for(decoder, precisions, backend))


def sizes_at(
    found: list[Site], source: Checkpoint, decoder: Decoder, facts: CalibrationFacts, text: CalibrationText | None, report: Report
) -> dict[str, np.ndarray]:
    """What decides the sites' divisors (`calibration.smoothed.divisors`): the largest inputs of their layers, and the sizes of the embedding's columns."""
    largest = largest_inputs(source, decoder, [site.seen for site in found if site.kind != EMBEDDING], facts, text, report)
    return largest | {site.seen: column_sizes(source, decoder) for site in found if site.kind == EMBEDDING}


def with_smoothing(
    source: Checkpoint,
    decoder: Decoder,
    precisions: Mapping[str, str],
    backend: Backend,
    facts: CalibrationFacts,
    text: CalibrationText | None,
    report: Report = silent,
) -> Checkpoint:
    """Returns ``source`` smoothed as ``facts`` say, or itself where nothing was kept. Raises `FirstTokenError`."""
    if facts.smoothing is None or not facts.smoothing.kept:
        return source
    found = sites_for(decoder, precisions, backend)
    largest = sizes_at(found, source, decoder, facts, text, report)
    return SmoothedCheckpoint(source, found, largest, facts.smoothing.kept)


class Trial:
    """Measures checkpoints on the tokens that were held back: how far the plan is from the reference, in nats a token."""

    def __init__(
        self, source: Checkpoint, decoder: Decoder, plan: Plan, precisions: Mapping[str, str], backend: Backend, text: CalibrationText
    ) -> None:
        self.decoder, self.plan, self.precisions, self.backend = decoder, plan, precisions, backend
        self.windows = [window[:TOKENS] for window in held_back(windows_of(text, Tokenizer(source.folder)))]
        self.positions = [np.arange(len(window)) for window in self.windows]
        self.expected = self._logits(proof_reference(source), Fp32())

    @property
    def tokens(self) -> int:
        return sum(map(len, self.windows))

    def damage(self, checkpoint: Checkpoint) -> float:
        """The mean KL divergence of the plan on this checkpoint's weights."""
        ours = self._logits(checkpoint, planned(self.decoder, self.plan, self.precisions, self.backend))
        return float(np.mean([diverge_at(got, wanted, 0)[0] for got, wanted in zip(ours, self.expected, strict=True)]))

    def _logits(self, checkpoint: Checkpoint, arithmetic: Fp32) -> np.ndarray:
        everywhere = list(range(len(self.windows)))
        [found] = logits_in(checkpoint, self.decoder, [(arithmetic, everywhere)], self.windows, self.positions)
        return np.concatenate(found)


def choose(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    precisions: Mapping[str, str],
    backend: Backend,
    facts: CalibrationFacts,
    text: CalibrationText,
    report: Report = silent,
) -> Smoothing:
    """Tries `STRENGTHS` for all kinds of sites together but the embedding's table, then the best of them without each kind, then that with the table; weights rounded to the nearest.

    Where the plan chooses integers, they are then chosen for the best of these and for the checkpoint as it is, and the nearer of the two is kept.
    Raises `FirstTokenError`.
    """
    found = sites_for(decoder, precisions, backend)
    largest = sizes_at(found, source, decoder, facts, text, report)
    trial = Trial(source, decoder, plan, precisions, backend, text)
    kinds = [kind for kind in KINDS if kind != EMBEDDING and any(site.kind == kind for site in found)]
    table = any(site.kind == EMBEDDING for site in found)
    tried: list[Smoothing] = []

    def attempt(kept: dict[str, float], integers: bool = False) -> Smoothing:
        report("try smoothing", len(tried), 1 + len(STRENGTHS) * (bool(kinds) + table) + len(kinds), "ways")
        checkpoint = SmoothedCheckpoint(source, found, largest, kept) if kept else source
        made = Smoothing(kept=kept, mean_kld=0, mean_kld_without=0, tokens=trial.tokens)
        if integers:
            own = facts.model_copy(update={"smoothing": made})
            checkpoint = with_integers(checkpoint, decoder, plan, precisions, own, text, report)
        tried.append(made.model_copy(update={"mean_kld": trial.damage(checkpoint)}))
        return tried[-1]

    plain = attempt({})
    best = nearest([plain, *(attempt(dict.fromkeys(kinds, strength)) for strength in STRENGTHS if kinds)])
    fewer = [
        attempt({other: strength for other, strength in best.kept.items() if other != kind}) for kind in best.kept if len(best.kept) > 1
    ]
    best = nearest([best, *fewer])
    with_table = nearest([best, *(attempt(best.kept | {EMBEDDING: strength}) for strength in STRENGTHS if table)])
    if with_table.mean_kld < KEPT_BELOW * best.mean_kld:  # it costs a product in the graph, so what is gained by chance does not count
        best = with_table
    if best.mean_kld > KEPT_BELOW * plain.mean_kld:
        best = plain
    if best.kept and any(rule.method == "gptq" for rule in plan.rules):
        plain, smoothed = attempt({}, integers=True), attempt(best.kept, integers=True)
        best = smoothed if smoothed.mean_kld < KEPT_BELOW * plain.mean_kld else plain
    return best.model_copy(update={"mean_kld_without": plain.mean_kld})


def nearest(tried: Iterable[Smoothing]) -> Smoothing:
    """Of the ways tried the one with the least damage, of equal ones the first."""
    return min(tried, key=lambda one: one.mean_kld)


def described(facts: CalibrationFacts) -> str:
    """What was kept, in a line."""
    found = facts.smoothing
    assert found is not None, "the plan smooths"
    on = f"KL divergence on {found.tokens} tokens held back of {facts.text}"
    if not found.kept:
        return f"nothing smoothed: no way tried helps by more than a tenth ({on} without: {found.mean_kld_without:.3g})"
    kept = ", ".join(f"{kind} {strength:g}" for kind, strength in found.kept.items())
    return f"smoothed ({kept}): {on} {found.mean_kld_without:.3g} -> {found.mean_kld:.3g}"
