//! Turning a picture as its EXIF orientation asks.

use image::metadata::Orientation;

use super::frame::{Frame, sized};

/// Writes the turned picture to `out` and returns its frame.
pub(super) fn turn(frame: Frame, pixels: &[u8], orientation: Orientation, out: &mut Vec<u8>) -> Frame {
    let (width, height) = (frame.width as isize, frame.height as isize);
    let (right, down) = (width - 1, (height - 1) * width);
    // Where the first pixel comes from, and the way to the next one in a row and in a column.
    let (start, in_row, in_column) = match orientation {
        Orientation::NoTransforms => (0, 1, width),
        Orientation::FlipHorizontal => (right, -1, width),
        Orientation::Rotate180 => (down + right, -1, -width),
        Orientation::FlipVertical => (down, 1, -width),
        Orientation::Rotate90FlipH => (0, width, 1),
        Orientation::Rotate90 => (down, -width, 1),
        Orientation::Rotate270FlipH => (down + right, -width, -1),
        Orientation::Rotate270 => (right, width, -1),
    };
    let turned =
        if swaps(orientation) { Frame { width: frame.height, height: frame.width, ..frame } } else { frame };
    let walk = Walk { start, in_row, in_column };
    let out = sized(out, frame.len());
    match frame.channels {
        1 => walk.copy::<1>(turned, pixels, out),
        3 => walk.copy::<3>(turned, pixels, out),
        _ => walk.copy::<4>(turned, pixels, out),
    }
    turned
}

/// Whether the orientation exchanges width and height.
pub(super) fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

struct Walk {
    start: isize,
    in_row: isize,
    in_column: isize,
}

impl Walk {
    fn copy<const CHANNELS: usize>(&self, turned: Frame, pixels: &[u8], out: &mut [u8]) {
        let (pixels, _) = pixels.as_chunks::<CHANNELS>();
        let (out, _) = out.as_chunks_mut::<CHANNELS>();
        let mut row_start = self.start;
        for row in out.chunks_exact_mut(turned.width as usize) {
            let mut at = row_start;
            for pixel in row {
                *pixel = pixels[at.unsigned_abs()];
                at += self.in_row;
            }
            row_start += self.in_column;
        }
    }
}
