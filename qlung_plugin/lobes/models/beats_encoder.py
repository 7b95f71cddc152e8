"""The transformer of BEATs: gated relative positions and deep norm.

The names of its tensors are those of the published state dicts. References:
S. Chen et al., "BEATs: audio pre-training with acoustic tokenizers", ICML 2023
(https://arxiv.org/abs/2212.09058); the gated relative position bias: Z. Chi et
al., "XLM-E", ACL 2022 (https://arxiv.org/abs/2106.16138); deep norm: H. Wang et
al., "DeepNet: scaling transformers to 1,000 layers"
(https://arxiv.org/abs/2203.00555).

Authors
 * qlung_plugin contributors
"""

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Encoder(nn.Module):
    """The transformer of BEATs, with published names.

    The configuration of it and of its parts has the fields of ``SIZES`` and
    ``DROPOUTS``.
    """

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        dim, size = config.encoder_embed_dim, config.conv_pos
        convolution = nn.Conv1d(
            dim, dim, size, padding=size // 2, groups=config.conv_pos_groups
        )
        nn.init.normal_(convolution.weight, std=math.sqrt(4 / (size * dim)))
        # By default it has one.
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.pos_conv = nn.Sequential(weight_norm(convolution, dim=2))
        self.layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.max_distance = config.max_distance
        self.relative_attention_bias = nn.Embedding(
            config.num_buckets, config.encoder_attention_heads
        )
        nn.init.normal_(self.relative_attention_bias.weight, std=0.02)
        self.layerdrop = config.encoder_layerdrop
        self.layers = nn.ModuleList(
            EncoderLayer(config) for _ in range(config.encoder_layers)
        )

    def forward(
        self, tokens: torch.Tensor, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Contextual tokens ``[batch, token, dim]`` of such tokens.

        Of which ``valid``, ``[batch, token]``, says which are no padding.
        """
        count = tokens.shape[1]
        if valid is not None:
            tokens = tokens * valid.unsqueeze(2)
        positions = self.pos_conv(tokens.transpose(1, 2))[..., :count]
        tokens = tokens + F.gelu(positions).transpose(1, 2)
        tokens = self.dropout(self.layer_norm(tokens))
        bias = self.position_bias(count)
        for layer in self.layers:
            after = layer(tokens, bias, valid)
            if self.training and self.layerdrop > 0:
                # A dropped layer is computed all the same: every parameter has
                # a gradient on every process.
                keep = torch.rand((), device=tokens.device) >= self.layerdrop
                after = torch.where(keep, after, tokens)
            tokens = after
        return tokens

    def position_bias(self, count: int) -> torch.Tensor:
        """How much each head attends by distance, ``[head, token, token]``."""
        table = self.relative_attention_bias
        places = torch.arange(count, device=table.weight.device)
        buckets = relative_buckets(
            places - places[:, None], table.num_embeddings, self.max_distance
        )
        return table(buckets).permute(2, 0, 1)


class EncoderLayer(nn.Module):
    """A transformer layer with deep norm: the residual counts more."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        dim, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.residual_weight = (2 * config.encoder_layers) ** 0.25
        self.self_attn = GatedAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, inner)
        self.fc2 = nn.Linear(inner, dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)
        for linear in (self.fc1, self.fc2):
            _initialise(linear, gain=(8 * config.encoder_layers) ** -0.25)

    def forward(
        self,
        tokens: torch.Tensor,
        bias: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens ``[batch, token, dim]`` after attention and two linear layers."""
        attended = self.dropout(self.self_attn(tokens, bias, valid))
        tokens = self.self_attn_layer_norm(
            self.residual_weight * tokens + attended
        )
        inner = self.activation_dropout(F.gelu(self.fc1(tokens)))
        return self.final_layer_norm(
            self.residual_weight * tokens + self.dropout(self.fc2(inner))
        )


class GatedAttention(nn.Module):
    """Self-attention whose bias by relative position each query gates."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        dim = config.encoder_embed_dim
        self.heads = config.encoder_attention_heads
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.grep_linear = nn.Linear(dim // self.heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.dropout = config.attention_dropout
        for linear in (self.q_proj, self.k_proj):
            _initialise(linear, gain=1)
        for linear in (self.v_proj, self.out_proj):
            _initialise(linear, gain=(8 * config.encoder_layers) ** -0.25)
        nn.init.normal_(self.grep_linear.weight, std=0.02)
        nn.init.zeros_(self.grep_linear.bias)

    def forward(
        self,
        tokens: torch.Tensor,
        bias: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens ``[batch, token, dim]``, bias ``[head, token, token]``.

        Attended to are those that are ``valid``, ``[batch, token]``.
        """
        query, key, value = (
            projection(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Eight outputs, summed in two groups of four: update and reset gate.
        gates = self.grep_linear(query).unflatten(3, (2, 4)).sum(dim=4)
        update, reset = gates.sigmoid().chunk(2, dim=3)
        gated = (update * (reset * self.grep_a - 1) + 2) * bias
        if valid is not None:
            gated = gated.masked_fill(~valid[:, None, None], -math.inf)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=gated,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def relative_buckets(
    distances: torch.Tensor, num_buckets: int, max_distance: int
) -> torch.Tensor:
    """Buckets of distances: one each for the short, wider ones for the long.

    The distances are integers, from query to key; half of the buckets, from 0
    to ``num_buckets - 1``, are for keys behind the query, and from
    ``max_distance`` on all distances share one.

    Example
    -------
    >>> relative_buckets(torch.tensor([-9, -1, 0, 1, 4, 9, 99]), 16, 40)
    tensor([ 5,  1,  0,  9, 12, 13, 15])
    """
    half = num_buckets // 2
    exact = half // 2
    length = distances.abs()
    growth = (length.clamp(min=1) / exact).log() / math.log(
        max_distance / exact
    )
    wide = exact + (growth * (half - exact)).long()
    buckets = torch.where(length < exact, length, wide.clamp(max=half - 1))
    return buckets + half * (distances > 0)


def _initialise(linear: nn.Linear, gain: float) -> None:
    nn.init.xavier_normal_(linear.weight, gain=gain)
    nn.init.zeros_(linear.bias)
