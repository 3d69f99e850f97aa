"""Times optimizer steps of KTO and DPO in TRL, or in torch and peft, as in `prospect gpu-check`.

    python time_gpu_step.py --model 1b|7b [--device cuda:0|cpu] [--small] [--json FILE] [--trainer auto|trl|torch]

`--trainer auto` uses TRL's KTOTrainer and DPOTrainer if `trl` and `datasets` are installed, and the loops
below if not. TRL chooses its own logits, reference passes and mismatched completions.

Setup of both:

- random bf16 weights, generated on the device
- LoRA r16 in f32 (autocast to bf16) on all linear layers of the blocks
- scaled dot-product attention, fused AdamW
- sequences of 512 tokens, half of them prompt
- activations are kept, or checkpointed if they do not fit the GPU

Setup of the loops:

- losses as in TRL, for policy and reference (adapter off); KTO also needs the log-probs of equally
  many mismatched completions under both, without gradient
- logits for completion tokens only

Prints one line per objective. See docs/performance.md for the tested versions.
"""

import argparse
import gc
import importlib.util
import json
import os
import random
import statistics
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

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


LORA = dict(r=16, lora_alpha=32, target_modules=LINEARS, task_type="CAUSAL_LM")


def base_model(shape: dict, device: torch.device, dtype: torch.dtype):
    config = LlamaConfig(**shape, max_position_embeddings=2048, attn_implementation="sdpa", use_cache=False)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        base = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return base


def with_adapter(base):
    model = get_peft_model(base, LoraConfig(**LORA))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    return model


def word_tokenizer(vocabulary: int):
    """Returns a tokenizer of the words w3, w4, …, so that a text has exactly as many tokens as words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 0, "</s>": 1, "<pad>": 2} | {f"w{index}": index for index in range(3, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def random_rows(objective: str, examples: int, length: int, vocabulary: int):
    """Returns rows for TRL: prompts of half the length; completions that fill it with the end token TRL adds."""
    from datasets import Dataset

    draw = random.Random(0)
    text = lambda count: " ".join(f"w{draw.randrange(3, vocabulary)}" for _ in range(count))
    prompt, completion = length // 2, length - length // 2 - 1
    if objective == "kto":
        rows = [
            {"prompt": text(prompt), "completion": " " + text(completion), "label": index % 2 == 0} for index in range(examples)
        ]
    else:
        rows = [
            {"prompt": text(prompt), "chosen": " " + text(completion), "rejected": " " + text(completion)} for _ in range(examples)
        ]
    return Dataset.from_list(rows)


def time_trl(objective: str, shape: dict, length: int, steps: int, device: torch.device, dtype: torch.dtype, checkpointed: bool) -> dict:
    """Times TRL's trainer on a new random model: the median step after the first."""
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks = []

        def on_step_end(self, args, state, control, **_):
            wait(device)
            self.marks.append(time.perf_counter())
            if len(self.marks) == 1 and device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)

    config, trainer = (KTOConfig, KTOTrainer) if objective == "kto" else (DPOConfig, DPOTrainer)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        options = config(
            output_dir=folder, max_steps=1 + steps, per_device_train_batch_size=8, max_length=length, learning_rate=1e-5,
            report_to=[], use_cpu=device.type == "cpu", bf16=device.type == "cuda", save_strategy="no", logging_strategy="no",
            gradient_checkpointing=checkpointed, disable_tqdm=True, lr_scheduler_type="constant",
        )
        run = trainer(
            model=base_model(shape, device, dtype), args=options,
            train_dataset=random_rows(objective, 8 * (1 + steps), length, shape["vocab_size"]),
            processing_class=word_tokenizer(shape["vocab_size"]), peft_config=LoraConfig(**LORA), callbacks=[clock],
        )
        loss = run.train().training_loss
    seconds = statistics.median(b - a for a, b in zip(clock.marks, clock.marks[1:]))
    return {"objective": objective, "seconds": seconds, "steps": steps, **counts(length), "peak": peak(device), "loss": loss}


def counts(length: int) -> dict:
    """Work of a step as Prospect counts it: each prompt once, and no row for the last token of a completion."""
    prompts, completions, completion = 8, 16, length - length // 2
    return {
        "examples": prompts, "rows": prompts * (length // 2) + completions * (completion - 1), "sequences": completions,
    }


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
    return {"objective": objective, "seconds": seconds, "steps": steps, **counts(length), "peak": peak(device), "loss": loss.item()}


def choose_trainer(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "trl" if all(importlib.util.find_spec(name) for name in ("trl", "datasets")) else "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--trainer", choices=["auto", "trl", "torch"], default="auto")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape, length = (SMALL, 64) if arguments.small else (SHAPES[arguments.model], 512)
    steps = 2 if arguments.small else {"1b": 5, "7b": 3}[arguments.model]
    trainer = choose_trainer(arguments.trainer)
    if trainer == "trl":
        import trl

        name = f"TRL {trl.__version__}"
    else:
        name = f"torch {torch.__version__} + peft"
    model = None if trainer == "trl" else with_adapter(base_model(shape, device, dtype))

    def measure(objective: str, checkpointed: bool) -> dict:
        if model is None:
            return time_trl(objective, shape, length, steps, device, dtype, checkpointed)
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        return time_steps(model, objective, length, shape["vocab_size"], steps, device, dtype)

    results = []
    checkpointing = False
    for objective in ["kto", "dpo"]:
        for checkpointed in [True] if checkpointing else [False, True]:
            checkpointing = checkpointed
            try:
                result = measure(objective, checkpointed)
            except torch.cuda.OutOfMemoryError:
                if model is not None:
                    model.zero_grad(set_to_none=True)
                result = None
            # After the handler, whose traceback holds the tensors of the failed step.
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if result is None:
                continue
            result["checkpointed"] = checkpointed
            results.append(result)
            rate, used = result["examples"] / result["seconds"], result["peak"]
            print(
                f"{name} {arguments.model} {objective}: {result['seconds']:.3f} s/step, {rate:.2f} examples/s,"
                f" peak {'-' if used is None else f'{used / 2**30:.1f} GiB'}, activations {'recomputed' if checkpointed else 'kept'}",
                flush=True,
            )
            break
        else:
            print(f"{name} {arguments.model} {objective}: skipped: does not fit in GPU memory even with checkpointing")
        if arguments.json:
            with open(arguments.json, "w") as file:
                document = {"trainer": name, "torch": torch.__version__, "model": arguments.model, "small": arguments.small, "steps": results}
                json.dump(document, file, indent=2)


if __name__ == "__main__":
    main()
