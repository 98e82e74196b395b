"""The figures of the spectrum tool, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ..report.plots import MARKERS, colour
from .discard import Point
from .layers import LayerSpectrum

WAY_NAMES = {"plain": "plain SVD", "asvd": "ASVD (activation-aware)", "corda": "CorDA (W C)"}


def spectra_figure(spectra: Sequence[LayerSpectrum], r: int, folder: Path) -> list[Path]:
    """Singular values of every layer before (grey) and after (coloured) the cut, one panel per kind of layer."""
    kinds: dict[str, list[LayerSpectrum]] = {}
    for spectrum in spectra:
        kinds.setdefault(spectrum.name.rsplit(".", 1)[-1], []).append(spectrum)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for index, (axes, (kind, members)) in enumerate(zip(panels, kinds.items(), strict=True)):
            for place, spectrum in enumerate(members):
                first = place == 0
                axes.semilogy(spectrum.before, color="0.7", lw=0.8, label="before" if first else None)
                kept = spectrum.after[spectrum.after > spectrum.before[0] * 1e-9]
                axes.semilogy(kept, color=colour(index), lw=0.8, alpha=0.7, label="after" if first else None)
            out, into = members[0].shape
            axes.set_title(f"{kind}\n{out} x {into}, {len(members)} layers", fontsize=9)
            axes.set_xlabel("component")
            axes.legend(frameon=False, fontsize=8)
        panels[0].set_ylabel("singular value")
        figure.suptitle(f"Singular values before and after taking out {r} components", fontsize=10)

    return saved(draw, folder / "spectrum", (2.6 * len(kinds) + 0.6, 3.2))


def discard_figure(points: Sequence[Point], folder: Path, model: str) -> list[Path]:
    """Every score over the number of discarded components, one line per way; perplexities on a logarithmic axis."""
    names = list(dict.fromkeys(name for point in points for name in point.scores))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for index, way in enumerate(dict.fromkeys(point.way for point in points)):
                line = [(p.discarded, p.scores[name]) for p in points if p.way == way]
                style: dict[str, Any] = {"color": colour(index), "marker": MARKERS[index], "ms": 4, "lw": 1.3}
                axes.plot(*zip(*line, strict=True), label=WAY_NAMES[way], **style)
            axes.set_xscale("symlog", base=2, linthresh=1)
            ticks = sorted({point.discarded for point in points})
            axes.set_xticks(ticks, labelled(ticks))
            if name.startswith("perplexity"):
                axes.set_yscale("log")
            axes.set_xlabel("smallest components discarded from every layer")
            axes.set_ylabel(name.replace("_", " "))
            axes.legend(frameon=False, fontsize=8)
        figure.suptitle(f"{model}: what discarding components costs, without training", fontsize=10)

    return saved(draw, folder / "discard", (4.6 * len(names), 3.4))


def labelled(ticks: Sequence[int]) -> list[str]:
    """Labels of ascending ticks on a logarithmic axis; those too close to a labelled one on their left have none."""
    labels, last = [], 0.0
    for tick in ticks:
        far = tick >= 1.45 * last
        labels.append(str(tick) if far else "")
        last = tick if far else last
    return labels


def saved(draw: Callable[[Any], None], stem: Path, size: tuple[float, float]) -> list[Path]:
    """Draw on a figure of ``size`` inches and write it as stem.png and stem.svg."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[str, Any] = {
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.2,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with matplotlib.rc_context(cast(Any, style)):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for path in paths:
            figure.savefig(path, dpi=160)
    return paths
