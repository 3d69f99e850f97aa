//! Rendering: figures as plain data ([`figure`]), drawn as SVG and PNG ([`image`]), and HTML
//! templates ([`templates`]).

mod canvas;
pub(crate) mod document;
mod draw;
pub(crate) mod figure;
pub(crate) mod figure_view;
mod font;
pub(crate) mod image;
pub(crate) mod style;
pub(crate) mod templates;
