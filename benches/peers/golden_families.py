"""Golden values of each model family from transformers and peft, for crates/model/tests/families.rs.

    python benches/peers/golden_families.py crates/model/tests/integration/golden

Writes one small JSON file per case: the config.json, the names and shapes of the checkpoint's
tensors, logits, the log-prob of a completion, and its gradient. Weights are not stored: they are a
function of name and index (`number`), which the test computes too. A gradient is stored as its
norm and its dot product with such numbers.
"""

import json
import pathlib
import sys

import numpy
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

TOKENS = [7, 41, 3, 258, 19, 88, 5, 200, 131, 41, 64, 2]
PROMPT = 7
LAST = 3  # rows of logits

SMALL = dict(
    vocab_size=260,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
)
GROUPED = dict(SMALL, num_key_value_heads=2)


def scaled(kind, **parameters):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=100.0, **parameters))


CASES = {
    "llama": ("LlamaConfig", dict(GROUPED, rms_norm_eps=1e-5)),
    "llama-biased": ("LlamaConfig", dict(SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama-linear": ("LlamaConfig", dict(GROUPED, **scaled("linear", factor=3.0))),
    "llama-dynamic": ("LlamaConfig", dict(GROUPED, **scaled("dynamic", factor=3.0))),
    "llama-llama3": (
        "LlamaConfig",
        dict(
            GROUPED,
            **scaled(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        ),
    ),
    "llama-yarn": (
        "LlamaConfig",
        dict(GROUPED, **scaled("yarn", factor=4.0, original_max_position_embeddings=16)),
    ),
    "mistral": ("MistralConfig", dict(GROUPED, head_dim=12, sliding_window=16)),
    "qwen2": ("Qwen2Config", dict(GROUPED, tie_word_embeddings=True)),
    "qwen3": ("Qwen3Config", dict(GROUPED, head_dim=12)),
    "mistral-window": ("MistralConfig", dict(GROUPED, sliding_window=5)),
    "qwen2-window": (
        "Qwen2Config",
        dict(GROUPED, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    ),
    "gemma3_text": (
        "Gemma3TextConfig",
        dict(GROUPED, head_dim=12, sliding_window=5, layer_types=["sliding_attention", "full_attention"]),
    ),
    "gemma3_text-scaled": (
        "Gemma3TextConfig",
        dict(
            {**GROUPED, "num_hidden_layers": 3},
            head_dim=12,
            query_pre_attn_scalar=20,
            sliding_window=4,
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
            attention_bias=True,
            tie_word_embeddings=False,
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=8.0, rope_theta=500.0),
                sliding_attention=dict(rope_type="default", rope_theta=50.0),
            ),
        ),
    ),
    "gpt_neox": ("GPTNeoXConfig", dict(SMALL)),
    "gpt_neox-sequential": (
        "GPTNeoXConfig",
        dict(
            SMALL,
            use_parallel_residual=False,
            attention_bias=False,
            hidden_act="gelu_new",
            rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=0.5),
        ),
    ),
}


def number(name, count):
    """Generates `count` numbers in [-1, 1): SplitMix64, seeded with the FNV-1a hash of `name`."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(11)).astype(numpy.float64) / 2**52 - 1


def weight(name, shape):
    values = 0.3 * number(name, int(numpy.prod(shape)))
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + values
    return torch.from_numpy(values.astype(numpy.float32)).reshape(list(shape))


def log_prob_and_gradients(model, parameters):
    model.zero_grad()
    logits = model(torch.tensor([TOKENS])).logits[0]
    log_probs = torch.log_softmax(logits, -1)
    log_prob = sum(log_probs[row, TOKENS[row + 1]] for row in range(PROMPT - 1, len(TOKENS) - 1))
    log_prob.backward()
    gradients = {
        name: [
            parameter.grad.norm().item(),
            (parameter.grad.flatten() @ torch.from_numpy(number(name + "/probe", parameter.numel()))).item(),
        ]
        for name, parameter in parameters.items()
    }
    return logits, log_prob.item(), gradients


def named_as_in_files(model):
    """Returns the parameters by their names in files: transformers renames GPT-NeoX's head."""
    old = "embed_out." if model.config.model_type == "gpt_neox" else "lm_head."
    return {name.replace("lm_head.", old): parameter for name, parameter in model.named_parameters()}


def shapes(tensors):
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def golden(config_class, settings):
    config = getattr(transformers, config_class)(**settings)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config)
    named = named_as_in_files(model)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(weight(name, parameter.shape))
    model = model.double().eval()
    named = named_as_in_files(model)
    logits, log_prob, gradients = log_prob_and_gradients(model, named)
    result = dict(
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, f64",
        config=json.loads(config.to_json_string(use_diff=True)),
        tensors=shapes(named),
        tokens=TOKENS,
        prompt=PROMPT,
        logits=[[round(x, 7) for x in row] for row in logits[-LAST:].tolist()],
        log_prob=log_prob,
        gradients=gradients,
    )

    lora = LoraConfig(r=2, lora_alpha=3, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(model, lora)
    saved = {name: weight(name, tensor.shape).double() for name, tensor in get_peft_model_state_dict(policy).items()}
    set_peft_model_state_dict(policy, saved)
    policy = policy.double().eval()
    short = lambda name: name.replace(".default", "")
    named = {short(name): parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert set(named) == set(saved), set(named) ^ set(saved)
    _, log_prob, gradients = log_prob_and_gradients(policy, named)
    result["adapter"] = dict(r=2, alpha=3, tensors=shapes(saved), log_prob=log_prob, gradients=gradients)
    return result


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, (config_class, settings) in CASES.items():
        text = json.dumps(golden(config_class, settings), separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n")
        print(name, len(text), file=sys.stderr)


if __name__ == "__main__":
    main()
