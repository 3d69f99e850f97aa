"""Golden scores of reward models from transformers, for crates/model/tests/integration/classifiers.rs.

    python benches/peers/golden_classifiers.py crates/model/tests/integration/classifiers

Writes one small JSON file per case: the config.json, the names and shapes of the checkpoint's
tensors, the files of a tokenizer, texts with their token ids, and scores in f64. Weights are not
stored: they are a function of name and index, as in golden_families.py. Sequences are scored one by
one and in a padded batch, which must agree.
"""

import json
import pathlib
import sys
import tempfile

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from golden_families import scaled, weight

PAD, CLS, SEP, START, END = 256, 257, 258, 259, 260
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 264

ENCODER = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=512,
    pad_token_id=PAD,
    num_labels=1,
    bos_token_id=CLS,
    eos_token_id=SEP,
    cls_token_id=CLS,
    sep_token_id=SEP,
)
DECODER = dict(ENCODER, num_hidden_layers=2, num_key_value_heads=2)
# What microsoft/deberta-v3-large and the reward models that start from it have.
DEBERTA_V3 = dict(
    ENCODER,
    hidden_act="gelu",
    layer_norm_eps=1e-7,
    relative_attention=True,
    max_relative_positions=-1,
    position_buckets=256,
    norm_rel_ebd="layer_norm",
    share_att_key=True,
    pos_att_type="p2c|c2p",
    position_biased_input=False,
    type_vocab_size=0,
    pooler_hidden_size=32,
    pooler_hidden_act="gelu",
)

CASES = {
    "deberta-v3": ("DebertaV2", DEBERTA_V3),
    # Convolution, narrow embeddings, own projections of positions, absolute positions and segments.
    "deberta-v2": (
        "DebertaV2",
        dict(
            DEBERTA_V3,
            position_buckets=8,
            max_relative_positions=64,
            share_att_key=False,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="none",
            embedding_size=24,
            conv_kernel_size=3,
            conv_act="gelu",
            position_biased_input=True,
            type_vocab_size=2,
            pooler_hidden_act="tanh",
        ),
    ),
    "deberta-v2-linear": (
        "DebertaV2",
        dict(DEBERTA_V3, position_buckets=-1, max_relative_positions=12, share_att_key=False, pos_att_type="c2p"),
    ),
    "modernbert": (
        "ModernBert",
        dict(ENCODER, num_hidden_layers=4, local_attention=10, global_attn_every_n_layers=3),
    ),
    "modernbert-mean": (
        "ModernBert",
        dict(
            ENCODER,
            num_hidden_layers=4,
            local_attention=16,
            global_attn_every_n_layers=2,
            classifier_pooling="mean",
            norm_bias=True,
            attention_bias=True,
            mlp_bias=True,
            classifier_bias=True,
        ),
    ),
    "llama": ("Llama", dict(DECODER, rms_norm_eps=1e-5)),
    "llama3": (
        "Llama",
        dict(
            DECODER,
            **scaled(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        ),
    ),
    "mistral": ("Mistral", dict(DECODER, sliding_window=7)),
    "qwen2": ("Qwen2", dict(DECODER, tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(DECODER, head_dim=12)),
    "gemma3": (
        "Gemma3Text",
        dict(DECODER, head_dim=12, sliding_window=5, layer_types=["sliding_attention", "full_attention"]),
    ),
    "gpt_neox": ("GPTNeoX", {key: value for key, value in DECODER.items() if key != "num_key_value_heads"}),
}

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [
    ("Name a colour.", "Blue."),
    ("Wie geht's? — ok", "Gut, danke!  Und dir?\n"),
    ("Say nothing.", ""),
    ("Count to fifty. " * 8, " ".join(str(number) for number in range(1, 51)) + "."),
]
# Token ids apart from the tokenizer; the third ends with the padding token.
SEQUENCES = [
    [CLS, 3, 141, 59, 8, SEP, 77, SEP],
    [CLS] + [(7 * i * i + 3 * i) % 256 for i in range(300)] + [SEP],
    [12, 200, 45, PAD, PAD],
]


def tokenizer_of(is_pair):
    """Returns a tokenizer with a token for each byte and the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    assert inner.token_to_id("<|im_end|>") == END
    if is_pair:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        eos_token="<|im_end|>",
        model_max_length=512,
        chat_template=None if is_pair else CHATML,
    )


def encode(tokenizer, is_pair):
    """Returns the token ids and segments of TEXTS."""
    for prompt, completion in TEXTS:
        if is_pair:
            # A list, because an empty second text is left out otherwise.
            encoded = tokenizer([prompt], [completion], return_token_type_ids=True)
            yield encoded["input_ids"][0], encoded["token_type_ids"][0]
        else:
            turns = [dict(role="user", content=prompt), dict(role="assistant", content=completion)]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            yield tokenizer(text, add_special_tokens=False)["input_ids"], []


def scores(model, sequences, has_types):
    """Returns the score of each sequence, after a check that a padded batch gives the same."""
    longest = max(len(tokens) for tokens, _ in sequences)
    pad = lambda row, value: row + [value] * (longest - len(row))
    batch = dict(
        input_ids=torch.tensor([pad(tokens, PAD) for tokens, _ in sequences]),
        attention_mask=torch.tensor([pad([1] * len(tokens), 0) for tokens, _ in sequences]),
    )
    if has_types:
        batch["token_type_ids"] = torch.tensor([pad(types or [0] * len(tokens), 0) for tokens, types in sequences])
    result = []
    with torch.no_grad():
        for index, (tokens, _) in enumerate(sequences):
            own = {name: tensor[index : index + 1, : len(tokens)] for name, tensor in batch.items()}
            result.append(model(**own).logits.item())
        padded = model(**batch).logits.flatten()
    assert torch.allclose(padded, torch.tensor(result, dtype=padded.dtype), atol=1e-5), (padded, result)
    return [round(score, 8) for score in result]


def golden(kind, settings):
    config = getattr(transformers, f"{kind}Config")(**settings)
    # Eager attention with windows makes padding NaN, which spreads.
    config._attn_implementation = "eager" if kind == "DebertaV2" else "sdpa"
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(name, parameter.shape))
    model = model.double().eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        from safetensors import safe_open

        with safe_open(pathlib.Path(folder) / "model.safetensors", "pt") as saved:
            tensors = {name: list(saved.get_slice(name).get_shape()) for name in saved.keys()}
        saved_config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        own = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
        assert tensors == own, set(tensors) ^ set(own)
        is_pair = kind in ("DebertaV2", "ModernBert")
        tokenizer = tokenizer_of(is_pair)
        tokenizer.save_pretrained(folder)
        files = {}
        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
            path = pathlib.Path(folder) / name
            if path.exists():
                files[name] = path.read_text()
    saved_config["dtype"] = "float32"
    encoded = list(encode(tokenizer, is_pair))
    sequences = [(tokens, [0] * len(tokens) if is_pair else []) for tokens in SEQUENCES]
    has_types = kind == "DebertaV2"
    result = dict(
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, f64",
        config=saved_config,
        tensors=tensors,
        files=files,
        texts=[
            dict(prompt=prompt, completion=completion, tokens=tokens, types=types)
            for (prompt, completion), (tokens, types) in zip(TEXTS, encoded)
        ],
        sequences=SEQUENCES,
        scores=scores(model, encoded + sequences, has_types),
    )
    return result


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name, (kind, settings) in CASES.items():
        text = json.dumps(golden(kind, settings), separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n")
        print(name, len(text), file=sys.stderr)
    # Rows of position embeddings by distance, for the test in classifier/deberta.rs.
    distances = torch.arange(0, 600)
    buckets = make_log_bucket_position(distances, 256, 512).int().tolist()
    print("buckets at", {d: buckets[d] for d in (1, 127, 128, 129, 130, 200, 300, 400, 510, 511, 512, 599)})


if __name__ == "__main__":
    main()
