//! Pictures a second of decode + resize + pack: `decode FOLDER SIDE THREADS SECONDS [fast] [HINT]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::BinaryArray;
use sparkdl_core::image::{
    ChannelOrder, InputSpec, Normalization, Packer, PictureColumn, PictureOptions, ResizeMode, ScaleHint,
    Scratch,
};

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, side, threads, seconds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: decode FOLDER SIDE THREADS SECONDS [fast] [HINT]".into());
    };
    let hint = rest.iter().find(|argument| argument.starts_with("SCALE_"));
    let options = PictureOptions {
        scale_hint: hint.map_or(Ok(ScaleHint::AreaAveraging), |hint| hint.parse())?,
        resize_mode: ResizeMode::Stretch,
        max_pixels: 89_478_485,
        apply_exif_orientation: false,
        fast_decode: rest.iter().any(|argument| argument == "fast"),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(std::fs::read(entry?.path())?);
    }
    let column = PictureColumn::try_new(Arc::new(BinaryArray::from_iter_values(files)))?;
    let side: usize = side.parse()?;
    let spec = InputSpec {
        height: side,
        width: side,
        channels: 3,
        channel_order: ChannelOrder::Rgb,
        normalization: Normalization::Tf,
    };
    let packer = Packer::new(spec, options);
    let (threads, seconds): (usize, f64) = (threads.parse()?, seconds.parse()?);
    let next = AtomicUsize::new(0);
    let bad = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut scratch, mut slot) = (Scratch::default(), vec![0.0; side * side * 3]);
                while begin.elapsed() < Duration::from_secs_f64(seconds) {
                    let row = next.fetch_add(1, Ordering::Relaxed) % column.len();
                    if packer.pack(&mut scratch, &column, row, &mut slot).is_err() {
                        bad.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (done, bad) = (next.into_inner(), bad.into_inner());
    println!(
        "{:.0} pictures/s ({done} pictures, {bad} of them bad)",
        done as f64 / begin.elapsed().as_secs_f64()
    );
    Ok(())
}
