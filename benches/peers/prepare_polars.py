"""Prepares HH pairs with polars: only the split at the last marker, and the paired file.

    python benches/peers/prepare_polars.py FILE.jsonl OUT [--streaming]

With --streaming, polars' streaming engine reads, converts and writes in batches.
"""

import sys
import time
from pathlib import Path

import polars as pl

start = time.perf_counter()
source, out, *options = sys.argv[1:]
Path(out).mkdir(parents=True, exist_ok=True)
parts = r"(?s)^(.*)\n\nAssistant:(.*)$"
columns = {
    "prompt": pl.col("chosen").str.extract(parts, 1),
    "chosen": pl.col("chosen").str.extract(parts, 2).str.strip_chars(),
    "rejected": pl.col("rejected").str.extract(parts, 2).str.strip_chars(),
}
if options == ["--streaming"]:
    pl.scan_ndjson(source).select(**columns).sink_parquet(f"{out}/dpo.parquet", compression="zstd")
else:
    pl.read_ndjson(source).select(**columns).write_parquet(f"{out}/dpo.parquet", compression="zstd")
pairs = pl.scan_parquet(f"{out}/dpo.parquet").select(pl.len()).collect().item()
print(f"{time.perf_counter() - start:.2f} s after imports, {pairs} pairs")
