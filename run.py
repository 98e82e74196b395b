"""Entry point: ``python run.py method=kasa task=glue/sst2``; everything else is in ``kasa_corda.cli``."""

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from kasa_corda import cli
from kasa_corda.config import register

register(ConfigStore.instance())


@hydra.main(config_path="configs", config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """One composed run."""
    cli.single(config)


if __name__ == "__main__":
    sys.exit(cli.entry(main, sys.argv))
