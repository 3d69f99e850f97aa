//! Drawings as vector PDF files of one page, with the glyphs that they use.

use std::{collections::BTreeMap, convert::Infallible};

use ab_glyph::{Font, FontRef, GlyphId};
use pdf_writer::{
    Content, Finish, Name, Pdf, Rect, Ref, Str,
    types::{CidFontType, FontFlags, LineCapStyle, LineJoinStyle, SystemInfo, UnicodeCmap},
};
use plotters::{prelude::IntoDrawingArea, style::text_anchor::HPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};
use subsetter::GlyphRemapper;

use super::{
    canvas::{Canvas, MissingGlyphs, Size},
    draw::Drawing,
    font::{BYTES, LINE_HEIGHT, register_bundled_font},
};

/// Backend units per CSS pixel.
const SCALE: f64 = 20.0;
/// Distance from the top of a text to its baseline, in ems.
const BASELINE: f64 = 0.76;
/// Units of a glyph's width in a PDF font, per em.
const GLYPH_UNITS: f32 = 1000.0;

/// Objects of the file.
const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const PAGE: Ref = Ref::new(3);
const CONTENT: Ref = Ref::new(4);
const FONT: Ref = Ref::new(5);
const CID_FONT: Ref = Ref::new(6);
const DESCRIPTOR: Ref = Ref::new(7);
const FONT_FILE: Ref = Ref::new(8);
const CMAP: Ref = Ref::new(9);
/// First of the graphics states, one for each opacity.
const STATES: i32 = 10;

const FONT_NAME: Name<'static> = Name(b"PRSPCT+Roboto-Regular");
const IDENTITY: SystemInfo<'static> =
    SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// Draws a figure on a page that is `width` points wide.
///
/// Returns `None` if the bundled font cannot be read.
pub(crate) fn pdf(drawing: &impl Drawing, width: f64) -> Option<Vec<u8>> {
    register_bundled_font();
    let size = drawing.size();
    let font = FontRef::try_from_slice(BYTES).ok()?;
    let mut page = Page::new(&font, size, width / (size.width * SCALE));
    let backend = PdfBackend { page: &mut page };
    let area = backend.into_drawing_area();
    drawing
        .draw(&Canvas::new(&area, SCALE, BASELINE, MissingGlyphs::Canvas))
        .and_then(|()| area.present())
        .ok()?;
    drop(area);
    page.finish()
}

/// The content of a page, and the glyphs and opacities that it uses.
struct Page<'a> {
    font: &'a FontRef<'a>,
    size: Size,
    /// Points per backend unit.
    scale: f64,
    content: Content,
    glyphs: GlyphRemapper,
    /// Character and width of each glyph, by its number in the file.
    used: BTreeMap<u16, (char, f32)>,
    /// Opacities in thousandths.
    opacities: Vec<u32>,
}

impl<'a> Page<'a> {
    fn new(font: &'a FontRef<'a>, size: Size, scale: f64) -> Self {
        let mut content = Content::new();
        content.set_line_join(LineJoinStyle::RoundJoin).set_line_cap(LineCapStyle::ButtCap);
        let (glyphs, used) = (GlyphRemapper::new(), BTreeMap::new());
        Self { font, size, scale, content, glyphs, used, opacities: Vec::new() }
    }

    /// Returns a position in points, from the bottom left.
    fn point(&self, (x, y): BackendCoord) -> (f32, f32) {
        let top = self.size.height * SCALE;
        ((f64::from(x) * self.scale) as f32, ((top - f64::from(y)) * self.scale) as f32)
    }

    fn length(&self, units: f64) -> f32 {
        (units * self.scale) as f32
    }

    fn set_colour(&mut self, colour: BackendColor) {
        let thousandths = (colour.alpha * 1000.0).round() as u32;
        let index = self.opacities.iter().position(|known| *known == thousandths).unwrap_or_else(|| {
            self.opacities.push(thousandths);
            self.opacities.len() - 1
        });
        let [red, green, blue] =
            [colour.rgb.0, colour.rgb.1, colour.rgb.2].map(|part| f32::from(part) / 255.0);
        self.content.set_parameters(Name(state_name(index).as_bytes()));
        self.content.set_fill_rgb(red, green, blue).set_stroke_rgb(red, green, blue);
    }

    /// Adds the corners of a path; returns false if there are none.
    fn path(&mut self, corners: impl IntoIterator<Item = BackendCoord>) -> bool {
        let mut started = false;
        for corner in corners {
            let (x, y) = self.point(corner);
            if started {
                self.content.line_to(x, y);
            } else {
                self.content.move_to(x, y);
                started = true;
            }
        }
        started
    }

    /// Returns the glyphs of a text as big-endian numbers, and its width in ems.
    fn glyphs(&mut self, text: &str) -> (Vec<u8>, f64) {
        let units = self.font.units_per_em().unwrap_or(GLYPH_UNITS);
        let mut bytes = Vec::with_capacity(2 * text.len());
        let mut width = 0.0;
        for character in text.chars() {
            let GlyphId(glyph) = self.font.glyph_id(character);
            let advance = self.font.h_advance_unscaled(GlyphId(glyph)) / units;
            let number = self.glyphs.remap(glyph);
            self.used.entry(number).or_insert((character, advance * GLYPH_UNITS));
            bytes.extend(number.to_be_bytes());
            width += f64::from(advance);
        }
        (bytes, width)
    }

    /// Returns the file; `None` if the font cannot be subset.
    fn finish(self) -> Option<Vec<u8>> {
        let mut pdf = Pdf::new();
        pdf.catalog(CATALOG).pages(PAGES);
        pdf.pages(PAGES).kids([PAGE]).count(1);
        let mut page = pdf.page(PAGE);
        let [width, height] = [self.size.width, self.size.height].map(|side| self.length(side * SCALE));
        page.media_box(Rect::new(0.0, 0.0, width, height)).parent(PAGES).contents(CONTENT);
        let mut resources = page.resources();
        if !self.used.is_empty() {
            resources.fonts().pair(Name(b"F"), FONT);
        }
        let mut states = resources.ext_g_states();
        for (index, object) in (0..self.opacities.len()).zip(STATES..) {
            states.pair(Name(state_name(index).as_bytes()), Ref::new(object));
        }
        states.finish();
        resources.finish();
        page.finish();
        for (thousandths, object) in self.opacities.iter().zip(STATES..) {
            let opacity = *thousandths as f32 / 1000.0;
            pdf.ext_graphics(Ref::new(object)).non_stroking_alpha(opacity).stroking_alpha(opacity);
        }
        if !self.used.is_empty() {
            write_font(&mut pdf, self.font, &self.glyphs, &self.used)?;
        }
        pdf.stream(CONTENT, &self.content.finish());
        Some(pdf.finish())
    }
}

/// Name of the graphics state with this index.
fn state_name(index: usize) -> String {
    format!("G{index}")
}

/// Writes the used part of the font; `None` if it cannot be subset.
fn write_font(
    pdf: &mut Pdf,
    font: &FontRef<'_>,
    glyphs: &GlyphRemapper,
    used: &BTreeMap<u16, (char, f32)>,
) -> Option<()> {
    pdf.type0_font(FONT)
        .base_font(FONT_NAME)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(CID_FONT)
        .to_unicode(CMAP);
    let mut cid_font = pdf.cid_font(CID_FONT);
    cid_font.subtype(CidFontType::Type2).base_font(FONT_NAME).system_info(IDENTITY);
    cid_font.font_descriptor(DESCRIPTOR).default_width(0.0).cid_to_gid_map_predefined(Name(b"Identity"));
    let mut widths = cid_font.widths();
    for (number, (_, width)) in used {
        widths.consecutive(*number, [*width]);
    }
    widths.finish();
    cid_font.finish();
    let units = font.units_per_em().unwrap_or(GLYPH_UNITS);
    let scaled = |value: f32| value / units * GLYPH_UNITS;
    let (ascent, descent) = (scaled(font.ascent_unscaled()), scaled(font.descent_unscaled()));
    pdf.font_descriptor(DESCRIPTOR)
        .name(FONT_NAME)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(-GLYPH_UNITS, descent, 2.0 * GLYPH_UNITS, ascent))
        .italic_angle(0.0)
        .ascent(ascent)
        .descent(descent)
        .cap_height(ascent)
        .stem_v(80.0)
        .font_file2(FONT_FILE);
    let mut cmap = UnicodeCmap::<u16>::new(Name(b"Custom"), IDENTITY);
    for (number, (character, _)) in used {
        cmap.pair(*number, *character);
    }
    pdf.stream(CMAP, &cmap.finish());
    pdf.stream(FONT_FILE, &subsetter::subset(BYTES, 0, glyphs).ok()?);
    Some(())
}

/// A backend of plotters that writes to a page.
struct PdfBackend<'a, 'f> {
    page: &'a mut Page<'f>,
}

/// Result of drawing; it never fails.
type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// Distance of the control points of a quarter circle, relative to its radius.
const QUARTER: f64 = 0.552_284_75;

impl DrawingBackend for PdfBackend<'_, '_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        let Size { width, height } = self.page.size;
        ((width * SCALE) as u32, (height * SCALE) as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_rect(point, (point.0 + 1, point.1 + 1), &colour, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        if fill {
            self.fill_polygon(corners, style)
        } else {
            self.draw_path([corners[0], corners[1], corners[2], corners[3], corners[0]], style)
        }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.page.set_colour(style.color());
        let width = self.page.length(f64::from(style.stroke_width()));
        self.page.content.set_line_width(width);
        if self.page.path(path) {
            self.page.content.stroke();
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        self.page.set_colour(style.color());
        let width = self.page.length(f64::from(style.stroke_width()));
        let (x, y) = self.page.point(centre);
        let radius = self.page.length(f64::from(radius));
        let control = radius * QUARTER as f32;
        let content = &mut self.page.content;
        content.set_line_width(width).move_to(x + radius, y);
        content.cubic_to(x + radius, y + control, x + control, y + radius, x, y + radius);
        content.cubic_to(x - control, y + radius, x - radius, y + control, x - radius, y);
        content.cubic_to(x - radius, y - control, x - control, y - radius, x, y - radius);
        content.cubic_to(x + control, y - radius, x + radius, y - control, x + radius, y);
        content.close_path();
        if fill {
            content.fill_nonzero();
        } else {
            content.stroke();
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        self.page.set_colour(style.color());
        if self.page.path(corners) {
            self.page.content.close_path().fill_nonzero();
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        self.page.set_colour(style.color());
        let (glyphs, width) = self.page.glyphs(text);
        // plotters sizes fonts by line height.
        let size = style.size() / LINE_HEIGHT;
        let start = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Right => -width,
            HPos::Center => -width / 2.0,
        };
        let (along, down) = ((start * size) as i32, (BASELINE * size) as i32);
        let (position, [a, b, c, d]) = match style.transform() {
            FontTransform::Rotate270 => ((x + down, y - along), [0.0, 1.0, -1.0, 0.0]),
            _ => ((x + along, y + down), [1.0, 0.0, 0.0, 1.0]),
        };
        let (left, baseline) = self.page.point(position);
        let size = self.page.length(size);
        let content = &mut self.page.content;
        content.begin_text().set_font(Name(b"F"), size).set_text_matrix([a, b, c, d, left, baseline]);
        content.show(Str(&glyphs)).end_text();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use plotters::style::text_anchor::HPos;

    use super::*;
    use crate::render::{
        canvas::{DrawResult, VerticalAnchor},
        style::INK,
    };

    struct Sample;

    impl Drawing for Sample {
        fn size(&self) -> Size {
            Size { width: 200.0, height: 100.0 }
        }

        fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> DrawResult<B> {
            canvas.line(&[(0.0, 0.0), (200.0, 100.0)], INK, 0.5, 1.0)?;
            canvas.disc((50.0, 50.0), 4.0, INK, 1.0)?;
            canvas.text("−1 β π", (10.0, 20.0), HPos::Left, VerticalAnchor::Top, 12.0, 1.0)
        }
    }

    #[test]
    fn a_page_has_the_width_of_a_column_and_searchable_text() {
        let bytes = pdf(&Sample, 240.0).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-1.7") && text.contains("/MediaBox [0 0 240 120]"), "{text}");
        // Diagonal over the page, at half opacity.
        assert!(text.contains("0 120 m\n240 0 l\nS") && text.contains("/CA 0.5"), "{text}");
        // The minus sign, β and π are in the map from glyphs to characters.
        for character in ["<2212>", "<03B2>", "<03C0>"] {
            assert!(text.contains(character), "{character}");
        }
        assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
        assert_eq!(Some(bytes), pdf(&Sample, 240.0));
    }
}
