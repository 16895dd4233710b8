//! Conversions to RGB with the rounding of libjpeg and Pillow.

/// Converts the first three channels of every pixel from YCbCr to RGB, in libjpeg's 16-bit fixed point.
pub(super) fn ycc_to_rgb(data: &mut [u8], channels: usize) {
    const HALF: i32 = 1 << 15;
    for pixel in data.chunks_exact_mut(channels) {
        let [y, cb, cr, ..] = *pixel else { return };
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let channel = |value: i32| value.clamp(0, 255) as u8;
        // 1.402, 0.344136286, 0.714136286 and 1.772 times 65536.
        pixel[0] = channel(y + ((91881 * cr + HALF) >> 16));
        pixel[1] = channel(y + ((-22554 * cb - 46802 * cr + HALF) >> 16));
        pixel[2] = channel(y + ((116_130 * cb + HALF) >> 16));
    }
}

/// Ink to light as Pillow has it: no colour management, each ink dims what black leaves. Channels beyond the fourth
/// are passed over.
pub(super) fn cmyk_to_rgb(data: &[u8], channels: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() / channels * 3);
    for pixel in data.chunks_exact(channels) {
        let light = 255 - i32::from(pixel[3]);
        out.extend(pixel[..3].iter().map(|&ink| {
            let product = i32::from(ink) * light + 128;
            (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
        }));
    }
    out
}
