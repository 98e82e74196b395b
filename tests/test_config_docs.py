"""docs/config.md is generated from the dataclasses and the config files, and can't drift from them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import config_docs  # noqa: E402

from kasa_corda.cli.explain import GROUPS, group_options  # noqa: E402


def test_the_page_is_current():
    assert config_docs.PAGE.read_text(encoding="utf-8") == config_docs.page(), "docs/config.md is stale: make docs"


def test_the_check_notices_a_stale_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config_docs, "PAGE", tmp_path / "config.md")
    assert config_docs.main(["--check"]) == 1
    config_docs.PAGE.write_text("old\n")
    assert config_docs.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    config_docs.main([])
    assert config_docs.main(["--check"]) == 0


def test_every_option_of_every_group_is_named():
    text = config_docs.page()
    for group in GROUPS:
        for option in group_options(group):
            assert f"`{group}={option}`" in text
