use super::*;
use prospect_model::{ChatTemplate, Tokenizer};

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

fn with_encoder<T>(max_length: usize, max_prompt_length: usize, test: impl FnOnce(&Encoder<'_>) -> T) -> T {
    let tokenizer = Tokenizer::bytes().unwrap();
    let template = ChatTemplate::chatml(&tokenizer).unwrap();
    test(&Encoder::from_text(&tokenizer, &template, max_length, max_prompt_length))
}

// In ChatML a user turn of n bytes has n + 8 tokens, the header of the assistant's turn 11.
#[test]
fn a_completion_ends_with_one_end_marker() {
    with_encoder(100, 50, |encoder| {
        let encoded =
            encoder.encode(&[message("user", "hi")], &[message("assistant", "yo")]).unwrap().unwrap();
        let end = encoder.tokenizer.eos_token_id().unwrap();
        assert_eq!(encoded.prompt.len(), 10 + 11);
        assert_eq!(encoded.completion.len(), 3);
        assert_eq!(encoded.completion.iter().filter(|token| **token == end).count(), 1);
        assert_eq!(encoded.completion.last(), Some(&end));
    });
}

#[test]
fn a_control_text_ends_the_prompt_and_is_not_scored() {
    with_encoder(100, 50, |encoder| {
        let (prompt, completion) = ([message("user", "hi")], [message("assistant", "yo")]);
        let plain = encoder.encode(&prompt, &completion).unwrap().unwrap();
        let encoded = encoder.encode_after(&prompt, "<|good|>", &completion).unwrap().unwrap();
        assert_eq!(encoded.completion, plain.completion);
        let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
        assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|good|>");
    });
    // It counts towards the prompt's length.
    with_encoder(100, 21, |encoder| {
        let (prompt, completion) = ([message("user", "hi")], [message("assistant", "yo")]);
        assert!(encoder.encode(&prompt, &completion).unwrap().is_some());
        assert!(encoder.encode_after(&prompt, "<|good|>", &completion).unwrap().is_none());
    });
}

#[test]
fn a_cut_completion_has_no_end_marker() {
    with_encoder(25, 22, |encoder| {
        let encoded =
            encoder.encode(&[message("user", "hi")], &[message("assistant", "longer")]).unwrap().unwrap();
        assert_eq!(encoder.tokenizer.decode(&encoded.completion, true).unwrap(), "long");
        assert_eq!(encoded.truncation, Truncation { prompt: false, completion: true });
    });
}

#[test]
fn old_turns_go_first_and_the_last_never() {
    let prompt = [message("user", "0123456789"), message("assistant", "abc"), message("user", "hi")];
    with_encoder(60, 25, |encoder| {
        let encoded = encoder.encode(&prompt, &[message("assistant", "y")]).unwrap().unwrap();
        let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
        assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(encoded.truncation, Truncation { prompt: true, completion: false });
    });
    with_encoder(60, 20, |encoder| {
        assert_eq!(encoder.encode(&prompt, &[message("assistant", "y")]).unwrap(), None);
    });
}

#[test]
fn a_whole_conversation_is_what_the_template_renders() {
    let prompt = [message("user", "0123456789"), message("assistant", "abc"), message("user", "hi")];
    let text = |encoder: &Encoder<'_>, completion: &str| {
        let encoded = encoder.encode_conversation(&prompt, completion).unwrap().unwrap();
        (encoder.tokenizer.decode(&encoded.tokens, true).unwrap(), encoded.truncation)
    };
    let last = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n";
    with_encoder(100, 60, |encoder| {
        let (whole, truncation) = text(encoder, "yo");
        assert_eq!(truncation, Truncation::default());
        assert!(
            whole.starts_with("<|im_start|>user\n0123456789<|im_end|>\n") && whole.ends_with(last),
            "{whole}"
        );
        // A typed special token is text.
        let end = encoder.tokenizer.eos_token_id().unwrap();
        let typed = encoder.encode_conversation(&prompt, "<|im_end|>").unwrap().unwrap().tokens;
        assert_eq!(typed.iter().filter(|token| **token == end).count(), 4);
    });
    with_encoder(24, 25, |encoder| {
        let (whole, truncation) = text(encoder, "yo, and more");
        assert_eq!(whole, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo,");
        assert_eq!(truncation, Truncation { prompt: true, completion: true });
    });
    with_encoder(60, 20, |encoder| {
        assert_eq!(encoder.encode_conversation(&prompt, "yo").unwrap(), Err(DropReason::PromptTooLong));
    });
}

/// ChatML, but with rules of its own.
const STRICT: &str = "{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('a forbidden word') }}{% endif %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn strict_template(test: impl FnOnce(&dyn Fn(usize) -> Encoder<'static>)) {
    // Tests may leak.
    let tokenizer: &'static Tokenizer = Box::leak(Box::new(Tokenizer::bytes().unwrap()));
    let template = ChatTemplate::new(STRICT, tokenizer, std::collections::BTreeMap::new()).unwrap();
    let template: &'static ChatTemplate = Box::leak(Box::new(template));
    test(&|max_prompt_length| Encoder::from_text(tokenizer, template, 1000, max_prompt_length));
}

fn prompt_text(encoder: &Encoder<'_>, prompt: &[Message]) -> (String, Adaptation, bool) {
    let encoded = encoder.encode(prompt, &[message("assistant", "y")]).unwrap().unwrap();
    let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
    let text = text.replace("<|im_start|>", "<").replace("<|im_end|>\n", ">");
    (text, encoded.adaptation, encoded.truncation.prompt)
}

#[test]
fn turns_that_a_template_refuses_are_adapted() {
    let conversation = [
        message("system", "short"),
        message("assistant", "hello"),
        message("user", "a"),
        message("user", "b"),
        message("assistant", "c"),
        message("user", "d"),
    ];
    strict_template(|encoder| {
        let (text, adaptation, truncated) = prompt_text(&encoder(500), &conversation);
        assert_eq!(text, "<user\nshort\n\na\n\nb><assistant\nc><user\nd><assistant\n");
        let expected = Adaptation {
            turns_merged: true,
            system_folded: true,
            cut_to_user: true,
            ..Adaptation::default()
        };
        assert_eq!((adaptation, truncated), (expected, false));
        // A cut prompt begins with a user turn and keeps the system text.
        let (text, _, truncated) = prompt_text(&encoder(45), &conversation);
        assert_eq!((text.as_str(), truncated), ("<user\nshort\n\nd><assistant\n", true));
    });
    with_encoder(500, 400, |encoder| {
        let (text, adaptation, _) = prompt_text(encoder, &conversation);
        assert!(text.starts_with("<system\nshort><assistant\nhello><user\na><user\nb>"), "{text}");
        assert_eq!(adaptation, Adaptation::default(), "nothing is changed for a template that accepts it");
    });
}

#[test]
fn what_a_template_refuses_in_every_form_is_dropped_with_the_reason() {
    strict_template(|encoder| {
        let prompt = [message("user", "forbidden")];
        let result = encoder(500).try_encode(&prompt, "", &[message("assistant", "y")]).unwrap();
        let Err(DropReason::Refused(reason)) = result else { panic!("{result:?}") };
        assert!(reason.contains("a forbidden word"), "{reason}");
    });
}

#[test]
fn markers_that_a_person_typed_are_text() {
    with_encoder(200, 150, |encoder| {
        let end = encoder.end_marker().id;
        let prompt = [message("user", "what is <|im_end|>?")];
        let encoded = encoder.encode(&prompt, &[message("assistant", "<|im_end|> is")]).unwrap().unwrap();
        let ends = |tokens: &[u32]| tokens.iter().filter(|token| **token == end).count();
        assert_eq!((ends(&encoded.prompt), ends(&encoded.completion)), (1, 1));
        assert_eq!(encoded.completion.len(), "<|im_end|> is".len() + 1);
        assert!(encoded.adaptation.markers_as_text);
        let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
        assert_eq!(text, "<|im_start|>user\nwhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n");
    });
}

/// Prompt of `rounds` rounds with turns of different lengths.
fn long_prompt(rounds: usize) -> Vec<Message> {
    let mut prompt = vec![message("system", "be short")];
    for round in 0..rounds {
        prompt.push(message("user", &"question ".repeat(1 + round * 7 % 5)));
        prompt.push(message("assistant", &"answer ".repeat(1 + round * 5 % 7)));
    }
    prompt.push(message("user", "and now?"));
    prompt
}

#[test]
fn a_cut_keeps_as_many_turns_as_fit() {
    let prompt = long_prompt(12);
    for limit in (60..1500).step_by(23) {
        with_encoder(3000, limit, |encoder| {
            // The definition: the oldest turns go one by one.
            let mut turns = prompt.clone();
            let text = loop {
                let messages: Vec<ChatMessage<'_>> = turns
                    .iter()
                    .map(|turn| ChatMessage { role: &turn.role, content: &turn.content })
                    .collect();
                let text = encoder.template.prompt(&messages).unwrap();
                if encoder.tokenizer.encode(&text).unwrap().len() <= limit {
                    break text;
                }
                turns.remove(1);
            };
            let encoded = encoder.encode(&prompt, &[message("assistant", "y")]).unwrap().unwrap();
            assert_eq!(encoder.tokenizer.decode(&encoded.prompt, true).unwrap(), text, "{limit}");
            assert_eq!(encoded.truncation.prompt, turns.len() < prompt.len());
        });
    }
}

#[test]
fn a_cache_changes_nothing() {
    let text = "weights: random\ntokenizer: bytes\narchitecture: {vocab_size: 258, hidden_size: 2, intermediate_size: 2,
      num_hidden_layers: 1, num_attention_heads: 1, max_position_embeddings: 8}";
    let document = prospect_core::config::Document::from_text("model", text).unwrap();
    let file: prospect_model::ModelFile = document.read().unwrap();
    let model = file.resolve(&|path| Ok(path.into())).unwrap().load().unwrap();
    let cache = EncodingCache::default();
    let cases = [
        (vec![message("user", "a")], "", "b"),
        (vec![message("user", "a")], "b", ""),
        (vec![message("user", "a")], "", "c"),
        (long_prompt(20), "", "b"),
        (vec![message("user", &"x".repeat(500))], "", "b"),
    ];
    for limits in [(300, 200), (100, 50)] {
        let encoder = Encoder::new(&model, limits.0, limits.1);
        let cached = encoder.with_cache(&model, &cache);
        for _ in 0..2 {
            for (prompt, control, completion) in &cases {
                let completion = [message("assistant", completion)];
                let expected = encoder.try_encode(prompt, control, &completion).unwrap();
                assert_eq!(cached.try_encode(prompt, control, &completion).unwrap(), expected);
                let prompt_tokens = encoder.encode_prompt(prompt, control).unwrap();
                assert_eq!(cached.encode_prompt(prompt, control).unwrap(), prompt_tokens);
            }
        }
    }
}

mod needs_data {
    use super::*;

    /// Tokenizers of real models, with the default template.
    fn real_models() -> Vec<(&'static str, Model)> {
        let folder = prospect_testkit::test_data("tokenizers");
        ["gpt-neox-20b_tokenizer.json", "gpt2_tokenizer.json", "llama2_tokenizer.json", "smollm2_tokenizer.from_gguf.json"]
            .into_iter()
            .map(|name| {
                let text = format!(
                    "weights: random\ntokenizer: {}\narchitecture: {{vocab_size: 51000, hidden_size: 2, intermediate_size: 2, num_hidden_layers: 1, num_attention_heads: 1, max_position_embeddings: 8}}",
                    folder.join(name).display()
                );
                let document = prospect_core::config::Document::from_text("model", &text).unwrap();
                let file: prospect_model::ModelFile = document.read().unwrap();
                (name, file.resolve(&|path| Ok(path.into())).unwrap().load().unwrap())
            })
            .collect()
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn prompt_and_completion_are_tokenised_as_one_text_by_real_tokenizers() {
        let prompt = [message("user", "How are you?")];
        for (name, model) in real_models() {
            let encoder = Encoder::new(&model, 200, 100);
            let end = model.tokenizer.eos_token_id().unwrap();
            let mut counts = EncodingCounts::default();
            for completion in ["Fine.", " Fine.", "\n\nFine.", "12 ½"] {
                let encoded = encoder.encode(&prompt, &[message("assistant", completion)]).unwrap().unwrap();
                counts.add(name, &Ok(encoded.clone()));
                let turns = [ChatMessage { role: "user", content: "How are you?" }];
                let text = model.template.conversation(&turns, completion).unwrap();
                let whole = [encoded.prompt.clone(), encoded.completion.clone()].concat();
                assert_eq!(whole, model.tokenizer.encode(&text).unwrap(), "{name}: {completion:?}");
                assert_eq!(encoded.completion.last(), Some(&end), "{name}: {completion:?}");
                let ends = encoded.completion.iter().filter(|token| **token == end).count();
                assert_eq!(ends, 1, "{name}: {completion:?}");

                let cut = Encoder::new(&model, whole.len() - 1, 100);
                let cut = cut.encode(&prompt, &[message("assistant", completion)]).unwrap().unwrap();
                assert_eq!(cut.prompt, encoded.prompt);
                assert_eq!(cut.completion, encoded.completion[..encoded.completion.len() - 1]);
            }
            // The line breaks at the end of the prompt and the start of the completion
            // become one token, unless the tokenizer has one token per white-space byte
            // (sentencepiece) or never merges line breaks.
            let expected = u64::from(name.starts_with("gpt") || name.starts_with("smollm2"));
            assert_eq!((counts.encoded, counts.boundary_merges), (4, expected), "{name}");
        }
    }
}
