r"""Exact match on maths: the final answer found in what a model wrote, and both answers brought to one form.

The form follows the conventions of the MATH data set (Hendrycks et al., arXiv:2103.03874): ``\boxed{…}`` holds the
answer; ``\dfrac`` is ``\frac``, units and ``$`` do not count. On top, numbers are compared as exact fractions, so that ``0.5``,
``1/2`` and ``\frac12`` are one answer, lists as multisets, matrices element by element. What is not decided so is asked of math-verify where it is
installed (`algebra`); otherwise two expressions of other forms are equal only if their text is.
"""

import math
import re
from fractions import Fraction

from firsttoken.evaluate.algebra import means_same

BOXED = re.compile(r"\\(?:boxed|fbox)\s*")
SAID = re.compile(r"(?:final answer|answer)\s*(?:is|:|=)\s*:?\s*(.+)", re.IGNORECASE)
NUMBER = re.compile(r"(?:(?<![\w)])[-+])?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?")
ATOM = r"(?:\d+|[a-zA-Z]|\\[a-zA-Z]+)"  # what stands without braces
ABOVE = r"(?:\d*(?:[a-zA-Z]|\\[a-zA-Z]+(?:\{[^{}]*\})?)|\d+)"  # 2x, \pi, 3\sqrt{2}, 7
SLASH = re.compile(rf"(?<![\w}})/])({ABOVE})/({ATOM}(?:\{{[^{{}}]*\}})?)(?![\w{{\\/(])")
UNITS = (
    "degrees?|dollars?|cents?|units?|square|cubic|feet|foot|ft|inch(?:es)?|in|cm|mm|km|meters?|metres?|miles?|m|kg|grams?|g|hours?|minutes?|"
    "seconds?|days?|weeks?|months?|years?|people|students?|points?|percent|mph"
)
ROW = "\x1e"  # between the rows of a matrix
MATRIX = re.compile(r"\\begin\{[pbvBV]?matrix\}(.*)\\end\{[pbvBV]?matrix\}")
RATIO, BASE = re.compile(":"), re.compile(r"\d_\{?\d")
AMBIGUOUS = re.compile(r"/\d+(?:[a-zA-Z(]|\\[a-zA-Z])")  # 3/4x
PERCENT = re.compile(r"\\?%|\\(?:text|mathrm)\{\s*percent\s*\}|\bpercent\b")
UNIT = re.compile(rf"(?<=[\d}}])\s*(?:{UNITS})(?:\s*\^?\{{?[23]\}}?)?$", re.IGNORECASE)


def extract(text: str) -> str | None:
    r"""Returns the final answer in a model's words, or None: the last ``\boxed``, ``#### …``, "the answer is …", or the last number.

    What a reasoning model thinks, up to ``</think>``, is not an answer where something follows it.
    """
    _, mark, after = text.rpartition("</think>")
    text = after if mark and after.strip() else text
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n")[0].strip() or None
    said = SAID.findall(text)
    if said:
        return first_answer(said[-1])
    numbers = NUMBER.findall(text)
    return numbers[-1].strip() if numbers else None


def last_boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{…}`` with its braces balanced, or of ``\boxed 7``; None where there is none, or it never ends."""
    for found in reversed(list(BOXED.finditer(text))):
        rest = text[found.end() :]
        if not rest.startswith("{"):
            word = re.match(r"[^\s$.,]+", rest)
            if word:
                return word[0]
            continue
        depth = 0
        for place, character in enumerate(rest):
            depth += {"{": 1, "}": -1}.get(character, 0) if place == 0 or rest[place - 1] != "\\" else 0
            if depth == 0:
                return rest[1:place].strip()
    return None


def first_answer(said: str) -> str:
    """What follows "the answer is": the formula where there is one, else up to the end of the sentence."""
    said = said.strip().lstrip("*").strip()
    formula = re.match(r"\$\$?(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", said)
    if formula and not re.match(r"\$\d[\d,.]*(?:\s|$)", said):
        return next(group for group in formula.groups() if group).strip()
    said = re.split(r"\.(?:\s|$)|;|\n|\*\*|,? (?:because|since|so that|as)\b", said)[0].strip()
    return said.rstrip(".")


def normalise(answer: str) -> str:
    """Brings an answer to the form in which equal ones are equal text."""
    text = answer.strip().strip("*").strip()
    text = text.replace("\u2212", "-").replace("\u00d7", "\\times").replace("\u03c0", "\\pi").replace("\u221e", "\\infty")
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)]
    text = text.replace("\\\\", ROW)  # of a matrix; what follows is no escaped space
    text = re.sub(r"\\(?:left|right|displaystyle|,|;|!|:|quad|qquad)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\(?:dfrac|tfrac|cfrac)", r"\\frac", text)
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|mbox|textit)\s*\{([^{}]*)\}", lambda m: worded(m[1]), text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\u00b0", "", text)
    text = text.replace("\\$", "").replace("$", "").replace("\\%", "").replace("%", "").replace("\\ ", " ").replace("~", " ")
    text = re.sub(r"\\(?:cdot|times)(?![a-zA-Z])", "*", text).replace("\\infinity", "\\infty")
    text = re.sub(r"(?<=\d)(?:,|\{,\})(?:\\!)?(?=\d{3}(?!\d))", "", text)  # thousands
    text = UNIT.sub("", text.strip().rstrip(".,;"))
    text = re.sub(r"\\sqrt\s*([^\s{\\\[])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\\[a-zA-Z]+|[a-zA-Z])\s*(\d|[a-zA-Z])(?![\w{])", r"\\frac{\1}{\2}", text.replace("\\frac ", "\\frac"))
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}", text)
    text = re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"^[a-zA-Z]\s*(?:=|\\in)\s*(?=\S)", "", text.strip())
    text = re.sub(r"\s+", "", text).strip("{}") if balanced(text.strip().strip("{}")) else re.sub(r"\s+", "", text)
    text = SLASH.sub(lambda m: f"\\frac{{{m[1]}}}{{{m[2]}}}", text)
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)  # the letter of a choice
    return text.lower() if re.fullmatch(r"[A-Za-z()]+", text) else text


def worded(inside: str) -> str:
    """Words inside a formula stay where they are the answer, such as a name; units and "and" go."""
    word = inside.strip()
    return "," if word == "and" else " or " if word == "or" else f" {word}"


def balanced(text: str) -> bool:
    """Whether the braces of a text close."""
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def number(text: str) -> Fraction | None:
    r"""The exact value of a normalised answer that is one number, ``0.\overline{3}`` too: ``7``, ``-.5``, ``1/2``, ``\frac{1}{2}``, ``2\frac{1}{2}``, ``1e3``, ``1.5*10^3``; else None."""
    mixed = re.fullmatch(r"([-+]?)(\d*)\\frac\{([-+]?\d+(?:\.\d+)?)\}\{([-+]?\d+(?:\.\d+)?)\}", text)
    power = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+))\*10\^(?:(\d)|\{([-+]?\d{1,3})\})", text)
    repeating = re.fullmatch(r"([-+]?)(\d*)\.(\d*)\\overline\{?(\d+)\}?", text)
    try:
        if repeating:
            sign, whole, once, again = repeating.groups()
            nines = (10 ** len(again) - 1) * 10 ** len(once)
            value = Fraction(int((whole or "0") + once), 10 ** len(once)) + Fraction(int(again), nines)
            return -value if sign == "-" else value
        if power:
            return Fraction(power[1]) * Fraction(10) ** int(power[2] or power[3])
        if mixed:
            sign, whole, above, below = mixed.groups()
            value = Fraction(whole or 0) + Fraction(above) / Fraction(below)
            return -value if sign == "-" else value
        if re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:/\d+)?", text) and not text.count("."):
            return Fraction(text)
        if re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", text):
            return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return None


def parts(text: str) -> list[str]:
    """The elements of a tuple, interval or list, split at commas outside of brackets, with the brackets kept as elements."""
    found, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            found.append(text[start:place])
            start = place + 1
    return [*found, text[start:]]


def same(got: str | None, wanted: str) -> bool:
    """Whether two answers are one: equal text after `normalise`, equal numbers, tuples and lists equal part by part, or equal by algebra."""
    if got is None:
        return False
    ours, theirs = normalise(got), normalise(wanted)
    if _same(ours, theirs) or _same_share(got, wanted):
        return True
    return not _decided(ours, theirs) and means_same(got, wanted)


def _same_share(got: str, wanted: str) -> bool:
    """Whether one is a number and the other as many hundredths: 50 % and 0.5."""
    shares = [bool(PERCENT.search(text)) for text in (got, wanted)]
    a, b = number(normalise(got)), number(normalise(wanted))
    if a is None or b is None or shares[0] == shares[1]:
        return False
    return a == 100 * b if shares[0] else 100 * a == b


def _decided(ours: str, theirs: str) -> bool:
    """Whether two answers that are not the same here are different, or not to be told: numbers, lists of numbers, words, ratios, digits of a base, ``3/4x``."""
    if any(bool(sign.search(ours)) != bool(sign.search(theirs)) for sign in (RATIO, BASE)) or any(map(AMBIGUOUS.search, (ours, theirs))):
        return True
    if all(re.fullmatch(r"[A-Za-z]+(?:\s[A-Za-z]+)*", text) for text in (ours, theirs)) and max(len(ours), len(theirs)) > 3:
        return True
    return all(all(number(part) is not None for part in parts(text)) for text in (ours, theirs))


def _same(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return ours != ""
    ours, theirs = both_signs(ours), both_signs(theirs)
    a, b = number(ours), number(theirs)
    if a is not None and b is not None:
        return a == b
    matrices = [MATRIX.fullmatch(text) for text in (ours, theirs)]
    if all(matrices):
        rows = [[row.split("&") for row in found[1].strip(ROW).split(ROW)] for found in matrices if found]
        return [len(row) for row in rows[0]] == [len(row) for row in rows[1]] and all(
            _same(x, y) for pair in zip(*rows, strict=True) for x, y in zip(*pair, strict=True)
        )
    braces = [t.startswith("\\{") and t.endswith("\\}") for t in (ours, theirs)]
    if all(braces):
        return _same_list(parts(ours[2:-2]), parts(theirs[2:-2]))
    for pair in ("()", "[]", "(]", "[)"):
        if all(len(t) > 2 and t[0] == pair[0] and t[-1] == pair[1] and closes(t) for t in (ours, theirs)):
            inside = parts(ours[1:-1]), parts(theirs[1:-1])
            return len(inside[0]) == len(inside[1]) and all(map(_same, *inside))
    inside = listed(ours), listed(theirs)
    return max(map(len, inside)) > 1 and _same_list(*inside)  # a list of solutions has no order


def closes(text: str) -> bool:
    """Whether the bracket that a text begins with is closed by its last one, and not before."""
    depth = 0
    for place, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if depth == 0:
            return place == len(text) - 1
    return False


def listed(text: str) -> list[str]:
    """The elements of a list of solutions: at commas and "or", without the unknown's name and without brackets around a choice's letter."""
    found = [part for whole in re.split(r"(?<![A-Za-z])or(?![A-Za-z])", text) for part in parts(whole)]
    return [re.sub(r"^\(([A-Za-z])\)$", r"\1", re.sub(r"^[a-zA-Z](?:_\{?\w+\}?)?=", "", part)) for part in found]


def both_signs(text: str) -> str:
    r"""``1\pm x`` as the list that it stands for, ``1+x,1-x``."""
    if text.count("\\pm") != 1 or "," in text:
        return text
    return ",".join(text.replace("\\pm", sign).removeprefix("+") for sign in "+-")


def _same_list(ours: list[str], theirs: list[str]) -> bool:
    """Whether each element has one of its own on the other side, in any order."""
    if len(ours) != len(theirs):
        return False
    left = list(theirs)
    for one in ours:
        place = next((n for n, other in enumerate(left) if _same(one, other)), None)
        if place is None:
            return False
        del left[place]
    return True


def question(line: dict) -> tuple[str, str] | None:
    """Question and answer of a line in the formats of MATH-500, GSM8K and AIME, or None for anything else."""
    lowered = {key.lower(): value for key, value in line.items()}
    asked = next((lowered[key] for key in ("problem", "question", "prompt") if isinstance(lowered.get(key), str)), None)
    answer = lowered.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(int(answer)) if math.isfinite(answer) and answer == int(answer) else repr(answer)
    if not isinstance(answer, str) and isinstance(lowered.get("solution"), str):
        answer = last_boxed(lowered["solution"])
    if asked is None or not isinstance(answer, str):
        return None
    return asked, answer.rsplit("####", 1)[-1].strip()
