//! What a launcher must know of a kernel: its source, entry point and arguments in order.

use std::fmt;

use crate::Element;

/// A source text that NVRTC compiles as it is, without include paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name without its ending, unique among [`SOURCES`].
    pub name: &'static str,
    /// CUDA C++17.
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

        /// All sources.
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

/// What a kernel computes, for any type of numbers.
#[derive(Debug)]
pub struct Operation {
    pub(crate) source: &'static Source,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
}

impl Operation {
    /// The kernel for numbers of this type.
    pub fn kernel(&self, element: Element) -> Kernel {
        let of = |parameter: &Parameter| Parameter { kind: parameter.kind.of(element), ..*parameter };
        let entry =
            if self.generic() { format!("{}_{}", self.name, element.name()) } else { self.name.to_owned() };
        Kernel { source: self.source, entry, parameters: self.parameters.iter().map(of).collect() }
    }

    fn generic(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.kind != parameter.kind.of(Element::F32))
    }

    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let elements = if self.generic() { &Element::ALL[..] } else { &[Element::F32] };
        elements.iter().map(|element| self.kernel(*element)).collect()
    }
}

/// An entry point of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Where it stands.
    pub source: &'static Source,
    /// Its name in the compiled module, not mangled.
    pub entry: String,
    /// Its arguments, in order.
    pub parameters: Vec<Parameter>,
}

impl Kernel {
    /// Entry and types of the arguments, as the emulator prints what the source says.
    pub fn signature(&self) -> String {
        let kinds: Vec<String> = self.parameters.iter().map(|parameter| parameter.kind.to_string()).collect();
        format!("{}({})", self.entry, kinds.join(", "))
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// As in the source.
    pub name: &'static str,
    /// What is passed.
    pub kind: Kind,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.kind)
    }
}

/// What is passed to a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A device pointer that is read only; null stands for nothing where the operation's documentation says so.
    Read(Item),
    /// A device pointer that is written, and perhaps read.
    Write(Item),
    /// A value.
    Value(Item),
}

impl Kind {
    fn of(self, element: Element) -> Self {
        match self {
            Self::Read(item) => Self::Read(item.of(element)),
            Self::Write(item) => Self::Write(item.of(element)),
            Self::Value(item) => Self::Value(item.of(element)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(item) => write!(f, "read {}", item.name()),
            Self::Write(item) => write!(f, "write {}", item.name()),
            Self::Value(item) => f.write_str(item.name()),
        }
    }
}

/// The type of a value, or of what a pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// Whatever the kernel is made for; only in an [`Operation`].
    Any,
    /// A type of numbers.
    Number(Element),
    /// f64.
    F64,
    /// u8.
    Byte,
    /// u32.
    U32,
    /// u64.
    U64,
}

impl Item {
    /// f32, whatever the kernel is made for.
    pub(crate) const F32: Self = Self::Number(Element::F32);

    fn of(self, element: Element) -> Self {
        if self == Self::Any { Self::Number(element) } else { self }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Number(element) => element.name(),
            Self::F64 => "f64",
            Self::Byte => "u8",
            Self::U32 => "u32",
            Self::U64 => "u64",
        }
    }
}

pub(crate) const fn read(name: &'static str, item: Item) -> Parameter {
    Parameter { name, kind: Kind::Read(item) }
}

pub(crate) const fn write(name: &'static str, item: Item) -> Parameter {
    Parameter { name, kind: Kind::Write(item) }
}

pub(crate) const fn value(name: &'static str, item: Item) -> Parameter {
    Parameter { name, kind: Kind::Value(item) }
}
