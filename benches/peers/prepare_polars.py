"""Prepares HH pairs with polars: only the split at the last marker, and the paired file.

    python benches/peers/prepare_polars.py FILE.jsonl OUT
"""

import sys
import time
from pathlib import Path

import polars as pl

start = time.perf_counter()
source, out = sys.argv[1:]
Path(out).mkdir(parents=True, exist_ok=True)
parts = r"(?s)^(.*)\n\nAssistant:(.*)$"
pairs = pl.read_ndjson(source).select(
    prompt=pl.col("chosen").str.extract(parts, 1),
    chosen=pl.col("chosen").str.extract(parts, 2).str.strip_chars(),
    rejected=pl.col("rejected").str.extract(parts, 2).str.strip_chars(),
)
pairs.write_parquet(f"{out}/dpo.parquet", compression="zstd")
print(f"{time.perf_counter() - start:.2f} s after imports, {len(pairs)} pairs")
