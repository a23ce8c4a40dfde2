"""Weights into memory: hub, folder or GGUF; NF4, FP4 or 16 bit; with or without an adapter. Needs torch."""

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GgufConfig
from transformers.utils import logging as transformers_logging

from groundql.config import ModelSettings
from groundql.errors import ModelMissing
from groundql.models.gguf_tokenizer import as_in_file
from groundql.models.source import ModelSource

# peft 0.21 reads a property of transformers that 5.23 renamed; nothing that a user could change.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_GGUF_DENSE_VERSION = 2  # part of the cache key: raise it when the conversion changes


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to use with its tokenizer."""

    model: Any  # transformers' or peft's causal language model
    tokenizer: Any
    dtype: torch.dtype
    device: torch.device


def best_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def grow_segments() -> None:
    """Let the CUDA allocator grow its segments: a fifth less was reserved in the one pair measured (docs/performance.md).

    For the process, before its first allocation on the card: the allocator reads its environment then.
    """
    if torch.cuda.is_available() and not torch.cuda.is_initialized():
        new_name = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)
        name = "PYTORCH_ALLOC_CONF" if new_name else "PYTORCH_CUDA_ALLOC_CONF"
        os.environ.setdefault(name, "expandable_segments:True")


def compute_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The type to compute in: as asked, or for "auto" what the device computes fast.

    CUDA: bfloat16 from compute capability 8.0 on, float16 before. CPU: bfloat16 where the processor has
    instructions for it (AVX512-BF16 or AMX: three times the float32 rate), else float32.
    """
    if asked != "auto":
        return DTYPES[asked]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def is_recent_cuda(device: torch.device) -> bool:
    """Whether Triton's kernels of ours run there: CUDA from compute capability 8.0 (Ampere), with Triton installed."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8:
        return False
    return importlib.util.find_spec("triton") is not None


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer of `source`, with a padding token."""
    place = weights_place(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=_without_hub(source))
    except Exception as error:  # on a broken file transformers and tokenizers raise whatever they come upon
        raise ModelMissing(_cannot_load(source, "tokenizer", error)) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # only ever behind attention mask 0 and label -100
    return tokenizer


def load_base(source: ModelSource, settings: ModelSettings, *, device: torch.device) -> Any:
    """The base model with its frozen weights as `settings` says, in evaluation mode.

    Raises:
        ModelMissing: the weights cannot be read; says from where and what to do.
    """
    grow_segments()
    dtype = compute_dtype(settings.compute_dtype, device)
    options: dict[str, Any] = {
        "dtype": dtype,
        "device_map": {"": device},
        "local_files_only": _without_hub(source),
    }
    if settings.quantization != "none":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings.quantization,
            bnb_4bit_use_double_quant=settings.double_quantization,
            bnb_4bit_compute_dtype=dtype,
        )
    place = weights_place(source)
    with quiet():
        try:
            model, found = AutoModelForCausalLM.from_pretrained(place, **options, output_loading_info=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelMissing(_cannot_load(source, "weights", error)) from None
    missing = sorted(found["missing_keys"])
    if missing:  # transformers would go on with random numbers there
        reason = f"{len(missing)} of them are not there, such as {missing[0]}"
        raise ModelMissing(_cannot_load(source, "weights", ValueError(reason)))
    return model.eval()


def load_adapter(model: Any, adapter_dir: Path) -> Any:
    """`model` with the LoRA weights of `adapter_dir`, for use (not trainable).

    Raises:
        ModelMissing: weights that cannot be read, or are of another base model.
    """
    try:
        tuned = PeftModel.from_pretrained(model, str(adapter_dir)).eval()
        with safe_open(adapter_dir / "adapter_model.safetensors", "pt") as file:
            saved = set(file.keys())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelMissing(f"{adapter_dir}: the adapter cannot be loaded: {_reason(error)}") from None
    without_place = sorted(saved ^ set(get_peft_model_state_dict(tuned)))
    if without_place:  # peft passes over weights that the base has no layer for
        raise ModelMissing(
            f"{adapter_dir}: the adapter is of another base model: {without_place[0]} has no place in this"
        )
    return tuned


def weights_place(source: ModelSource) -> str:
    """A folder or hub id that transformers loads; a .gguf file is turned into a dense 16-bit folder once."""
    if source.gguf_path:
        return str(_dense_folder(source.gguf_path))
    return str(source.folder) if source.folder else str(source.hub_id)


def cache_dir() -> Path:
    """Where files that can be made again are kept: $XDG_CACHE_HOME/groundql, else ~/.cache/groundql."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "groundql"


def _dense_folder(gguf_path: Path) -> Path:
    """The .gguf file as safetensors with config and tokenizer, in the cache, made beside and renamed.

    The key is the file's name, size and first and last MiB: hashing gigabytes at every start costs seconds.
    """
    digest = hashlib.sha256(f"{_GGUF_DENSE_VERSION} {gguf_path.stat().st_size}".encode())
    with gguf_path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, gguf_path.stat().st_size - 2**20))
        digest.update(file.read())
    target = cache_dir() / "models" / f"{gguf_path.stem}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    place = {"pretrained_model_name_or_path": str(gguf_path.parent), "gguf_file": gguf_path.name}
    try:
        with quiet():
            tokenizer = as_in_file(AutoTokenizer.from_pretrained(**place), gguf_path)
            model = AutoModelForCausalLM.from_pretrained(
                **place, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
            )
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
        beside.rename(target)
    except Exception as error:  # as for a tokenizer
        if not target.is_dir():  # another process may have been faster
            raise ModelMissing(f"{gguf_path} cannot be turned into a dense model: {error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the progress bars of transformers: ours says what is going on."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader draws its own bar
            yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def _without_hub(source: ModelSource) -> bool:
    """Whether only the local hub cache can be asked: where the hub has no address, asking takes most of a minute."""
    if source.hub_id is None:
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return not getproxies()
    return False


def _cannot_load(source: ModelSource, what: str, error: Exception) -> str:
    reason = _reason(error)
    if source.hub_id:
        return (
            f"{source.name}: the {what} of {source.hub_id} are not in the local hub cache and cannot be fetched here; "
            f"with a network, run it once; without, give a folder or a .gguf file ({reason})"
        )
    return f"{source.name}: the {what} cannot be loaded: {reason}"


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" :")
