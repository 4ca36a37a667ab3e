from torch import nn


class TinyNet(nn.Module):
    """A convolution, then optionally BatchNorm, a shortcut around a second convolution, and pooling."""

    def __init__(self, in_channels, num_classes, size, width=8, norm=True, shortcut=True, pool=True):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.shortcut = shortcut
        side = size // 2 if pool else size
        self.head = nn.Linear(width * side * side, num_classes)

    def forward(self, X):
        X = self.norm(self.first(X)).relu()
        Y = self.second(X).relu()
        return self.head(self.pool(X + Y if self.shortcut else Y).flatten(1))
