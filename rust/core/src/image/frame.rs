//! What is known of pixels that lie in some buffer.

use super::ChannelOrder;

/// A row's value, or the short sentence that says why there is none.
pub(super) type Reasoned<T> = Result<T, String>;

/// No side may be longer, whatever `maxPixels` says: filters and decoders are sized by it.
pub(super) const MAX_SIDE: u32 = 65_535;

/// Interleaved, row-major samples: `height × width × channels`, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 (grey), 3, or 4 (the last one alpha).
    pub(super) channels: usize,
    pub(super) order: ChannelOrder,
}

impl Frame {
    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        self.width as usize * self.height as usize * self.channels
    }
}

/// Refuses a size that no picture has or that exceeds the limits, before anything is allocated for it.
pub(super) fn check_size(width: u32, height: u32, max_pixels: u64) -> Reasoned<()> {
    if width == 0 || height == 0 {
        return Err(format!("{width} x {height} pixels"));
    }
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(format!("{width} x {height} pixels exceed maxPixels = {max_pixels}"));
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("{width} x {height} pixels: no side may exceed {MAX_SIDE}"));
    }
    Ok(())
}

/// The first `len` bytes of a buffer that is kept; grows it where needed and leaves old bytes in place.
pub(super) fn sized(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Gives back what a buffer holds beyond `kept` bytes.
pub(super) fn trim(buffer: &mut Vec<u8>, kept: usize) {
    if buffer.capacity() > kept {
        buffer.truncate(kept);
        buffer.shrink_to(kept);
    }
}

/// ITU-R 601 luma of three or four interleaved channels, rounded as Pillow rounds it.
pub(super) fn make_grey(frame: Frame, pixels: &[u8], out: &mut Vec<u8>) -> Frame {
    let grey = Frame { channels: 1, ..frame };
    let weights = match frame.order {
        ChannelOrder::Rgb => [19_595, 38_470, 7_471],
        ChannelOrder::Bgr => [7_471, 38_470, 19_595],
    };
    for (level, pixel) in sized(out, grey.len()).iter_mut().zip(pixels.chunks_exact(frame.channels)) {
        let sum: u32 = pixel.iter().zip(weights).map(|(&sample, weight)| u32::from(sample) * weight).sum();
        *level = ((sum + 0x8000) >> 16) as u8;
    }
    grey
}
