//! Description of a kernel for its launcher: source, entry point and parameters in order.

use std::fmt;

use crate::Element;

/// Source text that NVRTC compiles unchanged, without include paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// File name without its extension, unique among [`SOURCES`].
    pub name: &'static str,
    /// CUDA C++17 text, with `common.cuh` in front.
    pub text: &'static str,
}

macro_rules! sources {
    ($($constant:ident $name:literal),*) => {
        $(pub(crate) static $constant: Source = Source {
            name: $name,
            text: concat!(
                include_str!("../cuda/common.cuh"),
                "\n#line 1 \"",
                $name,
                ".cu\"\n",
                include_str!(concat!("../cuda/", $name, ".cu")),
            ),
        };)*

        /// All sources, by name.
        pub static SOURCES: &[&Source] = &[$(&$constant),*];
    };
}

sources!(
    ACTIVATION "activation",
    ADAMW "adamw",
    ATTENTION "attention",
    DEQUANTISE "dequantise",
    LOG_PROB "log_prob",
    NORM "norm",
    ROTARY "rotary"
);

/// Operation that kernels compute, one for each element type.
#[derive(Debug)]
pub struct Operation {
    pub(crate) source: &'static Source,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [KernelParameter],
}

impl Operation {
    /// Returns the kernel for an element type.
    pub fn kernel(&self, element: Element) -> Kernel {
        let with_element = |parameter: &KernelParameter| KernelParameter {
            kind: parameter.kind.with_element(element),
            ..*parameter
        };
        let entry = if self.is_generic() { format!("{}_{element}", self.name) } else { self.name.to_owned() };
        Kernel { source: self.source, entry, parameters: self.parameters.iter().map(with_element).collect() }
    }

    fn is_generic(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.kind != parameter.kind.with_element(Element::F32))
    }

    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let elements = if self.is_generic() { &Element::ALL[..] } else { &[Element::F32] };
        elements.iter().map(|element| self.kernel(*element)).collect()
    }
}

/// Entry point of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Source that contains it.
    pub source: &'static Source,
    /// Name in the compiled module, not mangled.
    pub entry: String,
    /// Parameters, in order.
    pub parameters: Vec<KernelParameter>,
}

impl Kernel {
    /// Returns the entry and its parameters' types, in the form in which the emulator prints the
    /// source's.
    pub fn signature(&self) -> String {
        let kinds: Vec<String> = self.parameters.iter().map(|parameter| parameter.kind.to_string()).collect();
        format!("{}({})", self.entry, kinds.join(", "))
    }
}

/// Parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelParameter {
    /// Name in the source.
    pub name: &'static str,
    /// Kind of argument.
    pub kind: ParameterKind,
}

impl fmt::Display for KernelParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.kind)
    }
}

/// Kind of a kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Device pointer to read. May be null where the operation's documentation says so.
    Read(ScalarType),
    /// Device pointer to write, and possibly to read.
    Write(ScalarType),
    /// Device pointer to an array of device pointers, each to read.
    ReadEach(ScalarType),
    /// Device pointer to an array of device pointers, each to write, and possibly to read.
    WriteEach(ScalarType),
    /// Scalar passed by value.
    Value(ScalarType),
}

impl ParameterKind {
    fn with_element(self, element: Element) -> Self {
        match self {
            Self::Read(item) => Self::Read(item.with_element(element)),
            Self::Write(item) => Self::Write(item.with_element(element)),
            Self::ReadEach(item) => Self::ReadEach(item.with_element(element)),
            Self::WriteEach(item) => Self::WriteEach(item.with_element(element)),
            Self::Value(item) => Self::Value(item.with_element(element)),
        }
    }
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(item) => write!(f, "read {item}"),
            Self::Write(item) => write!(f, "write {item}"),
            Self::ReadEach(item) => write!(f, "read each {item}"),
            Self::WriteEach(item) => write!(f, "write each {item}"),
            Self::Value(item) => item.fmt(f),
        }
    }
}

/// Type of a scalar parameter or of the elements behind a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarType {
    /// The kernel's element type. Only in an [`Operation`]; a [`Kernel`] has the actual type.
    Generic,
    /// f32 or bf16.
    Float(Element),
    /// 64-bit float.
    F64,
    /// Unsigned byte.
    Byte,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
}

impl ScalarType {
    /// f32, whatever the kernel's element type.
    pub(crate) const F32: Self = Self::Float(Element::F32);

    fn with_element(self, element: Element) -> Self {
        if self == Self::Generic { Self::Float(element) } else { self }
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "any",
            Self::Float(element) => return element.fmt(f),
            Self::F64 => "f64",
            Self::Byte => "u8",
            Self::U32 => "u32",
            Self::U64 => "u64",
        })
    }
}

pub(crate) const fn read(name: &'static str, item: ScalarType) -> KernelParameter {
    KernelParameter { name, kind: ParameterKind::Read(item) }
}

pub(crate) const fn write(name: &'static str, item: ScalarType) -> KernelParameter {
    KernelParameter { name, kind: ParameterKind::Write(item) }
}

pub(crate) const fn read_each(name: &'static str, item: ScalarType) -> KernelParameter {
    KernelParameter { name, kind: ParameterKind::ReadEach(item) }
}

pub(crate) const fn write_each(name: &'static str, item: ScalarType) -> KernelParameter {
    KernelParameter { name, kind: ParameterKind::WriteEach(item) }
}

pub(crate) const fn value(name: &'static str, item: ScalarType) -> KernelParameter {
    KernelParameter { name, kind: ParameterKind::Value(item) }
}
