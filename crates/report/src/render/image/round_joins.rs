//! Thick lines with round joins in bitmaps.

use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

/// Bitmap backend that draws every segment of a thick opaque line on its own, with discs where they
/// meet.
///
/// Plotters turns a whole line into one polygon, whose inner corners stick out as spikes where the
/// line turns sharply within less than its width.
pub(super) struct RoundJoins<B>(pub(super) B);

/// Width from which a line has joins that are visible, in samples.
const THICK: u32 = 3;

impl<B: DrawingBackend> DrawingBackend for RoundJoins<B> {
    type ErrorType = B::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.present()
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        colour: BackendColor,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.draw_pixel(point, colour)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        let (width, is_opaque) = (style.stroke_width(), style.color().alpha >= 1.0);
        if width < THICK || !is_opaque {
            return self.0.draw_path(points, style);
        }
        for ends in points.windows(2) {
            self.0.draw_path([ends[0], ends[1]], style)?;
        }
        for ends in points.windows(3) {
            self.0.draw_circle(ends[1], width / 2, style, true)?;
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.draw_circle(centre, radius, style, fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.fill_polygon(corners, style)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        position: BackendCoord,
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        self.0.draw_text(text, style, position)
    }
}

#[cfg(test)]
mod tests {
    use plotters::{
        prelude::{BLACK, BitMapBackend},
        style::Color,
    };

    use super::*;

    /// Largest distance of a dark sample from the line, in samples.
    fn spread(draw: impl FnOnce(BitMapBackend<'_>, [BackendCoord; 5])) -> f64 {
        let (width, height) = (200, 100);
        let points = [(20, 80), (100, 78), (103, 20), (105, 80), (180, 78)];
        let mut samples = vec![255; width * height * 3];
        draw(BitMapBackend::with_buffer(&mut samples, (width as u32, height as u32)), points);
        let distance = |(x, y): (f64, f64)| {
            let to_segment = |ends: &[BackendCoord]| {
                let [a, b] = [ends[0], ends[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
                let (along, across) = (b.0 - a.0, b.1 - a.1);
                let share = ((x - a.0) * along + (y - a.1) * across) / along.hypot(across).powi(2);
                let share = share.clamp(0.0, 1.0);
                (x - a.0 - share * along).hypot(y - a.1 - share * across)
            };
            points.windows(2).map(to_segment).fold(f64::INFINITY, f64::min)
        };
        let is_dark = |index: &usize| samples[3 * index] < 128;
        let place = |index: usize| ((index % width) as f64, (index / width) as f64);
        (0..width * height).filter(is_dark).map(|index| distance(place(index))).fold(0.0, f64::max)
    }

    #[test]
    fn sharp_turns_have_no_spikes() {
        let style = BLACK.filled().stroke_width(12);
        let plain = spread(|mut backend, points| backend.draw_path(points, &style).unwrap());
        assert!(plain > 10.0, "plotters no longer draws spikes ({plain}): remove RoundJoins");
        let joined = spread(|backend, points| RoundJoins(backend).draw_path(points, &style).unwrap());
        assert!((5.0..8.0).contains(&joined), "{joined}");
    }
}
