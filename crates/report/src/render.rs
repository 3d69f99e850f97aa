//! Rendering: figures as plain data ([`figure`]), drawn as SVG and PNG ([`image`]) and PDF
//! ([`pdf`]), and HTML templates ([`templates`]).

mod arabic;
mod canvas;
pub(crate) mod document;
pub(crate) mod draw;
mod fallback;
pub(crate) mod figure;
pub(crate) mod figure_view;
mod font;
pub(crate) mod image;
pub(crate) mod pdf;
mod runs;
pub(crate) mod style;
pub(crate) mod templates;
