"""What a reader should know about a truncation, as sentences (no torch)."""

from __future__ import annotations

from typing import Any


def truncation_notes(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences on the per-layer diagnostics of ``kasa.layers.truncate``; empty if nothing was looked at."""
    if not rows:
        return []
    cut = [row for row in rows if row["cut"]]
    notes = []
    if len(cut) < len(rows):
        notes.append(
            f"KaSA: {len(rows) - len(cut)} of {len(rows)} layers stay untruncated, e.g. {_first(rows, cut=0)}, since"
            " keep=in_features removes nothing where in_features - rank >= out_features"
        )
    if not cut:
        return notes
    shares = sorted(100 * row["relative_cut"] for row in cut)
    ranks = sorted({row["cut"] for row in cut})
    counts = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    notes.append(
        f"KaSA: {counts} components cut from each of {len(cut)} layers, {shares[0]:.2g} to {shares[-1]:.2g} %"
        " of the weight's norm"
    )
    low_rank = [row for row in cut if row["placement"] == "low_rank"]
    if low_rank:
        notes.append(
            f"KaSA: in {len(low_rank)} of {len(cut)} layers the cut is kept as a float32 low-rank term in the forward"
            f" pass, e.g. {low_rank[0]['layer']}, where writing it into {low_rank[0]['dtype']} would lose"
            f" {100 * low_rank[0]['lost_if_folded']:.0f} % of it"
        )
    invisible = [row for row in cut if row["invisible"]]
    if invisible:
        notes.append(
            f"KaSA: in {len(invisible)} of {len(cut)} layers, e.g. {invisible[0]['layer']}, most of the cut drowns in"
            f" the rounding of {invisible[0]['dtype']}: these layers are hardly truncated"
            " (method.correction=auto keeps the cut)"
        )
    fallen_back = [row for row in cut if row["fallback"]]
    if fallen_back:
        notes.append(
            f"KaSA: the fast route was left in {len(fallen_back)} layers, e.g. {fallen_back[0]['layer']}:"
            f" {fallen_back[0]['fallback']}"
        )
    return notes


def _first(rows: list[dict[str, Any]], cut: int) -> str:
    row = next(row for row in rows if row["cut"] == cut)
    return f"{row['layer']} ({row['out']} x {row['in']})"
