//! Tokenizers of real models against test vectors of another implementation (llama.cpp).

use std::path::{Path, PathBuf};

use prospect_model::{ChatMessage, Model, ModelFile};

fn data() -> PathBuf {
    prospect_testkit::test_data("tokenizers")
}

fn model(tokenizer: &Path) -> Model {
    let text = format!(
        "weights: random\ntokenizer: {}\narchitecture: {{vocab_size: 51000, hidden_size: 2, intermediate_size: 2,
  num_hidden_layers: 1, num_attention_heads: 1, max_position_embeddings: 8}}",
        tokenizer.display()
    );
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap().load().unwrap()
}

/// Reads the texts of a file of test vectors.
fn texts(folder: &Path) -> Vec<String> {
    let texts = fs_err::read_to_string(folder.join("ggml-vocab-gpt-2.gguf.inp")).unwrap();
    texts.split("\n__ggml_vocab_test__\n").map(str::to_owned).collect()
}

mod needs_data {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn vectors_pass() {
        let folder = data();
        for (tokenizer, vectors) in [
            ("gpt2_tokenizer.json", "ggml-vocab-gpt-2.gguf.out"),
            ("llama2_tokenizer.json", "ggml-vocab-llama-spm.gguf.out"),
        ] {
            let tokenizer = model(&folder.join(tokenizer)).tokenizer;
            let vectors = fs_err::read_to_string(folder.join(vectors)).unwrap();
            let vectors: Vec<Vec<u32>> = vectors
                .lines()
                .map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect())
                .collect();
            let texts = texts(&folder);
            assert!(vectors.len() >= 40 && texts.len() >= vectors.len(), "{} {}", texts.len(), vectors.len());
            for (text, ids) in texts.iter().zip(vectors) {
                assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
            }
        }
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn texts_survive_the_way_there_and_back() {
        let folder = data();
        for (name, hello) in [
            ("gpt-neox-20b_tokenizer.json", vec![12092, 1533]),
            ("smollm2_tokenizer.from_gguf.json", vec![19556, 905]),
        ] {
            let tokenizer = model(&folder.join(name)).tokenizer;
            assert_eq!(tokenizer.encode("Hello world").unwrap(), hello, "{name}");
            for text in texts(&folder) {
                let ids = tokenizer.encode(&text).unwrap();
                assert_eq!(tokenizer.decode(&ids, true).unwrap(), text, "{name}");
            }
        }
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn the_default_template_begins_and_ends_with_tokens_of_the_model() {
        let folder = data();
        for (name, begin, end) in [
            ("gpt-neox-20b_tokenizer.json", "", "<|endoftext|>"),
            ("gpt2_tokenizer.json", "", "<|endoftext|>"),
            ("llama2_tokenizer.json", "<s>", "</s>"),
            ("smollm2_tokenizer.from_gguf.json", "", "<|im_end|>"),
        ] {
            let model = model(&folder.join(name));
            let user = ChatMessage { role: "user", content: "hi" };
            let text = model.template.conversation(&[user], "yo").unwrap();
            let start = "<|im_start|>";
            assert_eq!(text, format!("{begin}{start}user\nhi{end}\n{start}assistant\nyo{end}"), "{name}");
            let ids = model.tokenizer.encode(&text).unwrap();
            assert_eq!(ids.last(), Some(&model.tokenizer.eos_token_id().unwrap()), "{name}");
            if begin == "<s>" {
                assert_eq!(ids[0], 1);
                assert_ne!(ids[1], 1);
            }
        }
    }
}
