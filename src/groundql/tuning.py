"""From a config to a finished run folder: data, prompts, preflight, training with executed dev scores, adapter."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundql.config import Config
from groundql.databases.binding import prepare
from groundql.decoding.engine import decode_greedy
from groundql.errors import AskedWrongly, DataError
from groundql.generating import Writer, make_prompts, read_schemas, write_completions
from groundql.models.chat import turns_of
from groundql.models.load import LoadedModel, best_device, load_base, load_tokenizer
from groundql.models.source import find_base
from groundql.pipeline import judge_completions
from groundql.prompts.render import prompt_fingerprint
from groundql.questions.load import load_data
from groundql.questions.sample import stratified_sample
from groundql.records import DataSet, Question
from groundql.training.examples import Example, encode_examples
from groundql.training.run_folder import RunInfo, finish_run, read_run, start_run, versions, write_run
from groundql.training.trainer import OnStep, TrainingResult, add_lora, train_adapter

Say = Callable[[str], None]
