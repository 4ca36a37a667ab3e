"""A character-level language model on a text that comes with scikit-learn: loss in nats, per character."""

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional


class Characters(nn.Module):
    def __init__(self, size: int, width: int, context: int, gated: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(size, 16)
        self.mix = (nn.GRU if gated else nn.RNN)(16, width, batch_first=True)
        self.head = nn.Linear(width, size)

    def forward(self, characters):
        return self.head(self.mix(self.embed(characters))[0])


def run(width: int = 64, context: int = 32, gated: bool = True, steps: int = 200, lr: float = 0.01, *, seed, report):
    torch.manual_seed(seed)
    text = load_diabetes().DESCR
    letters = sorted(set(text))
    codes = torch.tensor([letters.index(letter) for letter in text])
    train, dev, test = codes[:-800], codes[-800:-400], codes[-400:]
    model = Characters(len(letters), width, context, gated)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    @torch.no_grad()
    def nats(split):
        return functional.cross_entropy(model(split[None, :-1])[0], split[1:]).item()

    for step in range(1, steps + 1):
        starts = torch.randint(len(train) - context - 1, (32,))
        batch = torch.stack([train[start : start + context + 1] for start in starts])
        loss = functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            report(step=step, train_loss=loss.item(), dev_nll=nats(dev), test_nll=nats(test))
    return {"data": str(codes.sum().item())}
