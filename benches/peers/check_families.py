"""Trains on a random checkpoint of each family and loads the results in transformers and peft.

    python benches/peers/check_families.py PROSPECT [SCRATCH]

For each family:

1. transformers writes a small random checkpoint.
2. `prospect train` trains an adapter (KTO) and all weights (DPO) on synthetic feedback.
3. peft loads the adapter, transformers the full model. They compute the log-ratios log π/π_ref of
   the held-out pairs from the text of the dataset, which are compared with the run's pairs.jsonl.

Exits 1 on a difference above 1e-4 nats per completion. Needs torch, transformers, peft and pyarrow
(tested with 2.9, 5.23, 0.21, 21).
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pyarrow.parquet
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

SHAPE = dict(
    vocab_size=258,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=512,
    initializer_range=0.2,
)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
FAMILIES = {
    "llama": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2),
    "llama-3-rope": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, rope_parameters=LLAMA3),
    "mistral": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16),
    "gpt_neox": transformers.GPTNeoXConfig(**SHAPE, rotary_pct=0.25),
}
TOLERANCE = 1e-4


@torch.no_grad()
def log_prob(model, tokenizer, row: dict, side: str) -> float:
    """Returns log π of a completion with its end marker, in nats."""
    prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    # The template ends a turn with its marker and possibly a line break, which is not scored.
    whole = tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False).rstrip("\n")
    prompt, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
    assert whole[: len(prompt)] == prompt
    logits = model(torch.tensor([whole])).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(whole[len(prompt) :])[:, None]).sum().item()


def train(prospect: str, out: pathlib.Path, model: pathlib.Path, *arguments: str) -> pathlib.Path:
    """Trains a run and returns its directory."""
    command = [prospect, "train", out.parent / "data.yaml", "--model", model, "--learning-rate", "1e-2",
               "--batch-size", "8", "--max-length", "256", "--set", "train.max_steps=5", "--out", out, *arguments]
    run = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert run.returncode == 0, (arguments, run)
    return pathlib.Path(run.stdout.strip())


def main() -> None:
    prospect = str(pathlib.Path(sys.argv[1]).resolve())
    scratch = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    (scratch / "data.yaml").write_text("source: { kind: synthetic, pairs: 60 }\nsplit: { test_fraction: 0.2 }\n")
    failed = False
    for family, config in FAMILIES.items():
        torch.manual_seed(0)
        folder, recipe = scratch / f"{family}-base", scratch / f"{family}.yaml"
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
        recipe.write_text(f"weights: {folder}\ntokenizer: bytes\n")
        adapter = train(prospect, scratch / f"{family}-kto", recipe, "--objective", "kto")
        full = train(prospect, scratch / f"{family}-dpo", recipe, "--objective", "dpo", "--set", "model.train=full")
        tokenizer = AutoTokenizer.from_pretrained(full / "model")
        load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        base = load(folder)
        policies = {
            "adapter in peft": (adapter, PeftModel.from_pretrained(load(folder), adapter / "adapter").eval()),
            "full model in transformers": (full, load(full / "model")),
        }
        for what, (run, policy) in policies.items():
            (data,) = run.parent.parent.glob("data/*/dpo/test-*.parquet")
            rows = {row["pair_id"]: row for row in pyarrow.parquet.read_table(data).to_pylist()}
            worst, largest, pairs = 0.0, 0.0, [json.loads(line) for line in (run / "pairs.jsonl").open()]
            for pair in pairs:
                for side in ("chosen", "rejected"):
                    theirs = [log_prob(model, tokenizer, rows[pair["pair_id"]], side) for model in (policy, base)]
                    worst = max(worst, abs(theirs[0] - theirs[1] - pair[side]))
                    largest = max(largest, abs(pair[side]))
            # `not <=` rather than `>`: a NaN must fail.
            failed |= not worst <= TOLERANCE or largest < 0.1
            print(f"{family}, {what}: {2 * len(pairs)} completions, largest log-ratio {largest:.2f}, "
                  f"largest difference {worst:.1e} nats", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
