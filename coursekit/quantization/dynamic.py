"""Dynamic quantization: weights in int8 beforehand, activations batch by batch when they come; no calibration.

For layers whose time goes into reading weights: linear and recurrent ones. Both operands of every matrix product are
int8 and the sums int32; the range of the activations is looked up in each batch, and the result is float again.
Convolutions stay as they are: for them, quantize statically.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coursekit.quantization.affine import affine_qparams, int_range, quantize
from coursekit.quantization.integer import linear_accumulator
from coursekit.quantization.integer_layers import weight_scales

__all__ = ["DynamicLinear", "DynamicRNN", "dynamic_linear", "quantize_dynamic"]


def dynamic_linear(
    x: Tensor, q_w: Tensor, weight_scale: Tensor, bias: Tensor | None = None, n_bits: int = 8
) -> Tensor:
    """x @ weight.T + bias with int8 weights and activations quantized now, by the range of this very batch.

    One outlier anywhere in the batch widens the steps of all its values, and a row's result depends on the others.

    Args:    x: float (..., K). q_w: int8 (M, K), symmetric codes. weight_scale: (M,), or (1,) for all.
             bias: float (M,), added in float, or None. n_bits: of the activations, 2 to 8.
    Returns: float32 (..., M).
    Raises:  TypeError, ValueError as `check_finite` for x (an empty batch is fine), and as `linear_accumulator`.
    Source:  PyTorch's `torch.ao.quantization.quantize_dynamic`; Zafrir et al. 2019, arXiv:1910.06188, section 2.
             Taught in lesson 02.

    >>> q_w, half = torch.tensor([[2, -1]], dtype=torch.int8), torch.tensor([0.5])
    >>> dynamic_linear(torch.tensor([[0.0, 255.0], [51.0, 0.0]]), q_w, half)
    tensor([[-127.5000],
            [  51.0000]])
    """
    if x.numel() == 0:
        return x.new_zeros(*x.shape[:-1], len(q_w))
    scale, zero_point = affine_qparams(x, n_bits)
    acc = linear_accumulator(quantize(x, scale, zero_point, n_bits), q_w, None, zero_point)
    y = (acc.double() * (weight_scale.double() * scale)).float()  # 25 bits of a sum are too many for float32
    return y if bias is None else y + bias


class DynamicLinear(nn.Module):
    """A linear layer that runs as `dynamic_linear`.

    Args: n_in, n_out: features. bias: whether it has one. n_bits: of weights and activations, 2 to 8.
          per_channel: a weight scale for each output, or one for all.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(
        self, n_in: int, n_out: int, bias: bool = True, *, n_bits: int = 8, per_channel: bool = True
    ) -> None:
        super().__init__()
        int_range(n_bits)
        self.n_bits, self.per_channel = n_bits, per_channel
        self.register_buffer("weight", torch.zeros(n_out, n_in, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(n_out if per_channel else 1))
        self.register_buffer("bias", torch.zeros(n_out) if bias else None)

    @classmethod
    def from_tensors(
        cls, weight: Tensor, bias: Tensor | None, *, n_bits: int = 8, per_channel: bool = True
    ) -> DynamicLinear:
        """The layer with a float weight (M, K), which it quantizes, and a bias (M,), which stays as it is."""
        n_out, n_in = weight.shape
        result = cls(n_in, n_out, bias is not None, n_bits=n_bits, per_channel=per_channel)
        weight = weight.detach().float()
        result.weight_scale = weight_scales(weight, None, 1.0, n_bits, per_channel=per_channel)
        result.weight = quantize(weight, result.weight_scale[:, None], 0, n_bits)
        if bias is not None:
            result.bias = bias.detach().float().clone()
        return result

    def forward(self, x: Tensor) -> Tensor:
        """float32 (..., n_out) of float (..., n_in)."""
        return dynamic_linear(x, self.weight, self.weight_scale, self.bias, self.n_bits)

    def count_macs(self, x: Tensor, y: Tensor) -> int:
        """The multiply-accumulates of one call."""
        return y.numel() * self.weight.shape[1]

    def extra_repr(self) -> str:
        n_out, n_in = self.weight.shape
        return f"{n_in}, {n_out}, n_bits={self.n_bits}, per_channel={self.per_channel}"


class DynamicRNN(nn.Module):
    """An LSTM or GRU whose matrix products run as `dynamic_linear`: called like the layer it was made of, in eval mode.

    The inputs of all time steps are quantized together, the hidden state step by step; the gates are in float.

    Args:   rnn: a torch.nn.LSTM or torch.nn.GRU; left as it is. n_bits, per_channel: as of `DynamicLinear`.
    Raises: TypeError for another layer; ValueError for an LSTM with projections.
    """

    def __init__(self, rnn: nn.LSTM | nn.GRU, *, n_bits: int = 8, per_channel: bool = True) -> None:
        super().__init__()
        if not isinstance(rnn, nn.LSTM | nn.GRU):
            raise TypeError(f"only LSTM and GRU can be quantized here, got {type(rnn).__name__}")
        if rnn.proj_size:
            raise ValueError("an LSTM with proj_size cannot be quantized here; take proj_size=0")
        self.is_lstm, self.hidden_size = isinstance(rnn, nn.LSTM), rnn.hidden_size
        self.n_layers, self.n_directions = rnn.num_layers, 2 if rnn.bidirectional else 1
        self.batch_first = rnn.batch_first
        self.from_input, self.from_hidden = nn.ModuleList(), nn.ModuleList()
        for suffix in self._suffixes():
            for part, layers in (("ih", self.from_input), ("hh", self.from_hidden)):
                weight: Tensor = getattr(rnn, f"weight_{part}_{suffix}")
                bias = getattr(rnn, f"bias_{part}_{suffix}") if rnn.bias else None
                layers.append(
                    DynamicLinear.from_tensors(weight, bias, n_bits=n_bits, per_channel=per_channel)
                )

    def _suffixes(self) -> list[str]:
        """The names PyTorch gives to the parameters of each layer and direction, in the order of the states."""
        directions = ("", "_reverse")[: self.n_directions]
        return [f"l{layer}{direction}" for layer in range(self.n_layers) for direction in directions]

    def forward(
        self, x: Tensor, state: Tensor | tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """(outputs, last state) of a batch of sequences, in the shapes of the layer it was made of.

        Args:   x: float, (T, N, K), or (N, T, K) if batch_first.
                state: h, or (h, c) of an LSTM, each (layers * directions, N, hidden); zeros if not given.
        Raises: ValueError if x does not have three dimensions.
        """
        if not isinstance(x, Tensor) or x.dim() != 3:
            raise ValueError("x must be one tensor of three dimensions: a batch of sequences of equal length")
        x = x.transpose(0, 1) if self.batch_first else x  # (T, N, K)
        n_states = self.n_layers * self.n_directions
        zeros = x.new_zeros(n_states, x.shape[1], self.hidden_size)
        given = state if isinstance(state, tuple) else (zeros if state is None else state,)
        h, c = given[0], given[1] if len(given) > 1 else zeros
        last_h, last_c = [], []
        for layer in range(self.n_layers):
            outputs = []
            for direction in range(self.n_directions):
                index = layer * self.n_directions + direction
                output, h_last, c_last = self._one_direction(x, h[index], c[index], index, direction == 1)
                outputs.append(output)
                last_h.append(h_last)
                last_c.append(c_last)
            x = torch.cat(outputs, dim=2)
        x = x.transpose(0, 1) if self.batch_first else x
        h_all = torch.stack(last_h)
        return x, (h_all, torch.stack(last_c)) if self.is_lstm else h_all

    def _one_direction(
        self, x: Tensor, h: Tensor, c: Tensor, index: int, backwards: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs (T, N, hidden) of one layer read in one direction, and its last state."""
        inputs = self.from_input[index](x)  # (T, N, gates * hidden)
        outputs: list[Tensor] = []
        for t in reversed(range(len(x))) if backwards else range(len(x)):
            recurrent = self.from_hidden[index](h)
            h, c = (
                _lstm_step(inputs[t] + recurrent, c)
                if self.is_lstm
                else (_gru_step(inputs[t], recurrent, h), c)
            )
            outputs.append(h)
        return torch.stack(outputs[::-1] if backwards else outputs), h, c


def _lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(from_input: Tensor, from_hidden: Tensor, h: Tensor) -> Tensor:
    (i_r, i_z, i_n), (h_r, h_z, h_n) = from_input.chunk(3, dim=1), from_hidden.chunk(3, dim=1)
    z = torch.sigmoid(i_z + h_z)
    return (1 - z) * torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n) + z * h


def quantize_dynamic(
    model: nn.Module,
    layers: Sequence[type[nn.Module]] = (nn.Linear, nn.LSTM, nn.GRU),
    *,
    n_bits: int = 8,
    per_channel: bool = True,
) -> nn.Module:
    """A copy of the model whose layers of these types run with int8 weights and activations quantized per batch.

    Args:    model: left as it is. layers: some of Linear, LSTM and GRU; subclasses of these are left alone, since
             whoever derived them may read their weights. n_bits: of weights and activations, 2 to 8.
             per_channel: a weight scale for each output, or one a layer.
    Returns: the copy, in eval mode.
    Raises:  ValueError if layers names another type (a convolution would otherwise silently stay float), or the model
             has none of them.
    Source:  PyTorch's `torch.ao.quantization.quantize_dynamic`. Taught in lesson 02.
    """
    for kind in layers:
        if kind not in (nn.Linear, nn.LSTM, nn.GRU):
            raise ValueError(f"{kind.__name__} cannot be quantized dynamically, only Linear, LSTM and GRU can; "
                             "use quantize_static for convolutions")  # fmt: skip
    names = [name for name, module in model.named_modules() if type(module) in layers]
    if not names:
        raise ValueError(f"the model has no {' or '.join(kind.__name__ for kind in layers)} to quantize")
    result = copy.deepcopy(model).eval()
    for name in names:
        module = result.get_submodule(name)
        quantized = _dynamic(module, n_bits, per_channel)
        if not name:
            return quantized.eval()
        parent, _, child = name.rpartition(".")
        setattr(result.get_submodule(parent), child, quantized.eval())
    return result


def _dynamic(module: nn.Module, n_bits: int, per_channel: bool) -> nn.Module:
    if isinstance(module, nn.Linear):
        return DynamicLinear.from_tensors(module.weight, module.bias, n_bits=n_bits, per_channel=per_channel)
    assert isinstance(module, nn.LSTM | nn.GRU)
    return DynamicRNN(module, n_bits=n_bits, per_channel=per_channel)
