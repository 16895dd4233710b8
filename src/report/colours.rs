//! Scales of colours for numbers.

/// Viridis, which seems to grow evenly in any print and to most eyes.
const SEQUENTIAL: [u32; 20] = [
    0x440154, 0x481567, 0x482677, 0x453781, 0x404788, 0x39568c, 0x33638d, 0x2d708e, 0x287d8e, 0x238a8d, 0x1f968b,
    0x20a387, 0x29af7f, 0x3cbb75, 0x55c667, 0x73d055, 0x95d840, 0xb8de29, 0xdce319, 0xfde725,
];
/// From blue by a light grey to orange, both ends equally dark.
const DIVERGING: [u32; 9] = [0x16508f, 0x3b7fc0, 0x82b0dc, 0xc3d9ed, 0xf3f3f2, 0xf8d9b8, 0xeea966, 0xd0741f, 0x8e4708];

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// The colour of `share`, 0 to 1.
pub(super) fn colour(share: f64, diverging: bool) -> Colour {
    let table: &[u32] = if diverging { &DIVERGING } else { &SEQUENTIAL };
    let at = share.clamp(0.0, 1.0) * (table.len() - 1) as f64;
    let first = (at as usize).min(table.len() - 2);
    let part = at - first as f64;
    [16, 8, 0].map(|shift| {
        let sample = |at: usize| f64::from(table[at] >> shift & 0xff);
        (sample(first) * (1.0 - part) + sample(first + 1) * part).round() as u8
    })
}

/// A colour as SVG writes it.
pub(super) fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
