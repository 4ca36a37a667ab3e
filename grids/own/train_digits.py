"""A training script that knows nothing of the harness: argparse, plain PyTorch, a CSV log."""

import argparse
import csv
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--norm", action=argparse.BooleanOptionalAction, default=False)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

torch.manual_seed(args.seed)
torch.set_num_threads(1)
digits = load_digits()
rest_x, test_x, rest_y, test_y = train_test_split(digits.data / 16, digits.target, test_size=360, random_state=0)
train_x, dev_x, train_y, dev_y = train_test_split(rest_x, rest_y, test_size=180, random_state=0)


def tensors(x, y):
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


train, dev, test = tensors(train_x, train_y), tensors(dev_x, dev_y), tensors(test_x, test_y)
layers = [nn.Linear(64, args.width)]
if args.norm:
    layers.append(nn.BatchNorm1d(args.width))
layers += [nn.ReLU(), nn.Dropout(args.dropout), nn.Linear(args.width, 10)]
model = nn.Sequential(*layers)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)


@torch.no_grad()
def accuracy(split):
    model.eval()
    return (model(split[0]).argmax(1) == split[1]).float().mean().item()


args.out.mkdir(parents=True, exist_ok=True)
with (args.out / "log.csv").open("w", newline="") as file:
    log = csv.writer(file)
    log.writerow(["epoch", "train_loss", "dev_accuracy", "test_accuracy"])
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(train[0])).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(train[0][batch]), train[1][batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        log.writerow([epoch, total / len(train[0]), accuracy(dev), accuracy(test)])
        file.flush()
