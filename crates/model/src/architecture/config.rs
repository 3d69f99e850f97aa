//! Conversion between an [`Architecture`] and the keys of a `config.json`, which recipes use too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Architecture, Biases, Family, GeluKind, MlpKind, NormKind, Residual, Rope, RotaryPairs};
use crate::ModelError;

/// Relevant keys of a `config.json`. The default of a key is that of `transformers`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Architecture")]
pub(super) struct HfConfig {
    /// Model family (llama).
    model_type: Option<Family>,
    /// Number of tokens in the vocabulary.
    #[schemars(required)]
    vocab_size: Option<usize>,
    /// Width of the residual stream.
    #[schemars(required)]
    hidden_size: Option<usize>,
    /// Width of the MLP.
    #[schemars(required)]
    intermediate_size: Option<usize>,
    /// Number of blocks.
    #[schemars(required)]
    num_hidden_layers: Option<usize>,
    /// Number of query heads.
    #[schemars(required)]
    num_attention_heads: Option<usize>,
    /// Number of key and value heads (that of query heads).
    num_key_value_heads: Option<usize>,
    /// Dimensions of a head (hidden_size / num_attention_heads; 128 for qwen3).
    head_dim: Option<usize>,
    /// Number of positions the model was trained for.
    #[schemars(required)]
    max_position_embeddings: Option<usize>,
    /// Activation of the MLP (silu; gelu for gpt_neox).
    hidden_act: Option<String>,
    /// Constant added to the mean square in norms (1e-6).
    rms_norm_eps: Option<f64>,
    /// gpt_neox: constant added to the variance in norms (1e-5).
    layer_norm_eps: Option<f64>,
    /// Shares the embedding's weight with the vocabulary head (false).
    tie_word_embeddings: Option<bool>,
    /// Adds biases to the linear layers of attention (false; true for gpt_neox).
    attention_bias: Option<bool>,
    /// llama: adds biases to the linear layers of the MLP (false).
    mlp_bias: Option<bool>,
    /// Base of the rotary frequencies (10000).
    rope_theta: Option<f64>,
    /// Scaling of the rotary frequencies.
    rope_scaling: Option<Map<String, Value>>,
    /// All settings of rotary embeddings, as newer versions of `transformers` write them.
    rope_parameters: Option<Map<String, Value>>,
    /// gpt_neox: fraction of a head's dimensions that is rotated (0.25).
    rotary_pct: Option<f64>,
    /// gpt_neox: base of the rotary frequencies (10000).
    rotary_emb_base: Option<f64>,
    /// gpt_neox: attention and MLP read the same input (true).
    use_parallel_residual: Option<bool>,
    /// Sliding window of attention in positions; null for full attention.
    #[serde(default)]
    #[schemars(with = "Option<usize>")]
    sliding_window: Window,
    /// qwen2, qwen3: uses the sliding window (false).
    use_sliding_window: Option<bool>,
}

/// `sliding_window`, the one key whose absence differs from null.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "Option<usize>", into = "Option<usize>")]
enum Window {
    /// Default: 4096 positions.
    #[default]
    Absent,
    /// Full attention.
    Null,
    Positions(usize),
}

impl From<Option<usize>> for Window {
    fn from(positions: Option<usize>) -> Self {
        positions.map_or(Self::Null, Self::Positions)
    }
}

impl From<Window> for Option<usize> {
    fn from(window: Window) -> Self {
        match window {
            Window::Absent | Window::Null => None,
            Window::Positions(positions) => Some(positions),
        }
    }
}

/// Returns whether `key` has a meaning in `family`.
fn applies(key: &str, family: Family) -> bool {
    use Family::{GptNeox, Llama, Mistral, Qwen2, Qwen3};
    match key {
        "rotary_pct" | "rotary_emb_base" | "use_parallel_residual" | "layer_norm_eps" => family == GptNeox,
        "rms_norm_eps" | "head_dim" | "num_key_value_heads" | "rope_theta" => family != GptNeox,
        "attention_bias" => matches!(family, Llama | Qwen3 | GptNeox),
        "mlp_bias" => family == Llama,
        "sliding_window" => matches!(family, Mistral | Qwen2 | Qwen3),
        "use_sliding_window" => matches!(family, Qwen2 | Qwen3),
        _ => true,
    }
}

fn fail(message: impl std::fmt::Display) -> ModelError {
    ModelError::Architecture(message.to_string())
}

/// Returns all keys, with null for absent ones.
fn keys(config: &HfConfig) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}

/// Reads the rotary settings. Keys of `rope_parameters` other than base and fraction describe a
/// scaling.
fn rope(config: &HfConfig, family: Family, head_dim: usize) -> Result<Rope, ModelError> {
    let mut parameters = match (&config.rope_parameters, &config.rope_scaling) {
        (Some(_), Some(_)) => return Err(fail("rope_parameters and rope_scaling exclude each other")),
        (Some(parameters), None) | (None, Some(parameters)) => parameters.clone(),
        (None, None) => Map::new(),
    };
    let mut number = |key: &str| {
        let value = parameters.remove(key).filter(|value| !value.is_null());
        value.map(|value| value.as_f64().ok_or_else(|| fail(format!("{key} is not a number")))).transpose()
    };
    let theta = number("rope_theta")?.or(config.rope_theta).or(config.rotary_emb_base);
    let fraction = number("partial_rotary_factor")?.or(config.rotary_pct);
    let fraction = match family {
        Family::GptNeox => fraction.unwrap_or(0.25),
        _ if fraction.is_none_or(|fraction| fraction == 1.0) => 1.0,
        _ => return Err(fail("partial_rotary_factor is supported only for gpt_neox")),
    };
    // `type` is the older name of `rope_type`; some files have both.
    let old = parameters.remove("type");
    let kind = parameters.remove("rope_type").or(old).unwrap_or(Value::Null);
    let scaling = if kind.is_null() || kind == "default" {
        match parameters.keys().next() {
            Some(key) => return Err(fail(format!("rope_scaling: {key} has no effect without a rope_type"))),
            None => None,
        }
    } else {
        let known = kind.clone();
        parameters.insert("rope_type".to_owned(), kind);
        let scaling = serde_json::from_value(Value::Object(parameters));
        Some(
            scaling
                .map_err(|error| fail(format!("rope_scaling of type {known} is not supported: {error}")))?,
        )
    };
    Ok(Rope {
        theta: theta.unwrap_or(10_000.0),
        dims: (head_dim as f64 * fraction) as usize,
        scaling,
        pairs: RotaryPairs::Halves,
    })
}

impl TryFrom<HfConfig> for Architecture {
    type Error = ModelError;

    fn try_from(config: HfConfig) -> Result<Self, ModelError> {
        let family = config.model_type.unwrap_or_default();
        let idle = keys(&config).into_iter().find(|(key, value)| !value.is_null() && !applies(key, family));
        if let Some((key, _)) = idle {
            return Err(fail(format!("`{key}` has no effect on this model_type")));
        }
        let need = |value: Option<usize>, key: &str| value.ok_or_else(|| fail(format!("`{key}` is missing")));
        let hidden = need(config.hidden_size, "hidden_size")?;
        let query_heads = need(config.num_attention_heads, "num_attention_heads")?;
        let head_dim = config.head_dim.unwrap_or(match family {
            Family::Qwen3 => 128,
            _ => hidden / query_heads.max(1),
        });
        let neox = family == Family::GptNeox;
        let activation = config.hidden_act.as_deref().unwrap_or(if neox { "gelu" } else { "silu" });
        let mlp = match (neox, activation) {
            (false, "silu" | "swish") => MlpKind::GatedSilu,
            (true, "gelu" | "gelu_python") => MlpKind::Gelu(GeluKind::Exact),
            (true, "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh") => MlpKind::Gelu(GeluKind::Tanh),
            _ => return Err(fail(format!("hidden_act `{activation}` is not supported"))),
        };
        let attention_bias = config.attention_bias.unwrap_or(neox);
        let windowed = family == Family::Mistral || config.use_sliding_window == Some(true);
        let window = match config.sliding_window {
            Window::Absent => Some(4096),
            given => given.into(),
        };
        Self {
            family,
            vocabulary: need(config.vocab_size, "vocab_size")?,
            hidden,
            intermediate: need(config.intermediate_size, "intermediate_size")?,
            layers: need(config.num_hidden_layers, "num_hidden_layers")?,
            query_heads,
            key_heads: config.num_key_value_heads.unwrap_or(query_heads),
            head_dim,
            max_positions: need(config.max_position_embeddings, "max_position_embeddings")?,
            norm: if neox { NormKind::Layer } else { NormKind::Rms },
            epsilon: config.layer_norm_eps.or(config.rms_norm_eps).unwrap_or(if neox { 1e-5 } else { 1e-6 }),
            mlp,
            residual: if neox && config.use_parallel_residual.unwrap_or(true) {
                Residual::Parallel
            } else {
                Residual::Sequential
            },
            biases: Biases {
                projections: attention_bias || family == Family::Qwen2,
                output: attention_bias,
                mlp: neox || config.mlp_bias.unwrap_or(false),
            },
            head_norms: family == Family::Qwen3,
            rope: rope(&config, family, head_dim)?,
            window: window.filter(|_| windowed),
            tied: config.tie_word_embeddings.unwrap_or(false),
        }
        .validate()
    }
}

impl From<Architecture> for HfConfig {
    fn from(a: Architecture) -> Self {
        let neox = a.family == Family::GptNeox;
        let activation = match a.mlp {
            MlpKind::GatedSilu => "silu",
            MlpKind::Gelu(GeluKind::Exact) => "gelu",
            MlpKind::Gelu(GeluKind::Tanh) => "gelu_pytorch_tanh",
        };
        let scaling = a.rope.scaling.as_ref().and_then(|scaling| match serde_json::to_value(scaling) {
            Ok(Value::Object(scaling)) => Some(scaling),
            _ => None,
        });
        let config = Self {
            model_type: Some(a.family),
            vocab_size: Some(a.vocabulary),
            hidden_size: Some(a.hidden),
            intermediate_size: Some(a.intermediate),
            num_hidden_layers: Some(a.layers),
            num_attention_heads: Some(a.query_heads),
            max_position_embeddings: Some(a.max_positions),
            hidden_act: Some(activation.to_owned()),
            tie_word_embeddings: Some(a.tied),
            rope_scaling: scaling,
            ..Self::default()
        };
        if neox {
            return Self {
                layer_norm_eps: Some(a.epsilon),
                attention_bias: Some(a.biases.output),
                rotary_pct: Some(a.rope.dims as f64 / a.head_dim as f64),
                rotary_emb_base: Some(a.rope.theta),
                use_parallel_residual: Some(a.residual == Residual::Parallel),
                ..config
            };
        }
        Self {
            num_key_value_heads: Some(a.key_heads),
            head_dim: Some(a.head_dim),
            rms_norm_eps: Some(a.epsilon),
            rope_theta: Some(a.rope.theta),
            attention_bias: applies("attention_bias", a.family).then_some(a.biases.output),
            mlp_bias: applies("mlp_bias", a.family).then_some(a.biases.mlp),
            sliding_window: a.window.into(),
            use_sliding_window: applies("use_sliding_window", a.family).then_some(a.window.is_some()),
            ..config
        }
    }
}

impl Architecture {
    /// Reads a Hugging Face `config.json`; unknown keys are ignored.
    pub fn from_hugging_face(text: &str) -> Result<Self, ModelError> {
        let fail = |error: &dyn std::fmt::Display| fail(format!("config.json: {error}"));
        let mut given: Map<String, Value> = serde_json::from_str(text).map_err(|error| fail(&error))?;
        let family = given.get("model_type").cloned().unwrap_or(Value::Null);
        let family: Family =
            serde_json::from_value(family).map_err(|error| fail(&format!("model_type: {error}")))?;
        let known = keys(&HfConfig::default());
        given.retain(|key, _| known.contains_key(key) && applies(key, family));
        // Some files have `rope_scaling: null` next to `rope_parameters`.
        given.retain(|key, value| key != "rope_scaling" || !value.is_null());
        let config: HfConfig = serde_json::from_value(Value::Object(given)).map_err(|error| fail(&error))?;
        Self::try_from(config).map_err(|error| match error {
            ModelError::Architecture(message) => fail(&message),
            other => other,
        })
    }

    /// Returns a `config.json` that `transformers` loads.
    pub(crate) fn to_hugging_face(&self, eos_token_id: Option<u32>) -> Value {
        let class = match self.family {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::GptNeox => "GPTNeoXForCausalLM",
        };
        let mut config = Map::new();
        config.insert("architectures".to_owned(), serde_json::json!([class]));
        let own = keys(&HfConfig::from(self.clone()));
        let kept = |key: &str| key == "sliding_window" && applies(key, self.family);
        config.extend(own.into_iter().filter(|(key, value)| kept(key) || !value.is_null()));
        config.insert("dtype".to_owned(), "float32".into());
        config.insert("eos_token_id".to_owned(), eos_token_id.into());
        Value::Object(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: &str = r#""vocab_size":10,"hidden_size":8,"intermediate_size":16,"num_hidden_layers":2,
        "num_attention_heads":4,"max_position_embeddings":32"#;

    fn read(keys: &str) -> Result<Architecture, ModelError> {
        Architecture::from_hugging_face(&format!("{{{keys},{SIZES}}}"))
    }

    #[test]
    fn a_config_survives_a_round_trip() {
        for keys in [
            r#""model_type":"llama","rope_theta":500.0,"num_key_value_heads":2,"attention_bias":true"#,
            r#""model_type":"llama","rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
                "high_freq_factor":4.0,"original_max_position_embeddings":16}"#,
            r#""model_type":"llama","rope_scaling":{"type":"yarn","factor":4.0}"#,
            r#""model_type":"mistral","sliding_window":16"#,
            r#""model_type":"mistral","sliding_window":null"#,
            r#""model_type":"qwen2","use_sliding_window":true,"sliding_window":16"#,
            r#""model_type":"qwen3","head_dim":4"#,
            r#""model_type":"gpt_neox","rotary_pct":1.0,"use_parallel_residual":false,"hidden_act":"gelu_fast""#,
        ] {
            let read = read(keys).unwrap();
            let written = read.to_hugging_face(Some(3)).to_string();
            assert_eq!(Architecture::from_hugging_face(&written).unwrap(), read, "{written}");
            let typed = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Architecture>(&typed).unwrap(), read, "{typed}");
        }
    }

    #[test]
    fn absent_keys_have_the_values_of_transformers() {
        let llama = read(r#""model_type":"llama""#).unwrap();
        assert_eq!(
            (llama.key_heads, llama.head_dim, llama.rope.theta, llama.epsilon),
            (4, 2, 10_000.0, 1e-6)
        );
        assert_eq!(read(r#""model_type":"mistral""#).unwrap().longest(), 32);
        assert_eq!(read(r#""model_type":"mistral""#).unwrap().window, Some(4096));
        assert_eq!(read(r#""model_type":"qwen2","sliding_window":16"#).unwrap().window, None);
        assert_eq!(read(r#""model_type":"qwen3""#).unwrap().head_dim, 128);
        let neox = read(r#""model_type":"gpt_neox","rotary_pct":1"#).unwrap();
        assert_eq!((neox.residual, neox.epsilon, neox.tied), (Residual::Parallel, 1e-5, false));
    }

    #[test]
    fn newer_and_older_keys_mean_the_same() {
        let older = read(r#""model_type":"gpt_neox","rotary_pct":1.0,"rotary_emb_base":500"#).unwrap();
        let newer = read(
            r#""model_type":"gpt_neox","rope_parameters":{"rope_type":"default","rope_theta":500,"partial_rotary_factor":1.0}"#,
        );
        assert_eq!(newer.unwrap(), older);
        let older =
            read(r#""model_type":"llama","rope_theta":500,"rope_scaling":{"type":"linear","factor":2}"#);
        let newer = read(
            r#""model_type":"llama","rope_scaling":null,"rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":500}"#,
        );
        assert_eq!(newer.unwrap(), older.unwrap());
    }

    #[test]
    fn unsupported_settings_are_named_in_the_error() {
        let error_of = |keys: &str| read(keys).unwrap_err().to_string();
        for (keys, expected) in [
            (r#""model_type":"bert""#, "`bert`"),
            (r#""model_type":"llama","num_key_value_heads":3"#, "multiple"),
            (r#""model_type":"llama","hidden_act":"relu""#, "`relu`"),
            (r#""model_type":"llama","rope_scaling":{"factor":8}"#, "factor has no effect"),
            (r#""model_type":"llama","rope_scaling":{"rope_type":"longrope","factor":8}"#, "longrope"),
            (r#""model_type":"llama","rope_scaling":{"rope_type":"yarn","factor":8,"mscale":1}"#, "mscale"),
            (r#""model_type":"llama","rope_scaling":{"rope_type":"linear","factor":0}"#, "factor"),
            (r#""model_type":"gpt_neox","rotary_pct":0.1"#, "rotated"),
        ] {
            let error = error_of(keys);
            assert!(error.contains("config.json") && error.contains(expected), "{error}");
        }
        // In a recipe, every key is intentional.
        let typed = format!(r#"{{"rotary_pct":1.0,{SIZES}}}"#);
        let error = serde_json::from_str::<Architecture>(&typed).unwrap_err().to_string();
        assert!(error.contains("`rotary_pct` has no effect"), "{error}");
    }
}
