"""What a page is about: every result with its device, a name that tells it from the others, and its proof."""

from collections.abc import Callable
from dataclasses import dataclass

from firsttoken.measure.measurement import Device, Result, Run
from firsttoken.measure.summary import groups
from firsttoken.report.page.scale import bytes_text
from firsttoken.report.page.sources import Source


@dataclass(frozen=True)
class ShownProof:
    """The proof beside a speed: ``state`` is "passed", "failed" or "none"; ``short`` is what stands next to every bar."""

    state: str
    short: str
    mean_kld: str = "–"
    p99_kld: str = "–"
    same_top: str = "–"


@dataclass(frozen=True)
class Subject:
    """A result: ``title`` is plan and target and whatever else is needed to tell it apart, ``detail`` the rest."""

    number: int
    source: Source
    result: Result
    title: str
    detail: str
    proof: ShownProof

    @property
    def device(self) -> Device:
        return self.source.measurement.device

    @property
    def groups(self) -> dict[tuple[int, str], list[Run]]:
        return groups(self.result)


@dataclass(frozen=True)
class DeviceGroup:
    """All subjects measured on one device."""

    number: int
    device: Device
    title: str
    facts: list[str]
    subjects: list[Subject]

    @property
    def prompts(self) -> list[int]:
        return sorted({tokens for subject in self.subjects for tokens, _ in subject.groups})


# What is added to "plan · target", in this order, until every name is another.
_MORE: tuple[Callable[[Source, Result], str], ...] = (
    lambda source, result: result.bundle.checkpoint,
    lambda source, result: threads_text(result),
    lambda source, result: f"drafts by {result.draft}" if result.draft else "no drafts",
    lambda source, result: result.runtime_version,
    lambda source, result: "chat template" if result.chat else "no chat template",
    lambda source, result: result.bundle.name,
    lambda source, result: f"artifact {result.ran_sha256[:8]}",
    lambda source, result: source.name,
    lambda source, result: result.before.time,
)


def device_groups(sources: list[Source]) -> list[DeviceGroup]:
    """Returns the devices in the order they come in, each with its results."""
    devices: dict[tuple, list[tuple[Source, Result]]] = {}
    for source in sources:
        device = source.measurement.device
        key = (
            device.kind,
            device.manufacturer,
            device.model,
            device.identity,
            device.soc,
            device.system,
            device.cpu.model,
            device.cpu.cores,
        )
        devices.setdefault(key, []).extend((source, result) for result in source.measurement.results)
    made: list[DeviceGroup] = []
    number = 0
    for pairs in devices.values():
        titles = distinct_titles(pairs)
        subjects = []
        for (source, result), title in zip(pairs, titles, strict=True):
            subjects.append(Subject(number, source, result, title, _detail(result), proof_of(result)))
            number += 1
        device = pairs[0][0].measurement.device
        made.append(DeviceGroup(len(made), device, _device_title(device), _device_facts(device), subjects))
    names = [group.title for group in made]
    return [
        DeviceGroup(
            g.number,
            g.device,
            f"{g.title} (device {g.device.identity or g.number + 1})" if names.count(g.title) > 1 else g.title,
            g.facts,
            g.subjects,
        )
        for g in made
    ]


def distinct_titles(pairs: list[tuple[Source, Result]]) -> list[str]:
    """Returns "plan · target" for each result, with as much more as tells those of the same name apart."""
    titles = [plan_and_target(result) for _, result in pairs]
    for more in _MORE:
        for title in {title for title in titles if titles.count(title) > 1}:
            same = [number for number, other in enumerate(titles) if other == title]
            added = [more(*pairs[number]) for number in same]
            if len(set(added)) > 1:
                for number, text in zip(same, added, strict=True):
                    titles[number] = f"{title} · {text}"
    return [f"{title} · {number + 1}" if titles.count(title) > 1 else title for number, title in enumerate(titles)]


def plan_and_target(result: Result) -> str:
    """Returns "plan · target", and which artifact ran where there are two."""
    return " · ".join([result.bundle.plan, result.bundle.target, *([result.processor] if result.processor else [])])


def threads_text(result: Result) -> str:
    return "1 thread" if result.threads == 1 else f"{result.threads} threads"


def proof_of(result: Result) -> ShownProof:
    figures = result.proof
    if figures is None:
        return ShownProof("none", "no proof")
    kld, p99, top = f"{figures.mean_kld:.1e}", f"{figures.p99_kld:.1e}", f"{figures.same_top:.1%}"
    return ShownProof(
        "passed" if figures.passed else "failed", f"{'' if figures.passed else 'proof failed, '}KLD {kld}, same top {top}", kld, p99, top
    )


def _detail(result: Result) -> str:
    ran = result.artifact
    where = (
        ""
        if ran is None
        else f"{ran.place} ({ran.soc or 'compiled on the phone'})"
        if ran.kind == "npu"
        else f"{ran.place}, as asked"
        if ran.kind == "cpu" and not ran.fallback
        else ran.place
    )
    runner = [f"{result.runner.kind} runner"] if result.runner else []
    return ", ".join(
        [
            result.bundle.checkpoint,
            result.runtime_version,
            *runner,
            result.bundle.delegate,
            threads_text(result),
            *([where] if where else []),
        ]
    )


def _device_title(device: Device) -> str:
    maker = device.manufacturer
    return device.model if not maker or device.model.lower().startswith(maker.lower()) else f"{maker} {device.model}"


def _device_facts(device: Device) -> list[str]:
    cpu = device.cpu
    clusters = " + ".join(f"{count} × {int(khz) / 1e6:.2f} GHz" for khz, count in cpu.clusters.items() if khz.isdecimal() and len(khz) < 10)
    facts = [
        device.soc and f"SoC {device.soc}",
        device.hexagon and f"Hexagon {device.hexagon}",
        device.system,
        f"{cpu.model}, {cpu.cores} {'core' if cpu.cores == 1 else 'cores'}" + (f" ({clusters})" if clusters else ""),
        f"{bytes_text(device.memory_bytes)} memory",
        cpu.flags and " ".join(cpu.flags),
        device.identity and f"device {device.identity}",
    ]
    return [fact for fact in facts if fact]
