//! Conversion between an [`Architecture`] and the keys of a `config.json`, which recipes use too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Architecture, Biases, EmbeddingScale, Family, GateKind, GeluKind, LayerAttention, MlpKind, NormKind,
    NormPlacement, Residual, Rope, RotaryPairs, SlidingWindow,
};
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
    /// Dimensions of a head (hidden_size / num_attention_heads; 128 for qwen3, 256 for
    /// gemma3_text).
    head_dim: Option<usize>,
    /// Number of positions the model was trained for.
    #[schemars(required)]
    max_position_embeddings: Option<usize>,
    /// Activation of the MLP (silu; gelu for gpt_neox).
    hidden_act: Option<String>,
    /// gemma3_text: activation of the MLP (gelu_pytorch_tanh).
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_activation: Option<String>,
    /// Constant added to the mean square in norms (1e-6).
    rms_norm_eps: Option<f64>,
    /// gpt_neox: constant added to the variance in norms (1e-5).
    layer_norm_eps: Option<f64>,
    /// Shares the embedding's weight with the vocabulary head (false; true for gemma3_text).
    tie_word_embeddings: Option<bool>,
    /// Adds biases to the linear layers of attention (false; true for gpt_neox).
    attention_bias: Option<bool>,
    /// llama: adds biases to the linear layers of the MLP (false).
    mlp_bias: Option<bool>,
    /// Base of the rotary frequencies (10000; 1000000 for gemma3_text).
    rope_theta: Option<f64>,
    /// Scaling of the rotary frequencies.
    rope_scaling: Option<Map<String, Value>>,
    /// All settings of rotary embeddings, as newer versions of `transformers` write them;
    /// gemma3_text: one set each for `full_attention` and `sliding_attention`.
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
    /// qwen2, qwen3: number of first blocks without the sliding window (28).
    #[serde(skip_serializing_if = "Option::is_none")]
    max_window_layers: Option<usize>,
    /// gemma3_text: every block of this number has full attention, the others the sliding window
    /// (6).
    #[serde(skip_serializing_if = "Option::is_none")]
    sliding_window_pattern: Option<usize>,
    /// qwen2, qwen3, gemma3_text: attention of each block, in place of the two keys before.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_types: Option<Vec<LayerAttention>>,
    /// gemma3_text: attention scores are divided by the root of this number (256).
    #[serde(skip_serializing_if = "Option::is_none")]
    query_pre_attn_scalar: Option<f64>,
    /// gemma3_text: base of the rotary frequencies in blocks with the sliding window (10000).
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_local_base_freq: Option<f64>,
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

/// Returns whether `key` has a meaning in `family`; false for keys that no family has.
fn applies(key: &str, family: Family) -> bool {
    use Family::{Gemma3, GptNeox, Llama, Mistral, Qwen2, Qwen3};
    match key {
        "rotary_pct" | "rotary_emb_base" | "use_parallel_residual" | "layer_norm_eps" => family == GptNeox,
        "rms_norm_eps" | "head_dim" | "num_key_value_heads" | "rope_theta" => family != GptNeox,
        "attention_bias" => matches!(family, Llama | Qwen3 | GptNeox | Gemma3),
        "mlp_bias" => family == Llama,
        "sliding_window" => matches!(family, Mistral | Qwen2 | Qwen3 | Gemma3),
        "use_sliding_window" | "max_window_layers" => matches!(family, Qwen2 | Qwen3),
        "layer_types" => matches!(family, Qwen2 | Qwen3 | Gemma3),
        "hidden_activation" | "sliding_window_pattern" | "query_pre_attn_scalar" | "rope_local_base_freq" => {
            family == Gemma3
        }
        "hidden_act" => family != Gemma3,
        "model_type"
        | "vocab_size"
        | "hidden_size"
        | "intermediate_size"
        | "num_hidden_layers"
        | "num_attention_heads"
        | "max_position_embeddings"
        | "tie_word_embeddings"
        | "rope_scaling"
        | "rope_parameters" => true,
        _ => false,
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

/// Reads the rotary settings of blocks with full attention and, where they differ, of blocks with a
/// sliding window.
fn ropes(config: &HfConfig, family: Family, head_dim: usize) -> Result<(Rope, Option<Rope>), ModelError> {
    let parameters = match (&config.rope_parameters, &config.rope_scaling) {
        (Some(_), Some(_)) => return Err(fail("rope_parameters and rope_scaling exclude each other")),
        (Some(parameters), None) | (None, Some(parameters)) => parameters.clone(),
        (None, None) => Map::new(),
    };
    let theta = config.rope_theta.or(config.rotary_emb_base);
    if family != Family::Gemma3 {
        return Ok((rope(parameters, theta.unwrap_or(10_000.0), config.rotary_pct, family, head_dim)?, None));
    }
    let of = |kind: &str| -> Result<Option<Map<String, Value>>, ModelError> {
        match parameters.get(kind) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(settings)) => Ok(Some(settings.clone())),
            Some(_) => Err(fail(format!("rope_parameters: `{kind}` is not a mapping"))),
        }
    };
    let nested = [of("full_attention")?, of("sliding_attention")?];
    // The older keys scale the rotation of full attention only.
    let [full, sliding] = if nested == [None, None] { [Some(parameters), None] } else { nested };
    let read = |settings: Option<Map<String, Value>>, theta: f64| {
        rope(settings.unwrap_or_default(), theta, None, family, head_dim)
    };
    let full = read(full, theta.unwrap_or(1_000_000.0))?;
    Ok((full, Some(read(sliding, config.rope_local_base_freq.unwrap_or(10_000.0))?)))
}

/// Reads one set of rotary settings. Keys of `parameters` other than base and fraction describe a
/// scaling. `theta` and `fraction` are those of the older keys.
fn rope(
    mut parameters: Map<String, Value>,
    theta: f64,
    fraction: Option<f64>,
    family: Family,
    head_dim: usize,
) -> Result<Rope, ModelError> {
    let mut number = |key: &str| {
        let value = parameters.remove(key).filter(|value| !value.is_null());
        value.map(|value| value.as_f64().ok_or_else(|| fail(format!("{key} is not a number")))).transpose()
    };
    let theta = number("rope_theta")?.unwrap_or(theta);
    let fraction = number("partial_rotary_factor")?.or(fraction);
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
    Ok(Rope { theta, dims: (head_dim as f64 * fraction) as usize, scaling, pairs: RotaryPairs::Halves })
}

/// Reads the sliding window; None if no block has one.
fn window(config: &HfConfig, family: Family, layers: usize) -> Result<Option<SlidingWindow>, ModelError> {
    let typed = config.layer_types.as_ref().map_or(layers, Vec::len);
    if typed != layers {
        return Err(fail(format!("layer_types has {typed} entries for {layers} hidden layers")));
    }
    let used = match family {
        Family::Mistral | Family::Gemma3 => true,
        _ => config.use_sliding_window == Some(true),
    };
    let positions: Option<usize> = match config.sliding_window {
        Window::Absent => Some(4096),
        given => given.into(),
    };
    let Some(positions) = positions.filter(|_| used) else { return Ok(None) };
    if let Some(layers) = &config.layer_types {
        return Ok(SlidingWindow { positions, layers: layers.clone() }.if_any());
    }
    let first = config.max_window_layers.unwrap_or(28);
    let pattern = config.sliding_window_pattern.unwrap_or(6);
    if pattern == 0 {
        return Err(fail("sliding_window_pattern is 0"));
    }
    Ok(match family {
        Family::Gemma3 => SlidingWindow::with_pattern(positions, layers, pattern),
        Family::Qwen2 | Family::Qwen3 => SlidingWindow::new(positions, layers, |layer| layer >= first),
        _ => SlidingWindow::new(positions, layers, |_| true),
    })
}

/// Reads the form of the MLP.
fn mlp(config: &HfConfig, family: Family) -> Result<MlpKind, ModelError> {
    let (given, usual) = match family {
        Family::GptNeox => (&config.hidden_act, "gelu"),
        Family::Gemma3 => (&config.hidden_activation, "gelu_pytorch_tanh"),
        _ => (&config.hidden_act, "silu"),
    };
    let activation = given.as_deref().unwrap_or(usual);
    let gelu = match activation {
        "gelu" | "gelu_python" => Some(GeluKind::Exact),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(GeluKind::Tanh),
        _ => None,
    };
    match (family, activation, gelu) {
        (Family::GptNeox, _, Some(gelu)) => Ok(MlpKind::Gelu(gelu)),
        (Family::Gemma3, _, Some(gelu)) => Ok(MlpKind::Gated(GateKind::Gelu(gelu))),
        (Family::GptNeox, _, None) => Err(fail(format!("hidden_act `{activation}` is not supported"))),
        (_, "silu" | "swish", _) => Ok(MlpKind::Gated(GateKind::Silu)),
        _ => Err(fail(format!("hidden_act `{activation}` is not supported"))),
    }
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
            Family::Gemma3 => 256,
            _ => hidden / query_heads.max(1),
        });
        let (neox, gemma) = (family == Family::GptNeox, family == Family::Gemma3);
        let attention_bias = config.attention_bias.unwrap_or(neox);
        let layers = need(config.num_hidden_layers, "num_hidden_layers")?;
        let (rope, sliding_rope) = ropes(&config, family, head_dim)?;
        Self {
            family,
            vocabulary: need(config.vocab_size, "vocab_size")?,
            hidden,
            intermediate: need(config.intermediate_size, "intermediate_size")?,
            layers,
            query_heads,
            key_heads: config.num_key_value_heads.unwrap_or(if gemma { 4 } else { query_heads }),
            head_dim,
            max_positions: need(config.max_position_embeddings, "max_position_embeddings")?,
            embedding_scale: if gemma { EmbeddingScale::RootHidden } else { EmbeddingScale::One },
            norm: match family {
                Family::GptNeox => NormKind::Layer,
                Family::Gemma3 => NormKind::RmsOffset,
                _ => NormKind::Rms,
            },
            norm_placement: if gemma { NormPlacement::BeforeAndAfter } else { NormPlacement::Before },
            epsilon: config.layer_norm_eps.or(config.rms_norm_eps).unwrap_or(if neox { 1e-5 } else { 1e-6 }),
            mlp: mlp(&config, family)?,
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
            head_norms: gemma || family == Family::Qwen3,
            query_scalar: if gemma { config.query_pre_attn_scalar.unwrap_or(256.0) } else { head_dim as f64 },
            rope,
            sliding_rope,
            window: window(&config, family, layers)?,
            tied: config.tie_word_embeddings.unwrap_or(gemma),
        }
        .validate()
    }
}

impl From<Architecture> for HfConfig {
    fn from(a: Architecture) -> Self {
        let neox = a.family == Family::GptNeox;
        let activation = match a.mlp {
            MlpKind::Gated(GateKind::Silu) => "silu",
            MlpKind::Gated(GateKind::Gelu(GeluKind::Exact)) | MlpKind::Gelu(GeluKind::Exact) => "gelu",
            MlpKind::Gated(GateKind::Gelu(GeluKind::Tanh)) | MlpKind::Gelu(GeluKind::Tanh) => {
                "gelu_pytorch_tanh"
            }
        };
        let scaling = a.rope.scaling.as_ref().and_then(|scaling| match serde_json::to_value(scaling) {
            Ok(Value::Object(scaling)) => Some(scaling),
            _ => None,
        });
        let has = |key: &str| applies(key, a.family);
        let layer_types = match (&a.window, a.family) {
            (Some(window), _) => Some(window.layers.clone()),
            // Its default has windows.
            (None, Family::Gemma3) => Some(vec![LayerAttention::Full; a.layers]),
            (None, _) => None,
        };
        let config = Self {
            model_type: Some(a.family),
            vocab_size: Some(a.vocabulary),
            hidden_size: Some(a.hidden),
            intermediate_size: Some(a.intermediate),
            num_hidden_layers: Some(a.layers),
            num_attention_heads: Some(a.query_heads),
            max_position_embeddings: Some(a.max_positions),
            hidden_act: has("hidden_act").then(|| activation.to_owned()),
            hidden_activation: has("hidden_activation").then(|| activation.to_owned()),
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
            attention_bias: has("attention_bias").then_some(a.biases.output),
            mlp_bias: has("mlp_bias").then_some(a.biases.mlp),
            sliding_window: a.window.as_ref().map(|window| window.positions).into(),
            use_sliding_window: has("use_sliding_window").then_some(a.window.is_some()),
            layer_types: layer_types.filter(|_| has("layer_types")),
            query_pre_attn_scalar: has("query_pre_attn_scalar").then_some(a.query_scalar),
            rope_local_base_freq: a.sliding_rope.as_ref().map(|rope| rope.theta),
            ..config
        }
    }
}

/// Returns the settings of the language model of an image-text model, or `given` if it is a
/// language model.
fn language_model(mut given: Map<String, Value>) -> Map<String, Value> {
    let text = match given.get_mut("text_config") {
        Some(Value::Object(text)) => std::mem::take(text),
        _ => return given,
    };
    if given.get("model_type").and_then(Value::as_str) != Some("gemma3") {
        return given;
    }
    // Defaults of `transformers`, which published files rely on.
    let sizes = [
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("max_position_embeddings", 131_072),
    ];
    let mut own: Map<String, Value> =
        sizes.into_iter().map(|(key, size)| (key.to_owned(), size.into())).collect();
    own.extend(text);
    own.insert("model_type".to_owned(), "gemma3_text".into());
    own
}

/// Refuses keys of a `config.json` that change what the model computes and that no family supports.
fn refuse_unsupported(given: &Map<String, Value>) -> Result<(), String> {
    let capped = ["attn_logit_softcapping", "final_logit_softcapping"];
    let is_set = |key: &str| given.get(key).is_some_and(|value| !value.is_null());
    if let Some(key) = capped.into_iter().find(|key| is_set(key)) {
        return Err(format!("`{key}` is not supported (Gemma 2 has it, Gemma 3 does not)"));
    }
    if given.get("use_bidirectional_attention") == Some(&Value::Bool(true)) {
        return Err(
            "`use_bidirectional_attention` is set: this is an encoder, not a causal language model".into()
        );
    }
    Ok(())
}

impl Architecture {
    /// Reads a Hugging Face `config.json`; unknown keys are ignored.
    pub fn from_hugging_face(text: &str) -> Result<Self, ModelError> {
        let fail = |error: &dyn std::fmt::Display| fail(format!("config.json: {error}"));
        let given: Map<String, Value> = serde_json::from_str(text).map_err(|error| fail(&error))?;
        let mut given = language_model(given);
        let family = given.get("model_type").cloned().unwrap_or(Value::Null);
        let family: Family =
            serde_json::from_value(family).map_err(|error| fail(&format!("model_type: {error}")))?;
        refuse_unsupported(&given).map_err(|message| fail(&message))?;
        // The name of the key in files of newer versions of `transformers`.
        if let Some(pattern) = given.remove("_sliding_window_pattern") {
            given.entry("sliding_window_pattern").or_insert(pattern);
        }
        given.retain(|key, _| applies(key, family));
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
            Family::Gemma3 => "Gemma3ForCausalLM",
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
            r#""model_type":"qwen2","use_sliding_window":true,"sliding_window":16,"max_window_layers":1"#,
            r#""model_type":"gemma3_text","head_dim":4,"sliding_window":8,"sliding_window_pattern":2"#,
            r#""model_type":"gemma3_text","sliding_window":8,"query_pre_attn_scalar":168,"rope_theta":500.0,
                "rope_local_base_freq":100.0,"rope_scaling":{"rope_type":"linear","factor":8.0},
                "tie_word_embeddings":false,"layer_types":["full_attention","sliding_attention"]"#,
            r#""model_type":"gemma3_text","sliding_window":null"#,
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
        let window = |keys: &str| {
            let window = read(keys).unwrap().window;
            window.map(|SlidingWindow { positions, layers }| (positions, layers))
        };
        let (full, sliding) = (LayerAttention::Full, LayerAttention::Sliding);
        assert_eq!(window(r#""model_type":"mistral""#), Some((4096, vec![sliding; 2])));
        assert_eq!(window(r#""model_type":"mistral","sliding_window":null"#), None);
        assert_eq!(window(r#""model_type":"qwen2","sliding_window":16"#), None);
        let used = r#""model_type":"qwen2","sliding_window":16,"use_sliding_window":true"#;
        assert_eq!(window(used), None, "28 blocks without the window");
        assert_eq!(window(&format!("{used},\"max_window_layers\":1")), Some((16, vec![full, sliding])));
        assert_eq!(window(r#""model_type":"gemma3_text""#), Some((4096, vec![sliding; 2])));
        let pattern = r#""model_type":"gemma3_text","_sliding_window_pattern":2"#;
        assert_eq!(window(pattern), Some((4096, vec![sliding, full])));
        assert_eq!(read(r#""model_type":"qwen3""#).unwrap().head_dim, 128);
        let gemma = read(r#""model_type":"gemma3_text""#).unwrap();
        let bases = (gemma.rope.theta, gemma.sliding_rope.unwrap().theta);
        assert_eq!((gemma.head_dim, gemma.key_heads, gemma.tied), (256, 4, true));
        assert_eq!((bases, gemma.query_scalar), ((1_000_000.0, 10_000.0), 256.0));
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
        let older = read(
            r#""model_type":"gemma3_text","rope_theta":500,"rope_local_base_freq":50,"rope_scaling":{"rope_type":"linear","factor":2}"#,
        );
        let newer = read(
            r#""model_type":"gemma3_text","rope_parameters":{"full_attention":{"rope_type":"linear","factor":2,"rope_theta":500},
                "sliding_attention":{"rope_type":"default","rope_theta":50}}"#,
        );
        assert_eq!(newer.unwrap(), older.unwrap());
    }

    #[test]
    fn the_language_model_of_an_image_text_model_has_the_defaults_of_transformers() {
        // Gemma 3 4B, as published.
        let config = r#"{"model_type": "gemma3", "vision_config": {"hidden_size": 1152}, "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}"#;
        let gemma = Architecture::from_hugging_face(config).unwrap();
        assert_eq!((gemma.vocabulary, gemma.hidden, gemma.layers), (262_208, 2560, 34));
        assert_eq!((gemma.query_heads, gemma.key_heads, gemma.max_positions), (8, 4, 131_072));
        // Embedding, 34 blocks and the final norm; the image encoder is left out.
        assert_eq!(gemma.parameter_count().unwrap(), 3_880_263_168);
        let error = Architecture::from_hugging_face(r#"{"model_type": "llava", "text_config": {}}"#);
        assert!(error.unwrap_err().to_string().contains("`llava`"));
    }

    #[test]
    fn every_key_has_a_family() {
        let mut schema = schemars::schema_for!(HfConfig);
        let keys = schema.ensure_object().get("properties").and_then(Value::as_object).unwrap().clone();
        assert!(keys.len() > 25, "{keys:?}");
        for key in keys.keys() {
            let families = [Family::Llama, Family::Mistral, Family::Qwen2, Family::GptNeox, Family::Gemma3];
            assert!(families.iter().any(|family| applies(key, *family)), "{key}");
        }
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
            (r#""model_type":"gemma3_text","hidden_activation":"relu""#, "`relu`"),
            (r#""model_type":"gemma3_text","final_logit_softcapping":30.0"#, "`final_logit_softcapping`"),
            (r#""model_type":"gemma3_text","use_bidirectional_attention":true"#, "encoder"),
            (r#""model_type":"gemma3_text","layer_types":["full_attention"]"#, "1 entries for 2"),
            (r#""model_type":"qwen2","layer_types":["chunked_attention"]"#, "chunked_attention"),
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
