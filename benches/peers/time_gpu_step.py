"""Times optimizer steps of KTO and DPO in torch, transformers and peft, as in `prospect gpu-check`.

    python time_gpu_step.py --model 1b|7b [--device cuda:0|cpu] [--small] [--json FILE]

Setup:

- random bf16 weights, generated on the device
- LoRA r16 in f32 (autocast to bf16) on all linear layers of the blocks
- scaled dot-product attention, fused AdamW
- sequences of 512 tokens, half of them prompt
- losses as in TRL, for policy and reference (adapter off); KTO also needs the log-probs of equally
  many mismatched completions under both, without gradient
- logits for completion tokens only
- activations are kept, or checkpointed if they do not fit the GPU

Prints one line per objective. See docs/performance.md for the tested versions.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "1b": dict(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, vocab_size=128256, tie_word_embeddings=True,
    ),
    "7b": dict(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
        vocab_size=32000, tie_word_embeddings=False,
    ),
}
SMALL = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=320,
    tie_word_embeddings=True,
)
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BETA = 0.1


def build(shape: dict, device: torch.device, dtype: torch.dtype):
    config = LlamaConfig(**shape, max_position_embeddings=2048, attn_implementation="sdpa", use_cache=False)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        base = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=LINEARS, task_type="CAUSAL_LM"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    return model


def log_probs(model, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
    """Returns log π of the tokens after the first `prompt` tokens of each sequence."""
    completion = tokens.shape[1] - prompt
    # The last position has no target.
    logits = model(input_ids=tokens, logits_to_keep=completion + 1).logits[:, :-1].float()
    return -F.cross_entropy(logits.transpose(1, 2), tokens[:, prompt:], reduction="none").sum(1)


def reference(model, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
    with torch.no_grad(), model.disable_adapter():
        return log_probs(model, tokens, prompt)


def kto_loss(model, batch, prompt: int) -> torch.Tensor:
    tokens, mismatched, desirable = batch
    with torch.no_grad():
        kl = (log_probs(model, mismatched, prompt) - reference(model, mismatched, prompt)).mean().clamp(min=0)
    ratio = log_probs(model, tokens, prompt) - reference(model, tokens, prompt)
    sign = torch.where(desirable, 1.0, -1.0)
    return (1 - torch.sigmoid(BETA * sign * (ratio - kl))).mean()


def dpo_loss(model, batch, prompt: int) -> torch.Tensor:
    tokens, _, _ = batch
    ratio = log_probs(model, tokens, prompt) - reference(model, tokens, prompt)
    chosen, rejected = ratio.chunk(2)
    return -F.logsigmoid(BETA * (chosen - rejected)).mean()


def peak(device: torch.device):
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_steps(model, objective: str, length: int, vocabulary: int, steps: int, device: torch.device, dtype: torch.dtype) -> dict:
    prompt, completion = length // 2, length - length // 2
    sequences = 8 if objective == "kto" else 16
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-5, weight_decay=0, fused=device.type == "cuda"
    )
    generator = torch.Generator(device=device).manual_seed(0)
    marks, loss = [], None
    for step in range(1 + steps):
        wait(device)
        if step == 1 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        marks.append(time.perf_counter())
        tokens = torch.randint(vocabulary, (sequences, length), generator=generator, device=device)
        if objective == "dpo":
            # Both completions of a pair have the same prompt.
            tokens[sequences // 2 :, :prompt] = tokens[: sequences // 2, :prompt]
        mismatched = torch.cat([tokens[:, :prompt], tokens.roll(1, 0)[:, prompt:]], 1)
        desirable = torch.arange(sequences, device=device) % 2 == 0
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = (kto_loss if objective == "kto" else dpo_loss)(model, (tokens, mismatched, desirable), prompt)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    wait(device)
    marks.append(time.perf_counter())
    seconds = statistics.median(b - a for a, b in zip(marks[1:], marks[2:]))
    # Rows as Prospect counts them: each prompt once, and no row for the last token of a completion.
    prompts, completions = 8, 16
    return {
        "objective": objective, "seconds": seconds, "steps": steps, "examples": 8,
        "rows": prompts * prompt + completions * (completion - 1), "sequences": completions, "peak": peak(device), "loss": loss.item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape, length = (SMALL, 64) if arguments.small else (SHAPES[arguments.model], 512)
    steps = 2 if arguments.small else {"1b": 5, "7b": 3}[arguments.model]
    results = []
    model = build(shape, device, dtype)
    checkpointing = False
    for objective in ["kto", "dpo"]:
        for checkpointed in [True] if checkpointing else [False, True]:
            if checkpointed and not checkpointing:
                checkpointing = True
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                model.enable_input_require_grads()
            try:
                result = time_steps(model, objective, length, shape["vocab_size"], steps, device, dtype)
            except torch.cuda.OutOfMemoryError:
                model.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                continue
            result["checkpointed"] = checkpointed
            results.append(result)
            rate, used = result["examples"] / result["seconds"], result["peak"]
            print(
                f"torch {torch.__version__} {arguments.model} {objective}: {result['seconds']:.3f} s/step, {rate:.2f} examples/s,"
                f" peak {'-' if used is None else f'{used / 2**30:.1f} GiB'}, activations {'recomputed' if checkpointed else 'kept'}",
                flush=True,
            )
            break
        else:
            print(f"torch {arguments.model} {objective}: skipped: does not fit in GPU memory even with checkpointing")
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump({"torch": torch.__version__, "model": arguments.model, "small": arguments.small, "steps": results}, file, indent=2)


if __name__ == "__main__":
    main()
