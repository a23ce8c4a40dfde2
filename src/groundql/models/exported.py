"""groundql.json beside exported weights: with which prompt they were tuned, so that they are asked with it again. No torch."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from groundql.config import PromptSettings
from groundql.errors import DataError
from groundql.models.source import ModelSource
from groundql.records import Record, Turns, first_fault, read_text

FILE_NAME = "groundql.json"
Precision = Literal["bf16", "f16", "q8_0"]


class Exported(Record):
    """What exported weights are, and how they want to be asked."""

    base_model: str
    weights: str  # the .gguf file's name; "" where the folder itself is the model
    precision: Precision
    n_parameters: int
    turns: Turns
    prompt: PromptSettings
    prompt_fingerprint: str
    config_fingerprint: str  # of the run
    versions: dict[str, str]  # that exported it


def read_exported(source: ModelSource) -> Exported | None:
    """What is written beside these weights; None where nothing is, or it is about another file.

    Raises:
        DataError: a groundql.json that cannot be read.
    """
    folder = source.folder or (source.gguf_path.parent if source.gguf_path else None)
    path = (folder or Path()) / FILE_NAME
    if folder is None or not path.is_file():
        return None
    try:
        exported = Exported.model_validate_json(read_text(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}") from None
    return exported if exported.weights == (source.gguf_path.name if source.gguf_path else "") else None
