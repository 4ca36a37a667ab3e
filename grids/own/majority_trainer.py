"""A Hugging Face Trainer on a tiny model that is made from its configuration: nothing is downloaded.

The task: which of two tokens stands more often in a sequence.
"""

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Majority(Dataset):
    def __init__(self, size, seed):
        self.tokens = torch.from_numpy(np.random.default_rng(seed).integers(2, 4, (size, 15)))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": int(tokens.sum() > 2.5 * 15)}


class Reporting(TrainerCallback):
    def __init__(self, report):
        self.report = report

    def on_evaluate(self, args, state, control, metrics, **more):
        found = {name.replace("eval_", "dev_"): value for name, value in metrics.items() if name.startswith("eval_")}
        self.report(
            {name: value for name, value in found.items() if name in ("dev_loss", "dev_accuracy")},
            step=state.global_step,
        )


def scores(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def run(layers=1, heads=2, lr=0.003, epochs=2, *, seed, folder, report):
    config = BertConfig(
        vocab_size=4,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=lr,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        seed=seed,
        disable_tqdm=True,
    )
    torch.manual_seed(seed)
    trainer = Trainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=Majority(1000, 0),
        eval_dataset=Majority(300, 1),
        compute_metrics=scores,
        callbacks=[Reporting(report)],
    )
    trainer.train()
    tested = trainer.predict(Majority(500, 2)).metrics
    return {"test_accuracy": tested["test_accuracy"], "test_loss": tested["test_loss"]}
