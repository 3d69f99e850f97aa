"""Checks that LLaMA-Factory's loader neither skips nor changes rows of an exported dataset.

    prospect export DATASET --out FOLDER
    DISABLE_VERSION_CHECK=1 python check_llama_factory.py FOLDER NAME

NAME is the directory name of the dataset. Needs llamafactory and its dependencies (tested with
0.9.5).
"""

import json
import sys
import tempfile
from pathlib import Path

from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

folder, name = Path(sys.argv[1]), sys.argv[2]
with tempfile.TemporaryDirectory() as scratch:
    model = ModelArguments(model_name_or_path="unused", cache_dir=scratch)
    training = Seq2SeqTrainingArguments(output_dir=scratch, use_cpu=True)
    for kind in ("kto", "dpo"):
        for split in ("", "_test"):
            data = DataArguments(dataset_dir=str(folder), dataset=f"{name}_{kind}{split}", overwrite_cache=True)
            (attributes,) = get_dataset_list([f"{name}_{kind}{split}"], data.dataset_dir)
            loaded = _load_single_dataset(attributes, model, data, training)
            rows = [json.loads(line) for line in (folder / f"{kind}{split}.jsonl").read_text().splitlines()]
            assert len(loaded) == len(rows), (kind, split, len(loaded), len(rows))
            for theirs, ours in zip(loaded, rows):
                system = ours["messages"][0]["content"] if ours["messages"][0]["role"] == "system" else ""
                turns = [turn for turn in ours["messages"] if turn["role"] != "system"]
                assert (theirs["_system"] or "") == system
                if kind == "kto":
                    prompt, reply = turns[:-1], turns[-1]["content"]
                    empty = {"content": "", "role": "assistant"}
                    said = [{"content": reply, "role": "assistant"}, empty]
                    assert theirs["_response"] == (said if ours["label"] else said[::-1]), (theirs, ours)
                else:
                    prompt = turns
                    said = [ours[side]["content"] for side in ("chosen", "rejected")]
                    assert [turn["content"] for turn in theirs["_response"]] == said, (theirs, ours)
                assert [turn["content"] for turn in theirs["_prompt"]] == [turn["content"] for turn in prompt]
            print(f"{name}_{kind}{split}: {len(loaded)} rows, as exported")
