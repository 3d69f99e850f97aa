"""Loads a prepared dataset as a TRL user does, and trains two steps of KTO and of DPO on it.

    python check_trl.py DATASET_DIR --tokenizer TOKENIZER_JSON_OR_DIR

DATASET_DIR has the subdirectories kto/ and dpo/ with parquet files. The model is a tiny random
Llama. Everything runs offline on the CPU. Needs torch, transformers, datasets and trl (tested with
2.9, 5.23, 5.2, 1.16).
"""

import argparse
import copy
import math
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from datasets import Dataset, Value, load_dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def load_tokenizer(path: Path):
    """Loads the tokenizer with a chat template, an end and a padding token."""
    if path.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(path)
    else:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHATML
    vocabulary = tokenizer.get_vocab()
    if tokenizer.eos_token is None:
        known = [token for token in ("<|im_end|>", "<|endoftext|>", "</s>") if token in vocabulary]
        tokenizer.eos_token = known[0]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = "<|endoftext|>" if "<|endoftext|>" in vocabulary else tokenizer.eos_token
    return tokenizer


def tiny_llama(tokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def string_types(feature) -> set[str]:
    """Returns the dtypes of all string-like leaves of a feature."""
    if isinstance(feature, Value):
        return {feature.dtype} if "string" in feature.dtype else set()
    if isinstance(feature, dict):
        return set().union(*map(string_types, feature.values()))
    if isinstance(feature, list):
        return set().union(*map(string_types, feature))
    return string_types(feature.feature) if hasattr(feature, "feature") else set()


def load(folder: Path, expected: list[str]) -> Dataset:
    """Loads the training split; fails on columns that TRL or pyarrow cannot handle."""
    files = {}
    for split in ("train", "test"):
        found = sorted(str(path) for path in folder.glob(f"{split}-*.parquet"))
        if found:
            files[split] = found
    if "train" not in files:
        sys.exit(f"{folder} holds no train-*.parquet; prepare the dataset first")
    with tempfile.TemporaryDirectory() as cache:
        splits = load_dataset("parquet", data_files=files, cache_dir=cache, keep_in_memory=True)
    for split, dataset in splits.items():
        print(f"{folder.name}/{split}: {len(dataset)} rows")
        odd = string_types(dict(dataset.features)) - {"string"}
        if odd:
            sys.exit(f"{folder}: string columns of type {', '.join(sorted(odd))}; plain `string` is needed")
        missing = [column for column in expected if column not in dataset.features]
        if missing:
            sys.exit(f"{folder}: no column {', '.join(missing)}")
    for column, feature in splits["train"].features.items():
        print(f"    {column}: {feature}")
    return splits["train"]


def two_steps(trainer_class, config_class, dataset: Dataset, tokenizer) -> None:
    """Trains two steps and requires finite losses."""
    with tempfile.TemporaryDirectory() as out:
        arguments = config_class(
            output_dir=out, max_steps=2, per_device_train_batch_size=4, max_length=256, logging_steps=1,
            learning_rate=1e-4, report_to="none", use_cpu=True, bf16=False,
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        # Pass the reference: TRL would load it from the model's path, and there is none.
        model = tiny_llama(tokenizer)
        trainer = trainer_class(
            model=model, ref_model=copy.deepcopy(model), args=arguments, train_dataset=dataset,
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    print(f"{trainer_class.__name__}: losses {losses}")
    if len(losses) != 2 or not all(map(math.isfinite, losses)):
        sys.exit(f"{trainer_class.__name__}: two finite losses were expected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with kto/ and dpo/")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json, or the folder of a tokenizer")
    parser.add_argument("--rows", type=int, default=64, help="rows to train on at most")
    arguments = parser.parse_args()

    tokenizer = load_tokenizer(arguments.tokenizer)
    kto = load(arguments.dataset / "kto", ["prompt", "completion", "label"])
    if kto.features["label"].dtype != "bool":
        sys.exit(f"kto: label is {kto.features['label'].dtype}; bool is needed")
    dpo = load(arguments.dataset / "dpo", ["prompt", "chosen", "rejected"])
    two_steps(KTOTrainer, KTOConfig, kto.select(range(min(arguments.rows, len(kto)))), tokenizer)
    two_steps(DPOTrainer, DPOConfig, dpo.select(range(min(arguments.rows, len(dpo)))), tokenizer)
    print("ok: TRL loads and trains on both datasets as they are")


if __name__ == "__main__":
    main()
