//! DeBERTa-v2 and v3 (arXiv 2006.03654, 2111.09543): attention with content and relative position
//! disentangled, and a classifier of the first token.

use candle_core::{Device, Result, Tensor};
use serde::Deserialize;

use super::layers::{Activation, EncoderBatch, LayerLoader, apply, normalise, query_chunks, weighted_values};
use crate::{
    ModelError,
    layers::{Linear, Norm},
    weights::TensorSource,
};

/// Relevant keys of a `config.json`. The default of a key is that of `transformers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct DebertaConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    attention_head_size: Option<usize>,
    intermediate_size: usize,
    hidden_act: Activation,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    relative_attention: bool,
    max_relative_positions: i64,
    position_buckets: Option<i64>,
    position_biased_input: bool,
    pos_att_type: Option<Terms>,
    share_att_key: bool,
    norm_rel_ebd: Option<Terms>,
    embedding_size: Option<usize>,
    conv_kernel_size: Option<usize>,
    conv_groups: Option<usize>,
    conv_act: Activation,
    pooler_hidden_size: Option<usize>,
    pooler_hidden_act: Activation,
}

impl Default for DebertaConfig {
    fn default() -> Self {
        Self {
            vocab_size: 128_100,
            hidden_size: 1536,
            num_hidden_layers: 24,
            num_attention_heads: 24,
            attention_head_size: None,
            intermediate_size: 6144,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 0,
            layer_norm_eps: 1e-7,
            relative_attention: false,
            max_relative_positions: -1,
            position_buckets: None,
            position_biased_input: true,
            pos_att_type: None,
            share_att_key: false,
            norm_rel_ebd: None,
            embedding_size: None,
            conv_kernel_size: None,
            conv_groups: None,
            conv_act: Activation::Tanh,
            pooler_hidden_size: None,
            pooler_hidden_act: Activation::Gelu,
        }
    }
}

/// List of names, as a list or joined by `|`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Terms {
    Joined(String),
    List(Vec<String>),
}

impl Terms {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Joined(names) => names.split('|').any(|given| given.trim().eq_ignore_ascii_case(name)),
            Self::List(names) => names.iter().any(|given| given.trim().eq_ignore_ascii_case(name)),
        }
    }
}

fn fail(message: impl Into<String>) -> ModelError {
    ModelError::Architecture(format!("config.json: {}", message.into()))
}

impl DebertaConfig {
    fn attends(&self, term: &str) -> bool {
        self.pos_att_type.as_ref().is_some_and(|terms| terms.has(term))
    }

    /// Returns the relative positions; None if attention knows none.
    fn relative(&self) -> Option<RelativePositions> {
        if !self.relative_attention {
            return None;
        }
        let positive = |number: i64| u32::try_from(number).ok().filter(|number| *number > 0);
        let farthest = positive(self.max_relative_positions).unwrap_or(self.max_position_embeddings as u32);
        let buckets = self.position_buckets.and_then(positive);
        Some(RelativePositions { farthest, buckets, span: buckets.unwrap_or(farthest) })
    }

    fn check(&self) -> std::result::Result<(), ModelError> {
        let Self { hidden_size, num_attention_heads: heads, .. } = self;
        if *heads == 0 || hidden_size % heads != 0 {
            return Err(fail(format!(
                "hidden_size {hidden_size} is no multiple of num_attention_heads {heads}"
            )));
        }
        if self.attention_head_size.is_some_and(|size| size * heads != *hidden_size) {
            return Err(fail(
                "attention_head_size other than hidden_size / num_attention_heads is not supported",
            ));
        }
        if self.conv_groups.is_some_and(|groups| groups != 1) {
            return Err(fail("conv_groups other than 1 is not supported"));
        }
        if self.conv_kernel_size.is_some_and(|size| size > 0 && size % 2 == 0) {
            return Err(fail("conv_kernel_size is even, so the convolution changes the length"));
        }
        if self.pooler_hidden_size.is_some_and(|size| size != *hidden_size) {
            return Err(fail("pooler_hidden_size other than hidden_size is not supported"));
        }
        match self.relative() {
            Some(RelativePositions { buckets: Some(buckets), farthest, .. })
                if buckets < 4 || farthest <= buckets / 2 + 1 =>
            {
                Err(fail(format!(
                    "position_buckets {buckets} and max_relative_positions {farthest} leave no buckets for far positions"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Relative positions of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RelativePositions {
    /// Farthest relative position.
    farthest: u32,
    /// Number of buckets; beyond half of them, they grow with the logarithm of the distance.
    buckets: Option<u32>,
    /// Half of the number of position embeddings.
    span: u32,
}

impl RelativePositions {
    /// Returns the bucket of a distance, in the arithmetic of `transformers`: f32.
    fn bucket(&self, distance: i64) -> i64 {
        let Some(buckets) = self.buckets else { return distance };
        let middle = i64::from(buckets / 2);
        let absolute = if distance.abs() < middle { middle - 1 } else { distance.abs() };
        if absolute <= middle {
            return distance;
        }
        let ratio = |number: i64| (number as f32 / middle as f32).ln();
        let log = ratio(absolute) / ratio(i64::from(self.farthest) - 1) * (middle - 1) as f32;
        (log.ceil() as i64 + middle) * distance.signum()
    }

    /// Returns the row of the position embeddings for each query and key of a sequence, `[tokens,
    /// tokens]`.
    fn rows(&self, tokens: usize, device: &Device) -> Result<Tensor> {
        let (span, count) = (i64::from(self.span), i64::from(tokens as u32));
        let row = |distance: i64| (self.bucket(distance) + span).clamp(0, 2 * span - 1) as u32;
        let by_distance: Vec<u32> = (1 - count..count).map(row).collect();
        // Query i and key j have the distance i − j.
        let rows: Vec<u32> =
            (0..tokens).flat_map(|query| by_distance[query..query + tokens].iter().rev()).copied().collect();
        Tensor::from_vec(rows, (tokens, tokens), device)
    }
}

/// Terms of attention with relative positions, `[heads, 2·span, dim]`: the same for all texts.
struct PositionTerms {
    /// Keys of positions, which content queries attend to.
    keys: Option<Tensor>,
    /// Queries of positions, which attend to content keys.
    queries: Option<Tensor>,
}

struct DebertaLayer {
    projections: [Linear; 3],
    positions: PositionTerms,
    output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    down: Linear,
    norm: Norm,
}

/// Convolution over neighbouring tokens of the embeddings, added after the first layer.
struct Convolution {
    /// `[hidden, width·hidden]`.
    linear: Linear,
    width: usize,
    norm: Norm,
}

/// DeBERTa with a classifier of one label.
pub(super) struct Deberta {
    config: DebertaConfig,
    words: Tensor,
    positions: Option<Tensor>,
    types: Option<Tensor>,
    projection: Option<Linear>,
    norm: Norm,
    layers: Vec<DebertaLayer>,
    convolution: Option<Convolution>,
    pooler: Linear,
    classifier: Linear,
}

/// Loads the layers of DeBERTa.
struct Loader<'a> {
    layers: LayerLoader<'a>,
    config: &'a DebertaConfig,
    /// Embeddings of relative positions, `[2·span, hidden]`.
    relative: Option<Tensor>,
}

impl Loader<'_> {
    /// Reads the embeddings of relative positions.
    fn relative_embeddings(&mut self) -> std::result::Result<Option<Tensor>, ModelError> {
        let Some(RelativePositions { span, .. }) = self.config.relative() else { return Ok(None) };
        let hidden = self.config.hidden_size;
        let rows =
            self.layers.tensor("deberta.encoder.rel_embeddings.weight", &[2 * span as usize, hidden])?;
        if !self.config.norm_rel_ebd.as_ref().is_some_and(|terms| terms.has("layer_norm")) {
            return Ok(Some(rows));
        }
        let norm = self.layers.norm("deberta.encoder.LayerNorm", hidden, true)?;
        Ok(Some(normalise(&norm, &rows)?))
    }

    fn positions(
        &mut self,
        module: &str,
        [query, key, _]: &[Linear; 3],
    ) -> std::result::Result<PositionTerms, ModelError> {
        let Some(rows) = self.relative.clone() else {
            return Ok(PositionTerms { keys: None, queries: None });
        };
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let mut term = |is_used: bool, shared: &Linear, own: &str| -> std::result::Result<_, ModelError> {
            if !is_used {
                return Ok(None);
            }
            let projected = if self.config.share_att_key {
                apply(shared, &rows, None)?
            } else {
                let own = self.layers.linear(&format!("{module}.{own}"), [hidden, hidden], true)?;
                apply(&own, &rows, None)?
            };
            let by_head = projected.reshape((rows.dim(0)?, heads, hidden / heads))?.transpose(0, 1)?;
            Ok(Some(by_head.contiguous()?))
        };
        Ok(PositionTerms {
            keys: term(self.config.attends("c2p"), key, "pos_key_proj")?,
            queries: term(self.config.attends("p2c"), query, "pos_query_proj")?,
        })
    }

    fn layer(&mut self, index: usize) -> std::result::Result<DebertaLayer, ModelError> {
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let module = |name: &str| format!("deberta.encoder.layer.{index}.{name}");
        let attention = module("attention.self");
        let mut projection =
            |name: &str| self.layers.linear(&format!("{attention}.{name}"), [hidden, hidden], true);
        let projections = [projection("query_proj")?, projection("key_proj")?, projection("value_proj")?];
        Ok(DebertaLayer {
            positions: self.positions(&attention, &projections)?,
            projections,
            output: self.layers.linear(&module("attention.output.dense"), [hidden, hidden], true)?,
            attention_norm: self.layers.norm(&module("attention.output.LayerNorm"), hidden, true)?,
            intermediate: self.layers.linear(&module("intermediate.dense"), [wide, hidden], true)?,
            down: self.layers.linear(&module("output.dense"), [hidden, wide], true)?,
            norm: self.layers.norm(&module("output.LayerNorm"), hidden, true)?,
        })
    }

    fn convolution(&mut self) -> std::result::Result<Option<Convolution>, ModelError> {
        let Some(width) = self.config.conv_kernel_size.filter(|width| *width > 0) else { return Ok(None) };
        let hidden = self.config.hidden_size;
        let weight = self.layers.tensor("deberta.encoder.conv.conv.weight", &[hidden, hidden, width])?;
        let bias = self.layers.tensor("deberta.encoder.conv.conv.bias", &[hidden])?;
        let weight = weight.transpose(1, 2)?.reshape((hidden, width * hidden))?;
        let weight = crate::weights::LinearWeight::Plain(crate::parameters::WeightTensor::Frozen(weight));
        let norm = self.layers.norm("deberta.encoder.conv.LayerNorm", hidden, true)?;
        Ok(Some(Convolution { linear: Linear::frozen(weight, Some(bias)), width, norm }))
    }
}

impl Deberta {
    pub(super) fn load(
        config: DebertaConfig,
        weights: &mut dyn TensorSource,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        config.check()?;
        let hidden = config.hidden_size;
        let layers = LayerLoader { weights, device, epsilon: config.layer_norm_eps };
        let mut loader = Loader { layers, config: &config, relative: None };
        loader.relative = loader.relative_embeddings()?;
        let width = config.embedding_size.unwrap_or(hidden);
        let embedding = |loader: &mut Loader<'_>, name: &str, rows: usize| {
            loader.layers.tensor(&format!("deberta.embeddings.{name}.weight"), &[rows, width])
        };
        let words = embedding(&mut loader, "word_embeddings", config.vocab_size)?;
        let positions = if config.position_biased_input {
            Some(embedding(&mut loader, "position_embeddings", config.max_position_embeddings)?)
        } else {
            None
        };
        let types = if config.type_vocab_size > 0 {
            Some(embedding(&mut loader, "token_type_embeddings", config.type_vocab_size)?)
        } else {
            None
        };
        let projection = if width == hidden {
            None
        } else {
            Some(loader.layers.linear("deberta.embeddings.embed_proj", [hidden, width], false)?)
        };
        let norm = loader.layers.norm("deberta.embeddings.LayerNorm", hidden, true)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| loader.layer(index))
            .collect::<std::result::Result<_, _>>()?;
        let convolution = loader.convolution()?;
        let pooler = loader.layers.linear("pooler.dense", [hidden, hidden], true)?;
        let classifier = loader.layers.linear("classifier", [1, hidden], true)?;
        Ok(Self {
            config,
            words,
            positions,
            types,
            projection,
            norm,
            layers,
            convolution,
            pooler,
            classifier,
        })
    }

    /// Returns the number of positions that the model was trained for.
    pub(super) fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Computes the score of each sequence, `[sequences, 1]`.
    pub(super) fn scores(&self, batch: &EncoderBatch) -> std::result::Result<Tensor, ModelError> {
        batch.check(self.config.vocab_size, self.max_positions())?;
        let device = self.words.device();
        let relative = self.config.relative();
        let rows = batch.sequences.iter().map(|rows| match relative {
            Some(relative) => relative.rows(rows.len(), device).map(Some),
            None => Ok(None),
        });
        let rows: Vec<Option<Tensor>> = rows.collect::<Result<_>>()?;
        let embedded = self.embed(batch)?;
        let mut x = embedded.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let attended = self.attention(layer, &x, batch, &rows)?;
            x = normalise(&layer.attention_norm, &apply(&layer.output, &attended, Some(&x))?)?;
            let wide = self.config.hidden_act.apply(&apply(&layer.intermediate, &x, None)?)?;
            x = normalise(&layer.norm, &apply(&layer.down, &wide, Some(&x))?)?;
            if let (0, Some(convolution)) = (index, &self.convolution) {
                let neighbours = convolution.windows(&embedded, batch)?;
                let added = self.config.conv_act.apply(&apply(&convolution.linear, &neighbours, None)?)?;
                x = normalise(&convolution.norm, &(x + added)?)?;
            }
        }
        let pooled = apply(&self.pooler, &batch.first_rows(&x)?, None)?;
        Ok(apply(&self.classifier, &self.config.pooler_hidden_act.apply(&pooled)?, None)?)
    }

    fn embed(&self, batch: &EncoderBatch) -> Result<Tensor> {
        let select =
            |table: &Tensor, rows: &[u32]| table.index_select(&Tensor::new(rows, table.device())?, 0);
        let mut x = select(&self.words, &batch.tokens)?;
        if let Some(positions) = &self.positions {
            x = (x + select(positions, &batch.positions)?)?;
        }
        if let Some(types) = &self.types {
            x = (x + select(types, &batch.types)?)?;
        }
        if let Some(projection) = &self.projection {
            x = apply(projection, &x, None)?;
        }
        normalise(&self.norm, &x)
    }

    /// Disentangled attention. `rows` are the rows of the position embeddings of each sequence.
    fn attention(
        &self,
        layer: &DebertaLayer,
        x: &Tensor,
        batch: &EncoderBatch,
        rows: &[Option<Tensor>],
    ) -> Result<Tensor> {
        let heads = self.config.num_attention_heads;
        let terms = 1 + ["c2p", "p2c"].into_iter().filter(|term| self.config.attends(term)).count();
        let scale = ((self.config.hidden_size / heads * terms) as f64).sqrt().recip();
        let [query, key, value] = &layer.projections;
        let [q, k, v] = [apply(query, x, None)?, apply(key, x, None)?, apply(value, x, None)?];
        batch.attention([&q, &k, &v], heads, |sequence, [q, k, v]| {
            let tokens = q.dim(1)?;
            let (keys, q) = (k.t()?.contiguous()?, (q * scale)?);
            // Of each key to each position.
            let to_positions = match &layer.positions.queries {
                Some(queries) => Some((&k * scale)?.matmul(&queries.t()?.contiguous()?)?),
                None => None,
            };
            let mut attended = Vec::new();
            for chunk in query_chunks(tokens, heads, tokens) {
                let q = q.narrow(1, chunk.start, chunk.len())?.contiguous()?;
                let mut scores = q.matmul(&keys)?;
                if let Some(rows) = &rows[sequence] {
                    let rows = rows.narrow(0, chunk.start, chunk.len())?;
                    let for_heads = |rows: &Tensor| {
                        rows.unsqueeze(0)?.broadcast_as((heads, rows.dim(0)?, rows.dim(1)?))?.contiguous()
                    };
                    if let Some(keys) = &layer.positions.keys {
                        let to_positions = q.matmul(&keys.t()?.contiguous()?)?;
                        scores = (scores + to_positions.gather(&for_heads(&rows)?, 2)?)?;
                    }
                    if let Some(to_positions) = &to_positions {
                        let to_queries = to_positions.gather(&for_heads(&rows.t()?.contiguous()?)?, 2)?;
                        scores = (scores + to_queries.transpose(1, 2)?.contiguous()?)?;
                    }
                }
                attended.push(weighted_values(&scores, &v)?);
            }
            Tensor::cat(&attended, 1)
        })
    }
}

impl Convolution {
    /// Returns each row with its neighbours, `[rows, width·hidden]`; 0 beyond the ends of a
    /// sequence.
    fn windows(&self, x: &Tensor, batch: &EncoderBatch) -> Result<Tensor> {
        let half = self.width / 2;
        let windows = batch.sequences.iter().map(|rows| -> Result<Tensor> {
            let padded = x.narrow(0, rows.start, rows.len())?.pad_with_zeros(0, half, half)?;
            let shifted = (0..self.width).map(|shift| padded.narrow(0, shift, rows.len()));
            Tensor::cat(&shifted.collect::<Result<Vec<_>>>()?, 1)
        });
        Tensor::cat(&windows.collect::<Result<Vec<_>>>()?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `make_log_bucket_position` in transformers.
    #[test]
    fn buckets_equal_those_of_transformers() {
        let of = |buckets: u32, farthest: u32| RelativePositions {
            farthest,
            buckets: Some(buckets),
            span: buckets,
        };
        let large = of(256, 512);
        let known = [(127, 127), (128, 128), (129, 129), (130, 130), (200, 169), (300, 207), (510, 255)];
        for (distance, bucket) in known.into_iter().chain([(511, 255), (512, 256), (599, 270)]) {
            assert_eq!((large.bucket(distance), large.bucket(-distance)), (bucket, -bucket), "{distance}");
        }
        let squares = |relative: RelativePositions| -> i64 {
            (-600..=600).map(|distance| relative.bucket(distance).pow(2)).sum()
        };
        assert_eq!([large, of(8, 64), of(32, 512)].map(squares), [47_302_804, 96_752, 953_224]);
    }

    #[test]
    fn rows_of_positions_are_those_of_the_distance() {
        let relative = RelativePositions { farthest: 3, buckets: None, span: 3 };
        let rows = relative.rows(5, &Device::Cpu).unwrap().to_vec2::<u32>().unwrap();
        assert_eq!(rows[0], [3, 2, 1, 0, 0]);
        assert_eq!(rows[4], [5, 5, 5, 4, 3]);
    }

    #[test]
    fn names_are_joined_or_listed() {
        let terms: Vec<Terms> =
            serde_json::from_str(r#"["p2c|c2p", ["p2c", "C2P"], "layer_norm|x"]"#).unwrap();
        assert!(terms[0].has("c2p") && terms[1].has("c2p") && terms[2].has("layer_norm"));
        assert!(!terms[2].has("layer"));
    }
}
