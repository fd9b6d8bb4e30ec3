//! The box filter's windows, to the last tie.
//!
//! Where a window's edge falls on the centre of a pixel, the rounding of a float decides whether that pixel counts, and it
//! decides differently in Pillow and in the resizing library. Such columns and rows are found here and averaged again.

use super::frame::Frame;
use super::resize::Axis;

/// Pillow's precision of a weight, in bits.
const PRECISION: u32 = 22;

/// The pixels of the source that one pixel of the result averages: from, up to.
type Window = (usize, usize);

/// Averages again what the library averaged over other windows than Pillow's.
pub(super) fn mend(frame: Frame, pixels: &[u8], [x, y]: [Axis; 2], out: &mut [u8]) {
    let (columns, rows) = (Windows::of(x), Windows::of(y));
    let width = columns.all.len();
    let mean = Mean { frame, pixels };
    for &column in &columns.odd {
        for (row, &down) in rows.all.iter().enumerate() {
            mean.write(columns.all[column], down, &mut out[(row * width + column) * frame.channels..]);
        }
    }
    for &row in &rows.odd {
        for (column, &across) in columns.all.iter().enumerate() {
            mean.write(across, rows.all[row], &mut out[(row * width + column) * frame.channels..]);
        }
    }
}

/// The windows of one axis by Pillow's arithmetic, and the places of those that the library has otherwise.
struct Windows {
    all: Vec<Window>,
    odd: Vec<usize>,
}

impl Windows {
    fn of(axis: Axis) -> Self {
        let (all, theirs): (Vec<_>, Vec<_>) = pillows(axis).zip(library(axis)).unzip();
        let odd = (0..all.len()).filter(|&at| all[at] != theirs[at]).collect();
        Windows { all, odd }
    }
}

/// As Pillow's `precompute_coeffs` has it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates as C truncates
fn pillows(axis: Axis) -> impl Iterator<Item = Window> {
    let scale = f64::from(axis.source) / f64::from(axis.resized);
    let (support, shrink) = (0.5 * scale.max(1.0), 1.0 / scale.max(1.0));
    (axis.offset..axis.offset + axis.visible).map(move |at| {
        let centre = (f64::from(at) + 0.5) * scale;
        let first = (centre - support + 0.5) as u32;
        let behind = ((centre + support + 0.5) as u32).min(axis.source);
        trimmed(first..behind, |pixel| (f64::from(pixel) - centre + 0.5) * shrink)
    })
}

/// As `fast_image_resize` has it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn library(axis: Axis) -> impl Iterator<Item = Window> {
    let (start, length) = axis.window();
    let scale = ((start + length) - start) / f64::from(axis.visible);
    let (support, shrink) = (0.5 * scale.max(1.0), 1.0 / scale.max(1.0));
    (0..axis.visible).map(move |at| {
        let middle = start + (f64::from(at) + 0.5) * scale;
        let first = (middle - support).floor() as u32;
        let behind = ((middle + support).ceil() as u32).min(axis.source);
        let centre = middle - 0.5;
        trimmed(first..behind, |pixel| (f64::from(pixel) - centre) * shrink)
    })
}

/// Those of the pixels that the box holds, by their place in it.
fn trimmed(pixels: std::ops::Range<u32>, place: impl Fn(u32) -> f64) -> Window {
    let held = |pixel: &u32| {
        let place = place(*pixel);
        place > -0.5 && place <= 0.5
    };
    let first = pixels.clone().find(&held).unwrap_or(pixels.end);
    let behind = pixels.rev().find(&held).map_or(first, |last| last + 1);
    (first as usize, behind as usize)
}

struct Mean<'a> {
    frame: Frame,
    pixels: &'a [u8],
}

impl Mean<'_> {
    /// One pixel, averaged and rounded across and then down, as Pillow does.
    fn write(&self, across: Window, down: Window, out: &mut [u8]) {
        let Frame { width, channels, .. } = self.frame;
        for (channel, level) in out.iter_mut().take(channels).enumerate() {
            let rows = (down.0..down.1).map(|row| {
                let line = &self.pixels[row * width as usize * channels..][..width as usize * channels];
                mean((across.0..across.1).map(|column| line[column * channels + channel]))
            });
            *level = mean(rows);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // a mean of levels is a level
fn mean(levels: impl ExactSizeIterator<Item = u8>) -> u8 {
    let count = levels.len() as u64;
    let sum: u64 = levels.map(u64::from).sum();
    // One weight for every level, rounded as Pillow rounds it; no level at all makes black.
    let weight = ((1 << PRECISION) + count / 2).checked_div(count).unwrap_or(0);
    ((sum * weight + (1 << (PRECISION - 1))) >> PRECISION).min(255) as u8
}
