//! The named filters, and how a picture meets a size of another aspect ratio.

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::{F32, U8, U8x3, U8x4};
use fir::{FilterType, PixelTrait, ResizeAlg, ResizeOptions};

use super::frame::{Frame, Reasoned, sized, trim};
use super::{ResizeMode, ScaleHint, windows};

/// Which part of the resized picture is seen, and where it lies in the target. All are (width, height) or (x, y).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The size of the whole picture after resizing.
    pub(super) resized: (u32, u32),
    /// The first pixel of it that is seen.
    pub(super) offset: (u32, u32),
    /// The size of the part that is seen.
    pub(super) visible: (u32, u32),
    /// Where that part begins in the target.
    pub(super) place: (u32, u32),
}

impl Plan {
    pub(super) fn new(mode: ResizeMode, source: (u32, u32), target: (u32, u32)) -> Self {
        let ratio = |side: u32, of: u32| f64::from(side) / f64::from(of);
        let (x, y) = (ratio(target.0, source.0), ratio(target.1, source.1));
        let scaled = |scale: f64| (round(source.0, scale), round(source.1, scale));
        match mode {
            ResizeMode::Stretch => Plan { resized: target, offset: (0, 0), visible: target, place: (0, 0) },
            ResizeMode::Crop => {
                let (width, height) = scaled(x.max(y));
                let resized = (width.max(target.0), height.max(target.1));
                let offset = ((resized.0 - target.0) / 2, (resized.1 - target.1) / 2);
                Plan { resized, offset, visible: target, place: (0, 0) }
            }
            ResizeMode::Pad => {
                let (width, height) = scaled(x.min(y));
                let resized = (width.clamp(1, target.0), height.clamp(1, target.1));
                let place = ((target.0 - resized.0) / 2, (target.1 - resized.1) / 2);
                Plan { resized, offset: (0, 0), visible: resized, place }
            }
        }
    }

    /// Whether the pixels of a picture of this size are already what is seen.
    fn keeps(&self, size: (u32, u32)) -> bool {
        size == self.resized && size == self.visible
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, sides are positive
fn round(side: u32, scale: f64) -> u32 {
    (f64::from(side) * scale).round() as u32
}

/// The part of one axis that is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) source: u32,
    pub(super) resized: u32,
    pub(super) offset: u32,
    pub(super) visible: u32,
}

impl Axis {
    fn of(size: (u32, u32), plan: &Plan) -> [Axis; 2] {
        [
            Axis { source: size.0, resized: plan.resized.0, offset: plan.offset.0, visible: plan.visible.0 },
            Axis { source: size.1, resized: plan.resized.1, offset: plan.offset.1, visible: plan.visible.1 },
        ]
    }

    /// Start and length, in pixels of the source, of what is seen.
    pub(super) fn window(&self) -> (f64, f64) {
        let step = f64::from(self.source) / f64::from(self.resized);
        let start = f64::from(self.offset) * step;
        (start, (f64::from(self.visible) * step).min(f64::from(self.source) - start))
    }

    /// Pillow's nearest: the centres, summed up as Pillow does so that ties fall alike.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, then `min`
    fn nearest(&self) -> impl Iterator<Item = usize> {
        let step = f64::from(self.source) / f64::from(self.resized);
        let last = self.source as usize - 1;
        let mut centre = step * 0.5;
        let picks = (0..self.offset + self.visible).map(move |_| {
            let pick = (centre as usize).min(last);
            centre += step;
            pick
        });
        picks.skip(self.offset as usize)
    }

    /// TensorFlow's half-pixel centres: both neighbours and the weight of the upper one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn neighbours(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        let step = self.source as f32 / self.resized as f32;
        let last = self.source as usize - 1;
        (self.offset..self.offset + self.visible).map(move |index| {
            let at = (index as f32 + 0.5) * step - 0.5;
            let lower = (at.floor().max(0.0) as usize).min(last);
            let upper = (at.ceil().max(0.0) as usize).min(last);
            (lower, upper, at - at.floor())
        })
    }
}

/// The filters with their buffers.
#[derive(Debug, Default)]
pub(super) struct Resizer {
    filter: fir::Resizer,
    half: Vec<u8>,
    pixels: Vec<u8>,
}

impl Resizer {
    /// The part of the resized picture that `plan` shows; the pixels themselves where there is nothing to do.
    pub(super) fn resize<'a>(
        &'a mut self,
        hint: ScaleHint,
        frame: Frame,
        pixels: &'a [u8],
        plan: &Plan,
    ) -> Reasoned<&'a [u8]> {
        if plan.keeps(frame.size()) {
            return Ok(&pixels[..frame.len()]);
        }
        let len = plan.visible.0 as usize * plan.visible.1 as usize * frame.channels;
        let axes = Axis::of(frame.size(), plan);
        match algorithm(hint) {
            Some(filter) => match frame.channels {
                1 => self.convolve::<U8>(filter, frame, pixels, axes)?,
                3 => self.convolve::<U8x3>(filter, frame, pixels, axes)?,
                _ => self.convolve::<U8x4>(filter, frame, pixels, axes)?,
            },
            None => {
                let out = sized(&mut self.pixels, len);
                match (hint, frame.channels) {
                    (ScaleHint::Nearest, 1) => nearest::<u8, 1>(pixels, axes, out),
                    (ScaleHint::Nearest, 3) => nearest::<u8, 3>(pixels, axes, out),
                    (ScaleHint::Nearest, _) => nearest::<u8, 4>(pixels, axes, out),
                    (_, 1) => bilinear::<u8, 1>(pixels, axes, out),
                    (_, 3) => bilinear::<u8, 3>(pixels, axes, out),
                    (_, _) => bilinear::<u8, 4>(pixels, axes, out),
                }
            }
        }
        Ok(&self.pixels[..len])
    }

    /// `P` is the library's name for a pixel of that many bytes; only those we use are compiled.
    fn convolve<P: PixelTrait>(
        &mut self,
        filter: FilterType,
        frame: Frame,
        pixels: &[u8],
        axes: [Axis; 2],
    ) -> Reasoned<()> {
        let [x, y] = axes;
        let ((left, width), (top, height)) = (x.window(), y.window());
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        let out = sized(&mut self.pixels, x.visible as usize * y.visible as usize * frame.channels);
        let source = TypedImageRef::<P>::from_buffer(frame.width, frame.height, pixels).map_err(reason)?;
        let mut target = TypedImage::<P>::from_buffer(x.visible, y.visible, out).map_err(reason)?;
        // The library resizes columns first. On a wide, flat picture the result of that would be far larger than the
        // picture, so there the rows go first. Bicubic overshoots, so that the order shows: it takes the one with the
        // smaller result between, as the fixtures show Pillow to do.
        let columns_first = u64::from(frame.width) * u64::from(y.visible);
        let rows_first = u64::from(frame.height) * u64::from(x.visible);
        let slack = if filter == FilterType::CatmullRom { 1 } else { 4 };
        if columns_first > slack * rows_first {
            let half = sized(&mut self.half, x.visible as usize * frame.height as usize * frame.channels);
            let mut rows = TypedImage::<P>::from_buffer(x.visible, frame.height, half).map_err(reason)?;
            let across = options.crop(left, 0.0, width, f64::from(frame.height));
            self.filter.resize_typed(&source, &mut rows, &across).map_err(reason)?;
            let down = options.crop(0.0, top, f64::from(x.visible), height);
            self.filter.resize_typed(&rows, &mut target, &down).map_err(reason)?;
        } else {
            let both = options.crop(left, top, width, height);
            self.filter.resize_typed(&source, &mut target, &both).map_err(reason)?;
        }
        if filter == FilterType::Box {
            windows::mend(frame, pixels, axes, out);
        }
        Ok(())
    }

    pub(super) fn trim(&mut self, kept: usize) {
        trim(&mut self.half, kept);
        trim(&mut self.pixels, kept);
        if self.filter.size_of_internal_buffers() > kept {
            self.filter.reset_internal_buffers();
        }
    }
}

fn reason(error: impl std::fmt::Display) -> String {
    format!("cannot be resized: {error}")
}

/// The filters that average over the source's pixels; `None` for those that only pick or interpolate.
fn algorithm(hint: ScaleHint) -> Option<FilterType> {
    match hint {
        ScaleHint::AreaAveraging => Some(FilterType::Box),
        ScaleHint::Bilinear => Some(FilterType::Bilinear),
        ScaleHint::Bicubic => Some(FilterType::CatmullRom),
        ScaleHint::Nearest | ScaleHint::TfBilinear => None,
    }
}

/// A sample that TensorFlow's bilinear can read and write.
trait Sample: Copy {
    fn read(self) -> f32;
    fn write(value: f32) -> Self;
}

impl Sample for u8 {
    fn read(self) -> f32 {
        f32::from(self)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between two levels
    fn write(value: f32) -> Self {
        value.round_ties_even() as u8
    }
}

impl Sample for f32 {
    fn read(self) -> f32 {
        self
    }

    fn write(value: f32) -> Self {
        value
    }
}

fn nearest<T: Sample, const CHANNELS: usize>(pixels: &[T], [x, y]: [Axis; 2], out: &mut [T]) {
    let columns: Vec<usize> = x.nearest().collect();
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    for (row, source) in out.chunks_exact_mut(columns.len()).zip(y.nearest()) {
        let source = &pixels[source * x.source as usize..][..x.source as usize];
        for (pixel, &column) in row.iter_mut().zip(&columns) {
            *pixel = source[column];
        }
    }
}

fn bilinear<T: Sample, const CHANNELS: usize>(pixels: &[T], [x, y]: [Axis; 2], out: &mut [T]) {
    let columns: Vec<_> = x.neighbours().collect();
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    let line = |row: usize| &pixels[row * x.source as usize..][..x.source as usize];
    for (row, (above, below, down)) in out.chunks_exact_mut(columns.len()).zip(y.neighbours()) {
        let (above, below) = (line(above), line(below));
        for (pixel, &(left, right, across)) in row.iter_mut().zip(&columns) {
            for channel in 0..CHANNELS {
                let mix = |line: &[[T; CHANNELS]]| {
                    let left = line[left][channel].read();
                    left + (line[right][channel].read() - left) * across
                };
                let top = mix(above);
                pixel[channel] = T::write(top + (mix(below) - top) * down);
            }
        }
    }
}

/// Resizes one channel of float32 samples, without rounding.
pub(super) fn resize_floats(
    hint: ScaleHint,
    size: (u32, u32),
    samples: &[f32],
    plan: &Plan,
) -> Reasoned<Vec<f32>> {
    if plan.keeps(size) {
        return Ok(samples.to_vec());
    }
    let axes = Axis::of(size, plan);
    let [x, y] = axes;
    let mut out = vec![0.0; x.visible as usize * y.visible as usize];
    let Some(filter) = algorithm(hint) else {
        match hint {
            ScaleHint::Nearest => nearest::<f32, 1>(samples, axes, &mut out),
            _ => bilinear::<f32, 1>(samples, axes, &mut out),
        }
        return Ok(out);
    };
    let source: Vec<F32> = samples.iter().map(|&sample| F32::new(sample)).collect();
    let source = TypedImageRef::new(size.0, size.1, &source).map_err(reason)?;
    let mut target = TypedImage::<F32>::new(x.visible, y.visible);
    let ((left, width), (top, height)) = (x.window(), y.window());
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, width, height);
    fir::Resizer::new().resize_typed(&source, &mut target, &options).map_err(reason)?;
    for (sample, pixel) in out.iter_mut().zip(target.pixels()) {
        *sample = pixel.0;
    }
    Ok(out)
}
