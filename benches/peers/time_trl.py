"""Times optimizer steps of TRL's KTOTrainer or DPOTrainer on the CPU (LoRA r16, all linear layers).

    python time_trl.py kto|dpo DATASET_DIR BASE_HF_DIR [--dtype float32]

Batch size 4 (rows for KTO, pairs for DPO), max_length 256, reference = adapter off, one epoch.
Prints examples per second, without the first two steps, and the peak resident memory. Prospect on
the same rows: `benches/train.sh`. Tested with torch 2.9, transformers 5.23, trl 1.16, peft 0.21.
"""

import argparse
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_, **__) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["kto", "dpo"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()

    config, trainer = (KTOConfig, KTOTrainer) if arguments.method == "kto" else (DPOConfig, DPOTrainer)
    columns = ["prompt", "completion", "label"] if arguments.method == "kto" else ["prompt", "chosen", "rejected"]
    files = str(arguments.dataset / arguments.method / "train-*.parquet")
    rows = load_dataset("parquet", data_files=files, split="train").select_columns(columns)
    clock = Clock()
    options = config(
        output_dir="/tmp/time_trl", num_train_epochs=1, per_device_train_batch_size=4, max_length=256,
        learning_rate=1e-4, report_to=[], use_cpu=True, save_strategy="no", logging_steps=1000, bf16=False,
        gradient_checkpointing=False,
    )
    trainer(
        model=AutoModelForCausalLM.from_pretrained(arguments.base, dtype=getattr(torch, arguments.dtype)),
        args=options,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(arguments.base),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[clock],
    ).train()
    seconds = clock.ends[-1] - clock.ends[1]
    examples = 4 * (len(clock.ends) - 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"TRL {arguments.dtype} {arguments.method}: {examples / seconds:.2f} examples/s, peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
