//! Pictures of every kind against the pixels of Pillow and TensorFlow (`tests/fixtures/make_pictures.py`).

#![allow(clippy::unwrap_used)] // a test may panic

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use serde_json::Value;
use sparkdl_core::image::{
    ChannelOrder, InputSpec, Normalization, Packer, PictureColumn, PictureOptions, ResizeMode, ScaleHint,
    Scratch, decode_images,
};

/// One line of the index: a file, how to read it, and the levels that come out.
struct Expectation {
    file: String,
    kind: String,
    options: PictureOptions,
    spec: InputSpec,
    levels: Vec<u8>,
    tolerance: u8,
}

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pictures"))
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

const PLAIN: PictureOptions = PictureOptions {
    scale_hint: ScaleHint::AreaAveraging,
    resize_mode: ResizeMode::Stretch,
    max_pixels: 89_478_485,
    apply_exif_orientation: false,
    fast_decode: false,
};

fn expectations(kinds: &[&str]) -> Vec<Expectation> {
    let pixels = picture("pixels.bin");
    let index: Value = serde_json::from_slice(&picture("index.json")).unwrap();
    let read = |entry: &Value| {
        let number = |key: &str| usize::try_from(entry[key].as_u64().unwrap()).unwrap();
        let (height, width, channels) = (number("height"), number("width"), number("channels"));
        let kind = entry["kind"].as_str().unwrap().to_owned();
        let named = |key: &str| entry.get(key).and_then(Value::as_str);
        Expectation {
            file: entry["file"].as_str().unwrap().to_owned(),
            options: PictureOptions {
                scale_hint: named("scaleHint").map_or(ScaleHint::AreaAveraging, |name| name.parse().unwrap()),
                resize_mode: named("resizeMode").map_or(ResizeMode::Stretch, |name| name.parse().unwrap()),
                apply_exif_orientation: kind == "orientation",
                fast_decode: kind == "fast",
                ..PLAIN
            },
            spec: spec(height, width, channels, ChannelOrder::Rgb, Normalization::None),
            levels: pixels[number("offset")..][..height * width * channels].to_vec(),
            tolerance: u8::try_from(number("tolerance")).unwrap(),
            kind,
        }
    };
    let all: Vec<_> = index.as_array().unwrap().iter().map(read).collect();
    all.into_iter().filter(|expectation| kinds.contains(&expectation.kind.as_str())).collect()
}

fn spec(
    height: usize,
    width: usize,
    channels: usize,
    channel_order: ChannelOrder,
    normalization: Normalization,
) -> InputSpec {
    InputSpec { height, width, channels, channel_order, normalization }
}

fn column(files: Vec<Vec<u8>>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values(files))
}

fn pack(file: Vec<u8>, spec: InputSpec, options: PictureOptions) -> Result<Vec<f32>, String> {
    pack_column(column(vec![file]), spec, options)
}

fn pack_column(column: ArrayRef, spec: InputSpec, options: PictureOptions) -> Result<Vec<f32>, String> {
    let column = PictureColumn::try_new(column).unwrap();
    let mut slot = vec![f32::NAN; spec.height * spec.width * spec.channels];
    Packer::new(spec, options).pack(&mut Scratch::default(), &column, 0, &mut slot)?;
    Ok(slot)
}

/// Says how far the worst level is off, for every expectation that its tolerance does not cover.
fn check(kinds: &[&str], at_least: usize) {
    let expectations = expectations(kinds);
    assert!(expectations.len() >= at_least, "only {} expectations of {kinds:?}", expectations.len());
    let mut failures = Vec::new();
    for Expectation { file, options, spec, levels, tolerance, .. } in expectations {
        let what = format!(
            "{file} {:?} {:?} to {}x{}",
            options.scale_hint, options.resize_mode, spec.width, spec.height
        );
        match pack(picture(&file), spec, options) {
            Err(reason) => failures.push(format!("{what}: {reason}")),
            Ok(slot) => {
                let far = |(float, level): (&f32, &u8)| (float - f32::from(*level)).abs();
                let worst = slot.iter().zip(&levels).map(far).fold(0.0, f32::max);
                let off = slot
                    .iter()
                    .zip(&levels)
                    .filter(|pair| far((pair.0, pair.1)) > f32::from(tolerance))
                    .count();
                if off > 0 {
                    failures.push(format!("{what}: off by up to {worst}, {off} of {} samples", levels.len()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_kind_of_file_decodes_to_the_references_pixels() {
    check(&["decode"], 60);
}

#[test]
fn colour_becomes_grey_as_pillow_makes_it() {
    check(&["grey"], 4);
}

#[test]
fn exif_orientation_turns_the_picture_where_asked() {
    check(&["orientation"], 11);
}

#[test]
fn filters_and_modes_equal_pillow_and_tensorflow() {
    check(&["resize"], 130);
}

#[test]
fn fast_decoding_equals_pillows_draft_mode() {
    check(&["fast"], 5);
}

#[test]
fn fast_decoding_never_falls_below_the_size_asked_for() {
    // 163 x 118 halves to 82 x 59: at 83 columns the full size must be decoded.
    let full = spec(59, 83, 3, ChannelOrder::Rgb, Normalization::None);
    let fast = PictureOptions { fast_decode: true, ..PLAIN };
    assert_eq!(pack(picture("large.jpg"), full, fast), pack(picture("large.jpg"), full, PLAIN));
    let half = InputSpec { width: 82, ..full };
    assert_ne!(pack(picture("large.jpg"), half, fast), pack(picture("large.jpg"), half, PLAIN));
}

#[test]
fn normalizations_are_keras_own_for_both_channel_orders() {
    let plain = spec(12, 16, 3, ChannelOrder::Rgb, Normalization::None);
    let levels = pack(picture("rgb.png"), plain, PLAIN).unwrap();
    let mean = [0.485, 0.456, 0.406_f32];
    let deviation = [0.229, 0.224, 0.225_f32];
    let caffe = [123.68, 116.779, 103.939_f32];
    for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
        for normalization in
            [Normalization::Tf, Normalization::Caffe, Normalization::Torch, Normalization::None]
        {
            let spec = InputSpec { channel_order: order, normalization, ..plain };
            let packed = pack(picture("rgb.png"), spec, PLAIN).unwrap();
            for (at, &value) in packed.iter().enumerate() {
                let colour = if order == ChannelOrder::Rgb { at % 3 } else { 2 - at % 3 };
                let level = levels[at - at % 3 + colour];
                let expected = match normalization {
                    Normalization::Tf => level / 127.5 - 1.0,
                    Normalization::Caffe => level - caffe[colour],
                    Normalization::Torch => (level / 255.0 - mean[colour]) / deviation[colour],
                    Normalization::None => level,
                };
                assert_eq!(value, expected, "{normalization:?} {order:?} sample {at}");
            }
        }
    }
}

fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = [
        ("height", "0"),
        ("width", "0"),
        ("scaleHint", "SCALE_AREA_AVERAGING"),
        ("resizeMode", "stretch"),
        ("maxPixels", "89478485"),
        ("applyExifOrientation", "false"),
        ("fastDecode", "false"),
        ("threads", "2"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    for (key, value) in pairs {
        match options.iter_mut().find(|(known, _)| known == key) {
            Some(option) => option.1 = (*value).to_owned(),
            None => options.push(((*key).to_owned(), (*value).to_owned())),
        }
    }
    options
}

fn batch(array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("content", array.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
}

#[test]
fn decoded_images_are_sparks_struct_in_bgr() {
    let files = [("rgb.png", 16, 3), ("rgba.png", 24, 4), ("grey.png", 0, 1), ("palette.png", 16, 3)];
    let out =
        decode_images(&batch(column(files.iter().map(|(name, ..)| picture(name)).collect())), &options(&[]))
            .unwrap();
    let images = out.column_by_name("image").unwrap().as_struct();
    assert_eq!(images.column_names(), ["origin", "height", "width", "nChannels", "mode", "data"]);
    assert_eq!(out.column_by_name("error").unwrap().null_count(), 4);
    let decoded = expectations(&["decode"]);
    for (row, (name, mode, channels)) in files.into_iter().enumerate() {
        let int = |field: &str| images.column_by_name(field).unwrap().as_primitive::<Int32Type>().value(row);
        assert_eq!((int("mode"), int("nChannels")), (mode, channels), "{name}");
        let expected = decoded.iter().find(|expectation| expectation.file == name).unwrap();
        assert_eq!(
            (int("height") as usize, int("width") as usize),
            (expected.spec.height, expected.spec.width)
        );
        let data = images.column_by_name("data").unwrap().as_binary::<i32>().value(row);
        for (at, rgb) in expected.levels.chunks_exact(3).enumerate() {
            let pixel = &data[at * channels as usize..][..channels as usize];
            let bgr = if channels == 1 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
            assert_eq!(bgr, [rgb[2], rgb[1], rgb[0]], "{name} pixel {at}");
        }
    }
}

#[test]
fn decoded_images_packed_again_equal_the_files_packed_directly() {
    let names = ["rgb.png", "rgba.png", "grey.png", "cmyk.jpg", "rgb16.png", "alpha.webp"];
    for name in names {
        let out = decode_images(&batch(column(vec![picture(name)])), &options(&[])).unwrap();
        for channels in [1, 3] {
            let spec = spec(20, 18, channels, ChannelOrder::Bgr, Normalization::Torch);
            let direct = pack(picture(name), spec, PLAIN);
            assert_eq!(pack_column(Arc::clone(out.column(0)), spec, PLAIN), direct, "{name}");
        }
    }
}

#[test]
fn resized_images_equal_the_networks_input() {
    for mode in ["stretch", "crop", "pad"] {
        let pairs = [("height", "30"), ("width", "20"), ("resizeMode", mode)];
        let out = decode_images(&batch(column(vec![picture("rgb.png")])), &options(&pairs)).unwrap();
        let images = out.column(0).as_struct();
        let data = images.column_by_name("data").unwrap().as_binary::<i32>().value(0);
        let options = PictureOptions { resize_mode: mode.parse().unwrap(), ..PLAIN };
        let spec = spec(30, 20, 3, ChannelOrder::Bgr, Normalization::None);
        let packed = pack(picture("rgb.png"), spec, options).unwrap();
        assert_eq!(data.iter().map(|&level| f32::from(level)).collect::<Vec<_>>(), packed, "{mode}");
    }
}

#[test]
fn options_are_refused_by_name() {
    let refuse = |pairs: &[(&str, &str)]| {
        decode_images(&batch(column(vec![])), &options(pairs)).unwrap_err().message().to_owned()
    };
    assert!(refuse(&[("colour", "red")]).starts_with("Unknown option colour. Known options: scaleHint,"));
    assert_eq!(
        refuse(&[("maxPixels", "0")]),
        "The option maxPixels cannot be \"0\"; it takes whole numbers from 1."
    );
    assert_eq!(
        refuse(&[("fastDecode", "yes")]),
        "The option fastDecode cannot be \"yes\"; it takes true, false."
    );
    assert_eq!(
        refuse(&[("resizeMode", "zoom")]),
        "The option resizeMode cannot be \"zoom\"; it takes stretch, crop, pad."
    );
    assert_eq!(
        refuse(&[("height", "7"), ("width", "0")]),
        "The option width cannot be \"0\"; it takes 0 together with height, or whole numbers to 16384 with it."
    );
    let missing: Vec<_> = options(&[]).into_iter().filter(|(key, _)| key != "width").collect();
    let error = decode_images(&batch(column(vec![])), &missing).unwrap_err();
    assert_eq!(error.message(), "The option width is missing.");
}

#[test]
fn a_column_of_another_type_is_refused() {
    let error = PictureColumn::try_new(Arc::new(arrow::array::StringArray::from(vec!["a"]))).unwrap_err();
    assert_eq!(
        error.message(),
        "The input column must be binary or Spark's image struct<origin,height,width,nChannels,mode,data>, but is Utf8."
    );
    assert_eq!(DataType::Utf8.to_string(), "Utf8");
}
