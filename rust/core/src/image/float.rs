//! Spark images of float32 samples (modes 5, 21, 29): resized in float, never rounded or clamped.

use super::frame::{Frame, Reasoned};
use super::pack::constants;
use super::resize::{Plan, resize_floats};
use super::{ChannelOrder, InputSpec, PictureOptions};

/// The channels of a picture, one after the other.
#[derive(Debug)]
pub(super) struct FloatPicture {
    frame: Frame,
    planes: Vec<Vec<f32>>,
}

impl FloatPicture {
    /// Takes little-endian samples; a sample that is not a finite number makes the picture invalid.
    pub(super) fn read(frame: Frame, data: &[u8]) -> Reasoned<Self> {
        let (samples, _) = data.as_chunks::<4>();
        let mut planes = vec![Vec::with_capacity(frame.len() / frame.channels); frame.channels];
        for pixel in samples.chunks_exact(frame.channels) {
            for (plane, &sample) in planes.iter_mut().zip(pixel) {
                plane.push(f32::from_le_bytes(sample));
            }
        }
        if planes.iter().flatten().any(|sample| !sample.is_finite()) {
            return Err("a sample is not a finite number".to_owned());
        }
        Ok(FloatPicture { frame, planes })
    }

    /// The part of the resized picture that the plan shows.
    fn fit(&self, options: &PictureOptions, plan: &Plan) -> Reasoned<Vec<Vec<f32>>> {
        let resize = |plane: &Vec<f32>| resize_floats(options.scale_hint, self.frame.size(), plane, plan);
        self.planes.iter().map(resize).collect()
    }

    /// Resizes into `height × width × channels` little-endian samples, black where the picture does not reach.
    pub(super) fn resized(&self, options: &PictureOptions, target: (u32, u32)) -> Reasoned<(Frame, Vec<u8>)> {
        let plan = Plan::new(options.resize_mode, self.frame.size(), target);
        let planes = self.fit(options, &plan)?;
        let frame = Frame { width: target.0, height: target.1, ..self.frame };
        let mut data = vec![0; frame.len() * 4];
        let (samples, _) = data.as_chunks_mut::<4>();
        for (channel, plane) in planes.iter().enumerate() {
            for (at, value) in covered(&plan, target.0 as usize).zip(plane) {
                samples[at * frame.channels + channel] = value.to_le_bytes();
            }
        }
        Ok((frame, data))
    }

    pub(super) fn pack(
        mut self,
        spec: &InputSpec,
        options: &PictureOptions,
        target: (u32, u32),
        slot: &mut [f32],
    ) -> Reasoned<()> {
        if spec.channels == 1 && self.frame.channels > 1 {
            self.make_grey();
        }
        let plan = Plan::new(options.resize_mode, self.frame.size(), target);
        let planes = self.fit(options, &plan)?;
        for channel in 0..spec.channels {
            let constants = constants(spec, channel);
            let black = spec.normalization.apply(0.0, constants);
            slot.iter_mut().skip(channel).step_by(spec.channels).for_each(|sample| *sample = black);
            let from = match (planes.len(), spec.channel_order) {
                (1, _) => 0,
                (_, ChannelOrder::Bgr) => channel,
                (_, ChannelOrder::Rgb) => 2 - channel,
            };
            for (at, &value) in covered(&plan, spec.width).zip(&planes[from]) {
                slot[at * spec.channels + channel] = spec.normalization.apply(value, constants);
            }
        }
        Ok(())
    }

    /// ITU-R 601 luma of B, G, R planes, with Pillow's weights.
    fn make_grey(&mut self) {
        let grey = |at: usize| {
            let [b, g, r] = [0, 1, 2].map(|plane: usize| self.planes[plane][at]);
            (r * 19_595.0 + g * 38_470.0 + b * 7_471.0) / 65_536.0
        };
        self.planes = vec![(0..self.planes[0].len()).map(grey).collect()];
        self.frame.channels = 1;
    }
}

/// The pixels of a target that the plan covers, by index.
fn covered(plan: &Plan, target_width: usize) -> impl Iterator<Item = usize> {
    let (left, top) = (plan.place.0 as usize, plan.place.1 as usize);
    let (width, height) = (plan.visible.0 as usize, plan.visible.1 as usize);
    (top..top + height).flat_map(move |y| (left..left + width).map(move |x| y * target_width + x))
}
