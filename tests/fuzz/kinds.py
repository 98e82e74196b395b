"""The kinds of malformed input: what is damaged, and by which doors it is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .cases import Attempt
from .damage import HAND, mutated
from .samples import ADAPTERS, LAYOUTS, Samples


class Kind:
    """Attempts of one kind: the first ``hand_made()`` from a list, the further ones drawn at random."""

    name: str

    def __init__(self, samples: Samples, scratch: Path) -> None:
        self.samples, self.scratch = samples, scratch

    def attempt(self, n: int, random: Random) -> Attempt:
        raise NotImplementedError

    def hand_made(self) -> int:
        """How many attempts are hand-made."""
        return 0

    def fresh(self, source: Path) -> Path:
        """A copy to damage, alone in the scratch folder."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        place = self.scratch / "copy"
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            place.mkdir(parents=True)
            shutil.copy(source, place / source.name)
        return place


class FileKind(Kind):
    """One file of a folder is damaged, then the folder is read."""

    def sources(self) -> list[Path]:
        """Sound folders."""
        raise NotImplementedError

    def files(self, source: Path) -> list[Path]:
        return sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))

    def read(self, folder: Path, source: Path, file: Path) -> Any:
        raise NotImplementedError

    def run(self, folder: Path) -> Path | None:
        return None

    def pairs(self) -> list[tuple[Path, Path]]:
        if not hasattr(self, "_pairs"):
            self._pairs = [(s, file.relative_to(s)) for s in self.sources() for file in self.files(s)]
        return self._pairs

    def hand_made(self) -> int:
        return len(self.pairs()) * len(HAND)

    def attempt(self, n: int, random: Random) -> Attempt:
        pairs, self.turn = self.pairs(), n
        if n < self.hand_made():
            # in an order that does not stay with one file: a short budget sees each
            (source, file), name = pairs[n % len(pairs)], list(HAND)[(n + n // len(pairs)) % len(HAND)]
            folder = self.fresh(source)
            HAND[name](folder / file)
        else:
            source, file = random.choice(pairs)
            folder = self.fresh(source)
            name = mutated(folder / file, random)
        about = f"{source.name}/{file}: {name}"
        return Attempt(about, lambda: self.read(folder, source, folder / file), self.run(folder))


class DataFiles(FileKind):
    """Data files of every task family."""

    name = "data files"

    def pairs(self) -> list[tuple[Path, Path]]:
        root = self.samples.data
        found = []
        for task, place in LAYOUTS.items():
            path = root / place
            files = self.files(path) if path.is_dir() else [path]
            found += [(Path(task), file.relative_to(root)) for file in files]
        return found

    def attempt(self, n: int, random: Random) -> Attempt:
        from synthetic import make_task

        pairs = self.pairs()
        task, file = pairs[n % len(pairs)]
        shutil.rmtree(self.scratch, ignore_errors=True)
        folder = self.scratch / "data"
        place = self.samples.data / LAYOUTS[str(task)]
        for sound in self.files(place) if place.is_dir() else [place]:
            copy_of = folder / sound.relative_to(self.samples.data)
            copy_of.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sound, copy_of)
        if str(task) == "metamath":
            for further in ("gsm8k", "math"):
                shutil.copytree(self.samples.data / further, folder / further)
        if n < self.hand_made():
            name = list(HAND)[(n + n // len(pairs)) % len(HAND)]
            HAND[name](folder / file)
        else:
            name = mutated(folder / file, random)
        selection = random.choice(("held_out", "paper"))
        return Attempt(f"{task}, {file}: {name}", lambda: make_task(str(task)).load(folder, selection))


class Models(FileKind):
    """Model folders: prepared from their description, loaded, and every fifth time a whole run."""

    name = "model folders"

    def sources(self) -> list[Path]:
        return [self.samples.bert, self.samples.sharded, self.samples.llama]

    def read(self, folder: Path, source: Path, file: Path) -> Any:
        from dataclasses import asdict

        from kasa_corda.launch import launch, prepare
        from kasa_corda.models.loading import load_model

        decoder = source == self.samples.llama
        task = ["task=gsm8k", "task.max_length=128", "task.max_new_tokens=4"] if decoder else []
        plain = self.samples.plain("method=lora", f"model.path={source}", *task)
        plain["model"]["path"], plain["run_root"] = str(folder), str(self.scratch / "root")
        config, directory = prepare(plain)
        if not decoder and self.turn % 5 == 0:
            config.trainer.max_steps = 1
            return launch(config, directory, ["fuzz"])
        return load_model(asdict(config.model), None if decoder else 2, config.task.kind)

    def run(self, folder: Path) -> Path | None:
        return OnlyRun(self.scratch / "root")


class OnlyRun(type(Path())):  # type: ignore[misc]
    """The one run directory below a run root, whatever its id: ``folder / name`` looks there."""

    def __truediv__(self, name: Any) -> Path:
        found = sorted(Path(self).rglob(str(name)))
        return found[0] if found else Path(self).joinpath(str(name))


class ModelParts(Kind):
    """Model folders whose parts are sound but don't belong together, and those without safetensors."""

    name = "model folders of other parts"

    def cases(self) -> dict[str, Callable[[Path], Any]]:
        samples = self.samples

        def from_other(name: str, other: Path) -> Callable[[Path], Any]:
            return lambda folder: shutil.copy(other / name, folder / name)

        def config(**changes: Any) -> Callable[[Path], Any]:
            def change(folder: Path) -> None:
                path = folder / "config.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

            return change

        def pickled(folder: Path) -> None:
            import torch

            (folder / "model.safetensors").unlink()
            torch.save({"embeddings.word_embeddings.weight": torch.zeros(2, 2)}, folder / "pytorch_model.bin")

        def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
            def apply(folder: Path) -> None:
                from safetensors.torch import load_file, save_file

                state = load_file(folder / "model.safetensors")
                change(state)
                save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

            return apply

        def first(state: dict[str, Any], change: Callable[[Any], Any]) -> None:
            name = next(n for n in sorted(state) if n.endswith("query.weight"))
            state[name] = change(state[name]).contiguous()

        return {
            "the tokenizer of another model": from_other("tokenizer.json", samples.llama),
            "the tokenizer settings of another model": from_other("tokenizer_config.json", samples.llama),
            "the config of another model": from_other("config.json", samples.llama),
            "the weights of another model": from_other("model.safetensors", samples.llama),
            "pickled weights alone": pickled,
            "pickled weights beside": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80\x04."),
            "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
            "a tensor gone": tensors(lambda state: state.pop(sorted(state)[5])),
            "a tensor of another shape": tensors(lambda state: first(state, lambda t: t[:3])),
            "a tensor of other dimensions": tensors(lambda state: first(state, lambda t: t[None])),
            "an empty tensor": tensors(lambda state: first(state, lambda t: t[:0])),
            "a tensor of whole numbers": tensors(lambda state: first(state, lambda t: t.long())),
            "a tensor of truths": tensors(lambda state: first(state, lambda t: t > 0)),
            "NaN weights": tensors(lambda state: first(state, lambda t: t * float("nan"))),
            "infinite weights": tensors(lambda state: first(state, lambda t: t + float("inf"))),
            "no tensors": tensors(lambda state: state.clear()),
            "other names": tensors(lambda state: [state.update({f"x.{n}": state.pop(n)}) for n in list(state)]),
            "a vocabulary too small": config(vocab_size=3),
            "a vocabulary of 10^9": config(vocab_size=10**9),
            "10^6 layers": config(num_hidden_layers=10**6),
            "a width of 10^9": config(hidden_size=10**9),
            "heads that don't divide": config(num_attention_heads=5),
            "no activation": config(hidden_act="nothing"),
            "positions 1": config(max_position_embeddings=1),
            "a negative dropout": config(hidden_dropout_prob=-1.0),
            "a padding id outside": config(pad_token_id=10**6),
            "code to run": config(auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"}),
            "another architecture": config(model_type="roberta"),
            "an unknown architecture": config(model_type="mamba7"),
            "quantised": config(quantization_config={"quant_method": "gptq", "bits": 4}),
            "an epsilon that is a text": config(layer_norm_eps="small"),
            "labels": config(id2label={"0": "x"}, label2id={"x": 0}),
        }

    def hand_made(self) -> int:
        return len(self.cases())

    def attempt(self, n: int, random: Random) -> Attempt:
        from kasa_corda.launch import launch, prepare

        cases = self.cases()
        name = list(cases)[n] if n < len(cases) else random.choice(list(cases))
        folder = self.fresh(self.samples.bert)
        cases[name](folder)
        about = name
        if n >= len(cases):  # two at once
            further = random.choice(list(cases))
            try:
                cases[further](folder)
                about = f"{name}; {further}"
            except Exception:
                about = name

        def read() -> Any:
            plain = self.samples.plain("method=lora")
            plain["model"]["path"], plain["run_root"] = str(folder), str(self.scratch / "root")
            plain["trainer"]["max_steps"] = 1
            return launch(*prepare(plain), ["fuzz"])

        return Attempt(about, read, OnlyRun(self.scratch / "root"))


class Adapters(FileKind):
    """Adapters of every stored form: by ``load_run`` and by ``method=adapter``."""

    name = "adapters"

    def sources(self) -> list[Path]:
        return [self.samples.trained(method) for method in ADAPTERS]

    def files(self, source: Path) -> list[Path]:
        return sorted(path for path in (source / "adapter").iterdir() if path.suffix in (".json", ".safetensors"))

    def read(self, folder: Path, source: Path, file: Path) -> Any:
        from kasa_corda.trained import load_run

        if self.turn % 2:
            return load_run(folder).predict(["good film", "bad plot"])
        return stored(self.samples, folder)


def stored(samples: Samples, folder: Path) -> Any:
    """What method=adapter method.path=FOLDER does with the base model."""
    from dataclasses import asdict

    from kasa_corda.config.validate import typed
    from kasa_corda.methods import METHODS
    from kasa_corda.methods.base import AdaptContext
    from kasa_corda.models.loading import load_model
    from kasa_corda.models.local import complete

    plain = samples.plain("method=lora")
    plain["model"] = complete(plain["model"])
    model = load_model(asdict(typed(plain).model), 2, "classification").model
    method = METHODS["adapter"](METHODS["adapter"].Config(name="adapter", path=str(folder)))
    method.check({})
    return method.adapt(model, AdaptContext([], ["classifier"], "SEQ_CLS", 0, 0))


class Exchanged(Kind):
    """Adapter folders with the sound files of another method, and PEFT folders outside a run directory."""

    name = "adapters of other parts"

    def attempt(self, n: int, random: Random) -> Attempt:
        first, second = random.sample(ADAPTERS, 2)
        folder = self.fresh(self.samples.trained(first))
        way = random.choice(("files", "one file", "config", "alone", "base", "alone, damaged"))
        other = self.samples.trained(second)
        if way == "files":
            shutil.rmtree(folder / "adapter")
            shutil.copytree(other / "adapter", folder / "adapter")
        elif way == "one file":
            file = random.choice([path for path in (other / "adapter").iterdir() if path.is_file()])
            shutil.copy(file, folder / "adapter")
        elif way == "config":
            shutil.copy(other / "config.yaml", folder)
        elif way == "base":
            path = folder / "config.yaml"
            path.write_text(path.read_text().replace(str(self.samples.bert), str(self.samples.llama)))
        if way.startswith("alone"):
            shutil.copytree(folder / "adapter", self.scratch / "peft")
            if way != "alone":
                files = [p for p in (self.scratch / "peft").iterdir() if p.suffix in (".json", ".safetensors")]
                file = random.choice(files)
                way = f"alone, {file.name}: {mutated(file, random)}"
            return Attempt(f"{first} {way}", lambda: stored(self.samples, self.scratch / "peft"))

        def read() -> Any:
            from kasa_corda.trained import load_run

            return load_run(folder).predict(["good film"])

        return Attempt(f"{first} with the {way} of {second}", read)


class RunFiles(FileKind):
    """Files of run directories: by the report, the status, a merge, and one by one."""

    name = "run directories"

    def sources(self) -> list[Path]:
        return [self.samples.runs]

    def read(self, folder: Path, source: Path, file: Path) -> Any:
        from kasa_corda.errors import KasaCordaError
        from kasa_corda.merge import plan
        from kasa_corda.queue.states import status_text
        from kasa_corda.report import build_report, write_report
        from kasa_corda.store import RunDirectory, find_runs

        status_text(folder)
        find_runs(folder)
        run = RunDirectory(next(p for p in file.parents if p.name != "predictions"))
        refusals = []
        formats = ("md", "csv", "latex", "html") if self.turn % 4 == 0 else ("md",)
        doors: list[Callable[[], Any]] = [
            run.config, run.status, run.result, run.state, run.metrics, run.layers, lambda: run.predictions("test"),
            lambda: plan([folder], self.scratch / "merged"), lambda: run.write_status("running"),
            lambda: write_report(build_report([folder]), self.scratch / "report", formats),
        ]  # fmt: skip
        for door in doors:
            try:
                door()
            except KasaCordaError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]
        return None


class Trained(FileKind):
    """The other files of a finished run with an adapter: by ``load_run``, and by running its command again."""

    name = "finished runs"

    def sources(self) -> list[Path]:
        return [self.samples.trained("lora")]

    def files(self, source: Path) -> list[Path]:
        return [source / name for name in ("config.yaml", "result.json", "status.json")]

    def read(self, folder: Path, source: Path, file: Path) -> Any:
        from kasa_corda.store import RunDirectory
        from kasa_corda.trained import load_run
        from kasa_corda.worker import typed

        RunDirectory(folder).state()
        plain = RunDirectory(folder).config()
        if plain is not None:
            typed(plain)
        return load_run(folder).predict(["good film"])


class Checkpoints(FileKind):
    """An interrupted run: its command again, which reads status, config, metrics and checkpoint."""

    name = "interrupted runs"

    def sources(self) -> list[Path]:
        return [self.samples.interrupted]

    def attempt(self, n: int, random: Random) -> Attempt:
        from kasa_corda.launch import launch, prepare

        attempt = super().attempt(n, random)
        config, directory = prepare(self.samples.resuming(self.scratch / "root"))
        directory.path.parent.mkdir(parents=True)
        (self.scratch / "copy").replace(directory.path)
        return Attempt(attempt.about, lambda: launch(config, directory, ["fuzz"]), directory.path)


class Caches(Kind):
    """Spectral cache, finished blocks of a preparation, records of downloads, journals of texts."""

    name = "caches"

    def sound(self) -> dict[str, Path]:
        return {name: self.samples.made(name, fill) for name, (fill, _) in CACHES.items()}

    def pairs(self) -> list[tuple[str, Path]]:
        return [(n, f.relative_to(s)) for n, s in self.sound().items() for f in sorted(s.rglob("*")) if f.is_file()]

    def hand_made(self) -> int:
        return len(HAND) * len(self.pairs())

    def attempt(self, n: int, random: Random) -> Attempt:
        pairs = self.pairs()
        name, file = pairs[n % len(pairs)]
        folder = self.fresh(self.sound()[name])
        if n < self.hand_made():
            what = list(HAND)[(n + n // len(pairs)) % len(HAND)]
            HAND[what](folder / file)
        else:
            what = mutated(folder / file, random)
        return Attempt(f"{name}, {file}: {what}", lambda: CACHES[name][1](folder))


def fill_spectral(folder: Path) -> None:
    read_spectral(folder)


def read_spectral(folder: Path) -> Any:
    import torch

    from kasa_corda.spectral.cache import SpectralCache
    from kasa_corda.spectral.cached import cached_bottom_subspaces

    torch.manual_seed(0)
    cache = SpectralCache(folder, say=lambda text: None)
    found = cached_bottom_subspaces({"a": torch.randn(24, 32)}, 2, cache=cache)
    assert found["a"].basis.shape[-1] == 2 or found["a"].basis.shape[0] == 2
    assert bool(torch.isfinite(found["a"].basis).all())
    return list(cache.entries()) if hasattr(cache, "entries") else None


def fill_preparation(folder: Path) -> None:
    import torch

    from kasa_corda.corda.state import PreparationState

    state = PreparationState(folder, {"model": "m"})
    state.save("0", {"a": (torch.ones(2, 4), torch.ones(4, 2))}, [{"layer": "a", "rank": 2}])
    state.save_note("ranks", {"a": 2})


def read_preparation(folder: Path) -> Any:
    from kasa_corda.corda.state import PreparationState

    state = PreparationState(folder, {"model": "m"})
    found = state.load("0"), state.load_note("ranks"), state.has("0")
    fill_preparation(folder)
    return found


def fill_download(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    (folder / "source.json").write_text(json.dumps({"source": "hub", "files": {"model.safetensors": 100}}))


def read_download(folder: Path) -> Any:
    from kasa_corda.models.cache import is_complete

    return is_complete(folder)


def fill_journal(folder: Path) -> None:
    from kasa_corda.evaluation.journal import Journal

    journal = Journal(folder, "test", "best, 4")
    journal.open(decoding="greedy")
    journal.add([(("a/1", 0), "text"), (("b/1", 0), "text")])
    journal.close()


def read_journal(folder: Path) -> Any:
    from kasa_corda.evaluation.journal import Journal, remove_journals

    journal = Journal(folder, "test", "best, 4")
    found = journal.open(decoding="greedy")
    journal.close()
    remove_journals(folder)
    return found


CACHES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "spectral": (fill_spectral, read_spectral),
    "preparation": (fill_preparation, read_preparation),
    "download": (fill_download, read_download),
    "journal": (fill_journal, read_journal),
}
"""name -> what writes a sound one, and what reads it"""
