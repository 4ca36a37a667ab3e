"""A Hydra script that knows nothing of the harness."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split


@dataclass
class Model:
    loss: str = "log_loss"
    decay: float = 0.0001


@dataclass
class Config:
    seed: int = 0
    out: str = "out"
    model: Model = field(default_factory=Model)


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base=None, config_name="config")
def main(config: Config) -> None:
    x, test_x, y, test_y = train_test_split(*load_digits(return_X_y=True), random_state=0)
    model = SGDClassifier(loss=config.model.loss, alpha=config.model.decay, random_state=config.seed)
    accuracy = model.fit(x, y).score(test_x, test_y)
    Path(config.out, "result.json").write_text(json.dumps({"test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
