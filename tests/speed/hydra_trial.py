"""One trial as a job of Hydra's multirun."""

from __future__ import annotations

from pathlib import Path

import hydra
from drivers import TRIAL, train
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

ConfigStore.instance().store("trial_settings", {"trial": TRIAL | {"seed": 0}, "record": "???"})


@hydra.main(version_base=None, config_name="trial_settings")
def main(config: DictConfig) -> None:
    train(OmegaConf.to_container(config.trial), Path(config.record))  # type: ignore[arg-type]  # a dict: it was one


if __name__ == "__main__":
    main()
