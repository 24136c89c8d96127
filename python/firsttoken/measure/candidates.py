"""What is measured: a bundle, or a file that another exporter wrote with the checkpoint of its words; checked before the first run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import RunnerFacts
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import WEIGHTS_BESIDE, Manifest, read_manifest
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import format_of, hash_of, is_file, read_subject
from firsttoken.measure.measurement import BundleIdentity, identify_bundle
from firsttoken.measure.prompts import exact_prompt
from firsttoken.progress import Report
from firsttoken.run.drafting import Draft, no_drafts
from firsttoken.tokenizer import BUNDLED_FILES, Tokenizer, open_tokenizer


@dataclass(frozen=True)
class Candidate:
    """A bundle or a file, checked, and its prompts by their number of tokens. ``words`` are what the worker is told of a file."""

    path: Path
    backend: Backend
    identity: BundleIdentity
    prompts: dict[int, str]
    chat: bool
    read: list[Path]
    manifest: Manifest | None = None
    words: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """What a cold start reads from the disk: artifact, tokenizer, packed weights where there are any."""
        if self.manifest is not None:
            return self.read + self.backend.kept_files(self.manifest, self.manifest.cpu)
        from firsttoken.backends.tflite.weight_cache import packed_file, writable_folder

        folder = writable_folder()
        packed = folder and packed_file(folder, self.identity.artifact_sha256)
        return self.read + ([packed] if packed and packed.exists() else [])


@dataclass(frozen=True)
class Lengths:
    """What was asked: ``prompts`` and ``decode`` in tokens; ``chat`` None: where there is a template; ``turns`` of a conversation; ``draft``: with drafts."""

    prompts: Sequence[int]
    decode: int
    chat: bool | None
    turns: int = 1
    draft: Draft | None = None

    def texts(self, path: Path, facts: RunnerFacts, tokenizer: Tokenizer, system: str | None = None) -> tuple[dict[int, str], bool]:
        """The prompts of a candidate, and whether they go through the chat template. Raises `FirstTokenError` for what does not fit its cache."""
        longest, cache = max(self.prompts), facts.target.cache_length
        what, often = f"{'file' if is_file(path) else 'bundle'} {path}", f", {self.turns} times," if self.turns > 1 else ""
        if (longest + self.decode + (self.turns > 1)) * self.turns > cache:
            raise FirstTokenError(
                f"{what}: {longest} prompt tokens and {self.decode} decoded ones{often} do not fit its cache of {cache}; "
                f"measure shorter prompts{' or fewer turns' if often else ''}, or export with a longer --cache-length"
            )
        chat = facts.chat is not None if self.chat is None else self.chat
        if self.turns > 1 and not (chat and facts.chat is not None and facts.chat.conversation is not None):
            raise FirstTokenError(
                f"{what}: turns of a conversation go through a chat template that can be written for several, and this has none; measure it without --turns"
            )
        return {tokens: exact_prompt(tokenizer, facts, tokens, chat, system) for tokens in self.prompts}, chat


def bundle_candidate(folder: Path, lengths: Lengths, report: Report) -> Candidate:
    """Raises `FirstTokenError` for a folder that is no bundle, or a damaged one."""
    manifest = read_manifest(folder)
    backend = find_backend(manifest.cpu.backend)
    backend.check_runs(f"measuring {folder}")
    if lengths.draft is not None and manifest.target.draft_tokens is None:
        raise FirstTokenError(f"bundle {folder}: {no_drafts()}")
    check_files(folder, manifest, report)
    system = None if manifest.prefix is None else manifest.prefix.system
    prompts, chat = lengths.texts(folder, manifest, open_tokenizer(folder, manifest), system)
    kept = [] if manifest.prefix is None else [manifest.prefix.file]
    read = [folder / name for name in (manifest.cpu.file, *manifest.tokenizer.files, *kept)]
    read += [folder / name for name in (manifest.cpu.file + WEIGHTS_BESIDE,) if name in manifest.files]
    read += [place for name in manifest.packed_names if (place := folder / name).is_file()]
    return Candidate(folder, backend, identify_bundle("", manifest), prompts, chat, read, manifest)


def file_candidate(path: Path, lengths: Lengths, checkpoint: Path | None, cache_length: int | None) -> Candidate:
    """Raises `FirstTokenError` for a file that cannot be run, or where no checkpoint says its words."""
    if checkpoint is None:
        raise FirstTokenError(f"{path}: is a file, which says no words; give the checkpoint that it was made from with --checkpoint")
    if lengths.draft is not None:
        raise FirstTokenError(f"{path}: a file of another exporter has no method that checks drafts; leave out --draft")
    found = format_of(path)
    with open_checkpoint(checkpoint) as source:
        subject = read_subject(path, source, cache_length)
        tokenizer = Tokenizer(source.folder)
        tokenizer.begin = subject.tokenizer.begin
        prompts, chat = lengths.texts(path, subject, tokenizer)
        identity = BundleIdentity(
            name="",
            checkpoint=subject.checkpoint.name,
            fingerprint=source.fingerprint(),
            plan=f"stores {found.reader.structure(path).plan}",
            target=f"a {found.name} file",
            runtime=subject.target.runtime,
            delegate=subject.target.delegate,
            artifact_sha256=hash_of(path),
            artifact_bytes=path.stat().st_size,
            cache_length=subject.target.cache_length,
        )
    read = [path, *(place for name in BUNDLED_FILES if (place := source.folder / name).is_file())]
    words = [str(checkpoint), str(subject.target.cache_length)]
    return Candidate(path, find_backend(found.backend), identity, prompts, chat, read, words=words)
