"""The networks the course optimizes: two LeNets, a CIFAR-style ResNet, a small MobileNetV2; 28 x 28 grey images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LeNet5", "LeNet300100", "MobileNetV2", "ResNet", "mobilenet_v2", "resize_", "resnet8", "resnet20"]

M = TypeVar("M", bound=nn.Module)


class LeNet300100(nn.Module):
    """The fully connected network 784-300-100-10 with 266,610 parameters.

    Source: LeCun et al. 1998; in this form Han et al. 2015, arXiv:1506.02626, table 3.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, 1, 28, 28)."""
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """Two 5 x 5 convolutions and two linear layers with 431,080 parameters.

    Source: LeCun et al. 1998; in the Caffe form of Han et al. 2015, arXiv:1506.02626, table 4.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, 1, 28, 28)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (N, 20, 12, 12)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 50, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; a 1 x 1 convolution where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of 6n + 2 layers in three stages of n blocks, for 1-channel images.

    Args:   n_blocks: n, blocks a stage (3 gives ResNet-20, 9 gives ResNet-56).
            width: channels of the first stage; the others have 2 and 4 times as many.
            n_classes: number of logits.
            stem_stride: of the first convolution; 2 makes all that follows four times as cheap.
    Raises: ValueError if n_blocks, width or stem_stride is below 1.
    Source: He et al. 2016, arXiv:1512.03385, section 4.2 (there on 3 x 32 x 32).
    """

    def __init__(self, n_blocks: int = 3, width: int = 16, n_classes: int = 10, stem_stride: int = 1) -> None:
        super().__init__()
        if n_blocks < 1 or width < 1:
            raise ValueError(f"n_blocks and width must be at least 1, got {n_blocks} and {width}")
        if stem_stride < 1:
            raise ValueError(f"stem_stride must be at least 1, got {stem_stride}")
        self.conv1 = nn.Conv2d(1, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        widths = [width, 2 * width, 4 * width]
        self.stage1 = self._stage(width, widths[0], n_blocks, stride=1)
        self.stage2 = self._stage(widths[0], widths[1], n_blocks, stride=2)
        self.stage3 = self._stage(widths[1], widths[2], n_blocks, stride=2)
        self.fc = nn.Linear(widths[2], n_classes)

    @staticmethod
    def _stage(n_in: int, n_out: int, n_blocks: int, stride: int) -> nn.Sequential:
        blocks = [BasicBlock(n_in, n_out, stride)]
        blocks += [BasicBlock(n_out, n_out, 1) for _ in range(n_blocks - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, 1, 28, 28)."""
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 16, 28, 28)
        x = self.stage3(self.stage2(self.stage1(x)))  # (N, 64, 7, 7)
        return self.fc(x.mean(dim=(2, 3)))


def resnet20(n_classes: int = 10, width: int = 16) -> ResNet:
    """A ResNet of 20 layers: 272,186 parameters at width 16.

    Source: He et al. 2016, arXiv:1512.03385, table 6.
    """
    return ResNet(n_blocks=3, width=width, n_classes=n_classes)


def resnet8(n_classes: int = 10, width: int = 8, stem_stride: int = 2) -> ResNet:
    """A student: a ResNet of 8 layers on images halved by its first convolution; 19,810 parameters at width 8.

    Its stages 1 and 2 have the resolutions of stages 2 and 3 of `resnet20`: 14 x 14 and 7 x 7.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2, with one block a stage.
    """
    return ResNet(n_blocks=1, width=width, n_classes=n_classes, stem_stride=stem_stride)


def _conv_bn_relu6(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU6())


class InvertedResidual(nn.Module):
    """1 x 1 to more channels, 3 x 3 on each channel alone, 1 x 1 back without ReLU; a shortcut where shapes agree."""

    def __init__(self, n_in: int, n_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * n_in
        self.expand = nn.Sequential() if expansion == 1 else _conv_bn_relu6(n_in, hidden, 1)
        self.depthwise = _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, n_out, 1, bias=False), nn.BatchNorm2d(n_out))
        self.has_shortcut = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.has_shortcut else out


class MobileNetV2(nn.Module):
    """A small MobileNetV2 for 1-channel images: depthwise convolutions, ReLU6, inverted residuals.

    The block that halves the image does not expand: a strided depthwise backward is slow on a CPU, so it
    gets few channels.

    Args:   width: factor on the channels of all blocks, rounded to a multiple of 8. n_classes: number of logits.
    Raises: ValueError if width is not above 0.
    Source: Sandler et al. 2018, arXiv:1801.04381, table 2 (there 17 blocks on 3 x 224 x 224).
    """

    # (expansion, channels, blocks, stride of the first block)
    BLOCKS = ((1, 24, 1, 1), (3, 24, 1, 1), (1, 40, 1, 2), (4, 40, 2, 1), (4, 64, 1, 1))

    def __init__(self, width: float = 1.0, n_classes: int = 10) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width must be above 0, got {width}")
        channels = max(8, 8 * round(24 * width / 8))
        self.stem = _conv_bn_relu6(1, channels, 3, stride=2)
        blocks = []
        for expansion, n_out, n_blocks, stride in self.BLOCKS:
            for index in range(n_blocks):
                scaled = max(8, 8 * round(n_out * width / 8))
                blocks.append(InvertedResidual(channels, scaled, stride if index == 0 else 1, expansion))
                channels = scaled
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_bn_relu6(channels, 2 * channels, 1)
        self.fc = nn.Linear(2 * channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, 1, 28, 28)."""
        x = self.head(self.blocks(self.stem(x)))  # (N, 128, 7, 7)
        return self.fc(x.mean(dim=(2, 3)))


def mobilenet_v2(n_classes: int = 10, width: float = 1.0) -> MobileNetV2:
    """A MobileNetV2 of 6 inverted residuals: 65,402 parameters at width 1.

    Source: Sandler et al. 2018, arXiv:1801.04381.
    """
    return MobileNetV2(width=width, n_classes=n_classes)


def resize_(model: M, state: Mapping[str, Tensor]) -> M:
    """The model itself, its layers given the widths of the tensors in `state`, ready for `load_state_dict`.

    So a network whose channels were removed is kept as its class and one file: the shapes in the file say how wide each
    layer is. Depthwise convolutions stay depthwise, grouped ones keep their number of groups.

    Args:   model: as its class builds it. state: a state dict of a network of that class with other widths.
    Raises: KeyError if a layer's weight is not in `state`.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
            continue
        for key, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            new = old.new_zeros(state[f"{name}.{key}"].shape)
            setattr(
                module, key, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            )
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = len(state[f"{name}.running_mean"])
        else:
            depthwise = module.groups == module.in_channels > 1
            module.out_channels, per_group = module.weight.shape[:2]
            module.groups = module.out_channels if depthwise else module.groups
            module.in_channels = per_group * module.groups
    return model
