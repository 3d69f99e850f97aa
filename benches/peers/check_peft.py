"""Compares Prospect's log-probs with those of transformers and peft.

    python check_peft.py ADAPTER_DIR BASE_HF_DIR PAIRS_JSONL [--dtype float32]

PAIRS_JSONL has one line per sequence:

    {"prompt_ids": [...], "completion_ids": [...], "logp": x, "ref_logp": y}

logp is the sum of log-probabilities (nats) of the completion's tokens under base + adapter,
ref_logp the same under the base. Prints the largest absolute difference of each; exits 1 above
--tolerance (nats per completion token). Needs torch, transformers and peft (tested with 2.9, 5.23,
0.21).
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@torch.no_grad()
def log_prob(model, prompt: list[int], completion: list[int]) -> float:
    """Returns the sum of log-probabilities of the completion's tokens, in nats."""
    tokens = torch.tensor([prompt + completion])
    logits = model(tokens).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(-1, tokens[0, len(prompt) :, None]).sum().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors")
    parser.add_argument("base", type=Path, help="folder of the base model in Hugging Face layout")
    parser.add_argument("pairs", type=Path, help="JSON lines with token ids and our log-probs")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference per completion token, nats")
    arguments = parser.parse_args()

    rows = [json.loads(line) for line in arguments.pairs.read_text().splitlines() if line.strip()]
    if not rows or any(not row["prompt_ids"] or not row["completion_ids"] for row in rows):
        sys.exit(f"{arguments.pairs} must hold at least one row, each with prompt and completion ids")
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=getattr(torch, arguments.dtype))
    model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    # peft only warns about unknown keys, which would make the adapter a silent no-op.
    if not any(parameter.abs().sum() > 0 for name, parameter in model.named_parameters() if "lora_B" in name):
        print("note: every lora_B is zero, so the adapter changes nothing")

    worst = {"with adapter": 0.0, "without adapter": 0.0}
    worst_per_token = 0.0
    for row in rows:
        prompt, completion = row["prompt_ids"], row["completion_ids"]
        with_adapter = log_prob(model, prompt, completion)
        with model.disable_adapter():
            without = log_prob(model, prompt, completion)
        differences = abs(with_adapter - row["logp"]), abs(without - row["ref_logp"])
        for name, difference in zip(worst, differences):
            worst[name] = max(worst[name], difference)
        worst_per_token = max(worst_per_token, *(difference / len(completion) for difference in differences))
    for name, difference in worst.items():
        print(f"{name}: largest difference {difference:.3e} nats over {len(rows)} sequences")
    # `not <=` rather than `>`: a NaN must fail.
    if not worst_per_token <= arguments.tolerance:
        sys.exit(f"{worst_per_token:.3e} nats per token is above the tolerance of {arguments.tolerance:.0e}")
    print(f"ok: within {worst_per_token:.3e} nats per completion token")


if __name__ == "__main__":
    main()
