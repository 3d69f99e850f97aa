//! A policy stops where its training completions stop, for templates in the style of the published
//! ones.

// Test helpers may panic.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::{Message, PipelineFile};
use prospect_dist::SingleProcess;
use prospect_model::{
    Activations, Adapter, Decoder, GenerationConfig, Model, ModelFile, Prompt, Sampling, Tokenizer, Train,
};
use prospect_train::{Encoder, ReferenceCache, Settings, TrainContext, TrainFile, TrainingSet, train};
use serde_json::{Value, json};

/// Tokenizer and template of a checkpoint.
struct Style {
    name: &'static str,
    special: &'static [&'static str],
    bos: Option<&'static str>,
    eos: &'static str,
    /// Token that ends a turn.
    end: &'static str,
    template: &'static str,
}

const STYLES: [Style; 7] = [
    Style {
        name: "Llama 2",
        special: &["<s>", "</s>"],
        bos: Some("<s>"),
        eos: "</s>",
        end: "</s>",
        template: "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    },
    // Opens the next turn, whatever is asked.
    Style {
        name: "Llama 3",
        special: &[
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        bos: Some("<|begin_of_text|>"),
        eos: "<|end_of_text|>",
        end: "<|eot_id|>",
        template: "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
    },
    Style {
        name: "Mistral",
        special: &["<s>", "</s>", "[INST]", "[/INST]"],
        bos: Some("<s>"),
        eos: "</s>",
        end: "</s>",
        template: "{{- bos_token }}\n{%- for message in messages %}\n    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}\n        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if message.role == 'user' %}\n        {{- '[INST] ' + message.content + '[/INST]' }}\n    {%- else %}\n        {{- ' ' + message.content + eos_token }}\n    {%- endif %}\n{%- endfor %}\n",
    },
    // A base model: its end-of-sequence token ends documents, not turns.
    Style {
        name: "Qwen",
        special: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        bos: None,
        eos: "<|endoftext|>",
        end: "<|im_end|>",
        template: "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{%- endif %}\n{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    },
    Style {
        name: "Gemma",
        special: &["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        bos: Some("<bos>"),
        eos: "<eos>",
        end: "<end_of_turn>",
        template: "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
    },
    // Ends a text with a second token.
    Style {
        name: "Phi",
        special: &["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        bos: None,
        eos: "<|endoftext|>",
        end: "<|end|>",
        template: "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    },
    Style {
        name: "ChatML",
        special: &["<|im_start|>", "<|im_end|>"],
        bos: None,
        eos: "<|im_end|>",
        end: "<|im_end|>",
        template: "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    },
];

/// Writes a checkpoint with random weights.
fn write_checkpoint(style: &Style, folder: &Path) {
    let text = format!(
        "weights: random\ntokenizer: bytes\narchitecture: {{vocab_size: {}, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 256}}",
        258.max(256 + style.special.len())
    );
    load(&text).save(folder).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&Tokenizer::bytes().unwrap().to_json().unwrap()).unwrap();
    let added = style.special.iter().zip(256..).map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    tokenizer["added_tokens"] = added.collect();
    let config =
        json!({"eos_token": style.eos, "bos_token": style.bos, "chat_template": style.template}).to_string();
    fs_err::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs_err::write(folder.join("tokenizer_config.json"), config).unwrap();
    // These are the files of another tool now.
    fs_err::remove_file(folder.join("BLAKE3SUMS")).unwrap();
}

fn load(recipe: &str) -> Model {
    let file: ModelFile = Document::from_text("model.yaml", recipe).unwrap().read().unwrap();
    file.resolve(&|path| Ok(path.into())).unwrap().load().unwrap()
}

/// Prepares pairs whose chosen completion is "Yes.".
fn write_dataset(folder: &Path) {
    let things = ["map", "kettle", "tent", "piano", "clock", "drum", "raft", "loom"];
    let rows =
        things.map(|thing| json!({"prompt": format!("A {thing}?"), "chosen": "Yes.", "rejected": "No no."}));
    let path = folder.join("pairs.jsonl");
    fs_err::write(&path, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let text = format!("source: {{ path: '{}' }}\nsplit: {{ test_fraction: 0 }}", path.display());
    let recipe: PipelineFile = Document::from_text("data.yaml", &text).unwrap().read().unwrap();
    prospect_data::prepare(&recipe.resolve(&|path| Ok(path.into())).unwrap(), &folder.join("data")).unwrap();
}

fn fine_tune(model: &Model, settings: &Settings, dataset: &Path, cache: &Path) -> Decoder {
    let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(dataset, &settings.objective, &encoder).unwrap();
    let context = TrainContext {
        model,
        train: Train::Full,
        activations: Activations::Keep,
        settings,
        examples: &examples,
        encoder: &encoder,
        seed: 0,
        checkpoints: None,
        zero: None,
        group: &SingleProcess,
    };
    train(&context, &ReferenceCache::new(cache), &mut ()).unwrap().into_policy().unwrap().policy
}

#[test]
fn a_policy_trained_to_say_yes_stops_after_it() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(folder.path());
    let settings = "objective: sft\nlearning_rate: 1e-2\nmax_steps: 30\nbatch_size: 8\nmax_length: 200";
    let settings: TrainFile = Document::from_text("train.yaml", settings).unwrap().read().unwrap();
    let settings = settings.resolve().unwrap();
    for style in &STYLES {
        let name = style.name;
        let weights = folder.path().join(name);
        write_checkpoint(style, &weights);
        let model = load(&format!("weights: '{}'", weights.display()));
        assert_eq!(model.template.end_marker().token, style.end, "{name}");

        let policy = fine_tune(&model, &settings, &folder.path().join("data"), folder.path());
        let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
        let question = [Message { role: "user".to_owned(), content: "A kettle?".to_owned() }];
        let prompt = encoder.encode_prompt(&question, "").unwrap().unwrap();
        let config = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: 12,
            eos_token_ids: encoder.stop_token_ids().to_vec(),
            seed: 0,
            batch_size: 1,
        };
        let generate = |decoder: &Decoder, config: &GenerationConfig| {
            decoder.generate(&[Prompt { id: "", tokens: &prompt }], config, Adapter::On).unwrap().remove(0)
        };
        let generated = generate(&policy, &config);
        let text = model.tokenizer.decode(&generated.tokens, true).unwrap();
        assert_eq!(text.trim(), "Yes.", "{name}");
        assert_eq!(generated.end, Some(encoder.end_marker().id), "{name}");

        // A checkpoint of the policy stops at the same token.
        let saved = folder.path().join(format!("{name} saved"));
        Model { decoder: policy, ..model.clone() }.save(&saved).unwrap();
        let read = |file: &str| -> Value {
            serde_json::from_slice(&fs_err::read(saved.join(file)).unwrap()).unwrap()
        };
        let end = encoder.end_marker().id;
        assert_eq!(read("config.json")["eos_token_id"], end, "{name}");
        assert_eq!(read("generation_config.json")["eos_token_id"][0], end, "{name}");
        let again = load(&format!("weights: '{}'", saved.display()));
        assert_eq!(again.template.end_marker(), model.template.end_marker(), "{name}");
        assert_eq!(generate(&again.decoder, &config).tokens, generated.tokens, "{name}");
    }
}
