//! Drawings as SVG text and PNG files.

mod round_joins;

use std::{io::Write, path::Path};

use minijinja::HtmlEscape;
use plotters::prelude::{BitMapBackend, IntoDrawingArea, SVGBackend, WHITE};
use prospect_core::{files::write_whole, visible::visible};

use round_joins::RoundJoins;

use super::{
    canvas::{Canvas, MissingGlyphs, Size},
    draw::{Drawing, FigureSheet},
    figure::Figure,
    font::register_bundled_font,
};
use crate::{ReportError, write_text};

/// Destination of an SVG.
#[derive(Clone, Copy)]
pub(crate) enum SvgContext<'a> {
    /// A separate file, with a fixed size and a white background.
    File,
    /// The HTML page, which sets size and colours. The string is the text alternative, empty if the
    /// image is decorative.
    Inline(&'a str),
}

/// Backend pixels per CSS pixel: quarter pixels are fine enough for curves.
const SVG_SCALE: f64 = 4.0;
/// PNG pixels per CSS pixel.
const PNG_SCALE: u32 = 2;
/// Supersampling factor per side, because plotters antialiases neither polygons nor thick lines.
const SAMPLES: u32 = 3;

/// Baseline of a text below its top in plotters' SVG backend (`dy="0.76em"`), in ems.
const SVG_BASELINE: f64 = 0.76;
/// Baseline in its bitmap backend, in ems: half of the line height of 1.24 em.
const PNG_BASELINE: f64 = 0.62;

/// Writes a figure as `figures/NAME.svg` and `figures/NAME.png` below `out`.
pub(crate) fn write_figure(figure: &Figure, out: &Path) -> Result<(), ReportError> {
    let sheet = FigureSheet::new(figure);
    let file = |extension: &str| out.join("figures").join(format!("{}.{extension}", figure.name));
    write_text(&file("svg"), &svg(&sheet, figure, SvgContext::File)?)?;
    write_png(&sheet, figure, &file("png"))
}

/// Draws `drawing`, which is `figure` or a part of it, as SVG.
pub(crate) fn svg(
    drawing: &impl Drawing,
    figure: &Figure,
    context: SvgContext<'_>,
) -> Result<String, ReportError> {
    register_bundled_font();
    let Size { width, height } = drawing.size();
    let size = ((width * SVG_SCALE) as u32, (height * SVG_SCALE) as u32);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    drawing
        .draw(&Canvas::new(&area, SVG_SCALE, SVG_BASELINE, MissingGlyphs::Reader))
        .and_then(|()| area.present())
        .map_err(|error| draw_error(figure, &error))?;
    drop(area);
    let marks = merge_polylines(text.split_once('>').map_or("", |(_, marks)| marks).trim_start());
    let view = format!("viewBox=\"0 0 {} {}\" stroke-linejoin=\"round\"", size.0, size.1);
    let svg = match context {
        SvgContext::File => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" {view}>\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n{marks}",
            HtmlEscape(&figure.title)
        ),
        SvgContext::Inline("") => format!("<svg {view} aria-hidden=\"true\">\n{marks}"),
        SvgContext::Inline(description) => {
            let description = HtmlEscape(description);
            format!(
                "<svg {view} role=\"img\" aria-label=\"{description}\">\n<title>{description}</title>\n{marks}"
            )
        }
    };
    // XML forbids control characters, others reorder text, and names are untrusted input.
    Ok(visible(&svg).into_owned())
}

/// Merges consecutive polylines of the same style into one path.
///
/// A dashed curve consists of hundreds of polylines.
fn merge_polylines(marks: &str) -> String {
    let mut text = String::with_capacity(marks.len());
    let mut open = None;
    for line in marks.lines() {
        let polyline = line.strip_prefix("<polyline ").and_then(|line| line.split_once("points=\""));
        let Some((style, points)) = polyline.filter(|(_, points)| points.ends_with("\"/>")) else {
            if open.take().is_some() {
                text.push_str("\"/>\n");
            }
            text.push_str(line);
            text.push('\n');
            continue;
        };
        if open != Some(style) {
            if open.is_some() {
                text.push_str("\"/>\n");
            }
            text.push_str("<path ");
            text.push_str(style);
            text.push_str("d=\"");
            open = Some(style);
        }
        text.push('M');
        text.push_str(points.trim_end_matches("\"/>").trim_end());
    }
    if open.is_some() {
        text.push_str("\"/>\n");
    }
    text
}

/// Writes the drawing as a PNG file, atomically.
fn write_png(drawing: &impl Drawing, figure: &Figure, path: &Path) -> Result<(), ReportError> {
    register_bundled_font();
    let Size { width, height } = drawing.size();
    let (width, height) = (width as u32 * PNG_SCALE, height as u32 * PNG_SCALE);
    let large = (width * SAMPLES, height * SAMPLES);
    let mut samples = vec![0; large.0 as usize * large.1 as usize * 3];
    let area = RoundJoins(BitMapBackend::with_buffer(&mut samples, large)).into_drawing_area();
    let canvas = Canvas::new(&area, f64::from(PNG_SCALE * SAMPLES), PNG_BASELINE, MissingGlyphs::Canvas);
    area.fill(&WHITE)
        .and_then(|()| drawing.draw(&canvas))
        .and_then(|()| area.present())
        .map_err(|error| draw_error(figure, &error))?;
    drop(area);
    let pixels = downsample(&samples, large.0 as usize, SAMPLES as usize);

    let file = encode_png(&pixels, width, height).map_err(|error| draw_error(figure, &error))?;
    Ok(write_whole(path, |writer| writer.write_all(&file))?)
}

/// Encodes RGB pixels, in rows from the top, as a PNG file.
fn encode_png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

/// Averages each `side` × `side` block of RGB samples into a pixel; a row has `width` samples.
fn downsample(samples: &[u8], width: usize, side: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(samples.len() / (side * side));
    for rows in samples.chunks_exact(width * 3 * side) {
        for pixel in 0..width / side {
            for channel in 0..3 {
                let sum: usize = (0..side * side)
                    .map(|sample| (sample / side * width + pixel * side + sample % side) * 3 + channel)
                    .map(|index| usize::from(rows[index]))
                    .sum();
                pixels.push((sum / (side * side)) as u8);
            }
        }
    }
    pixels
}

fn draw_error(figure: &Figure, error: &impl std::fmt::Display) -> ReportError {
    ReportError::Figure { figure: figure.name.clone(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_style_become_one_path() {
        let marks = "<polyline s=\"1\" points=\"0,0 1,1 \"/>\n<polyline s=\"1\" points=\"2,2 3,3 \"/>\n<circle/>\n\
                     <polyline s=\"2\" points=\"4,4 5,5 \"/>\n<text>\n<polyline\n</text>\n</svg>";
        assert_eq!(
            merge_polylines(marks),
            "<path s=\"1\" d=\"M0,0 1,1M2,2 3,3\"/>\n<circle/>\n<path s=\"2\" d=\"M4,4 5,5\"/>\n<text>\n<polyline\n</text>\n\
             </svg>\n"
        );
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_samples() {
        let row = |values: [u8; 4]| values.map(|value| [value; 3]).concat();
        let samples = [row([0, 4, 8, 8]), row([0, 4, 8, 8])].concat();
        assert_eq!(downsample(&samples, 4, 2), [2, 2, 2, 8, 8, 8]);
    }
}
