"""Prepares HH pairs with `datasets` and TRL: load, split, unpair, shuffle, write both parquet files.

    python benches/peers/prepare_datasets.py FILE.jsonl OUT
"""

import sys
import time

import datasets
from trl import unpair_preference_dataset

datasets.disable_progress_bars()
start = time.perf_counter()
source, out = sys.argv[1:]
MARK = "\n\nAssistant:"


def split(row):
    at, other = row["chosen"].rfind(MARK), row["rejected"].rfind(MARK)
    return {
        "prompt": row["chosen"][:at],
        "chosen": row["chosen"][at + len(MARK) :].strip(),
        "rejected": row["rejected"][other + len(MARK) :].strip(),
    }


pairs = datasets.load_dataset("json", data_files=source, split="train", cache_dir=f"{out}/cache").map(split)
parts = pairs.train_test_split(test_size=0.1, seed=0)
for name, part in parts.items():
    part.to_parquet(f"{out}/dpo-{name}.parquet")
    unpair_preference_dataset(part).shuffle(seed=0).to_parquet(f"{out}/kto-{name}.parquet")
print(f"{time.perf_counter() - start:.2f} s after imports, {len(pairs)} pairs")
