//! Planes of luma and chroma to RGB, as libavif does it: chroma between samples by their distance, arithmetic in floats.

/// Where chroma samples lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// There are none.
    Grey,
    /// One for each pixel.
    Full,
    /// One for two pixels of a row and, with `rows`, of two rows.
    Halved { rows: bool },
}

/// How colours are made of luma and chroma.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Matrix {
    /// By the weights of red and of blue in luma.
    Weights(f32, f32),
    /// Green, blue and red themselves.
    Identity,
    /// Green against the mean of red and blue, and orange against them.
    YCgCo,
}

impl Matrix {
    /// By the numbers of ITU-T H.273.
    pub fn of(number: u16) -> Option<Matrix> {
        match number {
            0 => Some(Matrix::Identity),
            1 => Some(Matrix::Weights(0.2126, 0.0722)),
            // What is not said is taken for BT.601, as by libavif.
            2 | 5 | 6 => Some(Matrix::Weights(0.299, 0.114)),
            4 => Some(Matrix::Weights(0.30, 0.11)),
            7 => Some(Matrix::Weights(0.212, 0.087)),
            8 => Some(Matrix::YCgCo),
            9 => Some(Matrix::Weights(0.2627, 0.0593)),
            _ => None,
        }
    }
}

/// Samples of one kind.
pub(super) struct Plane {
    samples: Vec<u16>,
    stride: usize,
}

impl Plane {
    /// Rows of samples of one byte, or of two in this machine's order, `stride` bytes apart.
    pub fn new(bytes: &[u8], stride: usize, wide: bool) -> Plane {
        if wide {
            let samples = bytes.as_chunks().0.iter().map(|&pair| u16::from_ne_bytes(pair)).collect();
            Plane { samples, stride: stride / 2 }
        } else {
            Plane { samples: bytes.iter().map(|&byte| u16::from(byte)).collect(), stride }
        }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        f32::from(self.samples[y * self.stride + x])
    }

    fn holds(&self, width: usize, height: usize) -> bool {
        width <= self.stride && (height - 1) * self.stride + width <= self.samples.len()
    }
}

/// A picture in planes.
pub(super) struct Yuv {
    layout: Layout,
    bits: u32,
    matrix: Matrix,
    full_range: bool,
    luma: Plane,
    chroma: Option<[Plane; 2]>,
}

impl Yuv {
    /// A picture of `size`; nothing if its planes do not fill it.
    pub fn new(
        (width, height): (usize, usize),
        layout: Layout,
        bits: u32,
        (matrix, full_range): (Matrix, bool),
        (luma, chroma): (Plane, Option<[Plane; 2]>),
    ) -> Option<Yuv> {
        let (across, down) = chroma_size(layout, width, height);
        let whole = luma.holds(width, height)
            && (layout == Layout::Grey) == chroma.is_none()
            && chroma.iter().flatten().all(|plane| plane.holds(across, down));
        whole.then_some(Yuv { layout, bits, matrix, full_range, luma, chroma })
    }

    /// `[height, width, 3]`.
    pub fn rgb(&self, width: usize, height: usize) -> Vec<u8> {
        let highest = (1u32 << self.bits) as f32 - 1.0;
        let unit = (1u32 << (self.bits - 8)) as f32;
        // Identity has no chroma: all three are scaled as luma is.
        let (floor, luma_range, chroma_range) = match self.full_range {
            true => (0.0, highest, highest),
            false if self.matrix == Matrix::Identity => (16.0 * unit, 219.0 * unit, 219.0 * unit),
            false => (16.0 * unit, 219.0 * unit, 224.0 * unit),
        };
        let middle = match self.matrix {
            Matrix::Identity => floor,
            _ => 128.0 * unit,
        };
        let (across, down) = chroma_size(self.layout, width, height);
        let mut data = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let luma = (self.luma.at(x, y) - floor) / luma_range;
                let Some(planes) = &self.chroma else {
                    data.extend([byte(luma); 3]);
                    continue;
                };
                let [cb, cr] = [&planes[0], &planes[1]]
                    .map(|plane| (self.between(plane, (x, y), (across, down)) - middle) / chroma_range);
                data.extend(self.colour(luma, cb, cr).map(byte));
            }
        }
        data
    }

    /// A chroma plane's value at a pixel: of the samples around it, the nearer ones count thrice.
    fn between(&self, plane: &Plane, (x, y): (usize, usize), (across, down): (usize, usize)) -> f32 {
        let Layout::Halved { rows } = self.layout else { return plane.at(x, y) };
        let around = |at: usize, count: usize| {
            let near = at / 2;
            let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count - 1) };
            (near, far)
        };
        let (near, far) = around(x, across);
        let row = |y: usize| plane.at(near, y) * 0.75 + plane.at(far, y) * 0.25;
        if !rows {
            return row(y);
        }
        let (near, far) = around(y, down);
        row(near) * 0.75 + row(far) * 0.25
    }

    fn colour(&self, luma: f32, cb: f32, cr: f32) -> [f32; 3] {
        match self.matrix {
            Matrix::Identity => [cr, luma, cb],
            Matrix::YCgCo => {
                let rest = luma - cb;
                [rest + cr, luma + cb, rest - cr]
            }
            Matrix::Weights(red, blue) => {
                let r = luma + 2.0 * (1.0 - red) * cr;
                let b = luma + 2.0 * (1.0 - blue) * cb;
                let green = 1.0 - red - blue;
                let g = luma - 2.0 * (red * (1.0 - red) * cr + blue * (1.0 - blue) * cb) / green;
                [r, g, b]
            }
        }
    }
}

/// Chroma samples in a row and in a column.
fn chroma_size(layout: Layout, width: usize, height: usize) -> (usize, usize) {
    match layout {
        Layout::Grey | Layout::Full => (width, height),
        Layout::Halved { rows } => (width.div_ceil(2), if rows { height.div_ceil(2) } else { height }),
    }
}

/// A share of white as a byte.
fn byte(share: f32) -> u8 {
    (share.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}
