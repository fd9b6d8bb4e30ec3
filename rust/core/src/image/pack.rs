//! Levels to normalised floats in a slot of the network's input.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::column::{PictureColumn, Row};
use super::float::FloatPicture;
use super::frame::Reasoned;
use super::resize::Plan;
use super::{ChannelOrder, Fitted, InputSpec, Normalization, PictureOptions, Scratch};

/// ImageNet's mean levels for R, G, B, as Keras' `caffe` mode subtracts them.
const CAFFE_MEAN: [f32; 3] = [123.68, 116.779, 103.939];
const TORCH_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const TORCH_DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

impl Normalization {
    /// Normalises one sample, in the order of operations of Keras' float32 code.
    pub(super) fn apply(self, value: f32, [caffe, torch_mean, torch_deviation]: [f32; 3]) -> f32 {
        match self {
            Normalization::Tf => value / 127.5 - 1.0,
            Normalization::Caffe => value - caffe,
            Normalization::Torch => (value / 255.0 - torch_mean) / torch_deviation,
            Normalization::None => value,
        }
    }
}

/// The constants of a network's input channel. A grey network takes the mean over the colours.
pub(super) fn constants(spec: &InputSpec, channel: usize) -> [f32; 3] {
    let of = |colours: [f32; 3]| match (spec.channels, spec.channel_order) {
        (1, _) => colours.iter().sum::<f32>() / 3.0,
        (_, ChannelOrder::Rgb) => colours[channel],
        (_, ChannelOrder::Bgr) => colours[2 - channel],
    };
    [of(CAFFE_MEAN), of(TORCH_MEAN), of(TORCH_DEVIATION)]
}

/// For each input channel, the float of every level.
type Tables = [[f32; 256]; 3];

/// Decodes, converts, resizes, normalises and writes one row into its slot.
#[derive(Debug, Clone)]
pub struct Packer {
    spec: InputSpec,
    options: PictureOptions,
    tables: Box<Tables>,
}

impl Packer {
    /// A packer for one network.
    pub fn new(spec: InputSpec, options: PictureOptions) -> Self {
        let mut tables = Box::new([[0.0; 256]; 3]);
        for (channel, table) in tables.iter_mut().enumerate() {
            let constants = constants(&spec, channel);
            for (level, float) in (0..=u8::MAX).zip(table.iter_mut()) {
                *float = spec.normalization.apply(f32::from(level), constants);
            }
        }
        Packer { spec, options, tables }
    }

    /// Fills `slot` (`height × width × channels` floats) from a row, or says why it cannot. On `Err` the slot is undefined.
    pub fn pack(
        &self,
        scratch: &mut Scratch,
        column: &PictureColumn,
        row: usize,
        slot: &mut [f32],
    ) -> Result<(), String> {
        guarded(scratch, |scratch| self.fill(scratch, column, row, slot))
    }

    /// A row as it is, or resized to a width and height: its `[height, width, channels]`, that many floats, and whether its
    /// samples were floats.
    pub(crate) fn pack_sized(
        &self,
        scratch: &mut Scratch,
        column: &PictureColumn,
        row: usize,
        size: Option<(u32, u32)>,
    ) -> Result<([usize; 3], Vec<f32>, bool), String> {
        let slot = |(width, height): (u32, u32)| {
            let spec = InputSpec { height: height as usize, width: width as usize, ..self.spec };
            (spec, vec![0.0; spec.height * spec.width * spec.channels])
        };
        guarded(scratch, |scratch| match column.row(row, self.options.max_pixels)? {
            Row::Floats(frame, data) => {
                let target = size.unwrap_or(frame.size());
                let (spec, mut floats) = slot(target);
                FloatPicture::read(frame, data)?.pack(&spec, &self.options, target, &mut floats)?;
                Ok(([spec.height, spec.width, spec.channels], floats, true))
            }
            Row::Levels(row) => {
                let fitted = scratch.fit(row, &self.options, size, self.spec.channels == 1)?;
                let (spec, mut floats) = slot(size.unwrap_or(fitted.0.size()));
                self.write(&spec, fitted, &mut floats);
                Ok(([spec.height, spec.width, spec.channels], floats, false))
            }
        })
    }

    fn fill(
        &self,
        scratch: &mut Scratch,
        column: &PictureColumn,
        row: usize,
        slot: &mut [f32],
    ) -> Reasoned<()> {
        let target = self.target()?;
        if slot.len() != self.spec.height * self.spec.width * self.spec.channels {
            return Err(format!("a slot of {} floats does not fit the network's input", slot.len()));
        }
        match column.row(row, self.options.max_pixels)? {
            Row::Floats(frame, data) => {
                let picture = FloatPicture::read(frame, data)?;
                picture.pack(&self.spec, &self.options, target, slot)
            }
            Row::Levels(row) => {
                let grey = self.spec.channels == 1;
                let fitted = scratch.fit(row, &self.options, Some(target), grey)?;
                self.write(&self.spec, fitted, slot);
                Ok(())
            }
        }
    }

    fn target(&self) -> Reasoned<(u32, u32)> {
        match (u32::try_from(self.spec.width), u32::try_from(self.spec.height), self.spec.channels) {
            (Ok(width), Ok(height), 1 | 3) if width > 0 && height > 0 => Ok((width, height)),
            _ => Err("the network's input is not a picture of 1 or 3 channels".to_owned()),
        }
    }

    fn write(&self, spec: &InputSpec, (frame, pixels, plan): Fitted<'_>, slot: &mut [f32]) {
        let swap = frame.order != spec.channel_order;
        let lines = Lines { plan: &plan, width: spec.width, tables: &self.tables };
        if plan.visible != (spec.width as u32, spec.height as u32) {
            lines.blacken(spec.channels, slot);
        }
        match (frame.channels, spec.channels, swap) {
            (_, 1, _) => lines.write::<1, 1>(pixels, slot, |[table, ..], &[level]| [table[level as usize]]),
            (1, _, _) => lines.write::<1, 3>(pixels, slot, |tables, &[level]| look_up(tables, [level; 3])),
            (3, _, false) => lines.write::<3, 3>(pixels, slot, |tables, &levels| look_up(tables, levels)),
            (3, _, true) => {
                lines.write::<3, 3>(pixels, slot, |tables, &[a, b, c]| look_up(tables, [c, b, a]))
            }
            (_, _, false) => {
                lines.write::<4, 3>(pixels, slot, |tables, &[a, b, c, _]| look_up(tables, [a, b, c]))
            }
            (_, _, true) => {
                lines.write::<4, 3>(pixels, slot, |tables, &[a, b, c, _]| look_up(tables, [c, b, a]))
            }
        }
    }
}

#[inline(always)]
fn look_up([first, second, third]: &Tables, [a, b, c]: [u8; 3]) -> [f32; 3] {
    [first[a as usize], second[b as usize], third[c as usize]]
}

/// The lines of a slot that a picture covers.
struct Lines<'a> {
    plan: &'a Plan,
    /// Of the network's input.
    width: usize,
    tables: &'a Tables,
}

impl Lines<'_> {
    fn blacken(&self, channels: usize, slot: &mut [f32]) {
        for pixel in slot.chunks_exact_mut(channels) {
            for (sample, table) in pixel.iter_mut().zip(self.tables) {
                *sample = table[0];
            }
        }
    }

    #[inline(always)]
    fn write<const FROM: usize, const TO: usize>(
        &self,
        pixels: &[u8],
        slot: &mut [f32],
        convert: impl Fn(&Tables, &[u8; FROM]) -> [f32; TO],
    ) {
        let (left, top) = (self.plan.place.0 as usize, self.plan.place.1 as usize);
        let width = self.plan.visible.0 as usize;
        let (pixels, _) = pixels.as_chunks::<FROM>();
        let (slot, _) = slot.as_chunks_mut::<TO>();
        for (line, source) in slot.chunks_exact_mut(self.width).skip(top).zip(pixels.chunks_exact(width)) {
            for (float, level) in line[left..left + width].iter_mut().zip(source) {
                *float = convert(self.tables, level);
            }
        }
    }
}

/// Runs the work on one row; a panic below becomes the row's reason, and the buffers it left are thrown away.
pub(super) fn guarded<T>(
    scratch: &mut Scratch,
    work: impl FnOnce(&mut Scratch) -> Reasoned<T>,
) -> Reasoned<T> {
    let result = catch_unwind(AssertUnwindSafe(|| work(scratch)));
    match result {
        Ok(result) => {
            scratch.trim();
            result
        }
        Err(panic) => {
            *scratch = Scratch::default();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("a defect in the decoder: {text}"))
        }
    }
}
