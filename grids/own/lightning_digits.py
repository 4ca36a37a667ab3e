"""A Lightning module as training code, unchanged but for a callback that reports: a function around fit and test."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self, width: int, dropout: float, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))

    def _scores(self, batch, name):
        X, y = batch
        output = self.net(X)
        loss = nn.functional.cross_entropy(output, y)
        accuracy = (output.argmax(1) == y).float().mean()
        self.log_dict({f"{name}_loss": loss, f"{name}_accuracy": accuracy}, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, index):
        return self._scores(batch, "train")

    def validation_step(self, batch, index):
        self._scores(batch, "dev")

    def test_step(self, batch, index):
        self._scores(batch, "test")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), self.lr)


class Reporting(lightning.Callback):
    def __init__(self, report):
        self.report = report

    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.report(dict(trainer.callback_metrics), step=trainer.global_step)


def run(width=32, dropout=0.0, lr=0.003, epochs=5, *, seed, folder, report):
    lightning.seed_everything(seed, verbose=False)
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor(X, dtype=torch.float32) / 16, torch.tensor(y)
    parts = [TensorDataset(X[part], y[part]) for part in (slice(1000), slice(1000, 1300), slice(1300, None))]
    train, dev, test = (DataLoader(part, 64, shuffle=index == 0) for index, part in enumerate(parts))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[Reporting(report)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Digits(width, dropout, lr)
    trainer.fit(module, train, dev)
    return {name: value.item() for name, value in trainer.callback_metrics.items()} | trainer.test(
        module, test, verbose=False
    )[0]
