"""Answers that models wrote, kept in a file line by line: an evaluation that was interrupted asks nothing twice."""

import hashlib
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.json_lines import append_line
from firsttoken.run.generate import generate
from firsttoken.run.thinking import Thinking


class Answers:
    """Answers by model, prompt and settings; ``file`` None keeps them in memory alone."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[str, str] = {}
        if file is not None and file.exists():
            try:
                content = plain_file.read_bytes(file, plain_file.TEXT_BYTES)
            except OSError as error:
                raise FirstTokenError(f"--answers {file}: cannot be read ({plain_file.why(error)}); choose another") from None
            for line in io.BytesIO(content):  # as bytes: splitlines of a text would cut an answer that holds U+2028
                try:
                    value = plain_file.parse_json(line)
                    if not isinstance(value["key"], str) or not isinstance(value["answer"], str):
                        raise TypeError
                    self.known[value["key"]] = value["answer"]
                except (ValueError, KeyError, TypeError):
                    if line.endswith(b"\n"):
                        raise FirstTokenError(f"--answers {file}: not a file of `firsttoken evaluate`; choose another") from None
            if content and not content.endswith(b"\n"):  # a kill in the middle of a line
                os.truncate(file, content.rfind(b"\n") + 1)

    def ask(
        self, subject: Subject, prompt: str, max_tokens: int, temperature: float, seed: int, chat: bool, thinking: Thinking | None = None
    ) -> str:
        """Returns the model's answer to a prompt, from the file where it is there."""
        settings: list = [subject.fingerprint, prompt, max_tokens, temperature, seed, chat]
        if thinking is not None:  # older files know nothing of it
            settings.append(asdict(thinking))
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        if key not in self.known:
            # of the model alone, not of what a bundle keeps of a system prompt
            pieces = generate(subject.runner, subject.tokenizer, prompt, max_tokens, temperature, seed, chat, system="", thinking=thinking)
            self.known[key] = "".join(pieces)
            if self.file is not None:
                self._write(self.file, {"key": key, "model": subject.name, "prompt": prompt, "answer": self.known[key]})
        return self.known[key]

    def _write(self, file: Path, line: dict[str, str]) -> None:
        try:
            append_line(file, line)
        except OSError as error:
            raise FirstTokenError(
                f"--answers {file}: cannot be written ({error.strerror}); free space and run the same command again, it goes on"
            ) from None
