"""A conversion on the terminal: a line a tensor, a bar with the time left, and a summary. Plain lines elsewhere."""

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from converter.report.conversion_progress import ConversionProgress
from converter.report.records import ConversionReport, TensorRecord, decibels
from gguf_files.tensor_types import type_name
from terminal.bar import StageBar

_NAME_WIDTH = 32
_SHAPE_WIDTH = 20


class ConversionDisplay(ConversionProgress):
    """Prints progress to standard output. A context: the bar is there inside it."""

    def __init__(self) -> None:
        self._bar = StageBar(stderr=False)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def stage(self, name: str, total: int) -> None:
        self._bar.begin(name, total or None)

    def advance(self, amount: int) -> None:
        self._bar.advance(amount)

    def skip(self, amount: int) -> None:
        self._bar.skip(amount)

    def tensors_kept(self, records: Sequence[TensorRecord], count: int) -> None:
        self._bar.print(f"[{len(records)}/{count}] tensors are kept from the run that broke off")

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        self._bar.print(f"[{number:{len(str(count))}}/{count}] {tensor_line(record)}")

    def summary(self, report: ConversionReport) -> None:
        """Print what came of it. After the context."""
        for line in summary_lines(report):
            self._bar.print(line)

    def table(self, report: ConversionReport) -> None:
        """Print the errors by tensor. After the context."""
        for line in error_table(report):
            self._bar.print(line)


def tensor_line(record: TensorRecord) -> str:
    """Name, shape, type, bits a weight, error, seconds, and the reason where the type is not the usual one."""
    plan = record.plan
    shape = "[" + ", ".join(map(str, plan.tensor.shape)) + "]"
    error = "" if record.error_db is None else f"{record.error_db:.2f} dB"
    notes = [f"kept: {plan.why}"] if plan.is_copy else [plan.why] if plan.fallback else []
    note = "".join(f"  {text}" for text in (*notes, *record.notes))
    return (
        f"{plan.tensor.name:<{_NAME_WIDTH}} {shape:>{_SHAPE_WIDTH}} {type_name(plan.type):>8} "
        f"{plan.bits_per_weight:6.3f} bpw {error:>10} {record.seconds:6.2f} s{note}"
    )


def error_table(report: ConversionReport) -> list[str]:
    """Errors relative to the signal in decibels: of the weights, and of the outputs by each way of rounding."""
    head = f"{'tensor':<{_NAME_WIDTH}} {'type':>8} {'weights':>9} {'nearest':>9} {'feedback':>9} {'final':>9}  damping"
    lines = [head + "  (errors in dB; the last three of the outputs)"]
    for record in report.records:
        if record.plan.is_copy:
            continue
        errors = [record.error_db]
        if record.weighted is not None:
            w = record.weighted
            errors += [decibels(error, w.signal) for error in (w.nearest, w.feedback, w.final)]
        columns = " ".join(f"{'' if e is None else f'{e:.2f}':>9}" for e in errors)
        damping = f"  {record.damping:g}" if record.damping else ""
        scaled = "  scaled" if record.is_scaled else ""
        lines.append(
            f"{record.plan.tensor.name:<{_NAME_WIDTH}} {type_name(record.plan.type):>8} {columns}{damping}{scaled}"
        )
    return lines


def summary_lines(report: ConversionReport) -> list[str]:
    """Sizes, bits a weight, types, and what did not get the type that was chosen."""
    types = Counter(type_name(r.plan.type) for r in report.records)
    first = report.files[0] if report.files else report.target
    ratio = report.target_bytes / report.source_bytes
    lines = [
        f"{first}: {_mib(report.target_bytes)}, {100 * ratio:.1f} % of the source's "
        f"{_mib(report.source_bytes)}; {report.bits_per_weight:.3f} bits a weight over {report.weights:,} weights",
        "tensors: " + ", ".join(f"{count} {name}" for name, count in types.most_common()),
        f"time: {report.seconds:.1f} s"
        + (f" ({', '.join(f'{name} {s:.1f} s' for name, s in report.stages.items())})" if report.stages else ""),
    ]
    if len(report.files) > 1:
        lines.append(f"splits: {len(report.files)} files, {report.files[0].name} to {report.files[-1].name}")
    if report.projector:
        lines.append(f"projector: {report.projector.text}")
    if report.read_back:
        lines.append(f"read back: the same as what was written; {report.read_back}")
    if report.statistics:
        share = "" if report.coverage is None else f"; of {_percent(report.coverage)} of the weights in blocks"
        lines.append(f"statistics: {report.statistics}{share}")
    if report.folds:
        scaled = sum(not fold.is_identity for fold in report.folds)
        lines.append(f"scales (AWQ): {scaled} of {len(report.folds)} groups are better with scales")
    by_reason = Counter((type_name(r.plan.type), r.plan.why) for r in report.fallbacks)
    lines += [
        f"note: {count} tensor{'s' * (count > 1)} became {name}: {why}" for (name, why), count in by_reason.items()
    ]
    lines += [f"note: {note}" for note in report.notes]
    return lines


def _percent(share: float) -> str:
    """Nothing but all is 100 %."""
    return f"{min(100 * share, 99.9 if share < 1 else 100):.1f} %"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
