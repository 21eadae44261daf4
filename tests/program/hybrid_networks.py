"""Networks with parts that only the host can run, with seeded random weights."""

import torch
import torch.nn.functional as F
from torch import nn


class Classifier(nn.Module):
    """Ends with a softmax: [N, 3, 8, 8] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(x)))
        return self.head(x.mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.softmax(self.logits(x), dim=1)


class Picker(Classifier):
    """Ends with an argmax: the number of a class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x).argmax(1)


class SqueezeExcite(nn.Module):
    """Between two convolutions a gate that depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.reduce = nn.Conv2d(8, 4, 1)
        self.expand = nn.Conv2d(4, 8, 1)
        self.after = nn.Conv2d(8, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.before(x))
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        x = x * torch.sigmoid(gate)
        return self.after(x)


class Upsampler(nn.Module):
    """Bilinear upsampling in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.after = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.before(x))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.after(x)


class ChannelsLast(nn.Module):
    """Takes [N, H, W, C], and normalizes each image by its own spread."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2)
        x = x / x.flatten(1).std(1).view(x.shape[0], 1, 1, 1)
        return F.relu(self.stem(x))


class NormalizedBlock(nn.Module):
    """A residual block with a group norm, which its shortcut spans; convolutions around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = x + self.norm(self.body(x))
        return self.head(x)


class Tokens(nn.Module):
    """Attention between pixels, in [N, pixels, channels], and a linear layer after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.project = nn.Linear(8, 24)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        query, key, value = self.project(x).chunk(3, dim=-1)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.head(x.mean(1))


def build(kind: type[nn.Module], *, seed: int = 0) -> nn.Module:
    """A network in evaluation mode; its batch norms know statistics."""
    torch.manual_seed(seed)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()
