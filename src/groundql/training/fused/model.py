"""The summed label loss of one batch: through the fused layers where the model is known, else through its own forward.

`install` gives a PEFT model a second way to be called: with `targets` it returns {"loss_sum": ...}, without them it is
what it was. So the Trainer, data parallelism and checkpoints see an ordinary PEFT model.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from groundql.models.load import is_recent_cuda
from groundql.training.attention import PackLayout
from groundql.training.fused.attend import FlashAttention, PlainAttention
from groundql.training.fused.graph import GraphedLoss
from groundql.training.fused.head import element_ops, summed_loss
from groundql.training.fused.layer import Keep, Layer, Norm, PassContext, run_layer
from groundql.training.fused.pack_attention import PackAttention
from groundql.training.fused.spans import Spans
from groundql.training.fused.weights import read_matrix

FLASH_DEPTHS = (16, 32, 64, 128, 256)  # of a head, that the attention kernel takes
_READ = ("input_ids", "position_ids", "logits_to_keep", "targets", "spans", "pack_layout", "attention_mask")
FUSED_TYPES = ("qwen2", "llama", "starcoder2")
FFN_TOKENS = 4096  # of a piece in backward: larger pieces gain nothing in matrix products, and take memory


class FusedModel:
    """The decoder of a PEFT model as `Layer`s, with what a pass over it needs."""

    def __init__(
        self, model: Any, *, n_kept: int = 0, n_kept_attention: int = 0, ffn_tokens: int = FFN_TOKENS
    ) -> None:
        """The `n_kept` last layers keep all that backward reads, the `n_kept_attention` before them that of attention."""
        base = model.get_base_model()
        self.decoder = base.model
        self.head = base.get_output_embeddings()
        self.graphed: GraphedLoss | None = None
        self.config = base.config
        self.layers = [
            _read_layer(module, is_first=i == 0, config=self.config)
            for i, module in enumerate(self.decoder.layers)
        ]
        depth = getattr(self.config, "head_dim", None)
        n_heads = self.config.num_attention_heads
        self.shape = (
            n_heads,
            self.config.num_key_value_heads,
            depth or self.config.hidden_size // n_heads,
        )
        n_again = max(0, len(self.layers) - n_kept - n_kept_attention)
        n_attention = len(self.layers) - n_again - min(n_kept, len(self.layers))
        self.keeps = [Keep.INPUT] * n_again + [Keep.ATTENTION] * n_attention
        self.keeps += [Keep.ALL] * (len(self.layers) - len(self.keeps))
        self.ffn_tokens = ffn_tokens
        self.scratch: tuple[torch.Tensor, torch.Tensor] | None = None

    def use_graph(self) -> None:
        """Run whole passes as one CUDA graph from now on; batches must be filled up to one shape to gain by it."""
        parameters = [p for layer in self.layers for p in layer.parameters]
        self.graphed = GraphedLoss(self.compute, parameters)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of the model is for use, not for training."""
        return

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """The summed loss of a batch of `collate_pack` or of one pack of `collate_packs`, by a graph where there is one."""
        read = {name: value for name, value in batch.items() if name in _READ}
        if self.graphed is not None and torch.is_grad_enabled() and self.graphed.fits(read):
            return self.graphed(read)
        return self.compute(read)

    def compute(self, batch: dict[str, Any]) -> torch.Tensor:
        """The same, kernel by kernel."""
        sees = batch.get("spans") or batch.get("pack_layout")
        sees = batch["attention_mask"] if sees is None else sees
        rows = self.rows(batch["input_ids"], batch["position_ids"], batch["logits_to_keep"], sees)
        return summed_loss(rows, self.head.weight, batch["targets"][0])

    def rows(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, places: torch.Tensor, sees: Any
    ) -> torch.Tensor:
        """What the head reads at `places`, (K, h).

        Args:
            input_ids: (1, T).
            position_ids: (1, T).
            places: (K,) in the pack.
            sees: Spans, a PackLayout, or a mask (1, 1, T, T) bool.
        """
        x = self.decoder.embed_tokens(input_ids)[0]
        cos, sin = (one[0] for one in self.decoder.rotary_emb(x[None], position_ids))
        attention: FlashAttention | PackAttention | PlainAttention
        if isinstance(sees, Spans):
            window = getattr(self.config, "sliding_window", None) or 0
            attention = FlashAttention(sees, self.shape, window)
        elif isinstance(sees, PackLayout) and x.device.type == "cpu":
            attention = PackAttention(sees, self.shape)
        else:
            attention = PlainAttention(sees if isinstance(sees, PackLayout) else sees[0, 0], self.shape)
        context = PassContext(
            ops=element_ops(x.device),
            attention=attention,
            cos=cos,
            sin=sin,
            scratch=self._scratch(x),
            ffn_tokens=self.ffn_tokens,
        )
        for layer, keep in zip(self.layers[:-1], self.keeps[:-1], strict=True):
            x = run_layer(x, layer, context, keep=keep)
        x = run_layer(x, self.layers[-1], context, keep=self.keeps[-1], places=places)
        return self.decoder.norm(x)

    def _scratch(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flat buffers for two merged matrices, the second for `out` and `down`; empty on a CPU, which needs none."""
        if self.scratch is None:
            first = max(m.n_out * m.n_in for layer in self.layers for m in (layer.qkv, layer.inner))
            second = max(m.n_out * m.n_in for layer in self.layers for m in (layer.out, layer.down))
            on_cuda = x.device.type == "cuda"
            self.scratch = x.new_empty(first if on_cuda else 0), x.new_empty(second if on_cuda else 0)
        return self.scratch


def can_fuse(model: Any, *, dropout: float) -> bool:
    """Whether `layer` computes what this PEFT model computes."""
    base = model.get_base_model()
    config = base.config
    if config.model_type not in FUSED_TYPES or dropout:
        return False
    if any(
        getattr(config, name, 0) for name in ("attention_dropout", "residual_dropout", "embedding_dropout")
    ):
        return False
    return len(set(getattr(config, "layer_types", None) or [0])) == 1 and not isinstance(
        base.lm_head, LoraLayer
    )


def wants_spans(model: Any, device: torch.device) -> bool:
    """Whether batches for the fused layers carry `Spans`: on CUDA, where the attention kernel runs."""
    config = model.get_base_model().config
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return is_recent_cuda(device) and depth in FLASH_DEPTHS


def install(model: Any, fused: FusedModel | None) -> None:
    """Let `model` answer a batch with `targets`; `fused` None: through its own layers, loss rows by rows all the same."""
    model.label_loss_through = fused
    model.own_forward = model.forward
    model.forward = MethodType(_forward, model)


def _forward(model: Any, *args: Any, targets: torch.Tensor | None = None, **batch: Any) -> Any:
    if targets is None:
        return model.own_forward(*args, **batch)
    fused: FusedModel | None = model.label_loss_through
    if fused is not None:
        with torch.autocast(targets.device.type, enabled=False):
            return {"loss_sum": fused.loss({**batch, "targets": targets})}
    places, head = batch.pop("logits_to_keep"), model.get_base_model().get_output_embeddings()
    rows = model.get_decoder()(**batch, use_cache=False).last_hidden_state[:, places]
    flat = rows.flatten(0, 1).to(head.weight.dtype)
    with torch.autocast(targets.device.type, enabled=False):
        return {"loss_sum": summed_loss(flat, head.weight, targets.flatten())}


def _read_layer(module: Any, *, is_first: bool, config: Any) -> Layer:
    attention, ffn = module.self_attn, module.mlp
    gated = hasattr(ffn, "gate_proj")
    return Layer(
        attention_norm=_read_norm(module.input_layernorm),
        qkv=read_matrix([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=read_matrix([attention.o_proj]),
        ffn_norm=_read_norm(module.post_attention_layernorm),
        inner=read_matrix([ffn.gate_proj, ffn.up_proj] if gated else [ffn.c_fc]),
        down=read_matrix([ffn.down_proj if gated else ffn.c_proj]),
        n_rotated=config.num_attention_heads + config.num_key_value_heads,
        is_first=is_first,
    )


def _read_norm(module: Any) -> Norm:
    eps = getattr(module, "variance_epsilon", None)
    return Norm(
        weight=module.weight.detach(),
        bias=module.bias.detach() if getattr(module, "bias", None) is not None else None,
        eps=float(module.eps if eps is None else eps),
    )
