"""What searches are tried on."""

from firsttoken.calibration.text import CalibrationText, read_text
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.search.sensitivity import Subject
from firsttoken.targets.target import load_target


def subject_of(folder, tokens: int = 256, text: CalibrationText | None = None, target: str = "tflite-xnnpack") -> Subject:
    checkpoint = Checkpoint(folder)
    return Subject(checkpoint, open_decoder(checkpoint), load_target(target), text or read_text(None), tokens, folder, target)
