//! The shape of a decoder of the Llama family.

use serde::{Deserialize, Serialize};

use crate::{
    ModelError,
    ops::{Heads, RotaryPairs},
};

/// The numbers that fix a decoder's tensors and arithmetic, under the names of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Tokens in the vocabulary.
    #[serde(rename = "vocab_size")]
    pub vocabulary: usize,
    /// Width of the residual stream.
    #[serde(rename = "hidden_size")]
    pub hidden: usize,
    /// Width of the MLP.
    #[serde(rename = "intermediate_size")]
    pub intermediate: usize,
    /// Number of blocks.
    #[serde(rename = "num_hidden_layers")]
    pub layers: usize,
    /// Query heads.
    #[serde(rename = "num_attention_heads")]
    pub query_heads: usize,
    /// Key and value heads.
    #[serde(rename = "num_key_value_heads")]
    pub key_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Positions the model was made for.
    #[serde(rename = "max_position_embeddings")]
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// Added to the mean square in norms.
    #[serde(rename = "rms_norm_eps", default = "default_epsilon")]
    pub epsilon: f64,
    /// Whether the head shares the embedding's weight.
    #[serde(rename = "tie_word_embeddings", default)]
    pub tied: bool,
    /// How rotary embeddings pair dimensions. Checkpoints in Hugging Face layout use halves.
    #[serde(skip, default = "default_pairs")]
    pub rotary_pairs: RotaryPairs,
}

fn default_rope_theta() -> f64 {
    10_000.0
}

fn default_epsilon() -> f64 {
    1e-5
}

fn default_pairs() -> RotaryPairs {
    RotaryPairs::Halves
}

impl Architecture {
    /// The shape of attention.
    pub(crate) fn heads(&self) -> Heads {
        Heads { query: self.query_heads, key: self.key_heads, dim: self.head_dim }
    }

    /// Refuses numbers that no decoder can have.
    pub fn validate(self) -> Result<Self, ModelError> {
        let sizes = [
            ("vocab_size", self.vocabulary),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.query_heads),
            ("num_key_value_heads", self.key_heads),
            ("max_position_embeddings", self.max_positions),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(ModelError::Architecture(format!("{name} is 0")));
        }
        if !self.query_heads.is_multiple_of(self.key_heads) {
            return Err(ModelError::Architecture(format!(
                "num_attention_heads ({}) is not a multiple of num_key_value_heads ({})",
                self.query_heads, self.key_heads
            )));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::Architecture(format!(
                "head_dim is {}, not a positive even number",
                self.head_dim
            )));
        }
        Ok(self)
    }

    /// Reads a Hugging Face `config.json`, which may hold many more keys.
    pub fn from_hugging_face(text: &str) -> Result<Self, ModelError> {
        let config: HuggingFace = serde_json::from_str(text)
            .map_err(|error| ModelError::Architecture(format!("config.json: {error}")))?;
        if config.model_type != "llama" {
            return Err(ModelError::Architecture(format!(
                "config.json: model_type `{}` is not supported; only `llama` is",
                config.model_type
            )));
        }
        if let Some(scaling) = config.rope_scaling.filter(|scaling| !scaling.is_null()) {
            return Err(ModelError::Architecture(format!(
                "config.json: rope_scaling {scaling} is not supported"
            )));
        }
        let biased = [("attention_bias", config.attention_bias), ("mlp_bias", config.mlp_bias)];
        if let Some((name, _)) = biased.iter().find(|(_, biased)| *biased) {
            return Err(ModelError::Architecture(format!("config.json: {name} is not supported")));
        }
        let theta = config.rope_parameters.and_then(|rope| rope.rope_theta).or(config.rope_theta);
        Self {
            vocabulary: config.vocab_size,
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            layers: config.num_hidden_layers,
            query_heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
            head_dim: config.head_dim.unwrap_or(config.hidden_size / config.num_attention_heads.max(1)),
            max_positions: config.max_position_embeddings,
            rope_theta: theta.unwrap_or_else(default_rope_theta),
            epsilon: config.rms_norm_eps,
            tied: config.tie_word_embeddings,
            rotary_pairs: RotaryPairs::Halves,
        }
        .validate()
    }

    /// The `config.json` with which `transformers` loads the model as a `LlamaForCausalLM`.
    pub(crate) fn to_hugging_face(&self, end: Option<u32>) -> serde_json::Value {
        let mut config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "dtype": "float32",
            "eos_token_id": end,
        });
        if let (Some(config), Ok(serde_json::Value::Object(own))) =
            (config.as_object_mut(), serde_json::to_value(self))
        {
            config.extend(own);
        }
        config
    }
}

/// The keys of a `config.json` that matter here.
#[derive(Deserialize)]
struct HuggingFace {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// Where newer versions of `transformers` keep the base.
#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_the_way_out_and_back() {
        let text = r#"{"model_type":"llama","vocab_size":10,"hidden_size":8,"intermediate_size":16,
            "num_hidden_layers":2,"num_attention_heads":4,"max_position_embeddings":32,"rope_theta":500.0}"#;
        let read = Architecture::from_hugging_face(text).unwrap();
        assert_eq!((read.key_heads, read.head_dim, read.rope_theta), (4, 2, 500.0));
        assert_eq!(Architecture::from_hugging_face(&read.to_hugging_face(None).to_string()).unwrap(), read);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let read = |text: &str| Architecture::from_hugging_face(text).unwrap_err().to_string();
        let llama = r#""vocab_size":10,"hidden_size":8,"intermediate_size":16,"num_hidden_layers":2,
            "num_attention_heads":4,"max_position_embeddings":32"#;
        assert!(read(&format!(r#"{{"model_type":"bert",{llama}}}"#)).contains("`bert`"));
        assert!(
            read(&format!(r#"{{"model_type":"llama","num_key_value_heads":3,{llama}}}"#))
                .contains("multiple")
        );
        assert!(
            read(&format!(r#"{{"model_type":"llama","rope_scaling":{{"factor":8}},{llama}}}"#))
                .contains("rope_scaling")
        );
    }
}
