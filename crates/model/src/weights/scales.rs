//! Checkpoints whose matrices are 8-bit numbers with scales, as `quantization_config` in
//! `config.json` describes them.

use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

use crate::ModelError;

/// Meaning of the scales of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaleScheme {
    /// Value = number·scale, with a scale for each matrix, row or block. The block, `[rows,
    /// columns]`, is None if the shape of the scales determines it.
    Factors(Option<[usize; 2]>),
    /// LLM.int8 (arXiv 2208.07339): value = number·SCB/127, with an SCB for each row.
    LlmInt8,
}

/// Endings of the names of scales, in place of `weight`.
const FACTORS: [&str; 2] = ["weight_scale", "weight_scale_inv"];
const LLM_INT8: &str = "SCB";
const ZERO_POINT: &str = "weight_zero_point";

/// Block size of `weight_scale_inv` where the config does not give it.
const USUAL_BLOCK: [usize; 2] = [128, 128];

impl ScaleScheme {
    /// Reads the scheme of a `config.json`. Refuses schemes whose weights cannot be restored.
    pub(crate) fn from_config(config: &Value) -> Result<Self, ModelError> {
        let keys = ["quantization_config", "compression_config"];
        let found = keys.into_iter().find_map(|key| Some((key, config.get(key)?)));
        let Some((key, settings)) = found.filter(|(_, settings)| !settings.is_null()) else {
            return Ok(Self::Factors(None));
        };
        let method = settings["quant_method"].as_str().unwrap_or("not given");
        let refuse = |why: String| {
            ModelError::Weights(format!(
                "config.json: `{key}` has quant_method `{method}`{why}, whose weights cannot be read; use the \
                 model's unquantised weights, or dequantise these with transformers (`model.dequantize()`, then \
                 `model.save_pretrained(FOLDER)`)"
            ))
        };
        match method {
            "fp8" | "fbgemm_fp8" => Ok(Self::Factors(block(&settings["weight_block_size"]))),
            "compressed-tensors" => {
                let block = compressed(settings).map_err(|what| refuse(format!(" with {what}")))?;
                Ok(Self::Factors(block))
            }
            "modelopt" if settings["quant_algo"] == "FP8" => Ok(Self::Factors(None)),
            "bitsandbytes" if settings["load_in_8bit"] == true => Ok(Self::LlmInt8),
            "bitsandbytes" => Err(refuse(" in 4 bits".to_owned())),
            _ => Err(refuse(String::new())),
        }
    }

    /// Returns the names of tensors that may hold the scales of the weight `name`.
    pub(super) fn names(self, name: &str) -> Vec<String> {
        let endings: &[&str] = match self {
            Self::Factors(_) => &FACTORS,
            Self::LlmInt8 => &[LLM_INT8],
        };
        let module = name.strip_suffix("weight").unwrap_or(name);
        endings.iter().map(|ending| format!("{module}{ending}")).collect()
    }

    /// Returns the name of the tensor that may hold the zero points of the weight `name`.
    pub(super) fn zero_point(name: &str) -> String {
        format!("{}{ZERO_POINT}", name.strip_suffix("weight").unwrap_or(name))
    }

    /// Returns the values of a matrix of 8-bit numbers, row by row.
    pub(super) fn values(
        self,
        numbers: &TensorView<'_>,
        scales: &TensorView<'_>,
        zero_points: Option<&TensorView<'_>>,
    ) -> Result<Vec<f32>, String> {
        let [rows, columns] = *numbers.shape() else {
            return Err(format!("has shape {:?}: only matrices have scales", numbers.shape()));
        };
        let decode = decoder(numbers.dtype()).ok_or_else(|| format!("has type {:?}", numbers.dtype()))?;
        let mut values: Vec<f32> = numbers.data().iter().map(|byte| decode(*byte)).collect();
        let grid = |of: &TensorView<'_>| {
            let block = if let Self::Factors(block) = self { block } else { None };
            ScaleGrid::new(of, [rows, columns], block)
        };
        if let Some(zero_points) = zero_points {
            grid(zero_points)?.for_each(&mut values, columns, |value, zero_point| *value -= zero_point);
        }
        let unit = if self == Self::LlmInt8 { 127.0 } else { 1.0 };
        grid(scales)?.for_each(&mut values, columns, |value, scale| *value *= scale / unit);
        Ok(values)
    }
}

/// Reads a block size; None unless it is a pair of positive numbers.
fn block(value: &Value) -> Option<[usize; 2]> {
    let side = |index: usize| usize::try_from(value.get(index)?.as_u64()?).ok().filter(|side| *side > 0);
    Some([side(0)?, side(1)?])
}

/// Reads the settings of `compressed-tensors`, or returns the one that is not supported.
fn compressed(settings: &Value) -> Result<Option<[usize; 2]>, String> {
    let known = ["float-quantized", "int-quantized", "naive-quantized"];
    let is_known = |format: &Value| format.as_str().is_none_or(|format| known.contains(&format));
    if !is_known(&settings["format"]) {
        return Err(format!("format {}", settings["format"]));
    }
    let sparsity = &settings["sparsity_config"]["format"];
    if !(sparsity.is_null() || sparsity == "dense") {
        return Err(format!("sparsity {sparsity}"));
    }
    if settings["transform_config"].as_object().is_some_and(|transforms| !transforms.is_empty()) {
        return Err("a transform_config".to_owned());
    }
    let groups = settings["config_groups"].as_object();
    let mut found = None;
    for group in groups.into_iter().flat_map(serde_json::Map::values) {
        let weights = &group["weights"];
        if !is_known(&group["format"]) {
            return Err(format!("format {}", group["format"]));
        }
        if weights["num_bits"] != 8 {
            return Err(format!("num_bits {}", weights["num_bits"]));
        }
        if !(weights["actorder"].is_null()
            || weights["actorder"] == "static"
            || weights["actorder"] == "weight")
        {
            return Err(format!("actorder {}", weights["actorder"]));
        }
        let group = weights["group_size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let group = group.filter(|size| *size > 0).map(|size| [1, size]);
        found = found.or_else(|| block(&weights["block_structure"])).or(group);
    }
    Ok(found)
}

/// Scales of the blocks of a matrix.
struct ScaleGrid {
    scales: Vec<f32>,
    /// Number of blocks side by side.
    across: usize,
    /// Rows and columns of a block.
    block: [usize; 2],
}

impl ScaleGrid {
    fn new(of: &TensorView<'_>, matrix: [usize; 2], block: Option<[usize; 2]>) -> Result<Self, String> {
        let [down, across] = match *of.shape() {
            [] | [1] => [1, 1],
            [rows] => [rows, 1],
            [down, across] => [down, across],
            _ => return Err(format!("has scales of shape {:?}", of.shape())),
        };
        let scales = floats(of).ok_or_else(|| format!("has scales of type {:?}", of.dtype()))?;
        let covers = |block: &[usize; 2]| {
            block.iter().all(|side| *side > 0)
                && [matrix[0].div_ceil(block[0]), matrix[1].div_ceil(block[1])] == [down, across]
        };
        let even = [matrix[0].checked_div(down), matrix[1].checked_div(across)];
        let even = match even {
            [Some(rows), Some(columns)] if [rows * down, columns * across] == matrix => Some([rows, columns]),
            _ => None,
        };
        // A single scale or one for each row needs no block size, whatever the config says.
        let plain = Some([matrix[0].checked_div(down).unwrap_or(0), matrix[1]])
            .filter(|_| across == 1 && (down == 1 || down == matrix[0]));
        let certain = [plain, block].into_iter().flatten().find(covers);
        let mut likely = [even, Some(USUAL_BLOCK)].into_iter().flatten().filter(covers);
        let block = match (certain, likely.next(), likely.next()) {
            (Some(block), ..) | (None, Some(block), None) => Some(block),
            (None, Some(even), Some(usual)) if even == usual => Some(even),
            _ => None,
        };
        match block {
            Some(block) => Ok(Self { scales, across, block }),
            None => Err(format!(
                "of shape {matrix:?} has scales of shape {:?}, which do not tell the size of a block, nor does \
                 `weight_block_size` in `quantization_config`",
                of.shape()
            )),
        }
    }

    /// Calls `change` with every value of a matrix and the scale of its block.
    fn for_each(&self, values: &mut [f32], columns: usize, change: impl Fn(&mut f32, f32)) {
        let [rows_of_block, columns_of_block] = self.block;
        for (row, values) in values.chunks_exact_mut(columns.max(1)).enumerate() {
            let scales = self.scales.chunks_exact(self.across).nth(row / rows_of_block).unwrap_or(&[]);
            for (values, scale) in values.chunks_mut(columns_of_block).zip(scales) {
                for value in values {
                    change(value, *scale);
                }
            }
        }
    }
}

/// Returns the function from a byte to its value; None if the type is not one of 8-bit numbers.
pub(super) fn decoder(dtype: Dtype) -> Option<fn(u8) -> f32> {
    match dtype {
        Dtype::I8 => Some(|byte| f32::from(byte.cast_signed())),
        Dtype::F8_E4M3 => Some(e4m3),
        Dtype::F8_E5M2 => Some(e5m2),
        _ => None,
    }
}

/// Decodes 4 bits of exponent and 3 of mantissa, without infinities (arXiv 2209.05433).
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from((byte >> 3) & 15), f32::from(byte & 7));
    let magnitude = match exponent {
        15 if mantissa == 7.0 => f32::NAN,
        0 => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if byte < 128 { magnitude } else { -magnitude }
}

/// Decodes 5 bits of exponent and 2 of mantissa.
fn e5m2(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from((byte >> 2) & 31), f32::from(byte & 3));
    let magnitude = match exponent {
        31 if mantissa > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        0 => mantissa * 2f32.powi(-16),
        _ => (4.0 + mantissa) * 2f32.powi(exponent - 17),
    };
    if byte < 128 { magnitude } else { -magnitude }
}

/// Reads a tensor of floating-point numbers or of 8-bit zero points; None for other types.
fn floats(of: &TensorView<'_>) -> Option<Vec<f32>> {
    let half = |bytes: &[u8]| <[u8; 2]>::try_from(bytes).map(u16::from_le_bytes).unwrap_or_default();
    Some(match of.dtype() {
        Dtype::F32 => {
            let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(f32::from_le_bytes).unwrap_or_default();
            of.data().chunks_exact(4).map(four).collect()
        }
        Dtype::BF16 => {
            of.data().chunks_exact(2).map(|bytes| f32::from_bits(u32::from(half(bytes)) << 16)).collect()
        }
        dtype => {
            of.data().iter().map(|byte| decoder(dtype).map(|decode| decode(*byte))).collect::<Option<_>>()?
        }
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use serde_json::json;

    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_byte_has_the_value_that_candle_gives_it() {
        let all: Vec<u8> = (0..=255).collect();
        let theirs = Tensor::from_raw_buffer(&all, DType::F8E4M3, &[256], &Device::Cpu).unwrap();
        let theirs = theirs.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        for (byte, theirs) in all.into_iter().zip(theirs) {
            let ours = e4m3(byte);
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{byte}: {ours} {theirs}");
        }
        // The first byte of a number in half precision.
        let halves: Vec<u8> = (0..=255u8).flat_map(|byte| [0, byte]).collect();
        let theirs = Tensor::from_raw_buffer(&halves, DType::F16, &[256], &Device::Cpu).unwrap();
        let theirs = theirs.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        for (byte, theirs) in (0..=255).zip(theirs) {
            let ours = e5m2(byte);
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{byte}: {ours} {theirs}");
        }
    }

    #[test]
    fn a_value_has_the_scale_of_its_block() {
        let numbers: Vec<u8> = (0..15).collect();
        let numbers = TensorView::new(Dtype::I8, vec![3, 5], &numbers).unwrap();
        let values = |scheme: ScaleScheme, shape: &[usize], scales: &[f32]| {
            let scales = bytes(scales);
            let scales = TensorView::new(Dtype::F32, shape.to_vec(), &scales).unwrap();
            scheme.values(&numbers, &scales, None)
        };
        let plain = ScaleScheme::Factors(None);
        let expected = |scale: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..15).map(|i| i as f32 * scale(i / 5, i % 5)).collect()
        };
        assert_eq!(values(plain, &[], &[0.5]).unwrap(), expected(&|_, _| 0.5));
        assert_eq!(values(plain, &[1], &[0.5]).unwrap(), expected(&|_, _| 0.5));
        let by_row = expected(&|row, _| [1.0, 2.0, 4.0][row]);
        assert_eq!(values(plain, &[3], &[1.0, 2.0, 4.0]).unwrap(), by_row);
        assert_eq!(values(plain, &[3, 1], &[1.0, 2.0, 4.0]).unwrap(), by_row);
        assert_eq!(values(ScaleScheme::LlmInt8, &[3], &[127.0, 254.0, 508.0]).unwrap(), by_row);
        // Blocks of 2 × 2; the last ones are cut off.
        let grid = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let blocks = values(ScaleScheme::Factors(Some([2, 2])), &[2, 3], &grid).unwrap();
        assert_eq!(blocks, expected(&|row, column| grid[row / 2 * 3 + column / 2]));
        let error = values(plain, &[2, 3], &grid).unwrap_err();
        assert!(error.contains("do not tell the size of a block"), "{error}");

        let (scale, zero_point) = (bytes(&[0.5]), [3u8]);
        let scale = TensorView::new(Dtype::F32, vec![1], &scale).unwrap();
        let zero_point = TensorView::new(Dtype::I8, vec![1], &zero_point).unwrap();
        let shifted = plain.values(&numbers, &scale, Some(&zero_point)).unwrap();
        assert_eq!(shifted, (0..15).map(|i| (i as f32 - 3.0) * 0.5).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_of_128_are_usual_but_not_guessed() {
        let numbers = vec![1u8; 130 * 200];
        let numbers = TensorView::new(Dtype::I8, vec![130, 200], &numbers).unwrap();
        let scales = bytes(&[1.0, 2.0, 3.0, 4.0]);
        let scales = TensorView::new(Dtype::F32, vec![2, 2], &scales).unwrap();
        let expected = |i: usize| [1.0, 2.0, 3.0, 4.0][i / 200 / 128 * 2 + i % 200 / 128];
        let values = ScaleScheme::Factors(Some([128, 128])).values(&numbers, &scales, None);
        assert_eq!(values.unwrap(), (0..130 * 200).map(expected).collect::<Vec<f32>>());
        // Halves of 130 × 200, or blocks of 128?
        let error = ScaleScheme::Factors(None).values(&numbers, &scales, None).unwrap_err();
        assert!(error.contains("do not tell the size of a block"), "{error}");
        let odd = vec![1u8; 129 * 201];
        let odd = TensorView::new(Dtype::I8, vec![129, 201], &odd).unwrap();
        let values = ScaleScheme::Factors(None).values(&odd, &scales, None).unwrap();
        let expected = |i: usize| [1.0, 2.0, 3.0, 4.0][i / 201 / 128 * 2 + i % 201 / 128];
        assert_eq!(values, (0..129 * 201).map(expected).collect::<Vec<f32>>());
    }

    #[test]
    fn schemes_that_cannot_be_restored_are_refused_by_name() {
        let read = |settings: Value| ScaleScheme::from_config(&json!({ "quantization_config": settings }));
        assert_eq!(ScaleScheme::from_config(&json!({})).unwrap(), ScaleScheme::Factors(None));
        let fp8 = read(json!({"quant_method": "fp8", "weight_block_size": [128, 64]}));
        assert_eq!(fp8.unwrap(), ScaleScheme::Factors(Some([128, 64])));
        let eight = json!({"num_bits": 8, "type": "int", "strategy": "channel"});
        let compressed = |format: &str, weights: &Value| {
            read(json!({"quant_method": "compressed-tensors", "format": format,
                "config_groups": {"group_0": {"weights": weights}}}))
        };
        assert_eq!(compressed("int-quantized", &eight).unwrap(), ScaleScheme::Factors(None));
        assert_eq!(
            read(json!({"quant_method": "bitsandbytes", "load_in_8bit": true})).unwrap(),
            ScaleScheme::LlmInt8
        );
        for (refused, expected) in [
            (read(json!({"quant_method": "gptq", "bits": 4})), "`gptq`"),
            (read(json!({"quant_method": "awq"})), "`awq`"),
            (read(json!({"quant_method": "modelopt", "quant_algo": "NVFP4"})), "`modelopt`"),
            (read(json!({"quant_method": "bitsandbytes", "load_in_4bit": true})), "`bitsandbytes` in 4 bits"),
            (read(json!({})), "`not given`"),
            (compressed("pack-quantized", &json!({"num_bits": 4})), "format \"pack-quantized\""),
            (compressed("int-quantized", &json!({"num_bits": 4})), "num_bits 4"),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("quantization_config") && error.contains(expected), "{error}");
        }
    }
}
