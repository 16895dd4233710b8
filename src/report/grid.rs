//! A picture grid of predictions: what the picture shows, what each method takes it for, and which of them are right.
//!
//! Drawn without a font file or a drawing library: letters come from an 8×8 bitmap font, set twice as high as wide so
//! that all strokes are two pixels thick, and spaced by their own widths.

use std::borrow::Cow;
use std::path::Path;

use font8x8::UnicodeFonts;
use image::{ExtendedColorType, ImageEncoder, codecs::png};

use crate::data::{Rgb, resize_bicubic};
use crate::files::write_atomic;
use crate::output::mark_png;
use crate::{Error, Result};

/// One picture of the grid.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The picture, of any size and aspect.
    pub picture: Rgb,
    /// The class it belongs to.
    pub truth: String,
    /// What the methods say, one line each, in this order.
    pub predictions: Vec<Prediction>,
}

/// What one method says about a picture.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The method's name.
    pub method: String,
    /// The class it found most likely.
    pub class: String,
    /// Its probability, 0 to 1.
    pub probability: f64,
    /// Whether that is the truth.
    pub correct: bool,
}

/// Margin around everything.
const MARGIN: usize = 24;
/// Between cards, both ways.
const GAP: usize = 14;
/// From a card's edge to what it holds.
const INSET: usize = 14;
/// Radius of a card's corners.
const RADIUS: f32 = 8.0;
/// The square that a picture is fitted into.
const PICTURE: usize = 128;
/// Room for the frame and some white between it and the picture, on each side.
const FRAME: usize = 6;
/// From the picture's frame to the truth, and from there to the first method.
const TRUTH_GAP: usize = 12;
/// From the top of one method's line to the next.
const LINE: usize = 23;
/// The square that a mark is drawn into.
const MARK: usize = 14;
/// Between a mark and its text, and between text and percentage.
const SPACE: usize = 9;
/// Between the lines of the title.
const LEADING: usize = 8;
/// From the title to the cards.
const TITLE_GAP: usize = 20;
/// The widest that a card's text may make it; longer text is cut.
const WIDEST: usize = 280;
/// Larger grids are refused: decoders and viewers give up there, too.
const MAX_PIXELS: usize = 1 << 27;

type Colour = [u8; 3];
const PAGE: Colour = [244, 245, 247];
const CARD: Colour = [255, 255, 255];
const EDGE: Colour = [221, 224, 229];
const INK: Colour = [24, 28, 36];
const SOFT: Colour = [104, 111, 123];
const RIGHT: Colour = [22, 128, 61];
const WRONG: Colour = [200, 30, 30];

/// How large letters are set.
#[derive(Clone, Copy)]
struct Face {
    /// Pixels per font pixel along a line.
    across: usize,
    /// Pixels per font pixel down a line.
    down: usize,
    /// Pixels between letters.
    spacing: usize,
}

const BODY: Face = Face { across: 1, down: 2, spacing: 2 };
const HEADING: Face = Face { across: 2, down: 3, spacing: 3 };

impl Face {
    /// The font's letters are 8 rows high, the last row for descenders.
    fn height(self) -> usize {
        8 * self.down
    }

    /// The width of `text` as [`Canvas::text`] draws it.
    fn width(self, text: &str) -> usize {
        let advances = text.chars().map(|letter| Glyph::of(letter).width * self.across + self.spacing);
        advances.sum::<usize>().saturating_sub(self.spacing)
    }

    /// `text` itself, or if it is wider than `room` as much of its start as fits with "..", or nothing.
    fn fit(self, text: &str, room: usize) -> Cow<'_, str> {
        if self.width(text) <= room {
            return Cow::Borrowed(text);
        }
        let Some(room) = room.checked_sub(self.width("..")) else { return Cow::Borrowed("") };
        let mut used = 0;
        let fits = text.chars().take_while(|&letter| {
            used += Glyph::of(letter).width * self.across + self.spacing;
            used <= room
        });
        Cow::Owned(format!("{}..", fits.collect::<String>().trim_end()))
    }
}

/// A letter of the font without the empty columns at its sides.
struct Glyph {
    rows: [u8; 8],
    first: usize,
    width: usize,
}

impl Glyph {
    /// The glyph of `letter`; of a question mark if it is not printable ASCII.
    fn of(letter: char) -> Self {
        let letter = if matches!(letter, ' '..='~') { letter } else { '?' };
        let rows = font8x8::BASIC_FONTS.get(letter).unwrap_or_default();
        // Bit 0 is the leftmost column.
        let used = rows.iter().fold(0, |all, row| all | row);
        if used == 0 {
            return Self { rows, first: 0, width: 4 };
        }
        let first = used.trailing_zeros() as usize;
        Self { rows, first, width: 8 - used.leading_zeros() as usize - first }
    }
}

/// A picture to draw on. What lies outside is not drawn.
struct Canvas {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, data: colour.repeat(width * height) }
    }

    /// Mixes `colour` into a pixel; `share` 1 covers it.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, share: f32) {
        if x >= self.width || y >= self.height || share <= 0.0 {
            return;
        }
        let share = share.min(1.0);
        let at = (y * self.width + x) * 3;
        for (sample, new) in self.data[at..at + 3].iter_mut().zip(colour) {
            *sample = (f32::from(*sample) * (1.0 - share) + f32::from(new) * share).round() as u8;
        }
    }

    fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        for row in y..y + height {
            for column in x..x + width {
                self.blend(column, row, colour, 1.0);
            }
        }
    }

    /// A filled rectangle with round corners and smooth edges.
    fn rounded(&mut self, x: usize, y: usize, width: usize, height: usize, radius: f32, colour: Colour) {
        let (half_width, half_height) = (width as f32 / 2.0, height as f32 / 2.0);
        for row in 0..height {
            for column in 0..width {
                // How far the pixel's middle lies beyond the corner's centre, then beyond the edge.
                let right = ((column as f32 + 0.5 - half_width).abs() - half_width + radius).max(0.0);
                let below = ((row as f32 + 0.5 - half_height).abs() - half_height + radius).max(0.0);
                self.blend(x + column, y + row, colour, radius - right.hypot(below) + 0.5);
            }
        }
    }

    /// A round-ended stroke through `points`, given in pixels from (`x`, `y`), within [`MARK`].
    fn stroke(&mut self, x: usize, y: usize, points: &[(f32, f32)], thickness: f32, colour: Colour) {
        for row in 0..MARK {
            for column in 0..MARK {
                let pixel = (column as f32 + 0.5, row as f32 + 0.5);
                let distance =
                    points.windows(2).map(|ends| to_segment(pixel, ends[0], ends[1])).fold(f32::INFINITY, f32::min);
                self.blend(x + column, y + row, colour, thickness / 2.0 - distance + 0.5);
            }
        }
    }

    /// A green tick or a red cross.
    fn mark(&mut self, x: usize, y: usize, correct: bool) {
        if correct {
            self.stroke(x, y, &[(1.6, 7.6), (5.2, 11.2), (12.4, 2.8)], 2.6, RIGHT);
        } else {
            self.stroke(x, y, &[(2.6, 2.6), (11.4, 11.4)], 2.6, WRONG);
            self.stroke(x, y, &[(11.4, 2.6), (2.6, 11.4)], 2.6, WRONG);
        }
    }

    /// One line of text; returns where it ends.
    fn text(&mut self, x: usize, y: usize, face: Face, colour: Colour, text: &str) -> usize {
        let mut left = x;
        for letter in text.chars() {
            let glyph = Glyph::of(letter);
            for (row, bits) in glyph.rows.iter().enumerate() {
                for column in (0..glyph.width).filter(|column| bits >> (glyph.first + column) & 1 == 1) {
                    let (x, y) = (left + column * face.across, y + row * face.down);
                    self.rectangle(x, y, face.across, face.down, colour);
                }
            }
            left += glyph.width * face.across + face.spacing;
        }
        left
    }

    fn picture(&mut self, x: usize, y: usize, picture: &Rgb) {
        for (row, samples) in picture.data.chunks_exact(picture.width * 3).enumerate() {
            for (column, pixel) in samples.chunks_exact(3).enumerate() {
                self.blend(x + column, y + row, [pixel[0], pixel[1], pixel[2]], 1.0);
            }
        }
    }
}

/// The distance of a point from the line between two others.
fn to_segment(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (along, from) = ((b.0 - a.0, b.1 - a.1), (p.0 - a.0, p.1 - a.1));
    let share = ((from.0 * along.0 + from.1 * along.1) / (along.0 * along.0 + along.1 * along.1)).clamp(0.0, 1.0);
    (from.0 - share * along.0).hypot(from.1 - share * along.1)
}

/// Between a method and the class it says.
const COLON: &str = ": ";

/// A prediction's three pieces of text.
struct Line {
    method: String,
    class: String,
    percent: String,
}

impl Line {
    fn new(prediction: &Prediction) -> Self {
        let percent = match prediction.probability {
            p if p.is_finite() => format!("{:.0}%", p * 100.0),
            _ => "?%".to_owned(),
        };
        Self { method: prediction.method.clone(), class: prediction.class.clone(), percent }
    }

    /// The width that holds all of it.
    fn width(&self) -> usize {
        let text = [&self.method, COLON, &self.class].map(|part| BODY.width(part) + BODY.spacing);
        MARK + SPACE + text.iter().sum::<usize>() + SPACE + BODY.width(&self.percent)
    }

    /// Draws it from `x` to `x + width`: cut where it must be, the percentage at the right.
    fn draw(&self, canvas: &mut Canvas, x: usize, y: usize, width: usize, correct: bool) {
        canvas.mark(x, y, correct);
        let percent = BODY.fit(&self.percent, width / 3);
        let percent_x = x + width - BODY.width(&percent);
        canvas.text(percent_x, y, BODY, SOFT, &percent);

        let start = x + MARK + SPACE;
        let end = percent_x.saturating_sub(SPACE).max(start);
        // The class matters more: a long method gets what the class leaves, and half the room in any case.
        let colon = BODY.width(COLON) + 2 * BODY.spacing;
        let for_method = (end - start)
            .saturating_sub(colon + BODY.width(&self.class))
            .max(((end - start) / 2).saturating_sub(colon));
        let colon_x = canvas.text(start, y, BODY, SOFT, &BODY.fit(&self.method, for_method));
        let class_x = canvas.text(colon_x, y, BODY, SOFT, COLON);
        let class = BODY.fit(&self.class, end.saturating_sub(class_x));
        canvas.text(class_x, y, BODY, if correct { RIGHT } else { WRONG }, &class);
    }
}

/// The picture enlarged or shrunk to fit [`PICTURE`], its aspect kept.
fn fitted(picture: &Rgb) -> Rgb {
    let longest = picture.width.max(picture.height);
    let side = |side: usize| ((side * PICTURE + longest / 2) / longest).max(1);
    resize_bicubic(picture, side(picture.width), side(picture.height))
}

/// Draws one card with its top left corner at (`x`, `y`).
fn card(canvas: &mut Canvas, x: usize, y: usize, inner: usize, height: usize, cell: &Cell) {
    let width = inner + 2 * INSET;
    canvas.rounded(x, y, width, height, RADIUS, EDGE);
    canvas.rounded(x + 1, y + 1, width - 2, height - 2, RADIUS - 1.0, CARD);

    let frame = PICTURE + 2 * FRAME;
    let (frame_x, mut y) = (x + (width - frame) / 2, y + INSET);
    canvas.rounded(frame_x, y, frame, frame, 4.0, EDGE);
    canvas.rounded(frame_x + 1, y + 1, frame - 2, frame - 2, 3.0, CARD);
    let picture = fitted(&cell.picture);
    canvas.picture(frame_x + (frame - picture.width) / 2, y + (frame - picture.height) / 2, &picture);

    y += frame + TRUTH_GAP;
    let truth = BODY.fit(&cell.truth, inner);
    canvas.text(x + (width - BODY.width(&truth)) / 2, y, BODY, INK, &truth);

    y += BODY.height() + TRUTH_GAP;
    for prediction in &cell.predictions {
        Line::new(prediction).draw(canvas, x + INSET, y, inner, prediction.correct);
        y += LINE;
    }
}

/// Draws the whole grid.
fn compose(title: &str, cells: &[Cell], columns: usize) -> Result<Canvas> {
    if cells.is_empty() {
        return Err(Error::invalid("a grid needs at least one picture"));
    }
    let columns = columns.clamp(1, cells.len());
    let rows = cells.len().div_ceil(columns);

    // All cards are as large as the one that needs most.
    let lines = cells.iter().flat_map(|cell| &cell.predictions).map(|prediction| Line::new(prediction).width());
    let text = lines.chain(cells.iter().map(|cell| BODY.width(&cell.truth))).max().unwrap_or(0);
    let inner = text.clamp(PICTURE + 2 * FRAME, WIDEST);
    let methods = cells.iter().map(|cell| cell.predictions.len()).max().unwrap_or(0);
    let truth_end = INSET + PICTURE + 2 * FRAME + TRUTH_GAP + BODY.height();
    let card_height = truth_end + if methods > 0 { TRUTH_GAP + methods * LINE - (LINE - MARK) } else { 0 } + INSET;
    let card_width = inner + 2 * INSET;

    let width = 2 * MARGIN + columns * (card_width + GAP) - GAP;
    // A title that is too wide is set smaller before it is cut.
    let headings: Vec<_> = title
        .lines()
        .enumerate()
        .map(|(at, line)| {
            let large = at == 0 && HEADING.width(line) <= width - 2 * MARGIN;
            (if large { HEADING } else { BODY }, if at == 0 { INK } else { SOFT }, line)
        })
        .collect();
    let header = match headings.iter().map(|(face, ..)| face.height() + LEADING).sum::<usize>() {
        0 => 0,
        lines => lines - LEADING + TITLE_GAP,
    };
    let height = 2 * MARGIN + header + rows * (card_height + GAP) - GAP;
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Error::invalid(format!(
            "a grid of {} pictures would be {width}x{height} pixels large; give fewer pictures",
            cells.len()
        )));
    }

    let mut canvas = Canvas::new(width, height, PAGE);
    let mut top = MARGIN;
    for (face, colour, line) in headings {
        canvas.text(MARGIN, top, face, colour, &face.fit(line, width - 2 * MARGIN));
        top += face.height() + LEADING;
    }
    for (at, cell) in cells.iter().enumerate() {
        let x = MARGIN + at % columns * (card_width + GAP);
        let y = MARGIN + header + at / columns * (card_height + GAP);
        card(&mut canvas, x, y, inner, card_height, cell);
    }
    Ok(canvas)
}

/// Draws the grid as a PNG, `columns` pictures to a row (taken as at least 1 and at most their number).
///
/// The title's first line is set large, further lines small; an empty title takes no room. Each picture has a card
/// with the truth and a line per method, marked with a tick or a cross. Text that is too long is cut and ends in "..";
/// letters beyond ASCII appear as "?".
///
/// # Errors
///
/// [`Error::Invalid`] without cells, or with so many that the picture would exceed 2²⁷ pixels.
pub fn draw_grid(title: &str, cells: &[Cell], columns: usize) -> Result<Vec<u8>> {
    let canvas = compose(title, cells, columns)?;
    let mut bytes = Vec::new();
    png::PngEncoder::new_with_quality(&mut bytes, png::CompressionType::Best, png::FilterType::Adaptive)
        .write_image(&canvas.data, canvas.width as u32, canvas.height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| Error::invalid(format!("the grid cannot be drawn: {error}")))?;
    Ok(mark_png(&bytes))
}

#[doc(hidden)]
/// [`draw_grid`] to a file, which is complete or, on an error, untouched.
///
/// # Errors
///
/// As [`draw_grid`]; [`Error::Io`] with `path` if the folder does not exist or cannot be written to.
pub fn write_grid(path: &Path, title: &str, cells: &[Cell], columns: usize) -> Result<()> {
    write_atomic(path, &draw_grid(title, cells, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn prediction(method: &str, class: &str, probability: f64, correct: bool) -> Prediction {
        Prediction { method: method.into(), class: class.into(), probability, correct }
    }

    fn cell(truth: &str, predictions: Vec<Prediction>) -> Cell {
        Cell { picture: Rgb::new(2, 1, vec![9; 6]).unwrap(), truth: truth.into(), predictions }
    }

    fn fish() -> Cell {
        cell("fish", vec![prediction("a", "fish", 0.41, true), prediction("b", "cow", 0.2, false)])
    }

    /// Whether all pixels of a rectangle have one colour.
    fn plain(canvas: &Canvas, x: std::ops::Range<usize>, y: std::ops::Range<usize>, colour: Colour) -> bool {
        y.into_iter().all(|y| x.clone().all(|x| canvas.data[(y * canvas.width + x) * 3..][..3] == colour))
    }

    #[test]
    fn the_size_follows_from_the_layout() {
        let size = |title: &str, cells: &[Cell], columns| {
            let canvas = compose(title, cells, columns).unwrap();
            assert_eq!(canvas.data.len(), canvas.width * canvas.height * 3);
            (canvas.width, canvas.height)
        };
        let cells = vec![fish(); 5];
        // Cards of 168 × 245: a frame of 140, the truth, two methods, and what lies between.
        assert_eq!(size("", &cells[..1], 1), (48 + 168, 48 + 245));
        assert_eq!(size("", &cells, 3), (48 + 3 * 168 + 2 * 14, 48 + 2 * 245 + 14));
        assert_eq!(size("short", &cells, 3), (48 + 3 * 168 + 2 * 14, 48 + 24 + 20 + 2 * 245 + 14));
        assert_eq!(size("short\nmore", &cells, 5), (48 + 5 * 168 + 4 * 14, 48 + 24 + 8 + 16 + 20 + 245));
        // As many columns as pictures at most, one at least.
        assert_eq!(size("", &cells, usize::MAX), size("", &cells, 5));
        assert_eq!(size("", &cells, 0), size("", &cells, 1));
        // All cards are as high as the one with the most methods, and none is needed.
        assert_eq!(size("", &[cell("fish", vec![]), fish()], 1), (48 + 168, 48 + 2 * 245 + 14));
        assert_eq!(size("", &[cell("fish", vec![])], 1), (48 + 168, 48 + 196));
    }

    #[test]
    fn right_and_wrong_differ_in_shape_not_only_in_colour() {
        let shape = |correct| {
            let mut canvas = Canvas::new(MARK, MARK, CARD);
            canvas.mark(0, 0, correct);
            // Marks keep off the border, so nothing was cut.
            assert!(plain(&canvas, 0..MARK, 0..1, CARD) && plain(&canvas, 0..MARK, MARK - 1..MARK, CARD));
            canvas.data.chunks(3).map(|pixel| pixel.iter().any(|&v| v < 128)).collect::<Vec<_>>()
        };
        let (tick, cross) = (shape(true), shape(false));
        let differ = tick.iter().zip(&cross).filter(|(a, b)| a != b).count();
        assert!(differ > MARK * MARK / 5, "{differ} pixels differ");
        // A cross is its own mirror image, a tick is not.
        let mirror = |shape: &[bool]| shape.chunks(MARK).flat_map(|row| row.iter().rev().copied()).collect::<Vec<_>>();
        assert_eq!(mirror(&cross), cross);
        assert_ne!(mirror(&tick), tick);
    }

    #[test]
    fn long_names_stay_inside_the_card() {
        let long = "a name that goes on and on ".repeat(9);
        let texts = [("m", "c"), ("m", &long), (&long, "c"), (&long, &long), ("", ""), ("\u{1f41f}\n", "\u{7f}")];
        let predictions = texts
            .iter()
            .zip([0.5, f64::NAN, 1e300, -1.0, 1.0, f64::INFINITY])
            .map(|((m, c), p)| prediction(m, c, p, true));
        let canvas = compose(&long, &[cell(&long, predictions.collect())], 1).unwrap();
        let (width, height) = (canvas.width, canvas.height);
        assert_eq!(width, 2 * MARGIN + 2 * INSET + WIDEST);
        assert!(plain(&canvas, 0..MARGIN, 0..height, PAGE) && plain(&canvas, width - MARGIN..width, 0..height, PAGE));
        // Within the card, below the rounded corners, nothing but its edge leaves the inset.
        let rows = MARGIN + 60..height - MARGIN - 10;
        for x in [MARGIN + 1..MARGIN + INSET, width - MARGIN - INSET..width - MARGIN - 1] {
            assert!(plain(&canvas, x, rows.clone(), CARD));
        }
        let bottom = height - MARGIN;
        assert!(plain(&canvas, MARGIN + 10..width - MARGIN - 10, bottom - 8..bottom - 1, CARD));
    }

    #[test]
    fn a_cut_text_fits_and_says_so() {
        let text = "Tip-Adapter-F: fox";
        for face in [BODY, HEADING] {
            assert_eq!(face.fit(text, face.width(text)), text);
            for room in 0..face.width(text) {
                let cut = face.fit(text, room);
                assert!(face.width(&cut) <= room, "{cut} in {room}");
                assert!(cut.is_empty() && room < face.width("..") || cut.ends_with(".."), "{cut} in {room}");
                assert!(text.starts_with(cut.trim_end_matches('.')), "{cut}");
            }
        }
        assert_eq!(BODY.fit("fox hound", BODY.width("fox ..")), "fox..");
    }

    #[test]
    fn a_line_takes_the_width_it_says() {
        let line = Line::new(&prediction("zero-shot", "fish", 0.414, false));
        assert_eq!(line.percent, "41%");
        let mut roomy = Canvas::new(line.width() + 40, LINE, CARD);
        line.draw(&mut roomy, 20, 0, line.width(), false);
        let mut reference = Canvas::new(line.width() + 40, LINE, CARD);
        reference.mark(20, 0, false);
        let colon = reference.text(20 + MARK + SPACE, 0, BODY, SOFT, "zero-shot");
        let class = reference.text(colon, 0, BODY, SOFT, ": ");
        reference.text(class, 0, BODY, WRONG, "fish");
        reference.text(20 + line.width() - BODY.width("41%"), 0, BODY, SOFT, "41%");
        assert_eq!(roomy.data, reference.data, "something was cut");
    }

    #[test]
    fn every_printable_letter_has_a_glyph_and_the_rest_is_a_question_mark() {
        for letter in '!'..='~' {
            let glyph = Glyph::of(letter);
            assert!(glyph.rows != [0; 8] && (1..=8 - glyph.first).contains(&glyph.width), "{letter}");
        }
        for letter in ['\0', '\n', '\u{7f}', 'ü', '魚'] {
            assert_eq!(Glyph::of(letter).rows, Glyph::of('?').rows);
        }
    }

    #[test]
    fn pictures_keep_their_aspect() {
        for ((width, height), expected) in
            [((64, 64), (128, 128)), ((2, 1), (128, 64)), ((300, 400), (96, 128)), ((1, 9000), (1, 128))]
        {
            let out = fitted(&Rgb::new(width, height, vec![7; width * height * 3]).unwrap());
            assert_eq!((out.width, out.height), expected, "{width}x{height}");
            assert!(out.data.iter().all(|&v| v == 7));
        }
    }

    #[test]
    fn the_file_is_the_grid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        fs::write(&path, "old").unwrap();
        write_grid(&path, "fish", &[fish(), fish()], 2).unwrap();
        let (canvas, read) = (compose("fish", &[fish(), fish()], 2).unwrap(), image::open(&path).unwrap().into_rgb8());
        assert_eq!((read.width() as usize, read.height() as usize), (canvas.width, canvas.height));
        assert_eq!(read.into_raw(), canvas.data);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failures_name_the_path_and_leave_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        fs::write(&path, "old").unwrap();
        for cells in [vec![], vec![fish(); 4000]] {
            let error = write_grid(&path, "", &cells, 4).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // A missing folder, and a file where a folder should be.
        for path in [folder.path().join("missing/grid.png"), path.join("grid.png")] {
            let error = write_grid(&path, "", &[fish()], 1).unwrap_err();
            assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
