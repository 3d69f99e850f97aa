"""Golden values of Gemma 3 270M from transformers, for crates/model/tests/integration/gemma.rs.

    python benches/peers/golden_gemma.py "$(scripts/gemma3.sh)" crates/model/tests/integration/gemma.json

transformers dequantises the GGUF file and computes in f32. Needs the packages transformers, torch
and gguf.
"""

import json
import pathlib
import sys

import torch
import transformers

PROMPT = "The capital of France is"
TOLD = " Paris. It lies on the Seine, and about two million people live there."
# Longer than the sliding window of 512.
LONG = "The sea was calm and the ship went on to the north, day after day, under a grey sky. " * 40


def log_probs(model, tokens, first):
    """Returns the log-probs of tokens[first:] in f64."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, first - 1 : -1].double()
    return torch.log_softmax(logits, -1)[torch.arange(len(tokens) - first), tokens[first:]].tolist()


def main():
    path = pathlib.Path(sys.argv[1])
    settings = dict(gguf_file=path.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **settings)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, dtype=torch.float32, attn_implementation="eager", **settings
    ).eval()
    prompt = [tokenizer.bos_token_id, *tokenizer.encode(PROMPT, add_special_tokens=False)]
    told = tokenizer.encode(TOLD, add_special_tokens=False)
    long = [tokenizer.bos_token_id, *tokenizer.encode(LONG, add_special_tokens=False)]
    first = len(long) - 20
    with torch.no_grad():
        greedy = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    golden = dict(
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, f32",
        prompt=prompt,
        completion=told,
        completion_log_probs=log_probs(model, prompt + told, len(prompt)),
        greedy=greedy.tolist(),
        long=long,
        long_first=first,
        long_log_probs=log_probs(model, long, first),
    )
    print(len(long), "tokens;", tokenizer.decode(greedy), golden["completion_log_probs"], file=sys.stderr)
    pathlib.Path(sys.argv[2]).write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
