"""Chapter: what became of every claim, under the paper's learning rate and under the tuned one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...verdicts.units import printed_factor
from ...verdicts.verdict import STATES
from .. import format
from . import words
from .layout import NOTHING, Block, Bullets, Cell, Chapter, Column, Fold, Grid, Heading, Sentence, Tiles, columns, text
from .material import RATES, Material

if TYPE_CHECKING:
    from ...paper.claims import Claim, Part
    from ...verdicts.verdict import ClaimVerdict, PartVerdict

EXPLAINED = (
    "reproduced: the difference is there beyond noise, over seeds and examples (Holm-corrected within the claim)",
    "reproduced in direction: our mean differs the same way, but within noise",
    "not reproduced: significantly the other way, or even half of the published difference is excluded",
    "not decidable: these runs can't tell; the number of seeds that would is given",
    "no runs yet: runs it needs are missing or failed, or the claim has no such form",
)


def chapter(material: Material) -> Chapter:
    """Counts, one row per claim, and the parts of each to be opened."""
    found = Chapter("claims", "Claims and verdicts")
    if not material.claims:
        found.say("There are no claims in this report.")
        return found
    scale = "small models and real data (pocket)" if material.form == "pocket" else "the papers' own models"
    found.say(
        f"Every claim has two verdicts: at the learning rate that was published for it, and with each method's rate"
        f" chosen on held-out data by the same number of trials. Runs: {scale}. Differences are ours minus reference,"
        " in points (x 100) unless the metric is no fraction; positive is better for the claim."
    )
    for lr in RATES:
        found.blocks.append(Heading(f"claims-{lr}", f"With the {lr} learning rate"))
        found.blocks.append(_tiles(material.verdicts.get(lr, [])))
    found.blocks.append(Bullets(EXPLAINED))
    found.blocks.append(_overview(material))
    found.blocks.append(Heading("claims-each", "Each claim"))
    verdicts = {lr: {v.claim.id: v for v in material.verdicts.get(lr, [])} for lr in RATES}
    found.blocks += [_fold(claim, {lr: verdicts[lr].get(claim.id) for lr in RATES}) for claim in material.claims]
    return found


def _tiles(verdicts: list[ClaimVerdict]) -> Tiles:
    counts = Counter(verdict.state for verdict in verdicts if verdict.parts)
    formless = sum(not verdict.parts for verdict in verdicts)
    found = [(str(counts[state]), words.state(state), state) for state in STATES]
    return Tiles((*found, *([(str(formless), f"no {verdicts[0].form} form", "missing")] if formless else [])))


def _overview(material: Material) -> Grid:
    """One row per claim."""
    rows = []
    verdicts = {lr: {v.claim.id: v for v in material.verdicts.get(lr, [])} for lr in RATES}
    for claim in material.claims:
        cells = [Cell(claim.sentence, link=anchor(claim), heading=True), text(claim.paper), _tested_on(claim, material)]
        cells.append(_published(claim))
        for lr in RATES:
            verdict = verdicts[lr].get(claim.id)
            cells += [_state(verdict), *_difference(verdict)]
        rows.append(cells)
    names = [*columns("Claim", "Paper", "Tested here on"), Column("published")]
    for lr in RATES:
        names += [Column(name, f"{lr} learning rate") for name in ("verdict", "ours [95 % interval]", "seeds")]
    caption = (
        "Difference: of the first comparison; in our columns of the first that came out like the whole claim. All are"
        " below."
    )
    return Grid("claims-overview", "All claims", names, rows, caption)


def anchor(claim: Claim) -> str:
    return words.slug("claim", claim.id)


def _tested_on(claim: Claim, material: Material) -> Cell:
    """The models and tasks of the form that was judged, which in the pocket form are not those of the sentence."""
    parts = claim.form(material.form)
    if not parts:
        return Cell(NOTHING)
    models, tasks = (
        list(dict.fromkeys(names)) for names in ([p.model for p in parts], [t for p in parts for t in p.tasks])
    )
    shown = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}"
    return Cell(f"{words.listed(models, 1)}, {shown}", hint=", ".join(tasks))


def _published(claim: Claim) -> Cell:
    part = claim.parts[0] if claim.parts else None
    ours, reference = part.published if part else (None, None)
    if ours is None or reference is None:
        return Cell(NOTHING)
    value = round(ours - reference, 6)
    return Cell(words.signed(value), value, hint=f"printed: {ours:g} against {reference:g}")


def _state(verdict: ClaimVerdict | None) -> Cell:
    if verdict is None:
        return Cell(words.state("missing"), state="missing")
    return Cell(f"no {verdict.form} form" if not verdict.parts else words.state(verdict.state), state=verdict.state)


def _difference(verdict: ClaimVerdict | None) -> list[Cell]:
    parts = verdict.parts if verdict else ()
    part = next((found for found in parts if verdict and found.state == verdict.state), None)
    if part is None or part.difference is None:
        return [Cell(NOTHING)] * 2
    shown, interval = difference(part), between(part)
    text = shown.text if interval.value is None else f"{shown.text} [{interval.text}]"
    return [Cell(text, shown.value, hint=_comparison(part.part)), Cell(str(part.seeds), part.seeds)]


def difference(part: PartVerdict) -> Cell:
    assert part.difference is not None
    value = printed_factor(part.metric) * part.difference
    return Cell(words.signed(value), value)


def between(part: PartVerdict) -> Cell:
    if part.low is None or part.high is None:
        return Cell(NOTHING)
    low, high = (printed_factor(part.metric) * value for value in (part.low, part.high))
    return Cell(f"{words.signed(low)} to {words.signed(high)}", low)


def _fold(claim: Claim, verdicts: dict[str, ClaimVerdict | None]) -> Fold:
    blocks: list[Block] = [Sentence(f"Source: {claim.source}", soft=True)]
    for lr, verdict in verdicts.items():
        if verdict is None:
            continue
        blocks.append(Sentence(f"With the {lr} learning rate: {verdict.sentence}"))
        if verdict.parts:
            blocks.append(_parts(claim, lr, verdict))
        notes = tuple(dict.fromkeys(f"{_comparison(v.part)}: {note}" for v in verdict.parts for note in v.notes))
        if notes:
            blocks.append(Bullets(notes))
    if claim.no_pocket:
        blocks.append(Sentence(f"No pocket form: {claim.no_pocket}"))
    state = next((v.state for lr in reversed(RATES) if (v := verdicts[lr]) is not None), "missing")
    both = "; ".join(f"{lr} lr: {words.state(v.state)}" for lr in RATES if (v := verdicts[lr]) is not None)
    return Fold(anchor(claim), f"{claim.sentence} ({claim.id}; {both})", tuple(blocks), state)


def _parts(claim: Claim, lr: str, verdict: ClaimVerdict) -> Grid:
    names = ["Comparison", "Model", "Tasks", "Published", "Verdict", "Difference", "95 % interval", "p", "p (Holm)"]
    names += ["Effect size", "Seeds", "Seeds needed", "Examples"]
    rows = []
    for found in verdict.parts:
        part = found.part
        nothing = Cell(NOTHING)
        rows.append(
            [
                Cell(_comparison(part), note=_runs(found), heading=True),
                text(part.model),
                text(", ".join(part.tasks)),
                text(_printed(part)),
                Cell(words.state(found.state), state=found.state),
                difference(found) if found.difference is not None else nothing,
                between(found),
                *(Cell(format.p_value(p), p) for p in (found.p, found.p_holm)),
                nothing if found.effect is None else Cell(f"{found.effect:+.2f}", found.effect),
                Cell(str(found.seeds), found.seeds),
                nothing if found.seeds_needed is None else Cell(str(found.seeds_needed), found.seeds_needed),
                nothing if found.examples is None else Cell(f"{found.examples:,}", found.examples),
            ]
        )
    return Grid(words.slug("parts", claim.id, lr), f"Parts, {lr} learning rate", columns(*names), rows)


def _comparison(part: Part) -> str:
    margin = f" by {part.margin:g}" if part.margin else ""
    name = part.ours.name
    other = part.reference.name if part.reference else ""
    return {
        "above": f"{name} above {other}{margin}",
        "not_worse": f"{name} not worse than {other}{f' (within {part.margin:g})' if part.margin else ''}",
        "at_most": f"{name}: {part.metric} at most {part.margin:g}",
        "at_least": f"{name}: {part.metric} at least {part.margin:g}",
    }.get(part.kind, f"{part.kind}: {name} {other}".strip())


def _printed(part: Part) -> str:
    numbers = [f"{value:g}" for value in part.published if value is not None]
    return " against ".join(numbers)


def _runs(found: PartVerdict) -> str:
    sides = [
        f"{selector.name}: {' '.join(runs)}"
        for selector, runs in ((found.part.ours, found.ours_runs), (found.part.reference, found.reference_runs))
        if selector is not None and runs
    ]
    return f"Runs: {'; '.join(sides)}" if sides else ""
