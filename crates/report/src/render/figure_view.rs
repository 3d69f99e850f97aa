//! A figure as inline SVG for the HTML templates.

use serde::Serialize;

use super::{
    draw::{LegendSwatch, PanelDrawing, panel_size},
    figure::{Content, Figure},
    image::{self, SvgContext},
};
use crate::ReportError;

/// A figure as the templates show it.
#[derive(Serialize)]
pub(crate) struct FigureView {
    name: String,
    title: String,
    caption: String,
    /// Swatch (SVG) and label of each legend entry.
    legend: Vec<(String, String)>,
    /// SVG of each panel.
    panels: Vec<String>,
    /// Width of a panel in CSS pixels if it must not shrink much, as for heat maps.
    width: Option<f64>,
    /// Width of a panel in CSS pixels at which its text has its full size.
    panel_width: f64,
}

impl FigureView {
    /// Draws the panels and the legend of a figure.
    pub(crate) fn new(figure: &Figure) -> Result<Self, ReportError> {
        let legend = figure
            .legend
            .iter()
            .map(|entry| {
                let swatch = image::svg(&LegendSwatch(entry.style), figure, SvgContext::Inline(""))?;
                Ok((swatch, entry.label.clone()))
            })
            .collect::<Result<_, ReportError>>()?;
        let size = panel_size(figure);
        let panels = figure
            .panels
            .iter()
            .map(|panel| {
                image::svg(&PanelDrawing { panel, size }, figure, SvgContext::Inline(&panel.description))
            })
            .collect::<Result<_, _>>()?;
        let heatmap = figure.panels.iter().any(|panel| matches!(panel.content, Content::Heatmap(_)));
        let Figure { name, title, caption, .. } = figure.clone();
        Ok(Self {
            name,
            title,
            caption,
            legend,
            panels,
            width: heatmap.then_some(size.width),
            panel_width: size.width,
        })
    }
}
