"""A fine-tune in its run directory: checkpoints, resume, several processes, a model folder at the end.

Under ``accelerate launch`` every process trains; the first alone holds the run directory and writes there.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.progress import Progress
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_bytes, to_jsonable
from undertow.training.config import Training

if TYPE_CHECKING:
    from transformers import Trainer

Train = Callable[[Path, Path | None], dict[str, Any]]
"""Trains with the first folder for its work, saves the model into the second if any, returns the summary."""
WORK, LOG = "checkpoints", "log.jsonl"
_CURVE_POINTS = 20


def is_first() -> bool:
    """Say whether this process speaks and writes: the only one, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


def fine_tune(
    out: Path,
    verb: str,
    config: Mapping[str, object],
    inputs: Mapping[str, str],
    fresh: bool,
    train: Train,
) -> dict[str, Any]:
    """Run ``train`` in the run directory ``out`` unless it is done; publish the model, return the summary.

    A killed run goes on at its last checkpoint. A summary with a ``reason`` ends the run ``failed``, without
    a model.

    Raises:
        UsageError: ``out`` or what ``train`` reads cannot be used.
    """
    if not is_first():
        return _follow(out, train)
    with _telling_others() as tell:
        run = RunDir.open(out, verb, config, inputs, fresh)
        tell("done" if run.complete else "train")
    try:
        if not run.complete:
            _lead(run, train)
        _publish_config(run)
        return run.summary()
    except UsageError:
        if not run.resumed:  # a wrong input ended it at once: the mended command may start there
            shutil.rmtree(run.path / "stages", ignore_errors=True)
            shutil.rmtree(run.path / WORK, ignore_errors=True)
            run.file("config.json").unlink(missing_ok=True)
        raise
    finally:
        run.close()


def _lead(run: RunDir, train: Train) -> None:
    trained = run.stage("model", "1", lambda folder: train(run.file(WORK), folder))
    if trained["reason"]:
        shutil.rmtree(run.path / "stages")
        run.finish("failed", trained)
        return
    for file in sorted(run.stage_path("model").iterdir()):
        if file.name not in {"config.json", "done.json"}:
            file.replace(run.path / file.name)
    run.finish("complete", trained)


def _publish_config(run: RunDir) -> None:
    """Put the model's ``config.json`` in place of the run's, whose content the manifest holds by now."""
    config = run.stage_path("model") / "config.json"
    if run.complete and config.exists():
        config.replace(run.path / "config.json")
        shutil.rmtree(run.path / "stages")
        shutil.rmtree(run.path / WORK, ignore_errors=True)


@contextmanager
def _telling_others() -> Iterator[Callable[[str], None]]:
    """Give a function that tells the other processes what to do; an error before it tells them to stop."""
    told: list[str] = []

    def tell(what: str) -> None:
        told.append(what)
        _from_first(what)

    try:
        yield tell
    finally:
        if not told:
            _from_first("stop")


def _from_first(what: str | None) -> str | None:
    """Return what the first process says; alone, that is ``what``."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return what
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=_no_accelerator())
    said = [what]
    broadcast_object_list(said, from_process=0)
    return said[0]


def _no_accelerator() -> bool:
    import torch

    return not torch.accelerator.is_available()


def _follow(out: Path, train: Train) -> dict[str, Any]:
    order = _from_first(None)
    if order == "stop":
        raise UsageError(f"{out}: the first process stopped; its message says why")
    return train(Path(out).absolute() / WORK, None) if order == "train" else {}


def trainer_settings(config: Training, work: Path, rows: int, report_to: Sequence[str]) -> dict[str, Any]:
    """Return what TRL's configs of every kind of fine-tune are told.

    Args:
        config: The fine-tune.
        work: Folder of the checkpoints.
        rows: Rows that are trained.
        report_to: Trackers that transformers knows, as ``trackio`` or ``wandb``.
    """
    from undertow.training.model import use_bf16

    world = int(os.environ.get("WORLD_SIZE", "1"))
    steps = max(1, math.ceil(math.ceil(rows / config.batch / world) / config.accumulate * config.epochs))
    log_steps = max(1, min(config.log_steps, steps // _CURVE_POINTS))
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": config.batch,
        "gradient_accumulation_steps": config.accumulate,
        "num_train_epochs": config.epochs,
        "learning_rate": config.lr,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "use_cpu": _no_accelerator(),
        "bf16": use_bf16(config),
        "activation_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
        "max_length": None,
        "remove_unused_columns": False,
        "logging_steps": log_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": math.ceil((config.save_steps or steps / 8) / log_steps) * log_steps,
        "save_total_limit": 1,
        "report_to": list(report_to) or "none",
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "log_level": "error",
        "dataloader_pin_memory": False,
        "optim": "adamw_torch_fused",
    }


def take_steps(trainer: Trainer, work: Path, progress: Progress) -> None:
    """Train to the end, from the last checkpoint in ``work`` where there is one."""
    from undertow.training.trainer import Reporter

    per_epoch = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    with progress.task("train", math.ceil(per_epoch * trainer.args.num_train_epochs)) as task:
        trainer.add_callback(Reporter(task))
        trainer.train(resume_from_checkpoint=last_checkpoint(work))


def curve_of(trainer: Trainer, names: Mapping[str, str]) -> list[dict[str, float]]:
    """Return the logged points as ``step`` and, by our name, what TRL logged under its own."""
    return [
        {"step": point["step"], **{ours: point[theirs] for ours, theirs in names.items()}}
        for point in trainer.state.log_history
        if "loss" in point
    ]


def write_log(trainer: Trainer, folder: Path) -> None:
    """Write every logged point, one JSON object a line."""
    lines = (json.dumps(to_jsonable(point)) for point in trainer.state.log_history)
    atomic_write_bytes(folder / LOG, "".join(line + "\n" for line in lines).encode())


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint below ``folder``; the state file is the last that is written.

    What a kill left half-written is deleted.
    """
    from undertow.store.tables import read_json

    whole: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        try:
            whole[int(read_json(path / "trainer_state.json")["global_step"])] = path
        except UsageError:
            if is_first():
                shutil.rmtree(path)
    return str(whole[max(whole)]) if whole else None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the bars and notes of transformers and datasets while it lasts; errors still come through."""
    import datasets
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    shown = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():  # TRL reads a name that transformers is about to drop
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
        if not shown:
            datasets.enable_progress_bars()
