//! Arguments of kernels in checks.

use super::random_values;
use crate::{Element, ParameterKind, ScalarType};

/// Argument of a launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// Null pointer.
    Null,
    /// Pointer to a buffer with these bytes.
    Buffer(Vec<u8>),
    /// Pointer to an array of pointers to buffers with these bytes.
    Buffers(Vec<Vec<u8>>),
    /// f32 scalar.
    F32(f32),
    /// u32 scalar.
    U32(u32),
    /// u64 scalar.
    U64(u64),
}

impl Argument {
    /// Returns true if it matches a parameter of this kind.
    pub(super) fn fits(&self, kind: ParameterKind) -> bool {
        match self {
            Self::Null | Self::Buffer(_) => matches!(kind, ParameterKind::Read(_) | ParameterKind::Write(_)),
            Self::Buffers(_) => matches!(kind, ParameterKind::ReadEach(_) | ParameterKind::WriteEach(_)),
            Self::F32(_) => kind == ParameterKind::Value(ScalarType::F32),
            Self::U32(_) => kind == ParameterKind::Value(ScalarType::U32),
            Self::U64(_) => kind == ParameterKind::Value(ScalarType::U64),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(bytes) => bytes,
            _ => &[],
        }
    }

    /// Returns the elements of an f64 buffer.
    pub(super) fn doubles(&self) -> Vec<f64> {
        self.bytes().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    /// Returns the elements of a buffer.
    pub(super) fn elements(&self, element: Element) -> Vec<f64> {
        element.decode(self.bytes()).into_iter().map(f64::from).collect()
    }

    /// Returns an output buffer of `count` elements, filled with NaNs to reveal elements that a
    /// kernel does not write.
    pub(super) fn unwritten(element: Element, count: usize) -> Self {
        Self::Buffer(vec![0xff; element.encode(&[0.0]).len() * count])
    }

    pub(super) fn u32s(values: &[u32]) -> Self {
        Self::Buffer(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub(super) fn u64s(values: &[usize]) -> Self {
        Self::Buffer(values.iter().flat_map(|x| (*x as u64).to_le_bytes()).collect())
    }

    pub(super) fn count(count: usize) -> Self {
        Self::U32(count as u32)
    }
}

/// Input of a kernel, with the same values for its twin.
pub(super) struct TwinInput {
    argument: Argument,
    pub(super) values: Vec<f64>,
}

impl TwinInput {
    pub(super) fn new(element: Element, values: &[f64]) -> Self {
        let bytes = element.encode(&values.iter().map(|x| *x as f32).collect::<Vec<_>>());
        let values = element.decode(&bytes).into_iter().map(f64::from).collect();
        Self { argument: Argument::Buffer(bytes), values }
    }

    pub(super) fn random(element: Element, seed: u64, count: usize) -> Self {
        Self::new(element, &random_values(seed, count))
    }

    pub(super) fn argument(&self) -> Argument {
        self.argument.clone()
    }
}
