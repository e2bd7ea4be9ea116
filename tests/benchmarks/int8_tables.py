"""The rows of `int8.py` as Markdown tables."""

from __future__ import annotations

from typing import Any

Rows = dict[str, dict[str, Any]]
NOT_MEASURED = "not measured"


def show(results: dict[str, Any]) -> None:
    for kind, table in (("engine", engines), ("crops", crops), ("device", devices)):
        rows = {name.partition("/")[2]: row for name, row in results.items() if name.startswith(f"{kind}/")}
        if rows:
            print("\n" + "\n".join(table(rows)))


def engines(rows: Rows) -> list[str]:
    """Files and engines, and the shares of the FP32 engine, and of its weights alone, that are left."""
    lines = ["| network | precision | ONNX | engine for SM86 | program text in it | of FP32 | without text |"]
    lines.append("|" + "---|" * 7)
    for name, row in rows.items():
        network, precision = name.split("/")
        whole = rows.get(f"{network}/fp32")
        shares = [f"{size(row) / size(whole):.2f}" if whole else NOT_MEASURED for size in (_engine, _weights)]
        sizes = [f"{row[kind] / 1e6:.1f} MB" for kind in ("onnx_bytes", "engine_bytes", "program_bytes")]
        lines.append(f"| {network} | {precision} | {' | '.join([*sizes, *shares])} |")
    return lines


def _engine(row: dict[str, Any]) -> int:
    return int(row["engine_bytes"])


def _weights(row: dict[str, Any]) -> int:
    return int(row["engine_bytes"] - row["program_bytes"])


def crops(rows: Rows) -> list[str]:
    """Likeness to FP32 on real crops."""
    lines = ["| network | crops | precision | cosine, lowest | median | mAP | lost | R1 | lost | threshold "]
    lines[0] += "| left out | ONNX | engine | gate |"
    lines.append("|" + "---|" * 14)
    for name, case in rows.items():
        network, data = name.split("/")
        for precision, row in case["rows"].items():
            left_out = (
                f"{case['layers'] - row['int8_layers']} of {case['layers']}" if precision.startswith("int8") else ""
            )
            figures = [f"{row['cosine_min']:.3f}", f"{row['cosine_median']:.4f}", f"{row['mAP']:.1f}"]
            figures += [f"{row['loss']:.2f}", *first(row), f"{row['threshold_shift']:+.4f}", left_out]
            figures += [f"{row[kind] / 1e6:.1f} MB" for kind in ("onnx_bytes", "engine_bytes")]
            verdict = "missed" if row["missed"] else "passed"
            lines.append(
                f"| {network} | {data}, {case['held_out']} | {precision} | {' | '.join(figures)} | {verdict} |"
            )
    return lines


def first(row: dict[str, Any]) -> list[str]:
    """R1 and what is lost of it; rows of before it was kept have neither."""
    return [NOT_MEASURED, NOT_MEASURED] if row.get("R1") is None else [f"{row['R1']:.1f}", f"{row['R1_loss']:.2f}"]


def devices(rows: Rows) -> list[str]:
    """Speed on the GPU of this machine."""
    lines = ["| network | precision | batch | median | 95 % | median with CUDA graphs | GFLOP/s | bandwidth "]
    lines[0] += "| cosine with ONNX Runtime |"
    lines.append("|" + "---|" * 9)
    for name, row in rows.items():
        cells = [NOT_MEASURED, *[""] * 5]
        if "not_measured" not in row:
            cells = [f"{row[kind]:.2f} ms" for kind in ("p50_ms", "p95_ms", "p50_graphs_ms")] + [f"{row['gflops']:.0f}"]
            cells += [f"{row['bandwidth_share']:.1%}", f"{row['cosine_min']:.4f}"]
        lines.append(f"| {' | '.join([*name.split('/'), *cells])} |")
    reasons = {row["not_measured"] for row in rows.values() if "not_measured" in row}
    return [*lines, *(f"\nnot measured: {reason}" for reason in sorted(reasons))]
