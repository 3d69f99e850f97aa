//! What is passed to kernels, and read back.

use super::numbers;
use crate::{Element, Item, Kind};

/// An argument of a launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// The null pointer.
    Null,
    /// A pointer to these bytes.
    Buffer(Vec<u8>),
    /// A value.
    F32(f32),
    /// A value.
    U32(u32),
    /// A value.
    U64(u64),
}

impl Argument {
    /// Whether this can be passed for a parameter of this kind.
    pub(super) fn fits(&self, kind: Kind) -> bool {
        match self {
            Self::Null | Self::Buffer(_) => matches!(kind, Kind::Read(_) | Kind::Write(_)),
            Self::F32(_) => kind == Kind::Value(Item::F32),
            Self::U32(_) => kind == Kind::Value(Item::U32),
            Self::U64(_) => kind == Kind::Value(Item::U64),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(bytes) => bytes,
            _ => &[],
        }
    }

    /// f64 numbers of a buffer.
    pub(super) fn doubles(&self) -> Vec<f64> {
        self.bytes().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    /// Numbers of a buffer.
    pub(super) fn numbers(&self, element: Element) -> Vec<f64> {
        element.decode(self.bytes()).into_iter().map(f64::from).collect()
    }

    /// A buffer of `count` numbers that a kernel has to write: NaNs.
    pub(super) fn unwritten(element: Element, count: usize) -> Self {
        Self::Buffer(vec![0xff; element.encode(&[0.0]).len() * count])
    }

    pub(super) fn u32s(values: &[u32]) -> Self {
        Self::Buffer(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub(super) fn count(count: usize) -> Self {
        Self::U32(count as u32)
    }
}

/// A kernel's input: what it gets, and the same numbers for its twin.
pub(super) struct Input {
    argument: Argument,
    pub(super) values: Vec<f64>,
}

impl Input {
    pub(super) fn new(element: Element, values: &[f64]) -> Self {
        let bytes = element.encode(&values.iter().map(|x| *x as f32).collect::<Vec<_>>());
        let values = element.decode(&bytes).into_iter().map(f64::from).collect();
        Self { argument: Argument::Buffer(bytes), values }
    }

    pub(super) fn random(element: Element, seed: u64, count: usize) -> Self {
        Self::new(element, &numbers(seed, count))
    }

    pub(super) fn argument(&self) -> Argument {
        self.argument.clone()
    }
}
