//! Damaged, truncated, random and oversized files: each a reason or a picture, never a panic, and no memory by a header's word.

#![allow(clippy::unwrap_used)] // a test may panic

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, BinaryArray, Int32Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use sparkdl_core::image::{
    ChannelOrder, InputSpec, Normalization, Packer, PictureColumn, PictureOptions, ResizeMode, ScaleHint,
    Scratch,
};

/// Counts the bytes in use and their peak; allocations of C libraries are not seen.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// The counters belong to the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[allow(unsafe_code)]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        PEAK.fetch_max(USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise on the layout is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OPTIONS: PictureOptions = PictureOptions {
    scale_hint: ScaleHint::AreaAveraging,
    resize_mode: ResizeMode::Stretch,
    max_pixels: 89_478_485,
    apply_exif_orientation: true,
    fast_decode: false,
};

const SPEC: InputSpec = InputSpec {
    height: 8,
    width: 8,
    channels: 3,
    channel_order: ChannelOrder::Rgb,
    normalization: Normalization::Tf,
};

/// One file of each format and kind of compression.
const FILES: [&str; 16] = [
    "rgb_420.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "exif6.jpg",
    "rgba.png",
    "palette.png",
    "rgb16.png",
    "palette.gif",
    "animated.gif",
    "palette.bmp",
    "rgba.bmp",
    "lossy.webp",
    "alpha.webp",
    "rgb_tiff_lzw.tif",
    "rgb_tiff_adobe_deflate.tif",
    "rgb_packbits.tif",
];

fn picture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pictures"));
    std::fs::read(folder.join(name)).unwrap()
}

/// One thread's packer: its buffers go from file to file, as in a real batch.
struct Reader {
    packer: Packer,
    scratch: Scratch,
    slot: Vec<f32>,
}

impl Reader {
    fn new() -> Self {
        Reader { packer: Packer::new(SPEC, OPTIONS), scratch: Scratch::default(), slot: vec![0.0; 192] }
    }

    fn read(&mut self, file: &[u8]) -> Result<(), String> {
        let column = PictureColumn::try_new(Arc::new(BinaryArray::from_iter_values([file]))).unwrap();
        self.pack(&column)
    }

    fn pack(&mut self, column: &PictureColumn) -> Result<(), String> {
        let result = self.packer.pack(&mut self.scratch, column, 0, &mut self.slot);
        if let Err(reason) = &result {
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
        }
        result
    }
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A generator that needs no crate: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

#[test]
fn a_file_cut_anywhere_is_invalid_with_a_reason() {
    let _alone = alone();
    let mut reader = Reader::new();
    let mut read = Vec::new();
    for name in FILES {
        let file = picture(name);
        reader.read(&file).unwrap();
        for part in 1..64 {
            let length = file.len() * part / 64;
            if reader.read(&file[..length]).is_ok() {
                read.push(format!("{name} {part}/64"));
            }
        }
    }
    // A second frame, the index behind the pixels or a trailer may be missing; a picture's pixels may not.
    let harmless = |cut: &String| cut.starts_with("animated.gif");
    assert!(read.iter().all(harmless), "read although cut: {read:?}");
}

#[test]
fn a_cut_jpeg_is_called_truncated() {
    let _alone = alone();
    let mut reader = Reader::new();
    for name in ["rgb_420.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg", "restarts.jpg"] {
        let file = picture(name);
        for part in 2..64 {
            let reason = reader.read(&file[..file.len() * part / 64]).unwrap_err();
            assert_eq!(reason, "truncated JPEG", "{name} {part}/64");
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let _alone = alone();
    let mut reader = Reader::new();
    let mut random = Random(20_261_122);
    let mut reasons = 0;
    for name in FILES {
        let file = picture(name);
        for _ in 0..1000 {
            let mut damaged = file.clone();
            damaged[random.below(file.len())] ^= 1 << random.below(8);
            if let Err(reason) = reader.read(&damaged) {
                assert!(!reason.starts_with("a defect in the decoder"), "{name}: {reason}");
                reasons += 1;
            }
        }
    }
    assert!(reasons > 1000, "only {reasons} of the damaged files were refused");
}

#[test]
fn random_bytes_behind_a_magic_never_panic() {
    let _alone = alone();
    let mut reader = Reader::new();
    let mut random = Random(7);
    for name in ["rgb_420.jpg", "rgb.png", "palette.gif", "rgb.bmp", "lossy.webp", "grey.tif"] {
        let magic = &picture(name)[..12];
        for _ in 0..2000 {
            let mut file = magic[..[4, 8, 12][random.below(3)]].to_vec();
            file.extend((0..random.below(400)).map(|_| u8::try_from(random.below(256)).unwrap()));
            if let Err(reason) = reader.read(&file) {
                assert!(!reason.starts_with("a defect in the decoder"), "{name}: {reason}");
            }
        }
    }
}

#[test]
fn what_is_no_picture_says_so() {
    let _alone = alone();
    let mut reader = Reader::new();
    assert_eq!(reader.read(b"").unwrap_err(), "empty value");
    let unknown = "not a picture in a known format (JPEG, PNG, GIF, BMP, WebP, TIFF)";
    assert_eq!(reader.read(b"Dear reader, this is a text.").unwrap_err(), unknown);
    assert_eq!(reader.read(&[0xFF, 0xD8]).unwrap_err(), unknown);
    let nulls: ArrayRef = Arc::new(BinaryArray::from(vec![None::<&[u8]>]));
    assert_eq!(reader.pack(&PictureColumn::try_new(nulls).unwrap()).unwrap_err(), "null");
}

/// Writes big-endian or little-endian numbers over a good file's header.
fn with_size(name: &str, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut file = picture(name);
    for (at, bytes) in fields {
        file[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let big = 60_000_u32;
    let jpeg = picture("rgb_444.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    let short = 60_000_u16;
    let mut png = picture("rgb.png");
    png[16..20].copy_from_slice(&big.to_be_bytes());
    png[20..24].copy_from_slice(&big.to_be_bytes());
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    vec![
        (
            "JPEG",
            with_size("rgb_444.jpg", &[(frame + 5, &short.to_be_bytes()), (frame + 7, &short.to_be_bytes())]),
        ),
        ("PNG", png),
        ("GIF", with_size("palette.gif", &[(6, &short.to_le_bytes()), (8, &short.to_le_bytes())])),
        ("BMP", with_size("rgb.bmp", &[(18, &big.to_le_bytes()), (22, &big.to_le_bytes())])),
    ]
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 },
        )
    })
}

#[test]
fn a_header_beyond_the_limit_allocates_no_pixels() {
    let _alone = alone();
    for (format, file) in bombs() {
        let mut reader = Reader::new();
        let column = PictureColumn::try_new(Arc::new(BinaryArray::from_iter_values([&file]))).unwrap();
        PEAK.store(USED.load(Ordering::Relaxed), Ordering::Relaxed);
        let before = USED.load(Ordering::Relaxed);
        let reason = reader.pack(&column).unwrap_err();
        assert_eq!(reason, "60000 x 60000 pixels exceed maxPixels = 89478485", "{format}");
        let grown = PEAK.load(Ordering::Relaxed) - before;
        assert!(grown < 256 << 10, "{format}: {grown} bytes");
    }
}

#[test]
fn the_limit_is_the_last_size_that_is_read() {
    let _alone = alone();
    let file = picture("rgb_444.jpg");
    let column = PictureColumn::try_new(Arc::new(BinaryArray::from_iter_values([&file]))).unwrap();
    let mut slot = vec![0.0; 192];
    let mut pack = |max_pixels| {
        let packer = Packer::new(SPEC, PictureOptions { max_pixels, ..OPTIONS });
        packer.pack(&mut Scratch::default(), &column, 0, &mut slot)
    };
    assert_eq!(pack(53 * 38), Ok(()));
    assert_eq!(pack(53 * 38 - 1).unwrap_err(), "53 x 38 pixels exceed maxPixels = 2013");
}

#[test]
fn a_progressive_jpeg_of_ten_thousand_scans_is_refused() {
    let _alone = alone();
    let file = picture("progressive.jpg");
    let scan =
        |from: usize| file[from..].windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap() + from;
    let first = scan(0);
    let second = file[first + 2..].windows(2).position(|marker| marker == [0xFF, 0xC4]).unwrap() + first + 2;
    let mut bomb = file[..second].to_vec();
    for _ in 0..10_000 {
        bomb.extend_from_slice(&file[first..second]);
    }
    bomb.extend_from_slice(&file[second..]);
    assert_eq!(Reader::new().read(&bomb).unwrap_err(), "JPEG with more than 500 scans");
}

/// One row of Spark's image struct; `None` makes the field null.
fn image(size: [Option<i32>; 4], data: Option<&[u8]>) -> PictureColumn {
    let [height, width, channels, mode] =
        size.map(|number| Arc::new(Int32Array::from(vec![number])) as ArrayRef);
    let origin: ArrayRef = Arc::new(StringArray::from(vec![""]));
    let columns =
        vec![origin, height, width, channels, mode, Arc::new(BinaryArray::from(vec![data])) as ArrayRef];
    let names = ["origin", "height", "width", "nChannels", "mode", "data"];
    let fields: Fields = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let rows: ArrayRef = Arc::new(StructArray::new(fields, columns, None));
    assert!(matches!(rows.data_type(), DataType::Struct(_)));
    PictureColumn::try_new(rows).unwrap()
}

#[test]
fn an_image_struct_is_checked_before_it_is_read() {
    let _alone = alone();
    let mut reader = Reader::new();
    let mut refuse =
        |size: [i32; 4], data: &[u8]| reader.pack(&image(size.map(Some), Some(data))).unwrap_err();
    assert_eq!(refuse([-1, -1, -1, -1], &[]), "Spark's invalid-image row");
    assert_eq!(refuse([-2, 2, 3, 16], &[0; 12]), "Spark's invalid-image row");
    assert_eq!(refuse([2, 2, 3, 16], &[0; 11]), "11 bytes of data, but 2 x 2 pixels of mode 16 need 12");
    assert_eq!(refuse([2, 2, 4, 16], &[0; 16]), "image mode 16 has 3 channels, but nChannels is 4");
    assert_eq!(refuse([2, 2, 1, 21], &[0; 48]), "image mode 21 has 3 channels, but nChannels is 1");
    assert_eq!(
        refuse([2, 2, 2, 8], &[0; 8]),
        "image mode 8; known are 0, 16, 24 (uint8) and 5, 21, 29 (float32)"
    );
    assert_eq!(refuse([0, 2, 3, 16], &[]), "2 x 0 pixels");
    assert_eq!(
        refuse([i32::MAX, i32::MAX, 3, 16], &[]),
        "2147483647 x 2147483647 pixels exceed maxPixels = 89478485"
    );
    assert_eq!(refuse([1, 1, 1, 5], &f32::NAN.to_le_bytes()), "a sample is not a finite number");
    let mut reader = Reader::new();
    let null = image([None, Some(1), Some(3), Some(16)], Some(&[0; 3]));
    assert_eq!(reader.pack(&null).unwrap_err(), "null in the image's field height");
    let null = image([Some(1), Some(1), Some(3), Some(16)], None);
    assert_eq!(reader.pack(&null).unwrap_err(), "null in the image's field data");
}

#[test]
fn float_images_are_packed_without_rounding() {
    let _alone = alone();
    let samples: Vec<u8> = [10.25_f32, 20.5, 300.75].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let spec = InputSpec { normalization: Normalization::None, ..SPEC };
    let column = image([1, 1, 3, 21].map(Some), Some(&samples));
    let mut slot = vec![0.0; 192];
    Packer::new(spec, OPTIONS).pack(&mut Scratch::default(), &column, 0, &mut slot).unwrap();
    for rgb in slot.chunks_exact(3) {
        assert_eq!(rgb, [300.75, 20.5, 10.25]);
    }
}

#[test]
fn a_warm_reader_allocates_only_the_filters_windows() {
    let _alone = alone();
    let file = picture("large.jpg");
    let column = PictureColumn::try_new(Arc::new(BinaryArray::from_iter_values([&file]))).unwrap();
    let mut reader = Reader::new();
    reader.pack(&column).unwrap();
    let (calls, used) = (CALLS.load(Ordering::Relaxed), USED.load(Ordering::Relaxed));
    PEAK.store(used, Ordering::Relaxed);
    for _ in 0..100 {
        reader.pack(&column).unwrap();
    }
    // The test's own thread is not the only one that counts: a few bytes are the test runner's.
    assert!(USED.load(Ordering::Relaxed) < used + 1024, "memory is kept");
    let peak = PEAK.load(Ordering::Relaxed) - used;
    // 163 x 118 pixels would be 57,702 bytes.
    assert!(peak < 24 << 10, "{peak} bytes at once");
    assert!(
        CALLS.load(Ordering::Relaxed) - calls < 100 * 40,
        "{} allocations",
        CALLS.load(Ordering::Relaxed) - calls
    );
}
