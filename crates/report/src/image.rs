//! A drawing as SVG text or as a PNG file.

use std::path::Path;

use minijinja::HtmlEscape;
use plotters::prelude::{BitMapBackend, DrawingBackend, IntoDrawingArea, SVGBackend, WHITE};

use crate::{
    ReportError,
    canvas::{Canvas, prepare_font},
    draw::Drawing,
    figure::Figure,
};

/// Where an SVG will stand.
#[derive(Clone, Copy)]
pub(crate) enum Frame<'a> {
    /// In a file of its own: a fixed size on white.
    File,
    /// In the page, which gives it size and colours; the text says what it shows and is empty for an ornament.
    Page(&'a str),
}

/// Quarter pixels are fine enough for curves.
const SVG_SCALE: f64 = 4.0;
/// PNGs have two pixels to a CSS pixel, …
const PNG_SCALE: u32 = 2;
/// … each the mean of 3 × 3 drawn ones: plotters itself smooths neither polygons nor thick lines.
const SAMPLES: u32 = 3;

/// Where plotters' SVG backend puts the baseline of a text: it says `dy="0.76em"`.
const SVG_BASELINE: f64 = 0.76;
/// Where its bitmap backend does: at half of the font's line of 1.24 em.
const PNG_BASELINE: f64 = 0.62;

/// The drawing as SVG; `figure` is what it belongs to.
pub(crate) fn svg(drawing: &impl Drawing, figure: &Figure, frame: Frame<'_>) -> Result<String, ReportError> {
    prepare_font();
    let (width, height) = drawing.size();
    let size = ((width * SVG_SCALE) as u32, (height * SVG_SCALE) as u32);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    drawing
        .draw(&Canvas::new(&area, SVG_SCALE, SVG_BASELINE))
        .and_then(|()| area.present())
        .map_err(|error| refused(figure, &error))?;
    drop(area);
    // XML has no room for control characters, and names come from anywhere.
    text.retain(|character| character == '\n' || !character.is_control());
    let marks = joined(text.split_once('>').map_or("", |(_, marks)| marks).trim_start());
    let view = format!("viewBox=\"0 0 {} {}\" stroke-linejoin=\"round\"", size.0, size.1);
    Ok(match frame {
        Frame::File => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" {view}>\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n{marks}",
            HtmlEscape(&figure.title)
        ),
        Frame::Page("") => format!("<svg {view} aria-hidden=\"true\">\n{marks}"),
        Frame::Page(description) => {
            let description = HtmlEscape(description);
            format!(
                "<svg {view} role=\"img\" aria-label=\"{description}\">\n<title>{description}</title>\n{marks}"
            )
        }
    })
}

/// The marks with lines of one style that follow each other made one path: a dashed curve is hundreds of them.
fn joined(marks: &str) -> String {
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

/// Writes the drawing as a PNG file, whole or not at all.
pub(crate) fn write_png(drawing: &impl Drawing, figure: &Figure, path: &Path) -> Result<(), ReportError> {
    prepare_font();
    let (width, height) = drawing.size();
    let (width, height) = (width as u32 * PNG_SCALE, height as u32 * PNG_SCALE);
    let large = (width * SAMPLES, height * SAMPLES);
    let mut samples = vec![0; large.0 as usize * large.1 as usize * 3];
    let area = BitMapBackend::with_buffer(&mut samples, large).into_drawing_area();
    area.fill(&WHITE)
        .and_then(|()| drawing.draw(&Canvas::new(&area, f64::from(PNG_SCALE * SAMPLES), PNG_BASELINE)))
        .and_then(|()| area.present())
        .map_err(|error| refused(figure, &error))?;
    drop(area);
    let pixels = averaged(&samples, large.0 as usize, SAMPLES as usize);

    // The backend encodes into a path of its own choice of moment, so it gets one aside.
    let aside = path.with_file_name(format!(".{}.{}.partial.png", figure.name, std::process::id()));
    let mut encoder = BitMapBackend::new(&aside, (width, height));
    let encoded = encoder.blit_bitmap((0, 0), (width, height), &pixels).and_then(|()| encoder.present());
    drop(encoder);
    if let Err(error) = encoded {
        let _ = fs_err::remove_file(&aside);
        return Err(refused(figure, &error));
    }
    Ok(fs_err::rename(&aside, path)?)
}

/// RGB pixels of which each is the mean of `side` × `side` of `samples`, which are `width` to a row.
fn averaged(samples: &[u8], width: usize, side: usize) -> Vec<u8> {
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

fn refused(figure: &Figure, error: &impl std::fmt::Display) -> ReportError {
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
            joined(marks),
            "<path s=\"1\" d=\"M0,0 1,1M2,2 3,3\"/>\n<circle/>\n<path s=\"2\" d=\"M4,4 5,5\"/>\n<text>\n<polyline\n</text>\n\
             </svg>\n"
        );
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_samples() {
        let row = |values: [u8; 4]| values.map(|value| [value; 3]).concat();
        let samples = [row([0, 4, 8, 8]), row([0, 4, 8, 8])].concat();
        assert_eq!(averaged(&samples, 4, 2), [2, 2, 2, 8, 8, 8]);
    }
}
