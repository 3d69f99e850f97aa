"""Reads the parquet tables of a sweep's report with polars and pandas, and compares them.

    python benches/peers/check_tables.py runs/NAME/report/tables
"""

import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow.parquet as pq

TABLES = ["runs", "metrics", "heldout", "generations", "samples", "judgements"]
folder = Path(sys.argv[1])

for name in TABLES:
    file = folder / f"{name}.parquet"
    fast, slow = pl.read_parquet(file), pd.read_parquet(file)
    assert fast.columns == list(slow.columns), (fast.columns, list(slow.columns))
    assert fast.height == len(slow)
    for field in pq.read_schema(file):
        assert str(field.type) in ("string", "int64", "double", "bool"), field
        missing = fast[field.name].null_count()
        assert missing == slow[field.name].isna().sum(), field
        assert field.nullable or missing == 0, field
    print(f"{name}: {fast.height} rows, {fast.width} columns")

runs, held_out = pl.read_parquet(folder / "runs.parquet"), pl.read_parquet(folder / "heldout.parquet")
margins = held_out.filter(pl.col("kind") == "pair").join(runs, on="run").group_by("run", "seed").agg(pl.col("margin").mean())
print(margins.sort("run"))
assert margins.height == held_out.filter(pl.col("kind") == "pair")["run"].n_unique()
