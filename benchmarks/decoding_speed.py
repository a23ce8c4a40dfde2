"""How fast completions are written, and at what cost in tokens, on the same questions in one run.

    python benchmarks/decoding_speed.py MODEL --data DATA [--data DATA] [--ways WAY...] [--limit N] [--json FILE]

| way | what is written |
|---|---|
| `stock` | transformers' `generate`: batches of 96, whole prompts padded on the left, the shortest first, greedy, the model's own attention |
| `free`, `grounded` | ours, in batches as suit the device |
| `free-64`, `grounded-64` | ours, 64 rows at once |
| `voted` | grounded, 8 texts a question at temperature 0.7, the result that most agree on |
| `repaired` | free, and once more with the engine's message where the query fails |
| `values` | grounded, with values of the rows that the question mentions in the prompt (a model must be trained so to gain by it) |

A way may be asked for twice, to see how far two runs of it lie apart. Each way gets the prompts already rendered and is
timed from text to text: tokenising, reading the prompts, writing, running queries where it does, and (grounded) the
start of the processes that check and the compiling of each schema. Not timed: loading, rendering, and questions from all
over the set that warm a way up (for stock one batch of them, for ours 320: enough to fill a batch of the usual size, so that
its kernels are loaded and its memory is taken). 16-bit weights on a GPU, adapter merged. `same` is the share of texts that equal
stock's: in 16 bits greedy texts part where two tokens are nearly equal. Numbers are written after each way, so that a
run that is stopped keeps those it has.
"""

import argparse
import cProfile
import gc
import json
import platform
import pstats
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from groundql.config import GenerationSettings
from groundql.decoding.engine import ends_of
from groundql.generating import Writer, ask_all, load_writer
from groundql.models.chat import encode_part
from groundql.questions.load import load_data
from groundql.records import Completion, DataSet, Prompt, Turns
from groundql.selecting import Asked, complete

N_WARM_UP = 320
WAYS: dict[str, dict[str, Any]] = {  # what differs from the settings that a way starts from
    "stock": {},
    "free": {},
    "grounded": {"decoding": "grounded"},
    "free-64": {"batch_size": 64},
    "grounded-64": {"decoding": "grounded", "batch_size": 64},
    "voted": {"decoding": "grounded", "samples": 8, "temperature": 0.7},
    "repaired": {"repair": True},
    "values": {"decoding": "grounded"},
}
N_VALUES = 5  # of the way `values`
Found = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["free", "grounded", "stock"])
    parser.add_argument("--unfinished", choices=("close", "abstain"), default="close")
    parser.add_argument("--limit", type=int, help="only the first so many questions of each")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, help="of ours; as suits the device where not given")
    parser.add_argument("--kv-tokens", type=int)
    parser.add_argument("--stock-batch-size", type=int, default=96)
    parser.add_argument("--processes", type=int)
    parser.add_argument(
        "--profile", action="store_true", help="where the host's time goes, in a run of its own"
    )
    parser.add_argument(
        "--json", type=Path, help="where the numbers go, such as benchmarks/results/NAME.json"
    )
    parser.add_argument("--texts", type=Path, help="a folder for what each way wrote, as predictions")
    return parser.parse_args()


def ours(writer: Writer, asked: Asked, settings: GenerationSettings) -> list[Completion]:
    return complete(writer.loaded.model, writer.loaded, writer.turns, asked, settings=settings)


@torch.inference_mode()
def stock(writer: Writer, prompts: list[Prompt], batch_size: int, n_new: int) -> list[Completion]:
    """transformers' `generate` over batches padded on the left."""
    model, tokenizer, turns = writer.loaded.model, writer.loaded.tokenizer, writer.turns
    ids = [encoded(tokenizer, prompt, turns) for prompt in prompts]
    ends = sorted(ends_of(tokenizer, turns))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    written: dict[int, Completion] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        width = max(len(ids[i]) for i in places)
        padded = torch.full((len(places), width), tokenizer.pad_token_id)
        for row, i in enumerate(places):
            padded[row, width - len(ids[i]) :] = torch.tensor(ids[i])
        real = torch.arange(width) >= width - torch.tensor([len(ids[i]) for i in places])[:, None]
        whole = model.generate(
            padded.to(model.device),
            attention_mask=real.long().to(model.device),
            do_sample=False,
            repetition_penalty=1.0,  # the settings beside a model's weights may ask for another
            max_new_tokens=n_new,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        for i, row in zip(places, whole[:, width:].tolist(), strict=True):
            n = next((at for at, token in enumerate(row) if token in ends), len(row))
            text = tokenizer.decode(row[:n], skip_special_tokens=True)
            written[i] = Completion(
                question_id=prompts[i].question_id,
                db_id=prompts[i].db_id,
                text=text,
                sql=text,
                n_prompt_tokens=len(ids[i]),
                n_new_tokens=n,
                stopped=n < len(row),
            )
    return [written[i] for i in range(len(prompts))]


def encoded(tokenizer: Any, prompt: Prompt, turns: Turns) -> list[int]:
    return encode_part(tokenizer, prompt.prefix, turns) + encode_part(tokenizer, prompt.suffix, turns)


def timed(work: Callable[[], list[Completion]]) -> tuple[float, list[Completion]]:
    synchronize()
    started = time.perf_counter()
    completions = work()
    synchronize()
    return time.perf_counter() - started, completions


def free_memory() -> None:
    """Give back what the allocator keeps, so that no way finds the device filled by another."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(
    way: str, writer: Writer, asked: Asked, options: argparse.Namespace
) -> tuple[Found, list[Completion]]:
    usual = {
        "max_new_tokens": options.max_new_tokens,
        "batch_size": options.batch_size,
        "kv_tokens": options.kv_tokens,
        "processes": options.processes,
        "unfinished": options.unfinished,
    }
    settings = GenerationSettings(**(usual | WAYS[way]))

    def write(some: Asked) -> list[Completion]:
        if way == "stock":
            return stock(writer, list(some.prompts), options.stock_batch_size, options.max_new_tokens)
        return ours(writer, some, settings)

    n_warm_up = options.stock_batch_size if way == "stock" else N_WARM_UP
    few = replace(asked, prompts=asked.prompts[:: max(1, len(asked.prompts) // n_warm_up)][:n_warm_up])
    free_memory()  # of the ways before
    timed(lambda: write(few))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds, completions = timed(lambda: write(asked))
    n_new = sum(c.n_new_tokens for c in completions)
    found = {
        "way": way,
        "seconds": round(seconds, 3),
        "questions_per_s": round(len(completions) / seconds, 1),
        "new_tokens": n_new,
        "new_tokens_per_s": round(n_new / seconds),
        "prompt_tokens": sum(c.n_prompt_tokens for c in completions),
        "texts": sum(c.n_samples for c in completions),
        "at_the_limit": sum(not c.stopped for c in completions),
    }
    if torch.cuda.is_available():
        found["peak_mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
    if settings.decoding == "grounded":
        found |= {
            "abstained": sum(c.status == "abstained" for c in completions),
            "reasons": reasons_of([c for c in completions if c.status == "abstained"]),
            "closed": reasons_of([c for c in completions if c.closed_at is not None]),
            "backtracks": sum(c.n_backtracks for c in completions),
            "strained": sum(c.strain is not None and c.strain.largest > 0 for c in completions),
        }
    if options.profile and way != "stock":
        profile(lambda: write(asked), way)
    return found, completions


def reasons_of(completions: list[Completion]) -> dict[str, int]:
    """Completions by the first words of their reason."""
    return dict(Counter(completion.reason.split(":")[0] for completion in completions))


def profile(work: Callable[[], Any], way: str) -> None:
    """Where this process's time goes: first our own steps with all they call, then functions by their own time."""
    profiler = cProfile.Profile()
    profiler.enable()
    work()
    profiler.disable()
    print(f"\nprofile of {way}", file=sys.stderr)
    table = pstats.Stats(profiler, stream=sys.stderr)
    table.sort_stats("cumulative").print_stats(r"groundql.decoding|selecting|chat.py", 25)
    table.sort_stats("tottime").print_stats(25)


def main() -> None:
    options = arguments()
    writer = load_writer(options.model)
    rows: list[Found] = []
    for spec in options.data:
        data = load_data(spec)
        if options.limit:
            data = data.model_copy(update={"questions": data.questions[: options.limit]})
        asked = rendered(writer, data)
        stock_row: Found | None = None
        stock_texts: list[str] = []
        for n_way, way in enumerate(options.ways):
            here = asked
            if way == "values":
                prompt = writer.prompt.model_copy(update={"values": N_VALUES})
                here = rendered(replace(writer, prompt=prompt), data)
            try:
                found, completions = measured(way, writer, here, options)
            except torch.OutOfMemoryError as error:  # the ways after it are measured all the same
                print(f"  {way}: {error}", flush=True)
                rows.append({"data": spec, "way": way, "failed": "out of memory"})
                continue
            texts = [completion.text for completion in completions]
            row = {"data": spec, "questions": len(texts), "databases": len(here.schemas)} | found
            rows.append(row)
            if way == "stock":
                stock_row, stock_texts = row, texts
            elif stock_row is not None:
                row["times_stock"] = round(stock_row["seconds"] / row["seconds"], 1)
                same = sum(a == b for a, b in zip(texts, stock_texts, strict=True))
                row["same"] = round(same / len(texts), 3)
            print(f"  {json.dumps(row)}", flush=True)
            if options.texts:
                options.texts.mkdir(parents=True, exist_ok=True)
                again = f"-{n_way}" if way in options.ways[:n_way] else ""
                lines = "".join(c.model_dump_json() + "\n" for c in completions)
                (options.texts / f"{data.name}-{data.split}-{way}{again}.jsonl").write_text(lines)
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(about() | {"rows": rows}, indent=1) + "\n")


def rendered(writer: Writer, data: DataSet) -> Asked:
    started = time.perf_counter()
    asked, _ = ask_all(writer, data)
    took_s = time.perf_counter() - started
    n, n_databases = len(asked.prompts), len(asked.schemas)
    print(f"{data.name}: {n} questions, {n_databases} databases, prompts in {took_s:.2f} s", flush=True)
    return asked


def about() -> Found:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    on_gpu = torch.cuda.is_available()
    return {
        "command": " ".join(["python", "benchmarks/decoding_speed.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
